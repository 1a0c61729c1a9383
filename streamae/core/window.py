"""Rows -> windows: one ring per stream, of which the T rows that end with each new one are a window.

A window exists only where its rows are contiguous: a step in time longer than `gap_max_s`, or backwards, restarts the
stream's count, and so does `interrupt`, where samples are known to be lost. Every `stride`-th full window of a
stream is due, with the streams' turns staggered by their number so that the work is spread evenly over time. Under a
backlog the daemon thins further: every `thinning`-th of those that are due, in the same turns, so that the windows that
are left are among those that would have been.

Memory decides how many streams fit, so a row costs 4 bytes a channel and 2 bytes of time: the step from the row before,
in ticks of a grid that all times are rounded down to. The steps of a window add up to its span, to a tick exactly: a
32,000th of `gap_max_s`, or finer. A window's end is exact, and so is what is contiguous.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from streamae.core.arrays import grown, rounds, without
from streamae.core.types import F32, F64, I32, I64, State, Windows

__all__ = ["Due", "Rings"]

_STEP_MAX = 2**16 - 1
_TICK_MIN_LOG2 = -22  # a quarter of a microsecond: what float64 resolves of today's times
_GAP_MAX_S = 1e12


class Due(NamedTuple):
    """The B windows that came due, the index `row[B]` of the row that ended each, and how many were `skipped`."""

    windows: Windows
    row: I64
    skipped: int


class Rings:
    """The rolling windows of all streams of a group; grows by doubling as streams appear.

    `skipped` counts the windows that thinning left out of the last push.
    """

    def __init__(self, window: int, channels: int, *, gap_max_s: float, stride: int = 1) -> None:
        self.window, self.channels = window, channels
        self.gap_max_s, self.stride = gap_max_s, stride
        gap_s = min(max(gap_max_s, 1e-9), _GAP_MAX_S)
        self._tick_s = 2.0 ** max(math.ceil(math.log2(gap_s / (_STEP_MAX - 1))), _TICK_MIN_LOG2)
        self._turns = sliding_window_view(np.tile(np.arange(window), 2), window)  # [n] is n, n + 1, … and around
        self._ring: F32 = np.zeros((0, window, channels), np.float32)
        self._steps = np.zeros((0, window), np.uint16)  # from the row before; of the oldest row it says nothing
        self._count: I64 = np.zeros(0, np.int64)  # contiguous rows so far
        self._last_s: F64 = np.zeros(0, np.float64)
        self._waited: I32 = np.zeros(0, np.int32)  # rows since the last full window, or since the first

    def grow(self, streams: int) -> None:
        """Make room for at least this many streams."""
        self._ring = grown(self._ring, streams, 0)
        self._steps = grown(self._steps, streams, 0)
        self._count = grown(self._count, streams, 0)
        self._last_s = grown(self._last_s, streams, -np.inf)
        self._waited = grown(self._waited, streams, 0)

    def drop(self, stream: int) -> None:
        """Forget a stream; the last one takes its number."""
        for name in ("ring", "steps", "count", "last_s", "waited"):
            setattr(self, f"_{name}", without(getattr(self, f"_{name}"), stream))

    def interrupt(self, stream: I32) -> int:
        """Restart the windows of these streams; returns how many of them held rows."""
        held = int(np.count_nonzero(self._count[stream]))
        self._count[stream] = 0
        return held

    def push(self, stream: I32, time_s: F64, values: F32, thinning: int = 1) -> Due:
        """Append scaled rows `values[N, C]`; returns the windows that came due, in the order of their rows."""
        parts = [self._round(i, stream[i], time_s[i], values[i], thinning) for i in rounds(stream)]
        if not parts:
            empty = Windows(stream[:0], time_s[:0], time_s[:0], np.zeros((0, self.window, self.channels), np.float32))
            return Due(empty, np.zeros(0, np.int64), 0)
        skipped = sum(part[3] for part in parts)
        if len(parts) == 1:
            ((row, start_s, windows, _),) = parts  # in order already: `rounds` sorts only what it must
        else:
            row, start_s, windows = (np.concatenate(column) for column in list(zip(*parts, strict=True))[:3])
            order = np.argsort(row, kind="stable")
            row, start_s, windows = row[order], start_s[order], windows[order]
        return Due(Windows(stream[row], start_s, time_s[row], windows), row, skipped)

    def _round(self, index: I64, s: I32, time_s: F64, values: F32, thinning: int) -> tuple[I64, F64, F32, int]:
        """Append one row to each of some streams; returns the due rows' index, start and window, and how many not."""
        T = self.window
        last_s = self._last_s[s]
        step_s = time_s - last_s
        on = (step_s > 0) & (step_s <= self.gap_max_s)
        count = np.where(on, self._count[s], 0) + 1
        self._count[s], self._last_s[s] = count, time_s
        self._waited[s] = (self._waited[s] + 1) * (count < T)
        # The position follows from the count alone, so a stream that restarts simply overwrites.
        p = (count - 1) % T
        place = s.astype(np.int64) * T + p  # flat: see `core.sensors.state`
        self._ring.reshape(-1, self.channels)[place] = values
        self._steps.reshape(-1)[place] = self._ticks(time_s) - self._ticks(np.where(on, last_s, time_s))
        turn = count - T + s
        due = np.flatnonzero((count >= T) & (turn % (self.stride * thinning) == 0))
        skipped = 0
        if thinning > 1:
            skipped = int(np.count_nonzero((count >= T) & (turn % self.stride == 0))) - len(due)
        if len(due) == 0:
            return index[:0], time_s[:0], np.zeros((0, T, self.channels), np.float32), skipped
        s, p, time_s = s[due], p[due], time_s[due]
        oldest = (p + 1) % T
        span = self._steps[s].sum(axis=1, dtype=np.int64) - self._steps[s, oldest]
        start_s = time_s - span * self._tick_s
        return index[due], start_s, self._windows(s, oldest), skipped

    def _windows(self, s: I32, oldest: I64) -> F32:
        """Return the rings of streams `s[B]` from their oldest rows on, `[B, T, C]`."""
        rows = self._turns[oldest] + self.window * s.astype(np.int64)[:, None]
        # A take from flat rows is four times as fast as an index over both axes; clipping spares it a second buffer.
        windows: F32 = self._ring.reshape(-1, self.channels).take(rows, axis=0, mode="clip")
        return windows

    def _ticks(self, time_s: F64) -> F64:
        ticks: F64 = np.floor(time_s / self._tick_s)
        return ticks

    def fill(self, streams: int) -> I64:
        """Return how many contiguous rows each of the first streams holds, at most T: `[S]`."""
        return np.minimum(self._count[:streams], self.window)

    def waited(self, streams: int) -> I32:
        """Return the rows that each of the first streams has had since its last full window: `[S]`."""
        return self._waited[:streams]

    def spacing_s(self, stream: I64) -> F64:
        """Return the mean time between the rows that these streams hold; NaN for fewer than two rows."""
        count, place = self._count[stream, None], np.arange(self.window)
        oldest = np.where(count > self.window, count % self.window, 0)
        steps = np.where((place < count) & (place != oldest), self._steps[stream], 0).sum(axis=1, dtype=np.int64)
        rows = np.minimum(count[:, 0], self.window)
        return np.where(rows > 1, steps * self._tick_s / np.maximum(rows - 1, 1), np.nan)

    def latest(self, stream: int) -> tuple[F64, F32]:
        """Return the rows that a stream holds, oldest first: times `[n]` and values `[n, C]`, n <= T."""
        count = int(self._count[stream])
        place = np.arange(count - min(count, self.window), count) % self.window
        age_s = _ages(self._steps[None, stream, place])[0] * self._tick_s
        return self._last_s[stream] - age_s, self._ring[stream, place]

    def state(self, streams: int) -> State:
        """Return what a snapshot keeps of the first S streams."""
        return {
            "ring": self._ring[:streams].copy(),
            "steps": self._steps[:streams].copy(),
            "tick_s": np.array(self._tick_s),
            "count": self._count[:streams].copy(),
            "last_s": self._last_s[:streams].copy(),
            "waited": self._waited[:streams].copy(),
        }

    def restore(self, state: State) -> None:
        """Take over what `state` returned, also of former releases, which kept each row's time."""
        streams = len(state["count"])
        self.grow(streams)
        for name in ("ring", "count", "last_s"):
            getattr(self, f"_{name}")[:streams] = state[name]
        self._waited[:streams] = state.get("waited", 0)  # a former release did not count them
        if "steps" in state and float(state["tick_s"]) == self._tick_s:
            self._steps[:streams] = state["steps"]
        else:  # of a former release, or the configured longest gap has changed
            ticks = self._ticks(self._times(state))
            self._steps[:streams] = np.clip(ticks - np.roll(ticks, 1, axis=1), 0, _STEP_MAX)

    def _times(self, state: State) -> F64:
        """Return the time of each row of a snapshot, by its place in the ring: `[S, T]`; anything where none is."""
        if "times" in state:  # format 1
            return np.asarray(state["times"], np.float64)
        newest_s = np.where(state["count"] > 0, state["last_s"], 0.0)[:, None]
        if "ticks" in state:  # format 2, modulo 2^32
            ticks, last = state["ticks"], (state["count"] - 1) % self.window
            age = ticks[np.arange(len(ticks)), last][:, None] - ticks
            return np.asarray(newest_s - age * float(state["tick_s"]))
        place = (state["count"][:, None] + np.arange(self.window)) % self.window
        times_s = np.empty(place.shape)
        age = _ages(np.take_along_axis(state["steps"], place, axis=1))
        np.put_along_axis(times_s, place, newest_s - age * float(state["tick_s"]), axis=1)
        return times_s


def _ages(steps: np.ndarray) -> I64:
    """Return how many ticks before the newest row each row is, of steps `[S, n]` in the order of the rows."""
    ages: I64 = np.cumsum(steps[:, ::-1], axis=1, dtype=np.int64)[:, ::-1] - steps
    return ages
