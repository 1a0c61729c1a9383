"""What a configuration would do, topic by topic, without doing it: the verb `check`.

Models are opened by a function that the caller hands in, so that a mistake in the file costs no import of torch.
"""

from collections.abc import Callable
from pathlib import Path

from streamae.config.load import load
from streamae.config.maintenance import next_window
from streamae.config.rehearsal import require_files
from streamae.config.rules import GAP_PERIODS_MAX, warnings
from streamae.config.settings import Settings
from streamae.config.streams import StreamGroup, TopicSpec
from streamae.config.units import duration_text
from streamae.config.yaml_document import key_text
from streamae.core.align_rule import GridAlign
from streamae.core.formats import FORMATS
from streamae.core.profile import Profile
from streamae.core.topics import CHANNEL, Template
from streamae.errors import ArtifactError, ConfigError

__all__ = ["OpenProfile", "check", "describe", "fits"]

OpenProfile = Callable[[StreamGroup], Profile]


def check(path: Path | str, open_profile: OpenProfile | None = None, now_s: float = 0.0) -> list[str]:
    """Return the lines to print; ConfigError for mistakes of the file, ArtifactError for models that do not load.

    Every model is tried before an error is raised, so that one run shows all that is wrong.
    """
    settings = load(path)
    require_files(settings)
    profiles, failures = {}, []
    for name, group in settings.streams.items() if open_profile else ():
        try:
            profiles[name] = open_profile(group)  # type: ignore[misc]
        except ArtifactError as error:
            failures.append(f"streams.{name}.model: {error}")
    if failures:
        raise ArtifactError("\n".join(failures))
    misfits = [line for name, profile in profiles.items() for line in fits(name, settings.streams[name], profile)]
    if misfits:
        raise ConfigError("\n".join(f"{path}: {line}" for line in misfits))
    return describe(settings, profiles, now_s)


def fits(name: str, group: StreamGroup, profile: Profile) -> list[str]:
    """Return what of a group cannot work with its model: one line for each contradiction."""
    lines = []
    mapped: set[str] = set()
    open_ended = False
    for i, topic in enumerate(group.topics):
        if FORMATS[topic.kind].plain and len(profile.channels) > 1 and CHANNEL not in group.templates[i].labels:
            lines.append(
                f"streams.{name}.topics[{i}].topic: got {topic.topic}; put {{channel}} into the topic: a plain value "
                f"cannot say which of the model's {len(profile.channels)} channels it is"
            )
        if topic.values is None:
            open_ended = True
            continue
        mapped |= topic.values.keys()
        for channel in topic.values.keys() - set(profile.channels):
            known = ", ".join(profile.channels)
            lines.append(f"streams.{name}.topics[{i}].values: got {channel}; use the channels of the model: {known}")
    lines += [
        f"streams.{name}.health.range: got {channel}; use the channels of the model: {', '.join(profile.channels)}"
        for channel in group.health.range.keys() - set(profile.channels)
    ]
    lines += [
        f"streams.{name}.counters.{channel}: got {kind}; the model reads {channel} {_as_counter(profile, channel)}: "
        "train it again with this configuration, or correct the key"
        for channel, kind in group.counters.items()
        if kind != profile.counters.get(channel, "off")
    ]
    missing = [channel for channel in profile.channels if channel not in mapped]
    if missing and not open_ended:
        lines.append(f"streams.{name}.topics: got no path for {', '.join(missing)}; add them to `values`")
    if isinstance(group.align, GridAlign) and profile.gap_max_s and group.align.every_s > profile.gap_max_s:
        lines.append(
            f"streams.{name}.align.every: got {duration_text(group.align.every_s)}; "
            f"write the model's own period, {duration_text(profile.period_s)}"
        )
    if isinstance(group.align, GridAlign) and profile.gap_max_s > GAP_PERIODS_MAX * group.align.every_s:
        lines.append(
            f"streams.{name}.align.every: got {duration_text(group.align.every_s)}; the model bridges "
            f"{duration_text(profile.gap_max_s)}, {GAP_PERIODS_MAX} rows at most: write the model's own period, "
            f"{duration_text(profile.period_s)}"
        )
    if group.align == "row" and len(profile.channels) > 1 and any(CHANNEL in t.labels for t in group.templates):
        lines.append(
            f"streams.{name}.align: got row; the model has {len(profile.channels)} channels that arrive on topics of "
            f"their own: write align: {{every: {duration_text(profile.period_s)}}}"
        )
    return sorted(lines)


