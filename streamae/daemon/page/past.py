"""A stream's past from the journal: its messages of a span of event time, through a pipeline of its own (`core.past`).

It runs in the asking thread, beside the daemon, on a connection that cannot write; askers take turns. What it costs is
bounded: where the journal of the span is larger than that, pieces of it are read, evenly spread and each long
enough for some windows; where there are more windows than a picture can show, every k-th is scored. The answer says
so in both cases.

The journal is in order of arrival, and a picture in event time. The messages of one stream are in order of both, since
what is late is refused. So a time is looked for where the wall clock has it; and where the stream's clock turns out to
be another (a recording that is replayed, what a broker had queued, a device that is set wrong), by halving.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

import numpy as np

from streamae.core.align_rule import GridAlign
from streamae.core.past import StreamPast
from streamae.core.types import F32, F64, Batch
from streamae.daemon.page.detail import Ground, Raw
from streamae.errors import UnavailableError
from streamae.store.past import Past
from streamae.web.answers import SpanRead

__all__ = ["StreamReplay", "rows_since"]

Loads = Callable[[bytes], Any]

_ASKERS_MAX = 8  # who read or wait for their turn
_PATIENCE_S = 10.0
_COST_MAX = 1_500_000  # messages to look through, about a second
_ROW_COST = 40  # what opening a row of the journal costs, in messages
_OWN_COST = 10  # what decoding a message of the stream costs
_PROBE_MAX = 100_000  # messages, in search of one of the stream
_PROBE_ROWS_MAX = 2_000
_BACK = (10, 100, 1_000)  # rows before the end of the journal in which to look for the last words of a stream
_WINDOWS_MAX = 4_000  # to score
_PIECES_MAX = 48
_PIECE_WINDOWS = 3  # lengths of a window that a piece is long, at least
_STEP_MESSAGES = 1_000
_SAMPLE = 32  # rows of the journal, to estimate how many messages one holds
_SKEW_MIN_S = 10.0  # by which event time and arrival may differ before the stream's own clock is asked


class StreamReplay:
    """Reads pasts, one at a time; `past` opens the store's memory for a block, `loads` parses JSON."""

    def __init__(self, past: Callable[[], AbstractContextManager[Past]], loads: Callable[[bytes], Any]) -> None:
        self._past, self._loads = past, loads
        self._turn = threading.Lock()
        self._room = threading.BoundedSemaphore(_ASKERS_MAX)

    def read(
        self, alone: StreamPast, wanted: Callable[[bytes], bool], from_s: float, until_s: float
    ) -> tuple[Raw, SpanRead]:
        """Return the rows and verdicts of a stream in a span of event time, with what led up to it.

        `wanted` says which topics may be the stream's. Raises UnavailableError where others take too long.
        """
        busy = UnavailableError("the journal is being read for other pages; ask again in a second")
        if not self._room.acquire(blocking=False):
            raise busy
        try:
            if not self._turn.acquire(timeout=_PATIENCE_S):
                raise busy
            try:
                with self._past() as past:
                    return _Reading(past, alone, wanted, self._loads).read(from_s, until_s)
            finally:
                self._turn.release()
        finally:
            self._room.release()


def rows_since(
    past: Past, alone: StreamPast, wanted: Callable[[bytes], bool], from_s: float, at_most: int, loads: Loads
) -> tuple[F64, F64]:
    """Return the rows of a stream, `time_s[n]` and `values[n, C]` in its own units, from `from_s` on (event time).

    As many as there are, and `at_most` so many; what is looked through is bounded.
    """
    return _Reading(past, alone, wanted, loads).rows(from_s, at_most)


