"""A model that fails on some windows costs those streams their verdicts; other streams lose nothing.

A window fails where the model raises, or returns what is not finite. Which window of a batch makes a call raise is
found by halving the batch; the others are scored as if it had not been there, since the value of a window does not
depend on the other windows of the batch. The stream is then in quarantine: its next windows pass by unjudged, 16 at
first and twice as many after each failure in a row, and the one after them is tried. All of it is counted in windows of
the stream, so a replay quarantines the same.

Where even a window of zeros fails, it is not the streams: the model is broken, and nothing is searched for.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from streamae.core.arrays import firsts, grown, rounds, without
from streamae.core.profile import Reconstructor
from streamae.core.types import F32, I8, I32, I64, Bool, Drop, Drops, State, Windows

__all__ = ["Answer", "Judgement", "Quarantine", "judged"]

I16 = npt.NDArray[np.int16]
_WAIT_WINDOWS = 16
_WAIT_WINDOWS_MAX = 4096


class Answer:
    """What a model made of windows: `errors[B, E]`, 0 where `failed[B]`; `reason` of a failure, `broken` if of all."""

    __slots__ = ("broken", "errors", "failed", "reason")

    def __init__(self, windows: int, features: int) -> None:
        self.errors: F32 = np.zeros((windows, features), np.float32)
        self.failed: Bool = np.zeros(windows, np.bool_)
        self.reason = self.broken = ""


def judged(model: Reconstructor, windows: F32, features: int) -> Answer:
    """Run the model on `windows[B, T, C]`; never raises for what the model does."""
    answer = Answer(len(windows), features)
    if len(windows) == 0:
        return answer
    reason = _fill(model, windows, answer, slice(0, len(windows)))
    if reason or answer.failed.any():
        answer.reason = reason or "what it returned is not finite"
        zeros = Answer(1, features)
        answer.broken = _fill(model, np.zeros_like(windows[:1]), zeros, slice(0, 1))
        answer.broken = answer.broken or ("it returns what is not finite" if zeros.failed.any() else "")
    if reason:
        answer.failed[:] = True
        if not answer.broken:
            _search(model, windows, answer, 0, len(windows))
    return answer


def _fill(model: Reconstructor, windows: F32, answer: Answer, part: slice) -> str:
    """Put in the model's errors of some windows; returns what it raised, if it did."""
    try:
        errors = model.errors(windows)
        finite: Bool = np.asarray(np.isfinite(errors).all(axis=1))
        answer.errors[part] = np.where(finite[:, None], errors, 0.0)
        answer.failed[part] = ~finite
    except Exception as error:  # the code of an archive may raise anything; the daemon must survive it
        return f"{type(error).__name__}: {(str(error).strip() or 'no words').splitlines()[-1]}"
    return ""


def _search(model: Reconstructor, windows: F32, answer: Answer, first: int, last: int) -> None:
    """Find which of windows[first:last], that raise together, raise alone."""
    if last - first == 1:
        return
    middle = (first + last) // 2
    for a, b in ((first, middle), (middle, last)):
        if _fill(model, windows[a:b], answer, slice(a, b)):
            _search(model, windows, answer, a, b)


class Judgement(NamedTuple):
    """The windows that a model could judge, and their errors `[B, E]`.

    `drops` counts the others; streams that are `fresh` went into quarantine for this `reason`, those that are `free`
    came out of it. `broken` says why the model can judge nothing at all, empty while it can; None: it was not asked.
    """

    windows: Windows
    errors: F32
    drops: Drops
    fresh: list[int]
    free: list[int]
    reason: str
    broken: str | None


