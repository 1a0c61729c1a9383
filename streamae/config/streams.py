"""The `streams:` block: one group is a kind of machine, with its topics, its time grid and its one model."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, StringConstraints, Tag, WithJsonSchema

from streamae.config.base import Section, placeholders
from streamae.config.units import Duration, FilePath, Number, Patience, Rate, Text, Whole, zone_name
from streamae.core.formats import FORMATS
from streamae.core.formats.values import parse_path
from streamae.core.topics import CHANNEL, Template

__all__ = ["Alert", "Flapping", "Grid", "Group", "Health", "Model", "Topic"]


def _template(text: str) -> str:
    Template.parse(text)
    return text


def _json_path(text: str) -> str:
    parse_path(text)
    return text


def _label(name: str) -> str:
    Template.parse("{" + name + "}")
    return name


def _payload(name: Any) -> str:
    if name not in FORMATS:
        *most, last = FORMATS
        raise ValueError(f"write {', '.join(most)} or {last}")
    return str(name)


PayloadName = Annotated[str, BeforeValidator(_payload), WithJsonSchema({"type": "string", "enum": [*FORMATS]})]
Label = Annotated[Text, AfterValidator(_label)]  # what a template can hold between braces


class Topic(Section):
    """One kind of topic of a group, and what its payloads look like."""

    topic: Annotated[Text, AfterValidator(_template)]
    """Topic template: each {name} matches one level and becomes a label; {channel} names the channel, {channel...} at
    the end all levels that are left."""
    payload: PayloadName = "number"
    """A plain number, JSON of any shape, or a format that is known by its name."""
    values: dict[Text, Text] | None = None
    """Channel -> what the payload calls it; for JSON a path (`sensors.flow`, `readings[0].v`). Without it, the same."""
    labels: dict[Label, Text] = Field(default={})
    """For InfluxDB's formats: label of the stream -> the tag that it is read from."""
    where: dict[Text, Text] = Field(default={})
    """For InfluxDB's formats: tag -> the value that it must have, or the point is not looked at."""
    name: Annotated[Text, AfterValidator(_template)] | None = None
    """For SenML and Sparkplug: template that takes the names in the payload apart into labels and {channel}."""
    time_zone: Annotated[Text, AfterValidator(zone_name)] | None = None
    """For Tasmota: zone of the times in the payload. Without it, the time of arrival counts."""
    value: Annotated[Text, AfterValidator(_json_path)] = "value"
    """For JSON on a topic with {channel}: path of the value."""
    time: Annotated[Text, AfterValidator(_json_path)] | None = None
    """For JSON: path of the sample's time. Without it, the time of arrival counts."""
    time_unit: Literal["auto", "s", "ms", "us", "ns", "rfc3339"] = "auto"
    """Unit of that time; `auto` recognises it by its size or shape."""
    sequence: Annotated[Text, AfterValidator(_json_path)] | None = None
    """For JSON: path of a counter that grows by one a message; numbers that are missing are counted as lost."""
    samples: Annotated[Text, AfterValidator(_json_path)] | None = None
    """For JSON: path of a list with several samples in one message; the other paths are relative to each of them."""
    sample_every_s: Duration | None = Field(default=None, alias="sample_every", gt=0)
    """For JSON with `samples` that carry no time of their own: their spacing."""

    @property
    def stream_labels(self) -> tuple[str, ...]:
        """The labels of the stream: those of the topic, then those that its payload adds."""
        names = Template.parse(self.name).labels if self.name is not None else ()
        every = (*Template.parse(self.topic).labels, *self.labels, *names)
        return tuple(dict.fromkeys(label for label in every if label != CHANNEL))


class Grid(Section):
    """Rows on a time grid, built from channels that arrive apart."""

    every_s: Duration = Field(alias="every", gt=0)
    """Period of the grid; the one that the model was trained on."""
    method: Literal["hold", "mean"] = "hold"
    """A row takes each channel's last value, or the mean of its period."""
    lateness_s: Duration = Field(default=2.0, alias="lateness", ge=0)
    """How long a row waits for samples that are late or out of order."""
    gap_max_s: Duration | None = Field(default=None, alias="gap_max", gt=0)
    """Longest silence of a channel that is bridged; no window spans a longer one. Without it, the model's own."""


