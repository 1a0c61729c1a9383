"""The threshold: 1.0 as calibrated, and above it where a stream's own normal has drifted.

Each stream keeps slow averages of its score and of the score's deviation, starting from the calibrated normal, and its
threshold is their prediction bound, mean + k deviation, where that is higher than the calibrated one. It never falls
below that and never rises above `ceiling`, so slow drift is followed and a slow fault is not followed for ever. A
score above the threshold teaches nothing, so a fault cannot make itself normal.

A lasting change of level must not alarm for ever: exceeding scores feed a second, candidate average, and when every
score of the last `rebaseline_s` seconds of event time exceeded, the candidate becomes the stream's normal, even above
the ceiling.

A budget of false alarms moves the starting point: exceedances over a high score were found in training to fall off
exponentially (Pickands 1975; Siffer et al. 2017 with gamma = 0, the cautious choice for bounded errors), so the
threshold for another rate lies `tail_scale` x ln(ratio of rates) away.

The calibration is the same mapping as in `core.score`, of which this reads `normal_mean`, `normal_deviation`,
`half_life_windows`, `ceiling`, `rebaseline_s`, `tail_scale`, `budget_per_s`.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from streamae.core.types import F64, I32

__all__ = ["Threshold", "base_threshold"]

_DEVIATIONS = 8.0  # mean absolute deviations, about 6 standard deviations


def base_threshold(calibration: Mapping[str, Any], false_alarms_per_s: float | None) -> float:
    """Score that is exceeded by chance `false_alarms_per_s` times a second and stream; None: as calibrated, 1.0."""
    if false_alarms_per_s is None:
        return 1.0
    moved = float(calibration["tail_scale"]) * np.log(float(calibration["budget_per_s"]) / false_alarms_per_s)
    return float(max(1.0 + moved, calibration["normal_mean"] + 2 * calibration["normal_deviation"]))


class Threshold:
    """Thresholds of a group's streams; a call may name a stream once only. Deterministic, vectorised over streams."""

    def __init__(self, calibration: Mapping[str, Any], false_alarms_per_s: float | None = None) -> None:
        self._base = base_threshold(calibration, false_alarms_per_s)
        self._mean0 = float(calibration["normal_mean"])
        self._deviation0 = float(calibration["normal_deviation"])
        self._k = min((self._base - self._mean0) / self._deviation0, _DEVIATIONS)
        self._weight = 1.0 - 0.5 ** (1.0 / float(calibration["half_life_windows"]))
        self._ceiling = max(float(calibration["ceiling"]), self._base)
        self._rebaseline_s = float(calibration["rebaseline_s"])
        self._fields: dict[str, tuple[float, F64]] = {
            "mean": (self._mean0, np.zeros(0)),
            "deviation": (self._deviation0, np.zeros(0)),
            "candidate": (np.nan, np.zeros(0)),
            "since_s": (np.nan, np.zeros(0)),
            "base": (0.0, np.zeros(0)),
        }
        self._state = {name: array for name, (_, array) in self._fields.items()}

    def grow(self, capacity: int) -> None:
        """Make room for streams 0..capacity-1."""
        for name, (start, _) in self._fields.items():
            more = capacity - len(self._state[name])
            if more > 0:
                self._state[name] = np.concatenate([self._state[name], np.full(more, start)])

    def begin(self, stream_id: int, known: Mapping[str, Any] | None) -> None:
        """Start a stream at the calibrated threshold."""
        for name, (start, _) in self._fields.items():
            self._state[name][stream_id] = start

    def step(self, stream: I32, time_s: F64, score: F64) -> F64:
        """score[B] of distinct streams at time_s[B] -> threshold[B] that it is to be held against; NaN is skipped."""
        s = self._state
        threshold = self._current(stream)
        exceeds = score > threshold
        learns = np.isfinite(score) & ~exceeds
        self._follow(stream[learns], score[learns])
        over = stream[exceeds]
        began = np.isnan(s["since_s"][over])
        s["since_s"][over] = np.where(began, time_s[exceeds], s["since_s"][over])
        old = s["candidate"][over]
        s["candidate"][over] = np.where(began, score[exceeds], old + 4 * self._weight * (score[exceeds] - old))
        s["since_s"][stream[learns]] = np.nan
        lasting = time_s[exceeds] - s["since_s"][over] >= self._rebaseline_s
        self._rebaseline(over[lasting])
        return threshold

    def _current(self, stream: I32) -> F64:
        s = self._state
        bound = s["mean"][stream] + self._k * s["deviation"][stream]
        return np.clip(bound, self._base, np.maximum(self._ceiling, s["base"][stream]))

    def _follow(self, stream: I32, score: F64) -> None:
        s, w = self._state, self._weight
        away = score - s["mean"][stream]
        s["mean"][stream] += w * away
        s["deviation"][stream] += w * (np.abs(away) - s["deviation"][stream])

    def _rebaseline(self, stream: I32) -> None:
        """Take the level of the lasting exceedance for normal: its mean, and a deviation in proportion."""
        s = self._state
        ratio = np.maximum(s["candidate"][stream] / max(self._mean0, 1e-6), 1.0)
        s["mean"][stream] = s["candidate"][stream]
        s["deviation"][stream] = self._deviation0 * np.minimum(ratio, s["candidate"][stream] / self._base + 1.0)
        s["base"][stream] = s["mean"][stream] + self._k * s["deviation"][stream]
        s["since_s"][stream] = np.nan

    def state(self) -> dict[str, np.ndarray]:
        """Everything that `restore` needs, as arrays."""
        return {name: array.copy() for name, array in self._state.items()}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Continue where `state` was taken."""
        self._state = {name: state[name].copy() for name in self._fields}
