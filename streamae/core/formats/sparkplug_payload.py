"""Sparkplug B payloads: a message of protocol buffers with metrics, and what a topic of it means.

    spBv1.0/<group>/<type>/<edge node>[/<device>]       type: N or D (node, device) with BIRTH, DATA, DEATH or CMD

Integers of up to 32 bits travel in an unsigned field of 32, those of 64 in one of 64; `datatype` says how many bits
count and whether the highest is the sign. Times are milliseconds since 1970.

Specification: Sparkplug 3.0.0 (sparkplug.eclipse.org), chapters 4, 5 and 6; its schema is sparkplug_b.proto.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from streamae.core.formats.protobuf import BYTES, FIXED32, FIXED64, VARINT, fields

__all__ = [
    "NAMESPACE", "Address", "SparkplugMessage", "SparkplugMetric", "TooManyMetricsError", "address_of", "parse",
    "value_of",
]  # fmt: skip

NAMESPACE = "spBv1.0"
_TYPES = {f"{who}{what}" for who in "ND" for what in ("BIRTH", "DATA", "DEATH", "CMD")}
_SIGNED_BITS = {1: 8, 2: 16, 3: 32, 4: 64}  # Int8 to Int64
_UNSIGNED_BITS = {5: 8, 6: 16, 7: 32, 8: 64}
_NO_NUMBER = {12, 13, 14, 15}  # String, DateTime, Text, UUID: no measurements, even where the bytes look like numbers
_TEXT = {0, 12, 14}  # unknown, String, Text
_GOOD = (192, 255)  # as OPC numbers it
_ALIAS_MAX = (1 << 63) - 1
_FIELDS_MAX = 100  # of a metric, and of a payload beside its metrics; the schema has a dozen


class Address(NamedTuple):
    """What a topic names; `device` is "" for the edge node itself, and `node` is unique with its group in it."""

    node: str
    type: str
    device: str


class SparkplugMetric(NamedTuple):
    """One metric as it stands in the message; `name` and `alias` may both be missing from data.

    `raw` is the number or text in its wire field, None where there is neither; `null` says that it has no value, `bad`
    that its quality is not good.
    """

    name: str
    alias: int | None
    time_s: float | None
    datatype: int
    null: bool
    raw: float | int | str | None
    bad: bool = False


@dataclass(slots=True)
class SparkplugMessage:
    """One payload; `bd_seq` is the value of the metric that ties a death to its birth."""

    time_s: float | None = None
    seq: int | None = None
    metrics: list[SparkplugMetric] = field(default_factory=list)

    @property
    def bd_seq(self) -> int | None:
        """The number of the session, of births and deaths of edge nodes."""
        return next((m.raw for m in self.metrics if m.name == "bdSeq" and isinstance(m.raw, int)), None)


def address_of(topic: bytes) -> Address | None:
    """Return what a topic names, None where it is none of an edge node; a bridge may have put levels before it."""
    levels = topic.decode(errors="replace").split("/")
    below = levels[levels.index(NAMESPACE) + 1 :] if NAMESPACE in levels else []
    if len(below) not in (3, 4):
        return None
    group, kind, node, device = (*below, "")[:4]
    if kind not in _TYPES or not node or (kind[0] == "D") != bool(device):
        return None
    return Address(f"{group}/{node}", kind, device)


class TooManyMetricsError(ValueError):
    """A payload has more metrics than it may."""


def parse(payload: bytes, metrics_max: int = 1_000_000) -> SparkplugMessage:
    """Read a payload. Raises ValueError where it is none, TooManyMetricsError before it reads more than it may."""
    message = SparkplugMessage()
    for count, (number, kind, value) in enumerate(fields(payload)):
        if count >= metrics_max + _FIELDS_MAX or len(message.metrics) > metrics_max:
            raise TooManyMetricsError
        if number == 1 and kind == VARINT:
            message.time_s = int(value) / 1e3
        elif number == 2 and kind == BYTES:
            assert isinstance(value, bytes)
            message.metrics.append(_metric(value))
        elif number == 3 and kind == VARINT:
            message.seq = int(value)
    if len(message.metrics) > metrics_max:
        raise TooManyMetricsError
    return message


def _metric(block: bytes) -> SparkplugMetric:
    name, datatype, null = "", 0, False
    alias: int | None = None
    time_s: float | None = None
    raw: float | int | str | None = None
    bad = False
    for number, kind, value in _some(block):
        if isinstance(value, int):
            if number == 2:
                alias = value if value <= _ALIAS_MAX else None
            elif number == 3:
                time_s = value / 1e3
            elif number == 4:
                datatype = value & 0xFFFF_FFFF
            elif number == 7:
                null = value != 0
            elif number in (10, 11):
                raw = value & 0xFFFF_FFFF if number == 10 else value
            elif number == 14:
                raw = int(value != 0)
        elif number == 1 and kind == BYTES:
            name = value.decode()
        elif number == 9 and kind == BYTES:
            bad = _is_bad(value)
        elif (number, kind) in ((12, FIXED32), (13, FIXED64)):
            (raw,) = struct.unpack("<f" if number == 12 else "<d", value)
        elif 15 <= number <= 19 and kind == BYTES:  # of several values the last one counts
            raw = value.decode(errors="replace") if number == 15 else None
    return SparkplugMetric(name, alias, time_s, datatype, null, raw, bad)


def _some(block: bytes) -> Iterator[tuple[int, int, bytes | int]]:
    """Yield the fields of a metric, or of its properties. Raises ValueError where there are too many."""
    for count, one in enumerate(fields(block)):
        if count == _FIELDS_MAX:
            raise ValueError("too many fields")
        yield one


def _is_bad(block: bytes) -> bool:
    """Whether a set of properties has a `Quality` that is not good: 0 is bad, 500 stale, 192 good."""
    keys: list[bytes] = []
    values: list[bytes] = []
    try:
        for number, kind, value in _some(block):
            if kind == BYTES and isinstance(value, bytes):
                (keys if number == 1 else values).append(value)
        at = keys.index(b"Quality") if b"Quality" in keys else len(values)
        numbers = [int(value) for number, kind, value in fields(values[at]) if kind == VARINT and number in (3, 4)]
    except (ValueError, IndexError):  # no set of properties, or none with a quality
        return False
    return bool(numbers) and not _GOOD[0] <= numbers[-1] <= _GOOD[1]


def value_of(metric: SparkplugMetric, datatype: int) -> float | str | None:
    """Return the number that a metric of this type carries, or its text; None where it carries neither."""
    if isinstance(metric.raw, str):
        return metric.raw if datatype in _TEXT else None
    if metric.raw is None or datatype in _NO_NUMBER or datatype > 14:
        return None
    if isinstance(metric.raw, float):
        return metric.raw
    bits = _SIGNED_BITS.get(datatype)
    if bits is not None:
        low = metric.raw & ((1 << bits) - 1)
        return float(low - (1 << bits) if low >> (bits - 1) else low)
    bits = _UNSIGNED_BITS.get(datatype)
    return float(metric.raw if bits is None else metric.raw & ((1 << bits) - 1))
