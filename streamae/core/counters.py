"""Counters -> how fast they count: of a total that only rises, its increase is what says how the machine does.

The total of an energy meter lies beyond everything that training saw from the first row on; what it counts in a while
does not. So a channel that is a counter is read as its increase since the sample before: per second, per hour, or as
it is. The increase belongs to the later of the two samples.

A total falls for two reasons. It rolled over, past 2^16, 2^32 or a power of ten (or these with decimals); or it began
again, from near zero. The first that is plausible is taken: its increase is at most twice what the fastest rate that
this counter has shown would give. Where neither is, as after an exchanged meter, the increase is not known and the
sample is missing; counting goes on from there. A rise is always believed, however large.
"""

from collections.abc import Sequence
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from streamae.core.arrays import grown, rounds, without
from streamae.core.types import F64, I32, I64, Readings, Rows, State

__all__ = ["COUNTERS", "Counter", "Counters"]

Counter = Literal["rate", "rate_per_hour", "delta"]
COUNTERS: tuple[str, ...] = get_args(Counter)
_SCALE = {"rate": 1.0, "rate_per_hour": 3600.0}
_PLAUSIBLE = 2.0  # times the fastest so far
# Where totals begin again: registers of 16 and 32 bits, signed or not, also of hundredths, and digits of a display.
_LIMITS = np.unique(
    [2.0**bits / ten for bits in (15, 16, 24, 31, 32) for ten in (1.0, 10.0, 100.0, 1000.0)]
    + [10.0**digits for digits in range(2, 13)]
)


class Counters:
    """The counters of a group: `kinds[C]` says how each channel is read, None for one that is no counter.

    State is `[S, C]`: the last total and its time, and the fastest rate so far, per second.
    """

    def __init__(self, kinds: Sequence[str | None]) -> None:
        self._is = np.array([kind is not None for kind in kinds], np.bool_)
        self._delta = np.array([kind == "delta" for kind in kinds], np.bool_)
        self._scale = np.array([_SCALE.get(kind or "", 1.0) for kind in kinds])
        self.any = bool(self._is.any())
        C = len(kinds)
        self._total: F64 = np.zeros((0, C))
        self._time_s: F64 = np.zeros((0, C))
        self._fastest: F64 = np.zeros((0, C))

    def grow(self, streams: int) -> None:
        """Make room for at least this many streams."""
        if self.any:
            self._total = grown(self._total, streams, np.nan)
            self._time_s = grown(self._time_s, streams, -np.inf)
            self._fastest = grown(self._fastest, streams, 0.0)

    def drop(self, stream: int) -> None:
        """Forget a stream, whose number the last one takes."""
        if self.any:
            self._total, self._time_s, self._fastest = (
                without(array, stream) for array in (self._total, self._time_s, self._fastest)
            )

    def step(self, stream: npt.NDArray[np.integer[Any]], channel: I32, time_s: F64, value: F64) -> F64:
        """Return samples `[N]` with counters as their increase; NaN where it is not known.

        The samples of a channel stand in order of time. A NaN, which ends a value, stays one, and changes nothing.
        """
        counts = np.flatnonzero(self._is[channel] & ~np.isnan(value))
        if not len(counts):
            return value
        out = value.copy()
        C = len(self._is)
        cell: I64 = stream[counts].astype(np.int64) * C + channel[counts]
        for part in rounds(cell):
            at = counts[part]
            out[at] = self._increase(cell[part], channel[at], time_s[at], value[at])
        return out

    def readings(self, readings: Readings) -> Readings:
        """Return readings by stream, channel and time with counters as their increase, without those not known."""
        if not self.any or not len(readings):
            return readings
        value = self.step(readings.stream, readings.channel, readings.time_s, readings.value)
        kept = np.isnan(readings.value) | ~np.isnan(value)
        r = readings
        return Readings(r.stream[kept], r.channel[kept], r.time_s[kept], value[kept], r.origin[kept])

    def rows(self, rows: Rows) -> Rows:
        """Return the rows with counters as their increase, without those where one is not known."""
        if not self.any or not len(rows):
            return rows
        N, C = rows.values.shape
        stream, channel = np.repeat(rows.stream, C), np.tile(np.arange(C, dtype=np.int32), N)
        values = self.step(stream, channel, np.repeat(rows.time_s, C), rows.values.reshape(-1)).reshape(N, C)
        whole = ~np.isnan(values).any(axis=1)
        return Rows(rows.stream[whole], rows.time_s[whole], values[whole])

    def _increase(self, cell: I64, channel: I32, time_s: F64, total: F64) -> F64:
        """Take one sample of each of some different counters."""
        cells = self._total.reshape(-1), self._time_s.reshape(-1), self._fastest.reshape(-1)
        last, last_s, fastest = (x[cell] for x in cells)
        lasts_s = time_s - last_s
        known = ~np.isnan(last) & (lasts_s > 0)
        span_s = np.where(known, lasts_s, 1.0)
        gain = np.where(known, total - last, np.nan)
        fell = np.flatnonzero(known & (gain < 0))
        if len(fell):
            gain[fell] = _after_fall(last[fell], total[fell], _PLAUSIBLE * fastest[fell] * span_s[fell])
        rate, newer = gain / span_s, lasts_s != 0  # an older one: the time of the stream has begun again
        cells[2][cell] = np.where(known & (total >= last), np.maximum(fastest, rate), fastest)
        cells[0][cell] = np.where(newer, total, last)
        cells[1][cell] = np.where(newer, time_s, last_s)
        return np.where(self._delta[channel], gain, rate * self._scale[channel])

    def state(self, streams: int) -> State:
        """Return what a snapshot keeps of the first S streams."""
        if not self.any:
            return {}
        names = ("total", "time_s", "fastest")
        return {name: getattr(self, f"_{name}")[:streams].copy() for name in names}

    def restore(self, state: State) -> None:
        """Take over what `state` returned; where it has none, counters begin with their next sample."""
        if not self.any or "total" not in state:
            return
        self.grow(len(state["total"]))
        for name in ("total", "time_s", "fastest"):
            getattr(self, f"_{name}")[: len(state[name])] = state[name]


def _after_fall(last: F64, total: F64, most: F64) -> F64:
    """Return the increase of totals `[N]` that fell from `last`: by a rollover, else from zero; NaN above `most`."""
    limit = _LIMITS[np.minimum(np.searchsorted(_LIMITS, last, side="right"), len(_LIMITS) - 1)]
    rolled = limit - last + total
    rolls = (limit > last) & (total >= 0) & (rolled <= most)
    return np.where(rolls, rolled, np.where((total >= 0) & (total <= most), total, np.nan))
