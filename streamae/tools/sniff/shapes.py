"""What the payloads of one topic are made of: plain numbers, or JSON of one or several kinds.

A shape is a kind of record: the paths of its numbers, its time, and what says whose it is. One topic may carry the
records of many devices, of several kinds.
"""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from streamae.core.formats.sighting import distinguishing, measured
from streamae.core.formats.values import to_number
from streamae.core.types import Drop
from streamae.tools.sniff.behaviour import Course, Heard
from streamae.tools.sniff.documents import (
    Document,
    Leaf,
    clock_of,
    is_identity,
    leaves_of,
    number_of,
    numbers_in,
    offset_of,
    step,
)
from streamae.tools.sniff.tags import TagList, tag_list_of

__all__ = ["Shape", "shapes_of"]

_KINDS_MAX = 32  # of devices on one topic
_FEW = 8  # records, in which a name need not come twice


@dataclass(frozen=True, slots=True)
class Shape:
    """`values` are the paths of numbers (relative to an entry of `samples`, if any), `time` that of the time.

    `entries` is the length of the list of samples where these have no time of their own, else 0; `ignored` are numbers
    that measure nothing. `tags` says how values stand beside their names. For known formats `values` are names.
    `labels`, `where` and `name` are as in the configuration, and `family` distinguishes kinds of machines that may
    have the same names. `ahead_s` is how far a time without a zone is ahead of UTC. `partial` records have some of the
    values only. `heard` are the values themselves.
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
    tags: TagList | None = None
    ahead_s: float = 0.0
    partial: bool = False
    states: tuple[str, ...] = ()  # of `ignored`: what is on or off
    thinned: int = field(default=1, compare=False)  # one in so many messages was kept
    heard: Heard = field(default_factory=dict, compare=False)
    times: tuple[tuple[float, ...], ...] = field(default=(), compare=False)  # when each of its streams was heard


def shapes_of(messages: Sequence[tuple[float, bytes]], now_s: float) -> list[Shape] | str:
    """Return the shapes that a topic's payloads have, or in a few words what they are instead."""
    numbers = [_number(payload) for _, payload in messages]
    if all(number is not None for number in numbers):
        course = Course([at for at, _ in messages], [number for number in numbers if number is not None])
        return [Shape("number", heard={"": {"": course}}, times=(tuple(at for at, _ in messages),))]
    documents: list[Document] = []
    for at, payload in messages:
        try:
            documents.append((at, json.loads(payload)))
        except (ValueError, RecursionError):
            return _words(payload)
    return _json_shapes(documents, now_s)


def _number(payload: bytes) -> float | None:
    try:
        number = to_number(float(payload))
    except ValueError:
        return None
    return None if isinstance(number, Drop) or b"_" in payload else number


def _words(payload: bytes) -> str:
    try:
        text = payload.decode()
    except UnicodeDecodeError:
        return f"{len(payload)} bytes that are not text"
    return f"text, such as {text[:40]!r}" if text else "empty"


def _json_shapes(documents: Sequence[Document], now_s: float) -> list[Shape] | str:
    for _, document in documents:
        if not isinstance(document, dict | list):
            return f"JSON that is not an object: {json.dumps(document)[:40]}"
    samples = _list_in(documents)
    if samples is None:
        if not all(isinstance(document, dict) for _, document in documents):
            return f"JSON that is not an object: {json.dumps(documents[0][1])[:40]}"
        rows = [(at, list(leaves_of(document))) for at, document in documents]
        return _record_shapes(rows, now_s, rows) or "JSON without numbers that measure something"
    lists = [(at, _entries(document, samples)) for at, document in documents]
    outer = [(at, list(leaves_of(_without(document, samples)))) for at, document in documents]
    entries = [(at, leaves) for at, found in lists for leaves in found]
    tags = tag_list_of(lists)
    if tags is not None:
        time = clock_of(entries, now_s) or clock_of(outer, now_s)
        return [_tag_shape(tags, entries, samples, time)]
    inner = _record_shapes(entries, now_s, outer)
    if not inner:
        return "JSON without numbers that measure something"
    length = len(lists[0][1])
    timed = clock_of(entries, now_s)
    return [
        replace(
            one, samples=samples, entries=0 if timed or one.labels else length,
            times=tuple(tuple(dict.fromkeys(times)) for times in one.times),  # a list comes at one time
        )
        for one in inner
    ]  # fmt: skip


