"""Whose place a new stream may take in a group that has all the streams that it may have.

A name that is invented, or that a machine had once, would keep its place for ever. So where new streams are refused,
streams that were silent for long give way: first those that were never judged, of which nothing is lost, then those
that were not heard for a week. "Silent" is measured by the arrivals of messages, from the newest one of the group on.

It is decided where a minute of arrivals ends, between two messages, so that it does not depend on how they were
batched; the new stream has its place from its next message on.
"""

import json
import math

import numpy as np

from streamae.core.arrays import grown, without
from streamae.core.routes import Streams
from streamae.core.types import F64, I64, Batch, Bool, Readings, State

__all__ = ["Places"]

_MINUTE_S = 60.0
_UNJUDGED_S, _JUDGED_S = 3600.0, 7 * 86400.0  # silence after which a place may be taken
_OWN_GAPS = 5.0  # and so many times the longest silence of the stream so far
_NO_MINUTE = -(2**62)


class Places:
    """When each stream of a group was heard last; the names that were refused stand in its registry."""

    def __init__(self, streams: Streams) -> None:
        self._streams = streams
        self._heard_s: F64 = np.zeros(0)  # arrival; NaN: not known; -inf: never a value that could be read
        self._minute = _NO_MINUTE

    def grow(self, streams: int) -> None:
        """Make room for at least this many streams."""
        self._heard_s = grown(self._heard_s, streams, np.nan)

    def drop(self, stream: int) -> None:
        """Forget a stream; the last one takes its number."""
        self._heard_s = without(self._heard_s, stream)

    def note(self, readings: Readings, before: int) -> None:
        """Take the readings of some messages, before which there were so many streams."""
        self._heard_s[before:] = -np.inf
        if len(readings.arrival_s):
            self._heard_s[readings.stream] = readings.arrival_s

    def cuts(self, batch: Batch, *, one_each: bool) -> list[tuple[int, float]]:
        """Return where minutes end in a batch: the first message of each new one, and when it begins.

        None where nobody is refused, and nobody can be: a message creates one stream at most, or, if not `one_each`,
        as many as it has bytes.
        """
        newest = math.floor(float(batch.arrival_s.max(initial=-1.0)) / _MINUTE_S)
        before = self._minute
        if newest <= before:
            return []
        self._minute = newest
        created = len(batch) if one_each else sum(map(len, batch.payloads))
        if len(self._streams) + created <= self._streams.max_streams and not self._streams.refused:
            return []
        minutes = np.maximum(np.maximum.accumulate(np.floor(batch.arrival_s / _MINUTE_S).astype(np.int64)), before)
        first: I64 = np.flatnonzero(np.diff(minutes, prepend=before) > 0)
        return [(i, _MINUTE_S * float(minutes[i])) for i in first.tolist()]

    def victims(self, judged: Bool, gap_s: F64, now_s: float) -> I64:
        """Return the numbers of the streams that give way now: as many as were refused, if so many are silent.

        `judged[S]` have ever had a score, `gap_s[S]` is the longest silence of each.
        """
        wanted = len(self._streams.refused) - (self._streams.max_streams - len(self._streams))
        self._heard_s[np.isnan(self._heard_s)] = now_s
        patience_s = np.maximum(np.where(judged, _JUDGED_S, _UNJUDGED_S), _OWN_GAPS * gap_s)
        silent: I64 = np.flatnonzero(now_s - self._heard_s >= patience_s)
        order = np.lexsort((silent, self._heard_s[silent], judged[silent]))
        return silent[order][: max(wanted, 0)]

    def state(self, streams: int) -> State:
        """Return what a snapshot keeps of the first S streams."""
        refused = np.frombuffer(json.dumps(list(self._streams.refused)).encode(), np.uint8)
        return {"heard_s": self._heard_s[:streams].copy(), "refused": refused, "minute": np.array(self._minute)}

    def restore(self, state: State) -> None:
        """Take over what `state` returned; nothing of a snapshot of a former release."""
        if "heard_s" in state:
            self.grow(len(state["heard_s"]))
            self._heard_s[: len(state["heard_s"])] = state["heard_s"]
            self._streams.refused = dict.fromkeys(json.loads(state["refused"].tobytes()))
            self._minute = int(state["minute"])
