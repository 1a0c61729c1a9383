"""Settings -> the rooms of a running daemon: models opened and verified, groups, source.

Nothing here has effects outside the process before `start` is called on what it returns, so a reload can assemble
everything from a new configuration, and keep the old one where that fails.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from streamae.config import Settings
from streamae.config.check import fits
from streamae.config.rehearsal import require_files
from streamae.config.streams import StreamGroup
from streamae.core.filters import covers
from streamae.core.groups import Groups
from streamae.core.pipeline import Group
from streamae.daemon.clock import ArrivalClock, Clock
from streamae.daemon.json_parser import json_loads
from streamae.errors import ConfigError
from streamae.ingest.mqtt import MqttSource
from streamae.model.artifact import Artifact, open_artifact
from streamae.model.save import default_registry
from streamae.mqtt import Subscription

__all__ = ["Models", "batch_wait_s", "groups_of", "make_source", "pipelines", "subscriptions_of"]


@dataclass(slots=True)
class Models:
    """Opens the models of a configuration."""

    registry: Path | None = None

    def open(self, settings: Settings) -> dict[str, Artifact]:
        """Open and verify the model of every group. Raises ArtifactError, or ConfigError for other files named."""
        require_files(settings)
        return {name: self.open_one(settings, group) for name, group in settings.streams.items()}

    def open_one(self, settings: Settings, group: StreamGroup) -> Artifact:
        """Open and verify the model of one group. Raises ArtifactError."""
        means = replace(settings.scoring, monotonic=Clock().monotonic)
        registry = self.registry or default_registry()
        return open_artifact(Path(group.model.path), group.model.sha256, registry, means=means)


def pipelines(settings: Settings, artifacts: Mapping[str, Artifact]) -> Groups:
    """Return the pipelines of all groups with their models. Raises ConfigError where the two cannot work together."""
    return Groups(settings.instance, groups_of(settings, artifacts), json_loads())


def groups_of(settings: Settings, artifacts: Mapping[str, Artifact]) -> list[Group]:
    """Return the core's groups. Raises ConfigError where the settings cannot work with their models."""
    misfits = [line for name, group in settings.streams.items() for line in fits(name, group, artifacts[name].profile)]
    if misfits:
        raise ConfigError("\n".join(misfits))
    return [
        group.with_model(name, artifacts[name].profile, artifacts[name].reconstructor)
        for name, group in settings.streams.items()
    ]


def subscriptions_of(settings: Settings) -> list[Subscription]:
    """Return the subscriptions of all groups, each filter once, and none for which another one stands.

    A broker may deliver a message once for each filter that it matches.
    """
    found: dict[str, Subscription] = {}
    for group in settings.streams.values():
        for template, _ in group.readers:
            retained = group.retained == "accept" or (template.filter in found and found[template.filter].retained)
            found[template.filter] = Subscription(template.filter, settings.mqtt.qos, retained)
    every = list(found.values())
    return [one for one in every if not any(_stands_for(other, one) for other in every if other is not one)]


def _stands_for(wide: Subscription, one: Subscription) -> bool:
    return covers(wide.filter, one.filter) and (wide.retained or not one.retained)


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
    return MqttSource(
        settings.connection,
        subscriptions_of(settings),
        replace(settings.inbox, batch_wait_s=batch_wait_s(settings)),
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
    return settings.inbox.wait_s(min(group.stride for group in settings.streams.values()))
