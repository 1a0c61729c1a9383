"""Every key of streamae.yaml: type, default and meaning, said here, in groups.py and sinks.py and nowhere else.

Where a room of its own does the work, the settings are that room's frozen dataclass (see `block.py`), or one here
that adds to it what the file says in the same block. A field is named with its unit where it has one (`keepalive_s`),
its key in the file is without (`keepalive: 15s`). What must agree between keys is in `rules.py`.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from streamae.config.base import Name, Section
from streamae.config.block import Checked, block
from streamae.config.maintenance import Window
from streamae.config.sinks import DEFAULT_SINKS, SinkOptions
from streamae.config.streams import StreamGroup
from streamae.config.units import HttpText, Secret, Text, shown_secret
from streamae.core.setting import INTERNAL, Setting
from streamae.errors import ConfigError
from streamae.ingest.mqtt import ReceiveLimits
from streamae.model.executor_options import ExecutorOptions
from streamae.mqtt.options import ConnectionOptions
from streamae.sinks.homeassistant import DiscoveryOptions
from streamae.sinks.spec import Installation
from streamae.store.journal import JournalLimits

__all__ = ["BrokerOptions", "Log", "Settings", "StateOptions", "StreamMetrics", "Web"]


@block("State", first=("dir", "durability", "snapshot_every_s"))
@dataclass(frozen=True, slots=True)
class StateOptions(JournalLimits):
    """Where windows, thresholds, open alerts and the journal are kept."""

    dir: Path = Path("state")
    """Folder of the one SQLite file; created if missing, locked while running. Relative to this file."""
    durability: Literal["process", "power", "none"] = "process"
    """What a commit survives: `process` a crash of the daemon, `power` a power cut, `none` only an orderly stop."""
    snapshot_every_s: Annotated[float, Setting(gt=0)] = 60.0
    """Longest time between snapshots, and so the most that has to be folded again after a crash."""


def _version_as_text(value: Any) -> Any:
    """YAML reads `protocol: 5` as a number; it is a name."""
    if isinstance(value, dict) and isinstance(value.get("protocol"), int) and value["protocol"] == 5:
        return {**value, "protocol": "5"}
    return value


_AS_EVER = ("host", "port", "client_id", "protocol", "username", "password", "tls", "transport", "websocket_path")


@block("Mqtt", first=(*_AS_EVER, "silent_after_s", "keepalive_s", "session_expiry_s", "qos"), before=_version_as_text)
@dataclass(frozen=True, slots=True)
class BrokerOptions(ConnectionOptions):
    """The broker to read from."""

    silent_after_s: Annotated[float | None, Setting(gt=0)] = None
    """Time without any message after which /readyz fails, though we are connected. Without it, 5m, or as long a silence
    as the models of all groups bridge."""
    qos: Annotated[int, Setting(ge=0, le=1)] = 1
    """Quality of service of the subscriptions: 1 loses nothing that the broker kept, 0 may lose at each disconnect."""
    given: Annotated[frozenset[str], INTERNAL] = field(default=frozenset(), compare=False, repr=False)
    """Fields that the file has."""


block("Inbox")(ReceiveLimits)
block("Scoring")(ExecutorOptions)


class Web(Section):
    """The page, the JSON API, /metrics, /healthz and /readyz, on one port."""

    listen: Annotated[Text, StringConstraints(pattern=r"^(\[[0-9A-Fa-f:.]+\]|[^:\[\]/\s]+):[0-9]{1,5}$")] = (
        "127.0.0.1:9469"
    )
    """Address and port to listen on. Beyond loopback only with a token."""
    token: Annotated[Secret, AfterValidator(shown_secret)] | None = None
    """What a client must show to change anything (acknowledge, silence). Without it, everything is read-only."""
    external_url: HttpText | None = None
    """Address of the page as people reach it: notifications and Home Assistant link to it. Without it, no links."""
    allowed_hosts: tuple[Text, ...] = ()
    """Further host names under which the page may be asked for, against DNS rebinding."""

    @property
    def host(self) -> str:
        """The address to bind."""
        return self.listen.rpartition(":")[0].strip("[]")

    @property
    def port(self) -> int:
        """The port to bind."""
        return int(self.listen.rpartition(":")[2])

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach it; of a name other than localhost nobody knows."""
        try:
            return self.host == "localhost" or ip_address(self.host).is_loopback
        except ValueError:
            return False


