"""Rows -> scaled rows: each stream's own location and scale per channel.

Streams that the model was trained on bring theirs in the artifact. A new stream estimates them in its warm-up: the
first `warmup_rows` rows are kept, and then give mean and standard deviation, bounded by what is usual in the group.
Until then the stream is learning and yields nothing.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from streamae.core.arrays import grown, rounds
from streamae.core.calibration import StreamCalibration
from streamae.core.types import F32, F64, I32, I64, Bool, Rows, State

__all__ = ["SCALED_MAX", "Scale", "early_estimate", "estimate", "roughness"]

# Scaled values are bounded here, a million scales out, only so that their squares stay finite in float32.
SCALED_MAX = 1e6
_REACH = 3.0


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


def early_estimate(values: F64, calm: F64) -> tuple[F64, F64]:
    """Return location and scale of the few rows of a warm-up, given `calm[C]`: scale over roughness in the group.

    A warm-up sees a part of a slow rhythm only, and its deviation is that of the part. How far a channel moves from
    row to row shows at once, and machines of one kind move alike; so the scale is at least what that says.
    """
    location, scale = estimate(values)
    return location, np.maximum(scale, calm * roughness(values))


class Scale:
    """Location and scale of all streams of a group, `[S, C]`, and the warm-up rows of those that are learning.

    `calm[C]` is what the group knows of scale over roughness (0: nothing), see `early_estimate`.
    """

    def __init__(self, channels: int, warmup_rows: int, calm: F64 | None = None) -> None:
        self.warmup_rows = warmup_rows
        self._calm: F64 = np.zeros(channels) if calm is None else calm
        self._location: F64 = np.zeros((0, channels))
        self._scale: F64 = np.ones((0, channels))
        self._seen: I32 = np.zeros(0, np.int32)  # warm-up rows so far
        self._slot: I32 = np.zeros(0, np.int32)  # where in `_kept` they are; -1: nowhere
        self._kept: F64 = np.zeros((0, warmup_rows, channels))
        self._free: list[int] = []

    def grow(self, streams: int) -> None:
        """Make room for at least this many streams."""
        self._location = grown(self._location, streams, 0)
        self._scale = grown(self._scale, streams, 1)
        self._seen = grown(self._seen, streams, 0)
        self._slot = grown(self._slot, streams, -1)

    def begin(self, stream: int, known: StreamCalibration | None) -> None:
        """Start a new stream, which `grow` has made room for, with the artifact's numbers for it if there are any."""
        if known is not None:
            self._location[stream], self._scale[stream] = known.location, known.scale
            self._seen[stream] = self.warmup_rows

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
        """Estimate from their warm-up rows, all of which are there, and forget these."""
        if len(done):
            self._location[done], self._scale[done] = early_estimate(self._kept[self._slot[done]], self._calm)
            self._free += self._slot[done].tolist()
            self._slot[done] = -1
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
        return {
            "location": self._location[:streams].copy(),
            "scale": self._scale[:streams].copy(),
            "seen": self._seen[:streams].copy(),
            "learning": learning,
            "kept": self._kept[self._slot[learning]],
        }

    def restore(self, state: State) -> None:
        """Take over what `state` returned."""
        streams = len(state["seen"])
        self.grow(streams)
        for name in ("location", "scale", "seen"):
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
