"""One stream from near: its last rows with what the model makes of them laid over, its scores, the channels' shares.

The loop copies the arrays (`Raw`); everything that costs time, the model's run above all, happens in the asking thread.
The reconstruction is laid over by windows that follow each other without a break: each shows the L rows it rebuilds,
and the newest also the K rows it foresees. Their ends stand at fixed places of the stream, so that the overlay does not
flicker from one picture to the next.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from streamae.core.lane import Lane
from streamae.core.types import F32, F64, I64, Bool
from streamae.daemon.history import GroupHistory

__all__ = ["Raw", "copy_stream", "overlay", "picture"]


@dataclass(frozen=True, slots=True, eq=False)
class Raw:
    """Copies of what the loop holds of one stream: scaled rows `values[n, C]` at `time_s[n]`, and its verdicts."""

    lane: Lane
    stream: int
    seen: int  # rows of the stream so far
    time_s: Any  # F64[n]
    values: Any  # F32[n, C]
    verdicts: Mapping[str, Any]
    share: F32


def copy_stream(history: GroupHistory, name: str, rows: int) -> Raw | None:
    """Copy the last rows and verdicts of a stream; None where there is none of that name. For the loop's thread."""
    lane = history.lane
    try:
        stream = lane.streams.names.index(name)
    except ValueError:
        return None
    kept = history.rows.read(stream, rows)
    share = history.share[stream].copy() if stream < len(history.share) else np.zeros(0, np.float32)
    return Raw(
        lane,
        stream,
        history.rows.count(stream),
        kept["time_s"],
        kept["values"],
        history.verdicts.read(stream, rows),
        share,
    )


def overlay(
    reconstructor: Any, time_s: F64, values: F32, window: int, gap_max_s: float, seen: int = 0
) -> tuple[F32, F32]:
    """Return the reconstruction and the newest forecast of scaled rows, `[n, Q]` each, NaN where there is none.

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


def picture(raw: Raw, targets: tuple[str, ...], reconstructor: Any) -> dict[str, Any]:
    """Return the copy as JSON values in the stream's own units, NaN for "none"; gaps hold an empty row."""
    lane, channels = raw.lane, raw.lane.profile.channels
    window, gap_max_s = lane.profile.window, lane.rings.gap_max_s
    shown, foreseen = overlay(reconstructor, raw.time_s, raw.values, window, gap_max_s, raw.seen)
    place = [channels.index(name) for name in targets][: shown.shape[1]]
    own = lane.scale.raw(raw.stream, raw.values)
    rebuilt, ahead = _own_units(raw, shown, place), _own_units(raw, foreseen, place)
    gap = np.flatnonzero(np.diff(raw.time_s) > gap_max_s) + 1
    time_s = np.insert(raw.time_s, gap, raw.time_s[gap - 1] + lane.profile.period_s) if len(gap) else raw.time_s
    lines = [
        {
            "name": name,
            "target": c in place,
            "share": round(float(raw.share[c]), 4) if len(raw.share) else 0.0,
            "values": _column(own[:, c], gap),
            "reconstruction": _column(rebuilt[:, c], gap) if c in place else None,
            "forecast": _column(ahead[:, c], gap) if c in place else None,
        }
        for c, name in enumerate(channels)
    ]
    verdicts = {
        name: (column if name == "time_s" else _rounded(column)).tolist() for name, column in raw.verdicts.items()
    }
    return {"time_s": time_s.tolist(), "channels": lines, "verdicts": verdicts, "window_rows": window}


def _own_units(raw: Raw, scaled: F32, place: list[int]) -> F64:
    wide = np.full((len(scaled), len(raw.lane.profile.channels)), np.nan, np.float32)
    if place:
        wide[:, place] = scaled
    return raw.lane.scale.raw(raw.stream, wide)


def _column(values: F64, gap: I64) -> list[float]:
    told: list[float] = _rounded(np.insert(values, gap, np.nan) if len(gap) else values).tolist()
    return told


def _rounded(values: Any) -> F64:
    """Six significant digits: what a chart can show."""
    wide = np.asarray(values, np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        digits = 5 - np.floor(np.log10(np.abs(wide)))
    scale = np.power(10.0, np.where(np.isfinite(digits), np.clip(digits, -290, 290), 0))
    rounded: F64 = np.where(np.isfinite(wide), np.round(wide * scale) / scale, np.nan)
    return rounded
