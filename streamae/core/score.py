"""The score: error features of a window -> one number, of which 1.0 is the calibrated threshold.

Each feature is put in units of how it strays on rows that the network was not trained on, (e / level - center) /
spread; what is below zero counts as zero, since an unusually good fit is no anomaly. The excesses z are combined as
sqrt(z' P z / E) with P the inverse of their shrunk correlation (Malhotra et al. 2016, with the inverse and one-sided),
or P = 1, and divided by the value that training found to be the threshold.

`level` is what distinguishes the streams of a group. It comes with the model for the streams that it was trained on.
Any other stream learns it from its first `learn_windows` windows (score NaN meanwhile) as its mean error in units of
the group's, never below `level_floor`, and stays under the wider margin `cold_margin` that training measured for
streams whose scale was learnt in passing.

The calibration is a mapping of plain JSON values:
    kind "mahalanobis" | "mean", channel[E] (-1: of none), center[E], spread[E], precision[E][E] (mahalanobis),
    threshold (raw score that becomes 1.0), learn_windows, level_floor, cold_margin.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from streamae.core.types import F32, F64, I32

__all__ = ["Scoring", "channel_shares", "excess", "raw_score", "round_score"]

_TINY = 1e-12


def round_score(score: F64) -> F64:
    """Round to 6 significant digits, so that float noise cannot flip a comparison; NaN stays NaN."""
    with np.errstate(divide="ignore", invalid="ignore"):
        digits = 5 - np.floor(np.log10(np.abs(score)))
    scale = np.power(10.0, np.where(np.isfinite(digits), np.clip(digits, -290, 290), 0))
    rounded: F64 = np.where(np.isfinite(score), np.round(score * scale) / scale, score)
    return rounded


def excess(errors: F64, center: F64, spread: F64) -> F64:
    """One-sided standardised errors, [B, E] -> [B, E], all >= 0."""
    above: F64 = np.maximum((errors - center) / spread, 0.0)
    return above


def _times(z: F64, precision: F64) -> F64:
    """Z P, summed feature by feature: BLAS would sum in an order that depends on how many windows there are."""
    out = np.zeros_like(z)
    for e in range(z.shape[1]):
        out += z[:, e : e + 1] * precision[e]
    return out


def raw_score(z: F64, precision: F64 | None) -> F64:
    """Combine excesses, [B, E] -> [B]: sqrt(z' P z / E)."""
    weighted = z if precision is None else _times(z, precision)
    combined: F64 = np.sqrt(np.maximum(np.sum(z * weighted, axis=1), 0.0) / z.shape[1])
    return combined


def channel_shares(z: F64, errors: F64, precision: F64 | None, channel: I32, channels: int) -> F32:
    """Each channel's part in a score, [B, C], summing to 1; where nothing exceeds, its part in the errors."""
    part = z * z if precision is None else np.maximum(z * _times(z, precision), 0.0)
    part = np.where(np.sum(part, axis=1, keepdims=True) > 0, part, errors)
    share = np.zeros((len(z), channels))
    for e in np.flatnonzero(channel >= 0):
        share[:, channel[e]] += part[:, e]
    total = np.sum(share, axis=1, keepdims=True)
    owned = np.bincount(channel[channel >= 0], minlength=channels) > 0
    shares = np.where(total > _TINY, share / np.maximum(total, _TINY), owned / max(owned.sum(), 1))
    narrow: F32 = shares.astype(np.float32)
    return narrow


class Scoring:
    """Scores of a group's streams; per-stream state in arrays indexed by stream number.

    A call may name a stream once only (`core.types.rounds`). Deterministic, and independent of how windows were
    grouped into calls.
    """

    def __init__(self, calibration: Mapping[str, Any], channels: int) -> None:
        self._channel = np.asarray(calibration["channel"], np.int32)
        self._channels = channels
        self._center = np.asarray(calibration["center"], np.float64)
        self._spread = np.asarray(calibration["spread"], np.float64)
        mahalanobis = calibration["kind"] == "mahalanobis"
        self._precision = np.asarray(calibration["precision"], np.float64) if mahalanobis else None
        self._threshold = float(calibration["threshold"])
        self._learn = int(calibration["learn_windows"])
        self._floor = float(calibration["level_floor"])
        self._cold_margin = float(calibration["cold_margin"])
        self._level = np.ones((0, len(self._center)))
        self._margin = np.ones(0)
        self._left = np.zeros(0, np.int32)

    def grow(self, capacity: int) -> None:
        """Make room for streams 0..capacity-1."""
        more = capacity - len(self._left)
        if more <= 0:
            return
        self._level = np.concatenate([self._level, np.zeros((more, self._level.shape[1]))])
        self._margin = np.concatenate([self._margin, np.ones(more)])
        self._left = np.concatenate([self._left, np.full(more, self._learn, np.int32)])

    def begin(self, stream_id: int, known: Mapping[str, Any] | None) -> None:
        """Start a stream: with the `level`[E] of a stream that the model was trained on, or with all to learn."""
        if known is not None:
            self._level[stream_id] = np.maximum(np.asarray(known["level"], np.float64), self._floor)
            self._margin[stream_id] = 1.0
            self._left[stream_id] = 0
        else:
            self._level[stream_id] = 0.0 if self._learn else 1.0
            self._margin[stream_id] = self._cold_margin
            self._left[stream_id] = self._learn

    def remaining(self, stream: I32) -> I32:
        """Windows that each of the streams still learns from before it is scored."""
        return self._left[stream]

    def step(self, stream: I32, errors: F32) -> tuple[F64, F32]:
        """errors[B, E] of distinct streams -> score[B] (NaN while a stream learns its level), share[B, C]."""
        wide = errors.astype(np.float64)
        learning = self._left[stream] > 0
        score, level = np.full(len(stream), np.nan), self._level[stream]
        if learning.any():
            self._learn_from(stream[learning], wide[learning])
            level = np.where(learning[:, None], 1.0, level)
        known = wide / level
        z = excess(known, self._center, self._spread)
        score = raw_score(z, self._precision) / (self._threshold * self._margin[stream])
        shares = channel_shares(z, known / self._center, self._precision, self._channel, self._channels)
        return round_score(np.where(learning, np.nan, score)), shares

    def _learn_from(self, stream: I32, errors: F64) -> None:
        """Add one window to each stream's mean error; at the last, turn the sum into its level."""
        self._level[stream] += errors / self._center
        self._left[stream] -= 1
        done = stream[self._left[stream] == 0]
        self._level[done] = np.maximum(self._level[done] / self._learn, self._floor)

    def state(self) -> dict[str, np.ndarray]:
        """Everything that `restore` needs, as arrays."""
        return {"level": self._level.copy(), "margin": self._margin.copy(), "left": self._left.copy()}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Continue where `state` was taken."""
        self._level, self._margin = state["level"].copy(), state["margin"].copy()
        self._left = state["left"].copy()
