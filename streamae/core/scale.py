"""Rows -> scaled rows: each stream's own location and scale per channel.

Streams that the model was trained on bring theirs in the artifact. A new stream estimates them in its warm-up: the
first `warmup_rows` rows are kept, and then give mean and standard deviation, bounded by what is usual in the group.
Until then the stream is learning and yields nothing.

A machine that rests shows nothing of what is normal for it. So rows teach only while the channels move as they do in
the group (`GroupScale.moves`): what came before the first movement is left out, and a warm-up without movement starts
again. Where a part of the channels rests and others move, it ends after `_PATIENCE` times all the same: perhaps this
machine does not have that part.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from streamae.core.arrays import grown, rounds, without
from streamae.core.calibration import Calibration, StreamCalibration
from streamae.core.types import F32, F64, I32, I64, Bool, Rows, State

__all__ = ["SCALED_MAX", "GroupScale", "Scale", "early_estimate", "estimate", "roughness"]

# Scaled values are bounded here, a million scales out, only so that their squares stay finite in float32.
SCALED_MAX = 1e6
_REACH = 3.0
_FLOOR = 0.1  # of the group's spread: the least scale of a channel that moves, for a machine that is that much calmer
_ALIKE = 10  # between the deciles of the streams' scales: beyond it, that of some says nothing of that of another
_QUIET = 0.05  # of the group's roughness: what moves less from row to row rests
_QUIET_ALL = 0.12  # and if all channels that move are below this, the machine rests
_STEP = 0.5  # of the group's roughness: a larger step ends a rest; its noise is below, half the rows above
_REST_MIN = 8  # rows without a step, more than which are a rest where the training had no longer ones
_PATIENCE = 10  # warm-ups that begin again because a part of the channels rests


def estimate(values: F64) -> tuple[F64, F64]:
    """Return location and scale per channel, `[..., C]` each, of rows `values[..., n, C]`: mean and deviation.

    A few rows far outside count as if they stood `_REACH` times the range of the middle 90 % beyond it. Quartiles would
    resist more, but they blow up channels that are constant most of the time and move in steps (measured: SKAB's VUS-PR
    falls from .90 to .82). A channel that does not vary at all gets 1 % of its level, so that it can alarm, but not at
    the first noise.
    """
    low, high = np.quantile(values, (0.05, 0.95), axis=-2, keepdims=True)
    reach = np.where(high > low, _REACH * (high - low), np.inf)
    kept = np.clip(values, low - reach, high + reach)
    location, scale = kept.mean(axis=-2), kept.std(axis=-2)
    level = np.abs(location)
    still = scale <= 1e-9 * np.maximum(level, 1e-9)
    return location, np.where(still, np.where(level > 0, 0.01 * level, 1.0), scale)


def roughness(values: F64) -> F64:
    """Return how far rows `values[..., n, C]` move from one to the next: the upper quartile of |difference|."""
    if values.shape[-2] < 2:  # one row moves nowhere
        return np.zeros((*values.shape[:-2], values.shape[-1]))
    rough: F64 = np.quantile(np.abs(np.diff(values, axis=-2)), 0.75, axis=-2)
    return rough


@dataclass(frozen=True, slots=True, eq=False)
class GroupScale:
    """What a group knows of its channels, `[C]` each: what a warm-up of few rows is held against."""

    calm: F64
    """Scale over roughness; 0: nothing is known, or rows mostly repeat the one before."""
    spread: F64
    """The median scale of the streams that the model knows; 0: it knows none, or they are not alike (`_ALIKE`)."""
    runs: I64
    """The longest run of equal values in the training, in rows; 0: few values, or constant most of the time."""
    rows: int
    """Rows of a warm-up."""

    @classmethod
    def of(cls, calibration: Calibration, known: Mapping[str, StreamCalibration], channels: int, rows: int) -> Self:
        """Return what a model knows, for warm-ups of so many rows."""
        scales = [own.scale for own in known.values()]
        low, spread, high = np.quantile(scales, (0.1, 0.5, 0.9), axis=0) if scales else np.zeros((3, channels))
        spread = np.where(high <= _ALIKE * low, spread, 0.0)
        calm = np.zeros(channels) if calibration.calm is None else calibration.calm
        runs = np.full(channels, rows, np.int64) if calibration.runs is None else calibration.runs
        return cls(calm, spread, runs, rows)

    @classmethod
    def unknown(cls, channels: int, rows: int) -> Self:
        """Return that of a group that nothing is known of."""
        return cls(np.zeros(channels), np.zeros(channels), np.zeros(channels, np.int64), rows)

    @property
    def moves(self) -> Bool:
        """Whether no stream of the training stood still for as long as a warm-up."""
        return np.asarray((self.runs > 0) & (self.runs < self.rows) & (self.spread > 0))

    @property
    def floor(self) -> F64:
        """The least scale of a new stream: a part of the group's; all of it where some rows show too little."""
        return np.where(self.runs == 0, 1.0, _FLOOR) * self.spread

    @property
    def usual_roughness(self) -> F64:
        """How far a channel moves from row to row; 0: any change is a movement."""
        return np.where(self.calm > 0, self.spread / np.where(self.calm > 0, self.calm, 1.0), 0.0)

    def resting(self, values: F64) -> Bool:
        """Return which channels, `[..., C]`, do not move in rows `values[..., n, C]`, though those of the group do."""
        usual, rough = self.usual_roughness, roughness(values)
        still = np.ptp(values, axis=-2) == 0
        quiet = np.where(usual > 0, rough < _QUIET * usual, still)
        all_quiet = (quiet | (rough < _QUIET_ALL * usual) | ~self.moves).all(axis=-1, keepdims=True)
        return np.asarray(self.moves & (quiet | all_quiet))

    def rest_rows(self, values: F64) -> int:
        """Return how many rows of `values[n, C]` came before the last channel of those that move began to move."""
        steps = np.abs(np.diff(values, axis=0)) > _STEP * self.usual_roughness
        rest = np.where(steps.any(axis=0), steps.argmax(axis=0) + 1, 0)
        return int(rest[self.moves & (rest > np.maximum(_REST_MIN, self.runs))].max(initial=0))


