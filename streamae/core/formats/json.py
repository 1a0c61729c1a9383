"""JSON of any shape: dotted paths (`sensors.flow`, `readings[0].v`, `"odd.key".v`) lead to each channel's value.

Paths lead to the time as well, where there is one; `samples` leads to an array whose entries are read in the same way.
What is exactly as expected is read many messages at once, by a parser that knows the shape (`columns.py`). Where the
payload says whose its values are, `json_addressed.py` reads it.
"""

import json
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from streamae.core.formats.columns import ColumnReader, ReadingColumns, TopicRun, documents, typed_paths
from streamae.core.formats.json_addressed import AddressedReader
from streamae.core.formats.json_document import JsonDocument
from streamae.core.formats.number_rule import PLAIN_NUMBERS, NumberRule
from streamae.core.formats.parsed import parsed
from streamae.core.formats.spec import Format, Loads, MessageReader, Opening, PayloadSpec, Record
from streamae.core.formats.values import Path, parse_path, to_number
from streamae.core.routes import Route
from streamae.core.types import Drop

__all__ = ["FORMAT", "JsonReader"]

_SAYS_NOTHING = (Drop.MISSING_VALUE, Drop.NOT_A_NUMBER)
_DECIMAL = re.compile(r"[0-9][.,][0-9]")


class JsonReader:
    """One compiled payload spec of which the topic says the stream: paths parsed, channels numbered."""

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
        self.spec = spec
        self.loads = loads
        self._rule, self._document = spec.rule, JsonDocument(spec, loads)
        self._every = self._typed([path for _, path in self.paths], loads)  # of a document with all channels
        self._one = self._typed([self.value], loads)  # of one whose channel is in the topic
        self._channels = np.array([channel for channel, _ in self.paths], np.int32)

    def _typed(self, values: Sequence[Path], loads: Loads) -> ColumnReader | None:
        """Return a reader of whole runs, where the parser has one and the document's shape is known."""
        time, sequence = ([] if path is None else [path] for path in (self.time, self.sequence))
        paths = typed_paths([*time, *values, *sequence])
        make = getattr(loads, "columns", None)
        if make is None or paths is None or not values or (self.spec.samples, self.spec.quality) != (None, None):
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
        found = documents(documented, unit, self.spec.zone, run.arrival_s)
        if found is None:
            return False
        time_s, values = found
        channel = run.channel[:, None] if one else np.broadcast_to(self._channels, values.shape)
        if not out.add_run(run, channel, time_s, values):
            return False
        if self.sequence is not None:
            for stream, place, number in zip(run.stream.tolist(), run.channel.tolist(), columns[-1], strict=True):
                self.sequences.step((stream, template, place), number)
        return True

    def covers(self, topic: bytes, route: Route, payload: bytes) -> bool:
        """Return whether an entry of a message, or all of it, has every channel that its topic could give."""
        del topic
        entries = self._document.entries(parsed(payload, self.loads), 0.0, len(self._paths(route)))
        return not isinstance(entries, Drop) and any(self._has_all(entry, route) for entry, _ in entries)

    def _paths(self, route: Route) -> Sequence[tuple[int, Path]]:
        return self.paths if route.channel < 0 else ((route.channel, self.value),)

    def _has_any(self, entry: object, route: Route) -> bool:
        return any(self._document.lookup(entry, path) is not Drop.MISSING_VALUE for _, path in self._paths(route))

    def _has_all(self, entry: object, route: Route) -> bool:
        there = all(self._document.lookup(entry, path) is not Drop.MISSING_VALUE for _, path in self._paths(route))
        return there and (route.channel < 0 or self._whole)

    def _number(self, entry: object, document: object, path: Path) -> float | Drop:
        found = self._document.value(entry, document, path)
        return found if isinstance(found, Drop) else self._rule.number(found)

    def read(self, topic: bytes, route: Route, payload: bytes, times: tuple[float, float], out: ReadingColumns) -> None:
        """Add the readings of one message; `times` are its arrival and the latest time that is believed."""
        document = parsed(payload, self.loads)
        every = document
        if document is not Drop.MALFORMED:
            every = self._document.entries(document, times[0], len(self._paths(route)))
        if isinstance(every, Drop):
            out.drops[every] += 1
            return
        entries = list(every)
        placed = self._placed((topic, payload), route, entries, document, out) if route.stream < 0 else route
        if isinstance(placed, Drop):
            out.drops[placed] += 1
            return
        if self.sequence is not None and placed.stream >= 0:
            key = (placed.stream, placed.template, placed.channel)
            self.sequences.step(key, self._document.lookup(document, self.sequence))
        missing = out.drops[Drop.MISSING_VALUE]
        for entry, time_s in entries:
            refused = time_s if isinstance(time_s, Drop) else out.refusal(time_s)
            if refused is not None or isinstance(time_s, Drop):
                # What has no value of ours is a stranger, whatever it says of time.
                known = self._has_any(entry, route)
                out.drops[(refused or Drop.BAD_TIME) if known else Drop.MISSING_VALUE] += 1
                continue
            out.origins += 1
            stream, number, value = placed.stream, self._rule.number, self._document.value
            for channel, path in self._paths(route):
                found = value(entry, document, path)
                out.take(stream, channel, time_s, found if isinstance(found, Drop) else number(found))
        # A channel that a message lacks is missing once, however many samples it has.
        again = out.drops[Drop.MISSING_VALUE] - missing - len(self._paths(route))
        if again > 0:
            out.drops[Drop.MISSING_VALUE] -= again

    def _placed(
        self,
        message: tuple[bytes, bytes],
        route: Route,
        entries: Sequence[tuple[object, float | Drop]],
        document: object,
        out: ReadingColumns,
    ) -> Route | Drop:
        """Return the route to a stream that has not appeared, which the first value makes; as it is without one."""
        timely = [entry for entry, t in entries if not isinstance(t, Drop) and out.refusal(t) is None]
        numbers = (self._number(entry, document, path) for entry in timely for _, path in self._paths(route))
        if all(number in _SAYS_NOTHING for number in numbers):
            return route
        if not any(self._has_all(entry, route) for entry in timely) and self._elsewhere(*message):
            return Drop.UNKNOWN_CHANNEL
        stream = self._streams.find(route.labels)
        return Drop.MAX_STREAMS if stream is None else Route(stream, route.channel, route.template)


