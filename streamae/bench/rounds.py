"""Measuring by turns: every way is run once a round, so that a busy neighbour or a hot processor meets all alike.

Reported are medians over the rounds, and the spread (half of the distance between the quartiles, over the median). CPU
time is what a comparison rests on; wall time stands beside it.
"""

import gc
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

__all__ = ["BenchTable", "Elapsed", "Line", "Timing", "by_turns", "timed"]


class Elapsed(NamedTuple):
    """What a way returns that ran in another process, which measured itself."""

    cpu_s: float
    wall_s: float


@dataclass(slots=True)
class Timing:
    """CPU and wall seconds of each round, for `work` units of what a line counts."""

    work: float
    cpu_s: list[float] = field(default_factory=list)
    wall_s: list[float] = field(default_factory=list)

    def note(self, cpu_s: float, wall_s: float) -> None:
        """Add a round."""
        self.cpu_s.append(cpu_s)
        self.wall_s.append(wall_s)

    @property
    def cpu_us(self) -> float:
        """Median CPU microseconds a unit."""
        return 1e6 * float(np.median(self.cpu_s)) / self.work

    @property
    def wall_us(self) -> float:
        """Median wall microseconds a unit."""
        return 1e6 * float(np.median(self.wall_s)) / self.work

    def faster_than(self, other: "Timing") -> float:
        """How many times less CPU a unit than the other takes: the median over rounds, each of which both met alike."""
        return float(np.median(np.divide(other.cpu_s, self.cpu_s))) * self.work / other.work

    @property
    def spread(self) -> float:
        """Half the distance between the quartiles of CPU time, over its median."""
        low, middle, high = np.percentile(self.cpu_s, [25, 50, 75])
        return float((high - low) / 2 / max(middle, 1e-12))


@dataclass(slots=True)
class Line:
    """One line of a table: what was measured, its figures by column, and whether a goal was set and met."""

    name: str
    figures: dict[str, float | str]
    goal: str = ""
    met: bool | None = None


@dataclass(slots=True)
class BenchTable:
    """One sub-benchmark: a title, what was done in a sentence, and its lines."""

    title: str
    about: str
    lines: list[Line] = field(default_factory=list)


def timed(work: Callable[[], object]) -> Elapsed:
    """Run it; return CPU seconds of this process, all threads, and wall seconds, or what it says itself."""
    cpu_s, wall_s = time.process_time(), time.perf_counter()
    result = work()
    own = Elapsed(time.process_time() - cpu_s, time.perf_counter() - wall_s)
    return result if isinstance(result, Elapsed) else own


def by_turns(ways: Mapping[str, Callable[[], object]], units: Mapping[str, float], rounds: int) -> dict[str, Timing]:
    """Run every way once a round, forwards and backwards by turns; `units` is the work that a run of each does."""
    found = {name: Timing(units[name]) for name in ways}
    gc.collect()
    for way in ways.values():
        way()  # not counted: caches, compilation
    for n in range(rounds):
        order = list(ways) if n % 2 == 0 else list(ways)[::-1]
        for name in order:
            found[name].note(*timed(ways[name]))
    return found
