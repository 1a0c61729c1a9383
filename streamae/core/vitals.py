"""What is known of each sensor, and the rules of `core.health` for one sample of it: plain, exact, one after another.

Arrays are `[S, C]`. A verdict that is open is an entry of `open`, under (stream, channel, rule); channel -1 is the
whole stream, stream -1 the whole group.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from streamae.core.arrays import grown
from streamae.core.types import F32, F64, I8, I32, I64, Bool, State

__all__ = ["AUTO", "KINDS_MIN", "MOVES_MIN", "RULES", "Finding", "HealthRule", "Vitals"]

AUTO = 0.0
RULES = ("stale", "stuck", "out_of_range")
_SAMPLES_LEARN = 256  # of a channel, before it can be stuck
KINDS_MIN = 5  # different values, below which a channel is a mode, not a measurement
MOVES_MIN = 20  # a channel that changes less often than every so many samples rests by nature
_PATIENCE_RUN, _RUN_MIN = 10, 60
_PATIENCE_GAP = 5.0


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


@dataclass(frozen=True, slots=True)
class HealthRule:
    """What the operator decides: durations in seconds, AUTO for what is learnt, None for off.

    `range` are declared limits of channels. `keep_s` is how long a channel must be back in range. `learn` gaps are
    seen before a silence is judged, and none below `stale_min_s` is.
    """

    stale_after_s: float | None = AUTO
    stuck_after_s: float | None = AUTO
    range: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    keep_s: float = 60.0
    stale_min_s: float = 60.0
    learn: int = 20


class Vitals:
    """The sensors of a group's streams."""

    def __init__(self, rule: HealthRule, channels: Sequence[str], *, apart: bool) -> None:
        self.rule, self.apart = rule, apart
        C = len(channels)
        limits = [rule.range.get(name, (-np.inf, np.inf)) for name in channels]
        self.low, self.high = np.array([a for a, _ in limits]), np.array([b for _, b in limits])
        self.last: F64 = np.zeros((0, C))
        self.run: I32 = np.zeros((0, C), np.int32)
        self.run_from_s: F64 = np.zeros((0, C))
        self.longest: I32 = np.zeros((0, C), np.int32)
        self.seen: I32 = np.zeros((0, C), np.int32)
        self.changes: I32 = np.zeros((0, C), np.int32)
        self.kinds: I8 = np.zeros((0, C), np.int8)
        self.values: F32 = np.zeros((0, C, KINDS_MIN - 1), np.float32)
        self.heard_s: F64 = np.zeros((0, C))
        self.event_s: F64 = np.zeros((0, C))
        self.gap_s: F64 = np.zeros((0, C))
        self.gaps: I32 = np.zeros((0, C), np.int32)
        self.busy: Bool = np.zeros(0, np.bool_)  # streams with an open verdict
        self.open: dict[tuple[int, int, str], list[float]] = {}  # onset, time of the last sample that was bad

    def grow(self, streams: int) -> None:
        """Make room for at least this many streams."""
        for name, fill in _FILL.items():
            setattr(self, name, grown(getattr(self, name), streams, fill))
        self.busy = grown(self.busy, streams, fill=False)

    def begin(self, stream: int, longest_run: Sequence[float] | None, *, known: bool) -> None:
        """Start a stream with the longest runs of training; 0 is a channel that cannot be stuck."""
        if longest_run is None:
            return
        runs = np.asarray(longest_run, np.int32)
        self.longest[stream] = runs
        if known:
            able = runs > 0
            self.seen[stream] = self.changes[stream] = np.where(able, _SAMPLES_LEARN, 0)
            self.kinds[stream] = np.where(able, KINDS_MIN, 0)

    # What is usual, in arrays.

    def stale_limits_s(self, s: I32) -> F64:
        """Return how long each channel of these streams may be silent: `[n, C]`."""
        if self.rule.stale_after_s != AUTO:
            limit_s = np.inf if self.rule.stale_after_s is None else self.rule.stale_after_s
            return np.where(np.isfinite(self.heard_s[s]), limit_s, np.inf)
        learnt = self.gaps[s] >= self.rule.learn
        return np.where(learnt, np.maximum(self.rule.stale_min_s, _PATIENCE_GAP * self.gap_s[s]), np.inf)

    def stale_limit_s(self, s: I32) -> F64:
        """Return how long these streams may be silent: as long as the channel of theirs that speaks most often."""
        limit_s: F64 = self.stale_limits_s(s).min(axis=1)
        return limit_s

    def stale_floor_s(self, s: I32) -> F64:
        """Return what these streams' limits are not below, now or after any further samples: `[n]`."""
        if self.rule.stale_after_s != AUTO:
            return np.full(len(s), np.inf if self.rule.stale_after_s is None else self.rule.stale_after_s)
        floor_s: F64 = np.maximum(self.rule.stale_min_s, _PATIENCE_GAP * self.gap_s[s].min(axis=1))
        return floor_s

    def novel(self, s: I32, c: I32, value: F64) -> Bool:
        """Return which values count as new kinds of a channel that has shown only a few."""
        few = np.flatnonzero(self.kinds[s, c] < KINDS_MIN)
        found = np.zeros(len(s), np.bool_)
        if len(few):
            known = self.values[s[few], c[few]] == value[few].astype(np.float32)[:, None]
            counts = np.arange(KINDS_MIN - 1) < self.kinds[s[few], c[few]][:, None]
            found[few] = ~(known & counts).any(axis=1)
        return found

    def may_be_stuck(self, s: I32, c: I32, run: I64, lasts_s: F64, fresh: Bool, many: Bool) -> Bool:
        """Return which samples may be those of a stuck channel; `fresh` runs began in this batch.

        `many`: the channel shows, or may show by the end of the batch, `KINDS_MIN` values.
        """
        if self.rule.stuck_after_s is None:
            return np.zeros(len(s), np.bool_)
        able: Bool = many & (fresh | (self.changes[s, c] * MOVES_MIN >= self.seen[s, c] - self.run[s, c]))
        if self.rule.stuck_after_s != AUTO:
            return able & (lasts_s >= self.rule.stuck_after_s)
        return able & (run > np.maximum(_RUN_MIN, _PATIENCE_RUN * self.longest[s, c]))

    def missing_streams(self, alive_s: float) -> tuple[list[Finding], float]:
        """Return the streams that are stale now, and when the next of the others could be."""
        newest_s = self.heard_s.max(axis=1, initial=-np.inf)
        S = np.flatnonzero(np.isfinite(newest_s)).astype(np.int32)
        limit_s = self.stale_limit_s(S)
        due_s = newest_s[S] + limit_s
        known = self.busy[S]
        known[known] = [(s, -1, "stale") in self.open for s in S[known].tolist()]
        late = np.flatnonzero((due_s < alive_s) & ~known)
        onset_s = self.event_s[S].max(axis=1, initial=-np.inf)
        found = [self._fire(int(S[i]), -1, "stale", onset_s[i], onset_s[i] + limit_s[i], limit_s[i]) for i in late]
        return found, float(due_s[~known & (due_s >= alive_s)].min(initial=np.inf))

    def missing_channels(self, touched: I32) -> list[Finding]:
        """Return the channels that are stale now, of streams whose others speak."""
        limit_s = self.stale_limits_s(touched)
        late = self.heard_s[touched].max(axis=1, keepdims=True) - self.heard_s[touched] > limit_s
        found = []
        for i, c in zip(*(x.tolist() for x in np.nonzero(late)), strict=True):
            s = int(touched[i])
            if (s, -1, "stale") not in self.open and (s, c, "stale") not in self.open:
                found.append(self._miss(s, c, float(limit_s[i, c])))
        return found

    def excuse(self, streams: I64, alive_s: float) -> None:
        """Take it that these streams were heard now: nobody expected them to speak."""
        heard = np.isfinite(self.heard_s[streams])
        self.heard_s[streams] = np.where(heard, np.maximum(self.heard_s[streams], alive_s), self.heard_s[streams])

    def learn(self, s: I32, c: I32, time_s: F64, heard_s: F64, value: F64) -> None:
        """Take one sample of each of some different channels, none of which begins or ends a verdict; see `walk`."""
        if self.rule.stale_after_s is not None:
            known = np.isfinite(self.heard_s[s, c])
            gap_s = np.where(known, heard_s - self.heard_s[s, c], 0.0)
            self.gap_s[s, c] = np.maximum(self.gap_s[s, c], gap_s)
            self.gaps[s, c] += known
        self.heard_s[s, c], self.event_s[s, c] = heard_s, time_s
        longest, run, moved = self.longest[s, c], self.run[s, c], self.seen[s, c] - self.run[s, c]
        able = (self.kinds[s, c] >= KINDS_MIN) & (moved >= _SAMPLES_LEARN) & (self.changes[s, c] * MOVES_MIN >= moved)
        if self.rule.stuck_after_s is None:
            able[:] = False
        limit = np.where(able, np.maximum(_RUN_MIN, _PATIENCE_RUN * longest), run)
        changed = value != self.last[s, c]
        self.longest[s, c] = np.where(changed, np.maximum(longest, np.minimum(run, limit)), longest)
        new = np.flatnonzero(changed & self.novel(s, c, value))
        self._meet_all(s[new], c[new], value[new])
        self.changes[s, c] += changed
        self.run_from_s[s, c] = np.where(changed, time_s, self.run_from_s[s, c])
        self.last[s, c], self.run[s, c] = value, np.where(changed, 1, run + 1)
        self.seen[s, c] += 1

    def _meet_all(self, s: I32, c: I32, value: F64) -> None:
        """Remember one new value of each of some different channels that have shown only a few."""
        kinds = self.kinds[s, c]
        room = kinds < KINDS_MIN - 1
        self.values[s[room], c[room], kinds[room]] = value[room]
        self.kinds[s, c] = kinds + 1

    # What happens, sample by sample.

    def walk(self, s: int, c: int, times_s: tuple[float, float], value: float, *, calm: bool) -> list[Finding]:
        """Take one sample; `times_s`: its own and the group's time; `calm`: it begins and teaches nothing."""
        time_s, heard_s = times_s
        found = self._hear(s, c, time_s, heard_s, calm) if self.rule.stale_after_s is not None else []
        self.heard_s[s, c], self.event_s[s, c] = heard_s, time_s
        if calm and not self.busy[s]:
            return found
        found += self._compare(s, c, time_s, value, calm)
        found += self._bound(s, c, time_s, value, calm)
        return found

    def _hear(self, s: int, c: int, time_s: float, heard_s: float, calm: bool) -> list[Finding]:
        one = np.array([s], np.int32)
        limits_s, newest_s = self.stale_limits_s(one)[0], float(self.heard_s[s].max())
        limit_s, found = float(limits_s.min()), []
        gone, lost = (s, -1, "stale"), (s, c, "stale")
        if gone not in self.open and heard_s - newest_s > limit_s and not calm:
            onset_s = float(self.event_s[s].max())
            found.append(self._fire(s, -1, "stale", onset_s, onset_s + limit_s, limit_s))
        alone = self.apart and gone not in self.open and lost not in self.open and not calm
        if alone and newest_s > float(self.heard_s[s, c]) + float(limits_s[c]) > -np.inf:
            found.append(self._miss(s, c, float(limits_s[c])))
        for key in (gone, lost):
            if key in self.open:
                silent_s = heard_s - (newest_s if key is gone else float(self.heard_s[s, c]))
                found.append(self._end(key, time_s, silent_s, limit_s if key is gone else float(limits_s[c])))
        back = heard_s - newest_s > limit_s
        if not calm:
            # A stream that is back has been missing in all of its channels, and none of them on its own.
            learns = np.isfinite(self.heard_s[s]) if back else np.arange(len(self.low)) == c
            learns = learns & np.isfinite(self.heard_s[s])
            gaps_s = np.minimum(heard_s - self.heard_s[s], limits_s)
            self.gap_s[s] = np.where(learns, np.maximum(self.gap_s[s], gaps_s), self.gap_s[s])
            self.gaps[s, c] += learns[c]
        if back:
            self.excuse(one.astype(np.int64), heard_s)
        return found

    def _compare(self, s: int, c: int, time_s: float, value: float, calm: bool) -> list[Finding]:
        key, found, run = (s, c, "stuck"), [], int(self.run[s, c])
        moved = int(self.seen[s, c]) - run
        able = self.rule.stuck_after_s is not None and self.kinds[s, c] >= KINDS_MIN and moved >= _SAMPLES_LEARN
        able = able and self.changes[s, c] * MOVES_MIN >= moved
        limit = float(max(_RUN_MIN, _PATIENCE_RUN * int(self.longest[s, c]))) if able else np.inf
        if value == self.last[s, c]:
            run += 1
        else:
            if key in self.open:
                found.append(self._end(key, time_s, run, limit))
            self.longest[s, c] = max(int(self.longest[s, c]), min(run, limit))
            self._meet(s, c, value)
            self.changes[s, c] += 1
            self.run_from_s[s, c], run = time_s, 1
        self.last[s, c], self.run[s, c] = value, run
        self.seen[s, c] += 1
        lasts_s, after_s = time_s - float(self.run_from_s[s, c]), self.rule.stuck_after_s
        stuck = able and run > 1 and (run > limit if after_s == AUTO else lasts_s >= (after_s or np.inf))
        if stuck and key not in self.open and not calm:
            found.append(
                self._fire(s, c, "stuck", float(self.run_from_s[s, c]), time_s, run if after_s else limit, run)
            )
        return found

    def _meet(self, s: int, c: int, value: float) -> None:
        """Remember a value of a channel that has shown only a few."""
        kinds = int(self.kinds[s, c])
        if kinds < KINDS_MIN and np.float32(value) not in self.values[s, c, :kinds]:
            if kinds < KINDS_MIN - 1:
                self.values[s, c, kinds] = value
            self.kinds[s, c] = kinds + 1

    def _bound(self, s: int, c: int, time_s: float, value: float, calm: bool) -> list[Finding]:
        key, low, high = (s, c, "out_of_range"), float(self.low[c]), float(self.high[c])
        bound = low if value < low else high
        if low <= value <= high:
            if key in self.open and time_s - self.open[key][1] >= self.rule.keep_s:
                return [self._end(key, time_s, value, bound)]
        elif key in self.open:
            self.open[key][1] = time_s
        elif not calm:
            return [self._fire(s, c, "out_of_range", time_s, time_s, bound, value)]
        return []

    def _miss(self, s: int, c: int, limit_s: float) -> Finding:
        onset_s = float(self.event_s[s, c])
        return self._fire(s, c, "stale", onset_s, onset_s + limit_s, limit_s)

    def _fire(
        self, s: int, c: int, rule: str, onset_s: float, time_s: float, limit: float, score: float | None = None
    ) -> Finding:
        onset_s, time_s, limit = float(onset_s), float(time_s), float(limit)
        self.open[s, c, rule], self.busy[s] = [onset_s, time_s], True
        return Finding(s, c, rule, True, onset_s, time_s, limit if score is None else float(score), limit)

    def _end(self, key: tuple[int, int, str], time_s: float, score: float, limit: float) -> Finding:
        onset_s, last_s = self.open.pop(key)
        self.busy[key[0]] = any((key[0], c, rule) in self.open for c in range(-1, len(self.low)) for rule in RULES)
        limit = limit if np.isfinite(limit) else score
        return Finding(*key, False, onset_s, max(time_s, last_s), float(score), float(limit))

    def state(self, streams: int) -> State:
        """Return what a snapshot keeps of the first S streams."""
        keys = [(s, c, RULES.index(rule)) for s, c, rule in self.open]
        return {
            **{name: getattr(self, name)[:streams].copy() for name in _FILL},
            "open": np.array(keys, np.int64).reshape(-1, 3),
            "open_s": np.array(list(self.open.values()), np.float64).reshape(-1, 2),
        }

    def restore(self, state: State) -> None:
        """Take over what `state` returned."""
        streams = len(state["last"])
        self.grow(streams)
        for name in _FILL:
            getattr(self, name)[:streams] = state[name]
        for (s, c, rule), times_s in zip(state["open"].tolist(), state["open_s"].tolist(), strict=True):
            self.open[s, c, RULES[rule]] = times_s
            self.busy[s] = True


_FILL: dict[str, float] = {
    "last": np.nan, "run": 0, "run_from_s": 0.0, "longest": 0, "seen": 0, "changes": 0, "kinds": 0, "values": 0.0,
    "heard_s": -np.inf, "event_s": -np.inf, "gap_s": 0.0, "gaps": 0,
}  # fmt: skip