def _open(opening: Opening) -> MessageReader:
    return AddressedReader(opening) if opening.spec.addressed else JsonReader(opening)


def _keys(spec: PayloadSpec, topic: bytes, payload: bytes) -> list[Record]:
    """Return what in a payload may be a channel, where `values` does not say it: numbers by their key, `id` or path."""
    del topic
    document, found = parsed(payload, json.loads), JsonDocument(spec, json.loads)
    entries = document if isinstance(document, Drop) else found.entries(document, 0.0)
    time = () if spec.time is None else parse_path(spec.time)
    beside = {time, *(parse_path(path) for path in spec.labels.values())}
    records = []
    for entry, _ in () if isinstance(entries, Drop) else entries:
        if spec.id is not None or spec.name is not None:
            values = dict(found.named(entry, document))
        else:
            values = {k: v for k, v in entry.items() if (k,) not in beside} if isinstance(entry, dict) else {}
        if found.selected(entry, document):
            numbers = {name: _measured(spec.rule, value) for name, value in values.items()}
            records.append(Record(None, {name: x for name, x in numbers.items() if x is not None}, {}))
    return records


def _measured(rule: NumberRule, value: object) -> float | None:
    """Return a number. Text is one with a decimal sign, or as the topic declares: digits may as well name a device."""
    said = isinstance(value, str) and (_DECIMAL.search(value) or isinstance(PLAIN_NUMBERS.number(value), Drop))
    read = rule.number(value) if said else to_number(value)
    return None if isinstance(read, Drop) else read


FORMAT = Format(
    name="json",
    about="JSON of any shape, read by paths",
    link="https://www.rfc-editor.org/rfc/rfc8259",
    example='{topic: "plant/{pump}", payload: json, values: {flow: sensors.flow, pressure: "p[0]"}, time: ts}',
    keys=(
        "values", "value", "time", "time_unit", "time_zone", "samples", "sample_every", "sequence", "labels", "where",
        "name", "id", "quality", "good",
    ),
    open=_open,
    declared=_keys,
    timed=False,  # only where `time` says where it stands
    channel=True,
    by_topic=True,
)  # fmt: skip
