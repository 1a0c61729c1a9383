"""Payload bytes -> readings, or the reason why not.

A payload is described, not programmed: its format is known by name (`number`, `json`, `influx`, `sparkplug` …), and
`core.formats` has a file for each. Event time comes from the payload where it carries one, else from the arrival.

Nothing that a sensor sends raises: each message becomes readings, or one `Drop` for each value that it should have had.
What became of each message is in the `Intake`: a message that the group does not know may be known to another one.
"""

import json
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from streamae.core.formats import FORMATS
from streamae.core.formats.columns import ReadingColumns, TopicRun
from streamae.core.formats.reader import RecordReader
from streamae.core.formats.spec import CoveringReader, MessageReader, Opening, PayloadSpec, RunReader
from streamae.core.intake import Intake, Tally, unclaimed
from streamae.core.routes import Route, Router
from streamae.core.sequence import Sequences
from streamae.core.types import F64, Drop, Drops, Readings, State

__all__ = ["Decoded", "Decoder", "PayloadSpec", "deferred"]

_RUN = 512  # messages that are read at once; one unusual message among them costs the others their speed


def deferred(specs: Sequence[PayloadSpec]) -> list[int]:
    """Return the positions of the specs whose payloads, not topics alone, decide the stream, or if there is one."""
    return [i for i, spec in enumerate(specs) if spec.addressed or not FORMATS[spec.kind].by_topic]


@dataclass(frozen=True, slots=True, eq=False)
class Decoded:
    """What a batch says to one group: its readings, what it refused of messages that it knows, and the account."""

    readings: Readings
    drops: Drops
    intake: Intake


