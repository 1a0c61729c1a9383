"""Payload bytes -> readings, or the reason why not.

A payload is described, not programmed: `number` is the bytes of one plain number; `json` is a document in which dotted
paths (`sensors.flow`, `readings[0].v`, `"odd.key".v`) lead to each channel's value and to the time; `samples` leads to
an array whose entries are read in the same way. Event time comes from the payload where a path to it is given, else
from the arrival.

Nothing that a sensor sends raises: each message becomes readings, or one `Drop` for each value that it should have had.
"""

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np

from streamae.core.topics import Route, Router
from streamae.core.types import F64, Drop, Drops, Readings

__all__ = ["TIME_UNITS", "Decoder", "Path", "PayloadSpec", "parse_path", "to_number", "to_seconds"]

Path = tuple[str | int, ...]
TIME_UNITS = ("auto", "s", "ms", "us", "ns", "rfc3339")
_SCALE = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
_FLOAT32_MAX = float(np.finfo(np.float32).max)
_STEP = re.compile(r'\.?(?:"([^"]+)"|([^.\[\]"]+))|\[(-?\d+)\]')


@dataclass(frozen=True, slots=True)
class PayloadSpec:
    """How to read one topic's payload.

    `values` maps channels to paths; None with a {channel} in the topic reads `value`, without one it reads each
    channel at the key of its own name. `samples` leads to an array; paths are then relative to its entries, and where
    these carry no time of their own they are `sample_every_s` apart: the first at the payload's time, or, if there
    is none, the last at the arrival.
    """

    kind: str = "number"
    values: Mapping[str, str] | None = None
    value: str = "value"
    time: str | None = None
    time_unit: str = "auto"
    samples: str | None = None
    sample_every_s: float | None = None


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
    return number if abs(number) <= _FLOAT32_MAX else Drop.NOT_FINITE  # NaN compares false


def to_seconds(value: object, unit: str = "auto") -> float | Drop:
    """Return a time as seconds since 1970 UTC.

    `auto` takes text as RFC 3339 (no offset: UTC) and numbers by their magnitude: below 1e11 seconds, below 1e14
    milliseconds, below 1e17 microseconds, else nanoseconds; each unit then spans the years 1973 to 5138.
    """
    if isinstance(value, str):
        if unit in _SCALE:
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
        size = abs(number)
        unit = "s" if size < 1e11 else "ms" if size < 1e14 else "us" if size < 1e17 else "ns"
    return number * _SCALE[unit]


def _lookup(document: object, path: Path) -> object:
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


class _Columns:
    """The readings of a batch while it is read, one list per column."""

    __slots__ = ("channel", "drops", "origin", "origins", "stream", "time_s", "value")

    def __init__(self) -> None:
        self.stream: list[int] = []
        self.channel: list[int] = []
        self.time_s: list[float] = []
        self.value: list[float] = []
        self.origin: list[int] = []
        self.origins = 0
        self.drops = Drops()

    def add(self, stream: int, channel: int, time_s: float, value: float) -> None:
        self.stream.append(stream)
        self.channel.append(channel)
        self.time_s.append(time_s)
        self.value.append(value)
        self.origin.append(self.origins)

    def readings(self) -> Readings:
        return Readings(
            np.array(self.stream, np.int32),
            np.array(self.channel, np.int32),
            np.array(self.time_s, np.float64),
            np.array(self.value, np.float64),
            np.array(self.origin, np.int32),
        )


