"""The threshold: 1.0 as calibrated, then adjusted so that the false alarms keep to their budget.

In logarithms, per stream: `mean` follows the score slowly (half-life a quarter of the training rows, at least 500
windows), `offset` is the distance that training found between the mean and what normal reaches, and `theta` is learnt
from the alarms themselves, as in stochastic approximation (Robbins and Monro 1951): every onset of an alarm raises it
by `step`, and time without alarm lowers it so that onsets at the budgeted rate balance. For any distribution of the
score, the long-run rate of onsets tends to the budget, and the threshold follows normal drift.

    threshold = mean + offset + theta          while it is exceeded: + ln hysteresis, so a noisy score is one alarm

A slow fault never reaches that: normal has short moments (a change of mode) that are higher. So the score's averages
over longer times (exponential, half-lives `averages` in windows) are held to limits of their own, which are closer,
since averages stray less; they move with theta in the same proportion:

    average_h > mean + average_offset_h (1 + theta / offset)     ->  threshold = score / (average_h over its limit)

An average takes a score that is above the threshold as if it stood no higher than the average's own limit: that alarm
is the score's, and when the score is normal again, no average holds it on. `holding` says which limit holds an alarm.

Only averages that training saw 64 half-lives of, in a time that the budget counts, have limits; in less, normal and
fault look the same. A stream that training did not see has its mean as a running mean first, and each average once it
has run so long itself.

A fault must remain visible: a score above the threshold moves the mean as if it had stood at the threshold, so it can
teach a bounded amount a row. A lasting change of level therefore stops alarming after some half-lives, the sooner the
smaller it is; a fault that outgrows that pace stays an alarm. `theta` is bounded below, so that the threshold never
sinks into the normal score.

Time is what counts, not windows: under a backlog, where only every k-th window is scored (`rows=k`), the mean and the
averages move by what k windows would have moved them, and theta sinks by the clock of the samples anyway.

An alarm that people confirm as real has taught nothing: `confirm` puts mean and theta back to where they were before
it, and they stay there while it lasts.

In maintenance nothing moves: mean, averages and theta stay as they are, an onset raises nothing, and the time does
not count towards the budget.

The numbers are those of `core.calibration`; a stream known from training brings its own `offset`.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from streamae.core.arrays import grown, without
from streamae.core.calibration import Calibration, StreamCalibration
from streamae.core.types import F64, I8, I32, Bool, round_score

__all__ = ["Holding", "Threshold"]

_STEP = 0.35  # what an onset adds to theta
_BALANCE = 1.5  # time without alarm takes back more than budgeted onsets add: false alarms come in bursts
_HYSTERESIS = 0.7
_CLEARANCE = 0.2  # of the threshold above the mean score, at least
_IDLE_MAX_S = 3600.0  # silence counts as time without alarm up to here
_FIRST_WINDOWS = 721.0  # a new stream's mean starts as if it had seen so many: half-life 500
_SETTLED = 64.0  # half-lives of an average before its limit holds for a new stream
_KNOWN = 1e12
_NONE, _SCORE, _AVERAGES = 0, 1, 2  # what holds an alarm: nothing, the score, and from here on the averages
_UNHELD = {
    "by": _NONE, "by_s": np.nan, "over": np.nan,
    "high_s": -np.inf, "mean_before": np.nan, "theta_before": np.nan, "real": False,
}  # fmt: skip


class Holding(NamedTuple):
    """Which limit a stream is beyond since the event time `since_s`, and how far: 1.5 is half as much again.

    `windows` is the half-life of the average that it is, 0 the score itself; `left` are the windows until that average
    is back within its limit, if the scores are as usual from now on.
    """

    windows: int
    over: float
    since_s: float
    left: float


class Threshold:
    """Thresholds of a group's streams; a call may name a stream once only. Deterministic, vectorised over streams."""

    def __init__(
        self, calibration: Calibration, false_alarms_per_s: float | None = None, keep_firing_for_s: float = 60.0
    ) -> None:
        self._keep_s = keep_firing_for_s  # for so long after it was exceeded an alarm goes on
        rate = calibration.budget_per_s if false_alarms_per_s is None else false_alarms_per_s
        self._sink_per_s = _BALANCE * _STEP * rate
        self._half_life = calibration.half_life_windows
        self._cold = calibration.cold_offset
        self._half_lives: F64 = calibration.averages.astype(np.float64)
        self._limits: F64 = calibration.average_offsets
        self._own: F64 = np.zeros(0)  # of the last window, for people
        self._state: dict[str, np.ndarray] = {
            "mean": np.zeros(0),
            "offset": np.zeros(0),
            "theta": np.zeros(0),
            "on": np.zeros(0, np.bool_),
            "last_s": np.zeros(0),
            "average": np.zeros((0, len(self._half_lives))),
            "seen": np.zeros(0),
            "by": np.zeros(0, np.int8),
            "by_s": np.zeros(0),
            "over": np.zeros(0),
            "high_s": np.zeros(0),
            "mean_before": np.zeros(0),
            "theta_before": np.zeros(0),
            "real": np.zeros(0, np.bool_),
        }

    def grow(self, capacity: int) -> None:
        """Make room for streams 0..capacity-1."""
        fill = self._start(self._cold, 0.0)
        self._own = grown(self._own, capacity, np.nan)
        for name, array in self._state.items():
            self._state[name] = grown(array, capacity, fill[name])

    def begin(self, stream_id: int, known: StreamCalibration | None) -> None:
        """Start a stream at the calibrated threshold, 1.0."""
        start = self._start(self._cold, 0.0) if known is None else self._start(known.offset, _KNOWN)
        for name, value in start.items():
            self._state[name][stream_id] = value

    @staticmethod
    def _start(offset: float, seen: float) -> dict[str, float]:
        level = {"mean": -offset, "offset": offset, "average": -offset}
        return level | {"theta": 0.0, "on": False, "last_s": np.nan, "seen": seen, **_UNHELD}

    def step(self, stream: I32, time_s: F64, score: F64, rows: int = 1, maintenance: Bool | None = None) -> F64:
        """score[B] of distinct streams at time_s[B] -> threshold[B] to compare it with; NaN is skipped.

        Each score stands for `rows` windows; where `maintenance[B]` is set, nothing is learnt.
        """
        s, known = self._state, np.isfinite(score)
        margin = s["theta"][stream] + np.where(s["on"][stream], np.log(_HYSTERESIS), 0.0)
        limit = s["mean"][stream] + s["offset"][stream] + margin
        value, moves = np.log(score[known]), known[known] if maintenance is None else ~maintenance[known]
        own = limit[known]
        beyond, average = self._beyond(stream[known], value, (own, margin[known]), moves, rows)
        limit[known] = np.minimum(own, value - beyond)
        threshold = round_score(np.exp(limit))
        self._own[stream] = threshold
        if (lower := limit[known] < own).any():
            self._own[stream[known][lower]] = round_score(np.exp(own[lower]))
        exceeds = (score > threshold)[known]
        by = np.where(exceeds, np.where(value > own, _SCORE, _AVERAGES + average), _NONE).astype(np.int8)
        self._hold(stream[known], time_s[known], by, np.where(by == _SCORE, value - own, beyond))
        self._follow(stream[known], time_s[known], value, limit[known], exceeds, moves, rows)
        return threshold

    def _beyond(self, stream: I32, value: F64, at: tuple[F64, F64], moves: Bool, rows: int) -> tuple[F64, I8]:
        """Add a logarithmic score to each stream's averages; returns how far one is beyond its limit, and which.

        `at` are the limit of the score itself and the margin; where no average is beyond its limit, -inf.
        """
        s, beyond, which = self._state, np.full(len(stream), -np.inf), np.zeros(len(stream), np.int8)
        own, margin = at
        for h, gain in enumerate(1.0 - 0.5 ** (rows / self._half_lives)):
            limit = s["mean"][stream] + self._limits[h] * (1.0 + margin / s["offset"][stream])
            taken = np.where(value > own, np.minimum(value, limit), value)
            average = s["average"][stream, h] + gain * moves * (taken - s["average"][stream, h])
            s["average"][stream, h] = average
            over = (average > limit) & (s["seen"][stream] >= _SETTLED * self._half_lives[h])
            further = over & (average - limit > beyond)
            beyond, which = np.where(further, average - limit, beyond), np.where(further, np.int8(h), which)
        return beyond, which

    def _hold(self, stream: I32, time_s: F64, by: I8, over: F64) -> None:
        """Note what each stream's score or average is beyond, and since when."""
        s = self._state
        s["by_s"][stream] = np.where(by == s["by"][stream], s["by_s"][stream], time_s)
        s["by"][stream], s["over"][stream] = by, over

    def own(self, stream: I32) -> F64:
        """Return the threshold of the score itself at these streams' last windows, whatever their averages do."""
        own: F64 = self._own[stream]
        return own

    def judged_s(self, streams: int) -> F64:
        """Return the event time of the last score of each of the first streams, NaN before it: `[S]`."""
        last_s: F64 = self._state["last_s"][:streams]
        return last_s

    def holding(self, stream: int) -> Holding | None:
        """Return what a stream's last window was beyond; None for nothing."""
        s = {name: array[stream] for name, array in self._state.items()}
        if s["by"] == _NONE:
            return None
        over, since_s = float(np.exp(s["over"])), float(s["by_s"])
        if s["by"] == _SCORE:
            return Holding(0, over, since_s, 0.0)
        h = int(s["by"]) - _AVERAGES
        above = max(float(s["average"][h] - s["mean"]), 1e-9)
        left = float(self._half_lives[h] * np.log2(above / max(above - float(s["over"]), 1e-9)))
        return Holding(int(self._half_lives[h]), over, since_s, left)

    def _follow(self, stream: I32, time_s: F64, value: F64, limit: F64, exceeds: Bool, learns: Bool, rows: int) -> None:
        """Take one logarithmic score of each stream, and learn from it where it `learns`."""
        s = self._state
        was_on, last_s = s["on"][stream], s["last_s"][stream]
        if exceeds.any() or s["real"][stream].any():
            self._remember(stream, time_s, exceeds)
            learns = learns & ~s["real"][stream]
        idle_s = np.where(np.isnan(last_s), 0.0, np.clip(time_s - last_s, 0.0, _IDLE_MAX_S))
        sunk = np.maximum(s["theta"][stream] - self._sink_per_s * idle_s, _CLEARANCE - s["offset"][stream])
        raised = s["theta"][stream] + np.where(was_on, 0.0, _STEP)
        s["theta"][stream] = np.where(learns, np.where(exceeds, raised, sunk), s["theta"][stream])
        weight = np.maximum(1.0 - 0.5 ** (rows / self._half_life), rows / (s["seen"][stream] + _FIRST_WINDOWS)) * learns
        s["mean"][stream] += weight * (np.where(exceeds, np.minimum(value, limit), value) - s["mean"][stream])
        s["on"][stream], s["last_s"][stream] = exceeds, time_s
        s["seen"][stream] += rows * learns

    def _remember(self, stream: I32, time_s: F64, exceeds: Bool) -> None:
        """Keep mean and theta as they are before an alarm, and forget after it that it was confirmed."""
        s = self._state
        lasts = np.abs(time_s - s["high_s"][stream]) < self._keep_s
        begins = stream[exceeds & ~s["on"][stream] & ~lasts]
        s["mean_before"][begins], s["theta_before"][begins] = s["mean"][begins], s["theta"][begins]
        s["real"][stream] &= exceeds | lasts
        s["high_s"][stream[exceeds]] = time_s[exceeds]

    def confirm(self, stream: int) -> None:
        """Take back what the last alarm of a stream has taught, and learn no more from it: the fault was real."""
        s = self._state
        if np.isnan(s["mean_before"][stream]):
            return
        s["mean"][stream], s["theta"][stream] = s["mean_before"][stream], s["theta_before"][stream]
        s["real"][stream] = s["on"][stream]

    def hold(self, stream: int) -> None:
        """Mark the threshold as exceeded: a stream whose alert goes on begins no second one."""
        self._state["on"][stream] = True

    def earlier(self, stream: int, time_s: float, onsets: int) -> dict[str, np.ndarray]:
        """Estimate what `state` had of one stream at an earlier time, since when so many alarms have begun.

        Theta is what these added and time took back, undone, though it starts at 0 and only alarms raise it. The mean
        is that of now, and the averages are left out.
        """
        now = {name: array[stream : stream + 1].copy() for name, array in self._state.items()}
        idle_s = np.maximum(np.nan_to_num(now["last_s"] - time_s), 0.0)
        theta = now["theta"] - onsets * _STEP + idle_s * self._sink_per_s
        low, high = _CLEARANCE - now["offset"], np.maximum(now["theta"], 0.0)
        then = {"theta": np.clip(theta, low, high), "on": np.zeros(1, np.bool_), "last_s": np.full(1, np.nan)}
        then |= {"by": np.zeros(1, np.int8), "by_s": np.full(1, np.nan), "real": np.zeros(1, np.bool_)}
        return {name: array for name, array in (now | then).items() if name != "average"}

    def drop(self, stream: int) -> None:
        """Forget a stream; the last one takes its number."""
        self._state = {name: without(array, stream) for name, array in self._state.items()}
        self._own = without(self._own, stream)

    def state(self) -> dict[str, np.ndarray]:
        """Everything that `restore` needs, as arrays."""
        return {name: array.copy() for name, array in self._state.items()}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Continue where `state` was taken; one of an older version has no averages yet, which begin at the mean."""
        kinds, streams = len(self._half_lives), len(state["mean"])
        begun = {"average": np.repeat(state["mean"][:, None], kinds, axis=1), "seen": np.zeros(streams)}
        begun |= {name: np.full(streams, value) for name, value in _UNHELD.items()}
        begun |= {"by": np.zeros(streams, np.int8), "real": np.zeros(streams, np.bool_)}
        self._state = {name: (begun | dict(state))[name].copy() for name in self._state}
        self._own = np.full(streams, np.nan)
