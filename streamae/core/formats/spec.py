"""What a payload format is, how one topic's payload is to be read, and what a payload says: records."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import tzinfo
from typing import Annotated, Any, Literal, NamedTuple, Protocol, runtime_checkable

from streamae.core.formats.columns import ReadingColumns, TopicRun
from streamae.core.formats.number_rule import NumberRule, check_word
from streamae.core.formats.quality import check_good
from streamae.core.formats.values import parse_path
from streamae.core.routes import Route, Streams
from streamae.core.setting import INTERNAL, Setting
from streamae.core.topics import Template
from streamae.core.types import Drop, State

__all__ = [
    "COMMON_KEYS", "MEASUREMENT", "VALUES_A_POINT", "CoveringReader", "Format", "Loads", "Memory", "MessageReader",
    "Opening", "PayloadSpec", "Record", "Records", "RunReader", "Sequencing", "Sighting", "Sightings",
]  # fmt: skip

Loads = Callable[[bytes], Any]  # JSON: bytes -> document, raising ValueError
COMMON_KEYS = ("words", "decimal", "unit")  # what a topic of any format may have
VALUES_A_POINT = 4  # on average, where a message has as many points as it may
MEASUREMENT = "_measurement"  # the tag that stands for a point's measurement, as in Flux


def _check_label(name: str) -> None:
    """Raise ValueError for what a template cannot hold between braces."""
    Template.parse("{" + name + "}")


@dataclass(frozen=True, slots=True)
class PayloadSpec:
    """How to read one topic's payload.

    For `json`, `values` None with a {channel} in the topic reads `value`, without one it reads each channel at the key
    of its own name. Where entries of `samples` carry no time of their own they are `sample_every_s` apart: the first
    at the payload's time, or, if there is none, the last at the arrival.
    """

    kind: Annotated[str, Setting(key="payload")] = "number"
    """The name of its format in the registry."""
    values: Mapping[str, str] | None = None
    """Channel -> what the payload calls it; for JSON a path (`sensors.flow`, `readings[0].v`). Without it, the same.
    Beside {channel} in the topic: which of its channels are meant, each as the topic calls it."""
    labels: Mapping[Annotated[str, Setting(check=_check_label)], str] = field(default_factory=dict)
    """Label of the stream -> where the payload says it: for JSON a path to text or a whole number, for InfluxDB's
    formats a tag."""
    where: Mapping[str, str] = field(default_factory=dict)
    """What must hold, or a sample is passed over: for JSON path -> text, for InfluxDB's formats tag -> its value."""
    name: Annotated[str | None, Setting(check=Template.parse)] = None
    """Template that takes the names of values apart into labels and {channel}: for SenML and Sparkplug their names, for
    JSON what stands at `id`, without `id` the paths of the document."""
    id: Annotated[str | None, Setting(check=parse_path)] = None
    """For JSON: path of the name of a value, where each entry of `samples` is one: `value` is then its path."""
    quality: Annotated[str | None, Setting(check=parse_path)] = None
    """For JSON: path of the quality of a value, looked for beside the value, then in the entry of `samples`, then in
    the message. What is not `good` is no value now; null, or no quality at all, is good."""
    good: tuple[Annotated[str, Setting(check=check_good)], ...] = ("true", "good", "ok", "192-255")
    """The qualities that are good: words, numbers, or a range of numbers."""
    words: Mapping[Annotated[str, Setting(check=check_word)], float | None] = field(default_factory=dict)
    """Word -> the number that it means, as {open: 1, closed: 0}; null: that there is no value. `on`, `off`, `true`,
    `false`, `unavailable` and the like are known without."""
    decimal: Literal[".", ","] = "."
    """The decimal sign of numbers that stand as text."""
    unit: str | tuple[str, ...] = ()
    """What may stand behind a number in text, such as "°C", and is passed over; one unit, or a list of them."""
    zone: Annotated[tzinfo | None, Setting(key="time_zone")] = None
    """For JSON and Tasmota: zone of times that say none. Without it they are UTC; of Tasmota the arrival counts."""
    value: Annotated[str, Setting(check=parse_path)] = "value"
    """For JSON on a topic with {channel}, or with `id`: path of the value."""
    time: Annotated[str | None, Setting(check=parse_path)] = None
    """For JSON: path of the sample's time. Without it, the time of arrival counts."""
    time_unit: Literal["auto", "s", "ms", "us", "ns", "rfc3339"] = "auto"
    """Unit of that time; `auto` recognises it by its size or shape."""
    sequence: Annotated[str | None, Setting(check=parse_path)] = None
    """For JSON: path of a counter that grows by one a message; numbers that are missing are counted as lost."""
    samples: Annotated[str | None, Setting(check=parse_path)] = None
    """For JSON: path of a list with several samples in one message, `$` where the message is the list; the other paths
    are relative to each of them."""
    sample_every_s: Annotated[float | None, Setting(gt=0)] = None
    """For JSON with `samples` that carry no time of their own: their spacing."""
    max_points: Annotated[int, Setting(ge=1, le=1_000_000)] = 2000
    """Points of one message, at most: samples, lines, records or metrics, of four values on average. A message with
    more is refused and counted."""
    listens: Annotated[bool, INTERNAL] = False
    """Whether the template is there for what its topics say of others: no samples come from it."""

    @property
    def addressed(self) -> bool:
        """Whether the payload has a say in whose its values are, or if they are anybody's."""
        return bool(self.labels or self.where or self.name is not None or self.id is not None)

    @property
    def rule(self) -> NumberRule:
        """How a value becomes a number."""
        return NumberRule(self.words, decimal=self.decimal, units=self.units)

    @property
    def units(self) -> tuple[str, ...]:
        """What may stand behind a number in text."""
        return (self.unit,) if isinstance(self.unit, str) else self.unit