class _JsonReader:
    """One compiled `json` payload spec: paths parsed, channels numbered."""

    def __init__(self, spec: PayloadSpec, channels: Sequence[str], loads: Callable[[bytes], Any]) -> None:
        values = spec.values if spec.values is not None else {name: f'"{name}"' for name in channels}
        number = {name: i for i, name in enumerate(channels)}
        self.paths = [(number[name], parse_path(path)) for name, path in values.items() if name in number]
        self.value = parse_path(spec.value)
        self.time = None if spec.time is None else parse_path(spec.time)
        self.samples = None if spec.samples is None else parse_path(spec.samples)
        self.spec = spec
        self.loads = loads

    def read(self, route: Route, payload: bytes, times: tuple[float, float], out: _Columns) -> None:
        arrival_s, limit_s = times
        try:
            document = self.loads(payload)
        except (ValueError, RecursionError):  # ValueError: not JSON, not UTF-8, or a number too long
            out.drops[Drop.MALFORMED] += 1
            return
        if self.samples is None:
            self._entry(document, document, route, (arrival_s, limit_s), out)
            return
        entries = _lookup(document, self.samples)
        if not isinstance(entries, list):
            out.drops[Drop.MISSING_VALUE] += 1
            return
        step_s = self.spec.sample_every_s
        start_s = self._start(document, arrival_s, len(entries))
        for i, entry in enumerate(entries):
            time_s = start_s + i * step_s if step_s is not None and not isinstance(start_s, Drop) else start_s
            self._entry(entry, document, route, (time_s, limit_s), out)

    def _start(self, document: object, arrival_s: float, entries: int) -> float | Drop:
        """Return the time of an array's first entry, where its entries have none of their own."""
        if self.spec.sample_every_s is None:
            return arrival_s
        if self.time is None:
            return arrival_s - (entries - 1) * self.spec.sample_every_s
        return to_seconds(_lookup(document, self.time), self.spec.time_unit)

    def _entry(
        self, entry: object, document: object, route: Route, times: tuple[float | Drop, float], out: _Columns
    ) -> None:
        """Read one entry of an array, or the document itself; `times` are its time if it has none, and the latest."""
        time_s, limit_s = times
        if self.time is not None and self.spec.sample_every_s is None:
            found = _lookup(entry, self.time)
            found = _lookup(document, self.time) if found is Drop.MISSING_VALUE else found
            time_s = to_seconds(found, self.spec.time_unit)
        if isinstance(time_s, Drop) or time_s > limit_s:
            out.drops[time_s if isinstance(time_s, Drop) else Drop.FUTURE] += 1
            return
        out.origins += 1
        for channel, path in self.paths if route.channel < 0 else ((route.channel, self.value),):
            found = _lookup(entry, path)
            number = found if isinstance(found, Drop) else to_number(found)
            if isinstance(number, Drop):
                out.drops[number] += 1
            else:
                out.add(route.stream, channel, time_s, number)


class Decoder:
    """All payload specs of one group, by the index of the topic template that they belong to.

    Event times more than `future_max_s` ahead of the arrival are refused: one such sample would make all that
    follow it late. `loads` parses JSON: bytes -> document, raising ValueError.
    """

    def __init__(
        self,
        router: Router,
        specs: Sequence[PayloadSpec],
        channels: Sequence[str],
        *,
        future_max_s: float = 60.0,
        loads: Callable[[bytes], Any] = json.loads,
    ) -> None:
        self._router = router
        self._readers = [None if s.kind == "number" else _JsonReader(s, channels, loads) for s in specs]
        self._future_max_s = future_max_s

    def decode(self, topics: Sequence[bytes], payloads: Sequence[bytes], arrival_s: F64) -> tuple[Readings, Drops]:
        """Return the readings of N messages in their order, and what was refused."""
        out = _Columns()
        route_of, readers, ahead_s = self._router.route, self._readers, self._future_max_s
        for topic, payload, now_s in zip(topics, payloads, arrival_s.tolist(), strict=True):
            route = route_of(topic)
            if isinstance(route, Drop):
                out.drops[route] += 1
                continue
            if not payload.strip():
                out.drops[Drop.EMPTY] += 1
                continue
            reader = readers[route.template]
            if reader is not None:
                reader.read(route, payload, (now_s, now_s + ahead_s), out)
                continue
            try:
                value = float(payload)
            except ValueError:
                out.drops[Drop.NOT_A_NUMBER] += 1
                continue
            # NaN compares false; Python alone reads `1_0` as a number.
            if not abs(value) <= _FLOAT32_MAX or math.isinf(value) or b"_" in payload:
                out.drops[Drop.NOT_A_NUMBER if b"_" in payload else Drop.NOT_FINITE] += 1
                continue
            out.origins += 1
            out.add(route.stream, max(route.channel, 0), now_s, value)
        return out.readings(), out.drops
