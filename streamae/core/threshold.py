"""The threshold: 1.0 as calibrated, and from there on wherever it must be for the false alarms to keep to their budget.

In logarithms, per stream: `mean` follows the score slowly (half-life 500 windows), `offset` is the distance that
training found between the mean and what normal reaches, and `theta` is learnt from the alarms themselves, as in
stochastic approximation (Robbins and Monro 1951): every onset of an alarm raises it by `step`, and time without alarm
lowers it so that onsets at the budgeted rate balance. Whatever the score's distribution, the long-run rate of onsets
tends to the budget, and normal that drifts is followed.

    threshold = mean + offset + theta          while it is exceeded: + ln hysteresis, so a dithering score is one alarm

A fault must remain visible: a score above the threshold moves the mean as if it had stood at the threshold, so it can
teach a bounded amount a row. A lasting change of level therefore stops alarming after some half-lives, the sooner the
smaller it is; a fault that outgrows that pace stays an alarm. `theta` is bounded below, so that the threshold never
sinks into the normal score.

Time is what counts, not windows: under a backlog, where only every k-th window is scored (`rows=k`), the mean moves by
what k windows would have moved it, and theta sinks by the clock of the samples anyway.

The calibration is the same mapping as in `core.score`, of which this reads `offset`, `cold_offset`,
`half_life_windows`, `budget_per_s`; a stream known from training brings its own `offset`.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from streamae.core.types import F64, I32, Bool, round_score

__all__ = ["Threshold"]

_STEP = 0.35  # what an onset adds to theta
_BALANCE = 2.0  # time without alarm takes back twice what budgeted onsets add: false alarms come in bursts
_HYSTERESIS = 0.7
_CLEARANCE = 0.2  # of the threshold above the mean score, at least
_IDLE_MAX_S = 3600.0  # silence counts as time without alarm up to here


class Threshold:
    """Thresholds of a group's streams; a call may name a stream once only. Deterministic, vectorised over streams."""

    def __init__(self, calibration: Mapping[str, Any], false_alarms_per_s: float | None = None) -> None:
        rate = float(calibration["budget_per_s"]) if false_alarms_per_s is None else false_alarms_per_s
        self._sink_per_s = _BALANCE * _STEP * rate
        self._half_life = float(calibration["half_life_windows"])
        self._cold = float(calibration["cold_offset"])
        self._state: dict[str, np.ndarray] = {
            "mean": np.zeros(0),
            "offset": np.zeros(0),
            "theta": np.zeros(0),
            "on": np.zeros(0, np.bool_),
            "last_s": np.zeros(0),
        }

    def grow(self, capacity: int) -> None:
        """Make room for streams 0..capacity-1."""
        fill = {"mean": -self._cold, "offset": self._cold, "theta": 0.0, "on": False, "last_s": np.nan}
        for name, array in self._state.items():
            more = capacity - len(array)
            if more > 0:
                self._state[name] = np.concatenate([array, np.full(more, fill[name], array.dtype)])

    def begin(self, stream_id: int, known: Mapping[str, Any] | None) -> None:
        """Start a stream at the calibrated threshold, 1.0."""
        offset = self._cold if known is None else float(known["offset"])
        start = {"mean": -offset, "offset": offset, "theta": 0.0, "on": False, "last_s": np.nan}
        for name, value in start.items():
            self._state[name][stream_id] = value

    def step(self, stream: I32, time_s: F64, score: F64, rows: int = 1) -> F64:
        """score[B] of distinct streams at time_s[B] -> threshold[B] that it is to be held against; NaN is skipped.

        Each score stands for `rows` windows.
        """
        s = self._state
        limit = s["mean"][stream] + s["offset"][stream] + s["theta"][stream]
        limit += np.where(s["on"][stream], np.log(_HYSTERESIS), 0.0)
        threshold = round_score(np.exp(limit))
        known = np.isfinite(score)
        weight = 1.0 - 0.5 ** (rows / self._half_life)
        high = (score > threshold)[known]
        self._follow(stream[known], time_s[known], np.log(score[known]), limit[known], high, weight)
        return threshold

    def _follow(self, stream: I32, time_s: F64, value: F64, limit: F64, exceeds: Bool, weight: float) -> None:
        """Learn from one logarithmic score of each stream."""
        s = self._state
        was_on, last_s = s["on"][stream], s["last_s"][stream]
        idle_s = np.where(np.isnan(last_s), 0.0, np.clip(time_s - last_s, 0.0, _IDLE_MAX_S))
        sunk = np.maximum(s["theta"][stream] - self._sink_per_s * idle_s, _CLEARANCE - s["offset"][stream])
        raised = s["theta"][stream] + np.where(was_on, 0.0, _STEP)
        s["theta"][stream] = np.where(exceeds, raised, sunk)
        s["mean"][stream] += weight * (np.where(exceeds, np.minimum(value, limit), value) - s["mean"][stream])
        s["on"][stream], s["last_s"][stream] = exceeds, time_s

    def state(self) -> dict[str, np.ndarray]:
        """Everything that `restore` needs, as arrays."""
        return {name: array.copy() for name, array in self._state.items()}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Continue where `state` was taken."""
        self._state = {name: state[name].copy() for name in self._state}
