"""The `streams:` block: one group is a kind of machine, with its topics, its time grid and its one model."""

from dataclasses import dataclass, field, fields, replace
from typing import Annotated, Any, Literal

from pydantic import Discriminator, StringConstraints, Tag

from streamae.config.base import Section
from streamae.config.block import Checked, ReadAs, block
from streamae.config.units import FilePath, Text
from streamae.core.alert import AlertRule
from streamae.core.align_rule import GridAlign, RowAlign
from streamae.core.decode import PayloadSpec
from streamae.core.flapping import FlapRule
from streamae.core.formats import FORMATS
from streamae.core.group_rule import GroupRule
from streamae.core.pipeline import Group
from streamae.core.profile import Profile, Reconstructor
from streamae.core.sensors.stage import SensorRule
from streamae.core.setting import INTERNAL, Setting, placeholders
from streamae.core.topics import CHANNEL, Template

__all__ = ["HealthRule", "Model", "StreamGroup", "TopicSpec"]

block("Alert")(AlertRule)
block("Flapping")(FlapRule)
block("Grid")(GridAlign)


@block("Topic", first=("topic",))
@dataclass(frozen=True, slots=True, kw_only=True)
class TopicSpec(PayloadSpec):
    """One kind of topic of a group, and what its payloads look like."""

    topic: Annotated[str, Setting(check=Template.parse)]
    """Topic template: each {name} matches one level and becomes a label; {channel} names the channel, {channel...} at
    the end all levels that are left."""
    kind: Annotated[str, Setting(key="payload", one_of=tuple(FORMATS))] = "number"
    """A plain number, JSON of any shape, or a format that is known by its name."""
    given: Annotated[frozenset[str], INTERNAL] = field(default=frozenset(), compare=False, repr=False)
    """Fields that the file has."""

    @property
    def template(self) -> Template:
        """The topic template, parsed."""
        return Template.parse(self.topic)

    @property
    def stream_labels(self) -> tuple[str, ...]:
        """The labels of the stream: those of the topic, then those that its payload adds."""
        names = Template.parse(self.name).labels if self.name is not None else ()
        every = (*self.template.labels, *self.labels, *names)
        return tuple(dict.fromkeys(label for label in every if label != CHANNEL))


@block("Health", first=("stale_after_s", "stuck_after_s", "range"))
@dataclass(frozen=True, slots=True)
class HealthRule(SensorRule):
    """Verdicts on the sensors themselves, apart from the model's."""

    flapping: FlapRule = field(default_factory=FlapRule)
    """When an alert that comes and goes is held back."""


class Model(Section):
    """The trained model of a group."""

    path: FilePath
    """The artifact file. Relative to this file."""
    sha256: Annotated[Text, StringConstraints(pattern="^[0-9a-fA-F]{64}$")] | None = None
    """Its digest; `streamae inspect` prints it. Needed unless this installation trained the model."""


def _align_tag(value: Any) -> str:
    return "grid" if isinstance(value, dict | GridAlign) else "row"


_Align = Annotated[
    Annotated[Literal["row"], Tag("row")] | Annotated[Checked[GridAlign], Tag("grid")], Discriminator(_align_tag)
]


@block("Group", first=("topics", "stream", "model", "align", "counters", "stride", "max_streams", "retained"))
@dataclass(frozen=True, slots=True, kw_only=True)
class StreamGroup(GroupRule):
    """A kind of machine: its topics, its time grid and its one model."""

    topics: Annotated[tuple[TopicSpec, ...], Setting(items_min=1)]
    """The topics to subscribe to."""
    stream: Annotated[str | None, Setting(check=placeholders(()))] = None
    """Name of a stream, made of labels. Without it, all labels but channel, joined by /."""
    model: Model
    """The trained model."""
    align: Annotated[Literal["row"] | GridAlign, ReadAs(_Align)] = "row"
    """`row`: each message with all channels is a row. A mapping: rows on a time grid, from channels apart."""
    counters: dict[str, Literal["rate", "rate_per_hour", "delta", "off"]] = field(default_factory=dict)
    """Channel -> how its total, which only rises, is read: increase a second, an hour, or from sample to sample.
    `train` finds counters that are not named here, and the model keeps it."""
    retained: Literal["ignore", "accept"] = "ignore"
    """Retained messages are a broker's memory, not samples; accept them only where the topic has no others."""
    health: HealthRule = field(default_factory=HealthRule)
    """Verdicts on the sensors themselves: stale, stuck, out of range."""

    @property
    def templates(self) -> list[Template]:
        """The group's topic templates, parsed."""
        return [topic.template for topic in self.topics]

    @property
    def readers(self) -> list[tuple[Template, PayloadSpec]]:
        """Everything that the group subscribes to, and how it is read.

        Beside its topics, in this order, that is what a format must hear to read them: of Sparkplug the births, deaths
        and numbers of edge nodes and their devices.
        """
        own: list[tuple[Template, PayloadSpec]] = [(topic.template, topic) for topic in self.topics]
        beside = dict.fromkeys((one.kind, text) for one in self.topics for text in FORMATS[one.kind].beside(one.topic))
        return own + [(Template.parse(text), PayloadSpec(kind, listens=True)) for kind, text in beside]

    @property
    def rows(self) -> RowAlign | GridAlign:
        """How readings become rows."""
        return self.align if isinstance(self.align, GridAlign) else RowAlign()

    def stream_template(self, name: str) -> str:
        """Return the template of a stream's name: as configured, else all labels but channel, else the group's name."""
        if self.stream is not None:
            return self.stream
        return "/".join("{" + label + "}" for label in self.topics[0].stream_labels) or name

    def with_model(self, name: str, profile: Profile, reconstructor: Reconstructor) -> Group:
        """Return the group as the pipeline takes it, with its model."""
        decided: dict[str, Any] = {f.name: getattr(self, f.name) for f in fields(GroupRule)}
        decided["health"] = replace(self.health, keep_s=self.alert.keep_firing_for_s)
        return Group(
            **decided,
            name=name,
            templates=[template for template, _ in self.readers],
            payloads=[spec for _, spec in self.readers],
            stream_template=self.stream_template(name),
            profile=profile,
            reconstructor=reconstructor,
            align=self.rows,
            flapping=self.health.flapping,
        )
