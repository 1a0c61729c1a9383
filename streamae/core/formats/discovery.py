"""The channels in payloads for which the configuration names none yet: for the first training, and for `sniff`.

A name is that of a channel where its value is a number at least once. Names are given in the order of their first
appearance, at most a few hundred.
"""

import json
from collections.abc import Iterable, Iterator, Sequence

from streamae.core.formats import FORMATS
from streamae.core.formats.names import selected
from streamae.core.formats.sighting import numbers_of
from streamae.core.formats.spec import PayloadSpec, Record
from streamae.core.topics import CHANNEL, Template
from streamae.core.types import Drop

__all__ = ["VALUE", "channel_names"]

VALUE = "value"  # the channel of payloads that are one number, on topics that do not name it
_NAMES_MAX = 512


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
    form = FORMATS[spec.kind]
    if channel is not None and form.records is None:
        yield channel
    elif channel is not None:
        yield from (channel for record in _records(spec, topic, payload) if numbers_of(record, words=form.words))
    elif form.plain:
        yield VALUE
    else:
        template = None if spec.name is None else Template.parse(spec.name)
        for record in _records(spec, topic, payload):
            for name in numbers_of(record, words=form.words):
                parts = {CHANNEL: name} if template is None else template.match(name)
                if parts is not None:
                    yield parts[CHANNEL]


def _records(spec: PayloadSpec, topic: bytes, payload: bytes) -> list[Record]:
    """Return what can be read of a payload, with names as the format gives them; of Sparkplug what births declare."""
    form = FORMATS[spec.kind]
    if form.declared is not None:
        return form.declared(spec, topic, payload)
    if form.records is None or form.skips(topic):
        return []
    found = form.records(topic, payload, spec, json.loads, 0.0)
    return [record for record in found if not isinstance(record, Drop) and selected(record, spec.where)]
