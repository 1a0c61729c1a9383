"""Known formats, by what topics and payloads look like: the part of `sniff` that needs no guessing.

Of each topic in a known format: the names of its numbers, and what tells its streams apart beside the topic. Names are
taken from a few payloads, so what is told rarely may be missing.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from streamae.core.formats import FORMATS, SPARKPLUG
from streamae.core.formats.discovery import numbers_in, records_of
from streamae.core.formats.sparkplug import NAMESPACE, address_of
from streamae.core.formats.spec import MEASUREMENT, PayloadSpec, Record
from streamae.core.topics import Template
from streamae.core.types import Drop
from streamae.tools.sniff.shapes import NOT_MEASURED, Shape

__all__ = ["edge_nodes", "known_format"]

_DOMAINS = {"sensor", "binary_sensor", "number", "input_number", "input_boolean", "switch", "light", "climate"}
_SIDE = re.compile(r"linkquality|update[._].*|.*\.(installed|latest)_version|device\..*")
_NOT_SAMPLES = {
    "tasmota": "what the device says of itself, not samples",
    "zigbee2mqtt": "what the bridge says of itself or of devices, not samples",
}
_LABEL = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_SOURCE = "source"


def known_format(topic: str, payloads: Sequence[bytes]) -> Shape | str | None:
    """Return the shape of a topic in a known format, why it carries no samples, or None where nothing is known."""
    kind = _kind_of(topic, payloads)
    if kind is None:
        return None
    if kind in _NOT_SAMPLES and FORMATS[kind].skips(topic.encode()):
        return _NOT_SAMPLES[kind]
    spec = PayloadSpec(kind)
    records = [record for payload in payloads for record in records_of(spec, topic.encode(), payload)]
    if kind == "homeassistant":
        return Shape(kind, ("value",)) if any(numbers_in(r, spec) for r in records) else "states that are no numbers"
    if kind in ("influx", "telegraf"):
        return _points(kind, records)
    numbers = _always(spec, records) if kind != "senml" else _ever(spec, records)
    values = tuple(name for name in numbers if not _SIDE.fullmatch(name) and not NOT_MEASURED.match(name))
    if not values:
        return f"{kind}, and no numbers that are always there"
    ignored = tuple(name for name in numbers if name not in values)
    return _senml(values) if kind == "senml" else Shape(kind, values, ignored=ignored)


def _kind_of(topic: str, payloads: Sequence[bytes]) -> str | None:
    levels = topic.split("/")
    documents = [_document(payload) for payload in payloads]
    objects = all(isinstance(document, dict) for document in documents)
    tele = levels[0] == "tele" and levels[-1] in ("LWT", "STATE")
    zigbee = levels[0] == "zigbee2mqtt" and (objects or len(levels) > 2)
    stated = len(levels) >= 4 and levels[-1] == "state" and levels[-3] in _DOMAINS and not objects
    looks = {  # the first that holds
        "tasmota": tele or (objects and levels[-1] == "SENSOR" and all("Time" in x for x in documents)),
        "zigbee2mqtt": zigbee or (objects and any("linkquality" in x for x in documents)),
        "homeassistant": stated,
        "telegraf": objects and all(_is_telegraf(x) for x in documents),
        "senml": all(_is_senml(x) for x in documents),
        "influx": all(document is None for document in documents) and _is_influx(payloads),
    }
    return next((kind for kind, holds in looks.items() if holds), None)


def _document(payload: bytes) -> Any:
    try:
        return json.loads(payload)
    except (ValueError, RecursionError):
        return None


def _is_telegraf(document: Mapping[str, Any]) -> bool:
    metrics = document.get("metrics", [document])
    return (
        isinstance(metrics, list)
        and bool(metrics)
        and all(
            isinstance(m, dict)
            and isinstance(m.get("fields"), dict)
            and isinstance(m.get("tags"), dict)
            and "name" in m
            for m in metrics
        )
    )


def _is_senml(document: object) -> bool:
    if not isinstance(document, list) or not document or not all(isinstance(record, dict) for record in document):
        return False
    named = isinstance(document[0].get("bn", document[0].get("n")), str)
    return named and all({"v", "vb", "vs", "vd", "s", "bn"} & set(record) for record in document)


def _is_influx(payloads: Sequence[bytes]) -> bool:
    spec = PayloadSpec("influx")
    found = [record for p in payloads for record in FORMATS["influx"].records(p, spec, json.loads, 0.0)]
    return bool(found) and not any(isinstance(record, Drop) for record in found)


def _ever(spec: PayloadSpec, records: Iterable[Record]) -> list[str]:
    return list(dict.fromkeys(name for record in records for name in numbers_in(record, spec)))


def _always(spec: PayloadSpec, records: Sequence[Record]) -> list[str]:
    return [name for name in _ever(spec, records) if all(name in numbers_in(record, spec) for record in records)]


def _points(kind: str, records: Sequence[Record]) -> Shape | str:
    """Return the shape of points: of the measurement that most of them have, its fields, and tags that differ."""
    every = [record.tags[MEASUREMENT] for record in records]
    if not every:
        return f"{kind} without points"
    wanted = max(dict.fromkeys(every), key=every.count)
    mine = [record for record in records if record.tags[MEASUREMENT] == wanted]
    values = tuple(_always(PayloadSpec(kind), mine))
    if not values:
        return f"{kind} without numbers that are always there"
    tags = dict.fromkeys(tag for record in mine for tag in record.tags if _LABEL.match(tag) and tag != MEASUREMENT)
    told = tuple(tag for tag in tags if len({record.tags.get(tag) for record in mine}) > 1)
    told = tuple(tag for tag in told if all(record.tags.get(tag) for record in mine))
    return Shape(kind, values, labels=told, where=((MEASUREMENT, wanted),) if len(set(every)) > 1 else ())


def _senml(names: tuple[str, ...]) -> Shape:
    """Return the shape of a pack; where all names have parts, the one before the last tells sources apart."""
    split = [re.fullmatch(r"(?:(.*[:/]))?([^:/{}#+]+)([:/])([^:/{}#+]+)", name) for name in names]
    heads = {found[1] or "" for found in split if found is not None}
    marks = {found[3] for found in split if found is not None}
    if None in split or len(heads) > 1 or len(marks) > 1 or re.search(r"[{}#+]", heads.pop()):
        return Shape("senml", names)
    first = split[0]
    assert first is not None
    channels = tuple(dict.fromkeys(found[4] for found in split if found is not None))
    template = f"{first[1] or ''}{{{_SOURCE}}}{first[3]}{{channel}}"
    Template.parse(template)
    return Shape("senml", channels, name=template)


def edge_nodes(topics: Mapping[str, Sequence[bytes]]) -> tuple[dict[str, tuple[Shape, str]], dict[str, str]]:
    """Return the devices of Sparkplug B, and why others are none: template-like topic -> (shape, topic of its data).

    What a device's births declare as numbers are its channels; data that name their metrics count where no birth came.
    """
    named: dict[str, dict[str, None]] = {}
    spoken: dict[str, str] = {}
    unknown: dict[str, str] = {}
    spec = PayloadSpec(SPARKPLUG)
    for topic, payloads in topics.items():
        address = address_of(topic.encode())
        if address is None:
            unknown[topic] = "Sparkplug, but not of an edge node"
            continue
        levels = topic.split("/")
        levels[levels.index(NAMESPACE) + 2] = "+"
        place = "/".join(levels)
        if address.type.endswith("DATA") or place not in spoken:
            spoken[place] = topic
        records = [record for payload in payloads for record in records_of(spec, topic.encode(), payload)]
        named.setdefault(place, {}).update(dict.fromkeys(_ever(spec, records)))
    found = {place: (Shape(SPARKPLUG, tuple(sorted(names))), spoken[place]) for place, names in named.items() if names}
    for place in named.keys() - found.keys():
        unknown[spoken[place]] = (
            "Sparkplug by alias, and no birth in that time: restart the edge node, or write Node Control/Rebirth to it"
            if spoken[place] and "DATA" in spoken[place]
            else "Sparkplug without numbers"
        )
    return found, unknown
