"""A large batch on several cores: in parts on threads of our own, or with torch's threads, whichever is faster here.

The calls leave the interpreter to each other, and a window's bits do not depend on its part, so this changes nothing
but the time. What is faster depends on machine and model: torch's threads share one product and spin between them,
parts of a batch do neither. So it is measured, once, when a model is loaded; on one core there is nothing to measure.
These threads, which live only within a call, are the one exception to "the daemon owns the threads".
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

from streamae.core.types import F32
from streamae.model.executors import Executor

__all__ = ["Scorers", "TorchThreads", "choose_scorers", "cores"]

_SPLIT_MIN = 256  # windows below which a batch stays whole
_TRIAL = 512  # windows that the trial runs on
_WORTH = 1.15  # another core must bring at least this
_ROUNDS = 3
_HOPELESS = 2.0  # times the best: torch's threads are far slower than one where others want the cores


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Scorers:
    """Parts of a batch on threads, one of them the caller's."""

    def __init__(self, way: Executor, count: int) -> None:
        self.way, self.count = way, count
        self.name = f"{way.name} on {count} threads"
        self._pool = ThreadPoolExecutor(count - 1, "scorer", initializer=torch.set_flush_denormal, initargs=(True,))

    def errors(self, windows: F32) -> F32:
        """[B, T, C] -> [B, E]."""
        if len(windows) < _SPLIT_MIN:
            return self.way.errors(windows)
        # Whole sixty-fours, so that no part has to be filled up more than the batch had to be.
        cuts = (len(windows) * np.arange(1, self.count) // self.count + 32) // 64 * 64
        first, *others = np.split(windows, cuts)
        waiting = [self._pool.submit(self.way.errors, part) for part in others]
        return np.concatenate([self.way.errors(first), *(one.result() for one in waiting)])


class TorchThreads:
    """A batch as a whole, with torch's own threads within each product; one thread again outside of the call."""

    def __init__(self, way: Executor, count: int) -> None:
        self.way, self.count = way, count
        self.name = f"{way.name} with {count} torch threads"

    def errors(self, windows: F32) -> F32:
        """[B, T, C] -> [B, E]."""
        if len(windows) < _SPLIT_MIN:
            return self.way.errors(windows)
        torch.set_num_threads(self.count)
        try:
            return self.way.errors(windows)
        finally:
            torch.set_num_threads(1)


def choose_scorers(way: Executor, wanted: int | None, shape: tuple[int, int], clock: Callable[[], float]) -> Executor:
    """Return the way on `wanted` cores (None: all of this process), or as it is where more cores do not pay.

    `shape` is (T, C) of its windows. A way on several cores that does not give the same bits is not taken.
    """
    count = min(wanted or cores(), cores())
    if count < 2:
        return way
    windows = np.random.default_rng(1).normal(size=(_TRIAL, *shape)).astype(np.float32)
    ways: list[Executor] = [way, Scorers(way, count)]
    if way.name != "native":  # which does its work outside of torch
        ways.append(TorchThreads(way, count))
    best_s = [float("inf")] * len(ways)
    errors: list[F32] = [way.errors(windows)] * len(ways)
    for _ in range(_ROUNDS):
        for i, one in enumerate(ways):
            if np.isfinite(best_s[i]) and best_s[i] > _HOPELESS * min(best_s):
                continue
            began_s = clock()
            errors[i] = one.errors(windows)
            best_s[i] = min(best_s[i], clock() - began_s)
    usable = [i for i in range(1, len(ways)) if np.array_equal(errors[i], errors[0])]
    fastest = min(usable, key=best_s.__getitem__, default=0)
    return ways[fastest] if best_s[0] >= _WORTH * best_s[fastest] else way
