"""A time zone as what the artifact keeps of it: since when its clock has been how far ahead of UTC."""

import re
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

__all__ = ["clock_offsets", "zone_of"]

_DAY_S = 86_400
_AHEAD_S = 20 * 366 * _DAY_S  # summer time beyond is the last known offset's: by then the model is another


def zone_of(text: str) -> tzinfo:
    """Read `Europe/Berlin`, `UTC` or an offset such as `+05:30`. Raises ValueError."""
    fixed = re.fullmatch(r"([+-])(\d\d):(\d\d)", text)
    if fixed:
        sign = -1 if fixed[1] == "-" else 1
        return timezone(sign * timedelta(hours=int(fixed[2]), minutes=int(fixed[3])))
    try:
        return ZoneInfo(text)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        remedy = "write UTC, +02:00 or a name such as Europe/Berlin"
        raise ValueError(f"zone {text!r} is not known here; {remedy}") from None


def clock_offsets(zone: str, start_s: float, end_s: float) -> list[list[float]]:
    """Return `[since_s, offset_s]` of each change of the clock from `start_s` until long after `end_s`."""
    tz = zone_of(zone)

    def ahead_s(at: int) -> float:
        offset = datetime.fromtimestamp(at, UTC).astimezone(tz).utcoffset()
        return offset.total_seconds() if offset is not None else 0.0

    first = int(start_s // _DAY_S) * _DAY_S
    found = [[float(first), ahead_s(first)]]
    if isinstance(tz, timezone) or zone == "UTC":
        return found
    for day in range(first, int(end_s) + _AHEAD_S, _DAY_S):
        before, after = ahead_s(day), ahead_s(day + _DAY_S)
        if before != after:
            low, high = day, day + _DAY_S
            while high - low > 1:
                middle = (low + high) // 2
                low, high = (middle, high) if ahead_s(middle) == before else (low, middle)
            found.append([float(high), after])
    return found
