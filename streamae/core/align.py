"""Readings -> rows: all channels of a stream at one time.

`RowAlign` takes what was measured together (one message) as a row and refuses what does not move the stream's time
forward. `GridAlign` builds rows on a time grid from channels that arrive apart: at different rates, late, out of order,
twice, or not at all.

The grid's rule. Tick k stands for the samples in ((k-1)·every, k·every], and its row has the time k·every. The
watermark of a stream is its newest event time less the lateness allowed; a tick closes when the watermark reaches it,
a sample for a closed tick is `late`, so a row is the same for every order in which its samples came (Akidau et al.
2015, "The Dataflow Model"). A channel without a sample in a tick keeps its last value for at most `gap_max_s`;
after that it is missing, and the row does not exist. Nor does a row whose values were only held over a time in which
the daemon was away (`core.absence`).

The time of a stream begins again where its clock has fallen back (`core.refused`).
"""

from dataclasses import replace

import numpy as np

from streamae.core.absence import Absence
from streamae.core.align_rule import GridAlign, RowAlign
from streamae.core.arrays import firsts, grown, rounds, without
from streamae.core.counters import Counters
from streamae.core.message_rows import Align, MessageRows
from streamae.core.refused import Refused
from streamae.core.types import F64, I32, I64, Bool, Drop, Drops, Readings, Rows, State
from streamae.core.waiting import no_readings, sorted_unique, taken

__all__ = ["Align", "GridRows", "MessageRows", "align_stage"]

_NEVER = np.iinfo(np.int64).min // 4  # a tick before all ticks, with room to subtract from
_TICK_EPS = 1e-4  # event times at 1e9 s and 1 ms ticks carry float noise of this part of a tick


def align_stage(
    settings: RowAlign | GridAlign, channels: int, model_gap_max_s: float = 0.0, counters: Counters | None = None
) -> Align:
    """Return the stage for these settings, and a model that bridges gaps so long.

    On a grid, `counters` are read before a value is held; those of rows are read from the rows.
    """
    if isinstance(settings, RowAlign):
        return MessageRows(settings, channels)
    counters = counters or Counters([None] * channels)
    return GridRows(settings, channels, settings.bridged_s(model_gap_max_s), counters)


