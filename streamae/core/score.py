"""The score: error features of a window -> one number, of which 1.0 is the calibrated threshold.

Features are squared errors of several kinds; `weight` puts each in units of its stream's own normal, so that about 1
is the top 2 % of normal. Features of one `group` add up, and the groups are combined as their root mean square:
groups that measure one thing in several ways are averaged, and a single one that is far out still carries. The
logarithm is smoothed over rows (half weight on the newest), and counted from `zero`, where training put the
threshold. Under a backlog fewer windows are scored, further apart; the average of the same number of them then varies
no more than before, so that the false alarms of a day do not rise.

    s = sqrt(mean over groups of (sum of weight x error)²)      y += smoothing (ln s - y)      score = exp(y - zero)

With kind "mahalanobis" s is sqrt(z' P z / E) instead, z the excess of weight x error over `center` in units of
`spread` (one-sided, since an unusually good fit is no anomaly), P the inverse of its shrunk correlation
(Malhotra et al. 2016).

`weight` and `zero` come with the model for streams that it was trained on. Any other stream learns how its features
compare to the group's from its first `learn_windows` windows (score NaN meanwhile), as geometric means, which a few bad
windows do not move, never below `level_floor`; its threshold is the one that training measured for streams that
it did not see (`cold_zero`).

The numbers are those of `core.calibration`.
"""

from collections.abc import Mapping

import numpy as np

from streamae.core.arrays import grown, without
from streamae.core.calibration import Calibration, StreamCalibration
from streamae.core.types import F32, F64, I32, Bool, round_score

__all__ = ["Scoring", "channel_shares", "excess", "group_score", "mahalanobis"]

_TINY = 1e-12
_SCORE_MIN = 1e-6  # so that a perfect fit has a logarithm


def excess(units: F64, center: F64, spread: F64) -> F64:
    """One-sided standardised errors, [B, E] -> [B, E], all >= 0."""
    above: F64 = np.maximum((units - center) / spread, 0.0)
    return above


def _times(z: F64, precision: F64) -> F64:
    """Z P, summed feature by feature: BLAS would sum in an order that depends on how many windows there are."""
    out = np.zeros_like(z)
    for e in range(z.shape[1]):
        out += z[:, e : e + 1] * precision[e]
    return out


def mahalanobis(z: F64, precision: F64) -> tuple[F64, F64]:
    """Combine excesses [B, E] -> sqrt(z' P z / E) [B], and each feature's part in its square [B, E]."""
    part = z * _times(z, precision)
    combined: F64 = np.sqrt(np.maximum(part.sum(axis=1), 0.0) / z.shape[1])
    return combined, np.maximum(part, 0.0)


def group_score(units: F64, group: I32, groups: int) -> tuple[F64, F64]:
    """Combine weighted errors [B, E] -> root mean square over groups of their sums [B], and each feature's part."""
    sums = np.zeros((len(units), groups))
    for e in range(units.shape[1]):
        sums[:, group[e]] += units[:, e]
    combined: F64 = np.sqrt(np.mean(sums * sums, axis=1))
    return combined, units * sums[:, group]


def channel_shares(part: F64, errors: F64, channel: I32, channels: int) -> F32:
    """Each channel's part in a score, [B, C], summing to 1; where nothing exceeds, its part in the errors."""
    if channels == 1:
        return np.ones((len(part), 1), np.float32)
    part = np.where(np.sum(part, axis=1, keepdims=True) > 0, part, errors)
    share = np.zeros((len(part), channels))
    for e in np.flatnonzero(channel >= 0):
        share[:, channel[e]] += part[:, e]
    total = np.sum(share, axis=1, keepdims=True)
    owned = np.bincount(channel[channel >= 0], minlength=channels) > 0
    shares = np.where(total > _TINY, share / np.maximum(total, _TINY), owned / max(owned.sum(), 1))
    narrow: F32 = shares.astype(np.float32)
    return narrow