class Record(NamedTuple):
    """What was measured together: values by name, as they stand in the payload, and the tags of what they belong to.

    `time_s` None is the time of arrival. A value may be anything; None is a source's word that it has none now.
    """

    time_s: float | None
    values: Mapping[str, object]
    tags: Mapping[str, str]


Records = Iterable[Record | Drop]  # what cannot be read is a `Drop` in a record's place


@dataclass(frozen=True, slots=True)
class Sighting:
    """What `sniff` can say of a topic whose format was recognised: the numbers in it, `ignored` measure nothing.

    `labels`, `where` and `name` are as in the configuration. `place` stands for all topics of one machine where these
    are several, with `+` or {channel...} for the levels in which they differ; `family` distinguishes kinds of machines
    that may have the same numbers. `samples` is False where the topic only says what there is. Where no topic of a
    machine has a number, `nothing` says why.
    """

    values: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    where: tuple[tuple[str, str], ...] = ()
    name: str | None = None
    place: str | None = None
    family: str = ""
    samples: bool = True
    nothing: str = ""


Sightings = tuple[Sighting, ...]  # of a topic that carries several kinds of records


class MessageReader(Protocol):
    """Reads the messages of one topic template."""

    def read(self, topic: bytes, route: Route, payload: bytes, times: tuple[float, float], out: ReadingColumns) -> None:
        """Add the readings of one message; `times` are its arrival and the latest time that is believed."""
        ...


@runtime_checkable
class RunReader(MessageReader, Protocol):
    """Reads many messages of one topic template at once, where none of them is unusual."""

    def read_run(self, template: int, run: TopicRun, out: ReadingColumns) -> bool:
        """Read the messages of a run, or return False: then nothing was read, and they are read one by one."""
        ...


@runtime_checkable
class CoveringReader(MessageReader, Protocol):
    """Can say of a message, without reading it, whether it is whole."""

    def covers(self, topic: bytes, route: Route, payload: bytes) -> bool:
        """Return whether the message has a value for every channel that its topic could give; remembers nothing."""
        ...