def early_estimate(values: F64, group: GroupScale) -> tuple[F64, F64]:
    """Return location and scale of the few rows of a warm-up, given what is known of the group.

    A warm-up sees a part of a slow rhythm only, and its deviation is that of the part. How far a channel moves from
    row to row shows at once, and machines of one kind move alike; so the scale is at least what that says, and not
    far below that of the group.
    """
    location, scale = estimate(values)
    return location, np.maximum(np.maximum(scale, group.calm * roughness(values)), group.floor)


class Scale:
    """Location and scale of all streams of a group, `[S, C]`, and the warm-up rows of those that are learning."""

    def __init__(self, channels: int, warmup_rows: int, group: GroupScale | None = None) -> None:
        self.warmup_rows = warmup_rows
        self.group = GroupScale.unknown(channels, warmup_rows) if group is None else group
        self._location: F64 = np.zeros((0, channels))
        self._scale: F64 = np.ones((0, channels))
        self._seen: I32 = np.zeros(0, np.int32)  # warm-up rows so far
        self._slot: I32 = np.zeros(0, np.int32)  # where in `_kept` they are; -1: nowhere
        self._waits: I32 = np.zeros(0, np.int32)  # the channel that rests, and so keeps the stream learning; -1: none
        self._again: I32 = np.zeros(0, np.int32)  # warm-ups that began again because some channels rest
        self._kept: F64 = np.zeros((0, warmup_rows, channels))
        self._free: list[int] = []

    def grow(self, streams: int) -> None:
        """Make room for at least this many streams."""
        self._location = grown(self._location, streams, 0)
        self._scale = grown(self._scale, streams, 1)
        self._seen = grown(self._seen, streams, 0)
        self._slot = grown(self._slot, streams, -1)
        self._waits = grown(self._waits, streams, -1)
        self._again = grown(self._again, streams, 0)

    def begin(self, stream: int, known: StreamCalibration | None) -> None:
        """Start a new stream, which `grow` has made room for, with the artifact's numbers for it if there are any."""
        if known is not None:
            self._location[stream], self._scale[stream] = known.location, known.scale
            self._seen[stream] = self.warmup_rows

    def relearn(self, stream: int) -> None:
        """Begin the warm-up of a stream again."""
        self._location[stream], self._scale[stream] = 0.0, 1.0
        self._seen[stream], self._waits[stream], self._again[stream] = 0, -1, 0

    def drop(self, stream: int) -> None:
        """Forget a stream; the last one takes its number."""
        if self._slot[stream] >= 0:
            self._give_back([int(self._slot[stream])])
        for name in ("location", "scale", "seen", "slot", "waits", "again"):
            setattr(self, f"_{name}", without(getattr(self, f"_{name}"), stream))

    def waits(self, streams: int) -> I32:
        """Return the channel that each of the first S streams must move before its warm-up can end; -1: none, `[S]`."""
        return self._waits[:streams].copy()

    def seen(self, streams: int) -> I32:
        """Return how many of their `warmup_rows` the first S streams have had, `[S]`."""
        return self._seen[:streams]

    def step(self, rows: Rows, maintenance: Bool | None = None) -> tuple[I64, F32]:
        """Return which rows belong to streams that are past their warm-up, and their scaled values `[n, C]`.

        Where `maintenance[N]` is set, nothing is learnt.
        """
        ready = np.ones(len(rows), np.bool_)
        if (self._seen[rows.stream] < self.warmup_rows).any():
            for index in rounds(rows.stream):
                learning = self._seen[rows.stream[index]] < self.warmup_rows
                ready[index[learning]] = False
                self._learn(rows, index[learning if maintenance is None else learning & ~maintenance[index]])
        kept = np.flatnonzero(ready)
        s = rows.stream[kept]
        return kept, self.scaled(s, rows.values[kept])

    def scaled(self, stream: npt.NDArray[np.integer[Any]], values: F64) -> F32:
        """Return `values[N, C]` of these streams in units of their scale."""
        with np.errstate(over="ignore"):
            units = (values - self._location[stream]) / self._scale[stream]
        scaled: F32 = np.clip(units, -SCALED_MAX, SCALED_MAX).astype(np.float32)
        return scaled

    def of(self, stream: int) -> tuple[F64, F64]:
        """Return copies of a stream's location and scale, `[C]` each."""
        return self._location[stream].copy(), self._scale[stream].copy()

    def raw(self, stream: int, values: F32) -> F64:
        """Return scaled `values[n, C]` of one stream in its own units."""
        own: F64 = values * self._scale[stream] + self._location[stream]
        return own

    def _learn(self, rows: Rows, index: I64) -> None:
        """Keep one row for each of some different learning streams; estimate where that was the last one needed."""
        if len(index) == 0:
            return
        s = rows.stream[index]
        for stream in s[self._slot[s] < 0].tolist():
            self._slot[stream] = self._take_slot()
        self._kept[self._slot[s], self._seen[s]] = rows.values[index]
        self._seen[s] += 1
        self._estimate(s[self._seen[s] == self.warmup_rows])

    def _estimate(self, done: npt.NDArray[np.integer[Any]]) -> None:
        """Estimate from their warm-up rows, all of which are there, and forget these; not where a machine rests."""
        if len(done) and self.group.moves.any():
            done = done[[self._moved(int(stream)) for stream in done]]
        if len(done):
            self._location[done], self._scale[done] = early_estimate(self._kept[self._slot[done]], self.group)
            self._give_back(self._slot[done].tolist())
            self._slot[done] = self._waits[done] = -1

    def _moved(self, stream: int) -> bool:
        """Whether the warm-up of a stream may end; if not, what shows nothing of it is left out, and it goes on."""
        values = self._kept[self._slot[stream]]
        resting = self.group.resting(values)
        if resting.any() and (resting[self.group.moves].all() or self._again[stream] < _PATIENCE):
            self._again[stream] += not resting[self.group.moves].all()
            self._waits[stream], self._seen[stream] = int(resting.argmax()), 0
            return False
        rest = 0 if resting.any() else self.group.rest_rows(values)
        if rest:
            left = self.warmup_rows - rest
            values[:left] = values[rest:].copy()
            self._waits[stream], self._seen[stream] = -1, left
        return not rest

    def _give_back(self, slots: list[int]) -> None:
        self._free += slots
        if len(self._free) == len(self._kept):  # no stream learns any more: give the memory back
            self._kept, self._free = self._kept[:0].copy(), []

    def _take_slot(self) -> int:
        if not self._free:
            have = len(self._kept)
            self._kept = grown(self._kept, have + 1, 0)
            self._free = list(range(len(self._kept) - 1, have - 1, -1))
        return self._free.pop()

    def state(self, streams: int) -> State:
        """Return what a snapshot keeps of the first S streams; of warm-up rows only those that are in use."""
        learning = np.flatnonzero(self._slot[:streams] >= 0)
        kept = self._kept[self._slot[learning]]
        kept[np.arange(self.warmup_rows) >= self._seen[learning, None]] = 0.0  # else what stood there before
        return {
            "location": self._location[:streams].copy(),
            "scale": self._scale[:streams].copy(),
            "seen": self._seen[:streams].copy(),
            "waits": self._waits[:streams].copy(),
            "again": self._again[:streams].copy(),
            "learning": learning,
            "kept": kept,
        }

    def restore(self, state: State) -> None:
        """Take over what `state` returned."""
        streams = len(state["seen"])
        self.grow(streams)
        for name in ("location", "scale", "seen"):
            getattr(self, f"_{name}")[:streams] = state[name]
        for name in ("waits", "again"):  # not in snapshots of former releases
            if name in state:
                getattr(self, f"_{name}")[:streams] = state[name]
        self._slot[:streams] = -1
        self._kept, self._free = state["kept"].copy(), []
        learning = state["learning"]
        self._slot[learning] = np.arange(len(self._kept))
        if self._kept.shape[1] not in (0, self.warmup_rows):
            self._resize(np.asarray(learning, np.int64), streams)

    def _resize(self, learning: I64, streams: int) -> None:
        """Go on with a warm-up of another length than the state's: what has learnt stays so, all others go on."""
        n, rows = self._kept.shape[:2]
        self._seen[:streams][self._seen[:streams] >= rows] = self.warmup_rows
        kept = np.zeros((n, self.warmup_rows, self._kept.shape[2]))
        both = min(rows, self.warmup_rows)
        kept[:, :both] = self._kept[:, :both]
        self._kept, self._seen[learning] = kept, np.minimum(self._seen[learning], self.warmup_rows)
        self._estimate(learning[self._seen[learning] == self.warmup_rows])
