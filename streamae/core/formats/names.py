"""What the names in a payload mean to a group: the channel of a value, and the part of the stream that the topic omits.

Labels that come from a payload may hold anything. What could not stand in a topic's level, or would take a name apart
in another place than it was put together, is written as in a URL (`%2F`).
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence

from streamae.core.formats.spec import MEASUREMENT, PayloadSpec, Record
from streamae.core.routes import Streams
from streamae.core.topics import CHANNEL, Template
from streamae.core.types import Drop

__all__ = ["Names", "escaped", "selected"]

_ABSENT = object()
_ESCAPES = {ord(c): f"%{ord(c):02X}" for c in "/+#%{}"} | {i: f"%{i:02X}" for i in (*range(32), 127)}
_HALVES = re.compile("[\ud800-\udfff]")  # of characters; JSON can spell them, and no file or answer can hold them
_LABEL_MAX = 256
_REMEMBERED_MAX = 20_000
Place = tuple[Mapping[str, str], int]  # labels in addition to those of the topic, and the channel


def escaped(value: str) -> str | None:
    """Return text as the value of a label; None where it is empty, too long, or has half a character."""
    fits = 0 < len(value) <= _LABEL_MAX and (value.isascii() or not _HALVES.search(value))
    return value.translate(_ESCAPES) if fits else None


def selected(record: Record, where: Mapping[str, str]) -> bool:
    """Whether the record has the tags that a topic asks for."""
    return not where or all(record.tags.get(tag) == value for tag, value in where.items())


class Names:
    """The names of one topic's payloads."""

    def __init__(self, spec: PayloadSpec, channels: Sequence[str], streams: Streams) -> None:
        number = {name: i for i, name in enumerate(channels)}
        sources = spec.values if spec.values is not None else {name: name for name in channels}
        self._channel = {source: number[name] for name, source in sources.items() if name in number}
        self._template = None if spec.name is None else Template.parse(spec.name)
        self._places: dict[str, Place | None] = {}
        self._labels, self._streams = spec.labels, streams
        self.expected = len({*self._channel.values()})  # channels that payloads could give

    def place(self, name: str) -> Place | None:
        """Return what a name means where a template takes it apart, or names are looked up one by one."""
        if self._template is None:
            channel = self._channel.get(name)
            return None if channel is None else ({}, channel)
        if name in self._places:
            return self._places[name]
        found = self._split(self._template, name)
        if len(self._places) < _REMEMBERED_MAX:
            self._places[name] = found
        return found

    def _split(self, template: Template, name: str) -> Place | None:
        labels = template.match(name)
        channel = None if labels is None else self._channel.get(labels.pop(CHANNEL))
        if labels is None or channel is None:
            return None
        known = {label: text for label, value in labels.items() if (text := escaped(value)) is not None}
        return (known, channel) if len(known) == len(labels) else None

    def values(self, record: Record) -> Iterator[tuple[Mapping[str, str], int, object]]:
        """Yield (labels, channel, value) of what in a record is a channel's."""
        if self._template is not None:
            for name, value in record.values.items():
                place = self.place(name)
                if place is not None:
                    yield *place, value
            return
        prefix = record.tags.get(MEASUREMENT, "") + "."
        for name, channel in self._channel.items():
            value = record.values.get(name, _ABSENT)
            if value is _ABSENT and name.startswith(prefix):
                value = record.values.get(name[len(prefix) :], _ABSENT)
            if value is not _ABSENT:
                yield {}, channel, value

    def stream(
        self,
        topic: Mapping[str, str],
        record: Mapping[str, str],
        tags: Mapping[str, str],
        admits: Callable[[], bool] = lambda: True,
    ) -> int | Drop:
        """Return the stream with the labels of topic, name and tags, or why there is none.

        `admits` is asked where it would be a new one; if not, its values are for another group.
        """
        labels = {**topic, **record}
        for label, tag in self._labels.items():
            text = escaped(tags.get(tag, ""))
            if text is None:
                return Drop.MISSING_VALUE
            labels[label] = text
        known = self._streams.known(labels)
        if known is not None:
            return known
        if not admits():
            return Drop.UNKNOWN_CHANNEL
        stream = self._streams.find(labels)
        return Drop.MAX_STREAMS if stream is None else stream
