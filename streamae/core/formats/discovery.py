"""What there is in payloads whose channels nobody has named yet: for the first training, and for `sniff`.

A name is that of a channel where its value is a number at least once. Names are given in the order of their first
appearance, at most a few hundred.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from streamae.core.formats import FORMATS, SPARKPLUG
from streamae.core.formats.names import selected
from streamae.core.formats.reader import to_value
from streamae.core.formats.sparkplug import address_of, parse, value_of
from streamae.core.formats.spec import PayloadSpec, Record
from streamae.core.formats.values import lookup, parse_path, to_number
from streamae.core.topics import CHANNEL, Template
from streamae.core.types import Drop

__all__ = ["VALUE", "channel_names", "numbers_in", "records_of"]

VALUE = "value"  # the channel of payloads that are one number, on topics that do not name it
_NAMES_MAX = 512
_CONTROL = ("Node Control/", "Device Control/")


def channel_names(read: Sequence[tuple[Template, PayloadSpec]], messages: Iterable[tuple[bytes, bytes]]) -> list[str]:
    """Return the channels of a group: those that its topics name, and those that are in (topic, payload)."""
    names: dict[str, None] = {}
    open_ended = []
    for template, spec in read:
        if spec.values is not None:
            names.update(dict.fromkeys(spec.values))
        elif not spec.listens:
            open_ended.append((template, spec))
    if not open_ended:
        return list(names)
    for topic, payload in messages:
        text = topic.decode(errors="replace")
        for template, spec in open_ended:
            labels = template.match(text)
            if labels is not None and len(names) < _NAMES_MAX:
                names.update(dict.fromkeys(_names(labels.get(CHANNEL), spec, topic, payload)))
    return list(names)


def _names(channel: str | None, spec: PayloadSpec, topic: bytes, payload: bytes) -> Iterator[str]:
    if channel is not None:
        yield channel
    elif spec.kind == "number" or (spec.kind in FORMATS and FORMATS[spec.kind].plain):
        yield VALUE
    elif spec.kind == "json":
        yield from _keys(spec, payload)
    else:
        template = None if spec.name is None else Template.parse(spec.name)
        for record in records_of(spec, topic, payload):
            for name in numbers_in(record, spec):
                parts = {CHANNEL: name} if template is None else template.match(name)
                if parts is not None:
                    yield parts[CHANNEL]


def records_of(spec: PayloadSpec, topic: bytes, payload: bytes) -> list[Record]:
    """Return what can be read of a payload, with names as the format gives them; of Sparkplug what births declare."""
    if spec.kind == SPARKPLUG:
        return _births(topic, payload)
    form = FORMATS[spec.kind]
    if form.skips(topic):
        return []
    found = (record for record in form.records(payload, spec, json.loads, 0.0))
    return [record for record in found if not isinstance(record, Drop) and selected(record, spec.where)]


def numbers_in(record: Record, spec: PayloadSpec) -> list[str]:
    """Return the names of a record's numbers."""
    words = spec.kind in FORMATS and FORMATS[spec.kind].words
    return [name for name, value in record.values.items() if not isinstance(to_value(value, words=words), Drop)]


def _births(topic: bytes, payload: bytes) -> list[Record]:
    address = address_of(topic)
    if address is None or address.type.endswith(("CMD", "DEATH")):
        return []
    try:
        metrics = parse(payload).metrics
    except ValueError:
        return []
    named = (m for m in metrics if m.name and m.name != "bdSeq" and not m.name.startswith(_CONTROL))
    return [Record(None, {m.name: value_of(m, m.datatype) for m in named}, {})]


def _keys(spec: PayloadSpec, payload: bytes) -> Iterator[str]:
    """Yield the keys of a flat object, or of the entries of its list, that hold numbers."""
    try:
        document: Any = json.loads(payload)
    except (ValueError, RecursionError):
        return
    entries = document if spec.samples is None else lookup(document, parse_path(spec.samples))
    time = () if spec.time is None else parse_path(spec.time)
    for entry in entries if isinstance(entries, list) else [entries]:
        for key, value in entry.items() if isinstance(entry, dict) else ():
            if (key,) != time and not isinstance(to_number(value), Drop):
                yield key
