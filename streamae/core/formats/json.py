"""JSON of any shape: dotted paths (`sensors.flow`, `readings[0].v`, `"odd.key".v`) lead to each channel's value.

Paths lead to the time as well, where there is one; `samples` leads to an array whose entries are read in the same way.
What is exactly as expected is read many messages at once, by a parser that knows the shape (`columns.py`).
"""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from streamae.core.formats.columns import ColumnReader, ReadingColumns, TopicRun, documents, typed_paths
from streamae.core.formats.parsed import parsed
from streamae.core.formats.spec import Format, Loads, Opening, PayloadSpec, Record
from streamae.core.formats.values import Path, lookup, parse_path, to_number, to_seconds
from streamae.core.routes import Route
from streamae.core.types import Drop

__all__ = ["FORMAT", "JsonReader"]


class JsonReader:
    """One compiled payload spec: paths parsed, channels numbered."""

    def __init__(self, opening: Opening) -> None:
        spec, channels, loads = opening.spec, opening.channels, opening.loads
        self._streams, self._elsewhere = opening.streams, opening.elsewhere
        self._whole = len(channels) == 1  # where the topic names the channel
        self.sequences, self.sequence = opening.sequences, None if spec.sequence is None else parse_path(spec.sequence)
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

    def _typed(self, values: Sequence[Path], loads: Loads) -> ColumnReader | None:
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

    def covers(self, topic: bytes, route: Route, payload: bytes) -> bool:
        """Return whether an entry of a message, or all of it, has every channel that its topic could give."""
        del topic
        entries = self._entries(parsed(payload, self.loads))
        return isinstance(entries, list) and any(self._has_all(entry, route) for entry in entries)

    def _entries(self, document: object) -> object:
        return [document] if self.samples is None else lookup(document, self.samples)

    def _paths(self, route: Route) -> Sequence[tuple[int, Path]]:
        return self.paths if route.channel < 0 else ((route.channel, self.value),)

    def _has_all(self, entry: object, route: Route) -> bool:
        there = all(lookup(entry, path) is not Drop.MISSING_VALUE for _, path in self._paths(route))
        return there and (route.channel < 0 or self._whole)

    def read(self, topic: bytes, route: Route, payload: bytes, times: tuple[float, float], out: ReadingColumns) -> None:
        """Add the readings of one message; `times` are its arrival and the latest time that is believed."""
        arrival_s, limit_s = times
        document = parsed(payload, self.loads)
        if document is Drop.MALFORMED:
            out.drops[Drop.MALFORMED] += 1
            return
        entries = self._entries(document)
        if isinstance(entries, list) and route.stream < 0:
            found = self._placed((topic, payload), route, entries)
            if isinstance(found, Drop):
                out.drops[found] += 1
                return
            route = found
        if self.sequence is not None and route.stream >= 0:
            key = (route.stream, route.template, route.channel)
            self.sequences.step(key, lookup(document, self.sequence))
        if self.samples is None:
            self._entry(document, document, route, (arrival_s, limit_s), out)
            return
        if not isinstance(entries, list):
            out.drops[Drop.MISSING_VALUE] += 1
            return
        step_s = self.spec.sample_every_s
        start_s = self._start(document, arrival_s, len(entries))
        for i, entry in enumerate(entries):
            time_s = start_s + i * step_s if step_s is not None and not isinstance(start_s, Drop) else start_s
            self._entry(entry, document, route, (time_s, limit_s), out)

    def _placed(self, message: tuple[bytes, bytes], route: Route, entries: Sequence[object]) -> Route | Drop:
        """Return the route to a stream that has not appeared, which the first number makes; as it is without one."""
        paths = self._paths(route)
        if all(isinstance(to_number(lookup(entry, path)), Drop) for entry in entries for _, path in paths):
            return route
        if not any(self._has_all(entry, route) for entry in entries) and self._elsewhere(*message):
            return Drop.UNKNOWN_CHANNEL
        stream = self._streams.find(route.labels)
        return Drop.MAX_STREAMS if stream is None else Route(stream, route.channel, route.template)

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
            out.foreign = all(lookup(entry, path) is Drop.MISSING_VALUE for _, path in self._paths(route))
            return
        out.origins += 1
        for channel, path in self._paths(route):
            found = lookup(entry, path)
            number = found if isinstance(found, Drop) else to_number(found)
            if isinstance(number, Drop):
                out.drops[number] += 1
            else:
                out.add(route.stream, channel, time_s, number)


def _keys(spec: PayloadSpec, topic: bytes, payload: bytes) -> list[Record]:
    """Return the keys of a flat object, or of the entries of its list, that hold numbers."""
    del topic
    document = parsed(payload, json.loads)
    entries = document if spec.samples is None else lookup(document, parse_path(spec.samples))
    time = () if spec.time is None else parse_path(spec.time)
    objects = (entry for entry in (entries if isinstance(entries, list) else [entries]) if isinstance(entry, dict))
    return [
        Record(None, {k: v for k, v in entry.items() if (k,) != time and not isinstance(to_number(v), Drop)}, {})
        for entry in objects
    ]


FORMAT = Format(
    name="json",
    about="JSON of any shape, read by paths",
    link="https://www.rfc-editor.org/rfc/rfc8259",
    example='{topic: "plant/{pump}", payload: json, values: {flow: sensors.flow, pressure: "p[0]"}, time: ts}',
    keys=("values", "value", "time", "time_unit", "samples", "sample_every", "sequence"),
    open=JsonReader,
    declared=_keys,
    timed=False,  # only where `time` says where it stands
    channel=True,
    by_topic=True,
)
