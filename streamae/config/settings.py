"""Every key of streamae.yaml: type, default and meaning, said here, in groups.py and sinks.py and nowhere else.

A field is named with its unit where it has one (`keepalive_s`), its key in the file is the alias without (`keepalive:
15s`). Nothing here knows of other keys than its own: what must agree between keys is in `agreement.py`.
"""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from streamae.config.base import Name, Section
from streamae.config.maintenance import Window
from streamae.config.sinks import LogSink, Sink
from streamae.config.streams import Group
from streamae.config.units import Duration, FilePath, Flag, Secret, Size, Text, Whole

__all__ = ["HomeAssistant", "Inbox", "Log", "Metrics", "Mqtt", "Scoring", "Settings", "State", "Tls", "Web"]

_LOOPBACK = ("127.", "localhost", "[::1]")


Port = Annotated[Whole, Field(ge=1, le=65535)]


class State(Section):
    """Where windows, thresholds, open alerts and the journal are kept."""

    dir: FilePath = Field(default=Path("state"), validate_default=True)
    """Folder of the one SQLite file; created if missing, locked while running. Relative to this file."""
    durability: Literal["process", "power", "none"] = "process"
    """What a commit survives: `process` a crash of the daemon, `power` a power cut, `none` only an orderly stop."""
    snapshot_every_s: Duration = Field(default=60.0, alias="snapshot_every", gt=0)
    """Longest time between snapshots, and so the most that has to be folded again after a crash."""
    journal_max_bytes: Size = Field(default=512 * 10**6, alias="journal_max", ge=10**6)
    """Size beyond which the oldest journal rows before the last snapshot are deleted."""
    journal_age_s: Duration = Field(default=604800.0, alias="journal_age", gt=0)
    """Age beyond which journal rows before the last snapshot are deleted."""


class Tls(Section):
    """Encryption of the connection to the broker; the host name is always checked unless `insecure`."""

    ca: FilePath | None = None
    """File with the certificate authorities to trust, PEM. Without it, those of the system."""
    cert: FilePath | None = None
    """File with our own certificate, PEM, for mutual TLS."""
    key: FilePath | None = None
    """File with our own private key, PEM, for mutual TLS."""
    insecure: Flag = False
    """Accept any certificate. For experiments only."""


class Mqtt(Section):
    """The broker to read from."""

    host: Text = "localhost"
    """Name or address of the broker."""
    port: Port = 1883
    """Port of the broker; 8883 is usual with TLS."""
    client_id: Annotated[Text, Field(max_length=128)] | None = None
    """Identity of the session on the broker; two daemons must not share one. Without it, streamae-<instance>."""
    protocol: Literal["5", "3.1.1", "auto"] = "auto"
    """MQTT version; `auto` tries 5 first and falls back to 3.1.1."""
    username: Text | None = None
    """User name for the broker."""
    password: Secret | None = None
    """Password for the broker: file:/path, credential:name or ${VARIABLE}, never plain text."""
    tls: Tls | None = None
    """Encrypt the connection; `tls: {}` trusts the authorities of the system."""
    transport: Literal["tcp", "websockets"] = "tcp"
    """How to reach the broker."""
    websocket_path: Text = "/mqtt"
    """Path of the WebSocket on the broker."""
    silent_after_s: Duration = Field(default=300.0, alias="silent_after", gt=0)
    """Time without any message after which /readyz fails, though we are connected."""
    keepalive_s: Duration = Field(default=15.0, alias="keepalive", ge=5, le=65535)
    """Interval of pings on an idle connection; a dead one is noticed after one and a half of them."""
    session_expiry_s: Duration = Field(default=86400.0, alias="session_expiry", ge=0, le=4294967294)
    """How long the broker keeps messages for us while we are away."""
    qos: Annotated[Whole, Field(ge=0, le=1)] = 1
    """Quality of service of the subscriptions: 1 loses nothing that the broker kept, 0 may lose at each disconnect."""
    receive_maximum: Annotated[Whole, Field(ge=1, le=65535)] = 4096
    """Messages that the broker may send before the first of them is acknowledged."""

    @model_validator(mode="before")
    @classmethod
    def _version_as_text(cls, value: Any) -> Any:
        """YAML reads `protocol: 5` as a number; it is a name."""
        if isinstance(value, dict) and isinstance(value.get("protocol"), int) and value["protocol"] == 5:
            return {**value, "protocol": "5"}
        return value


class Inbox(Section):
    """The bounded queue between the connection and the pipeline."""

    max_messages: Annotated[Whole, Field(ge=1, le=10**7)] = 100_000
    """Messages kept waiting; what comes beyond is dropped and counted."""
    max_payload_bytes: Size = Field(default=65536, alias="max_payload", ge=1, le=268435455)
    """Longest payload; a longer one is dropped and counted."""
    batch_max: Annotated[Whole, Field(ge=1, le=10**6)] = 4096
    """Messages of one step of the pipeline, at most."""
    batch_wait_s: Literal["auto"] | Annotated[Duration, Field(ge=0, le=10)] = Field(default="auto", alias="batch_wait")
    """Longest wait to fill a batch; a larger one costs latency and saves work. `auto`: 50ms where any group scores
    every row, else 50ms times the smallest stride, 200ms at most."""
    thinning_max: Literal[1, 2, 4, 8, 16] = 8
    """Under a backlog, score only every 2nd, 4th, 8th… window of each stream, at most this; 1 scores all, always."""


