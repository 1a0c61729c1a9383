"""Series of one group -> scaled, contiguous rows, and what was found on the way: channels, period, gaps, context.

Each file is one stream, named by its file name without `.csv` and `.gz`. All files must have the same channels. What
cannot be learnt from is refused with the reason; what is left out (a channel without values, a row without all
channels, a row that goes back in time) is counted and recorded.

Targets are the channels that the model explains. A channel with fewer than five values in every stream, or with ten at
most between which it seldom changes, is a command, a mode or a setpoint: it says nothing about how far it can vary, and
is left out of the targets. One that stays at a value other than 0 and 1 is a sensor, and can alarm when it leaves it.
Where no channel has more values, those with others than zeros and ones are explained all the same.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from streamae.core.calendar import Calendar
from streamae.core.counters import Counters
from streamae.core.scale import SCALED_MAX, estimate
from streamae.core.sensors.state import KINDS_MIN, MOVES_MIN
from streamae.core.types import F32, F64, I64, Rows
from streamae.errors import SeriesError
from streamae.history.prepared import Prepared
from streamae.history.series import Series, read_series

__all__ = ["Dataset", "Stream", "build", "find_period", "load", "window_ends"]

ROWS_MIN = 100  # below this neither a window length nor a threshold means anything
_EMPTY_SHARE = 0.5  # a channel with more missing values than this is dropped
_DISORDER_SHARE = 0.1
_SETPOINTS_MAX = 10  # values of a channel that seldom changes


@dataclass(frozen=True, slots=True, eq=False)
class Stream:
    """One series as it was read: `time_s[N]`, `values[N, C]` with NaN for what is missing."""

    name: str
    channels: tuple[str, ...]
    time_s: F64
    values: F64
    prepared: Prepared | None = None
    """How its rows were made of samples; None: they are as they were recorded."""


@dataclass(frozen=True, slots=True, eq=False)
class Dataset:
    """Scaled rows `values[N, C]` of all streams, one after the other; stream s has the rows bounds[s] : bounds[s+1]."""

    names: tuple[str, ...]
    channels: tuple[str, ...]
    targets: tuple[int, ...]
    time_s: F64
    values: F32
    bounds: I64
    location: F64
    scale: F64
    period_s: float
    gap_max_s: float
    period_rows: int | None
    dropped: Mapping[str, str]
    refused_rows: Mapping[str, int]
    calendar: Calendar = field(default_factory=Calendar)

    def rows_of(self, stream: int) -> slice:
        """Positions of a stream's rows."""
        return slice(int(self.bounds[stream]), int(self.bounds[stream + 1]))

    def read(self) -> F32:
        """What a model reads of the rows, `[N, C + F]`: their values, and what the calendar says of them."""
        return self.calendar.beside(self.values, self.time_s)


def load(paths: Sequence[Path], rows: int | None, fetched: Sequence[Series] = ()) -> list[Stream]:
    """Read the first `rows` rows of each file (all, if None), and of what was fetched. Raises SeriesError."""
    found = [*(read_series(path) for path in paths), *fetched]
    names = [series.name for series in found]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise SeriesError(
            f"two files or sources give the stream name {twice[0]}; rename one, each stream needs its own name"
        )
    return [Stream(x.name, tuple(x.channels), x.time_s[:rows], x.values[:rows], x.prepared) for x in found]


