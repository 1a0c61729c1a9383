"""What is known of each sensor, and what is usual for it, learnt in arrays for many sensors at once.

Arrays are `[S, C]`; `cells` has them flat, indexed by `cell`: indexing by two arrays costs several times as much as by
one. The rules that make verdicts of them are in `core.sensors.rules`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated

import numpy as np

from streamae.core.arrays import grown, without
from streamae.core.impossible import ImpossibleValues
from streamae.core.setting import INTERNAL, Setting
from streamae.core.types import F32, F64, I8, I32, I64, Bool, State

__all__ = ["AUTO", "KINDS_MIN", "MOVES_MIN", "SLIP_S", "SensorRule", "SensorState"]

AUTO = 0.0
_SAMPLES_LEARN = 256  # of a channel, before it can be stuck
KINDS_MIN = 5  # different values, below which a channel is a mode, not a measurement
MOVES_MIN = 20  # a channel that changes less often than every so many samples is normally constant
_PATIENCE_RUN, _RUN_MIN = 10, 60
_PATIENCE_GAP = 5.0
SLIP_S = 60.0  # a step of a clock: less is disorder


def _check_limits(limits: tuple[float, float]) -> None:
    if limits[0] >= limits[1]:
        raise ValueError("write the lower limit first, then the upper, such as [0, 10]")


@dataclass(frozen=True, slots=True)
class SensorRule:
    """Verdicts on the sensors themselves, apart from the model's.

    Durations are AUTO for what is learnt, None for off.
    """

    stale_after_s: Annotated[float | None, Setting(form="patience")] = AUTO
    """Silence that raises an alert: a duration, off, or auto: five times the stream's longest so far, 1m at least."""
    stuck_after_s: Annotated[float | None, Setting(form="patience")] = AUTO
    """Time without any change that raises an alert; auto: ten times the longest run so far, 60 samples at least."""
    range: Mapping[str, Annotated[tuple[float, float], Setting(check=_check_limits)]] = field(default_factory=dict)
    """Channel -> lowest and highest value that its sensor can mean; what is outside raises an alert, and is missing."""
    keep_s: Annotated[float, INTERNAL] = 60.0
    """How long a channel must be back in its range before it is well."""
    stale_min_s: Annotated[float, INTERNAL] = 60.0
    """Least silence that AUTO judges."""
    learn: Annotated[int, INTERNAL] = 20
    """Gaps that are seen before AUTO judges a silence."""