class Scoring(Section):
    """How windows are computed; scores change by no more than their last digits."""

    executor: Literal["auto", "module", "loop", "native", "batch"] = "auto"
    """`auto`: the compiled kernel where it is installed, else the model as it is. `batch` takes what is faster for each
    batch size; scores then depend, in their last digits, on how messages were grouped."""
    scorers: Literal["auto"] | Annotated[Whole, Field(ge=1, le=256)] = "auto"
    """Cores that a large batch may take; `auto` measures at start whether more than one pays."""


class Web(Section):
    """The page, the JSON API, /metrics, /healthz and /readyz, on one port."""

    listen: Annotated[Text, StringConstraints(pattern=r"^(\[[0-9A-Fa-f:.]+\]|[^:\[\]/\s]+):[0-9]{1,5}$")] = (
        "127.0.0.1:9469"
    )
    """Address and port to listen on. Beyond loopback only with a token."""
    token: Secret | None = None
    """What a client must show to change anything (acknowledge, silence). Without it, everything is read-only."""
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
        """Whether only this machine can reach it."""
        return self.listen.startswith(_LOOPBACK)


class Metrics(Section):
    """What /metrics carries beside the fixed catalogue."""

    per_stream: Flag = False
    """Also one score, threshold, alert state, age and maintenance for each stream: five series."""
    per_stream_max: Annotated[Whole, Field(ge=1, le=100_000)] = 1000
    """Streams that get series of their own, at most."""
    stale_after_s: Duration = Field(default=300.0, alias="stale_after", gt=0)
    """Silence after which a stream's own series disappear."""


class Log(Section):
    """The program's own log, on standard error."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """Least severity that is written."""
    format: Literal["auto", "human", "json"] = "auto"
    """`json` is one object a line; `auto` is human on a terminal and json elsewhere."""


class HomeAssistant(Section):
    """Home Assistant, on the same broker: each stream as a device of its own, by MQTT discovery."""

    prefix: Annotated[Text, StringConstraints(pattern=r"^[A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)*$")] = "homeassistant"
    """Its discovery prefix; the birth message is awaited on <prefix>/status."""
    max_devices: Annotated[Whole, Field(ge=1, le=2000)] = 100
    """Streams that become devices, at most, in the order of their appearance."""
    every_s: Duration = Field(default=10.0, alias="every", ge=1, le=3600)
    """Shortest time between two messages of a stream whose score moves; an alert is sent at once."""
    stale_after_s: Duration = Field(default=300.0, alias="stale_after", gt=0)
    """Silence after which a stream's entities become unavailable."""
    forget_after_s: Duration = Field(default=604800.0, alias="forget_after", gt=0)
    """Silence after which a stream's device is taken away; it comes back when the stream speaks again."""
    page: Text | None = None
    """Address of streamae's page, as people reach it: the device's link in Home Assistant."""

    @model_validator(mode="after")
    def _stale_before_forgotten(self) -> Self:
        if self.forget_after_s < self.stale_after_s:
            raise PydanticCustomError("forget", "raise forget_after to stale_after or more")
        return self


class Settings(Section):
    """The whole of streamae.yaml."""

    instance: Name = "streamae"
    """Name of this installation: in alert ids and topics, so that two of them never mix."""
    state: State
    """Where windows, thresholds, open alerts and the journal are kept."""
    mqtt: Mqtt = Mqtt()
    """The broker to read from."""
    inbox: Inbox = Inbox()
    """The bounded queue between the connection and the pipeline."""
    scoring: Scoring = Scoring()
    """How windows are computed."""
    web: Web = Web()
    """The page, the JSON API and the metrics."""
    metrics: Metrics = Metrics()
    """What /metrics carries beside the fixed catalogue."""
    log: Log = Log()
    """The program's own log."""
    streams: Annotated[dict[Name, Group], Field(min_length=1)]
    """The groups: each a kind of machine with its topics and its model."""
    home_assistant: HomeAssistant | None = None
    """Show each stream as a device in Home Assistant; `home_assistant: {}` does, with all defaults."""
    sinks: tuple[Sink, ...] = (LogSink(type="log"),)
    """Where alerts go."""
    maintenance: Annotated[tuple[Window, ...], Field(max_length=64)] = ()
    """When people work on streams: judged and shown as usual, but no sink is notified, and nothing is learnt."""

    @model_validator(mode="before")
    @classmethod
    def _place_state(cls, value: Any) -> Any:
        """The default folder, too, is relative to the file, so it must pass through validation."""
        return {"state": {}, **value} if isinstance(value, dict) else value

    @property
    def client_id(self) -> str:
        """The identity of our session on the broker."""
        return self.mqtt.client_id or f"streamae-{self.instance}"
