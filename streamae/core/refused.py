"""What alignment refuses of each stream, one after another; and when the time of a stream begins again.

A clock that falls back (summer time, a dead battery, a correction by the network) makes every further sample late until
it has caught up, which may take days. So where `AGAIN` samples of a stream are late one after another, each newer than
the one before, the clock is believed, and the stream's time begins again with the last of them. Samples that a gateway
has stored and sends again are in order too, but they come faster than they were measured: these remain late. Where
nobody knows when samples arrived, no time begins again.
"""

import numpy as np

from streamae.core.arrays import grown, without
from streamae.core.types import F64, I32, Bool, State

__all__ = ["AGAIN", "Refused"]

AGAIN = 8
_PACE = 2.0  # of event time over the time of arrival, at most: what is sent again comes faster
_PACE_SLACK_S = 1.0
_LASTS_S = 1.0  # one message alone, however many samples it has, moves no clock


class Refused:
    """Runs of refusals by stream, `[S]`; a run ends with what is taken.

    `late` samples lie behind the stream's time, `still` ones do not move it on, `short` rows lack a channel, the last
    of them the channel `lacks` (-1: none), and `bare` ticks of a grid have values of some channels only.
    """

    def __init__(self, slack_s: float = 0.0) -> None:
        self._slack_s = max(slack_s, _PACE_SLACK_S)
        for name, (fill, kind) in _KEPT.items():
            setattr(self, name, np.full(0, fill, kind))
        self.late: I32
        self.still: I32
        self.short: I32
        self.bare: I32
        self.lacks: I32
        self.rising: I32  # late samples so far, each newer than the one before
        self.first_s: F64  # of these: when the first was measured, when it arrived, and when the newest was measured
        self.first_arrival_s: F64
        self.newest_s: F64

    def grow(self, streams: int) -> None:
        """Make room for at least this many streams."""
        for name, (fill, _) in _KEPT.items():
            setattr(self, name, grown(getattr(self, name), streams, fill))

    def drop(self, stream: int) -> None:
        """Forget a stream; the last one takes its number."""
        for name in _KEPT:
            setattr(self, name, without(getattr(self, name), stream))

    def begins_again(self, s: I32, time_s: F64, arrival_s: F64, late: Bool) -> Bool:
        """Take one sample of each of some streams; returns where the stream's time begins again with it."""
        run, newest_s = self.rising[s], self.newest_s[s]
        on = late & (run > 0) & (time_s >= newest_s - self._slack_s)
        fresh = late & ~on
        run = np.where(on, run + (time_s > newest_s), late)
        self.newest_s[s] = np.where(on, np.maximum(time_s, newest_s), time_s)
        self.first_s[s] = first_s = np.where(fresh, time_s, self.first_s[s])
        self.first_arrival_s[s] = first_arrival_s = np.where(fresh, arrival_s, self.first_arrival_s[s])
        passed_s = arrival_s - first_arrival_s
        at_pace = (passed_s >= _LASTS_S) & (time_s - first_s <= _PACE * passed_s + self._slack_s)
        begins: Bool = late & (run >= AGAIN) & at_pace
        self.rising[s] = np.where(begins, 0, run)
        return begins

    def note(self, name: str, stream: I32, bad: Bool, good: Bool) -> None:
        """Count what is `bad[N]` of each stream since the last that is `good[N]`, in their order."""
        run: I32 = getattr(self, name)
        if not bad.any():
            run[stream[good]] = 0
            return
        streams, rank = np.unique(stream, return_inverse=True)
        place, last = np.arange(len(stream)), np.full(len(streams), -1)
        np.maximum.at(last, rank[good], place[good])
        count = np.bincount(rank[bad & (place > last[rank])], minlength=len(streams))
        run[streams] = np.where(last >= 0, 0, run[streams]) + count

    def state(self, streams: int) -> State:
        """Return what a snapshot keeps of the first S streams."""
        return {f"refused_{name}": getattr(self, name)[:streams].copy() for name in _KEPT}

    def restore(self, state: State) -> None:
        """Take over what `state` returned; nothing of an older snapshot, which had none."""
        for name in _KEPT:
            if (key := f"refused_{name}") in state:
                getattr(self, name)[: len(state[key])] = state[key]


_KEPT: dict[str, tuple[float, type]] = {
    "late": (0, np.int32), "still": (0, np.int32), "short": (0, np.int32), "bare": (0, np.int32),
    "lacks": (-1, np.int32), "rising": (0, np.int32), "first_s": (0.0, np.float64),
    "first_arrival_s": (0.0, np.float64), "newest_s": (0.0, np.float64),
}  # fmt: skip
