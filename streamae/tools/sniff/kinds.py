"""What topics that belong together have in common, and the template that stands for them.

Topics of the same tree, depth and shape are one kind. Within a kind a level that is always the same is literal, and
the others are labels. A level is the channel where nearly every machine has the same few names at it; so is the last
word of a level, as in `kitchen_temperature`.
"""

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from streamae.core.formats import FORMATS
from streamae.core.formats.sighting import snake
from streamae.core.topics import CHANNEL
from streamae.tools.sniff.behaviour import Course, Heard
from streamae.tools.sniff.shapes import Shape
from streamae.tools.sniff.tags import ONE_VALUE

__all__ = ["REST", "TopicKind", "channel_level", "kinds_of", "template_of"]

REST = "{" + CHANNEL + "...}"  # stands at the end of a place whose topics name the channels
_CHANNELS_MAX = 64
_TREES_MERGED = 3  # so many first levels with the same below them are a label, not different trees
_FULL = 0.8  # the part of machines that must have a channel
Placed = tuple[str, Shape]  # a topic, or the place of a machine, and one shape of what it carries


@dataclass(slots=True)
class TopicKind:
    """Topics of one tree, depth and shape; `members` are their own shapes."""

    shape: Shape
    topics: list[str] = field(default_factory=list)
    members: list[Shape] = field(default_factory=list)
    split_at: int | None = None  # the level whose last word is the channel
    suffix: str = ""  # ... or is always this one

    def heard(self, channel_level: int | None = None) -> Heard:
        """Return what was heard of each value of all topics; plain values are called as their topics call them."""
        out: dict[str, dict[object, Course]] = defaultdict(dict)
        for topic, member in zip(self.topics, self.members, strict=True):
            for name, courses in member.heard.items():
                called, machine = (name, topic) if channel_level is None else self.called(topic, channel_level)
                for stream, course in courses.items():
                    out[called][machine, stream] = course
        return dict(out)

    def called(self, topic: str, level: int) -> tuple[str, str]:
        """Return the channel that a topic names at this level, and whose it is."""
        levels = topic.split("/")
        machine, _, word = levels[level].rpartition("_")
        name = word if level == self.split_at else levels[level]
        levels[level] = machine if level == self.split_at else ""
        return name, "/".join(levels)


def kinds_of(seen: Sequence[Placed]) -> list[TopicKind]:
    """Sort topics into kinds, the largest first; of topics that would share a template the rarer kinds stand first."""
    trees: dict[tuple[object, ...], list[TopicKind]] = defaultdict(list)
    counted: dict[tuple[object, ...], list[Placed]] = defaultdict(list)
    for topic, shape in seen:
        levels = topic.split("/")
        named = tuple(map(bool, levels))  # a label needs a name: an empty level is literal
        beside = (shape.labels, shape.where, shape.name, shape.family, shape.tags is not None)
        counted[levels[0], named, shape.kind, shape.time, shape.samples, beside, shape.values].append((topic, shape))
    for key in sorted(counted, key=lambda key: -len(counted[key])):
        tree, found = key[:6], counted[key]
        topics, members = [topic for topic, _ in found], [shape for _, shape in found]
        shape = members[0]
        # What has all values of a larger kind, and others besides, belongs to it.
        home = next((k for k in trees[tree] if set(k.shape.values) <= set(shape.values)), None)
        if home is None:
            trees[tree].append(TopicKind(shape, topics, members))
        else:
            home.topics += topics
            home.members += members
    merged = _merged([kind for kinds in trees.values() for kind in kinds])
    return sorted((part for kind in merged for part in _by_words(kind)), key=lambda kind: -len(kind.topics))


def _merged(kinds: list[TopicKind]) -> list[TopicKind]:
    """Join trees that differ in their first level only, where there are several alike."""
    alike: dict[tuple[object, ...], list[TopicKind]] = defaultdict(list)
    for kind in kinds:
        below = frozenset(topic.rpartition("/")[2] for topic in kind.topics) if kind.shape.kind == "number" else None
        named = tuple(map(bool, kind.topics[0].split("/")))
        plain = replace(kind.shape, ignored=(), ahead_s=0.0, partial=False)
        alike[named, below if len(named) > 1 else kind.topics[0], plain].append(kind)
    out = []
    for same in alike.values():
        if len(same) >= _TREES_MERGED and "/" in same[0].topics[0]:
            topics = [topic for kind in same for topic in kind.topics]
            out.append(TopicKind(same[0].shape, topics, [one for kind in same for one in kind.members]))
        else:
            out += same
    return out


