"""What payloads are made of, and what topics that belong together have in common: the guessing behind `sniff`.

A topic's payloads have a shape: a plain number, or JSON with numbers at certain paths, a time, a list of samples.
Topics of the same tree, depth and shape are one kind. Within a kind a level that is always the same is literal, and
the others are labels. A level is the channel where nearly every machine has the same few names at it.
"""

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from streamae.core.formats.sighting import NOT_MEASURED
from streamae.core.formats.values import to_number, to_seconds
from streamae.core.topics import CHANNEL
from streamae.core.types import Drop

__all__ = ["REST", "Shape", "TopicKind", "kinds_of", "shape_of", "template_of"]

_TIME_NAMES = re.compile(r"(^|_)(ts|t|time|timestamp|datetime|date|at|when|last_seen|observed|utc)$", re.IGNORECASE)
REST = "{" + CHANNEL + "...}"  # stands at the end of a place whose topics name the channels
_YEAR_2001_S, _YEAR_2100_S = 978_307_200.0, 4_102_444_800.0
_NEAR_S = 86_400.0
_PLAIN_KEY = re.compile(r"[^.\[\]\"]+\Z")
_CHANNELS_MAX = 64
_DEPTH_MAX = 8
_INDEXED_MAX = 8  # a longer list of numbers is not so many channels
_TREES_MERGED = 3  # so many first levels with the same below them are a label, not different trees


@dataclass(frozen=True, slots=True)
class Shape:
    """`values` are the paths of numbers (relative to an entry of `samples`, if any), `time` that of the time.

    `entries` is the length of the list of samples where these have no time of their own, else 0; `ignored` are numbers
    that measure nothing. For known formats `values` are names, `labels`, `where` and `name` are as in the
    configuration, and `family` distinguishes kinds of machines that may have the same names.
    """

    kind: str
    values: tuple[str, ...] = ()
    time: str | None = None
    samples: str | None = None
    entries: int = 0
    ignored: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    where: tuple[tuple[str, str], ...] = ()
    name: str | None = None
    family: str = ""


@dataclass(slots=True)
class TopicKind:
    """Topics of one tree, depth and shape."""

    shape: Shape
    topics: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Leaf:
    path: str
    key: str
    value: object


def shape_of(payloads: Sequence[bytes], now_s: float) -> Shape | str:
    """Return the shape that all of a topic's payloads have, or in a few words what they are instead."""
    if all(_is_number(payload) for payload in payloads):
        return Shape("number")
    documents = []
    for payload in payloads:
        try:
            documents.append(json.loads(payload))
        except (ValueError, RecursionError):
            return _words(payload)
    shapes = [_json_shape(document, now_s) for document in documents]
    known = [shape for shape in shapes if isinstance(shape, Shape)]
    if len(known) < len(shapes):
        return next(shape for shape in shapes if isinstance(shape, str))
    return _common(known) or "JSON without numbers that are always there"


def _is_number(payload: bytes) -> bool:
    try:
        return not isinstance(to_number(float(payload)), Drop) and b"_" not in payload
    except ValueError:
        return False


def _words(payload: bytes) -> str:
    try:
        text = payload.decode()
    except UnicodeDecodeError:
        return f"{len(payload)} bytes that are not text"
    return f"text, such as {text[:40]!r}" if text else "empty"


def _json_shape(document: object, now_s: float) -> Shape | str:
    if not isinstance(document, dict):
        return f"JSON that is not an object: {json.dumps(document)[:40]}"
    lists = [name for name, node in document.items() if name and '"' not in name and _is_list_of_objects(node)]
    own = _entry_shape({name: node for name, node in document.items() if name not in lists}, now_s)
    if len(lists) == 1 and not own.values:
        entries = document[lists[0]]
        inner = _common([_entry_shape(entry, now_s) for entry in entries])
        if inner is not None:
            without_time = 0 if inner.time else len(entries)
            return replace(inner, samples=_step("", lists[0]), time=inner.time or own.time, entries=without_time)
    return own if own.values else "JSON without numbers"


def _is_list_of_objects(node: object) -> bool:
    return isinstance(node, list) and bool(node) and all(isinstance(entry, dict) for entry in node)


def _common(shapes: Sequence[Shape]) -> Shape | None:
    """Return the shape with what all of these have; what is not always there cannot be part of a row."""
    first = shapes[0]
    values = tuple(path for path in first.values if all(path in shape.values for shape in shapes))
    alike = all((shape.kind, shape.time, shape.samples) == (first.kind, first.time, first.samples) for shape in shapes)
    return replace(first, values=values) if values and alike else None


def _entry_shape(entry: Mapping[str, Any], now_s: float) -> Shape:
    leaves = list(_leaves(entry, "", "", 0))
    time = next((leaf for leaf in sorted(leaves, key=_time_rank) if _is_time(leaf, now_s)), None)
    numbers = [x for x in leaves if x is not time and not isinstance(to_number(x.value), Drop)]
    ignored = [x.path for x in numbers if NOT_MEASURED.match(x.key)]
    values = [x.path for x in numbers if x.path not in ignored]
    return Shape("json", tuple(values), None if time is None else time.path, ignored=tuple(ignored))


