"""How numbers behave over time: what stands still, what only counts, what is another one in other units.

A short look says little: a temperature stands still for minutes. So what is called as a measurement is believed to be
one, and the others must have been heard for a while before they are left out.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from streamae.core.formats.sighting import snake
from streamae.core.types import F64

__all__ = ["Behaviour", "Course", "Heard", "judged"]

_MEASURES = re.compile(
    r".*(temp|humid|hum$|moist|press|power|watt|volt|curr|ampere|flow|level|speed|rpm|vibr|load|torque|force|weight"
    r"|distance|co2|pm\d|lux|illum|soc|tank|wind|rain|conduct|ph$|turbid|oxygen|freq|angle|position).*"
    r"|(.*_)?(pv|v|i|a|w|va|c)"
)
_COUNTS = re.compile(
    r"(.*_)?(total|energy|[kmw]*wh|counts?|counters?|pulses?|volume|consumption|yield|hours|runtime|import|export"
    r"|produced|produc(t|ed)ion|odometer|cycles|starts|sum|aenergy|forward|returned)(_.*)?"
)
_STILL_S = 600.0  # what does not move for so long, and
_STILL_MIN = 8  # in so many values, is constant
_RISES_NAMED, _RISES_MIN = 1, 20  # of what is called as a counter is, and of what is not
_TICKS_MIN = 4
_CLOCK_TOLERANCE = 0.02
_RESET = 0.5  # a fall to less than this part is a counter that began again


@dataclass(slots=True)
class Course:
    """The values of one name of one stream, in the order in which they were heard."""

    time_s: list[float] = field(default_factory=list)
    value: list[float] = field(default_factory=list)

    def add(self, time_s: float, value: float) -> None:
        """Note one value."""
        self.time_s.append(time_s)
        self.value.append(value)


Heard = dict[str, dict[object, Course]]  # name -> stream -> what was heard


@dataclass(frozen=True, slots=True)
class Behaviour:
    """Names that are constant, counters, clocks, and others in other units (Fahrenheit beside Celsius)."""

    constant: tuple[str, ...] = ()
    counters: tuple[str, ...] = ()
    clocks: tuple[str, ...] = ()
    doubled: tuple[str, ...] = ()


def judged(
    heard: Mapping[str, Mapping[object, Course]], names: Iterable[str], still_s: float | None = None
) -> Behaviour:
    """Return what these names' values are by their behaviour.

    `still_s` is how long was listened, where only what changes is sent; None where each value is sent again and again.
    """
    found: dict[str, list[str]] = defaultdict(list)
    moving = []
    for name in names:
        courses = [one for one in heard.get(name, {}).values() if one.value]
        what = _verdict(name, courses, still_s) if courses else ""
        if what:
            found[what].append(name)
        else:
            moving.append(name)
    doubled = [b for b in moving if any(_fahrenheit(heard, a, b) for a in moving if a != b)]
    return Behaviour(tuple(found["constant"]), tuple(found["counter"]), tuple(found["clock"]), tuple(doubled))


def _verdict(name: str, courses: Sequence[Course], still_s: float | None) -> str:
    key = snake(re.split(r'[./:\["]', name.strip('"]'))[-1] or name)
    values = [np.asarray(one.value) for one in courses]
    times = [np.asarray(one.time_s) for one in courses]
    whole = snake(name)
    counted = key if _MEASURES.fullmatch(key) else whole  # `yield_power` is a power, `energy_total` a count
    counts = any(_COUNTS.fullmatch(one) for one in (key, counted))
    if all(len(np.unique(one)) == 1 for one in values):
        again = max(float(one[-1] - one[0]) for one in times) >= _STILL_S and max(map(len, values)) >= _STILL_MIN
        long = again if still_s is None else still_s >= _STILL_S
        if counts and (still_s is not None or not long):
            return "counter"
        return "constant" if long and not _MEASURES.fullmatch(whole) else ""
    rises = [_rises(one, again=counts) for one in values]
    if any(count is None for count in rises) or (not counts and _MEASURES.fullmatch(whole)):
        return ""  # a measurement, even where it is on its way up
    most = max(count or 0 for count in rises)
    if all(_is_clock(t, v) for t, v in zip(times, values, strict=True)) and most >= _TICKS_MIN and not counts:
        return "clock"
    return "counter" if most >= (_RISES_NAMED if counts else _RISES_MIN) else ""


def _rises(values: F64, *, again: bool) -> int | None:
    """Return how often a counter rises; None where values fall, other than to begin again where that is thought of."""
    steps = np.diff(values)
    falls = np.flatnonzero(steps < 0)
    if values.min() < 0 or len(falls) > (len(steps) / 10 if again else 0):
        return None
    if not bool(np.all(values[falls + 1] <= _RESET * values[falls])):
        return None
    return int((steps > 0).sum())


def _is_clock(time_s: F64, values: F64) -> bool:
    """Whether a value goes with the time, or by one a message."""
    steps = np.diff(values)
    steps_up, waits = steps[steps >= 0], np.diff(time_s)[steps >= 0]
    if not len(steps_up):
        return True
    if bool(np.all(steps_up == 1)):
        return True
    passed = float(waits.sum())
    rate = float(steps_up.sum()) / passed if passed > 0 else 0.0
    return any(abs(rate * unit - 1) < _CLOCK_TOLERANCE for unit in (1.0, 1e-3, 60.0, 3600.0))


def _fahrenheit(heard: Mapping[str, Mapping[object, Course]], celsius: str, other: str) -> bool:
    """Whether `other` is the same temperature in Fahrenheit."""
    pairs = [
        (np.asarray(a.value), np.asarray(heard[other][stream].value))
        for stream, a in heard.get(celsius, {}).items()
        if stream in heard.get(other, {}) and len(a.value) == len(heard[other][stream].value)
    ]
    return bool(pairs) and all(bool(np.all(np.abs(1.8 * a + 32 - b) < 0.15)) for a, b in pairs)
