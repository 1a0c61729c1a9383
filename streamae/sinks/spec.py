"""What a kind of sink is: its settings, and how a sink is made of them. One file each, found by `streamae.sinks`.

A settings class adds `type`, the word that stands in the file, and `name`, with the default that is right for it. It is
read from the file by its annotations alone (`core.setting`); its section is called after its type, such as LogSink.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Generic, TypeVar

from streamae.core.report import Transition
from streamae.core.setting import INTERNAL, Setting
from streamae.mqtt import ConnectionOptions
from streamae.sinks.sink import TriableSink
from streamae.sinks.texts import TEST_RULE

__all__ = ["GatheredSettings", "Installation", "RemindedSettings", "SinkSettings", "SinkSpec", "trial_transition"]


@dataclass(frozen=True, kw_only=True)
class SinkSettings:
    """What the program asks of the settings of any sink; the properties are for a kind to override."""

    given: Annotated[frozenset[str], INTERNAL] = field(default=frozenset(), compare=False, repr=False)
    """Fields that the file has."""

    if TYPE_CHECKING:
        type: str
        name: str

    @property
    def reminded_s(self) -> float | None:
        """Interval in which the sink is notified again of what still fires; None: never."""
        return None

    @property
    def gathered_s(self) -> float:
        """How long a notice waits for others of its kind; 0: not at all."""
        return 0.0

    @property
    def blocks_s(self) -> float:
        """Longest that one step of a request (to connect, to be answered) may take; 0 where nothing is waited for."""
        return 0.0

    @property
    def published(self) -> str:
        """Template of the topic to which the sink publishes on the broker that the streams come from; "" for none."""
        return ""


@dataclass(frozen=True, kw_only=True)
class RemindedSettings(SinkSettings):
    """Of a sink that may be reminded of what fires still."""

    renotify_s: Annotated[float | None, Setting(ge=60)] = None
    """Interval in which an alert that still fires is sent again, unless acknowledged or silenced. Without it, never."""

    @property
    def reminded_s(self) -> float | None:
        """As the operator says."""
        return self.renotify_s


@dataclass(frozen=True, kw_only=True)
class GatheredSettings(RemindedSettings):
    """Of a sink that may send what begins in many streams at once as one notice."""

    group_wait_s: Annotated[float, Setting(ge=0, le=600)] = 10.0
    """How long a notice waits for others of the same group and rule, to be one with them; 0s sends each at once."""

    @property
    def gathered_s(self) -> float:
        """As the operator says."""
        return self.group_wait_s


@dataclass(frozen=True, slots=True)
class Installation:
    """What a sink may know of the installation that it serves."""

    connection: ConnectionOptions
    """How the broker is reached that the streams come from."""
    now: Callable[[], float]
    """The wall clock, in seconds since 1970."""
    monotonic: Callable[[], float]
    """A clock that never steps, in seconds."""
    instance: str = "streamae"
    """Name of the installation."""
    page: str = ""
    """Address of the page, as people reach it; "" where nobody has said."""


_S = TypeVar("_S", bound=SinkSettings)


@dataclass(frozen=True, slots=True)
class SinkSpec(Generic[_S]):
    """A kind of sink."""

    settings: type[_S]
    make: Callable[[_S, Installation], TriableSink]
    """Returns a sink that is not connected yet; ConfigError where the settings cannot work."""

    def rehearse(self, settings: _S, installation: Installation) -> None:
        """Make a sink, and what it would send; nothing is sent. ConfigError where the settings cannot work."""
        sink = self.make(settings, installation)
        sink.rehearse(trial_transition(installation.instance, 0.0))
        sink.close()


def trial_transition(instance: str, now_s: float) -> Transition:
    """Return what an operator sends to try a sink, at `now_s` seconds since 1970: it fires, and is no alert."""
    return Transition(
        id=f"{TEST_RULE}-{now_s:.0f}",
        sequence=1,
        instance=instance,
        group=TEST_RULE,
        stream=TEST_RULE,
        labels={},
        rule=TEST_RULE,
        state="firing",
        severity="warning",
        onset_s=now_s,
        time_s=now_s,
        window_start_s=now_s,
        score=0.0,
        threshold=0.0,
        shares={},
        model_digest="",
    )