def _leaves(node: object, path: str, key: str, depth: int) -> Iterable[_Leaf]:
    if depth > _DEPTH_MAX:
        return
    if isinstance(node, dict):
        for name, value in node.items():
            if name and '"' not in name:
                yield from _leaves(value, _step(path, name), name, depth + 1)
    elif isinstance(node, list):
        if len(node) <= _INDEXED_MAX:
            for i, value in enumerate(node):
                yield from _leaves(value, f"{path}[{i}]", f"{key}_{i}", depth + 1)
    else:
        yield _Leaf(path, key, node)


def _step(path: str, name: str) -> str:
    key = name if _PLAIN_KEY.match(name) else f'"{name}"'
    return f"{path}.{key}" if path else key


def _time_rank(leaf: _Leaf) -> tuple[bool, int]:
    return not _TIME_NAMES.search(leaf.key), leaf.path.count(".")


def _is_time(leaf: _Leaf, now_s: float) -> bool:
    if isinstance(leaf.value, bool) or not isinstance(leaf.value, int | float | str):
        return False
    seconds = to_seconds(leaf.value)
    if isinstance(seconds, Drop):
        return False
    named = _TIME_NAMES.search(leaf.key) is not None
    return (named and _YEAR_2001_S < seconds < _YEAR_2100_S) or abs(seconds - now_s) < _NEAR_S


def kinds_of(shapes: Mapping[str, Shape]) -> list[TopicKind]:
    """Sort topics into kinds, the largest first; of topics that would share a template the rarer kinds stand first."""
    trees: dict[tuple[object, ...], list[TopicKind]] = defaultdict(list)
    counted: dict[tuple[object, ...], list[str]] = defaultdict(list)
    for topic, shape in shapes.items():
        levels = topic.split("/")
        named = tuple(map(bool, levels))  # a label needs a name: an empty level is literal
        beside = (shape.labels, shape.where, shape.name, shape.family)
        counted[levels[0], named, shape.kind, shape.time, shape.samples, beside, shape.values].append(topic)
    for key in sorted(counted, key=lambda key: -len(counted[key])):
        tree, topics = key[:6], counted[key]
        shape = shapes[topics[0]]
        # What has all values of a larger kind, and others besides, belongs to it.
        home = next((k for k in trees[tree] if set(k.shape.values) <= set(shape.values)), None)
        if home is None:
            trees[tree].append(TopicKind(shape, topics))
        else:
            home.topics += topics
    return _merged([kind for kinds in trees.values() for kind in kinds])


def _merged(kinds: list[TopicKind]) -> list[TopicKind]:
    """Join trees that differ in their first level only, where there are several alike."""
    alike: dict[tuple[object, ...], list[TopicKind]] = defaultdict(list)
    for kind in kinds:
        below = frozenset(topic.rpartition("/")[2] for topic in kind.topics) if kind.shape.kind == "number" else None
        named = tuple(map(bool, kind.topics[0].split("/")))
        alike[named, below if len(named) > 1 else kind.topics[0], replace(kind.shape, ignored=())].append(kind)
    out = []
    for same in alike.values():
        if len(same) >= _TREES_MERGED and "/" in same[0].topics[0]:
            out.append(TopicKind(same[0].shape, [topic for kind in same for topic in kind.topics]))
        else:
            out += same
    return sorted(out, key=lambda kind: -len(kind.topics))


def template_of(kind: TopicKind) -> tuple[str, tuple[str, ...]]:
    """Return the topic template of a kind, and its channels where a level of the topic names them."""
    rows = [topic.split("/") for topic in kind.topics]
    columns = [list(dict.fromkeys(column)) for column in zip(*rows, strict=True)]
    single = kind.shape.kind == "number" or (kind.shape.kind == "json" and len(kind.shape.values) == 1)
    at = _channel_level(rows, columns) if single else None
    parts: list[str] = []
    for i, values in enumerate(columns):
        if i == at:
            parts.append("{" + CHANNEL + "}")
        elif len(values) == 1 and (values[0] in ("+", REST) or not re.search(r"[{}+#]", values[0])):
            parts.append(values[0])
        else:
            taken = {part.strip("{}") for part in parts} | {CHANNEL}
            before = "" if i == 0 or parts[-1].startswith("{") else parts[-1]
            parts.append("{" + _label(values, before, i, taken) + "}")
    if parts[-1] == REST:
        return "/".join(parts), kind.shape.values
    return "/".join(parts), () if at is None else tuple(sorted(columns[at]))


def _channel_level(rows: Sequence[Sequence[str]], columns: Sequence[Sequence[str]]) -> int | None:
    """Return the level at which nearly every stream has the same names, the last such; None where there is none."""
    for i in reversed(range(len(columns))):
        names = columns[i]
        machines = len({tuple(row[:i]) + tuple(row[i + 1 :]) for row in rows})
        numbered = sum(name[-1:].isdigit() for name in names) > len(names) / 2
        if not 2 <= len(names) <= _CHANNELS_MAX or (numbered and machines < 2 * len(names)):
            continue
        if len(rows) >= 0.8 * len(names) * machines:
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
