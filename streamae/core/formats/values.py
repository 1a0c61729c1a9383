"""Values in documents: paths to them, numbers, times. For any input these return a value or a `Drop`."""

import re
from bisect import bisect_right
from datetime import UTC, datetime

from streamae.core.types import Drop

__all__ = [
    "AUTO_SIZES", "AUTO_UNITS", "FLOAT32_MAX", "SECONDS_A_UNIT", "Path", "lookup", "parse_path",
    "to_number", "to_seconds",
]  # fmt: skip

Path = tuple[str | int, ...]
SECONDS_A_UNIT = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
AUTO_UNITS, AUTO_SIZES = ("s", "ms", "us", "ns"), (1e11, 1e14, 1e17)  # numbers below the nth size are of the nth unit
FLOAT32_MAX = (2.0 - 2.0**-23) * 2.0**127  # what numpy.finfo says, which takes a while to find out
_STEP = re.compile(r'\.?(?:"([^"]+)"|([^.\[\]"]+))|\[(-?\d+)\]')


def parse_path(text: str) -> Path:
    """Parse a dotted path; "" is the document itself. Raises ValueError with the place that is not one."""
    steps: list[str | int] = []
    end = 0
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


def to_seconds(value: object, unit: str = "auto") -> float | Drop:
    """Return a time as seconds since 1970 UTC.

    `auto` takes text as RFC 3339 (no offset: UTC) and numbers by their magnitude: below 1e11 seconds, below 1e14
    milliseconds, below 1e17 microseconds, else nanoseconds; each unit then spans the years 1973 to 5138.
    """
    if isinstance(value, str):
        if unit in SECONDS_A_UNIT:
            return Drop.BAD_TIME
        try:
            moment = datetime.fromisoformat(value.strip())
            return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
        except (ValueError, OverflowError):
            return Drop.BAD_TIME
    number = to_number(value)
    if isinstance(number, Drop) or unit == "rfc3339":
        return Drop.BAD_TIME
    if unit == "auto":
        unit = AUTO_UNITS[bisect_right(AUTO_SIZES, abs(number))]
    return number * SECONDS_A_UNIT[unit]


def lookup(document: object, path: Path) -> object:
    """Follow a path; returns Drop.MISSING_VALUE where it leads nowhere."""
    for step in path:
        if isinstance(step, str):
            if not isinstance(document, dict) or step not in document:
                return Drop.MISSING_VALUE
            document = document[step]
        elif isinstance(document, list) and -len(document) <= step < len(document):
            document = document[step]
        else:
            return Drop.MISSING_VALUE
    return document
