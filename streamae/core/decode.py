"""Payload bytes -> readings, or the reason why not.

A payload is described, not programmed: `number` is the bytes of one plain number; `json` is a document in which dotted
paths (`sensors.flow`, `readings[0].v`, `"odd.key".v`) lead to each channel's value and to the time; `samples` leads to
an array whose entries are read in the same way. Event time comes from the payload where a path to it is given, else
from the arrival. Formats of others (InfluxDB, SenML, Sparkplug B …) are known by name: `core.formats`.

Nothing that a sensor sends raises: each message becomes readings, or one `Drop` for each value that it should have had.
"""

import json
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from streamae.core.formats import FORMATS, SPARKPLUG
from streamae.core.formats.columns import ColumnReader, ReadingColumns, TopicRun, documents, numbers, typed_paths
from streamae.core.formats.edge_nodes import EdgeNodes, SparkplugReader
from streamae.core.formats.names import Names
from streamae.core.formats.reader import RecordReader
from streamae.core.formats.spec import PayloadSpec
from streamae.core.formats.values import FLOAT32_MAX, Path, lookup, parse_path, to_number, to_seconds
from streamae.core.sequence import Sequences
from streamae.core.topics import Route, Router
from streamae.core.types import F64, Drop, Drops, Readings, State

__all__ = ["Decoder", "PayloadSpec", "deferred"]

_RUN = 512  # messages that are read at once; one unusual message among them costs the others their speed


class _JsonReader:
    """One compiled `json` payload spec: paths parsed, channels numbered."""

    def __init__(
        self, spec: PayloadSpec, channels: Sequence[str], loads: Callable[[bytes], Any], sequences: Sequences
    ) -> None:
        self.sequences, self.sequence = sequences, None if spec.sequence is None else parse_path(spec.sequence)
        values = spec.values if spec.values is not None else {name: f'"{name}"' for name in channels}
        number = {name: i for i, name in enumerate(channels)}
        self.paths = [(number[name], parse_path(path)) for name, path in values.items() if name in number]
        self.value = parse_path(spec.value)
        self.time = None if spec.time is None else parse_path(spec.time)
        self.samples = None if spec.samples is None else parse_path(spec.samples)
        self.spec = spec
        self.loads = loads
        self._every = self._typed([path for _, path in self.paths], loads)  # of a document with all channels
        self._one = self._typed([self.value], loads)  # of one whose channel is in the topic
        self._channels = np.array([channel for channel, _ in self.paths], np.int32)

    def _typed(self, values: Sequence[Path], loads: Callable[[bytes], Any]) -> ColumnReader | None:
        """Return a reader of whole runs, where the parser has one and the document's shape is known."""
        time, sequence = ([] if path is None else [path] for path in (self.time, self.sequence))
        paths = typed_paths([*time, *values, *sequence])
        make = getattr(loads, "columns", None)
        if make is None or paths is None or not values or self.samples is not None:
            return None
        kinds = [*(float | str for _ in time), *(float for _ in values), *(Any for _ in sequence)]
        reader: ColumnReader | None = make(paths, kinds)
        return reader

    def read_run(self, template: int, run: TopicRun, out: ReadingColumns) -> bool:
        """Read the messages of a run at once, or return False: then nothing was read."""
        one = run.channel[0] >= 0
        reader = self._one if one else self._every
        columns = None if reader is None else reader(run.payloads)
        if columns is None:
            return False
        unit = None if self.time is None else self.spec.time_unit
        documented = columns if self.sequence is None else columns[:-1]
        found = documents(documented, unit, run.arrival_s, run.latest_s)
        if found is None:
            return False
        if self.sequence is not None:
            for stream, channel, number in zip(run.stream.tolist(), run.channel.tolist(), columns[-1], strict=True):
                self.sequences.step((stream, template, channel), number)
        time_s, values = found
        channel = run.channel[:, None] if one else np.broadcast_to(self._channels, values.shape)
        out.add_run(run.at, run.stream, channel, time_s, values)
        return True

    def read(self, topic: bytes, route: Route, payload: bytes, times: tuple[float, float], out: ReadingColumns) -> None:
        del topic
        arrival_s, limit_s = times
        try:
            document = self.loads(payload)
        except (ValueError, RecursionError):  # ValueError: not JSON, not UTF-8, or a number too long
            out.drops[Drop.MALFORMED] += 1
            return
        if self.sequence is not None:
            key = (route.stream, route.template, route.channel)
            self.sequences.step(key, lookup(document, self.sequence))
        if self.samples is None:
            self._entry(document, document, route, (arrival_s, limit_s), out)
            return
        entries = lookup(document, self.samples)
        if not isinstance(entries, list):
            out.drops[Drop.MISSING_VALUE] += 1
            return
        step_s = self.spec.sample_every_s
        start_s = self._start(document, arrival_s, len(entries))
        for i, entry in enumerate(entries):
            time_s = start_s + i * step_s if step_s is not None and not isinstance(start_s, Drop) else start_s
            self._entry(entry, document, route, (time_s, limit_s), out)

    def _start(self, document: object, arrival_s: float, entries: int) -> float | Drop:
        """Return the time of an array's first entry, where its entries have none of their own."""
        if self.spec.sample_every_s is None:
            return arrival_s
        if self.time is None:
            return arrival_s - (entries - 1) * self.spec.sample_every_s
        return to_seconds(lookup(document, self.time), self.spec.time_unit)

    def _entry(
        self, entry: object, document: object, route: Route, times: tuple[float | Drop, float], out: ReadingColumns
    ) -> None:
        """Read one entry of an array, or the document itself; `times` are its time if it has none, and the latest."""
        time_s, limit_s = times
        if self.time is not None and self.spec.sample_every_s is None:
            found = lookup(entry, self.time)
            found = lookup(document, self.time) if found is Drop.MISSING_VALUE else found
            time_s = to_seconds(found, self.spec.time_unit)
        if isinstance(time_s, Drop) or time_s > limit_s:
            out.drops[time_s if isinstance(time_s, Drop) else Drop.FUTURE] += 1
            return
        out.origins += 1
        for channel, path in self.paths if route.channel < 0 else ((route.channel, self.value),):
            found = lookup(entry, path)
            number = found if isinstance(found, Drop) else to_number(found)
            if isinstance(number, Drop):
                out.drops[number] += 1
            else:
                out.add(route.stream, channel, time_s, number)