class Scoring:
    """Scores of a group's streams; per-stream state in arrays indexed by stream number.

    A call may name a stream once only (`core.arrays.rounds`). Deterministic, and independent of how windows were
    grouped into calls.
    """

    def __init__(self, calibration: Calibration, channels: int) -> None:
        self._channel = calibration.channel.astype(np.int32)
        self._channels = channels
        self._group = calibration.group.astype(np.int32)
        self._groups = int(self._group.max()) + 1
        self._weight0 = calibration.weight
        self._level0 = np.maximum(calibration.level, _TINY)
        self._zero0, self._cold0 = calibration.zero, calibration.cold_zero
        self._learn = calibration.learn_windows
        self._floor = calibration.level_floor
        self._smoothing = calibration.smoothing
        self._distance = (calibration.center, calibration.spread, calibration.precision)
        features = len(self._channel)
        self._state: dict[str, np.ndarray] = {
            "weight": np.ones((0, features)),
            "learnt": np.zeros((0, features)),  # sum of ln(error / group's level) so far
            "zero": np.zeros(0),
            "smooth": np.zeros(0),  # y; NaN before the first scored window
            "left": np.zeros(0, np.int32),
        }

    def grow(self, capacity: int) -> None:
        """Make room for streams 0..capacity-1."""
        fill = {"weight": 1.0, "learnt": 0.0, "zero": self._cold0, "smooth": np.nan, "left": self._learn}
        for name, array in self._state.items():
            self._state[name] = grown(array, capacity, fill[name])

    def begin(self, stream_id: int, known: StreamCalibration | None) -> None:
        """Start a stream: with its own numbers if the model was trained on it, else it learns them."""
        s = self._state
        s["smooth"][stream_id], s["learnt"][stream_id] = np.nan, 0.0
        if known is not None:
            s["weight"][stream_id], s["zero"][stream_id] = known.weight, known.zero
            s["left"][stream_id] = 0
        else:
            s["weight"][stream_id], s["zero"][stream_id] = self._weight0, self._cold0
            s["left"][stream_id] = self._learn

    @property
    def learn_windows(self) -> int:
        """Windows from which a stream that the model does not know learns its level."""
        return self._learn

    def remaining(self, stream: I32) -> I32:
        """Windows that each of the streams still learns from before it is scored."""
        left: I32 = self._state["left"][stream]
        return left

    def above(self, streams: int) -> F64:
        """Return how far the limit, 1.0, of the first S streams lies above the group's, `[S]` in logarithms."""
        found: F64 = self._state["zero"][:streams] - self._zero0
        return found

    def judged(self, streams: int) -> Bool:
        """Return which of the first S streams have ever had a score, `[S]`."""
        known: Bool = ~np.isnan(self._state["smooth"][:streams])
        return known

    def step(self, stream: I32, errors: F32, maintenance: Bool | None = None) -> tuple[F64, F32]:
        """errors[B, E] of distinct streams -> score[B] (NaN while a stream learns its level), share[B, C].

        Where `maintenance[B]` is set, nothing is learnt.
        """
        wide, s = errors.astype(np.float64), self._state
        learning = s["left"][stream] > 0
        units = wide * s["weight"][stream]
        raw, part = self._combined(units)
        if learning.any():
            taught = learning if maintenance is None else learning & ~maintenance
            self._learn_from(stream[taught], wide[taught])
        y = self._smooth(stream[~learning], np.log(np.maximum(raw[~learning], _SCORE_MIN)))
        score = np.full(len(stream), np.nan)
        score[~learning] = round_score(np.exp(y - s["zero"][stream[~learning]]))
        return score, channel_shares(part, units, self._channel, self._channels)

    def _combined(self, units: F64) -> tuple[F64, F64]:
        center, spread, precision = self._distance
        if center is not None and spread is not None and precision is not None:
            return mahalanobis(excess(units, center, spread), precision)
        return group_score(units, self._group, self._groups)

    def _smooth(self, stream: I32, value: F64) -> F64:
        """Add one logarithm to each stream's average, and return it."""
        old = self._state["smooth"][stream]
        new: F64 = np.where(np.isnan(old), value, old + self._smoothing * (value - old))
        self._state["smooth"][stream] = new
        return new

    def _learn_from(self, stream: I32, errors: F64) -> None:
        """Add one window to each stream's mean log ratio; after the last, divide its weights by what was learnt."""
        s = self._state
        s["learnt"][stream] += np.log(np.maximum(errors / self._level0, _TINY))
        s["left"][stream] -= 1
        done = stream[s["left"][stream] == 0]
        s["weight"][done] = self._weight0 / np.maximum(np.exp(s["learnt"][done] / self._learn), self._floor)

    def drop(self, stream: int) -> None:
        """Forget a stream; the last one takes its number."""
        self._state = {name: without(array, stream) for name, array in self._state.items()}

    def state(self) -> dict[str, np.ndarray]:
        """Everything that `restore` needs, as arrays."""
        return {name: array.copy() for name, array in self._state.items()}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Continue where `state` was taken."""
        self._state = {name: state[name].copy() for name in self._state}