class Alert(Section):
    """When an anomalous score becomes an alert, as in Prometheus."""

    for_s: Duration = Field(default=0.0, alias="for", ge=0)
    """How long the score must stay above its threshold first."""
    keep_firing_for_s: Duration = Field(default=60.0, alias="keep_firing_for", ge=0)
    """How long the score must stay below before the alert resolves."""
    critical: Annotated[Number, Field(gt=1)] = 2.0
    """Ratio of score to threshold from which an alert is critical, not a warning."""


def _limits(limits: tuple[float, float]) -> tuple[float, float]:
    if limits[0] >= limits[1]:
        raise ValueError("write the lower limit first, then the upper, such as [0, 10]")
    return limits


class Flapping(Section):
    """When an alert that comes and goes is reported once, as flapping, and then held back until it is quiet."""

    times: Annotated[Whole, Field(ge=0, le=1000)] = 6
    """Beginnings of one alert within that time that are reported one by one; 0 reports all of them."""
    within_s: Duration = Field(default=3600.0, alias="within", gt=0)
    """The time, and how long it must be quiet before it is reported again."""


class Health(Section):
    """Verdicts on the sensors themselves, apart from the model's."""

    stale_after_s: Patience = Field(default=0.0, alias="stale_after")
    """Silence that raises an alert: a duration, off, or auto: five times the stream's longest so far, 1m at least."""
    stuck_after_s: Patience = Field(default=0.0, alias="stuck_after")
    """Time without any change that raises an alert; auto: ten times the longest run so far, 60 samples at least."""
    range: dict[Text, Annotated[tuple[Number, Number], AfterValidator(_limits)]] = Field(default_factory=dict)
    """Channel -> lowest and highest value that its sensor can mean; what is outside raises an alert."""
    flapping: Flapping = Flapping()
    """When an alert that comes and goes is held back."""


class Model(Section):
    """The trained model of a group."""

    path: FilePath
    """The artifact file. Relative to this file."""
    sha256: Annotated[Text, StringConstraints(pattern="^[0-9a-fA-F]{64}$")] | None = None
    """Its digest; `streamae inspect` prints it. Needed unless this installation trained the model."""


def _align_tag(value: Any) -> str:
    return "grid" if isinstance(value, dict | Grid) else "row"


class Group(Section):
    """A kind of machine: its topics, its time grid and its one model."""

    topics: Annotated[tuple[Topic, ...], Field(min_length=1)]
    """The topics to subscribe to."""
    stream: Annotated[Text, AfterValidator(placeholders(()))] | None = None
    """Name of a stream, made of labels. Without it, all labels but channel, joined by /."""
    model: Model
    """The trained model."""
    align: Annotated[
        Annotated[Literal["row"], Tag("row")] | Annotated[Grid, Tag("grid")], Discriminator(_align_tag)
    ] = "row"
    """`row`: each message with all channels is a row. A mapping: rows on a time grid, from channels apart."""
    stride: Annotated[Whole, Field(ge=1, le=100_000)] = 1
    """Rows between one window that is scored and the next."""
    max_streams: Annotated[Whole, Field(ge=1, le=1_000_000)] = 10_000
    """Streams of this group, at most; messages of further ones are dropped and counted."""
    retained: Literal["ignore", "accept"] = "ignore"
    """Retained messages are a broker's memory, not samples; accept them only where the topic has no others."""
    future_max_s: Duration = Field(default=60.0, alias="future_max", ge=0)
    """How far a sample's time may be ahead of its arrival."""
    warmup_rows: Annotated[Whole, Field(ge=1, le=10_000_000)] | None = None
    """Rows from which a new stream learns its own scale. Without it, the model's own."""
    alert: Alert = Alert()
    """When an anomalous score becomes an alert."""
    health: Health = Health()
    """Verdicts on the sensors themselves: stale, stuck, out of range."""
    false_alarms_per_s: Rate | None = Field(default=None, alias="false_alarms")
    """False alarms that are acceptable for each stream, such as 1/week. Without it, the threshold as calibrated."""
