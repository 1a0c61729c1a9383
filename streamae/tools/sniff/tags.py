"""Lists of tags: values that stand beside their names, as gateways of controllers send them.

    {"values": [{"id": "Line1.Pump1.Flow", "v": 38.4, "q": true, "t": 1736121638218}, …]}

Each name is a value of its own, never to be mixed with another. Where all names have the same parts, the last is the
channel and the others say whose it is.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from streamae.core.formats.sighting import measured, snake
from streamae.core.topics import CHANNEL, Template
from streamae.tools.sniff.documents import Leaf, clock_of, is_identity, number_of, numbers_in

__all__ = ["ONE_VALUE", "TagList", "name_template", "tag_list_of"]

_NAMES_MAX = 512
_SEPARATORS = "./:|\\_-"
ONE_VALUE = re.compile(  # what gateways call a value whose name stands elsewhere
    r"v|val|value|reading|raw|raw_value|present_value|measurement|payload|data|state|result"
)
_GOOD_WORDS = {"good", "ok", "valid", "true"}


@dataclass(frozen=True, slots=True)
class TagList:
    """The paths of an entry's name, value and quality, all names, and the template that takes them apart."""

    id: str
    value: str
    quality: str | None
    channels: tuple[str, ...]
    template: str | None = None
    parsed: Template | None = field(default=None, compare=False)

    def split(self, name: str) -> tuple[str, str]:
        """Return the channel and the stream that a name means."""
        labels = None if self.parsed is None else self.parsed.match(name)
        if labels is None:
            return name, ""
        return labels.pop(CHANNEL), "/".join(labels.values())


def tag_list_of(lists: Sequence[tuple[float, Sequence[Sequence[Leaf]]]]) -> TagList | None:
    """Return how these lists of entries name their values; None where entries are no such pairs."""
    entries = [(at, leaves) for at, found in lists for leaves in found]
    if not entries:
        return None
    value = _value_of(entries)
    name = None if value is None else _name_of(lists, value)
    if value is None or name is None:
        return None
    numeric = dict.fromkeys(
        str(one.value) for _, leaves in entries if _at(leaves, value) is not None for one in leaves if one.path == name
    )
    if not 2 <= len(numeric) <= _NAMES_MAX:
        return None
    template = name_template([*numeric])
    parsed = None if template is None else Template.parse(template)
    channels = dict.fromkeys((parsed.match(one) or {}).get(CHANNEL, one) if parsed else one for one in numeric)
    return TagList(name, value, _quality_of(entries), tuple(channels), template, parsed)


def _at(leaves: Sequence[Leaf], path: str) -> float | None:
    return next((number_of(leaf) for leaf in leaves if leaf.path == path), None)


def _value_of(entries: Sequence[tuple[float, Sequence[Leaf]]]) -> str | None:
    """Return the one path of numbers that entries have beside their time."""
    clock = clock_of(entries, entries[0][0])
    paths = dict.fromkeys(
        leaf.path
        for _, leaves in entries
        for leaf in numbers_in(leaves)
        if leaf.path != clock and not is_identity(leaf)
    )
    values = measured(paths)[0]
    return values[0] if len(values) == 1 and ONE_VALUE.fullmatch(snake(values[0].split(".")[-1])) else None


def _name_of(lists: Sequence[tuple[float, Sequence[Sequence[Leaf]]]], value: str) -> str | None:
    """Return the path of text that is another one in each entry of a list, and the same from list to list."""
    paths = dict.fromkeys(
        leaf.path for _, found in lists for leaves in found for leaf in leaves
        if isinstance(leaf.value, str) and leaf.value and leaf.path != value
    )  # fmt: skip
    best, most = None, 1
    for path in paths:
        names = [[str(x.value) for leaves in found for x in leaves if x.path == path] for _, found in lists]
        whole = all(len(one) == len(found) for one, (_, found) in zip(names, lists, strict=True))
        alone = all(len(set(one)) == len(one) for one in names)
        every = [name for one in names for name in one]
        named = any(is_identity(leaf) for _, found in lists for leaves in found for leaf in leaves if leaf.path == path)
        recurs = len(lists) == 1 or len(set(every)) <= len(every) / 2
        if whole and alone and recurs and named and len(set(every)) > most:
            best, most = path, len(set(every))
    return best


def _quality_of(entries: Sequence[tuple[float, Sequence[Leaf]]]) -> str | None:
    for leaf in entries[0][1]:
        if isinstance(leaf.value, bool) or (isinstance(leaf.value, str) and leaf.value.lower() in _GOOD_WORDS):
            return leaf.path
    return None


def name_template(names: Sequence[str]) -> str | None:
    """Return the template that takes names apart into labels and the channel; None where they have no such parts."""
    for separator in _SEPARATORS:
        split = [name.split(separator) for name in names]
        width = len(split[0])
        if width < 2 or any(len(parts) != width or not all(parts) for parts in split):
            continue
        channels = {parts[-1] for parts in split}
        machines = {tuple(parts[:-1]) for parts in split}
        if len(channels) < 2 or len(machines) < 2 or len(names) < 0.6 * len(channels) * len(machines):
            continue
        if any(re.search(r"[{}#+/]", part) for parts in split for part in parts[:-1]):
            continue
        return separator.join([*_labels([*zip(*(parts[:-1] for parts in split), strict=True)]), "{" + CHANNEL + "}"])
    return None


def _labels(columns: Sequence[Sequence[str]]) -> list[str]:
    out: list[str] = []
    for i, column in enumerate(columns):
        values = list(dict.fromkeys(column))
        if len(values) == 1:
            out.append(values[0])
            continue
        first, last = min(values), max(values)
        same = next((k for k, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), len(first))
        word = re.sub(r"[^a-z]+$", "", first[:same].lower()).strip("_")
        label = (
            word
            if re.fullmatch(r"[a-z][a-z_]{2,}", word)
            else ("device", "area", "site", "level")[min(len(columns) - 1 - i, 3)]
        )
        out.append("{" + (label if "{" + label + "}" not in out else f"{label}_{i}") + "}")
    return out