@block("Metrics")
@dataclass(frozen=True, slots=True)
class StreamMetrics:
    """What /metrics carries beside the fixed catalogue."""

    per_stream: bool = False
    """Also one score, threshold, alert state, severity, age and maintenance for each stream: six series."""
    per_stream_max: Annotated[int, Setting(ge=1, le=100_000)] = 1000
    """Streams that get series of their own, at most."""
    stale_after_s: Annotated[float | None, Setting(gt=0)] = None
    """Silence after which a stream's own series disappear. Without it, five times the stream's longest silence so far,
    5m at least, and 2h until three silences are known."""


class Log(Section):
    """The program's own log, on standard error."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """Least severity that is written."""
    format: Literal["auto", "human", "json"] = "auto"
    """`json` is one object a line; `auto` is human on a terminal and json elsewhere."""


def _stale_before_forgotten(read: DiscoveryOptions) -> DiscoveryOptions:
    if read.stale_after_s is not None and read.forget_after_s < read.stale_after_s:
        raise PydanticCustomError("forget", "raise forget_after to stale_after or more")
    return read


block("HomeAssistant", after=_stale_before_forgotten)(DiscoveryOptions)


class Settings(Section):
    """The whole of streamae.yaml."""

    instance: Name = "streamae"
    """Name of this installation: in alert ids and topics, so that two of them never mix."""
    state: Checked[StateOptions]
    """Where windows, thresholds, open alerts and the journal are kept."""
    mqtt: Checked[BrokerOptions] = BrokerOptions()
    """The broker to read from."""
    inbox: Checked[ReceiveLimits] = ReceiveLimits()
    """The bounded queue between the connection and the pipeline."""
    scoring: Checked[ExecutorOptions] = ExecutorOptions()
    """How windows are computed."""
    web: Web = Web()
    """The page, the JSON API and the metrics."""
    metrics: Checked[StreamMetrics] = StreamMetrics()
    """What /metrics carries beside the fixed catalogue."""
    log: Log = Log()
    """The program's own log."""
    streams: Annotated[dict[Name, Checked[StreamGroup]], Field(min_length=1)]
    """The groups: each a kind of machine with its topics and its model."""
    home_assistant: Checked[DiscoveryOptions] | None = None
    """Show each stream as a device in Home Assistant; `home_assistant: {}` does, with all defaults."""
    sinks: tuple[SinkOptions, ...] = DEFAULT_SINKS
    """Where alerts go."""
    maintenance: Annotated[tuple[Window, ...], Field(max_length=64)] = ()
    """When people work on streams: judged and shown as usual, but no sink is notified, and nothing is learnt."""

    @model_validator(mode="before")
    @classmethod
    def _place_state(cls, value: Any) -> Any:
        """The default folder, too, is relative to the file, so it must pass through validation."""
        return {"state": {}, **value} if isinstance(value, dict) else value

    @property
    def connection(self) -> ConnectionOptions:
        """How the broker is spoken to, under the client id of this instance where none was chosen."""
        return replace(self.mqtt, client_id=self.mqtt.client_id or f"streamae-{self.instance}")

    @property
    def discovery(self) -> DiscoveryOptions | None:
        """What is published to Home Assistant, under the name of this instance; None where nothing."""
        if self.home_assistant is None:
            return None
        return replace(self.home_assistant, instance=self.instance, page=self.page or None)

    @property
    def page(self) -> str:
        """Address of the page as people reach it; "" where nobody has said."""
        shown = None if self.home_assistant is None else self.home_assistant.page
        return (shown or self.web.external_url or "").rstrip("/")

    def installation(self, now: Callable[[], float], monotonic: Callable[[], float]) -> Installation:
        """Return what a sink may know of this installation; the clocks give seconds."""
        return Installation(self.connection, now, monotonic, self.instance, self.page)

    @property
    def filters(self) -> tuple[str, ...]:
        """The MQTT filters to subscribe to, each once, in the order of the file."""
        return tuple(dict.fromkeys(template.filter for group in self.streams.values() for template, _ in group.readers))

    def group(self, name: str | None) -> tuple[str, StreamGroup]:
        """Return the group of this name, or the only one. Raises ConfigError where that says nothing."""
        known = ", ".join(self.streams)
        if name is None and len(self.streams) > 1:
            raise ConfigError(f"--group: the configuration has {known}; say which one")
        found = name or next(iter(self.streams))
        if found not in self.streams:
            raise ConfigError(f"--group: got {found}; the configuration has {known}")
        return found, self.streams[found]
