"""From what was heard to groups: kinds of machines, what of theirs measures something, and why the rest is in none.

A message goes to every group that knows its values, so groups may share a topic template as long as none has only
values that another one has too: it would take the other's devices for its own.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from streamae.core.formats import FORMATS
from streamae.core.formats.sighting import measured, measures_nothing
from streamae.core.formats.spec import Sighting
from streamae.core.topics import CHANNEL, Template
from streamae.tools.sniff.behaviour import judged
from streamae.tools.sniff.kinds import REST, TopicKind, channel_level, kinds_of, template_of
from streamae.tools.sniff.known_formats import known_format, put_together
from streamae.tools.sniff.listen import Sniffed
from streamae.tools.sniff.shapes import Shape, shapes_of

__all__ = ["Found", "understand"]


@dataclass(frozen=True, slots=True)
class Found:
    """A group to propose: its topic template, the channels that topics name, and the topics behind it.

    `left_out` says of numbers that are not proposed what they are; `counters` may be read as rates.
    """

    template: str
    channels: tuple[str, ...]
    kind: TopicKind
    counters: tuple[str, ...] = ()
    left_out: tuple[tuple[str, str], ...] = ()


def understand(sniffed: Sniffed, now_s: float) -> tuple[list[Found], dict[str, str]]:
    """Return the groups to propose, and for each other topic why it is in none."""
    seen: list[tuple[str, Shape]] = []
    unknown: dict[str, str] = {}
    places: dict[tuple[str, int], tuple[str, dict[str, Sighting]]] = {}  # -> format, and what was seen on its topics
    for topic, one in sniffed.topics.items():
        known = known_format(topic, one.messages)
        if known is None:
            shapes = shapes_of(one.messages, now_s)
            if isinstance(shapes, str):
                unknown[topic] = shapes
            else:
                seen += [(topic, replace(shape, thinned=one.step)) for shape in shapes]
        elif isinstance(known[1], str):
            unknown[topic] = known[1]
        else:
            for n, sighting in enumerate(known[1]):
                places.setdefault((sighting.place or topic, n), (known[0], {}))[1][topic] = sighting
    for (place, _), (form, sightings) in places.items():
        shape = put_together(form, sightings, {topic: sniffed.topics[topic].messages for topic in sightings})
        if isinstance(shape, str):
            unknown.update(dict.fromkeys(sightings, shape))
        else:
            seen.append((place, replace(shape, thinned=max(sniffed.topics[topic].step for topic in sightings))))
    heard = [at for one in sniffed.topics.values() for at in (one.first_s, one.last_s)]
    seconds = max(heard, default=0.0) - min(heard, default=0.0)
    found = (_judged(kind, unknown, seconds) for kind in kinds_of(seen))
    return _apart([group for group in found if group is not None], unknown), unknown


def _judged(kind: TopicKind, unknown: dict[str, str], seconds: float) -> Found | None:
    """Return the group of a kind without what measures nothing by its name or its behaviour."""
    template, channels = template_of(kind)
    level = None if template.endswith(REST) else channel_level(template)
    names = channels if channels and level is not None else kind.shape.values
    left: dict[str, str] = dict.fromkeys(kind.shape.ignored, "not measured")
    if level is not None:
        by_name, nothing = measured(names)
        left |= dict.fromkeys(nothing, "not measured")
    else:
        by_name = list(names)
    heard = kind.heard(level)
    named = not FORMATS[kind.shape.kind].plain or level is not None or template.endswith(REST)
    if not named and measures_nothing(kind.suffix):
        unknown.update(dict.fromkeys(kind.topics, f"no measurement: {kind.suffix}"))
        return None
    verdicts = judged(heard, by_name if named else (), seconds if FORMATS[kind.shape.kind].on_change else None)
    for what, those in (
        ("constant", verdicts.constant), ("a clock", verdicts.clocks), ("in other units", verdicts.doubled),
        ("a counter", verdicts.counters),
    ):  # fmt: skip
        left |= dict.fromkeys(those, what)
    kept = tuple(name for name in by_name if name not in left)
    if not kept and verdicts.counters:  # there is nothing else to watch
        kept, left = verdicts.counters, {name: why for name, why in left.items() if why != "a counter"}
    if not names or (level is None and not kind.shape.values):
        kept = ()  # one plain value, which is called by the topic
        left = {}
    elif not kept:
        why = ", ".join(f"{name} {what}" for name, what in left.items()) or "nothing"
        unknown.update(dict.fromkeys(kind.topics, f"no measurement: {why}"))
        return None
    shape = replace(kind.shape, values=kept if level is None else kind.shape.values)
    kind.shape = shape
    return Found(template, kept if channels else (), kind, verdicts.counters, tuple(left.items()))


def _apart(found: Sequence[Found], unknown: dict[str, str]) -> list[Found]:
    """Keep the groups that can stand beside each other; what would take another's devices is narrowed, or not built."""
    taken: list[Found] = []
    for group in found:
        one = group
        topics = [topic for other in found if other is not group for topic in other.kind.topics]
        if one.template.endswith(REST) and _covers(one, topics):
            one = _narrowed(one, topics) or one  # machines of one family are called alike
        rivals = [other for other in taken if _meet(one, other) and not _tell_apart(one, other)]
        if rivals and one.kind.shape.states:  # a leak sensor with a thermometer has its switch for a mark
            one = _with_states(one)
            rivals = [other for other in taken if _meet(one, other) and not _tell_apart(one, other)]
        if not rivals:
            taken.append(one)
            continue
        narrow = _narrowed(one, topics)
        if narrow is not None:
            taken.insert(taken.index(rivals[0]), narrow)
        else:
            mine = ", ".join(one.channels or one.kind.shape.values) or "a number"
            odd = f"another shape ({mine}) where {rivals[0].template} has its own"
            unknown.update(dict.fromkeys(one.kind.topics, odd))
    return taken