class _Reading:
    """One answer in the making."""

    def __init__(
        self, past: Past, alone: StreamPast, wanted: Callable[[bytes], bool], loads: Callable[[bytes], Any]
    ) -> None:
        self._past, self._alone, self._loads = past, alone, loads
        self._known: dict[bytes, bool] = {}
        self._ask = wanted
        group = alone.group
        self._period_s = group.align.every_s if isinstance(group.align, GridAlign) else group.profile.period_s
        self._window_s = group.profile.window * self._period_s
        self._skew_s = max(_SKEW_MIN_S, self._window_s / 2)

    def read(self, from_s: float, until_s: float) -> tuple[Raw, SpanRead]:
        bounds = self._past.span()
        begins = None if bounds is None else self._begins(bounds[0])
        if begins is not None and from_s < begins < until_s:
            from_s = begins
        # A row may hold messages of both sides of a time: begin with the one before.
        first = max(self._place(from_s - 1.5 * self._window_s - self._skew_s) - 1, 0 if bounds is None else bounds[0])
        last = self._place(until_s + self._skew_s)
        pieces = self._pieces(first, last, (until_s - from_s) / self._period_s)
        whole = pieces == [(first, last)]
        rows = (until_s - from_s) / self._period_s * sum(b - a for a, b in pieces) / max(last - first, 1)
        every = max(1, int(np.ceil(rows / (_WINDOWS_MAX * self._alone.group.stride))))
        raw = self._raw([self._through(a, b, until_s, every) for a, b in pieces], (from_s, until_s), every)
        return raw, {
            "journal_from_s": begins,
            "from_s": from_s,
            "whole": whole,
            "pieces": len(pieces),
            "scored_every": every,
        }

    def rows(self, from_s: float, at_most: int) -> tuple[F64, F64]:
        pipeline, bounds = self._alone.pipeline(self._loads), self._past.span()
        times, values = [np.zeros(0)], [np.zeros((0, len(pipeline.profile.channels)))]
        count = cost = 0
        first = 0 if bounds is None else max(self._place(from_s - self._skew_s) - 1, bounds[0])
        for number, batch, _ in self._past.rows(first, self._wanted) if bounds is not None else ():
            if batch.broken:
                pipeline.align.interrupt(np.zeros(1, np.int32))
            readings, _ = pipeline.decoder.decode(batch.topics, batch.payloads, batch.arrival_s)
            rows, _ = pipeline.aligned(readings)
            kept = rows.time_s >= from_s
            times.append(rows.time_s[kept])
            values.append(rows.values[kept])
            count += int(np.count_nonzero(kept))
            cost += _ROW_COST + _OWN_COST * len(batch) + (self._past.row(number) or (0.0, 0))[1]
            if count >= at_most or cost > _COST_MAX:
                break
        return np.concatenate(times)[:at_most], np.concatenate(values)[:at_most]

    def _begins(self, number: int) -> float | None:
        """Return when the stream begins in the journal; where that is far, when its first row was written."""
        said, row = self._said(number), self._past.row(number)
        return said[0] if said is not None else None if row is None else row[0]

    def _place(self, time_s: float) -> int:
        """Return the number of the first row of the journal that can hold what the stream measured from then on."""
        guess = self._past.row_at(time_s)
        low, high = self._past.span() or (1, 0)
        # Where it says nothing from there on, what it said last shows its clock.
        back = (max(low, high - n) for n in _BACK)
        said = next((said for n in (guess, *back) if (said := self._said(n)) is not None), None)
        if said is None or abs(said[0] - said[1]) <= self._skew_s:
            return guess
        while low <= high:
            middle = (low + high) // 2
            said = self._said(middle)
            if said is not None and said[0] < time_s:
                low = middle + 1
            else:
                high = middle - 1
        return low

    def _said(self, number: int) -> tuple[float, float] | None:
        """Return event time and arrival of the stream's first sample from this row on; None where none is near."""
        scratch, seen, looked = self._alone.pipeline(self._loads).decoder, 0, 0
        for row, batch, now_s in self._past.rows(number, self._wanted):
            readings, _ = scratch.decode(batch.topics, batch.payloads, batch.arrival_s)
            if len(readings):
                return float(readings.time_s[0]), now_s
            seen, looked = seen + (self._past.row(row) or (0.0, 0))[1], looked + 1
            if seen > _PROBE_MAX or looked > _PROBE_ROWS_MAX:
                break
        return None

    def _wanted(self, topic: bytes) -> bool:
        known = self._known.get(topic)
        if known is None:
            known = self._known[topic] = self._ask(topic)
        return known

    def _pieces(self, first: int, last: int, rows: float) -> list[tuple[int, int]]:
        """Return what to read of the journal's rows first … last - 1: all, or pieces that cost no more than allowed."""
        count = last - first
        if count <= 0:
            return []
        sample = np.linspace(first, last - 1, min(_SAMPLE, count)).astype(int).tolist()
        messages = count * float(np.mean([(self._past.row(n) or (0.0, 0))[1] for n in sample]))
        share = _COST_MAX / (messages + _ROW_COST * count + _OWN_COST * rows)
        if share >= 1:
            return [(first, last)]
        least = count * _PIECE_WINDOWS * self._window_s / max(rows * self._period_s, 1e-9)
        pieces = int(np.clip(count * share / max(least, 1.0), 1, _PIECES_MAX))
        length = max(int(count * share / pieces), 1)
        starts = np.linspace(last - length, first, pieces).astype(int)[::-1].tolist()
        return [(a, a + length) for a in starts]

    def _through(self, first: int, last: int, until_s: float, every: int) -> dict[str, list[Any]]:
        """Take the rows first … last - 1 of the journal through a pipeline of their own, up to a time."""
        pipeline = self._alone.pipeline(self._loads)
        found: dict[str, list[Any]] = {name: [] for name in _COLUMNS}
        for batch in self._batches(first, last):
            report = pipeline.step(replace(batch, thinning=max(batch.thinning, every)))
            news = report.groups[pipeline.group.name]
            rows, v = news.rows, news.verdicts
            columns = (rows.time_s, rows.values, v.time_s, v.score, v.own, v.share)
            for name, column in zip(_COLUMNS, columns, strict=True):
                found[name].append(column)
            if len(rows) and rows.time_s[-1] > until_s:
                break
        return found

    def _batches(self, first: int, last: int) -> Iterator[Batch]:
        """Yield the stream's messages in batches of some size, which end where messages were lost or thinned."""
        held: list[Batch] = []
        messages = 0
        if first >= last:
            return
        for _, batch, _ in self._past.rows(first, self._wanted, last):
            if held and (batch.broken or batch.thinning != held[0].thinning or messages >= _STEP_MESSAGES):
                yield _one_batch(held)
                held, messages = [], 0
            if len(batch) or batch.broken:
                held.append(batch)
                messages += len(batch)
        if held:
            yield _one_batch(held)

    def _raw(self, parts: list[dict[str, list[Any]]], span: tuple[float, float], every: int) -> Raw:
        pipeline = self._alone.pipeline(self._loads)
        C = len(pipeline.profile.channels)
        empty: dict[str, Any] = {name: np.zeros(0) for name in _COLUMNS}
        empty |= {"values": np.zeros((0, C), np.float32), "share": np.zeros((0, C), np.float32)}
        whole = {
            name: np.concatenate([empty[name], *(column for part in parts for column in part[name])])
            for name in _COLUMNS
        }
        verdicts = {"time_s": whole["verdict_s"], "score": whole["score"], "threshold": whole["threshold"]}
        spacing_s = self._period_s * self._alone.group.stride * every
        gap_s = max(pipeline.rings.gap_max_s, 1.5 * spacing_s)
        share = _at_the_peak(whole, span)
        return Raw(
            Ground.of(pipeline, 0), 0, whole["row_s"], whole["values"].astype(np.float32), verdicts, share, gap_s
        )


_COLUMNS = ("row_s", "values", "verdict_s", "score", "threshold", "share")


def _at_the_peak(whole: dict[str, Any], span: tuple[float, float]) -> F32:
    """Return the channels' shares `[C]` where the score was highest over its threshold; of none, an empty array."""
    time_s: F64 = whole["verdict_s"]
    with np.errstate(invalid="ignore"):
        ratio = np.where((time_s >= span[0]) & (time_s <= span[1]), whole["score"] / whole["threshold"], np.nan)
    if not np.isfinite(ratio).any():
        return np.zeros(0, np.float32)
    peak: F32 = whole["share"][int(np.nanargmax(ratio))].astype(np.float32)
    return peak


def _one_batch(batches: list[Batch]) -> Batch:
    """Join batches of which only the first may say that messages were lost before it."""
    if len(batches) == 1:
        return batches[0]
    return replace(
        batches[0],
        topics=[topic for batch in batches for topic in batch.topics],
        payloads=[payload for batch in batches for payload in batch.payloads],
        arrival_s=np.concatenate([batch.arrival_s for batch in batches]),
    )
