"""The rules of `core.sensors.stage` for one sample at a time, plain and exact; and what was not heard in time.

A verdict that is open is an entry of `open`, under (stream, channel, rule); channel -1 is the whole stream, stream -1
the whole group.
"""

from typing import NamedTuple

import numpy as np

from streamae.core.arrays import grown, without
from streamae.core.sensors.state import AUTO, SLIP_S, SensorState
from streamae.core.types import I32, Bool, State

__all__ = ["RULES", "Finding", "SensorRules"]

RULES = ("stale", "stuck", "out_of_range")


class Finding(NamedTuple):
    """A verdict that began (`fires`) or ended; `score` and `threshold` in seconds, samples, or the channel's unit."""

    stream: int
    channel: int
    rule: str
    fires: bool
    onset_s: float
    time_s: float
    score: float
    threshold: float


class SensorRules:
    """The open verdicts on a group's sensors; `apart` where the channels of a stream arrive on their own."""

    def __init__(self, state_of_sensors: SensorState, *, apart: bool) -> None:
        self.state_of_sensors, self.rule, self.apart = state_of_sensors, state_of_sensors.rule, apart
        self.busy: Bool = np.zeros(0, np.bool_)  # streams with an open verdict
        self.open: dict[tuple[int, int, str], list[float]] = {}  # onset, time of the last sample that was bad

    def grow(self, streams: int) -> None:
        """Make room for at least this many streams."""
        self.busy = grown(self.busy, streams, fill=False)

    def end(self, stream: int, time_s: float) -> list[Finding]:
        """End all verdicts on a stream, at `time_s` or, if that is later, when the last bad sample came."""
        ended = [(key, self.open.pop(key)) for key in list(self.open) if key[0] == stream]
        self.busy[stream] = False
        return [Finding(*key, False, times_s[0], max(time_s, *times_s), 0.0, 0.0) for key, times_s in ended]

    def drop(self, stream: int) -> None:
        """Forget a stream that has no verdicts; the last one takes its number."""
        last = len(self.busy) - 1
        self.open = {(stream if s == last else s, c, rule): times_s for (s, c, rule), times_s in self.open.items()}
        self.busy = without(self.busy, stream)

    def walk(self, s: int, c: int, times_s: tuple[float, float], value: float, *, maintenance: bool) -> list[Finding]:
        """Take one sample; `times_s`: its own and the group's time; in `maintenance` it begins and teaches nothing."""
        v, (time_s, heard_s) = self.state_of_sensors, times_s
        gap_s = heard_s - float(v.heard_s[s, c])
        found = self._hear(s, c, time_s, heard_s, maintenance) if self.rule.stale_after_s is not None else []
        v.note_slip(s, c, time_s, gap_s)
        v.heard_s[s, c], v.event_s[s, c] = heard_s, time_s
        if maintenance and not self.busy[s]:
            return found
        found += self._compare(s, c, time_s, value, maintenance)
        found += self._bound(s, c, time_s, value, maintenance)
        return found

    def _hear(self, s: int, c: int, time_s: float, heard_s: float, maintenance: bool) -> list[Finding]:
        v, one = self.state_of_sensors, np.array([s], np.int32)
        limits_s, newest_s = v.stale_limits_s(one)[0], float(v.heard_s[s].max())
        limit_s, found = float(limits_s.min()), []
        gone, lost = (s, -1, "stale"), (s, c, "stale")
        if gone not in self.open and heard_s - newest_s > limit_s and not maintenance:
            onset_s = float(v.last_s(one).max())
            found.append(self._fire(s, -1, "stale", onset_s, onset_s + limit_s, limit_s))
        alone = self.apart and gone not in self.open and lost not in self.open and not maintenance
        if alone and newest_s > float(v.heard_s[s, c]) + float(limits_s[c]) > -np.inf:
            found.append(self._miss(s, c, float(limits_s[c])))
        for key in (gone, lost):
            if key in self.open:
                silent_s = heard_s - (newest_s if key is gone else float(v.heard_s[s, c]))
                found.append(self._end(key, time_s, silent_s, limit_s if key is gone else float(limits_s[c])))
        back = heard_s - newest_s > limit_s
        if not maintenance:
            # A stream that is back was missing with all of its channels, so no channel was missing by itself.
            learns = np.isfinite(v.heard_s[s]) if back else np.arange(len(v.low)) == c
            learns = learns & np.isfinite(v.heard_s[s])
            gaps_s = np.minimum(heard_s - v.heard_s[s], limits_s)
            v.gap_s[s] = np.where(learns, np.maximum(v.gap_s[s], gaps_s), v.gap_s[s])
            v.gaps[s, c] += learns[c]
        if back:
            v.excuse(one.astype(np.int64), heard_s)
        return found

    def _compare(self, s: int, c: int, time_s: float, value: float, maintenance: bool) -> list[Finding]:
        v = self.state_of_sensors
        key, found, run, limit = (s, c, "stuck"), [], int(v.run[s, c]), v.stuck_limit(s, c)
        if value == v.last[s, c]:
            run += 1
        else:
            if key in self.open:
                found.append(self._end(key, time_s, run, limit))
            v.longest[s, c] = max(int(v.longest[s, c]), min(run, limit))
            v.meet(s, c, value)
            v.changes[s, c] += 1
            v.run_from_s[s, c], run = time_s, 1
        v.last[s, c], v.run[s, c] = value, run
        v.seen[s, c] += 1
        lasts_s, after_s = time_s - float(v.run_from_s[s, c]), self.rule.stuck_after_s
        stuck = np.isfinite(limit) and run > 1 and (run > limit if after_s == AUTO else lasts_s >= (after_s or np.inf))
        if stuck and key not in self.open and not maintenance:
            found.append(self._fire(s, c, "stuck", float(v.run_from_s[s, c]), time_s, run if after_s else limit, run))
        return found

    def _bound(self, s: int, c: int, time_s: float, value: float, maintenance: bool) -> list[Finding]:
        v, key = self.state_of_sensors, (s, c, "out_of_range")
        low, high = float(v.low[c]), float(v.high[c])
        within, impossible = low <= value <= high, v.impossible
        sentinel = within and impossible.coded and bool(impossible.is_sentinel(np.array([c]), np.array([value]))[0])
        if sentinel:
            low, high = impossible.usual[c]
        bound = low if value < low else high
        if within and not sentinel:
            if key in self.open and self.open[key][1] - time_s > SLIP_S:  # its clock has fallen back
                self.open[key][1] = time_s
            if key in self.open and time_s - self.open[key][1] >= self.rule.keep_s:
                return [self._end(key, time_s, value, bound)]
        elif key in self.open:
            self.open[key][1] = time_s
        elif not maintenance and not (sentinel and int(v.run[s, c]) <= impossible.patience[c]):
            return [self._fire(s, c, "out_of_range", time_s, time_s, bound, value)]
        return []

    def _miss(self, s: int, c: int, limit_s: float) -> Finding:
        onset_s = float(self.state_of_sensors.last_s(np.array([s], np.int32))[0, c])
        return self._fire(s, c, "stale", onset_s, onset_s + limit_s, limit_s)

    def _fire(
        self, s: int, c: int, rule: str, onset_s: float, time_s: float, limit: float, score: float | None = None
    ) -> Finding:
        onset_s, time_s, limit = float(onset_s), float(time_s), float(limit)
        self.open[s, c, rule], self.busy[s] = [onset_s, time_s], True
        return Finding(s, c, rule, True, onset_s, time_s, limit if score is None else float(score), limit)

    def _end(self, key: tuple[int, int, str], time_s: float, score: float, limit: float) -> Finding:
        onset_s, last_s = self.open.pop(key)
        self.busy[key[0]] = any(
            (key[0], c, rule) in self.open for c in range(-1, len(self.state_of_sensors.low)) for rule in RULES
        )
        limit = limit if np.isfinite(limit) else score
        return Finding(*key, False, onset_s, max(time_s, last_s), float(score), float(limit))

    def missing_streams(self, alive_s: float) -> tuple[list[Finding], float]:
        """Return the streams that are stale now, and when the next of the others could be."""
        v = self.state_of_sensors
        newest_s = v.heard_s.max(axis=1, initial=-np.inf)
        S = np.flatnonzero(np.isfinite(newest_s)).astype(np.int32)
        limit_s = v.stale_limit_s(S)
        due_s = newest_s[S] + limit_s
        known = self.busy[S]
        known[known] = [(s, -1, "stale") in self.open for s in S[known].tolist()]
        late = np.flatnonzero((due_s < alive_s) & ~known)
        onset_s = v.last_s(S).max(axis=1, initial=-np.inf)
        found = [self._fire(int(S[i]), -1, "stale", onset_s[i], onset_s[i] + limit_s[i], limit_s[i]) for i in late]
        return found, float(due_s[~known & (due_s >= alive_s)].min(initial=np.inf))

    def missing_channels(self, touched: I32) -> list[Finding]:
        """Return the channels that are stale now, of streams whose others speak."""
        v = self.state_of_sensors
        limit_s = v.stale_limits_s(touched)
        late = v.heard_s[touched].max(axis=1, keepdims=True) - v.heard_s[touched] > limit_s
        found = []
        for i, c in zip(*(x.tolist() for x in np.nonzero(late)), strict=True):
            s = int(touched[i])
            if (s, -1, "stale") not in self.open and (s, c, "stale") not in self.open:
                found.append(self._miss(s, c, float(limit_s[i, c])))
        return found

    def state(self) -> State:
        """Return what a snapshot keeps."""
        keys = [(s, c, RULES.index(rule)) for s, c, rule in self.open]
        return {
            "open": np.array(keys, np.int64).reshape(-1, 3),
            "open_s": np.array(list(self.open.values()), np.float64).reshape(-1, 2),
        }

    def restore(self, state: State) -> None:
        """Take over what `state` returned, of streams that there is room for."""
        for (s, c, rule), times_s in zip(state["open"].tolist(), state["open_s"].tolist(), strict=True):
            self.open[s, c, RULES[rule]] = times_s
            self.busy[s] = True