class SensorState:
    """The sensors of a group's streams."""

    def __init__(self, rule: SensorRule, channels: Sequence[str], impossible: ImpossibleValues | None = None) -> None:
        self.rule = rule
        C = len(channels)
        self.impossible = impossible or ImpossibleValues(channels, rule.range)
        self.low, self.high, self.bounded = self.impossible.low, self.impossible.high, self.impossible.bounded
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
        self.fell_s: F64 = np.zeros((0, C))  # how far a channel's clock has fallen back: what event_s lacks
        self.gap_s: F64 = np.zeros((0, C))
        self.gaps: I32 = np.zeros((0, C), np.int32)
        self.cells: dict[str, np.ndarray] = {}
        self.grow(0)

    def grow(self, streams: int) -> None:
        """Make room for at least this many streams."""
        for name, fill in _FILL.items():
            array = grown(getattr(self, name), streams, fill)
            setattr(self, name, array)
            self.cells[name] = array.reshape(-1, *array.shape[2:])  # the same memory

    def drop(self, stream: int) -> None:
        """Forget a stream; the last one takes its number."""
        for name in _FILL:
            setattr(self, name, without(getattr(self, name), stream))
        self.grow(0)

    def cell(self, s: I32, c: I32) -> I64:
        """Return where in `cells` these channels lie, `[n]`."""
        return s.astype(np.int64) * len(self.low) + c

    def begin(self, stream: int, longest_run: I64 | None, *, known: bool) -> None:
        """Start a stream with the longest runs of training; 0 is a channel that cannot be stuck."""
        if longest_run is None:
            return
        runs = longest_run.astype(np.int32)
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

    def novel(self, cell: I64, value: F64) -> Bool:
        """Return which values count as new kinds of a channel that has shown only a few."""
        few = np.flatnonzero(self.cells["kinds"][cell] < KINDS_MIN)
        found = np.zeros(len(cell), np.bool_)
        if len(few):
            known = self.cells["values"][cell[few]] == value[few].astype(np.float32)[:, None]
            counts = np.arange(KINDS_MIN - 1) < self.cells["kinds"][cell[few]][:, None]
            found[few] = ~(known & counts).any(axis=1)
        return found

    def may_be_stuck(self, cell: I64, run: I64, lasts_s: F64, fresh: Bool, many: Bool) -> Bool:
        """Return which samples may be those of a stuck channel; `fresh` runs began in this batch.

        `many`: the channel shows, or may show by the end of the batch, `KINDS_MIN` values.
        """
        if self.rule.stuck_after_s is None:
            return np.zeros(len(cell), np.bool_)
        cells = self.cells
        moves: Bool = cells["changes"][cell] * MOVES_MIN >= cells["seen"][cell] - cells["run"][cell]
        able: Bool = many & (fresh | moves)
        if self.rule.stuck_after_s != AUTO:
            return able & (lasts_s >= self.rule.stuck_after_s)
        limit: I64 = np.maximum(_RUN_MIN, _PATIENCE_RUN * cells["longest"][cell])
        return able & (run > limit)

    def stuck_limit(self, s: int, c: int) -> float:
        """Return beyond how many equal samples this channel is stuck; infinite where it cannot be."""
        moved = int(self.seen[s, c]) - int(self.run[s, c])
        able = self.rule.stuck_after_s is not None and self.kinds[s, c] >= KINDS_MIN and moved >= _SAMPLES_LEARN
        able = able and self.changes[s, c] * MOVES_MIN >= moved
        return float(max(_RUN_MIN, _PATIENCE_RUN * int(self.longest[s, c]))) if able else np.inf

    def last_s(self, s: I32) -> F64:
        """Return when each channel of these streams was heard last, by the clock that they had at first: `[n, C]`."""
        return self.event_s[s] + self.fell_s[s]

    def slips(self, cell: I64, step_s: F64) -> Bool:
        """Return which samples, `step_s[n]` after the one before, may show that their clock has moved."""
        slips: Bool = step_s < -SLIP_S
        back = step_s > SLIP_S
        if back.any():
            slips |= back & (self.cells["fell_s"][cell] > 0)
        return slips

    def note_slip(self, s: int, c: int, time_s: float, gap_s: float) -> None:
        """Follow the clock of a channel, of which a sample comes `gap_s` after the one before."""
        before_s = float(self.event_s[s, c])
        slip_s = before_s - time_s + max(gap_s, 0.0) if np.isfinite(before_s) else 0.0
        fell_s = float(self.fell_s[s, c])
        if (time_s < before_s and slip_s > SLIP_S) or (fell_s > 0 and slip_s < -SLIP_S):
            moved_s = max(slip_s, -fell_s)
            self.fell_s[s, c] = fell_s + moved_s
            self.run_from_s[s, c] -= moved_s

    def excuse(self, streams: I64, alive_s: float) -> None:
        """Treat these streams as heard now: no message was expected from them."""
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
        new = np.flatnonzero(changed & self.novel(self.cell(s, c), value))
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

    def meet(self, s: int, c: int, value: float) -> None:
        """Remember a value of a channel that has shown only a few."""
        kinds = int(self.kinds[s, c])
        if kinds < KINDS_MIN and np.float32(value) not in self.values[s, c, :kinds]:
            if kinds < KINDS_MIN - 1:
                self.values[s, c, kinds] = value
            self.kinds[s, c] = kinds + 1

    def state(self, streams: int) -> State:
        """Return what a snapshot keeps of the first S streams."""
        return {name: getattr(self, name)[:streams].copy() for name in _FILL}

    def restore(self, state: State) -> None:
        """Take over what `state` returned."""
        streams = len(state["last"])
        self.grow(streams)
        for name in _FILL:
            if name in state:  # a former release did not follow clocks that fall back
                getattr(self, name)[:streams] = state[name]


_FILL: dict[str, float] = {
    "last": np.nan, "run": 0, "run_from_s": 0.0, "longest": 0, "seen": 0, "changes": 0, "kinds": 0, "values": 0.0,
    "heard_s": -np.inf, "event_s": -np.inf, "fell_s": 0.0, "gap_s": 0.0, "gaps": 0,
}  # fmt: skip
