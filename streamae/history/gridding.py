"""Samples of the past -> rows on a time grid, as the daemon builds them from channels that arrive apart."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import pairwise

import numpy as np

from streamae.core.align import Align, align_stage
from streamae.core.align_rule import GridAlign
from streamae.core.counters import Counters
from streamae.core.impossible import ImpossibleValues
from streamae.core.profile import Profile
from streamae.core.types import F64, Drops, Readings, Rows
from streamae.history.prepared import Screening
from streamae.history.screening import Screened, screen_readings
from streamae.history.series import Series

__all__ = ["GriddedRows", "align_in_steps", "on_grid", "regrid", "rows_on_grid", "texts_of"]

_READINGS_A_STEP = 200_000
_CLOSES = 0.001  # of a period: how long after its time a tick is open for what comes in order
_PATIENCE = 1.5
_USUAL = 0.99  # of the gaps between a channel's samples


@dataclass(frozen=True, slots=True, eq=False)
class GriddedRows:
    """Rows of some streams, what was refused, and how they came to be."""

    rows: Rows
    drops: Drops
    screened: Screened


def rows_on_grid(
    readings: Readings, channels: Sequence[str], streams: int, grid: GridAlign, wish: Screening
) -> GriddedRows:
    """Return the rows of samples in arrival order; where the grid does not say what gap is bridged, the samples do."""
    possible, screened = screen_readings(readings, channels, streams, wish)
    if grid.gap_max_s is None:
        grid = replace(grid, gap_max_s=max(grid.bridged_s(), _PATIENCE * _slowest_s(possible, len(channels))))
    prepared = replace(screened.prepared, grid=grid)
    stage = align_stage(grid, len(channels), counters=Counters([prepared.counters.get(name) for name in channels]))
    rows, drops = align_in_steps(stage, possible, streams)
    return GriddedRows(rows, drops, replace(screened, prepared=prepared))


def _slowest_s(readings: Readings, channels: int) -> float:
    """Return how long the slowest channel is usually silent: of each, 99 % of its gaps are shorter."""
    cell = readings.stream.astype(np.int64) * channels + readings.channel
    order = np.lexsort((readings.time_s, cell))
    gap_s, same = np.diff(readings.time_s[order]), np.diff(cell[order]) == 0
    channel = readings.channel[order][1:]
    found = [gap_s[same & (channel == c) & (gap_s > 0)] for c in range(channels)]
    return max((float(np.quantile(x, _USUAL)) for x in found if len(x)), default=0.0)


def align_in_steps(stage: Align, readings: Readings, streams: int) -> tuple[Rows, Drops]:
    """Return the rows that a stage builds of readings, in steps that bound the memory."""
    stage.grow(streams)
    parts, drops = [], Drops()
    # What one message says stands together: the cuts go to where a message begins.
    cuts = np.searchsorted(readings.origin, readings.origin[::_READINGS_A_STEP])
    r = readings
    for a, b in pairwise([*np.unique(cuts).tolist(), len(r)]):
        part = Readings(r.stream[a:b], r.channel[a:b], r.time_s[a:b], r.value[a:b], r.origin[a:b])
        rows, refused = stage.step(part)
        parts.append(rows)
        drops += refused
    columns = (np.concatenate([getattr(rows, n) for rows in parts]) for n in ("stream", "time_s", "values"))
    return Rows(*columns), drops


def on_grid(series: Sequence[Series], grid: GridAlign, wish: Screening) -> tuple[list[Series], Screened]:
    """Return series whose cells are samples as series of rows on a grid; they have the same channels."""
    channels = series[0].channels
    parts = zip(*(_samples(one, s, grid.every_s) for s, one in enumerate(series)), strict=True)
    samples = Readings(*(np.concatenate(part) for part in parts))
    found = rows_on_grid(samples, channels, len(series), _in_order(grid), wish)
    made = []
    for s, old in enumerate(series):
        mine = found.rows.stream == s
        time_s = found.rows.time_s[mine]
        values = found.rows.values[mine]
        made.append(Series(old.name, channels, time_s, texts_of(time_s), values, found.screened.prepared))
    return made, found.screened


def regrid(series: Series, profile: Profile) -> Series:
    """Return the rows that the daemon would judge of a series of samples, on the grid of the model's training."""
    assert profile.grid is not None
    channels = [name for name in series.channels if name in profile.channels]
    place = [series.channels.index(name) for name in channels]
    taken = Series(series.name, tuple(channels), series.time_s, series.time_text, series.values[:, place])
    samples = Readings(*_samples(taken, 0, profile.grid.every_s))
    readings, _ = ImpossibleValues(channels, {}, profile.sentinels).readings(samples)
    counters = Counters([profile.counters.get(name) for name in channels])
    stage = align_stage(_in_order(profile.grid), len(channels), counters=counters)
    rows, _ = align_in_steps(stage, readings, 1)
    return Series(series.name, tuple(channels), rows.time_s, texts_of(rows.time_s), rows.values)


def _in_order(grid: GridAlign) -> GridAlign:
    """Return the grid for samples in order: the cells of a row come at one time, so its tick closes just after it."""
    return replace(grid, lateness_s=_CLOSES * grid.every_s)


def _samples(series: Series, stream: int, every_s: float) -> tuple[np.ndarray, ...]:
    """Return the cells that are not empty, in order of time: stream, channel, time, value, row.

    The last is no value: it closes the last tick.
    """
    order = np.argsort(series.time_s, kind="stable")
    values = series.values[order]
    row, channel = np.nonzero(np.isfinite(values))
    time_s: F64 = series.time_s[order][row]
    end_s = time_s[-1:] + 2 * _CLOSES * every_s
    of = np.full(len(row) + len(end_s), stream, np.int32)
    channels = np.r_[channel, np.zeros(len(end_s))].astype(np.int32)
    value = np.r_[values[row, channel], np.full(len(end_s), np.nan)]
    return of, channels, np.r_[time_s, end_s], value, np.r_[row, len(values) + np.arange(len(end_s))].astype(np.int32)


def texts_of(time_s: F64) -> list[str]:
    """Return times as ISO 8601."""
    return [datetime.fromtimestamp(t, UTC).isoformat() for t in time_s.tolist()]
