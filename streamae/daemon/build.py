"""Settings -> the rooms of a running daemon: models opened and verified, groups, source, sinks.

Nothing here has effects outside the process before `start` is called on what it returns, so a reload can assemble
everything from a new configuration, and keep the old one where that fails.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from streamae.config import Settings
from streamae.config.check import fits
from streamae.config.convert import connection, core_group, readers
from streamae.config.sinks import AlertmanagerSink as AlertmanagerSettings
from streamae.config.sinks import LogSink as LogSettings
from streamae.config.sinks import MqttSink as MqttSettings
from streamae.config.sinks import Sink as SinkSettings
from streamae.core.pipeline import Group
from streamae.daemon.clock import ArrivalClock, Clock
from streamae.errors import ConfigError
from streamae.ingest.mqtt import MqttSource, ReceiveLimits, auto_batch_wait_s
from streamae.model.artifact import Artifact, default_registry, open_artifact
from streamae.model.executor_options import ExecutorOptions
from streamae.mqtt import Subscription, transient
from streamae.sinks.alertmanager import AlertmanagerSink
from streamae.sinks.log import LogSink
from streamae.sinks.mqtt import BrokerPublisher, MqttSink
from streamae.sinks.sink import Sink
from streamae.sinks.webhook import WebhookSink

__all__ = ["Models", "batch_wait_s", "groups_of", "make_sink", "make_source", "subscriptions_of"]


@dataclass(slots=True)
class Models:
    """Opened artifacts by path and digest of the file, so that a reload opens only what has changed."""

    registry: Path | None = None

    def open(self, settings: Settings) -> dict[str, Artifact]:
        """Open and verify the model of every group. Raises ArtifactError."""
        registry, scoring = self.registry or default_registry(), settings.scoring
        scorers = None if scoring.scorers == "auto" else scoring.scorers
        means = ExecutorOptions(scoring.executor, scorers, Clock().monotonic)
        return {
            name: open_artifact(Path(group.model.path), group.model.sha256, registry, means=means)
            for name, group in settings.streams.items()
        }


def groups_of(settings: Settings, artifacts: Mapping[str, Artifact]) -> list[Group]:
    """Return the core's groups. Raises ConfigError where the settings cannot work with their models."""
    misfits = [line for name, group in settings.streams.items() for line in fits(name, group, artifacts[name].profile)]
    if misfits:
        raise ConfigError("\n".join(misfits))
    return [
        core_group(name, group, artifacts[name].profile, artifacts[name].reconstructor)
        for name, group in settings.streams.items()
    ]


def subscriptions_of(settings: Settings) -> list[Subscription]:
    """Return the subscriptions of all groups, each filter once."""
    found: dict[str, Subscription] = {}
    for group in settings.streams.values():
        for template, _ in readers(group):
            retained = group.retained == "accept" or (template.filter in found and found[template.filter].retained)
            found[template.filter] = Subscription(template.filter, settings.mqtt.qos, retained)
    return list(found.values())


def make_source(
    settings: Settings,
    clock: Clock,
    arrivals: ArrivalClock,
    beat: Callable[[float], object],
    stale: Sequence[str] = (),
    expect_session: bool = False,
) -> MqttSource:
    """Return the broker's source, not yet started; `arrivals` stamps, `stale` filters are given up.

    `beat` is the sign of life of its thread, with the seconds for which it may now block.
    """
    limits = ReceiveLimits(
        max_messages=settings.inbox.max_messages,
        max_payload=settings.inbox.max_payload_bytes,
        batch_wait_s=batch_wait_s(settings),
    )
    return MqttSource(
        connection(settings),
        subscriptions_of(settings),
        limits,
        now=arrivals.now,
        monotonic=clock.monotonic,
        jitter=clock.jitter,
        status_topic=f"streamae/{settings.instance}/status",
        stale=stale,
        expect_session=expect_session,
        beat=beat,
    )


def batch_wait_s(settings: Settings) -> float:
    """How long a batch may fill: as the operator says, else by how often rows are scored."""
    wait_s = settings.inbox.batch_wait_s
    return auto_batch_wait_s(min(group.stride for group in settings.streams.values())) if wait_s == "auto" else wait_s


def make_sink(settings: Settings, sink: SinkSettings, clock: Clock) -> Sink:
    """Return one sink, not yet connected."""
    if isinstance(sink, LogSettings):
        return LogSink(sink.name)
    if isinstance(sink, MqttSettings):
        publisher = BrokerPublisher(transient(connection(settings), "alerts"))
        return MqttSink(publisher, sink.topic, name=sink.name, timeout_s=sink.timeout_s)
    headers = {name: text.get_secret_value() for name, text in sink.headers.items()}
    url, ca = sink.url.get_secret_value(), None if sink.ca is None else str(sink.ca)
    if isinstance(sink, AlertmanagerSettings):
        return AlertmanagerSink(
            url, clock.now, headers, name=sink.name, timeout_s=sink.timeout_s, refresh_s=sink.refresh_s, ca_file=ca
        )
    return WebhookSink(url, headers, name=sink.name, timeout_s=sink.timeout_s, ca_file=ca)
