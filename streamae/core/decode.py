"""Payload bytes -> readings, or the reason why not.

A payload is described, not programmed: `number` is the bytes of one plain number; `json` is a document in which dotted
paths (`sensors.flow`, `readings[0].v`, `"odd.key".v`) lead to each channel's value and to the time; `samples` leads to
an array whose entries are read in the same way. Event time comes from the payload where a path to it is given, else
from the arrival. Formats of others (InfluxDB, SenML, Sparkplug B …) are known by name: `core.payloads`.

Nothing that a sensor sends raises: each message becomes readings, or one `Drop` for each value that it should have had.
"""

import json
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from streamae.core.payloads import FORMATS, SPARKPLUG
from streamae.core.payloads.edge_nodes import EdgeNodes, SparkplugReader
from streamae.core.payloads.names import Names
from streamae.core.payloads.reader import RecordReader
from streamae.core.payloads.spec import PayloadSpec
from streamae.core.payloads.values import FLOAT32_MAX, lookup, parse_path, to_number, to_seconds
from streamae.core.topics import Route, Router
from streamae.core.types import F64, Drop, Drops, Readings, State

__all__ = ["Decoder", "PayloadSpec", "deferred"]


class _Columns:
    """The readings of a batch while it is read, one list per column."""

    __slots__ = ("arrival_s", "channel", "drops", "now_s", "origin", "origins", "stream", "time_s", "value")

    def __init__(self) -> None:
        self.stream: list[int] = []
        self.channel: list[int] = []
        self.time_s: list[float] = []
        self.value: list[float] = []
        self.origin: list[int] = []
        self.arrival_s: list[float] = []
        self.now_s = 0.0  # arrival of the message that is read
        self.origins = 0
        self.drops = Drops()

    def add(self, stream: int, channel: int, time_s: float, value: float) -> None:
        self.stream.append(stream)
        self.channel.append(channel)
        self.time_s.append(time_s)
        self.value.append(value)
        self.origin.append(self.origins)
        self.arrival_s.append(self.now_s)

    def readings(self) -> Readings:
        return Readings(
            np.array(self.stream, np.int32),
            np.array(self.channel, np.int32),
            np.array(self.time_s, np.float64),
            np.array(self.value, np.float64),
            np.array(self.origin, np.int32),
            np.array(self.arrival_s, np.float64),
        )


class _JsonReader:
    """One compiled `json` payload spec: paths parsed, channels numbered."""

    def __init__(self, spec: PayloadSpec, channels: Sequence[str], loads: Callable[[bytes], Any]) -> None:
        values = spec.values if spec.values is not None else {name: f'"{name}"' for name in channels}
        number = {name: i for i, name in enumerate(channels)}
        self.paths = [(number[name], parse_path(path)) for name, path in values.items() if name in number]
        self.value = parse_path(spec.value)
        self.time = None if spec.time is None else parse_path(spec.time)
        self.samples = None if spec.samples is None else parse_path(spec.samples)
        self.spec = spec
        self.loads = loads

    def read(self, topic: bytes, route: Route, payload: bytes, times: tuple[float, float], out: _Columns) -> None:
        del topic
        arrival_s, limit_s = times
        try:
            document = self.loads(payload)
        except (ValueError, RecursionError):  # ValueError: not JSON, not UTF-8, or a number too long
            out.drops[Drop.MALFORMED] += 1
            return
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
        self, entry: object, document: object, route: Route, times: tuple[float | Drop, float], out: _Columns
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
        self._readers = [self._reader(spec, channels, loads) for spec in specs]
        self._future_max_s = future_max_s

    def _reader(
        self, spec: PayloadSpec, channels: Sequence[str], loads: Callable[[bytes], Any]
    ) -> _JsonReader | RecordReader | SparkplugReader | None:
        if spec.kind == "number":
            return None
        if spec.kind == "json":
            return _JsonReader(spec, channels, loads)
        names = Names(spec, channels, self._router.streams)
        if spec.kind == SPARKPLUG:
            return SparkplugReader(self._nodes, names, listens=spec.listens)
        return RecordReader(FORMATS[spec.kind], spec, names, loads)

    def notices(self) -> list[str]:
        """Return what has begun since the last call that somebody should do something about, in sentences."""
        return self._nodes.notices()

    def state(self) -> State:
        """Return what a snapshot keeps: what later messages lean on."""
        return self._nodes.state()

    def restore(self, state: State) -> None:
        """Take over what `state` returned."""
        self._nodes.restore(state)

    def decode(
        self, topics: Sequence[bytes], payloads: Sequence[bytes], arrival_s: F64, wall_s: float = -math.inf
    ) -> tuple[Readings, Drops]:
        """Return the readings of N messages in their order, and what was refused.

        The future is judged by the arrival or the wall clock, whichever is later: one of them may have been set wrong.
        """
        out = _Columns()
        route_of, readers, ahead_s = self._router.route, self._readers, self._future_max_s
        for topic, payload, now_s in zip(topics, payloads, arrival_s.tolist(), strict=True):
            route = route_of(topic)
            if isinstance(route, Drop):
                out.drops[route] += 1
                continue
            if not payload.strip():
                out.drops[Drop.EMPTY] += 1
                continue
            reader = readers[route.template]
            if reader is not None:
                out.now_s = now_s
                reader.read(topic, route, payload, (now_s, max(now_s, wall_s) + ahead_s), out)
                continue
            try:
                value = float(payload)
            except ValueError:
                out.drops[Drop.NOT_A_NUMBER] += 1
                continue
            # NaN compares false; Python alone reads `1_0` as a number.
            if not abs(value) <= FLOAT32_MAX or math.isinf(value) or b"_" in payload:
                out.drops[Drop.NOT_A_NUMBER if b"_" in payload else Drop.NOT_FINITE] += 1
                continue
            out.origins, out.now_s = out.origins + 1, now_s
            out.add(route.stream, max(route.channel, 0), now_s, value)
        return out.readings(), out.drops