class Memory(Protocol):
    """What a format must remember of earlier messages of a group, to read later ones; it is part of the snapshot."""

    def notices(self) -> list[str]:
        """Return, in sentences, new problems since the last call that need a person's attention."""
        ...

    def births(self, stream: int) -> State:
        """Return as `state` does what concerns this stream alone, which is number 0 there."""
        ...

    def drop(self, stream: int, last: int) -> None:
        """Forget a stream; the last one takes its number."""
        ...

    def state(self) -> State:
        """Return what a snapshot keeps."""
        ...

    def restore(self, state: State) -> None:
        """Take over what `state` returned."""
        ...


class Sequencing(Protocol):
    """Counts what is missing between the numbers of messages."""

    def step(self, key: Any, number: Any) -> None:
        """Note the number of a message of `key`."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Opening:
    """What a reader may use: its topic's spec, the group's channels and streams, a JSON parser, what is remembered.

    `elsewhere(topic, payload)`: another group has all values that it could ask of this message. A reader that has but
    a part of its own registers no stream for it then.
    """

    spec: PayloadSpec
    channels: Sequence[str]
    streams: Streams
    loads: Loads
    memory: Any
    sequences: Sequencing
    elsewhere: Callable[[bytes, bytes], bool]


def _none_of(*_: object) -> None:
    return None


@dataclass(frozen=True, slots=True)
class Format:
    """One payload format. Its module is called as it is, and has it as `FORMAT`; nothing else need know of it.

    Most formats have `records`: how a message becomes records (see `RecordReader`); it never raises, what cannot be
    read is a `Drop` in a record's place. Formats that are read in another way have `open`.
    """

    name: str
    about: str  # whose payloads these are, in one line of the documentation
    link: str  # where its makers describe it
    example: str  # an item of `topics:`, as YAML
    records: Callable[[bytes, bytes, PayloadSpec, Loads, float], Records] | None = None
    """(topic, payload, spec, JSON parser, arrival in seconds) -> records."""
    open: Callable[[Opening], MessageReader] | None = None
    """Makes the reader of a topic template, instead of `records`."""
    keys: tuple[str, ...] = ()
    """Keys that a topic may have in addition to `topic`, `payload` and those of any format."""
    skips: Callable[[bytes], bool] = lambda topic: False
    """Whether a topic never carries samples."""
    refuses_topic: Callable[[str], str | None] = _none_of
    """What to write instead of a topic template that cannot work, or None."""
    recognise: Callable[[str, Sequence[bytes]], Sightings | Sighting | str | None] = _none_of
    """(topic, payloads) -> what `sniff` sees, why there are no samples, or None where this is another format."""
    declared: Callable[[PayloadSpec, bytes, bytes], list[Record]] | None = None
    """(spec, topic, payload) -> records whose names are those of numbers, where `records` does not say them."""
    timed: bool = False
    """Whether payloads can carry the time of their samples."""
    plain: bool = False
    """Whether a payload is one value, called "value", so that only the topic can say which channel it is."""
    channel: bool = False
    """Whether the topic may have a {channel}."""
    words: bool = False
    """Whether text counts as a number where channels are looked for, since its makers send everything as text."""
    empty_ends: bool = False
    """Whether an empty payload says that the source has no value now."""
    by_topic: bool = False
    """Whether the topic alone says which stream a message is of, unless the payload is asked (`addressed`)."""
    on_change: bool = False
    """Whether only what changes is published: rows need a grid, and a message without any channel is no mistake."""
    memory: Callable[[int], Memory] | None = None
    """Makes what a group with so many streams at most remembers, where messages depend on earlier ones."""
    beside: Callable[[str], Iterable[str]] = lambda topic: ()
    """Topic template -> further templates to listen to, and..."""
    beside_for: str = ""
    """... what for."""
