"""Verdict -> transition: the life of an alert, as in Prometheus.

    inactive --score > threshold--> pending --for_s--> firing --low for keep_firing_for_s--> inactive (resolved)

A pending alert that falls below its threshold, or whose score is not known (NaN), is forgotten. One that fires ends by
a score only, for what is not known is not healthy: if another model takes over, it goes on until that model can judge
the stream. The threshold itself is lower while it is exceeded (`core.threshold`), so that a score that moves around it
is one alert. Times are event times: an alert lives in the time of its stream, and a replay gives the same life; where
the stream's clock falls back, what is to last begins again. A firing alert is `warning`, or `critical` once its score
has reached `critical_ratio` times the threshold; it never steps down before it is resolved.
"""

from dataclasses import dataclass
from typing import Annotated

import numpy as np

from streamae.core.arrays import grown, without
from streamae.core.setting import Setting
from streamae.core.types import F64, I8, I32, I64, AlertState, State

__all__ = ["SEVERITIES", "AlertRule", "Alerts", "Changes"]

SEVERITIES = ("none", "warning", "critical")


@dataclass(frozen=True, slots=True)
class AlertRule:
    """When an anomalous score becomes an alert, as in Prometheus.

    Durations are in event time.
    """

    for_s: Annotated[float, Setting(ge=0)] = 0.0
    """How long the score must stay above its threshold first."""
    keep_firing_for_s: Annotated[float, Setting(ge=0)] = 60.0
    """How long the score must stay below before the alert resolves."""
    critical_ratio: Annotated[float, Setting(key="critical", gt=1)] = 2.0
    """Ratio of score to threshold from which an alert is critical, not a warning."""


@dataclass(frozen=True, slots=True, eq=False)
class Changes:
    """The alerts that fired, grew critical or resolved in one step: positions in the step's arrays, and the alert.

    `state[n]` is FIRING or INACTIVE (resolved), `severity[n]` an index of SEVERITIES, `sequence[n]` counts the
    transitions of an alert from 0, `onset_s[n]` is the event time of its first sample above the threshold, `peak[n]`
    the highest score since then.
    """

    position: I64
    state: I8
    severity: I8
    sequence: I32
    onset_s: F64
    peak: F64