def _meet(one: Found, other: Found) -> bool:
    """Whether some topic is for both."""
    return _covers(one, other.kind.topics) or _covers(other, one.kind.topics)


def _covers(one: Found, topics: Sequence[str]) -> bool:
    """Whether a group would take some of these topics, or places of topics, for its own."""
    parsed = Template.parse(one.template)
    for topic in topics:
        labels = parsed.match(topic)
        channel = None if labels is None else labels.get(CHANNEL)
        if labels is not None and (channel is None or channel == REST or not one.channels or channel in one.channels):
            return True
    return False


def _with_states(one: Found) -> Found:
    """Return the group with what is on or off among its values."""
    shape = one.kind.shape
    one.kind.shape = replace(shape, values=(*shape.values, *shape.states), states=())
    return replace(one, left_out=tuple(left for left in one.left_out if left[0] not in shape.states))


def _tell_apart(one: Found, other: Found) -> bool:
    """Whether each of two groups knows its own messages by something that the other does not have."""
    a, b = one.kind.shape, other.kind.shape
    if a.where != b.where and a.where and b.where:
        return True
    if FORMATS[a.kind].plain or FORMATS[b.kind].plain:
        return FORMATS[a.kind].plain != FORMATS[b.kind].plain
    mine, theirs = set(a.values), set(b.values)
    return bool(mine - theirs) and bool(theirs - mine)


def _narrowed(one: Found, others: Sequence[str]) -> Found | None:
    """Return the group with a template that no other topic has: the full name of one, or what all names begin with."""
    topics = one.kind.topics
    if len(topics) == 1 and not set("{}+#") & set(topics[0]):
        return replace(one, template=topics[0], channels=())
    levels = one.template.split("/")
    rows = [topic.split("/") for topic in topics]
    for i, level in enumerate(levels):
        if not re.fullmatch(r"\{\w+\}", level) or level == REST:
            continue
        first, last = min(row[i] for row in rows), max(row[i] for row in rows)
        same = next((k for k, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), len(first))
        prefix = re.sub(r"[^_\-. ]*\Z", "", first[:same])
        if not prefix or re.search(r"[{}+#]", prefix):
            continue
        narrow = "/".join([*levels[:i], prefix + level, *levels[i + 1 :]])
        if not _covers(replace(one, template=narrow), others):
            return replace(one, template=narrow)
    return None
