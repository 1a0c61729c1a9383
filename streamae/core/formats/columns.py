"""Readings of a whole batch as columns, and the part of a batch that can be read without looking at each message.

Most messages are exactly what they are expected to be. For those, `numbers` and `documents` read a run of payloads at
once, as arrays; if any payload is unusual they return None, and the run is read message by message instead, which
says what is wrong. So the fast way never has to explain a refusal, and the two never differ.

`ReadingColumns` is where the readings of every format go, and so the one place that bounds their times: see `refusal`.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import tzinfo
from itertools import repeat

import numpy as np

from streamae.core.arrays import firsts
from streamae.core.formats.values import (
    AUTO_SIZES,
    AUTO_UNITS,
    EARLIEST_S,
    FLOAT32_MAX,
    SECONDS_A_UNIT,
    Path,
    to_seconds,
)
from streamae.core.types import F64, I32, I64, Drop, Drops, Readings

__all__ = ["ColumnReader", "ReadingColumns", "TopicRun", "documents", "numbers", "typed_paths"]

# Payloads -> for each path the values found there, or None where any payload is not exactly as expected.
ColumnReader = Callable[[Sequence[bytes]], Sequence[Sequence[float | int | str]] | None]
_ENDS = {Drop.UNAVAILABLE, Drop.NOT_FINITE}  # of a value that is gone; text that nobody understands says nothing


@dataclass(frozen=True, slots=True, eq=False)
class TopicRun:
    """Some messages of one topic template: their numbers in the batch, routes, payloads and times."""

    at: I64
    stream: I32
    channel: I32
    payloads: Sequence[bytes]
    arrival_s: F64
    latest_s: F64


class ReadingColumns:
    """The readings of a batch while it is read: one list per column, and arrays of runs that were read at once."""

    __slots__ = (
        "arrival_s", "at", "believed_s", "channel", "drops", "foreign", "latest_s", "message", "origin", "origins",
        "parts", "refused", "stream", "time_s", "value",
    )  # fmt: skip

    def __init__(self) -> None:
        self.stream: list[int] = []
        self.channel: list[int] = []
        self.time_s: list[float] = []
        self.value: list[float] = []
        self.origin: list[int] = []
        self.message: list[int] = []
        self.parts: list[tuple[I64, I32, I32, F64, F64]] = []
        self.origins = 0
        self.at = 0  # number of the message that is being read
        self.arrival_s, self.latest_s = math.nan, -math.inf  # of it, and the latest time that is believed
        self.believed_s = math.nan  # the last time that was believed, of this message
        self.refused = -1  # the last origin that was refused for its time
        self.drops = Drops()  # of that message
        self.foreign = False  # what was dropped of it may be meant for another group

    def begin(self, at: int, arrival_s: float, latest_s: float) -> None:
        """Go on to the message of this number: what is added from now on is of it."""
        self.at, self.arrival_s, self.latest_s, self.believed_s, self.refused = at, arrival_s, latest_s, arrival_s, -1

    def refusal(self, time_s: float) -> Drop | None:
        """Return why a time in the message that is being read is not believed; None where it is.

        It is ahead of the arrival by more than `future_max`, or before 2000, unless the arrival is so too.
        """
        if time_s > self.latest_s:
            return Drop.FUTURE
        if time_s >= EARLIEST_S or (time_s > -math.inf and self.arrival_s < EARLIEST_S):  # NaN compares false
            self.believed_s = time_s
            return None
        return Drop.BAD_TIME

    def take(self, stream: int, channel: int, time_s: float, number: float | Drop) -> None:
        """Append a value as a format's rule returns it, or count why it is none; what is gone ends its hold.

        There is nothing to end where the stream has not appeared (-1).
        """
        if isinstance(number, Drop):
            self.drops[number] += 1
            if number not in _ENDS or stream < 0:
                return
            number = math.nan
        self.add(stream, channel, time_s, number)

    def add(self, stream: int, channel: int, time_s: float, value: float) -> None:
        """Append one reading of the message that is being read, where its time is believed; else count it, once for
        all of its origin.

        NaN ends the validity of the channel's last value, at the arrival where its time is not believed: what is gone
        is gone by then.
        """
        why = None if time_s == self.believed_s else self.refusal(time_s)
        if why is not None:
            if self.refused != self.origins:
                self.drops[why] += 1
                self.refused = self.origins
            if not math.isnan(value):
                return
            time_s = self.arrival_s
        self.stream.append(stream)
        self.channel.append(channel)
        self.time_s.append(time_s)
        self.value.append(value)
        self.origin.append(self.origins)
        self.message.append(self.at)

    def add_run(self, run: TopicRun, channel: I32, time_s: F64, values: F64) -> bool:
        """Append the `values[n, k]` of a run's messages, at `time_s[n]`, of `channel[n, k]`; False, and nothing is
        appended, where any of the times is not believed.
        """
        if time_s is not run.arrival_s:
            known = time_s <= run.latest_s
            if not (bool(known.all()) and (len(time_s) == 0 or float(time_s.min()) >= EARLIEST_S)):
                return False
        self.parts.append((run.at, run.stream, channel, time_s, values))
        return True

    def readings(self, arrival_s: F64) -> Readings:
        """Return everything in the order of the messages, whose arrivals were `arrival_s[N]`."""
        if len(self.parts) == 1 and not self.stream:
            return _readings(arrival_s, *_spread(self.parts[0]))
        one_by_one = (
            np.array(self.message, np.int64),
            np.array(self.stream, np.int32),
            np.array(self.channel, np.int32),
            np.array(self.time_s, np.float64),
            np.array(self.value, np.float64),
            np.array(self.origin, np.int32),
        )
        columns = [np.concatenate(c) for c in zip(*map(_spread, self.parts), one_by_one, strict=True)]
        if bool((columns[0][1:] < columns[0][:-1]).any()):
            order = np.argsort(columns[0], kind="stable")
            columns = [column[order] for column in columns]
        return _readings(arrival_s, *columns)


def _spread(part: tuple[I64, I32, I32, F64, F64]) -> tuple[np.ndarray, ...]:
    at, stream, channel, time_s, values = part
    k, origin = values.shape[1], np.zeros(values.size, np.int32)
    if k == 1:
        return at, stream, channel.ravel(), time_s, values.ravel(), origin
    return np.repeat(at, k), np.repeat(stream, k), channel.ravel(), np.repeat(time_s, k), values.ravel(), origin


def _readings(
    arrival_s: F64,
    at: np.ndarray,
    stream: np.ndarray,
    channel: np.ndarray,
    time_s: np.ndarray,
    value: np.ndarray,
    origin: np.ndarray,
) -> Readings:
    numbered = np.cumsum(firsts(at, origin), dtype=np.int32) - 1
    return Readings(
        stream.astype(np.int32),
        channel.astype(np.int32),
        time_s.astype(np.float64),
        value.astype(np.float64),
        numbered,
        arrival_s[at],
    )


def numbers(payloads: Sequence[bytes], *, comma: bool = False) -> F64 | None:
    """Return plain numbers, `[N]`, with a decimal comma where they have one; None where any payload is not one that
    float32 can hold.
    """
    joined = b"".join(payloads)
    if comma and b"." in joined:
        return None
    try:
        values = np.array([float(one.replace(b",", b".")) for one in payloads] if comma else list(map(float, payloads)))
    except ValueError:
        return None
    # Python alone reads `1_0` as a number; NaN compares false.
    return values if bool((np.abs(values) <= FLOAT32_MAX).all()) and b"_" not in joined else None


def documents(
    columns: Sequence[Sequence[float | int | str]], unit: str | None, zone: tzinfo | None, arrival_s: F64
) -> tuple[F64, F64] | None:
    """Return time_s[N] and values[N, K] of documents from their columns, the time first unless `unit` is None.

    None where any of them is not exactly as expected.
    """
    time_s = arrival_s if unit is None else _seconds(columns[0], unit, zone, arrival_s)
    try:
        values = np.array(columns[unit is not None :], np.float64).T
    except (OverflowError, ValueError):
        return None
    good = time_s is not None and bool((np.abs(values) <= FLOAT32_MAX).all())
    return (time_s, values) if good and time_s is not None else None


def _seconds(column: Sequence[float | int | str], unit: str, zone: tzinfo | None, arrival_s: F64) -> F64 | None:
    if set(map(type, column)) <= {float, int}:
        return _numbers_to_seconds(column, unit)
    found = list(map(to_seconds, column, repeat(unit), repeat(zone), arrival_s.tolist()))
    if any(isinstance(x, Drop) for x in found):
        return None
    return np.array(found, np.float64)


def _numbers_to_seconds(column: Sequence[float | int | str], unit: str) -> F64 | None:
    """Return what `to_seconds` makes of a column without text, `[N]`; None where it would refuse any of it."""
    try:
        number = np.array(column, np.float64)
    except OverflowError:
        return None
    size = np.abs(number)
    if unit == "rfc3339" or not bool((size <= FLOAT32_MAX).all()):
        return None
    if unit != "auto":
        return number * SECONDS_A_UNIT[unit]
    scale: F64 = np.array([SECONDS_A_UNIT[one] for one in AUTO_UNITS])[np.searchsorted(AUTO_SIZES, size, "right")]
    return number * scale


def typed_paths(paths: Sequence[Path]) -> list[tuple[str, ...]] | None:
    """Return the paths of a document if they lead through objects only; else None."""
    plain = [tuple(step for step in path if isinstance(step, str)) for path in paths]
    return plain if all(path and len(p) == len(path) for p, path in zip(plain, paths, strict=True)) else None
