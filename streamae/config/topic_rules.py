"""What must agree between the keys of one topic, and with its payload's format: place and remedy of each conflict."""

from collections.abc import Iterator

from streamae.config.streams import TopicSpec
from streamae.config.yaml_document import Loc
from streamae.core.formats import FORMATS
from streamae.core.formats.number_rule import is_unit
from streamae.core.formats.spec import COMMON_KEYS
from streamae.core.formats.values import parse_path
from streamae.core.topics import CHANNEL, Template

__all__ = ["topic_conflicts"]

# Keys of a topic beside `topic` and `payload`.
_ALL_KEYS = (
    "values", "value", "time", "time_unit", "samples", "sample_every", "sequence", "labels", "where", "name", "id",
    "quality", "good", "time_zone",
)  # fmt: skip
_FIELDS = {"sample_every": "sample_every_s", "time_zone": "zone"}

_Finding = tuple[Loc, str]


def topic_conflicts(here: Loc, topic: TopicSpec, template: Template) -> Iterator[_Finding]:
    """Yield (place, remedy) of every contradiction within a topic."""
    given = [key for key in _ALL_KEYS if (_FIELDS.get(key, key)) in topic.given]
    known = FORMATS[topic.kind].keys
    for key in given:
        if key not in known and topic.kind == "number":
            yield (*here, key), "remove it, or write `payload: json`; a plain number has no parts"
        elif key not in known:
            takes = f"payload: {topic.kind} takes {', '.join(sorted((*known, *COMMON_KEYS)))}"
            yield (*here, key), f"remove it; {takes}"
    for unit in topic.units:
        if not is_unit(unit):
            yield (*here, "unit"), 'write the unit as it stands behind the number, such as "°C"'
    if topic.kind == "json":
        yield from _json(here, topic, template)
    else:
        yield from _known_format(here, topic, template)


def _json(here: Loc, topic: TopicSpec, template: Template) -> Iterator[_Finding]:
    named = topic.id is not None or topic.name is not None
    for key, paths in (("values", {} if named else topic.values or {}), ("labels", topic.labels)):
        for name, path in paths.items():
            yield from _path((*here, key, name), path)
    for path in topic.where:
        yield from _path((*here, "where", path), path)
    if CHANNEL in template.labels and topic.values is not None:
        yield (*here, "values"), "name the one path as `value`; {channel} in the topic already says which channel it is"
    elif CHANNEL not in template.labels and topic.id is None and "value" in topic.given:
        yield (*here, "value"), "write `values` with a path for each channel, or put {channel} into the topic"
    if named and CHANNEL in template.labels:
        yield (*here, "id" if topic.id is not None else "name"), "remove it; {channel} in the topic names the value"
    if named and topic.sequence is not None:
        yield (*here, "sequence"), "remove it; the messages are of several streams, and no stream has all its numbers"
    yield from _labels(here, topic, template)
    yield from _belonging(here, topic)


def _path(here: Loc, text: str) -> Iterator[_Finding]:
    try:
        parse_path(text)
    except ValueError as error:
        yield here, str(error)


def _belonging(here: Loc, topic: TopicSpec) -> Iterator[_Finding]:
    """What means nothing without another key."""
    if topic.sample_every_s is not None and topic.samples is None:
        yield (*here, "sample_every"), "name the path of the list in `samples`"
    if topic.time is None and "time_unit" in topic.given:
        yield (*here, "time_unit"), "name the path of the time in `time`"
    if topic.time is None and topic.zone is not None:
        yield (*here, "time_zone"), "name the path of the time in `time`"
    if topic.quality is None and "good" in topic.given:
        yield (*here, "good"), "name the path of the quality in `quality`"


def _labels(here: Loc, topic: TopicSpec, template: Template) -> Iterator[_Finding]:
    """The labels that a payload adds to those of the topic, and its names."""
    if topic.name is not None and CHANNEL not in Template.parse(topic.name).labels:
        yield (*here, "name"), "put {channel} where the name of the channel stands, as in {pump}/{channel}"
    for key, labels in (("labels", [*topic.labels]), ("name", Template.parse(topic.name or "x").labels)):
        for label in labels:
            if label in template.labels and label != CHANNEL:
                yield (*here, key), f"choose another name than {label}; the topic has a label that is called so"


def _known_format(here: Loc, topic: TopicSpec, template: Template) -> Iterator[_Finding]:
    """What a format that is known by name demands of its topic, its names and its labels."""
    if CHANNEL in template.labels and not FORMATS[topic.kind].channel:
        yield (*here, "topic"), "leave {channel} out; the payload names its channels"
    for channel, source in (topic.values or {}).items() if CHANNEL in template.labels else ():
        if channel != source:
            yield (*here, "values", channel), f"write {source}: {source}; the topic calls it so at {{channel}}"
    if FORMATS[topic.kind].plain and topic.values is not None and CHANNEL not in template.labels:
        yield (*here, "values"), "put {channel} into the topic, or remove it: a plain value does not say what it is"
    yield from _labels(here, topic, template)
    sources: set[str] = set()
    for channel, source in (topic.values or {}).items():
        if source in sources:
            yield (*here, "values", channel), "name each value of the payload for one channel only"
        sources.add(source)
    remedy = FORMATS[topic.kind].refuses_topic(topic.topic)
    if remedy is not None:
        yield (*here, "topic"), remedy
