"""Error features on held-out rows -> the calibration that `core.score` and `core.threshold` read.

The group's normal is the mean and spread of each feature over all streams, each in units of its own level. The
threshold comes from the tail of the held-out scores: an exponential law over a high quantile, extrapolated to the
budget. Overlapping windows raise one event many times, so what is counted is the highest score of each block of T rows.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from streamae.core.score import Scoring, excess, raw_score
from streamae.core.types import F32, F64

__all__ = ["DEFAULT_BUDGET_BLOCKS", "calibrate", "stream_levels"]

DEFAULT_BUDGET_BLOCKS = 1e6  # one false alarm in that many independent windows
_SPREAD_FLOOR = 0.1  # of the center: a held-out stretch is short, and normal strays further than it showed
_LEVEL_FLOOR = 0.5
_TAIL_SHARE = 0.2
_COLD_TRIALS = 50


def stream_levels(errors: Sequence[F32]) -> tuple[F64, F64]:
    """Group center [E], and level [S, E] of each stream in units of it."""
    means = np.stack([e.astype(np.float64).mean(axis=0) for e in errors])
    center = np.maximum(np.median(means, axis=0), 1e-4)
    return center, np.maximum(means / center, _LEVEL_FLOOR)


def calibrate(
    errors: Sequence[F32],
    features: Sequence[tuple[str, int]],
    channels: int,
    window: int,
    *,
    period_s: float,
    blocks: float = DEFAULT_BUDGET_BLOCKS,
) -> tuple[dict[str, Any], F64]:
    """Held-out errors [n, E] of each stream, in time order -> calibration mapping, level [S, E] of the streams."""
    center, level = stream_levels(errors)
    units = [e.astype(np.float64) / lv for e, lv in zip(errors, level, strict=True)]
    joined = np.concatenate(units)
    spread = np.maximum(joined.std(axis=0), _SPREAD_FLOOR * center)
    several = len({c for _, c in features if c >= 0}) > 1
    precision = _precision(joined, spread, window) if several else None
    raw = [raw_score(excess(u, center, spread), precision) for u in units]
    top, scale, share = _tail(raw, window)
    threshold = max(top + scale * np.log(share * blocks), 2.0)
    scores = np.concatenate(raw) / threshold
    learn = 2 * window
    calibration: dict[str, Any] = {
        "kind": "mahalanobis" if several else "mean",
        "features": [kind for kind, _ in features],
        "channel": [channel for _, channel in features],
        "center": center.tolist(),
        "spread": spread.tolist(),
        "precision": None if precision is None else precision.tolist(),
        "threshold": float(threshold),
        "learn_windows": learn,
        "level_floor": _LEVEL_FLOOR,
        "cold_margin": 1.0,
        "normal_mean": float(scores.mean()),
        "normal_deviation": float(max(np.abs(scores - scores.mean()).mean(), 0.02)),
        "half_life_windows": 10.0 * window,
        "ceiling": 3.0,
        "rebaseline_s": float(max(1000, 20 * window) * period_s),
        "tail_scale": float(scale / threshold),
        "budget_per_s": float(1.0 / (blocks * window * period_s)),
    }
    calibration["cold_margin"] = _cold_margin(calibration, errors, channels)
    return calibration, level


def _precision(units: F64, spread: F64, window: int) -> F64:
    """Inverse of the errors' correlation, shrunk towards independence as few independent windows demand."""
    centred = (units - units.mean(axis=0)) / spread
    features = units.shape[1]
    correlation = centred.T @ centred / len(units)
    np.fill_diagonal(correlation, 1.0)
    independent = max(len(units) / window, 1.0)
    shrink = float(np.clip(features / (features + independent), 0.1, 0.9))
    inverse: F64 = np.linalg.inv((1 - shrink) * correlation + shrink * np.eye(features))
    return inverse


def _tail(raw: Sequence[F64], window: int) -> tuple[float, float, float]:
    """Level, scale, and share of the blocks above it, of the exponential tail of the blocks' highest scores."""
    peaks = np.sort(np.concatenate([[b.max() for b in np.array_split(r, max(1, len(r) // window))] for r in raw]))
    over = max(3, int(np.ceil(_TAIL_SHARE * len(peaks))))
    top = float(peaks[max(0, len(peaks) - over - 1)])
    # Few peaks say little about a tail: their mean excess counts as if a unit of spread had been seen as well.
    mean_excess = float((np.maximum(peaks[-over:] - top, 0).sum() + 0.25) / (min(over, len(peaks)) + 1))
    return top, mean_excess, min(over / len(peaks), 1.0)


def _cold_margin(calibration: Mapping[str, Any], errors: Sequence[F32], channels: int) -> float:
    """How far a stream that learns its level in passing strays beyond one whose level is known, at least 1."""
    learn = int(calibration["learn_windows"])
    known, cold = [0.25], [0.0]
    for e in errors:
        for start in range(0, len(e) - 2 * learn + 1, learn):
            piece = e[start : start + 2 * learn]
            cold.append(_highest(calibration, channels, piece, None))
            known.append(_highest(calibration, channels, piece[learn:], {"level": np.ones(e.shape[1])}))
        if len(cold) >= _COLD_TRIALS:
            break
    if len(cold) == 1:
        return 1.5
    return float(np.clip(max(cold) / max(known), 1.25, 4.0))


def _highest(calibration: Mapping[str, Any], channels: int, errors: F32, known: Mapping[str, Any] | None) -> float:
    scoring = Scoring(calibration, channels)
    scoring.grow(1)
    scoring.begin(0, known)
    stream = np.zeros(1, np.int32)
    return float(np.nanmax([scoring.step(stream, row[None])[0][0] for row in errors]))