def _by_words(kind: TopicKind) -> list[TopicKind]:
    """Part the entities of a plain format by the last word of their names: what they measure."""
    if not FORMATS[kind.shape.kind].plain or kind.shape.kind == "number" or kind.topics[0].endswith(REST):
        return [kind]
    rows = [topic.split("/") for topic in kind.topics]
    columns = [list(dict.fromkeys(column)) for column in zip(*rows, strict=True)]
    level = _channel_level(rows, columns)
    if level is not None and len(rows) > len(columns[level]):  # several machines, whose levels say it
        return [kind]
    at = max(range(len(columns)), key=lambda i: (len(columns[i]), i))
    words: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        machine, _, word = row[at].rpartition("_")
        words[word].add(machine)
    common = max(words.values(), key=len)
    together = {word for word, machines in words.items() if len(machines & common) >= _FULL * len(common)}
    if len(common) < 2 or "" in common or len(together) < 2:
        together = set()
    parts: dict[str, list[int]] = defaultdict(list)
    for i, row in enumerate(rows):
        machine, _, word = row[at].rpartition("_")
        parts["" if word in together and machine in common else word or row[at]].append(i)
    out = []
    for word, members in parts.items():
        one = TopicKind(kind.shape, [kind.topics[i] for i in members], [kind.members[i] for i in members])
        out.append(replace(one, split_at=at) if not word else replace(one, suffix=word))
    return out


def template_of(kind: TopicKind) -> tuple[str, tuple[str, ...]]:
    """Return the topic template of a kind, and its channels where a level of the topic names them."""
    rows = [topic.split("/") for topic in kind.topics]
    columns = [list(dict.fromkeys(column)) for column in zip(*rows, strict=True)]
    plain = FORMATS[kind.shape.kind].plain or (kind.shape.kind == "json" and _is_one_value(kind.shape.values))
    at = kind.split_at
    if at is None and plain and not kind.suffix and kind.shape.tags is None and not kind.shape.labels:
        at = _channel_level(rows, columns)
    parts: list[str] = []
    for i, values in enumerate(columns):
        if i == at and kind.split_at is None:
            parts.append("{" + CHANNEL + "}")
        elif len(values) == 1 and (values[0] in ("+", REST) or not re.search(r"[{}+#]", values[0])):
            parts.append(values[0])
        else:
            taken = {part[1:-1] for part in parts if part.startswith("{")} | {CHANNEL}
            before = "" if i == 0 or parts[-1].startswith("{") else parts[-1]
            label = "{" + _label(values, before, i, taken) + "}"
            words = {value.rpartition("_")[2] for value in values}
            if i == kind.split_at:
                label = f"{label}_{{{CHANNEL}}}"
            elif kind.suffix and words == {kind.suffix} and all(value.count("_") for value in values):
                label = f"{label}_{kind.suffix}"
            parts.append(label)
    if parts[-1] == REST:
        return "/".join(parts), kind.shape.values
    if at is None:
        return "/".join(parts), ()
    return "/".join(parts), tuple(sorted({kind.called(topic, at)[0] for topic in kind.topics}))


def _is_one_value(values: Sequence[str]) -> bool:
    """Whether a document has one number, which its name does not say: then its topic does."""
    return len(values) == 1 and ONE_VALUE.fullmatch(snake(re.split(r"[./\]]", values[0])[-1])) is not None


def channel_level(template: str) -> int | None:
    """Return the level of the topic that names the channel."""
    levels = template.split("/")
    return next((i for i, level in enumerate(levels) if "{" + CHANNEL + "}" in level), None)


def _channel_level(rows: Sequence[Sequence[str]], columns: Sequence[Sequence[str]]) -> int | None:
    """Return the level at which nearly every stream has the same names, the last such; None where there is none."""
    for i in reversed(range(len(columns))):
        names = columns[i]
        machines = len({tuple(row[:i]) + tuple(row[i + 1 :]) for row in rows})
        numbered = sum(name[-1:].isdigit() for name in names) > len(names) / 2
        if not 2 <= len(names) <= _CHANNELS_MAX or (numbered and machines < 2 * len(names)):
            continue
        if len(rows) >= _FULL * len(names) * machines:
            return i
    return None


def _label(values: Sequence[str], before: str, level: int, taken: set[str]) -> str:
    """Return a name for a level: what its values begin with (`pump` of pump01, pump02), or the level before, or so."""
    first, last = min(values), max(values)
    same = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), len(first))
    word = re.sub(r"[^a-z]+$", "", first[:same].lower())
    collective = before.lower().removesuffix("s")
    names = (word.strip("_"), collective, "device", f"level{level + 1}")
    return next(n for n in names if re.fullmatch(r"[a-z][a-z_]{2,}|level\d+", n) and n not in taken)
