"""JSON documents as leaves by their path, and what leaves are: numbers, times, names of what they belong to."""

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from streamae.core.formats.number_rule import PLAIN_NUMBERS
from streamae.core.formats.sighting import snake
from streamae.core.formats.values import to_seconds
from streamae.core.types import Drop

__all__ = ["Document", "Leaf", "clock_of", "is_identity", "leaves_of", "number_of", "numbers_in", "offset_of", "step"]

Document = tuple[float, object]  # when it came, and what was in it
_TIME_NAMES = re.compile(
    r"(.*_)?(ts|t|time|timestamp|datetime|date|at|when|last_seen|observed|utc|received|published)(_(ms|s|utc|at))?"
)
_IDENTITY = re.compile(
    r"_?id|(.*_)?(id|uid|uuid|eui|mac|serial|serial_?(no|number)|sn|addr|address|model|device|dev|node|station|tag|host"
    r"|machine|asset|sensor|name|source|unit|channel|sub_?type|type|item|point|location|room|zone|line|site|meter"
    r"|topic|key|variable|metric|measurement|field|property|param(eter)?|signal|register|quantity|label|equipment)"
)
_OF_A_MESSAGE = re.compile(
    r"(.*_)?(dedup\w*|message|msg|event|uplink|request|correlation|transaction|packet|trace|frame|token)_?u?u?id"
)
_YEAR_2001_S, _YEAR_2100_S = 978_307_200.0, 4_102_444_800.0
_NEAR_S, _HERE_S = 86_400.0, 600.0
_SECOND_S = 3.0  # several messages may be of one time
_QUARTER_S = 900.0  # time zones are apart by so much
_PLAIN_KEY = re.compile(r"[^.\[\]\"]+\Z")
_DECIMAL = re.compile(r"[0-9]\.[0-9]")
_DEPTH_MAX = 8
_INDEXED_MAX = 8  # a longer list of numbers is not so many channels
_TEXT_MAX = 64


@dataclass(frozen=True, slots=True)
class Leaf:
    """A value, and the path to it; `key` is the last name in the path."""

    path: str
    key: str
    value: object


def leaves_of(node: object, path: str = "", key: str = "", depth: int = 0) -> Iterable[Leaf]:
    """Yield the leaves of a document; JSON that stands as text within is a part of it."""
    if depth > _DEPTH_MAX:
        return
    if isinstance(node, dict):
        for name, value in node.items():
            if name and '"' not in name:
                yield from leaves_of(value, step(path, name), name, depth + 1)
    elif isinstance(node, list):
        if len(node) <= _INDEXED_MAX:
            for i, value in enumerate(node):
                yield from leaves_of(value, f"{path}[{i}]", f"{key}_{i}", depth + 1)
    elif isinstance(node, str) and node[:1] == "{" and (inner := _within(node)) is not None:
        yield from leaves_of(inner, path, key, depth + 1)
    else:
        yield Leaf(path, key, node)


def _within(text: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def step(path: str, name: str) -> str:
    """Return the path of a key below another path."""
    key = name if _PLAIN_KEY.match(name) else f'"{name}"'
    return f"{path}.{key}" if path else key


def numbers_in(leaves: Iterable[Leaf]) -> list[Leaf]:
    """Return the leaves that are numbers, as such or as text with a decimal sign: without one it may be a name."""
    return [leaf for leaf in leaves if number_of(leaf) is not None]


def number_of(leaf: Leaf) -> float | None:
    """Return a leaf as a number, None where it is none."""
    if isinstance(leaf.value, bool) or (isinstance(leaf.value, str) and not _DECIMAL.search(leaf.value)):
        return None
    number = PLAIN_NUMBERS.number(leaf.value)
    return None if isinstance(number, Drop) else number


def is_identity(leaf: Leaf) -> bool:
    """Whether a leaf may say whose a payload is: a short text, or a whole number that is called as a name."""
    if isinstance(leaf.value, bool) or not isinstance(leaf.value, int | str):
        return False
    key = snake(leaf.key)
    named = _IDENTITY.fullmatch(key) is not None and _OF_A_MESSAGE.fullmatch(key) is None
    return named and 0 < len(str(leaf.value)) <= _TEXT_MAX


def clock_of(documents: Sequence[tuple[float, Sequence[Leaf]]], now_s: float) -> str | None:
    """Return the path of the time in documents: called as one or near their arrival, and not one that stands still."""
    first = sorted(documents[0][1], key=lambda leaf: (not _named(leaf), leaf.path.count("."))) if documents else []
    for leaf in first:
        courses = [(at, _seconds(one)) for at, leaves in documents for one in leaves if one.path == leaf.path]
        if len(courses) == len(documents) and all(_is_time(leaf, at, now_s, s) for at, s in courses):
            apart = {at for at, _ in courses}
            moves = len({s for _, s in courses}) > 1 or max(apart) - min(apart) < 1.0
            if moves or all(s is not None and abs(s - at) < _SECOND_S for at, s in courses):
                return leaf.path
    return None


def _named(leaf: Leaf) -> bool:
    return _TIME_NAMES.fullmatch(snake(leaf.key)) is not None


def _seconds(leaf: Leaf) -> float | None:
    if isinstance(leaf.value, bool) or not isinstance(leaf.value, int | float | str):
        return None
    seconds = to_seconds(leaf.value)
    return None if isinstance(seconds, Drop) else seconds


def _is_time(leaf: Leaf, arrival_s: float, now_s: float, seconds: float | None) -> bool:
    if seconds is None:
        return False
    if _named(leaf):
        return _YEAR_2001_S < seconds < _YEAR_2100_S
    return min(abs(seconds - now_s), abs(seconds - arrival_s)) < _NEAR_S


def offset_of(value: object, arrival_s: float) -> float:
    """Return by how much a time without a zone is ahead of UTC, seconds: 0 where it has a zone, or is UTC."""
    if not isinstance(value, str):
        return 0.0
    try:
        moment = datetime.fromisoformat(value.strip())
    except ValueError:
        return 0.0
    seconds = to_seconds(value)
    if moment.tzinfo is not None or isinstance(seconds, Drop):
        return 0.0
    ahead_s = seconds - arrival_s
    near_s = round(ahead_s / _QUARTER_S) * _QUARTER_S
    return near_s if abs(ahead_s - near_s) < _HERE_S / 2 and abs(near_s) <= 14 * 3600 else 0.0