def _entries(document: object, samples: str) -> list[list[Leaf]]:
    found = document.get(_first(samples)) if isinstance(document, dict) else document
    return [list(leaves_of(entry)) for entry in found] if isinstance(found, list) else []


def _first(samples: str) -> str:
    return samples.strip('"')


def _without(document: object, samples: str) -> object:
    if not isinstance(document, dict) or samples == "$":
        return {}
    return {key: value for key, value in document.items() if key != _first(samples)}


def _list_in(documents: Sequence[Document]) -> str | None:
    """Return the path of the list that holds the samples: the document itself, or its one list beside no numbers."""
    if all(_is_list_of_objects(document) for _, document in documents):
        return "$"
    names: set[str] | None = None
    for _, document in documents:
        if not isinstance(document, dict):
            return None
        lists = {name for name, node in document.items() if name and '"' not in name and _is_list_of_objects(node)}
        names = lists if names is None else names & lists
    if names is None or len(names) != 1:
        return None
    name = next(iter(names))
    rest = [leaf for at, document in documents for leaf in leaves_of(_without(document, step("", name)))]
    clock = clock_of([(at, list(leaves_of(_without(one, step("", name))))) for at, one in documents], documents[0][0])
    numbers = [leaf.path for leaf in numbers_in(rest) if leaf.path != clock]
    return step("", name) if not measured(dict.fromkeys(numbers))[0] else None


def _is_list_of_objects(node: object) -> bool:
    return isinstance(node, list) and bool(node) and all(isinstance(entry, dict) for entry in node)


def _tag_shape(
    tags: TagList, entries: Sequence[tuple[float, Sequence[Leaf]]], samples: str | None, time: str | None
) -> Shape:
    heard: Heard = defaultdict(lambda: defaultdict(Course))
    for at, leaves in entries:
        by_path = {leaf.path: leaf.value for leaf in leaves}
        number = next((number_of(leaf) for leaf in leaves if leaf.path == tags.value), None)
        if number is not None:
            name, stream = tags.split(str(by_path.get(tags.id)))
            heard[name][stream].add(at, number)
    names = tuple(name for name in tags.channels if name in heard)
    times = {stream: tuple(one.time_s) for courses in heard.values() for stream, one in courses.items()}
    values, ignored = measured(names)
    return Shape(
        "json", tuple(values), time, samples, 0, tuple(ignored), name=tags.template, tags=tags, heard=dict(heard),
        times=tuple(times.values()), partial=True,
    )  # fmt: skip


def _record_shapes(
    rows: Sequence[tuple[float, Sequence[Leaf]]], now_s: float, outer: Sequence[tuple[float, Sequence[Leaf]]]
) -> list[Shape]:
    """Return the kinds of records among these rows: those with other numbers, if something says whose they are."""
    clock = clock_of(rows, now_s)
    time = clock or (clock_of(outer, now_s) if outer is not rows else None)
    stamped = rows if clock else outer
    rows = [(at, [leaf for leaf in leaves if leaf.path != clock]) for at, leaves in rows]
    identities = _identities(rows)
    tags = tag_list_of([(at, [leaves]) for at, leaves in rows])
    if tags is not None:
        return [_tag_shape(tags, rows, None, time)]
    said = [{leaf.path: str(leaf.value) for leaf in leaves if leaf.path in identities} for _, leaves in rows]
    stamps = [offset_of(leaf.value, at) for at, leaves in stamped for leaf in leaves if leaf.path == time]
    ahead_s = stamps[0] if stamps and len(set(stamps)) == 1 else 0.0
    kinds = _split(rows, said, identities)
    shapes = []
    for where, members in kinds:
        shape = _one_shape([rows[i] for i in members], [said[i] for i in members], identities, where)
        if shape is not None:
            shapes.append(replace(shape, time=time, ahead_s=ahead_s))
    return shapes


