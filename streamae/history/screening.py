"""Series or samples of a group -> what of them is a measurement, and which channels are counters.

Rows are screened with all channels side by side, samples on a time grid before they become rows: there each channel
comes by itself, and a value that is held would be found again and again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from streamae.core.impossible import ImpossibleValues, Sentinels
from streamae.core.types import F64, Readings
from streamae.history.prepared import Prepared, Screening
from streamae.history.sentinels import Found, combined, find_sentinels
from streamae.history.totals import fell, is_counter

__all__ = ["Screened", "screen_readings", "screen_rows"]

AUTOMATIC = "rate_per_hour"  # of a total of kWh that is kW


@dataclass(frozen=True, slots=True, eq=False)
class Screened:
    """What was decided, in words too, and per stream and channel the values that are left out of it alone."""

    prepared: Prepared
    notes: list[str] = field(default_factory=list)
    own: Sequence[Mapping[int, Sequence[float]]] = ()

    def possible(self, values: F64, stream: int, channels: Sequence[str], wish: Screening) -> F64:
        """Return `values[N, C]` of a stream with NaN for what is no measurement."""
        impossible = ImpossibleValues(channels, wish.range, self.prepared.sentinels)
        N, C = values.shape
        bad = impossible.of(np.tile(np.arange(C), N), values.reshape(-1)).reshape(N, C)
        for c, own in (self.own[stream] if self.own else {}).items():
            bad[:, c] |= np.isin(values[:, c], own)
        return np.where(bad, np.nan, values)


def screen_rows(values: Sequence[F64], channels: Sequence[str], wish: Screening) -> Screened:
    """Return what is found in the rows `values[N, C]` of each stream."""
    limited = [_within(rows, channels, wish) for rows in values]
    found = [find_sentinels(rows) if wish.find_sentinels else [] for rows in limited]
    return _screened(limited, found, channels, wish)


def screen_readings(
    readings: Readings, channels: Sequence[str], streams: int, wish: Screening
) -> tuple[Readings, Screened]:
    """Return the samples that are measurements, and what was found of all."""
    order = np.lexsort((readings.time_s, readings.channel, readings.stream))
    cell = readings.stream[order].astype(np.int64) * len(channels) + readings.channel[order]
    bounds = np.searchsorted(cell, np.arange(streams * len(channels) + 1))
    parts = [order[a:b] for a, b in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True)]
    columns = [_limited(readings.value[at], channels[i % len(channels)], wish) for i, at in enumerate(parts)]
    found = [find_sentinels(column[:, None])[0] for column in columns] if wish.find_sentinels else []
    C = len(channels)
    by_stream = [columns[s * C : (s + 1) * C] for s in range(streams)]
    screened = _screened(by_stream, [found[s * C : (s + 1) * C] for s in range(streams)], channels, wish)
    impossible = ImpossibleValues(channels, wish.range, screened.prepared.sentinels)
    bad = impossible.of(readings.channel, readings.value)
    for s, own in enumerate(screened.own):
        for c, values in own.items():
            at = parts[s * C + c]
            bad[at] |= np.isin(readings.value[at], values)
    r = readings
    return Readings(r.stream[~bad], r.channel[~bad], r.time_s[~bad], r.value[~bad], r.origin[~bad]), screened


def _within(values: F64, channels: Sequence[str], wish: Screening) -> F64:
    if not wish.range:
        return values
    return np.column_stack([_limited(values[:, c], name, wish) for c, name in enumerate(channels)])


def _limited(column: F64, channel: str, wish: Screening) -> F64:
    low, high = wish.range.get(channel, (-np.inf, np.inf))
    return np.where((column < low) | (column > high), np.nan, column)


def _screened(
    values: Sequence[F64 | list[F64]], found: Sequence[Sequence[Found]], channels: Sequence[str], wish: Screening
) -> Screened:
    sentinels: dict[str, Sentinels] = {}
    own: list[dict[int, Sequence[float]]] = [{} for _ in values]
    notes = []
    for c, name in enumerate(channels):
        columns = [_column(rows, c) for rows in values]
        mine = [one[c] for one in found if one]
        every = combined(mine)
        if every is not None:
            sentinels[name] = every
        for s, one in enumerate(found):
            if one and one[c].values:
                own[s][c] = one[c].values
        if any(x.values for x in mine):
            notes.append(_said_sentinels(name, mine, columns))
    counters: dict[str, str] = {name: kind for name, kind in wish.counters.items() if kind != "off"}
    for c, name in enumerate(channels):
        if name in wish.counters or not wish.find_counters:
            continue
        columns = [_cleaned(_column(rows, c), own[s].get(c, ())) for s, rows in enumerate(values)]
        if is_counter(columns):
            counters[name] = AUTOMATIC
            notes.append(_said_counter(name, fell(columns)))
    ordered = {name: counters[name] for name in channels if name in counters}
    return Screened(Prepared(ordered, sentinels), notes, own)


def _column(values: F64 | list[F64], c: int) -> F64:
    return values[c] if isinstance(values, list) else values[:, c]


def _cleaned(column: F64, own: Sequence[float]) -> F64:
    return column[~np.isin(column, own)] if len(own) else column


def _said_sentinels(name: str, found: Sequence[Found], columns: Sequence[F64]) -> str:
    counts: dict[float, int] = {}
    for one in found:
        for value, count in zip(one.values, one.counts, strict=True):
            counts[value] = counts.get(value, 0) + count
    total = max(1, sum(int(np.isfinite(column).sum()) for column in columns))
    said = ", ".join(f"{n} times {value:g} ({100 * n / total:.2g} %)" for value, n in counts.items())
    others = [x for x in found if np.isfinite(x.low)]
    low, high = min(x.low for x in others), max(x.high for x in others)
    return (
        f"{name}: left out {said}: no measurement, all others lie from {low:g} to {high:g}. The daemon leaves it out "
        "too, and reports where it lasts; `sentinels: off` in train.yaml learns from it"
    )


def _said_counter(name: str, falls: int) -> str:
    again = f", and began again {falls} times" if falls else ""
    return (
        f"{name}: is a counter, it only rises{again}: learnt as its increase per hour, and read so by the daemon. To "
        f"choose, write `counters: {{{name}: rate}}` (rate, rate_per_hour, delta or off) into the group or train.yaml"
    )
