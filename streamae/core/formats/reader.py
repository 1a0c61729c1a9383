"""A payload in a known format -> readings: the part that all formats have in common.

Values that the group does not know are ignored, since such payloads carry all that their writer had. A message
none of whose values is known is refused, so that a name that is written wrongly can be seen; unless the format
publishes only what changes, where such messages are as common as others.
"""

from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Protocol

from streamae.core.formats.names import Names, selected
from streamae.core.formats.spec import VALUES_A_POINT, Format, Opening, Record
from streamae.core.routes import Route
from streamae.core.types import Drop, Drops

__all__ = ["ReadingSink", "RecordReader"]

_NONE: Mapping[str, str] = {}


class ReadingSink(Protocol):
    """Where readings go: those that are added under one number of `origins` were measured together."""

    drops: Drops
    foreign: bool
    origins: int

    def add(self, stream: int, channel: int, time_s: float, value: float) -> None:
        """Add one reading; NaN ends the validity of the channel's last value."""
        ...

    def take(self, stream: int, channel: int, time_s: float, number: float | Drop) -> None:
        """Add a value as the rule of numbers returns it, or count why it is none."""
        ...

    def refusal(self, time_s: float) -> Drop | None:
        """Return why a time is not believed, None where it is."""
        ...


class RecordReader:
    """All payloads of one topic template, in one format."""

    def __init__(self, form: Format, opening: Opening) -> None:
        assert form.records is not None
        self._format, self._records, self._spec, self._loads = form, form.records, opening.spec, opening.loads
        self._names, self._rule = Names(opening.spec, opening.channels, opening.streams), opening.spec.rule
        self._elsewhere = opening.elsewhere

    def covers(self, topic: bytes, route: Route, payload: bytes) -> bool:
        """Return whether one record of a message has every channel that its topic could give."""
        if self._format.skips(topic):
            return False
        records = islice(self._records(topic, payload, self._spec, self._loads, 0.0), self._spec.max_points)
        known = (one for one in records if not isinstance(one, Drop) and selected(one, self._spec.where))
        return any(self._whole(self._found(one, route)) for one in known)

    def _whole(self, found: Sequence[tuple[Mapping[str, str], int, object]]) -> bool:
        return len({channel for _, channel, _ in found}) >= self._names.expected

    def read(self, topic: bytes, route: Route, payload: bytes, times: tuple[float, float], out: ReadingSink) -> None:
        """Add the readings of one message; `times` are its arrival and the latest time that is believed."""
        if self._format.skips(topic):
            return
        asked = known = took = 0
        limit = self._spec.max_points
        found = list(islice(self._records(topic, payload, self._spec, self._loads, times[0]), limit + 1))
        values = sum(len(one.values) for one in found if isinstance(one, Record))
        if len(found) > limit or values > VALUES_A_POINT * limit:
            out.drops[Drop.TOO_MANY_POINTS] += 1
            return
        for record in found:
            if isinstance(record, Drop):
                out.drops[record] += 1
                known += 1
            elif selected(record, self._spec.where):
                asked += 1
                took += self._take((topic, payload), record, route, times, out)
        known += took
        out.foreign = not took
        if asked and not known and not self._format.on_change:
            out.drops[Drop.UNKNOWN_CHANNEL] += 1

    def _found(self, record: Record, route: Route) -> list[tuple[Mapping[str, str], int, object]]:
        """Return (labels, channel, value) of what a record says of the group's channels."""
        if self._format.plain or route.channel >= 0:
            return [(_NONE, max(route.channel, 0), record.values["value"])] if "value" in record.values else []
        return list(self._names.values(record))

    def _take(
        self, message: tuple[bytes, bytes], record: Record, route: Route, times: tuple[float, float], out: ReadingSink
    ) -> bool:
        """Add what a record of a message says; False where it says nothing of the group's channels."""
        found = self._found(record, route)
        time_s = times[0] if record.time_s is None else record.time_s
        refused = None if record.time_s is None else out.refusal(time_s)
        if found and refused is not None:
            out.drops[refused] += 1
            return True

        def admits() -> bool:
            return self._whole(found) or not self._elsewhere(*message)

        streams: dict[int, list[tuple[int, object]]] = {}
        for labels, channel, value in found:
            stream = self._names.stream(route.labels, labels, record.tags, admits)
            if isinstance(stream, Drop):
                out.drops[stream] += 1
            else:
                streams.setdefault(stream, []).append((channel, value))
        for stream, values in streams.items():
            self._add(stream, time_s, values, out)
        return bool(found)

    def _add(self, stream: int, time_s: float, values: list[tuple[int, object]], out: ReadingSink) -> None:
        out.origins += 1
        for channel, value in values:
            out.take(stream, channel, time_s, self._rule.number(value))