def build(
    streams: Sequence[Stream], context: Sequence[str] | None = None, counters: Mapping[str, str] | None = None
) -> Dataset:
    """Clean, scale and join the streams of a group; `context` names channels that are inputs only (None: find them).

    `counters` are channels whose values are totals, and how they are read (`core.counters`).

    Raises SeriesError naming the stream and what to do.
    """
    if not streams:
        raise SeriesError("there is nothing to train on; name at least one file of rows")
    channels = streams[0].channels
    for stream in streams:
        if stream.channels != channels:
            raise SeriesError(
                f"{stream.name}: has the channels {', '.join(stream.channels)}, but {streams[0].name} has "
                f"{', '.join(channels)}; the streams of a group have the same channels in the same order"
            )
    kept, dropped = _kept_channels(streams)
    refused = {"incomplete": 0, "not_increasing": 0}
    kinds = [(counters or {}).get(channels[c]) for c in kept]
    cleaned = [_clean(stream, kept, refused, kinds) for stream in streams]
    values = [rows for _, rows in cleaned]
    location, scale = (np.stack(x) for x in zip(*(estimate(rows) for rows in values), strict=True))
    scale = _floored(scale, location, values)
    names = tuple(channels[c] for c in kept)
    targets = _targets(names, values, context, dropped)
    step_s = np.concatenate([np.diff(time_s) for time_s, _ in cleaned])
    period_s = float(np.median(step_s))
    gap_max_s = float(max(10 * period_s, 1.5 * np.quantile(step_s, 0.999)))
    scaled = [
        np.clip((rows - m) / s, -SCALED_MAX, SCALED_MAX) for rows, m, s in zip(values, location, scale, strict=True)
    ]
    return Dataset(
        names=tuple(stream.name for stream in streams),
        channels=names,
        targets=targets,
        time_s=np.concatenate([time_s for time_s, _ in cleaned]),
        values=np.concatenate(scaled).astype(np.float32),
        bounds=np.cumsum([0, *(len(rows) for rows in values)]),
        location=location,
        scale=scale,
        period_s=period_s,
        gap_max_s=gap_max_s,
        period_rows=_common_period([rows[:, list(targets)] for rows in scaled]),
        dropped=dropped,
        refused_rows=refused,
    )


def window_ends(dataset: Dataset, window: int, stream: int, start: int, stop: int) -> I64:
    """Positions of the last rows of all full windows of a stream that lie in its own rows start..stop-1, no gap in."""
    rows = dataset.rows_of(stream)
    step_s = np.diff(dataset.time_s[rows.start + start : rows.start + stop])
    broken = np.r_[0, np.cumsum(step_s > dataset.gap_max_s)]
    if stop - start < window:
        return np.zeros(0, np.int64)
    whole = broken[window - 1 :] == broken[: len(broken) - window + 1]
    ends: I64 = np.flatnonzero(whole) + rows.start + start + window - 1
    return ends


