"""The `maintenance:` list: when streams are worked on, for once or again and again, and what follows from it at a time.

A recurring window begins at a time of day in its own time zone, on the days that it names, and lasts as long as it
says by any clock: through a change to or from summer time, too. A time that such a change skips is taken by the clock
before it (02:30 is then 03:30); one that it repeats is the first of the two.
"""

from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import Annotated, Any
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, Tag, WithJsonSchema

from streamae.config.base import Name, Section
from streamae.config.units import Duration, Text, zone_name
from streamae.store.silences import Silence

__all__ = ["DAYS", "OneOff", "Recurring", "Window", "gap_days", "next_window", "occurrences", "planned"]

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_DAY_S = 86400.0
_MOMENT = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]+)?)?([Zz]|[+-][0-9]{2}:[0-9]{2})$"


def _moment(value: Any) -> float:
    try:
        when = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        when = None
    if when is None or when.tzinfo is None:
        raise ValueError("write date, time and zone, such as 2026-12-01T06:00:00+01:00")
    return when.timestamp()


def _clock(value: Any) -> time:
    try:
        when = time.fromisoformat(value)
    except (TypeError, ValueError):
        when = None
    if when is None or when.tzinfo is not None or ":" not in value:
        raise ValueError("write a time of day, such as 22:00")
    return when


def _day(value: Any) -> str:
    short = str(value).lower()[:3]
    if short not in DAYS:
        raise ValueError(f"write days such as {', '.join(DAYS)}")
    return short


Moment = Annotated[
    float, BeforeValidator(_moment), WithJsonSchema({"type": "string", "format": "date-time", "pattern": _MOMENT})
]
Clock = Annotated[
    time, BeforeValidator(_clock), WithJsonSchema({"type": "string", "pattern": "^[0-2][0-9]:[0-5][0-9]"})
]
Day = Annotated[str, BeforeValidator(_day), WithJsonSchema({"enum": list(DAYS)})]


class _Window(Section):
    name: Name
    """What the page, the API and the log call it."""
    group: Text = "*"
    """Pattern of groups: `*`, `?` and `[…]` as in file names."""
    stream: Text = "*"
    """Pattern of streams of these groups."""


class OneOff(_Window):
    """Maintenance that happens once."""

    from_s: Moment = Field(alias="from")
    """When it begins: date, time and zone (RFC 3339)."""
    until_s: Moment = Field(alias="until")
    """When it ends. It may be over already: its time is then left out of training."""


class Recurring(_Window):
    """Maintenance that comes again."""

    start: Clock
    """Time of day at which it begins."""
    duration_s: Duration = Field(alias="duration", gt=0)
    """How long it lasts."""
    days: Annotated[tuple[Day, ...], Field(min_length=1)] = DAYS
    """Days on which it begins; every day without them."""
    time_zone: Annotated[Text, AfterValidator(zone_name)] = "UTC"
    """Zone of `start`, such as Europe/Berlin; it knows of summer time."""


def _kind(value: Any) -> str:
    once = isinstance(value, OneOff) or (isinstance(value, dict) and not value.keys().isdisjoint(("from", "until")))
    return "once" if once else "recurring"


Window = Annotated[Annotated[OneOff, Tag("once")] | Annotated[Recurring, Tag("recurring")], Discriminator(_kind)]


def occurrences(window: OneOff | Recurring, since_s: float) -> Iterator[tuple[float, float]]:
    """Yield start and end (seconds since 1970) of each time that ends after `since_s`, in order; without an end."""
    if isinstance(window, OneOff):
        if window.until_s > since_s:
            yield window.from_s, window.until_s
        return
    zone, days = ZoneInfo(window.time_zone), {DAYS.index(day) for day in window.days}
    day = datetime.fromtimestamp(max(since_s - window.duration_s, 0.0), zone).date() - timedelta(days=1)
    while day < date.max:
        if day.weekday() in days:
            start_s = datetime.combine(day, window.start, zone).timestamp()
            if start_s + window.duration_s > since_s:
                yield start_s, start_s + window.duration_s
        day += timedelta(days=1)


def gap_days(window: Recurring) -> int:
    """Return the smallest number of days from one start to the next."""
    days = sorted({DAYS.index(day) for day in window.days})
    return min(b - a for a, b in zip(days, [*days[1:], days[0] + 7], strict=True))


def planned(windows: Sequence[OneOff | Recurring], now_s: float) -> list[Silence]:
    """Return the silences of the plan at `now_s`: all that happens once, and what recurs from a day ago on."""
    found = []
    for window in windows:
        since_s = float("-inf") if isinstance(window, OneOff) else now_s - _DAY_S
        for start_s, end_s in occurrences(window, since_s):
            found.append(_silence(window, start_s, end_s))
            if start_s > now_s:
                break
    return found


def _silence(window: OneOff | Recurring, start_s: float, end_s: float) -> Silence:
    plan = f"{window.name} {window.group} {window.stream} {start_s:.3f} {end_s:.3f}"
    return Silence(
        start_s, end_s, window.group, window.stream, comment=f"maintenance: {window.name}", maintenance=window.name,
        plan=plan,
    )  # fmt: skip


def next_window(window: OneOff | Recurring, now_s: float) -> str:
    """Return in words when a window is next, or that it is now, or over."""
    start_s, end_s = next(occurrences(window, now_s), (None, None))
    if start_s is None or end_s is None:
        return "over"
    zone = UTC if isinstance(window, OneOff) else ZoneInfo(window.time_zone)
    start, end = (datetime.fromtimestamp(at_s, zone).strftime("%a %Y-%m-%d %H:%M %Z") for at_s in (start_s, end_s))
    return f"now, until {end}" if start_s <= now_s else f"next {start} to {end}"
