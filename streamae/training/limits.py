"""Where training puts the threshold: as far above a stream's mean ln score as one of four methods says.

    budget    as far as normal reached in any stream, or three deviations, and a margin that shrinks with the training
              time (the default); where scores have two humps, as of a sensor that rests, the tail counts, as in spot
    quantile  the quantile of the scores that training showed
    spot      peaks over threshold (Siffer et al. 2017): excesses over a high quantile t follow a generalised Pareto
              law, and with n scores, N of them in excess, the level passed with probability q is

                  z = t + sigma/gamma ((q n / N)^-gamma - 1),     q the budgeted false alarms times the time of a row

    fbeta     where F_beta against labelled incidents is greatest (Malhotra et al. 2016), see `training.incidents`

In operation the threshold adapts from there (`core.threshold`), whichever it was.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from streamae.core.types import F64, Bool
from streamae.model.artifact import profile_of

__all__ = ["OFFSET_MIN", "Limit", "fbeta_limit", "gpd_fit", "limit_above", "move_threshold", "spot_limit", "widest"]

OFFSET_MIN = 0.5  # above the mean of the ln scores: into their midst no threshold may go
_EXCESSES_MIN = 10
_SHAPES = np.linspace(-0.5, 1.0, 301)  # outside, the law has no finite mean or an endpoint within the data


@dataclass(frozen=True, slots=True)
class Limit:
    """The `threshold` block of train.yaml; `quantile` is for that method, `level` is where SPOT's tail begins.

    `incidents` (a file) and `beta` are for fbeta. `unseen` is the last part of each stream that budget asks about (see
    `training.holdout`); 0: not.
    """

    method: Literal["budget", "quantile", "spot", "fbeta"] = "budget"
    quantile: float = 0.999
    level: float = 0.98
    incidents: Path | None = None
    beta: float = 0.1
    unseen: float = 0.25

    def __post_init__(self) -> None:
        """Refuse shares that are none, and F_beta without incidents."""
        if not (0 < self.quantile < 1 and 0 < self.level < 1):
            raise ValueError(f"quantile {self.quantile} and level {self.level} must lie between 0 and 1")
        if not 0 <= self.unseen <= 0.5:
            raise ValueError(f"unseen {self.unseen} must lie between 0 (do not ask) and 0.5, as a part of the rows")
        if self.beta <= 0:
            raise ValueError(f"beta {self.beta} must be above 0; below 1 it weighs false alarms more than misses")
        if (self.method == "fbeta") != (self.incidents is not None):
            raise ValueError("method fbeta and a file of incidents belong together; give both or neither")


def move_threshold(manifest: dict[str, Any], by: float) -> None:
    """Move the thresholds of a manifest, in place, by so much in logarithms; new streams start no lower than before."""
    profile = profile_of(manifest, "")
    manifest["calibration"] = profile.calibration.moved(by).to_mapping()
    manifest["streams"] = {name: own.moved(by).to_mapping() for name, own in profile.streams.items()}


def limit_above(limit: Limit, settled: F64, per_row: float) -> float:
    """How far above their mean the limit of ln scores `settled[n]` lies; `per_row` false alarms are asked for a row."""
    at = spot_limit(settled, per_row, limit.level) if limit.method == "spot" else np.quantile(settled, limit.quantile)
    return float(at) - float(settled.mean())


def spot_limit(y: F64, per_row: float, level: float) -> float:
    """Level that `y[n]` passes with probability `per_row`, by a generalised Pareto tail; its maximum if n is small."""
    start = float(np.quantile(y, level))
    excess = y[y > start] - start
    ratio = per_row * len(y) / max(len(excess), 1)
    if len(excess) < _EXCESSES_MIN or excess.max() <= 0:
        return float(y.max())
    if ratio >= 1:
        return start
    shape, scale = gpd_fit(excess)
    away = -np.log(ratio) if abs(shape) < 1e-6 else (ratio**-shape - 1.0) / shape
    return start + scale * float(away)


def gpd_fit(excess: F64) -> tuple[float, float]:
    """Shape and scale of the generalised Pareto law most likely for `excess[n]`, all > 0.

    For each shape of a grid, the scale is the root of the likelihood's derivative; bisection finds it for all at once.
    """
    shape = np.where(np.abs(_SHAPES) < 1e-6, 1e-6, _SHAPES)
    # With shape < 0 the law ends at -scale/shape, which must lie beyond the data.
    low = np.maximum(1e-9, -shape * excess.max() * (1 + 1e-9)) * np.ones_like(shape)
    high = np.full_like(shape, 100.0 * excess.max())
    for _ in range(80):
        scale = np.sqrt(low * high)
        z = excess[:, None] / scale
        slope = -len(excess) + (1 + shape) * (z / (1 + shape * z)).sum(axis=0)  # of the log likelihood, by ln scale
        low, high = np.where(slope > 0, scale, low), np.where(slope > 0, high, scale)
    scale = np.sqrt(low * high)
    likelihood = -len(excess) * np.log(scale) - (1 + 1 / shape) * np.log1p(shape * excess[:, None] / scale).sum(axis=0)
    best = int(np.argmax(likelihood))
    return float(_SHAPES[best]), float(scale[best])


def fbeta_limit(score: F64, incident: Bool, beta: float = 0.1) -> float:
    """Threshold on `score[n]` with the greatest F_beta against `incident[n]` (Malhotra et al. 2016; beta < 1).

    A row is found where its score exceeds the threshold. Of equals, the highest.
    """
    order = np.argsort(-score, kind="stable")
    hit, ranked = incident[order], score[order]
    last = np.flatnonzero(np.r_[ranked[1:] != ranked[:-1], True])
    true = np.cumsum(hit)[last]
    found = (1 + beta**2) * true / (beta**2 * max(int(incident.sum()), 1) + last + 1)
    best = int(np.argmax(found))
    below = ranked[last[best] + 1] if last[best] + 1 < len(ranked) else ranked[-1] - 1.0
    return float(0.5 * (ranked[last[best]] + below))


def widest(limit: Limit, scores: Sequence[F64], per_row: float) -> float:
    """`limit_above` of the group: the widest of its streams, at least a clearance."""
    return max(OFFSET_MIN, *(limit_above(limit, y, per_row) for y in scores))