def deferred(specs: Sequence[PayloadSpec]) -> list[int]:
    """Return the positions of the specs whose payloads have a say in what stream they belong to, or if to any."""
    return [i for i, spec in enumerate(specs) if spec.kind not in ("number", "json")]


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
        self._nodes = EdgeNodes(router.streams.max_streams)
        self.sequences = Sequences()
        self._readers = [self._reader(spec, channels, loads) for spec in specs]
        self._future_max_s = future_max_s

    def _reader(
        self, spec: PayloadSpec, channels: Sequence[str], loads: Callable[[bytes], Any]
    ) -> _JsonReader | RecordReader | SparkplugReader | None:
        if spec.kind == "number":
            return None
        if spec.kind == "json":
            return _JsonReader(spec, channels, loads, self.sequences)
        names = Names(spec, channels, self._router.streams)
        if spec.kind == SPARKPLUG:
            return SparkplugReader(self._nodes, names, listens=spec.listens)
        return RecordReader(FORMATS[spec.kind], spec, names, loads)

    def notices(self) -> list[str]:
        """Return what has begun since the last call that somebody should do something about, in sentences."""
        return self._nodes.notices()

    def births(self, stream: int) -> State:
        """Return what `restore` takes for a decoder of this stream alone, which is number 0 there."""
        return self._nodes.births(stream)

    def state(self) -> State:
        """Return what a snapshot keeps: what later messages lean on."""
        return {**self._nodes.state(), **self.sequences.state()}

    def restore(self, state: State) -> None:
        """Take over what `state` returned."""
        self._nodes.restore(state)
        self.sequences.restore(state)

    def decode(
        self, topics: Sequence[bytes], payloads: Sequence[bytes], arrival_s: F64, wall_s: float = -math.inf
    ) -> tuple[Readings, Drops]:
        """Return the readings of N messages in their order, and what was refused.

        The future is judged by the arrival or the wall clock, whichever is later: one of them may have been set wrong.
        """
        out = ReadingColumns()
        latest_s = np.maximum(arrival_s, wall_s) + self._future_max_s
        if self._router.deferred:  # what a payload says may bring a stream into being: keep to the messages' order
            self._read_in_order(topics, payloads, (arrival_s, latest_s), out)
            return out.readings(arrival_s), out.drops
        codes = self._router.codes(topics)
        out.drops.update(self._router.refused(codes))
        for template, at in self._router.by_template(codes):
            stream, channel = self._router.places(codes[at])
            for first in range(0, len(at), _RUN):
                part = slice(first, first + _RUN)
                i = at[part]
                chosen = payloads if len(i) == len(payloads) else [payloads[k] for k in i.tolist()]
                run = TopicRun(i, stream[part], channel[part], chosen, arrival_s[i], latest_s[i])
                if not self._read_run(template, run, out):
                    self._read_each(template, run, topics, out)
        return out.readings(arrival_s), out.drops

    def _read_run(self, template: int, run: TopicRun, out: ReadingColumns) -> bool:
        reader = self._readers[template]
        if isinstance(reader, _JsonReader):
            return reader.read_run(template, run, out)
        values = numbers(run.payloads) if reader is None else None
        if values is None:
            return False
        out.add_run(run.at, run.stream, np.maximum(run.channel, 0)[:, None], run.arrival_s, values[:, None])
        return True

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
        reader = self._readers[route.template]
        if not payload.strip():
            out.drops[Drop.EMPTY] += 1
        elif reader is not None:
            reader.read(topic, route, payload, times, out)
        else:
            self._number(route, payload, times[0], out)

    @staticmethod
    def _number(route: Route, payload: bytes, now_s: float, out: ReadingColumns) -> None:
        try:
            value = float(payload)
        except ValueError:
            out.drops[Drop.NOT_A_NUMBER] += 1
            return
        # NaN compares false; Python alone reads `1_0` as a number.
        if not abs(value) <= FLOAT32_MAX or math.isinf(value) or b"_" in payload:
            out.drops[Drop.NOT_A_NUMBER if b"_" in payload else Drop.NOT_FINITE] += 1
            return
        out.origins += 1
        out.add(route.stream, max(route.channel, 0), now_s, value)
