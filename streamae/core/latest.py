"""The newest verdict of each stream: what a page or a per-stream metric shows."""

from dataclasses import dataclass, field

import numpy as np

from streamae.core.arrays import grown, without
from streamae.core.types import F64, I32, Verdicts

__all__ = ["Latest"]


@dataclass(slots=True)
class Latest:
    """The newest verdict of each stream, `[S]`: what a page or a per-stream metric shows. NaN: none yet.

    `threshold` is that of the score itself; `ratio` is the score over what it was held against, above 1 in an alarm.
    """

    time_s: F64 = field(default_factory=lambda: np.zeros(0))
    row_s: F64 = field(default_factory=lambda: np.zeros(0))
    score: F64 = field(default_factory=lambda: np.zeros(0))
    threshold: F64 = field(default_factory=lambda: np.zeros(0))
    ratio: F64 = field(default_factory=lambda: np.zeros(0))
    worst: I32 = field(default_factory=lambda: np.zeros(0, np.int32))

    def grow(self, streams: int) -> None:
        """Make room for at least this many streams."""
        for name in ("time_s", "row_s", "score", "threshold", "ratio"):
            setattr(self, name, grown(getattr(self, name), streams, np.nan))
        self.worst = grown(self.worst, streams, -1)

    def forget(self, stream: int) -> None:
        """Forget the verdict of a stream."""
        self.time_s[stream] = self.score[stream] = self.threshold[stream] = self.ratio[stream] = np.nan
        self.worst[stream] = -1

    def drop(self, stream: int) -> None:
        """Forget a stream; the last one takes its number."""
        for name in ("time_s", "row_s", "score", "threshold", "ratio", "worst"):
            setattr(self, name, without(getattr(self, name), stream))

    def note(self, v: Verdicts) -> None:
        """Remember the verdicts; of several for a stream the last one stays."""
        self.time_s[v.stream], self.score[v.stream], self.threshold[v.stream] = v.time_s, v.score, v.own
        with np.errstate(invalid="ignore", divide="ignore"):
            self.ratio[v.stream] = v.score / v.threshold
        self.worst[v.stream] = v.share.argmax(axis=1) if v.share.shape[1] else -1