class Quarantine:
    """The streams that the model has failed on: arrays `[S]`, counted in windows."""

    def __init__(self) -> None:
        self._left: I16 = np.zeros(0, np.int16)  # windows that still pass by
        self._misses: I8 = np.zeros(0, np.int8)  # failures in a row

    def grow(self, streams: int) -> None:
        """Make room for at least this many streams."""
        self._left = grown(self._left, streams, 0)
        self._misses = grown(self._misses, streams, 0)

    def release(self, stream: int) -> None:
        """Take a stream out of quarantine."""
        self._left[stream] = self._misses[stream] = 0

    def drop(self, stream: int) -> None:
        """Forget a stream; the last one takes its number."""
        self._left, self._misses = without(self._left, stream), without(self._misses, stream)

    def held(self, streams: int) -> I64:
        """Return which of the first S streams are in quarantine."""
        return np.flatnonzero(self._misses[:streams])

    def asks(self, stream: I32) -> Bool:
        """[B] windows in their order -> which of them the model may have to judge: others are sure to pass by."""
        left = self._left[stream]
        if not left.any():
            return np.ones(len(stream), np.bool_)
        order = np.argsort(stream, kind="stable")
        start = np.maximum.accumulate(np.where(firsts(stream[order]), np.arange(len(order)), 0))
        rank = np.empty(len(order), np.int64)
        rank[order] = np.arange(len(order)) - start
        asks: Bool = rank >= left
        return asks

    def step(self, stream: I32, failed: Bool) -> tuple[Bool, Bool, I32, I32]:
        """Take one window of each of some different streams; `failed[B]` counts where no window had to pass by.

        Returns which windows are judged, which pass by, and the streams that went into quarantine and came out of it.
        """
        passes = self._left[stream] > 0
        fails = failed & ~passes
        judged = ~failed & ~passes
        misses = self._misses[stream]
        fresh, free = stream[fails & (misses == 0)], stream[judged & (misses > 0)]
        misses = np.where(fails, np.minimum(misses + 1, 30), np.where(judged, 0, misses)).astype(np.int32)
        wait = np.minimum(_WAIT_WINDOWS << np.minimum(np.maximum(misses - 1, 0), 16), _WAIT_WINDOWS_MAX)
        self._left[stream] = np.where(fails, wait, self._left[stream] - passes)
        self._misses[stream] = misses
        return judged, passes, fresh, free

    def judge(self, model: Reconstructor, windows: Windows, features: int, streams: int) -> "Judgement":
        """Run the model on the windows of S streams, in their order, where these are not in quarantine."""
        asked = self.asks(windows.stream)
        values = windows.values if asked.all() else windows.values[asked]
        answer = judged(model, values, features)
        broken = answer.broken if asked.any() else None
        if not answer.failed.any() and not len(self.held(streams)):
            return Judgement(windows, answer.errors, Drops(), [], [], answer.reason, broken)
        failed = np.zeros(len(windows), np.bool_)
        failed[asked] = answer.failed
        good, passed = np.zeros_like(failed), np.zeros_like(failed)
        fresh, free = [], []  # type: tuple[list[int], list[int]]
        for index in rounds(windows.stream):
            good[index], passed[index], began, ended = self.step(windows.stream[index], failed[index])
            fresh += began.tolist()
            free += ended.tolist()
        drops = +Drops({Drop.QUARANTINED: int(passed.sum()), Drop.INFERENCE: int((~good & ~passed).sum())})
        whole = np.zeros((len(windows), answer.errors.shape[1]), np.float32)
        whole[asked] = answer.errors
        kept = Windows(*(getattr(windows, name)[good] for name in ("stream", "start_s", "time_s", "values")))
        return Judgement(kept, whole[good], drops, fresh, free, answer.reason, broken)

    def state(self, streams: int) -> State:
        """Return what a snapshot keeps of the first S streams."""
        return {"left": self._left[:streams].copy(), "misses": self._misses[:streams].copy()}

    def restore(self, state: State) -> None:
        """Take over what `state` returned; nothing of an older snapshot, which had no quarantine."""
        if "left" not in state:
            return
        streams = len(state["left"])
        self.grow(streams)
        self._left[:streams], self._misses[:streams] = state["left"], state["misses"]
