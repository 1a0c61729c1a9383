"""How one topic's payload is to be read, and what a payload in a known format says: records."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import tzinfo
from typing import Any, NamedTuple

from streamae.core.types import Drop

__all__ = ["MEASUREMENT", "Format", "Loads", "PayloadSpec", "Record"]

Loads = Callable[[bytes], Any]  # JSON: bytes -> document, raising ValueError
MEASUREMENT = "_measurement"  # the tag that stands for a point's measurement, as in Flux


@dataclass(frozen=True, slots=True)
class PayloadSpec:
    """How to read one topic's payload.

    For `json`: `values` maps channels to paths; None with a {channel} in the topic reads `value`, without one it reads
    each channel at the key of its own name. `samples` leads to an array; paths are then relative to its entries, and
    where these carry no time of their own they are `sample_every_s` apart: the first at the payload's time, or, if
    there is none, the last at the arrival.

    For the other formats `values` maps channels to the names that the format has for them (None: they are called the
    same). `labels` maps labels of the stream to tags of the payload, `where` selects what has these tags, `name` is a
    template that takes a name apart into labels and {channel}; `zone` is that of local times without an offset.
    `sequence` is the path of a counter in a `json` document, of which no number should be missing.
    `listens` marks a template that is there for what its topics say of others: no samples come from it.
    """

    kind: str = "number"
    values: Mapping[str, str] | None = None
    value: str = "value"
    time: str | None = None
    time_unit: str = "auto"
    samples: str | None = None
    sample_every_s: float | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    where: Mapping[str, str] = field(default_factory=dict)
    name: str | None = None
    zone: tzinfo | None = None
    listens: bool = False
    sequence: str | None = None


class Record(NamedTuple):
    """What was measured together: values by name, as they stand in the payload, and the tags of what they belong to.

    `time_s` None is the time of arrival. A value may be anything; None is a source's word that it has none now.
    """

    time_s: float | None
    values: Mapping[str, object]
    tags: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Format:
    """One format: how its payloads become records, and which of its topics never carry samples.

    `records(payload, spec, loads, arrival_s)` never raises; what cannot be read is a `Drop` in a record's place.
    `plain` payloads are one value, called "value". Numbers and words that stand as text are read where `words`.
    """

    records: Callable[[bytes, PayloadSpec, Loads, float], Iterable[Record | Drop]]
    skips: Callable[[bytes], bool] = lambda topic: False
    plain: bool = False
    words: bool = False
