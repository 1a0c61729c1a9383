"""One stream from near: its last rows with what the model makes of them laid over, its scores, the channels' shares.

The loop copies the arrays (`Raw`); everything that costs time, the model's run above all, happens in the asking thread.
The reconstruction is laid over by windows that follow each other without a break: each shows the L rows it rebuilds,
and the newest also the K rows it foresees. Their ends stand at fixed places of the stream, so that the overlay does not
flicker from one picture to the next.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from streamae.core.calendar import Calendar
from streamae.core.pipeline import Pipeline
from streamae.core.types import F32, F64, I64, Bool, round_score
from streamae.daemon.page.memory import GroupHistory
from streamae.web.answers import ChannelHistory, HistoryAnswer, ScoreHistory

__all__ = ["Ground", "Raw", "copy_stream", "extremes", "overlay", "picture"]


@dataclass(frozen=True, slots=True, eq=False)
class Ground:
    """What the rows of one stream mean: the model's reading of them, and copies of the stream's location and scale."""

    channels: tuple[str, ...]
    window: int
    gap_max_s: float
    calendar: Calendar
    reconstructor: Any
    location: F64
    scale: F64

    @classmethod
    def of(cls, pipeline: Pipeline, stream: int) -> "Ground":
        """Copy it from a pipeline; for the thread that steps that."""
        profile, own = pipeline.profile, pipeline.scale.of(stream)
        return cls(
            profile.channels,
            profile.window,
            pipeline.rings.gap_max_s,
            pipeline.calendar,
            pipeline.group.reconstructor,
            *own,
        )

    def raw(self, values: F32) -> F64:
        """Return scaled `values[n, C]` in the stream's own units."""
        own: F64 = values * self.scale + self.location
        return own


@dataclass(frozen=True, slots=True, eq=False)
class Raw:
    """Copies of what the loop holds of one stream: scaled rows `values[n, C]` at `time_s[n]`, and its verdicts."""

    ground: Ground
    seen: int  # rows of the stream so far
    time_s: Any  # F64[n]
    values: Any  # F32[n, C]
    verdicts: Mapping[str, Any]
    share: F32
    apart_s: float = math.inf  # between verdicts that no line connects


def copy_stream(history: GroupHistory, name: str, rows: int) -> Raw | None:
    """Copy the last rows and verdicts of a stream; None where there is none of that name. For the loop's thread."""
    pipeline = history.pipeline
    try:
        stream = pipeline.streams.names.index(name)
    except ValueError:
        return None
    kept = history.rows.read(stream, rows)
    share = history.share[stream].copy() if stream < len(history.share) else np.zeros(0, np.float32)
    return Raw(
        Ground.of(pipeline, stream),
        history.rows.count(stream),
        kept["time_s"],
        kept["values"],
        history.verdicts.read(stream, rows),
        share,
    )


def overlay(
    reconstructor: Any, time_s: F64, values: F32, window: int, gap_max_s: float, seen: int = 0
) -> tuple[F32, F32]:
    """Return the reconstruction and the newest forecast of rows as the model reads them, `[n, Q]` each, else NaN.

    `seen` is the number of the newest row; `reconstructor` may lack `reconstruct` or `forecast`; then Q is 0.
    """
    n = len(time_s)
    if n < window or not hasattr(reconstructor, "reconstruct"):
        return np.zeros((n, 0), np.float32), np.zeros((n, 0), np.float32)
    newest = values[None, n - window :]
    ahead = reconstructor.forecast(newest)[0]
    K, Q = ahead.shape
    shown = np.full((n, Q), np.nan, np.float32)
    foreseen = np.full((n, Q), np.nan, np.float32)
    if K and _contiguous(time_s, gap_max_s, np.array([n - 1]), window)[0]:
        foreseen[n - K :] = ahead
    L = reconstructor.reconstruct(newest).shape[1]
    if L:
        ends = _ends(n, L, window, seen % L)
        ends = ends[_contiguous(time_s, gap_max_s, ends, window)]
        if len(ends):
            rebuilt = reconstructor.reconstruct(values[ends[:, None] + np.arange(1 - window, 1)])
            shown[ends[:, None] - K - L + 1 + np.arange(L)] = rebuilt
    return shown, foreseen


def _ends(n: int, step: int, window: int, phase: int) -> I64:
    """Last rows of the windows to show: every `step` rows, `phase` before the newest, and the newest of all."""
    ends = np.arange(n - 1 - phase, window - 2, -step)[::-1]
    return np.r_[n - 1, ends] if phase else ends  # the newest first: those at their places are written over it


def _contiguous(time_s: F64, gap_max_s: float, ends: I64, window: int) -> Bool:
    gaps = np.r_[0, np.cumsum(np.diff(time_s) > gap_max_s)]
    clean: Bool = gaps[ends] == gaps[ends - window + 1]
    return clean


