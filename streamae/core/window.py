"""Rows -> windows: one mirrored ring per stream, so that every window is one contiguous slice.

Ring `[S, 2T, C]`: a row is written at p and at p + T, and the T rows that end with it are then the slice
`ring[s, p+1 : p+1+T]`, without a wrap. A window exists only where its rows are contiguous: a step in time longer than
`gap_max_s`, or backwards, starts the stream's count anew. Every `stride`-th full window of a stream is due, with the
streams' turns staggered by their number so that the work is spread evenly over time.
"""

import numpy as np

from streamae.core.types import F32, F64, I32, I64, State, Windows, grown, rounds

__all__ = ["Rings"]


class Rings:
    """The rolling windows of all streams of a group; grows by doubling as streams appear."""

    def __init__(self, window: int, channels: int, *, gap_max_s: float, stride: int = 1) -> None:
        self.window, self.channels = window, channels
        self.gap_max_s, self.stride = gap_max_s, stride
        self._ring: F32 = np.zeros((0, 2 * window, channels), np.float32)
        self._times: F64 = np.zeros((0, 2 * window), np.float64)
        self._count: I64 = np.zeros(0, np.int64)  # contiguous rows so far
        self._last_s: F64 = np.zeros(0, np.float64)

    def grow(self, streams: int) -> None:
        """Make room for at least this many streams."""
        self._ring = grown(self._ring, streams, 0)
        self._times = grown(self._times, streams, 0)
        self._count = grown(self._count, streams, 0)
        self._last_s = grown(self._last_s, streams, -np.inf)

    def push(self, stream: I32, time_s: F64, values: F32) -> tuple[Windows, I64]:
        """Append scaled rows `values[N, C]`; returns the B windows that came due, and which row ended each.

        Windows come in the order of their rows.
        """
        parts = [self._round(index, stream[index], time_s[index], values[index]) for index in rounds(stream)]
        if not parts:
            empty = Windows(stream[:0], time_s[:0], time_s[:0], np.zeros((0, self.window, self.channels), np.float32))
            return empty, np.zeros(0, np.int64)
        row, start_s, windows = (np.concatenate(column) for column in zip(*parts, strict=True))
        order = np.argsort(row, kind="stable")
        row, start_s, windows = row[order], start_s[order], windows[order]
        return Windows(stream[row], start_s, time_s[row], windows), row

    def _round(self, index: I64, s: I32, time_s: F64, values: F32) -> tuple[I64, F64, F32]:
        """Append one row to each of some different streams; returns the due rows' index, start and window."""
        T = self.window
        step_s = time_s - self._last_s[s]
        count = np.where((step_s > 0) & (step_s <= self.gap_max_s), self._count[s], 0) + 1
        self._count[s], self._last_s[s] = count, time_s
        # The position follows from the count alone, so a stream that starts anew simply overwrites.
        p = (count - 1) % T
        self._ring[s, p] = self._ring[s, p + T] = values
        self._times[s, p] = self._times[s, p + T] = time_s
        due = np.flatnonzero((count >= T) & ((count - T + s) % self.stride == 0))
        if len(due) == 0:
            return index[:0], time_s[:0], np.zeros((0, T, self.channels), np.float32)
        s, first = s[due], p[due] + 1
        view = np.lib.stride_tricks.sliding_window_view(self._ring, T, axis=1)
        # Fancy indexing copies: a view would change under the model at the stream's next row.
        windows = view[s, first].transpose(0, 2, 1)
        return index[due], self._times[s, first], np.ascontiguousarray(windows)

    def fill(self, streams: int) -> I64:
        """Return how many contiguous rows each of the first streams holds, at most T: `[S]`."""
        return np.minimum(self._count[:streams], self.window)

    def latest(self, stream: int) -> tuple[F64, F32]:
        """Return the rows that a stream holds, oldest first: times `[n]` and values `[n, C]`, n <= T."""
        count = int(self._count[stream])
        n = min(count, self.window)
        end = (count - 1) % self.window + self.window + 1
        return self._times[stream, end - n : end].copy(), self._ring[stream, end - n : end].copy()

    def state(self, streams: int) -> State:
        """Return what a snapshot keeps of the first S streams; the mirror half is derived again."""
        T = self.window
        return {
            "ring": self._ring[:streams, :T].copy(),
            "times": self._times[:streams, :T].copy(),
            "count": self._count[:streams].copy(),
            "last_s": self._last_s[:streams].copy(),
        }

    def restore(self, state: State) -> None:
        """Take over what `state` returned."""
        streams = len(state["count"])
        self.grow(streams)
        self._ring[:streams] = np.tile(state["ring"], (1, 2, 1))
        self._times[:streams] = np.tile(state["times"], (1, 2))
        self._count[:streams] = state["count"]
        self._last_s[:streams] = state["last_s"]