class Alerts:
    """The alerts of all streams of a group, one rule: arrays `[S]`."""

    def __init__(self, rule: AlertRule) -> None:
        self.rule = rule
        self._state: I8 = np.zeros(0, np.int8)
        self._severity: I8 = np.zeros(0, np.int8)
        self._sequence: I32 = np.zeros(0, np.int32)
        self._onset_s: F64 = np.zeros(0)
        self._last_high_s: F64 = np.zeros(0)
        self._peak: F64 = np.zeros(0)

    def grow(self, streams: int) -> None:
        """Make room for at least this many streams."""
        self._state = grown(self._state, streams, AlertState.INACTIVE)
        self._severity = grown(self._severity, streams, 0)
        self._sequence = grown(self._sequence, streams, 0)
        self._onset_s = grown(self._onset_s, streams, 0)
        self._last_high_s = grown(self._last_high_s, streams, 0)
        self._peak = grown(self._peak, streams, np.nan)

    def step(self, stream: I32, time_s: F64, score: F64, threshold: F64) -> tuple[I8, Changes]:
        """Judge one window of each of some different streams; NaN scores are learning. Returns `state[B]`, changes."""
        high = score > threshold
        old = self._state[stream]
        if not (high.any() or old.any()):  # as nearly always: no alert is active, and none begins
            return np.where(np.isnan(score), _LEARNING, old), _NO_CHANGES
        begins = high & (old == AlertState.INACTIVE)
        waits = old == AlertState.PENDING
        onset_s = np.where(begins, time_s, self._onset_s[stream])
        onset_s = np.where(waits, np.minimum(onset_s, time_s), onset_s)  # the stream's clock may have fallen back
        peak = self._peak[stream]
        peak = np.where(begins, score, np.where(high | (old != AlertState.INACTIVE), np.fmax(score, peak), peak))
        last_high_s = np.where(high, time_s, np.minimum(self._last_high_s[stream], time_s))
        fires = high & (time_s - onset_s >= self.rule.for_s)
        unknown = np.isnan(score)
        stays = (old == AlertState.FIRING) & (high | unknown | (time_s - last_high_s < self.rule.keep_firing_for_s))
        firing, pending = fires | stays, high & ~fires & ~stays
        new = np.where(firing, AlertState.FIRING, np.where(pending, AlertState.PENDING, AlertState.INACTIVE))
        new = new.astype(np.int8)
        with np.errstate(invalid="ignore"):
            level = np.where(high & (score >= self.rule.critical_ratio * threshold), 2, 1)
        was = np.where(old == AlertState.FIRING, self._severity[stream], 0)
        severity = np.where(firing, np.maximum(level, was), 0).astype(np.int8)
        resolved = (old == AlertState.FIRING) & ~firing
        changed = np.flatnonzero((severity > was) | resolved)
        sequence = np.where(firing & (was == 0), 0, self._sequence[stream] + 1).astype(np.int32)
        reported = np.where(resolved, was, severity).astype(np.int8)
        self._state[stream], self._severity[stream] = new, severity
        self._onset_s[stream], self._last_high_s[stream], self._peak[stream] = onset_s, last_high_s, peak
        self._sequence[stream[changed]] = sequence[changed]
        shown = np.where(unknown & ~firing, _LEARNING, new).astype(np.int8)
        changes = new[changed], reported[changed], sequence[changed], onset_s[changed], peak[changed]
        return shown, Changes(changed, *changes)

    def firing(self, streams: int) -> I64:
        """Return which of the first S streams have a firing alert."""
        return np.flatnonzero(self._state[:streams] == AlertState.FIRING)

    def standing(self, streams: int) -> I8:
        """Return the state of the alert of each of the first S streams, `[S]`."""
        return self._state[:streams].copy()

    def severities(self, streams: int) -> I8:
        """Return the severity of each stream's alert while it fires, `[S]`: an index of SEVERITIES, 0 for none."""
        return self._severity[:streams].copy()

    def hold(self, stream: int, severity: str, sequence: int, times_s: tuple[float, float], peak: float) -> None:
        """Continue an alert that fires: `times_s` are those of its onset and of the last sample that counts as high.

        `sequence` is that of its last transition.
        """
        self._state[stream], self._severity[stream] = AlertState.FIRING, SEVERITIES.index(severity)
        self._sequence[stream], self._peak[stream] = sequence, peak
        self._onset_s[stream], self._last_high_s[stream] = times_s

    def end(self, stream: int) -> tuple[str, int, float, float] | None:
        """Forget the alert of a stream: of one that fires, its severity, sequence of its end, onset and peak."""
        fired = self._state[stream] == AlertState.FIRING
        said = SEVERITIES[self._severity[stream]], int(self._sequence[stream]) + 1
        last = (*said, float(self._onset_s[stream]), float(self._peak[stream]))
        self._state[stream], self._severity[stream], self._sequence[stream] = AlertState.INACTIVE, 0, 0
        self._onset_s[stream], self._last_high_s[stream], self._peak[stream] = 0.0, 0.0, np.nan
        return last if fired else None

    def drop(self, stream: int) -> None:
        """Forget a stream; the last one takes its number."""
        for name in _KEPT:
            setattr(self, f"_{name}", without(getattr(self, f"_{name}"), stream))

    def onset_s(self, stream: I64) -> F64:
        """Return the event time of the onset of these streams' alerts."""
        return self._onset_s[stream]

    def peaks(self, streams: int) -> F64:
        """Return the highest score since the onset of each stream's alert, `[S]`; NaN where there has been none."""
        return self._peak[:streams].copy()

    def state(self, streams: int) -> State:
        """Return what a snapshot keeps of the first S streams."""
        return {name: getattr(self, f"_{name}")[:streams].copy() for name in _KEPT}

    def restore(self, state: State) -> None:
        """Take over what `state` returned."""
        streams = len(state["state"])
        self.grow(streams)
        for name in _KEPT:
            if name in state:  # a snapshot of an earlier release has no peaks: they start again
                getattr(self, f"_{name}")[:streams] = state[name]


_LEARNING = np.int8(AlertState.LEARNING)
_NONE = np.zeros(0, np.int64)
_NO_CHANGES = Changes(
    _NONE, _NONE.astype(np.int8), _NONE.astype(np.int8), _NONE.astype(np.int32), np.zeros(0), np.zeros(0)
)
_KEPT = ("state", "severity", "sequence", "onset_s", "last_high_s", "peak")
