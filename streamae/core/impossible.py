"""Values that a sensor cannot mean, taken out of the readings before they become rows.

Two kinds are known. What lies beyond the `range` that the operator declared; and the sentinels that training found: the
one value that a sensor's electronics send in place of a measurement (-127 or 85 of a DS18B20, 65535 of a register that
was not read). Neither says anything about the machine, and one of them in a window would drown the rest of it. So such
a reading is missing: on a time grid the channel keeps its last value for as long as any silence is bridged, and a
message that must carry all channels is no row. It is never taken for normal: `core.sensors` judges the readings as they
came, and reports what is out of range at once, and a sentinel that lasts.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from streamae.core.types import F64, Bool, Readings, Rows
from streamae.errors import ArtifactError

__all__ = ["ImpossibleValues", "Sentinels"]

_PATIENCE, _PATIENCE_MIN = 2, 3
_F32_MAX = float(np.finfo(np.float32).max)


@dataclass(frozen=True, slots=True)
class Sentinels:
    """What training found of one channel: its sentinel values, and the range of all other values of its rows."""

    values: tuple[float, ...]
    low: float
    high: float
    longest: int
    """The longest run of one of them, in rows."""

    @property
    def patience(self) -> int:
        """How many of one sentinel in a row are no fault yet: twice the longest run of training, 3 at least."""
        return max(_PATIENCE_MIN, _PATIENCE * self.longest)

    def to_mapping(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {"values": list(self.values), "low": self.low, "high": self.high, "longest": self.longest}

    @classmethod
    def from_mapping(cls, kept: Any, channel: str) -> Self:
        """Read what `to_mapping` wrote. Raises ArtifactError on anything else."""
        kept = kept if isinstance(kept, Mapping) else {}
        values, numbers = kept.get("values"), [kept.get(f.name) for f in fields(cls) if f.name != "values"]
        good = isinstance(values, list) and all(map(_is_number, [*values, *numbers]))
        if not good or kept["longest"] != int(kept["longest"]) or kept["longest"] < 0:
            raise ArtifactError(
                f"sentinels.{channel}: got {kept!r:.60}; it must have values, low, high and longest, all finite "
                "numbers. The model file was changed: train the model again with `streamae train`"
            )
        return cls(tuple(map(float, values or ())), float(kept["low"]), float(kept["high"]), int(kept["longest"]))


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= _F32_MAX


class ImpossibleValues:
    """Which values of each channel are impossible: those outside of `limits`, and the sentinels."""

    def __init__(
        self,
        channels: Sequence[str],
        limits: Mapping[str, tuple[float, float]],
        sentinels: Mapping[str, Sentinels] | None = None,
    ) -> None:
        found = [(sentinels or {}).get(name) for name in channels]
        bounds = [limits.get(name, (-np.inf, np.inf)) for name in channels]
        self.low, self.high = np.array([a for a, _ in bounds]), np.array([b for _, b in bounds])
        self._codes = np.full((len(channels), max([len(x.values) for x in found if x], default=0)), np.nan, np.float32)
        for c, x in enumerate(found):
            if x is not None:
                self._codes[c, : len(x.values)] = x.values
        self.patience = np.array([0 if x is None else x.patience for x in found], np.int64)
        """`[C]`: see `Sentinels`."""
        self.usual = [(np.nan, np.nan) if x is None else (x.low, x.high) for x in found]
        """Per channel, the range of what training saw beside the sentinels."""
        self.bounded = bool(np.isfinite(self.low).any() or np.isfinite(self.high).any())
        self.coded = self._codes.size > 0
        self.any = self.bounded or self.coded

    def is_sentinel(self, channel: npt.NDArray[np.integer[Any]], value: F64) -> Bool:
        """Return which of `value[N]` are a sentinel of `channel[N]`; compared as float32, as CSV and Parquet differ."""
        with np.errstate(over="ignore"):
            found: Bool = (self._codes[channel] == value.astype(np.float32)[:, None]).any(axis=1)
        return found

    def of(self, channel: npt.NDArray[np.integer[Any]], value: F64) -> Bool:
        """Return which of `value[N]` of `channel[N]` are impossible; NaN is not."""
        beyond: Bool = (value < self.low[channel]) | (value > self.high[channel])
        return beyond | self.is_sentinel(channel, value) if self.coded else beyond

    def readings(self, readings: Readings) -> tuple[Readings, int]:
        """Return the readings without the impossible ones, and how many these were."""
        if not self.any or not len(readings):
            return readings, 0
        found = self.of(readings.channel, readings.value)
        count = int(np.count_nonzero(found))
        if not count:
            return readings, 0
        columns = {f.name: getattr(readings, f.name) for f in fields(readings)}
        kept = {name: column[~found] for name, column in columns.items() if len(column)}
        return replace(readings, **kept), count

    def rows(self, rows: Rows) -> Rows:
        """Return the rows without those that have an impossible value."""
        if not self.any or not len(rows):
            return rows
        C = rows.values.shape[1]
        bad = self.of(np.tile(np.arange(C), len(rows)), rows.values.reshape(-1)).reshape(-1, C).any(axis=1)
        return Rows(rows.stream[~bad], rows.time_s[~bad], rows.values[~bad]) if bad.any() else rows