def picture(
    raw: Raw,
    targets: tuple[str, ...],
    reconstructor: Any,
    span: tuple[float, float] = (-math.inf, math.inf),
    points: int | None = None,
) -> HistoryAnswer:
    """Return what a copy has within a span as JSON values in the stream's own units, NaN for "none".

    Gaps hold an empty row. Where there are more than two rows for each of `points` equal parts of the span, a part is
    drawn as two: the lowest and the highest of each line, in the order in which they came (`point_s`: a part's length).
    """
    ground, channels = raw.ground, raw.ground.channels
    C, gap_max_s = len(channels), ground.gap_max_s
    read = ground.calendar.beside(raw.values, raw.time_s)
    shown, foreseen = overlay(reconstructor, raw.time_s, read, ground.window, gap_max_s, raw.seen)
    explained = [channels.index(name) for name in targets]
    place = explained[: shown.shape[1]]  # before the first full window nothing is laid over
    own = ground.raw(raw.values)
    every = np.hstack([own, _own_units(ground, shown, place), _own_units(ground, foreseen, place)])
    point_s = None if points is None else (span[1] - span[0]) / points
    time_s, drawn, reduced = _drawn(raw.time_s, every, gap_max_s, span, point_s)
    lines: list[ChannelHistory] = [
        {
            "name": name,
            "target": c in explained,
            "share": round(float(raw.share[c]), 4) if len(raw.share) else 0.0,
            "values": drawn[:, c].tolist(),
            "reconstruction": drawn[:, C + c].tolist() if c in place else None,
            "forecast": drawn[:, 2 * C + c].tolist() if c in place else None,
        }
        for c, name in enumerate(channels)
    ]
    judged = np.column_stack([raw.verdicts["score"], raw.verdicts["threshold"]])
    judged_s, judged, _ = _drawn(raw.verdicts["time_s"], judged, raw.apart_s, span, point_s)
    verdicts: ScoreHistory = {
        "time_s": judged_s.tolist(),
        "score": judged[:, 0].tolist(),
        "threshold": judged[:, 1].tolist(),
    }
    return {
        "time_s": time_s.tolist(),
        "channels": lines,
        "verdicts": verdicts,
        "window_rows": ground.window,
        "point_s": point_s if reduced else None,
    }


def _drawn(
    time_s: F64, columns: F64, apart_s: float, span: tuple[float, float], point_s: float | None
) -> tuple[F64, F64, bool]:
    """Cut rows to a span, reduce them, and break the lines where rows are apart; says whether it had to reduce."""
    inside = (time_s >= span[0]) & (time_s <= span[1])
    time_s, columns = time_s[inside], np.asarray(columns, np.float64)[inside]
    begins, reduced = np.ones(len(time_s), np.bool_), False
    if point_s is not None and len(time_s) * point_s > 2 * (span[1] - span[0]):
        time_s, columns, begins = extremes(time_s, columns, span[0], point_s)
        reduced = True
    gap = np.flatnonzero((np.diff(time_s) > apart_s) & begins[1:]) + 1
    if len(gap):
        time_s = np.insert(time_s, gap, (time_s[gap - 1] + time_s[gap]) / 2)
        columns = np.insert(columns, gap, np.nan, axis=0)
    return time_s, _rounded(columns), reduced


def extremes(time_s: F64, columns: F64, start_s: float, point_s: float) -> tuple[F64, F64, Bool]:
    """Reduce rows `columns[n, Q]` at ascending times to two for each part of `point_s` seconds, at its ends.

    They are each column's lowest and highest value there, in the order in which they came, NaN where it has none. A
    part of one row stays one. Returns times `[m]`, values `[m, Q]` and which rows begin a part `[m]`.
    """
    part = np.floor((time_s - start_s) / point_s)
    first = np.flatnonzero(np.r_[True, np.diff(part) > 0][: len(part)])
    if not len(first):
        return time_s, columns, np.ones(0, np.bool_)
    last = np.r_[first[1:], len(time_s)] - 1
    with np.errstate(invalid="ignore"):
        low, high = np.fmin.reduceat(columns, first), np.fmax.reduceat(columns, first)
    width, n = last - first + 1, np.arange(len(time_s))[:, None]
    low_at, high_at = (
        np.minimum.reduceat(np.where(columns == np.repeat(edge, width, axis=0), n, len(n)), first)
        for edge in (low, high)
    )
    rises = low_at <= high_at
    pair = np.stack([np.where(rises, low, high), np.where(rises, high, low)], axis=1)
    kept = np.stack([np.ones(len(first), np.bool_), width > 1], axis=1).ravel()
    begins = np.tile([True, False], len(first))
    times = np.stack([time_s[first], time_s[last]], axis=1)
    return times.ravel()[kept], pair.reshape(-1, columns.shape[1])[kept], begins[kept]


def _own_units(ground: Ground, scaled: F32, place: list[int]) -> F64:
    wide = np.full((len(scaled), len(ground.channels)), np.nan, np.float32)
    if place:
        wide[:, place] = scaled
    return ground.raw(wide)


def _rounded(values: Any) -> F64:
    """Six significant digits: what a chart can show."""
    wide = np.asarray(values, np.float64)
    return round_score(np.where(np.isfinite(wide), wide, np.nan))
