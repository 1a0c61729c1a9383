"""Settings -> what the other rooms take: they know nothing of the configuration, this file knows them."""

from zoneinfo import ZoneInfo

from streamae.config.settings import Settings
from streamae.config.streams import Grid, Group, Topic
from streamae.core.alert import AlertRule
from streamae.core.align import GridAlign, RowAlign
from streamae.core.decode import PayloadSpec
from streamae.core.flapping import FlapRule
from streamae.core.formats import FORMATS
from streamae.core.pipeline import Group as CoreGroup
from streamae.core.profile import Profile, Reconstructor
from streamae.core.sensors.stage import SensorRule
from streamae.core.topics import Template
from streamae.errors import ConfigError
from streamae.mqtt.options import ConnectionOptions, Tls
from streamae.sinks.homeassistant import DiscoveryOptions

__all__ = [
    "alert_rule",
    "align",
    "chosen_group",
    "connection",
    "core_group",
    "filters",
    "health_rule",
    "home_assistant",
    "payload_specs",
    "readers",
    "stream_template",
    "templates",
]

_GAP_PERIODS = 10.0  # periods of the grid that a window may bridge where neither config nor artifact says otherwise


def connection(settings: Settings) -> ConnectionOptions:
    """Return where the broker is and how it is spoken to."""
    mqtt = settings.mqtt
    tls = None
    if mqtt.tls is not None:
        ca, cert, key = (None if path is None else str(path) for path in (mqtt.tls.ca, mqtt.tls.cert, mqtt.tls.key))
        tls = Tls(ca=ca, cert=cert, key=key, insecure=mqtt.tls.insecure)
    return ConnectionOptions(
        host=mqtt.host,
        port=mqtt.port,
        client_id=settings.client_id,
        protocol=mqtt.protocol,
        username=mqtt.username,
        password=None if mqtt.password is None else mqtt.password.get_secret_value(),
        tls=tls,
        transport=mqtt.transport,
        websocket_path=mqtt.websocket_path,
        keepalive_s=round(mqtt.keepalive_s),
        session_expiry_s=round(mqtt.session_expiry_s),
        receive_maximum=mqtt.receive_maximum,
    )


def filters(settings: Settings) -> tuple[str, ...]:
    """Return the MQTT filters to subscribe to, each once, in the order of the file."""
    return tuple(dict.fromkeys(t.filter for group in settings.streams.values() for t, _ in readers(group)))


def chosen_group(settings: Settings, name: str | None) -> tuple[str, Group]:
    """Return the group of this name, or the only one. Raises ConfigError where that says nothing."""
    known = ", ".join(settings.streams)
    if name is None and len(settings.streams) > 1:
        raise ConfigError(f"--group: the configuration has {known}; say which one")
    found = name or next(iter(settings.streams))
    if found not in settings.streams:
        raise ConfigError(f"--group: got {found}; the configuration has {known}")
    return found, settings.streams[found]


def home_assistant(settings: Settings) -> DiscoveryOptions | None:
    """Return what Home Assistant is to be told, None where nothing."""
    wanted = settings.home_assistant
    if wanted is None:
        return None
    return DiscoveryOptions(
        settings.instance,
        prefix=wanted.prefix,
        devices_max=wanted.max_devices,
        every_s=wanted.every_s,
        stale_after_s=wanted.stale_after_s,
        forget_after_s=wanted.forget_after_s,
        page=wanted.page or "",
    )


def templates(group: Group) -> list[Template]:
    """Return the group's topic templates, parsed."""
    return [Template.parse(topic.topic) for topic in group.topics]


def payload_specs(group: Group) -> list[PayloadSpec]:
    """Return how to read the payloads, one for each template."""
    return [_payload_spec(topic) for topic in group.topics]


def _payload_spec(topic: Topic) -> PayloadSpec:
    return PayloadSpec(
        kind=topic.payload,
        values=topic.values,
        value=topic.value,
        time=topic.time,
        time_unit=topic.time_unit,
        sequence=topic.sequence,
        samples=topic.samples,
        sample_every_s=topic.sample_every_s,
        labels=topic.labels,
        where=topic.where,
        name=topic.name,
        zone=None if topic.time_zone is None else ZoneInfo(topic.time_zone),
    )


def readers(group: Group) -> list[tuple[Template, PayloadSpec]]:
    """Return everything that the group subscribes to, and how it is read.

    Beside its topics, in this order, that is what a format must hear to read them: of Sparkplug the births, deaths and
    numbers of edge nodes and their devices.
    """
    own = list(zip(templates(group), payload_specs(group), strict=True))
    beside = dict.fromkeys(
        (topic.payload, text) for topic in group.topics for text in FORMATS[topic.payload].beside(topic.topic)
    )
    return own + [(Template.parse(text), PayloadSpec(kind, listens=True)) for kind, text in beside]


def stream_template(name: str, group: Group) -> str:
    """Return the template of a stream's name: as configured, else all labels but channel, else the group's own name."""
    if group.stream is not None:
        return group.stream
    return "/".join("{" + label + "}" for label in group.topics[0].stream_labels) or name


def align(group: Group, profile: Profile | None) -> RowAlign | GridAlign:
    """Return how readings become rows; a longest gap that is not configured is the model's own, if there is one yet."""
    if not isinstance(group.align, Grid):
        return RowAlign()
    grid = group.align
    gap_max_s = grid.gap_max_s or (profile.gap_max_s if profile else 0.0) or _GAP_PERIODS * grid.every_s
    return GridAlign(
        every_s=grid.every_s,
        method=grid.method,
        lateness_s=grid.lateness_s,
        gap_max_s=max(gap_max_s, grid.every_s),
    )


def alert_rule(group: Group) -> AlertRule:
    """Return when an alert fires and resolves."""
    alert = group.alert
    return AlertRule(
        for_s=alert.for_s,
        keep_firing_for_s=alert.keep_firing_for_s,
        critical_ratio=alert.critical,
    )


def health_rule(group: Group) -> SensorRule:
    """Return the rules for the sensors."""
    health = group.health
    return SensorRule(
        stale_after_s=health.stale_after_s,
        stuck_after_s=health.stuck_after_s,
        range=health.range,
        keep_s=group.alert.keep_firing_for_s,
    )


def core_group(name: str, group: Group, profile: Profile, reconstructor: Reconstructor) -> CoreGroup:
    """Return the group as the pipeline takes it."""
    read = readers(group)
    flaps = group.health.flapping
    return CoreGroup(
        name=name,
        templates=[template for template, _ in read],
        payloads=[spec for _, spec in read],
        stream_template=stream_template(name, group),
        profile=profile,
        reconstructor=reconstructor,
        align=align(group, profile),
        alert=alert_rule(group),
        health=health_rule(group),
        flapping=FlapRule(flaps.times, flaps.within_s) if flaps.times else None,
        stride=group.stride,
        max_streams=group.max_streams,
        warmup_rows=group.warmup_rows,
        future_max_s=group.future_max_s,
        false_alarms_per_s=group.false_alarms_per_s,
    )
