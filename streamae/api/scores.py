"""What a detector answers: a line for each row, and what the model makes of a window."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from streamae.core.report import Transition
from streamae.core.types import F32, F64

__all__ = ["Reconstruction", "RowScore", "Scores"]


@dataclass(frozen=True, slots=True)
class RowScore:
    """What is said of one row; `score` and `threshold` are NaN, and `shares` empty, while the stream cannot be judged.

    A score above 1.0 would pass the threshold as training calibrated it; `threshold` is where it stands now. `state` is
    learning (or not judged), inactive, pending or firing. `shares` say how much each channel has in the score.
    """

    time_s: float
    score: float
    threshold: float
    state: str
    shares: Mapping[str, float]


@dataclass(frozen=True, slots=True, eq=False)
class Scores:
    """One line for each row, as arrays: `time_s[N]`, `score[N]`, `threshold[N]`, `state[N]`, `share[N, C]`.

    Index it or go through it for a `RowScore` at a time. `transitions` are the alerts that fired, grew critical or
    resolved at these rows; `notices` are sentences about rows on which the model failed.
    """

    stream: str
    channels: tuple[str, ...]
    time_s: F64
    score: F64
    threshold: F64
    state: npt.NDArray[np.str_]
    share: F32
    transitions: Sequence[Transition]
    notices: Sequence[str]

    def __len__(self) -> int:
        """Return N, the number of rows that were given."""
        return len(self.time_s)

    def __getitem__(self, n: int) -> RowScore:
        """Return what is said of the n-th row; -1 is the newest."""
        score, shares = float(self.score[n]), zip(self.channels, self.share[n].tolist(), strict=True)
        known = {} if math.isnan(score) else dict(shares)
        return RowScore(float(self.time_s[n]), score, float(self.threshold[n]), str(self.state[n]), known)

    def __iter__(self) -> Iterator[RowScore]:
        """Go through the rows in their order."""
        return (self[n] for n in range(len(self)))


@dataclass(frozen=True, slots=True, eq=False)
class Reconstruction:
    """The newest window of a stream: `values[L, Q]` at `time_s[L]`, and what the model makes of them, in their units.

    `channels[Q]` are those that the model explains. What stands far from its reconstruction is what it did not expect.
    """

    time_s: F64
    channels: tuple[str, ...]
    values: F64
    reconstruction: F64