class GridRows:
    """`align: {every: …}`. Between calls it keeps the samples whose tick is open, and each channel's last value."""

    def __init__(self, settings: GridAlign, channels: int, bridged_s: float, counters: Counters) -> None:
        self._set, self._channels, self._counters = settings, channels, counters
        self.gap_max_s: float | None = 1.5 * settings.every_s  # a row that is missing is a gap already
        self._gap_ticks = int(bridged_s / settings.every_s + _TICK_EPS)
        self._newest_s: F64 = np.zeros(0)
        self._mark: I64 = np.zeros(0, np.int64)  # the last closed tick
        self._held: F64 = np.zeros((0, channels))
        self._held_tick: I64 = np.zeros((0, channels), np.int64)
        self._pending = no_readings()
        self._absence = Absence(settings.every_s)
        self.refused = Refused(settings.lateness_s)

    def grow(self, streams: int) -> None:
        """Make room for at least this many streams."""
        self.refused.grow(streams)
        self._newest_s = grown(self._newest_s, streams, -np.inf)
        self._mark = grown(self._mark, streams, _NEVER)
        self._held = grown(self._held, streams, np.nan)
        self._held_tick = grown(self._held_tick, streams, _NEVER)
        self._counters.grow(streams)

    def step(self, readings: Readings) -> tuple[Rows, Drops]:
        """Take readings in arrival order; return the rows whose tick has closed, by stream and time.

        Where a stream's time begins again, its rows of before come first.
        """
        drops, parts = Drops(), []
        self._absence.note(readings.time_s)
        fresh, place, cuts = self._in_time(readings, drops)
        for at, stream, newest_s in cuts:
            before = (fresh.stream == stream) & (place < at)
            parts.append(self._ended(stream, newest_s, taken(fresh, before), drops))
            fresh, place = taken(fresh, ~before), place[~before]
        rows = self._close(np.unique(readings.stream), fresh, drops)
        if parts:
            rows = Rows(*(np.concatenate([getattr(x, name) for x in (*parts, rows)]) for name in _ROWS))
        excess = len(self._pending) - self._set.pending_max
        if excess > 0:
            drops[Drop.PENDING_FULL] += excess
            oldest_first = np.argsort(self._pending.time_s, kind="stable")
            kept = np.zeros(len(self._pending), np.bool_)
            kept[oldest_first[: self._set.pending_max]] = True
            self._pending = taken(self._pending, kept)
        return rows, +drops

    def _close(self, streams: I32, fresh: Readings, drops: Drops) -> Rows:
        """Take samples, and build the rows of the ticks that have closed in these streams."""
        pending = sorted_unique(Readings.joined((self._pending, fresh)), drops, every=self._set.method == "mean")
        ready = self._tick(pending.time_s) <= self._closed(self._newest_s[pending.stream])
        rows = self._rows(streams, self._counters.readings(taken(pending, ready)))
        self._pending = taken(pending, ~ready)
        return rows

    def _ended(self, stream: int, newest_s: float, last: Readings, drops: Drops) -> Rows:
        """Take the last samples of a stream up to `newest_s`, and forget it: its time begins again."""
        now_s, mine = self._newest_s[stream], self._pending.stream == stream
        others, self._pending = taken(self._pending, ~mine), taken(self._pending, mine)
        self._newest_s[stream] = newest_s
        rows = self._close(np.array([stream], np.int32), last, drops)
        self._pending, self._newest_s[stream] = others, now_s
        self._mark[stream], self._held_tick[stream], self._held[stream] = _NEVER, _NEVER, np.nan
        return rows

    def interrupt(self, stream: I32) -> None:
        """Forget held values and open ticks of these streams: no row may bridge a loss."""
        self._held_tick[stream] = _NEVER
        self._pending = taken(self._pending, ~np.isin(self._pending.stream, stream))

    def absent(self, from_s: float, until_s: float) -> None:
        """Build no row of this time for a stream that has no sample in its tick: nobody listened."""
        self._absence.begin(from_s, until_s)

    def dead(self, stream: int) -> list[int]:
        """Return the channels of a stream that have no value at its last tick."""
        gone: Bool = self._held_tick[stream] + self._gap_ticks < self._mark[stream]
        return np.flatnonzero(gone).tolist()

    def _tick(self, time_s: F64) -> I64:
        return np.ceil(time_s / self._set.every_s - _TICK_EPS).astype(np.int64)

    def _closed(self, newest_s: F64) -> I64:
        """Return the last tick that is closed when the newest sample of a stream has this time."""
        ticks = np.floor((newest_s - self._set.lateness_s) / self._set.every_s + _TICK_EPS)
        return np.where(np.isfinite(ticks), ticks, _NEVER).astype(np.int64)

    def _in_time(self, readings: Readings, drops: Drops) -> tuple[Readings, I64, list[tuple[int, int, float]]]:
        """Refuse samples for ticks that were closed when they arrived, and advance the streams' newest times.

        Returns the others with their places, and of each stream whose time begins again the place from which on, the
        stream, and the newest time before.
        """
        keep = np.zeros(len(readings), np.bool_)
        cuts: list[tuple[int, int, float]] = []
        tick, refused, arrival_s = self._tick(readings.time_s), self.refused, readings.arrival_s
        moved = np.zeros(len(readings), np.bool_)
        for index in rounds(readings.stream):
            s, time_s = readings.stream[index], readings.time_s[index]
            newest_s = self._newest_s[s]
            keep[index] = known = tick[index] > self._closed(newest_s)
            moved[index] = time_s > newest_s
            if len(arrival_s) and not (known.all() and not refused.rising[s].any()):
                begins = refused.begins_again(s, time_s, arrival_s[index], ~known)
                cuts += zip(index[begins].tolist(), s[begins].tolist(), newest_s[begins].tolist(), strict=True)
                keep[index[begins]], newest_s[begins] = True, -np.inf
            self._newest_s[s] = np.maximum(newest_s, time_s)
        drops[Drop.LATE] += int(len(keep) - keep.sum())
        refused.note("late", readings.stream, ~keep, keep)
        refused.note("still", readings.stream, ~moved & firsts(readings.origin), moved)
        return taken(readings, keep), np.flatnonzero(keep), sorted(cuts)

    def _rows(self, streams: I32, ready: Readings) -> Rows:
        """Build the rows of all ticks that have closed in these streams since the last call."""
        end = self._closed(self._newest_s[streams])
        tick = self._tick(ready.time_s)
        rank = np.searchsorted(streams, ready.stream)
        row_rank, row_tick = self._candidates(streams, end, rank, tick)
        values = np.full((len(row_tick), self._channels), np.nan)
        carried = self._held_tick[streams].max(axis=1, initial=_NEVER)
        for channel in range(self._channels):
            mine = ready.channel == channel
            values[:, channel] = self._channel(
                channel, streams, (rank[mine], tick[mine], ready.value[mine]), (row_rank, row_tick)
            )
        whole = ~np.isnan(values).any(axis=1)
        self.refused.note("bare", streams[row_rank], ~whole, whole)
        whole &= ~self._absence.unheard((row_rank, row_tick), (rank, tick), carried)
        self._mark[streams] = np.maximum(self._mark[streams], end)
        return Rows(streams[row_rank[whole]], row_tick[whole] * self._set.every_s, values[whole])

    def _candidates(self, streams: I32, end: I64, rank: I64, tick: I64) -> tuple[I64, I64]:
        """Return (rank, tick) of all closed ticks at which some channel still has a value, in order.

        A value lives from its tick for `gap_max_s`; the candidates are the union of these spans, so that a stream
        that comes back after a day costs no more than one that never left.
        """
        carried = np.maximum(self._held_tick[streams].max(axis=1, initial=_NEVER), _NEVER)
        at_rank = np.concatenate([np.arange(len(streams)), rank])
        at_tick = np.concatenate([self._mark[streams], tick])  # the span that is carried over starts at the mark
        lives = np.where(carried == _NEVER, _NEVER, carried + self._gap_ticks)  # what never was does not live on
        until = np.concatenate([lives, tick + self._gap_ticks])
        order = np.lexsort((at_tick, at_rank))
        at_rank, at_tick, until = at_rank[order], at_tick[order], until[order]
        last = np.r_[at_rank[1:] != at_rank[:-1], True] if len(at_rank) else np.zeros(0, np.bool_)
        following = np.where(last, end[at_rank] + 1, np.r_[at_tick[1:], 0]) if len(at_rank) else at_tick
        start = np.where(at_tick == self._mark[streams][at_rank], at_tick + 1, at_tick)
        stop = np.minimum(np.minimum(following - 1, until), end[at_rank])
        count = np.maximum(stop - start + 1, 0)
        offset = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
        return np.repeat(at_rank, count), np.repeat(start, count) + offset

    def _channel(self, channel: int, streams: I32, samples: tuple[I64, I64, F64], at: tuple[I64, I64]) -> F64:
        """Return one channel's value at each candidate (rank, tick), NaN where it has none; remember its last."""
        rank, tick, value = self._reduced(*samples)
        held_tick, held = self._held_tick[streams, channel], self._held[streams, channel]
        all_rank = np.concatenate([np.arange(len(streams)), rank])
        all_tick = np.concatenate([held_tick, tick])
        all_value = np.concatenate([held, value])
        order = np.lexsort((all_tick, all_rank))
        all_rank, all_tick, all_value = all_rank[order], all_tick[order], all_value[order]
        last = np.searchsorted(all_rank, np.arange(len(streams)), side="right") - 1
        self._held_tick[streams, channel], self._held[streams, channel] = all_tick[last], all_value[last]
        # A structured search: position of (rank, tick) among the sorted samples.
        low = min(int(at[1].min(initial=0)), int(tick.min(initial=0))) - self._gap_ticks - 1
        span = max(int(at[1].max(initial=0)), int(tick.max(initial=0))) - low + 2
        keys = all_rank * span + (np.maximum(all_tick, low) - low)
        found = np.searchsorted(keys, at[0] * span + (at[1] - low), side="right") - 1
        fresh = (all_rank[found] == at[0]) & (at[1] - all_tick[found] <= self._gap_ticks) if len(found) else found > 0
        return np.where(fresh, all_value[found], np.nan) if len(found) else np.zeros(0)

    def _reduced(self, rank: I64, tick: I64, value: F64) -> tuple[I64, I64, F64]:
        """One value per (rank, tick) of samples that are sorted by stream and time."""
        if len(tick) == 0:
            return rank, tick, value
        first = np.flatnonzero(firsts(rank, tick))
        last = np.r_[first[1:] - 1, len(tick) - 1]
        if self._set.method == "mean":
            there = ~np.isnan(value)  # a value that was gone for a moment does not take the others of its tick away
            counts = np.add.reduceat(there.astype(np.int64), first)
            mean = np.add.reduceat(np.where(there, value, 0.0), first) / np.maximum(counts, 1)
            return rank[first], tick[first], np.where(there[last], mean, np.nan)
        return rank[last], tick[last], value[last]

    def drop(self, stream: int) -> None:
        """Forget a stream; the last one takes its number."""
        last = len(self._mark) - 1
        pending = taken(self._pending, self._pending.stream != stream)
        self._pending = replace(
            pending, stream=np.where(pending.stream == last, stream, pending.stream).astype(np.int32)
        )
        for name in ("newest_s", "mark", "held", "held_tick"):
            setattr(self, f"_{name}", without(getattr(self, f"_{name}"), stream))
        self.refused.drop(stream)

    def state(self, streams: int) -> State:
        """Return what a snapshot keeps."""
        p = self._pending
        return {
            "newest_s": self._newest_s[:streams].copy(),
            "mark": self._mark[:streams].copy(),
            "held": self._held[:streams].copy(),
            "held_tick": self._held_tick[:streams].copy(),
            "pending_stream": p.stream,
            "pending_channel": p.channel,
            "pending_time_s": p.time_s,
            "pending_value": p.value,
            **self._absence.state(),
            **self.refused.state(streams),
        }

    def restore(self, state: State) -> None:
        """Take over what `state` returned."""
        streams = len(state["mark"])
        self.grow(streams)
        for name in ("newest_s", "mark", "held", "held_tick"):
            getattr(self, f"_{name}")[:streams] = state[name]
        stream, channel, time_s, value = (state[f"pending_{n}"] for n in ("stream", "channel", "time_s", "value"))
        self._pending = Readings(stream, channel, time_s, value, np.zeros(len(stream), np.int32))
        self._absence.restore(state)
        self.refused.restore(state)


_ROWS = ("stream", "time_s", "values")
