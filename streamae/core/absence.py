"""The time in which the daemon was away: what a grid holds over it, nobody knows."""

import numpy as np

from streamae.core.types import F64, I64, Bool, State

__all__ = ["Absence"]

_NEVER = np.iinfo(np.int64).min // 4  # a tick before all ticks


class Absence:
    """The newest absence, in event time, for a grid of period `every_s`; none until `begin`.

    Where samples of it come afterwards, the broker has kept what was sent meanwhile, and nothing of it is lost.
    """

    def __init__(self, every_s: float) -> None:
        self._every_s = every_s
        self._from_s, self._until_s = np.inf, -np.inf

    def begin(self, from_s: float, until_s: float) -> None:
        """Note that nobody listened over this time."""
        self._from_s, self._until_s = from_s, until_s

    def note(self, time_s: F64) -> None:
        """Take the times of samples: one of the absence shows that nothing of it was lost."""
        if self._until_s > self._from_s:
            inside = (time_s > self._from_s + 2 * self._every_s) & (time_s < self._until_s - self._every_s)
            if inside.any():
                self._from_s, self._until_s = np.inf, -np.inf

    def unheard(self, at: tuple[I64, I64], heard: tuple[I64, I64], carried: I64) -> Bool:
        """Return which rows `(rank, tick)` lie in it, and have no sample of their stream that is of it as well.

        `heard` are the samples that came now, `carried[rank]` is the tick of a stream's newest one before. The first
        tick may be one that the stream would have held through anyway.
        """
        row_rank, row_tick = at
        inside: Bool = ((row_tick - 2) * self._every_s >= self._from_s) & (row_tick * self._every_s <= self._until_s)
        if not inside.any():
            return inside
        rank, tick = heard
        low = min(int(row_tick[inside].min()), int(tick.min(initial=row_tick.max())))
        span = max(int(row_tick.max()), int(tick.max(initial=0))) - low + 1
        keys = np.r_[-1, np.sort(rank * span + tick - low)]  # the first stands for none
        found = keys[np.searchsorted(keys, row_rank * span + row_tick - low, side="right") - 1]
        newest = np.where(found // span == row_rank, found % span + low, _NEVER)
        return inside & ((np.maximum(newest, carried[row_rank]) - 1) * self._every_s < self._from_s)

    def state(self) -> State:
        """Return what a snapshot keeps."""
        return {"absent_s": np.array((self._from_s, self._until_s))}

    def restore(self, state: State) -> None:
        """Take over what `state` returned; nothing of an older snapshot, which had none."""
        if "absent_s" in state:
            self._from_s, self._until_s = state["absent_s"].tolist()
