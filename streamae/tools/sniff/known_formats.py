"""Known formats, by what topics and payloads look like: the part of `sniff` that needs no guessing.

Each format recognises its own topics (`core.formats`); here what it says of the topics of one machine is put together.
"""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np

from streamae.core.decode import Decoder
from streamae.core.formats import FORMATS
from streamae.core.formats.names import selected
from streamae.core.formats.number_rule import PLAIN_NUMBERS
from streamae.core.formats.sighting import document, measured
from streamae.core.formats.spec import PayloadSpec, Sighting
from streamae.core.routes import Router, Streams
from streamae.core.topics import CHANNEL, Template
from streamae.core.types import Drop
from streamae.tools.sniff.behaviour import Course, Heard
from streamae.tools.sniff.kinds import REST
from streamae.tools.sniff.shapes import Shape

__all__ = ["Message", "known_format", "put_together"]

Message = tuple[float, bytes]  # when it came, and what was in it
_GLANCE = 8  # payloads
_DATA_MIN = 8  # messages with data, before what is only in births is left out
_WORDS = {"on", "off", "true", "false"}


def known_format(topic: str, messages: Sequence[Message]) -> tuple[str, tuple[Sighting, ...] | str] | None:
    """Return the name of a topic's format and what it says of it, or None where no format recognises the topic."""
    payloads = [payload for _, payload in messages]
    for name, form in FORMATS.items():
        # Most formats are another one, which a few payloads say.
        found = form.recognise(topic, payloads[:_GLANCE]) and form.recognise(topic, payloads)
        if found is not None:
            return name, (found,) if isinstance(found, Sighting) else found
    return None


def put_together(kind: str, seen: Mapping[str, Sighting], messages: Mapping[str, Sequence[Message]]) -> Shape | str:
    """Return the shape of a place from what was seen on its topics, or why it has none."""
    values = dict.fromkeys(name for one in seen.values() for name in one.values)
    if not values:
        samples = [one.nothing for one in seen.values() if one.samples]
        return (samples or [one.nothing for one in seen.values()])[-1]
    first = next(iter(seen.values()))
    ignored = dict.fromkeys(name for one in seen.values() for name in one.ignored)
    ordered = tuple(values) if len(seen) == 1 else tuple(sorted(values))
    if first.place is not None and first.place.endswith(REST):  # the topics say what is beside what
        kept, nothing = measured(ordered)
        ordered, ignored = tuple(kept), {**ignored, **dict.fromkeys(nothing)}
        if not kept:
            return first.nothing
    heard: Heard = defaultdict(lambda: defaultdict(Course))
    states: set[str] = set()
    times: dict[object, list[float]] = defaultdict(list)
    if FORMATS[kind].records is None:
        heard, times = _decoded(kind, seen, ordered, messages)
        enough = sum(map(len, times.values())) >= _DATA_MIN
        never = [name for name in ordered if not heard.get(name)] if heard and enough else []
        ignored |= dict.fromkeys(never)  # said at birth, and never again
        ordered = tuple(name for name in ordered if name not in never)
    for topic, one in seen.items() if FORMATS[kind].records is not None else ():
        _listen(kind, topic, one, messages[topic], (heard, states, times))
    numbers = [name for name in ordered if name not in states]
    switches = tuple(name for name in ordered if name in states) if numbers else ()
    if switches:  # beside measurements these are none
        ignored |= dict.fromkeys(name for name in ordered if name in states)
        ordered = tuple(numbers)
    return Shape(
        kind, ordered, ignored=tuple(ignored), labels=first.labels, where=first.where, name=first.name,
        family=first.family, heard=dict(heard), times=tuple(map(tuple, times.values())),
        partial=FORMATS[kind].on_change, states=switches,
    )  # fmt: skip


def _decoded(
    kind: str, seen: Mapping[str, Sighting], names: Sequence[str], messages: Mapping[str, Sequence[Message]]
) -> tuple[Heard, dict[object, list[float]]]:
    """Return what the data of a machine say, read in the order in which they came, beside what its births repeat."""
    place = next(one.place for one in seen.values()) or next(iter(seen))
    spec, streams = PayloadSpec(kind, values={name: name for name in names}), Streams("all", 1)
    decoder = Decoder(Router([Template.parse(place)], names, streams, [0]), [spec], names, future_max_s=math.inf)
    heard: Heard = defaultdict(lambda: defaultdict(Course))
    times: dict[object, list[float]] = defaultdict(list)
    every = sorted((at, topic, payload) for topic in seen for at, payload in messages[topic])
    for at, topic, payload in every:
        readings, _ = decoder.decode([topic.encode()], [payload], np.array([at]))
        if seen[topic].samples and len(readings):
            times[""].append(at)
            for channel, value in zip(readings.channel.tolist(), readings.value.tolist(), strict=True):
                if math.isfinite(value):
                    heard[names[channel]][""].add(at, value)
    return dict(heard), times


_Notes = tuple[Heard, set[str], dict[object, list[float]]]


def _listen(kind: str, topic: str, one: Sighting, messages: Sequence[Message], notes: _Notes) -> None:
    """Note what the messages of a topic say, as far as a format says it without what came before."""
    heard, states, times = notes
    form = FORMATS[kind]
    names = None if one.name is None else Template.parse(one.name)
    assert form.records is not None
    for at, payload in messages:
        for record in form.records(topic.encode(), payload, PayloadSpec(kind), document, at):
            if isinstance(record, Drop) or not selected(record, dict(one.where)):
                continue
            stream = tuple(record.tags.get(tag) for tag in one.labels)
            times[stream].append(at)
            for name, value in record.values.items():
                called, whose = name, stream
                if form.plain or (one.place or "").endswith(REST):
                    called = one.values[0] if one.values else ""
                elif names is not None:
                    parts = names.match(name)
                    called, whose = (
                        (name, stream) if parts is None else (parts.pop(CHANNEL), (*stream, *parts.values()))
                    )
                number = PLAIN_NUMBERS.number(value)
                if isinstance(number, Drop) or (isinstance(value, str) and not form.words):
                    continue
                heard[called][whose].add(at, number)
                if isinstance(value, bool) or (isinstance(value, str) and value.lower() in _WORDS):
                    states.add(called)
