"""Verdicts on the sensors themselves, apart from the model's: stale, stuck, out of range.

    stale         a stream (or, where channels arrive apart, a channel) has sent nothing for five times its longest
                  silence so far, and for a minute at least
    stuck         a value has not changed for ten times its longest run of equal values so far, and 60 samples at least;
                  never of a channel that has shown fewer than five values, or that is constant most of the time
    out_of_range  a value lies outside of the range that the operator declared; or one that training found to stand for
                  no measurement (`core.impossible`) comes more often in a row than it did there, by half

Nothing is judged before it has been seen often enough, and what was reported teaches only up to the limit that it
broke: a sensor that is silent every night is reported for some nights, and then it is known.

Silence is measured in the time of the group: a clock that advances with the samples of its other streams, each step
bounded. So no stream counts as silent because a broker is away, the daemon restarts or a clock jumps. Where a whole
group is silent (its gateway is dead), its clock stands, and the ticks of the daemon give one verdict about the group,
not thousands; the daemon ticks only while it could receive. Everything is a fold over samples and ticks. The usual
case, learning too, is done in arrays; the few streams in which a verdict may begin or end are walked sample by sample
(`core.sensors.rules`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from streamae.core.arrays import firsts, rounds
from streamae.core.impossible import ImpossibleValues
from streamae.core.sensors.rules import RULES, Finding, SensorRules
from streamae.core.sensors.state import AUTO, KINDS_MIN, SensorRule, SensorState
from streamae.core.types import F64, I32, I64, Bool, Readings, State

__all__ = ["HEALTH_RULES", "Finding", "SensorRule", "Sensors"]

HEALTH_RULES = (*RULES, "flapping")

_TEACHES, _DECIDES = 1, 2  # what the samples of a stream may do in a batch
_TICK_MAX_S = 20.0  # of one step of the shell's clock: longer ones are jumps, restarts, or time without a connection


@dataclass(slots=True)
class _Sorted:
    """Samples by stream and channel, each with what came before it: all `[N]`."""

    at: I64  # place in the batch
    stream: I32
    channel: I32
    cell: I64  # see `SensorState.cells`
    time_s: F64
    value: F64
    heard_s: F64
    begins: Bool  # a channel's first sample of the batch
    ends: Bool
    changed: Bool
    run: I64
    run_from_s: F64
    run_before: I64
    gap_s: F64
    fresh_run: Bool = field(default_factory=lambda: np.zeros(0, np.bool_))  # the run began in this batch


class Sensors:
    """The sensors of a group; `apart` where the channels of a stream arrive on their own."""

    def __init__(
        self, rule: SensorRule, channels: Sequence[str], *, apart: bool, impossible: ImpossibleValues | None = None
    ) -> None:
        self.rule = rule
        self.state_of_sensors = SensorState(rule, channels, impossible)
        self.verdicts = SensorRules(self.state_of_sensors, apart=apart)
        self._alive_s = 0.0  # the group's own clock
        self._arrival_s = np.nan
        self._check_s = -np.inf  # no stream can be stale before
        self._idle_s = 0.0  # how long the group has been silent while we listened
        self._idle_max_s = 0.0
        self._now_s = np.nan
        self._samples = 0
        self._newest_s = -np.inf
        self._silent_since_s = np.nan

    def grow(self, streams: int) -> None:
        """Make room for at least this many streams."""
        self.state_of_sensors.grow(streams)
        self.verdicts.grow(streams)

    def begin(self, stream: int, longest_run: I64 | None, *, known: bool) -> None:
        """Start a stream with the longest runs of training, if there are any; `known`: they are its own."""
        self.state_of_sensors.begin(stream, longest_run, known=known)

    def end(self, stream: int, time_s: float) -> list[Finding]:
        """End all verdicts on a stream, which is treated as heard now; returns their ends, at `time_s`."""
        self.state_of_sensors.excuse(np.array([stream]), self._alive_s)
        return self.verdicts.end(stream, time_s)

    def drop(self, stream: int) -> None:
        """Forget a stream that has no verdicts; the last one takes its number."""
        self.state_of_sensors.drop(stream)
        self.verdicts.drop(stream)

    @property
    def listening(self) -> bool:
        """Whether a tick could still change anything: the group has been heard, and no silence is reported yet."""
        return self.rule.stale_after_s is not None and self._samples > 0 and np.isnan(self._silent_since_s)

    def step(self, r: Readings, maintenance: Bool, excused: Bool, now_s: float) -> list[Finding]:
        """Take samples in their order, or none (a tick); returns what began and what ended, by time.

        A sample in `maintenance[N]` begins no verdict and teaches nothing; a stream that is `excused[S]`, since it is
        in maintenance now, is not missed.
        """
        watches = self.rule.stale_after_s is not None
        found = self._listen(r, now_s, bool(len(excused)) and bool(excused.all())) if watches else []
        if len(r):
            found += self._take(r, self._advance(r.arrival_s) if watches else np.zeros(len(r)), maintenance)
        if watches:
            found += self._missing(excused, np.unique(r.stream) if self.verdicts.apart else None)
        return sorted(found, key=lambda f: (f.time_s, f.stream, f.channel))

    def _advance(self, arrival_s: F64) -> F64:
        """Move the group's clock along the samples' arrivals; returns what it showed at each."""
        limit_s = self.rule.stale_after_s or self.rule.stale_min_s
        steps_s = arrival_s - _shifted(arrival_s)
        if not np.isnan(self._arrival_s):
            steps_s[0] = arrival_s[0] - self._arrival_s
        heard_s = self._alive_s + np.cumsum(np.clip(steps_s, 0.0, limit_s / 2))
        self._alive_s, self._arrival_s = float(heard_s[-1]), float(arrival_s[-1])
        return heard_s

    def _listen(self, r: Readings, now_s: float, excused: bool) -> list[Finding]:
        """Follow the silence of the whole group, from tick to tick."""
        step_s = 0.0 if not np.isfinite(now_s - self._now_s) else min(max(now_s - self._now_s, 0.0), _TICK_MAX_S)
        self._now_s = now_s
        auto_s = max(self.rule.stale_min_s, 5.0 * self._idle_max_s) if self._samples >= self.rule.learn else np.inf
        limit_s = auto_s if self.rule.stale_after_s == AUTO else self.rule.stale_after_s or np.inf
        began_s, name = self._silent_since_s, -1
        if len(r):
            found = []
            if not np.isnan(began_s):
                end_s = max(began_s + limit_s, float(r.time_s[0]))
                found = [Finding(name, -1, "stale", False, began_s, end_s, end_s - began_s, limit_s)]
            self._idle_max_s = max(self._idle_max_s, min(self._idle_s, limit_s))
            self._idle_s, self._silent_since_s = 0.0, np.nan
            self._samples += len(r)
            self._newest_s = max(self._newest_s, float(r.time_s.max()))
            return found
        self._idle_s = 0.0 if excused else self._idle_s + step_s
        if self._idle_s <= limit_s or not self.listening:
            return []
        fell = bool(self.state_of_sensors.fell_s.any())
        last_s = (
            self.state_of_sensors.last_s(np.arange(len(self.state_of_sensors.last), dtype=np.int32)) if fell else None
        )
        onset_s = self._newest_s if last_s is None else float(last_s.max())
        self._silent_since_s = onset_s
        return [Finding(name, -1, "stale", True, onset_s, onset_s + limit_s, limit_s, limit_s)]

    def _take(self, r: Readings, heard_s: F64, maintenance: Bool) -> list[Finding]:
        x = self._sorted(r, heard_s)
        teaches, decides = self._eventful(x, maintenance)
        what = np.zeros(len(self.verdicts.busy), np.int8)
        what[x.stream[teaches]] = _TEACHES
        what[x.stream[decides]] = _DECIDES
        of = what[x.stream]
        self._pass_by(x, of == 0)
        self._learn(x, np.flatnonzero(of == _TEACHES))
        found: list[Finding] = []
        for i in np.flatnonzero(what[r.stream] == _DECIDES).tolist():
            s, c, times_s = int(r.stream[i]), int(r.channel[i]), (float(r.time_s[i]), float(heard_s[i]))
            found += self.verdicts.walk(s, c, times_s, float(r.value[i]), maintenance=bool(maintenance[i]))
        return found

    def _sorted(self, r: Readings, heard_s: F64) -> _Sorted:
        v, n = self.state_of_sensors, len(r)
        cell = v.cell(r.stream, r.channel)
        at = np.argsort(cell, kind="stable")
        cell, time_s, value, heard_s = cell[at], r.time_s[at], r.value[at], heard_s[at]
        known_run = v.cells["run"][cell]
        begins = firsts(cell)
        before = np.where(begins, v.cells["last"][cell], _shifted(value))
        changed, ends = value != before, np.append(begins[1:], True)
        start = np.maximum.accumulate(np.where(begins | changed, np.arange(n), 0))
        carried = ~changed[start]
        run = np.arange(n) - start + 1 + np.where(carried, known_run, 0)
        return _Sorted(
            at, r.stream[at], r.channel[at], cell, time_s, value, heard_s, begins, ends, changed, run,
            run_from_s=np.where(carried, v.cells["run_from_s"][cell], time_s[start]),
            run_before=np.where(begins, known_run, _shifted(run)),
            gap_s=heard_s - np.where(begins, v.cells["heard_s"][cell], _shifted(heard_s)),
            fresh_run=~carried,
        )  # fmt: skip

    def _eventful(self, x: _Sorted, maintenance: Bool) -> tuple[Bool, Bool]:
        """Return which samples teach something new, and which may begin or end a verdict.

        The latter may be too many, but never too few: such a stream is walked, which is exact and slow.
        """
        v, s, cell = self.state_of_sensors, x.stream, x.cell
        first, novel = np.isnan(v.cells["last"][cell]), x.changed & v.novel(cell, x.value)
        teaches = first | novel | (x.changed & (x.run_before > v.cells["longest"][cell]))
        decides: Bool = self.verdicts.busy[s] | maintenance[x.at]
        decides |= v.slips(cell, x.time_s - np.where(x.begins, v.cells["event_s"][cell], _shifted(x.time_s)))
        if v.bounded:
            decides |= (x.value < v.low[x.channel]) | (x.value > v.high[x.channel])
        if v.impossible.coded:
            patience = v.impossible.patience[x.channel]
            decides |= (x.run > patience) & v.impossible.is_sentinel(x.channel, x.value)
        many = v.cells["kinds"][cell] >= KINDS_MIN
        if novel.any():  # the channel may have so many by the end of the batch
            channel = np.cumsum(x.begins) - 1
            many |= np.logical_or.reduceat(novel, np.flatnonzero(x.begins))[channel]
        decides |= v.may_be_stuck(cell, x.run, x.time_s - x.run_from_s, x.fresh_run, many)
        if self.rule.stale_after_s is not None:
            late = x.gap_s > v.stale_floor_s(s)
            if first.any():
                late[first] &= ~self._new(s[first], x.heard_s)
            decides |= late
        return teaches, decides

    def _new(self, s: I32, heard_s: F64) -> Bool:
        """Return which of these streams were never heard, and cannot have fallen silent within this batch either."""
        brief = float(heard_s.max() - heard_s.min()) <= (self.rule.stale_after_s or self.rule.stale_min_s)
        new: Bool = self.state_of_sensors.heard_s[s].max(axis=1) == -np.inf
        return new & brief

    def _learn(self, x: _Sorted, at: I64) -> None:
        """Teach the channels of these samples, one sample of each at a time."""
        for part in rounds(x.cell[at]):
            i = at[part]
            self.state_of_sensors.learn(x.stream[i], x.channel[i], x.time_s[i], x.heard_s[i], x.value[i])

    def _pass_by(self, x: _Sorted, quick: Bool) -> None:
        """Bring the channels up to date in which nothing happened but more samples."""
        v = self.state_of_sensors
        end = np.flatnonzero(x.ends & quick)
        if len(end) == 0:
            return
        cell, cells = x.cell[end], v.cells
        begins = np.flatnonzero(x.begins)
        nth = np.searchsorted(np.flatnonzero(x.ends), end)
        begin = begins[nth]
        count, changes = end - begin + 1, np.cumsum(x.changed)
        cells["last"][cell], cells["run"][cell], cells["run_from_s"][cell] = x.value[end], x.run[end], x.run_from_s[end]
        cells["heard_s"][cell], cells["event_s"][cell] = x.heard_s[end], x.time_s[end]
        cells["changes"][cell] += changes[end] - changes[begin] + x.changed[begin]
        cells["seen"][cell] += count
        if self.rule.stale_after_s is not None:
            cells["gaps"][cell] += count
            cells["gap_s"][cell] = np.maximum(cells["gap_s"][cell], np.maximum.reduceat(x.gap_s, begins)[nth])

    def _missing(self, excused: Bool, touched: I32 | None) -> list[Finding]:
        """Find streams and channels whose others were heard since theirs was due."""
        if excused.any():
            self.state_of_sensors.excuse(np.flatnonzero(excused), self._alive_s)
        found = [] if touched is None else self.verdicts.missing_channels(touched)
        if self._alive_s > self._check_s:
            more, due_s = self.verdicts.missing_streams(self._alive_s)
            found += more
            # A stream that is heard from now on is due later than this.
            self._check_s = min(due_s, self._alive_s + (self.rule.stale_after_s or self.rule.stale_min_s))
        return found

    def open(self) -> list[tuple[int, int, str, float]]:
        """Return stream, channel, rule and onset of every open verdict; -1: the whole group, all channels."""
        group = [] if np.isnan(self._silent_since_s) else [(-1, -1, "stale", self._silent_since_s)]
        return group + [(*key, times_s[0]) for key, times_s in self.verdicts.open.items()]

    def state(self, streams: int) -> State:
        """Return what a snapshot keeps of the first S streams."""
        clocks = [getattr(self, f"_{name}") for name in _CLOCKS]
        return {"clocks": np.array(clocks, np.float64), **self.state_of_sensors.state(streams), **self.verdicts.state()}

    def restore(self, state: State) -> None:
        """Take over what `state` returned; an older snapshot has none of it, and all is learnt again."""
        if "clocks" not in state:
            return
        for name, value in zip(_CLOCKS, state["clocks"].tolist(), strict=True):
            setattr(self, f"_{name}", value)
        self._samples = int(self._samples)
        self.state_of_sensors.restore(state)
        self.verdicts.grow(len(self.state_of_sensors.last))
        self.verdicts.restore(state)


def _shifted(x: np.ndarray) -> np.ndarray:
    """Return what stands before each entry of x[N]; before the first, anything."""
    before = np.empty_like(x)
    before[1:] = x[:-1]
    before[:1] = x[:1]
    return before


_CLOCKS = (
    "alive_s", "arrival_s", "check_s", "idle_s", "idle_max_s", "now_s", "samples", "newest_s", "silent_since_s",
)  # fmt: skip