def _identities(rows: Sequence[tuple[float, Sequence[Leaf]]]) -> list[str]:
    """Return the paths that say whose a record is, and do not always say the same: the finest first."""
    found: dict[str, set[str]] = defaultdict(set)
    for _, leaves in rows:
        for leaf in leaves:
            if is_identity(leaf) and leaf.path.count(".") <= 2:
                found[leaf.path].add(str(leaf.value))
    several = (
        path for path, said in found.items() if len(said) > 1 and (len(rows) < _FEW or len(said) <= len(rows) / 2)
    )
    return sorted(several, key=lambda path: -len(found[path]))


def _split(
    rows: Sequence[tuple[float, Sequence[Leaf]]], said: Sequence[Mapping[str, str]], identities: Sequence[str]
) -> list[tuple[tuple[tuple[str, str], ...], list[int]]]:
    """Part the records by the coarsest name that explains which numbers they have; one part where nothing does."""
    signature = [frozenset(measured([leaf.path for leaf in numbers_in(leaves)])[0]) for _, leaves in rows]
    everything = [((), list(range(len(rows))))]  # type: list[tuple[tuple[tuple[str, str], ...], list[int]]]
    if len(set(signature)) == 1:
        return everything
    for path in reversed(identities):
        kinds: dict[str, list[int]] = defaultdict(list)
        for i, one in enumerate(said):
            kinds[one.get(path, "")].append(i)
        alike = all(frozenset.intersection(*(signature[i] for i in members)) for members in kinds.values())
        apart = len({frozenset.intersection(*(signature[i] for i in members)) for members in kinds.values()}) > 1
        if alike and apart and len(kinds) <= _KINDS_MAX:
            named = sorted(kinds.items(), key=lambda kind: -len(kind[1]))
            return [(((path, value),) if value else (), members) for value, members in named]
    return everything


def _one_shape(
    rows: Sequence[tuple[float, Sequence[Leaf]]],
    said: Sequence[Mapping[str, str]],
    identities: Sequence[str],
    where: tuple[tuple[str, str], ...],
) -> Shape | None:
    numbers = [[leaf.path for leaf in numbers_in(leaves)] for _, leaves in rows]
    ever = dict.fromkeys(path for paths in numbers for path in paths)
    always = [path for path in ever if all(path in paths for paths in numbers)]
    free = [path for path in identities if (path not in dict(where)) and all(path in one for one in said)]
    labels = distinguishing(said, free)
    chosen = [path for path in always if path not in identities] or [path for path in ever if path not in identities]
    values, ignored = measured(chosen)
    values = _decoded(values)
    if not values:
        return None
    heard: Heard = defaultdict(lambda: defaultdict(Course))
    times: dict[object, list[float]] = defaultdict(list)
    for (at, leaves), one in zip(rows, said, strict=True):
        stream = tuple(one.get(path) for path in labels)
        times[stream].append(at)
        for leaf in numbers_in(leaves):
            heard[leaf.path][stream].add(at, number_of(leaf) or 0.0)
    family = where[0][1] if where else ""
    return Shape(
        "json", tuple(values), ignored=tuple(ignored), labels=labels, where=where, family=family, heard=dict(heard),
        partial=not set(values) <= set(always), times=tuple(map(tuple, times.values())),
    )  # fmt: skip


_DECODED = ("object", "objectJSON", "decoded_payload", "decoded")  # where network servers put what was measured


def _decoded(paths: Sequence[str]) -> list[str]:
    """Keep only what a network server decoded, where it says so: the rest is about the radio."""
    for name in _DECODED:
        found = [path for path in paths if f".{name}." in f".{path}"]
        if found:
            return found
    return list(paths)