def find_period(values: F64, longest: int) -> int | None:
    """Rows of the strongest period of `values[N, C]`: the first prominent peak of the mean autocorrelation.

    The series are differenced against a straight line first; a peak counts if it reaches .3 after a dip below half
    of it. None if there is none up to `longest` rows.
    """
    n = len(values)
    line = np.linspace(-1, 1, n)[:, None]
    x = values - values.mean(axis=0)
    x = x - line * (np.sum(x * line, axis=0) / np.sum(line * line))
    power = np.abs(np.fft.rfft(x, 2 * n, axis=0)) ** 2
    correlation = np.fft.irfft(power, axis=0)[: min(longest, n // 2) + 1]
    total = correlation[0]
    varies = total > 1e-9 * n
    if not varies.any():
        return None
    mean = (correlation[:, varies] / total[varies]).mean(axis=1)
    mean = mean * n / (n - np.arange(len(mean)))
    peaks = np.flatnonzero((mean[1:-1] >= mean[:-2]) & (mean[1:-1] > mean[2:])) + 1
    good = [int(p) for p in peaks if mean[p] >= 0.3 and mean[:p].min() < 0.5 * mean[p]]
    if not good:
        return None
    best = max(mean[p] for p in good)
    return next(p for p in good if mean[p] >= 0.9 * best)


def _common_period(scaled: Sequence[F64]) -> int | None:
    found = [find_period(rows, longest=1024) for rows in scaled[:50]]
    periods = [p for p in found if p is not None]
    return int(np.median(periods)) if 2 * len(periods) > len(found) else None


def _kept_channels(streams: Sequence[Stream]) -> tuple[list[int], dict[str, str]]:
    kept, dropped = [], {}
    for c, name in enumerate(streams[0].channels):
        empty = [stream.name for stream in streams if _missing(stream.values[:, c]) > _EMPTY_SHARE]
        if empty:
            dropped[name] = f"more than half of its values are missing in {empty[0]}" + (
                f" and {len(empty) - 1} more" if len(empty) > 1 else ""
            )
        else:
            kept.append(c)
    if not kept:
        raise SeriesError(
            f"{streams[0].name}: no channel has values in at least half of the rows; each row must carry all channels: "
            "resample onto a time grid, as `align: {every: 1m}` does in the daemon: `streamae train --every 1m`"
        )
    return kept, dropped


def _missing(column: F64) -> float:
    return float(np.mean(~np.isfinite(column))) if len(column) else 1.0


def _clean(
    stream: Stream, kept: Sequence[int], refused: dict[str, int], counters: Sequence[str | None]
) -> tuple[F64, F64]:
    """Rows that carry all channels and go forward in time; with the increase of `counters`, where it is known."""
    values = stream.values[:, list(kept)]
    whole = np.isfinite(values).all(axis=1) & np.isfinite(stream.time_s)
    refused["incomplete"] += int((~whole).sum())
    time_s, values = stream.time_s[whole], values[whole]
    newest = np.maximum.accumulate(time_s) if len(time_s) else time_s
    forward = np.r_[True, time_s[1:] > newest[:-1]][: len(time_s)]
    if (~forward).sum() > _DISORDER_SHARE * len(time_s):
        raise SeriesError(
            f"{stream.name}: time does not increase in {(~forward).sum()} of {len(time_s)} rows; sort the rows by "
            "time, and put different machines into different files"
        )
    refused["not_increasing"] += int((~forward).sum())
    if forward.sum() < ROWS_MIN:
        raise SeriesError(
            f"{stream.name}: has {forward.sum()} usable rows of {len(stream.time_s)}, at least {ROWS_MIN} are needed; "
            "record for longer, or leave this file out"
        )
    rows = Rows(np.zeros(int(forward.sum()), np.int32), time_s[forward], values[forward])
    stage = Counters(counters)
    stage.grow(1)
    counted = stage.rows(rows)
    refused["incomplete"] += len(rows) - len(counted)
    return counted.time_s, counted.values


def _floored(scale: F64, location: F64, values: Sequence[F64]) -> F64:
    """Give a channel that is constant in a stream at least the scale that it has elsewhere in the group."""
    constant = np.stack([rows.std(axis=0) <= 1e-9 * np.maximum(np.abs(rows).max(axis=0), 1e-9) for rows in values])
    elsewhere = np.nanmedian(np.where(constant.all(axis=0), 0.0, np.where(constant, np.nan, scale)), axis=0)
    return np.where(constant, np.maximum(elsewhere, scale), scale)


def _measures(column: F64) -> bool:
    """Whether values `[n]` are a measurement: no mode, setpoint or constant."""
    kinds, changes = len(np.unique(column)), int(np.count_nonzero(np.diff(column)))
    return kinds > _SETPOINTS_MAX or (kinds >= KINDS_MIN and changes * MOVES_MIN >= len(column))


def _targets(
    names: Sequence[str], values: Sequence[F64], context: Sequence[str] | None, dropped: dict[str, str]
) -> tuple[int, ...]:
    """Indices of the channels to explain; without `context`, those that measure in some stream."""
    if context is None:
        measured = [any(_measures(rows[:, c]) for rows in values) for c in range(len(names))]
        if any(measured):
            steady = [all(bool(np.ptp(rows[:, c]) == 0) for rows in values) for c in range(len(names))]
            leaves = [one and any(rows[0, c] not in (0.0, 1.0) for rows in values) for c, one in enumerate(steady)]
            return tuple(c for c in range(len(names)) if measured[c] or leaves[c])
        senses = [any(bool((~np.isin(rows[:, c], (0.0, 1.0))).any()) for rows in values) for c in range(len(names))]
        return tuple(np.flatnonzero(senses).tolist()) or (0,)
    unknown = sorted(set(context) - set(names) - set(dropped))
    if unknown:
        raise SeriesError(f"the context channel {unknown[0]} is not among {', '.join(names)}; correct its name")
    targets = tuple(c for c, name in enumerate(names) if name not in set(context))
    if not targets:
        raise SeriesError("every channel is named as context; leave at least one to be explained")
    return targets