class Decoder:
    """All payload specs of one group, by the index of the topic template that they belong to.

    Event times more than `future_max_s` ahead of the arrival, or before 2000, are refused: one sample of the future
    would make all that follow it late. `loads` parses JSON: bytes -> document, raising ValueError. `elsewhere` says
    whether another group has every value that it could ask of a message: then a part of it makes no new stream here.
    """

    def __init__(
        self,
        router: Router,
        specs: Sequence[PayloadSpec],
        channels: Sequence[str],
        *,
        future_max_s: float = 60.0,
        loads: Callable[[bytes], Any] = json.loads,
    ) -> None:
        self._router = router
        self._channels = len(channels)
        self.elsewhere: Callable[[bytes, bytes], bool] | None = None
        self.sequences = Sequences()
        kinds = [FORMATS[kind] for kind in dict.fromkeys(spec.kind for spec in specs)]
        self._memories = {x.name: x.memory(router.streams.max_streams) for x in kinds if x.memory is not None}
        self._readers = [self._reader(spec, channels, loads) for spec in specs]
        self._run_readers = [reader if isinstance(reader, RunReader) else None for reader in self._readers]
        self._empty_ends = [FORMATS[spec.kind].empty_ends for spec in specs]
        self._skips = [FORMATS[spec.kind].skips for spec in specs]
        self._future_max_s = future_max_s

    def _reader(self, spec: PayloadSpec, channels: Sequence[str], loads: Callable[[bytes], Any]) -> MessageReader:
        form, memory = FORMATS[spec.kind], self._memories.get(spec.kind)
        opening = Opening(spec, channels, self._router.streams, loads, memory, self.sequences, self._is_elsewhere)
        return RecordReader(form, opening) if form.open is None else form.open(opening)

    def _is_elsewhere(self, topic: bytes, payload: bytes) -> bool:
        return self.elsewhere is not None and self.elsewhere(topic, payload)

    def notices(self) -> list[str]:
        """Return, in sentences, new problems since the last call that need a person's attention."""
        return [notice for memory in self._memories.values() for notice in memory.notices()]

    def births(self, stream: int) -> State:
        """Return what `restore` takes for a decoder of this stream alone, which is number 0 there."""
        return {name: kept for memory in self._memories.values() for name, kept in memory.births(stream).items()}

    def drop(self, stream: int, last: int) -> None:
        """Forget a stream; the last one takes its number."""
        self.sequences.drop(stream, last)
        for memory in self._memories.values():
            memory.drop(stream, last)

    def state(self) -> State:
        """Return what a snapshot keeps: what later messages depend on."""
        kept = {name: kept for memory in self._memories.values() for name, kept in memory.state().items()}
        return {**kept, **self.sequences.state()}

    def restore(self, state: State) -> None:
        """Take over what `state` returned."""
        for memory in self._memories.values():
            memory.restore(state)
        self.sequences.restore(state)

    def covers(self, topic: bytes, payload: bytes) -> bool:
        """Return whether a message has every value that its topic could give to the group; nothing is remembered."""
        route = self._router.route(topic) if self._channels else None
        if not isinstance(route, Route):
            return False
        reader = self._readers[route.template]
        return isinstance(reader, CoveringReader) and reader.covers(topic, route, payload)

    def decode(
        self, topics: Sequence[bytes], payloads: Sequence[bytes], arrival_s: F64, wall_s: float = -math.inf
    ) -> tuple[Readings, Drops]:
        """Return the readings of N messages in their order, and all that was refused: those of `read`, for one group.

        The future is judged by the arrival or the wall clock, whichever is later: one of them may have been set wrong.
        """
        found = self.read(topics, payloads, arrival_s, wall_s)
        return found.readings, found.drops + unclaimed(len(topics), [(None, found.intake)])

    def read(
        self, topics: Sequence[bytes], payloads: Sequence[bytes], arrival_s: F64, wall_s: float = -math.inf
    ) -> Decoded:
        """Return the readings of N messages in their order, and what became of each message."""
        latest_s = np.maximum(arrival_s, wall_s) + self._future_max_s
        out, tally = ReadingColumns(), Tally(len(topics), len(self._readers))
        batch = _Batch(topics, payloads, arrival_s, latest_s, out, tally)
        if self._router.deferred:  # a payload may create a stream: keep the messages' order
            self._read_in_order(batch, range(len(topics)))
        else:
            self._read_runs(batch)
        readings = out.readings(arrival_s)
        values = np.bincount(readings.channel, minlength=self._channels)
        return Decoded(readings, tally.own, tally.intake(topics, payloads, values))

    def _read_runs(self, batch: "_Batch") -> None:
        """Read the messages of each template together; those of streams that have not appeared, one by one."""
        codes = self._router.codes(batch.topics)
        for at, template, reason in self._router.refused(codes):
            batch.tally.odd(at, template, _of(reason), read=False)
        new = self._router.new(codes)
        if len(new):
            self._read_in_order(batch, new.tolist())
        payloads = batch.payloads
        for template, mine in self._router.by_template(codes):
            reader, (stream, channel) = self._run_readers[template], self._router.places(codes[mine])
            for first in range(0, len(mine), _RUN):
                part = slice(first, first + _RUN)
                i = mine[part]
                chosen = payloads if len(i) == len(payloads) else [payloads[k] for k in i.tolist()]
                run = TopicRun(i, stream[part], channel[part], chosen, batch.arrival_s[i], batch.latest_s[i])
                if reader is not None and reader.read_run(template, run, batch.out):
                    batch.tally.run(template, i)
                else:
                    self._read_each(batch, template, run)

    def _read_each(self, batch: "_Batch", template: int, run: TopicRun) -> None:
        """Read message by message, and say what is wrong with each that is refused."""
        places = zip(run.stream.tolist(), run.channel.tolist(), strict=True)
        times = zip(run.arrival_s.tolist(), run.latest_s.tolist(), strict=True)
        for at, place, seconds in zip(run.at.tolist(), places, times, strict=True):
            self._read(batch, at, Route(*place, template), seconds)

    def _read_in_order(self, batch: "_Batch", places: Iterable[int]) -> None:
        place_of, topics = self._router.place, batch.topics
        arrival_s, latest_s = batch.arrival_s.tolist(), batch.latest_s.tolist()
        for at in places:
            route, template = place_of(topics[at])
            if isinstance(route, Route):
                self._read(batch, at, route, (arrival_s[at], latest_s[at]))
            else:
                batch.tally.odd(at, template, _of(route), read=False)

    def _read(self, batch: "_Batch", at: int, route: Route, times: tuple[float, float]) -> None:
        """Read one message: arrival and latest time that its samples may have are `times`."""
        topic, payload, out, template = batch.topics[at], batch.payloads[at], batch.out, route.template
        before = len(out.stream)
        out.begin(at, *times)
        if not payload.strip() and not self._empty_ends[template]:
            out.drops[Drop.EMPTY] += 1
        else:
            self._readers[template].read(topic, route, payload, times, out)
        if out.drops or len(out.stream) == before:
            self._note_odd(batch, template, read=len(out.stream) > before)
        else:
            batch.tally.one(template, at)

    def _note_odd(self, batch: "_Batch", template: int, *, read: bool) -> None:
        """Note what is unusual about a message, and begin the account of the next one."""
        out = batch.out
        uncounted = not out.drops and self._skips[template](batch.topics[out.at])
        drops, foreign, out.drops, out.foreign = out.drops, out.foreign, Drops(), False
        batch.tally.odd(out.at, -1 if uncounted else template, drops, read=read, foreign=foreign)


def _of(reason: Drop | None) -> Drops:
    return Drops() if reason is None else Drops({reason: 1})


@dataclass(frozen=True, slots=True, eq=False)
class _Batch:
    """A batch while it is read: its messages, with the latest time that the samples of each may have."""

    topics: Sequence[bytes]
    payloads: Sequence[bytes]
    arrival_s: F64
    latest_s: F64
    out: ReadingColumns
    tally: Tally
