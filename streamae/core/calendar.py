"""What the clock says at a row, as inputs of a model next to its channels: the time of day, the day of the week.

Each is a point on a circle, sine and cosine, so that midnight follows the last minute of the day. A model was trained
under one clock, which stands in its artifact as the changes of its offset from UTC: where summer time comes and goes
there are many, and the core needs no list of time zones. Angles are looked up by the minute, so that a row has the same
bits in any batch.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from streamae.core.types import F32, F64

__all__ = ["ANGLES", "Calendar"]

_MINUTE_S = 60.0
ANGLES = {"day": 1440, "week": 10_080}  # minutes round the circle


class Calendar:
    """Some of `ANGLES`, by a clock that since `offsets[i][0]` (s since 1970 UTC) is `offsets[i][1]` s ahead of UTC."""

    def __init__(self, angles: Sequence[str] = (), offsets: Sequence[Sequence[float]] = ()) -> None:
        self.angles = tuple(angles)
        table = np.array(offsets, np.float64).reshape(-1, 2)
        self._since_s, self._offset_s = table[:, 0], np.r_[table[:1, 1], table[:, 1], 0.0][: len(table) + 1]
        self._circles = [_circle(ANGLES[name]) for name in self.angles]

    @classmethod
    def of(cls, kept: Mapping[str, Any] | None) -> "Calendar":
        """Return the calendar of a manifest's `calendar`; one without angles for a model that has none."""
        return cls() if kept is None else cls(kept["angles"], kept["offsets"])

    def to_mapping(self) -> dict[str, Any]:
        """Return plain JSON values, which `of` reads."""
        offsets = zip(self._since_s.tolist(), self._offset_s[1:].tolist(), strict=True)
        return {"angles": list(self.angles), "offsets": [list(one) for one in offsets]}

    def __eq__(self, other: object) -> bool:
        """Whether both give the same columns by the same clock."""
        return isinstance(other, Calendar) and self.to_mapping() == other.to_mapping()

    def __hash__(self) -> int:
        """Agree with equality."""
        return hash((self.angles, self._since_s.tobytes(), self._offset_s.tobytes()))

    def __len__(self) -> int:
        """Return F, the number of columns: two for each angle."""
        return 2 * len(self.angles)

    def columns(self, time_s: F64) -> F32:
        """Event times [...] -> [..., F]."""
        local_s = time_s + self._offset_s[np.searchsorted(self._since_s, time_s, side="right")]
        minute = np.floor(local_s / _MINUTE_S).astype(np.int64)
        return np.concatenate([circle[minute % len(circle)] for circle in self._circles], axis=-1)

    def beside(self, values: F32, time_s: F64) -> F32:
        """Rows `values[..., C]` at `time_s[...]` -> [..., C + F], what a model reads of them."""
        return np.concatenate([values, self.columns(time_s)], axis=-1) if self.angles else values


def _circle(steps: int) -> F32:
    turn = 2 * np.pi * np.arange(steps) / steps
    return np.stack([np.sin(turn), np.cos(turn)], axis=1).astype(np.float32)
