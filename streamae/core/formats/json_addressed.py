"""JSON documents that say themselves whose their values are: by labels, by the names of values, or by what must hold.

    {"model": "Acurite-Tower", "id": 1234, "temperature_C": 21.5}            `labels`, `where`
    {"values": [{"id": "line1.pump1.flow", "v": 2.5, "q": true, "t": …}]}    `samples`, `id`, `name`, `quality`, `time`
    {"pump1": {"flow": 2.5}, "pump2": {"flow": 2.4}}                         `name`

Values with names of their own that have the same time are of one row. A message may be nobody's: what does not fulfil
`where` is passed over, and a message with none of the group's values is refused.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence

from streamae.core.formats.columns import ReadingColumns
from streamae.core.formats.json_document import JsonDocument
from streamae.core.formats.names import Names
from streamae.core.formats.parsed import parsed
from streamae.core.formats.spec import Opening
from streamae.core.formats.values import parse_path
from streamae.core.routes import Route
from streamae.core.types import Drop

__all__ = ["AddressedReader"]

_NONE: Mapping[str, str] = {}
_Found = tuple[Mapping[str, str], int, object]  # labels beside those of the topic, channel, value


class AddressedReader:
    """One compiled payload spec whose payloads have a say in the stream."""

    def __init__(self, opening: Opening) -> None:
        spec, number = opening.spec, {name: i for i, name in enumerate(opening.channels)}
        values = spec.values if spec.values is not None else {name: f'"{name}"' for name in opening.channels}
        self._spec, self._loads, self._sequences = spec, opening.loads, opening.sequences
        self._named = spec.id is not None or spec.name is not None
        self._paths = [] if self._named else [(number[c], parse_path(p)) for c, p in values.items() if c in number]
        self._value = parse_path(spec.value)
        self._sequence = None if spec.sequence is None else parse_path(spec.sequence)
        self._document, self._rule = JsonDocument(spec, opening.loads), spec.rule
        self._names, self._elsewhere = Names(spec, opening.channels, opening.streams), opening.elsewhere
        self._expected = self._names.expected if self._named else len(self._paths)
        self._single = len(opening.channels) == 1

    def covers(self, topic: bytes, route: Route, payload: bytes) -> bool:
        """Return whether a message has every channel that its topic could give, in one entry where these are whole."""
        del topic
        document = parsed(payload, self._loads)
        entries = document if document is Drop.MALFORMED else self._document.entries(document, 0.0)
        channels: set[int] = set()
        for entry, _ in () if isinstance(entries, Drop) else entries:
            if self._document.selected(entry, document):
                found = {one[1] for one in self._found(entry, document, route) if one[2] is not Drop.MISSING_VALUE}
                channels = channels | found if self._named else max(channels, found, key=len)
        return self._whole(channels, route)

    def _whole(self, channels: Collection[int], route: Route) -> bool:
        return len(channels) >= self._expected if route.channel < 0 else self._single and bool(channels)

    def read(self, topic: bytes, route: Route, payload: bytes, times: tuple[float, float], out: ReadingColumns) -> None:
        """Add the readings of one message; `times` are its arrival and the latest time that is believed."""
        document = parsed(payload, self._loads)
        entries = document if document is Drop.MALFORMED else self._document.entries(document, times[0])
        if isinstance(entries, Drop):
            out.drops[entries] += 1
            return
        asked = known = missing = 0
        together: dict[tuple[int, int, float], list[tuple[int, object]]] = {}
        for at, (entry, time_s) in enumerate(entries):
            if not self._document.selected(entry, document):
                continue
            asked += 1
            every = list(self._found(entry, document, route))
            found = [one for one in every if one[2] is not Drop.MISSING_VALUE]
            known += bool(found)
            why = time_s if isinstance(time_s, Drop) else out.refusal(time_s)
            if found and why is not None:
                out.drops[why] += 1
            elif found and not isinstance(time_s, Drop):
                missing += len(every) - len(found)
                place = (-1 if self._named else at, time_s)
                tags = self._document.tags(entry, document)
                self._sort((topic, payload), found, route, tags, place, together, out)
        # A channel that a message lacks is missing once, however many samples it has.
        out.drops[Drop.MISSING_VALUE] += min(missing, max(1, len(self._paths)))
        out.foreign = not known
        if asked and not known:
            out.drops[Drop.UNKNOWN_CHANNEL] += 1
        if self._sequence is not None and together:
            stream = next(iter(together))[0]
            self._sequences.step((stream, route.template, -1), self._document.lookup(document, self._sequence))
        for (stream, _, time_s), values in together.items():
            out.origins += 1
            for channel, value in values:
                out.take(stream, channel, time_s, value if isinstance(value, Drop) else self._rule.number(value))

    def _found(self, entry: object, document: object, route: Route) -> Iterator[_Found]:
        """Yield what in an entry is, or should be, the group's."""
        if self._named:
            for name, value in self._document.named(entry, document):
                place = self._names.place(name) if route.channel < 0 else (_NONE, route.channel)
                if place is not None:
                    yield *place, value
            return
        for channel, path in self._paths if route.channel < 0 else ((route.channel, self._value),):
            yield _NONE, channel, self._document.value(entry, document, path)

    def _sort(
        self,
        message: tuple[bytes, bytes],
        found: Sequence[_Found],
        route: Route,
        tags: Mapping[str, str],
        place: tuple[int, float],
        together: dict[tuple[int, int, float], list[tuple[int, object]]],
        out: ReadingColumns,
    ) -> None:
        """Put the values of an entry to those of their stream that were measured together, or count why not."""
        refused: set[Drop] = set()

        def admits() -> bool:
            whole = self._named or self._whole({channel for _, channel, _ in found}, route)
            return whole or not self._elsewhere(*message)

        for more, channel, value in found:
            stream = self._names.stream(route.labels, more, tags, admits)
            if isinstance(stream, Drop):
                refused.add(stream)
            else:
                together.setdefault((stream, *place), []).append((channel, value))
        out.drops.update(refused)
