"""What each way to make rows of readings offers, and the simpler one, `align: row`.

There each message that carries all channels is a row, and must move its stream's time forward.
"""

from typing import Protocol

import numpy as np

from streamae.core.align_rule import RowAlign
from streamae.core.arrays import firsts, grown, rounds, without
from streamae.core.refused import Refused
from streamae.core.types import F64, I32, Drop, Drops, Readings, Rows, State

__all__ = ["Align", "MessageRows"]


class Align(Protocol):
    """A stage that turns readings into rows; `gap_max_s` is the longest step between rows of one window."""

    gap_max_s: float | None
    refused: Refused

    def grow(self, streams: int) -> None:
        """Make room for at least this many streams."""
        ...

    def absent(self, from_s: float, until_s: float) -> None:
        """Hold no value over this time, in which nobody listened, where a stream says nothing of it later."""
        ...

    def dead(self, stream: int) -> list[int]:
        """Return the channels of a stream that have no value at present, or that its last row lacked."""
        ...

    def step(self, readings: Readings) -> tuple[Rows, Drops]:
        """Take readings in arrival order; return the rows that are complete now."""
        ...

    def interrupt(self, stream: I32) -> None:
        """Build no row of what these streams sent before: samples of theirs are known to be lost."""
        ...

    def drop(self, stream: int) -> None:
        """Forget a stream; the last one takes its number."""
        ...

    def state(self, streams: int) -> State:
        """Return what a snapshot keeps."""
        ...

    def restore(self, state: State) -> None:
        """Take over what `state` returned."""
        ...


class MessageRows:
    """`align: row`."""

    def __init__(self, settings: RowAlign, channels: int) -> None:
        self.gap_max_s = settings.gap_max_s
        self._channels = channels
        self._last_s: F64 = np.zeros(0)
        self.refused = Refused()

    def grow(self, streams: int) -> None:
        """Make room for at least this many streams."""
        self._last_s = grown(self._last_s, streams, -np.inf)
        self.refused.grow(streams)

    def absent(self, from_s: float, until_s: float) -> None:
        """Do nothing: no value is held."""

    def dead(self, stream: int) -> list[int]:
        """Return the channel that the stream's last row lacked."""
        lacks = int(self.refused.lacks[stream])
        return [lacks] if lacks >= 0 else []

    def interrupt(self, stream: I32) -> None:
        """Do nothing: a row is one message, and nothing is kept of it."""

    def step(self, readings: Readings) -> tuple[Rows, Drops]:
        """Take readings in arrival order; return the complete rows that move their stream's time forward."""
        drops = Drops()
        if len(readings) == 0:
            return Rows(readings.stream, readings.time_s, np.zeros((0, self._channels))), drops
        begins = firsts(readings.origin)
        first, row = np.flatnonzero(begins), np.cumsum(begins) - 1
        values = np.full((len(first), self._channels), np.nan)
        values.reshape(-1)[row * self._channels + readings.channel] = readings.value
        whole = ~np.isnan(values).any(axis=1)
        said = ~np.isnan(values).all(axis=1)  # what only ends values is no row
        short = said & ~whole
        drops[Drop.INCOMPLETE_ROW] = int(short.sum())
        stream, arrival_s = readings.stream[first], readings.arrival_s
        self.refused.note("short", stream, short, whole)
        if drops[Drop.INCOMPLETE_ROW]:
            self.refused.lacks[stream[short]] = np.isnan(values[short]).argmax(axis=1)
        arrival_s = arrival_s[first][whole] if len(arrival_s) else arrival_s
        return self._forward(Rows(stream[whole], readings.time_s[first][whole], values[whole]), arrival_s, drops)

    def _forward(self, rows: Rows, arrival_s: F64, drops: Drops) -> tuple[Rows, Drops]:
        """Refuse the rows that do not move their stream's time forward, unless that begins again."""
        step_s, refused = np.zeros(len(rows)), self.refused  # from the newest row before
        for index in rounds(rows.stream):
            s, time_s = rows.stream[index], rows.time_s[index]
            last_s = self._last_s[s]
            step_s[index] = since_s = time_s - last_s
            if len(arrival_s) and ((since_s < 0).any() or refused.rising[s].any()):
                begins = refused.begins_again(s, time_s, arrival_s[index], since_s < 0)
                step_s[index[begins]], last_s[begins] = np.inf, -np.inf
            self._last_s[s] = np.maximum(time_s, last_s)
        keep = step_s > 0
        drops[Drop.LATE] += int((step_s < 0).sum())
        drops[Drop.DUPLICATE] += int((step_s == 0).sum())
        refused.note("late", rows.stream, step_s < 0, keep)
        refused.note("still", rows.stream, step_s == 0, keep)
        return Rows(rows.stream[keep], rows.time_s[keep], rows.values[keep]), +drops

    def drop(self, stream: int) -> None:
        """Forget a stream; the last one takes its number."""
        self._last_s = without(self._last_s, stream)
        self.refused.drop(stream)

    def state(self, streams: int) -> State:
        """Return what a snapshot keeps."""
        return {"last_s": self._last_s[:streams].copy(), **self.refused.state(streams)}

    def restore(self, state: State) -> None:
        """Take over what `state` returned."""
        self.grow(len(state["last_s"]))
        self._last_s[: len(state["last_s"])] = state["last_s"]
        self.refused.restore(state)
