"""Payload bytes -> readings, or the reason why not.

A payload is described, not programmed: its format is known by name (`number`, `json`, `influx`, `sparkplug` …), and
`core.formats` has a file for each. Event time comes from the payload where it carries one, else from the arrival.

Nothing that a sensor sends raises: each message becomes readings, or one `Drop` for each value that it should have had.
"""

import json
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from streamae.core.formats import FORMATS
from streamae.core.formats.columns import ReadingColumns, TopicRun
from streamae.core.formats.reader import RecordReader
from streamae.core.formats.spec import MessageReader, Opening, PayloadSpec, RunReader
from streamae.core.routes import Route, Router
from streamae.core.sequence import Sequences
from streamae.core.types import F64, Drop, Drops, Readings, State

__all__ = ["Decoder", "PayloadSpec", "deferred"]

_RUN = 512  # messages that are read at once; one unusual message among them costs the others their speed


def deferred(specs: Sequence[PayloadSpec]) -> list[int]:
    """Return the positions of the specs whose payloads, not topics alone, decide the stream, or if there is one."""
    return [i for i, spec in enumerate(specs) if not FORMATS[spec.kind].by_topic]


class Decoder:
    """All payload specs of one group, by the index of the topic template that they belong to.

    Event times more than `future_max_s` ahead of the arrival are refused: one such sample would make all that
    follow it late. `loads` parses JSON: bytes -> document, raising ValueError.
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
        self.sequences = Sequences()
        kinds = [FORMATS[kind] for kind in dict.fromkeys(spec.kind for spec in specs)]
        self._memories = {x.name: x.memory(router.streams.max_streams) for x in kinds if x.memory is not None}
        self._readers = [self._reader(spec, channels, loads) for spec in specs]
        self._run_readers = [reader if isinstance(reader, RunReader) else None for reader in self._readers]
        self._empty_ends = [FORMATS[spec.kind].empty_ends for spec in specs]
        self._future_max_s = future_max_s

    def _reader(self, spec: PayloadSpec, channels: Sequence[str], loads: Callable[[bytes], Any]) -> MessageReader:
        form, memory = FORMATS[spec.kind], self._memories.get(spec.kind)
        opening = Opening(spec, channels, self._router.streams, loads, memory, self.sequences)
        return RecordReader(form, opening) if form.open is None else form.open(opening)

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

    def decode(
        self, topics: Sequence[bytes], payloads: Sequence[bytes], arrival_s: F64, wall_s: float = -math.inf
    ) -> tuple[Readings, Drops]:
        """Return the readings of N messages in their order, and what was refused.

        The future is judged by the arrival or the wall clock, whichever is later: one of them may have been set wrong.
        """
        out = ReadingColumns()
        latest_s = np.maximum(arrival_s, wall_s) + self._future_max_s
        if self._router.deferred:  # a payload may create a stream: keep the messages' order
            self._read_in_order(topics, payloads, (arrival_s, latest_s), out)
            return out.readings(arrival_s), out.drops
        codes = self._router.codes(topics)
        out.drops.update(self._router.refused(codes))
        for template, at in self._router.by_template(codes):
            reader, (stream, channel) = self._run_readers[template], self._router.places(codes[at])
            for first in range(0, len(at), _RUN):
                part = slice(first, first + _RUN)
                i = at[part]
                chosen = payloads if len(i) == len(payloads) else [payloads[k] for k in i.tolist()]
                run = TopicRun(i, stream[part], channel[part], chosen, arrival_s[i], latest_s[i])
                if reader is None or not reader.read_run(template, run, out):
                    self._read_each(template, run, topics, out)
        return out.readings(arrival_s), out.drops

    def _read_each(self, template: int, run: TopicRun, topics: Sequence[bytes], out: ReadingColumns) -> None:
        """Read message by message, and say what is wrong with each that is refused."""
        places = zip(run.stream.tolist(), run.channel.tolist(), strict=True)
        times = zip(run.arrival_s.tolist(), run.latest_s.tolist(), strict=True)
        for at, payload, place, seconds in zip(run.at.tolist(), run.payloads, places, times, strict=True):
            out.at = at
            self._read(topics[at], Route(*place, template), payload, seconds, out)

    def _read_in_order(
        self, topics: Sequence[bytes], payloads: Sequence[bytes], times: tuple[F64, F64], out: ReadingColumns
    ) -> None:
        route_of = self._router.route
        seconds = zip(*(column.tolist() for column in times), strict=True)
        for at, (topic, payload, now_and_limit_s) in enumerate(zip(topics, payloads, seconds, strict=True)):
            route, out.at = route_of(topic), at
            if isinstance(route, Drop):
                out.drops[route] += 1
            elif route is not None:
                self._read(topic, route, payload, now_and_limit_s, out)

    def _read(
        self, topic: bytes, route: Route, payload: bytes, times: tuple[float, float], out: ReadingColumns
    ) -> None:
        """Read one message: arrival and latest time that its samples may have are `times`."""
        if not payload.strip() and not self._empty_ends[route.template]:
            out.drops[Drop.EMPTY] += 1
        else:
            self._readers[route.template].read(topic, route, payload, times, out)
