"""Values in documents: paths to them, numbers, times. For any input these return a value or a `Drop`."""

import re
from bisect import bisect_right
from collections.abc import Callable
from datetime import UTC, datetime, tzinfo
from typing import Any

from streamae.core.types import Drop

__all__ = [
    "AUTO_SIZES", "AUTO_UNITS", "EARLIEST_S", "FLOAT32_MAX", "SECONDS_A_UNIT", "Path", "lookup", "parse_path",
    "to_number", "to_seconds",
]  # fmt: skip

Path = tuple[str | int, ...]
SECONDS_A_UNIT = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
AUTO_UNITS, AUTO_SIZES = ("s", "ms", "us", "ns"), (1e11, 1e14, 1e17)  # numbers below the nth size are of the nth unit
EARLIEST_S = 946_684_800.0  # 2000: a device that says less has not been given the time
FLOAT32_MAX = (2.0 - 2.0**-23) * 2.0**127  # what numpy.finfo says, which takes a while to find out
_EPOCH = re.compile(r"[+-]?[0-9]{9,20}|[+-]?[0-9]{1,20}\.[0-9]{0,20}")  # fewer digits alone are a date: 20231114
_COMPACT = re.compile(r"(?:19|20)[0-9]{12}")  # 20231114221320; as an epoch it would be of the year 2600 or later
_DATE = 8  # digits
_ANY_NUMBER = re.compile(r"[+-]?[0-9]{1,20}(?:\.[0-9]{0,20})?")
_STEP = re.compile(r'\.?(?:"([^"]+)"|([^.\[\]"]+))|\[(-?\d+)\]')


def parse_path(text: str) -> Path:
    """Parse a dotted path; `$` or "" is the document itself. Raises ValueError with the place that is not one."""
    steps: list[str | int] = []
    end = 0
    if text[:1] == "$" and text[1:2] in ("", ".", "["):  # the root, as JSONPath writes it
        text = text[1:].removeprefix(".")
    while end < len(text):
        found = _STEP.match(text, end)
        dotted = text[end] == "."
        if found is None or (end == 0 and dotted) or (end > 0 and not dotted and text[end] != "["):
            raise ValueError(f"path {text!r}: not a key or [index] at column {end + 1}")
        steps.append(int(found[3]) if found[3] is not None else found[1] or found[2])
        end = found.end()
    return tuple(steps)


def to_number(value: object) -> float | Drop:
    """Return a JSON value as a number that float32 can hold, or why it is none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return Drop.NOT_A_NUMBER
    try:
        number = float(value)
    except OverflowError:  # an integer of some hundred digits
        return Drop.NOT_FINITE
    return number if abs(number) <= FLOAT32_MAX else Drop.NOT_FINITE  # NaN compares false


def to_seconds(
    value: object, unit: str = "auto", zone: tzinfo | None = None, near_s: float | None = None
) -> float | Drop:
    """Return a time as seconds since 1970 UTC.

    `auto` takes text as RFC 3339 and numbers by their magnitude: below 1e11 seconds, below 1e14 milliseconds, below
    1e17 microseconds, else nanoseconds; each unit then spans the years 1973 to 5138. A number may stand as text.
    Text without an offset is of `zone`, else UTC. Of an hour that comes twice a year that time is meant which is
    nearer to `near_s`, its arrival; without one the first. A time that a zone leaves out, since its clocks are put
    forward, is of a clock that was not.
    """
    if isinstance(value, str):
        return _of_text(value.strip().strip("\0\ufeff"), unit, zone, near_s)
    number = to_number(value)
    return Drop.BAD_TIME if isinstance(number, Drop) or unit == "rfc3339" else _scaled(number, unit)


def _scaled(number: float, unit: str) -> float:
    if unit == "auto":
        unit = AUTO_UNITS[bisect_right(AUTO_SIZES, abs(number))]
    return number * SECONDS_A_UNIT[unit]


def _of_text(text: str, unit: str, zone: tzinfo | None, near_s: float | None) -> float | Drop:
    if unit in SECONDS_A_UNIT:
        return _scaled(float(text), unit) if _ANY_NUMBER.fullmatch(text) is not None else Drop.BAD_TIME
    if _COMPACT.fullmatch(text) is not None:
        text = f"{text[:8]}T{text[8:]}"
    elif unit == "auto" and _EPOCH.fullmatch(text) is not None:
        return _scaled(float(text), unit)
    elif text.isdigit() and len(text) != _DATE:  # Python would find a date in them
        return Drop.BAD_TIME
    try:
        moment = datetime.fromisoformat(text)
        return moment.timestamp() if moment.tzinfo else _of_zone(moment, zone or UTC, near_s)
    except (ValueError, OverflowError):
        return Drop.BAD_TIME


def _of_zone(moment: datetime, zone: tzinfo, near_s: float | None) -> float:
    first, second = (moment.replace(tzinfo=zone, fold=fold).timestamp() for fold in (0, 1))
    if near_s is None or first >= second:  # above: a time that the zone leaves out
        return first
    return first if abs(first - near_s) <= abs(second - near_s) else second


def lookup(document: object, path: Path, loads: Callable[[bytes], Any] | None = None) -> object:
    """Follow a path; returns Drop.MISSING_VALUE where it leads nowhere.

    With `loads`, a path also leads through text that is a JSON document itself.
    """
    for at, step in enumerate(path):
        if isinstance(step, str):
            if not isinstance(document, dict) or step not in document:
                return _inside(document, path[at:], loads)
            document = document[step]
        elif isinstance(document, list) and -len(document) <= step < len(document):
            document = document[step]
        else:
            return _inside(document, path[at:], loads)
    return document


def _inside(text: object, path: Path, loads: Callable[[bytes], Any] | None) -> object:
    """Follow a path within text that may be a document."""
    if loads is None or not isinstance(text, str) or text.lstrip()[:1] not in ("{", "["):
        return Drop.MISSING_VALUE
    try:
        return lookup(loads(text.encode()), path, loads)
    except (ValueError, RecursionError):
        return Drop.MISSING_VALUE