def describe(settings: Settings, profiles: dict[str, Profile], now_s: float = 0.0) -> list[str]:
    """Return what the daemon would do with these settings at `now_s`; groups without a profile show what is known."""
    broker = settings.connection
    lines = [
        f"instance {settings.instance}: MQTT {broker.protocol} to {broker.host}:{broker.port} as {broker.client_id}"
        f"{' with TLS' if broker.tls else ''}, state in {settings.state.dir}"
    ]
    for name, group in settings.streams.items():
        lines.append(f"group {name}: {_model(group, profiles.get(name))}")
        lines.append(f"  sensors: {_health(group)}")
        for topic, template in zip(group.topics, group.templates, strict=True):
            lines.append(f"  {topic.topic}")
            lines += [f"    {line}" for line in _topic(name, group, topic, template, profiles.get(name))]
        listening = [
            (template.filter, FORMATS[spec.kind].beside_for) for template, spec in group.readers if spec.listens
        ]
        for why in dict.fromkeys(why for _, why in listening):
            lines.append(f"  {', '.join(text for text, what in listening if what == why)}: {why}")
    lines.append("sinks: " + (", ".join(sink.name for sink in settings.sinks) or "none"))
    discovery = settings.discovery
    if discovery is not None:
        lines.append(f"Home Assistant: at most {discovery.devices_max} streams as devices on {discovery.ours[0]}")
    lines += [
        f"maintenance {one.name}: group {one.group}, streams {one.stream}: {next_window(one, now_s)}"
        for one in settings.maintenance
    ]
    lines += [f"warning: {key_text(loc)}: {advice}" for loc, advice in warnings(settings)]
    return lines


def _as_counter(profile: Profile, channel: str) -> str:
    kind = profile.counters.get(channel)
    return f"as {kind}" if kind else "as it is" if channel in profile.channels else "not at all"


def _model(group: StreamGroup, profile: Profile | None) -> str:
    if profile is None:
        return f"model {group.model.path}"
    return (
        f"model {group.model.path} ({profile.digest[:12]}): windows of {profile.window} rows of "
        f"{', '.join(profile.channels)}; new streams learn for {group.warmup_rows or profile.warmup_rows} rows"
    )


def _health(group: StreamGroup) -> str:
    """Say which verdicts on sensors there will be."""
    health = group.health
    said = [
        f"{rule} " + ("off" if after_s is None else f"after {duration_text(after_s)}" if after_s else "as learnt")
        for rule, after_s in (("stale", health.stale_after_s), ("stuck", health.stuck_after_s))
    ]
    return "; ".join(said + [f"{c} in [{low:g}, {high:g}]" for c, (low, high) in health.range.items()])


def _topic(name: str, group: StreamGroup, topic: TopicSpec, template: Template, profile: Profile | None) -> list[str]:
    if CHANNEL in template.labels:
        channels = "channel" if topic.values is None else f"channels {', '.join(topic.values)}"
        channels += " from the topic"
    elif topic.values is not None:
        channels = "channels " + ", ".join(f"{channel} from {path}" for channel, path in topic.values.items())
    elif topic.kind == "json" and topic.id is None and topic.name is None:
        channels = "channels from the keys of the object"
    else:
        channels = "channels by the names in the payload"
    if profile is not None and topic.values is None:
        channels += f", one of {', '.join(profile.channels)}"
    own = "time of the payload, else of arrival" if FORMATS[topic.kind].timed else "time of arrival"
    when = f"time from {topic.time} ({topic.time_unit})" if topic.time else own
    if topic.zone is not None:
        when = f"time of the payload, in {topic.zone}"
    rows = _grid(group.align) if isinstance(group.align, GridAlign) else "a row each"
    example = {label: f"<{label}>" for label in topic.stream_labels}
    stream = group.stream_template(name).format_map(example)
    return [f"subscribes to {template.filter}, {topic.kind}: {channels}; {when}; {rows}", f"stream {stream}"]


def _grid(grid: GridAlign) -> str:
    return f"rows every {duration_text(grid.every_s)} ({grid.method}), {duration_text(grid.lateness_s)} late at most"
