"""What a kind of sink is: its settings, and how a sink is made of them. One file each, found by `streamae.sinks`.

A settings class adds `type`, the word that stands in the file, and `name`, with the default that is right for it. It is
read from the file by its annotations alone (`core.setting`); its section is called after its type, such as LogSink.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Generic, TypeVar

from streamae.core.setting import INTERNAL, Setting
from streamae.mqtt import ConnectionOptions
from streamae.sinks.sink import TriableSink

__all__ = ["Installation", "RemindedSettings", "SinkSettings", "SinkSpec"]


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


@dataclass(frozen=True, slots=True)
class Installation:
    """What a sink may know of the installation that it serves."""

    connection: ConnectionOptions
    """How the broker is reached that the streams come from."""
    now: Callable[[], float]
    """The wall clock, in seconds since 1970."""
    monotonic: Callable[[], float]
    """A clock that never steps, in seconds."""
    page: str = ""
    """Address of the page, as people reach it; "" where nobody has said."""


_S = TypeVar("_S", bound=SinkSettings)


@dataclass(frozen=True, slots=True)
class SinkSpec(Generic[_S]):
    """A kind of sink."""

    settings: type[_S]
    make: Callable[[_S, Installation], TriableSink]
    """Returns a sink that is not connected yet; ConfigError where the settings cannot work."""
