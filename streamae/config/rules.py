"""What must agree between keys: each rule yields the place to correct and the remedy, or a warning.

The rules run only on settings whose single keys are all right.
"""

import re
from collections.abc import Iterator
from fnmatch import fnmatchcase

from streamae.config.maintenance import OneOff, Recurring, gap_days
from streamae.config.rehearsal import rehearsed
from streamae.config.settings import Settings
from streamae.config.streams import StreamGroup
from streamae.config.topic_rules import topic_conflicts
from streamae.config.units import duration_text
from streamae.config.yaml_document import Loc
from streamae.core.align_rule import GridAlign
from streamae.core.filters import covers, crossing, overlap
from streamae.core.formats import FORMATS
from streamae.core.topics import CHANNEL, Template
from streamae.sinks.spec import SinkSettings

__all__ = ["GAP_PERIODS_MAX", "conflicts", "warnings"]

GAP_PERIODS_MAX = 100_000  # rows that one message after a silence can make of a stream
_PERIODS_LATE_MAX = 10_000  # rows that a stream holds back; each costs memory for every stream

Finding = tuple[Loc, str]


def conflicts(settings: Settings) -> Iterator[Finding]:
    """Yield (place, remedy) of every contradiction."""
    yield from _mqtt(settings)
    yield from _web(settings)
    yield from _home_assistant(settings)
    for name, group in settings.streams.items():
        yield from _group(("streams", name), group)
    yield from _sinks(settings)
    yield from rehearsed(settings)
    yield from _maintenance(settings)


def warnings(settings: Settings) -> Iterator[Finding]:
    """Yield (place, advice) of what is allowed and will probably hurt."""
    for name, group in settings.streams.items():
        for i, topic in enumerate(group.topics):
            timed = topic.time is not None or topic.zone is not None or FORMATS[topic.kind].timed
            if settings.mqtt.session_expiry_s and settings.mqtt.qos and not timed:
                yield (
                    ("streams", name, "topics", i),
                    "after an outage the broker delivers what it kept, and without `time` all of it counts as of now: "
                    "name the payload's time, or set mqtt.session_expiry: 0s",
                )
    twice = _twice(settings) if settings.mqtt.protocol == "3.1.1" else []
    if twice:
        yield (
            ("mqtt", "protocol"),
            f"{' and '.join(twice)} have topics in common, and by MQTT 3.1.1 a broker may deliver those twice: "
            "let the protocol be auto or 5, or write one filter for both",
        )
    if settings.mqtt.tls is None and settings.mqtt.password is not None and not _is_local(settings.mqtt.host):
        yield ("mqtt", "password"), "it crosses the network in clear text: configure mqtt.tls"
    if settings.mqtt.tls is not None and settings.mqtt.tls.insecure:
        yield (
            ("mqtt", "tls", "insecure"),
            "any machine on the way can read and forge the samples: name the authority in `ca`",
        )
    if settings.state.durability == "none":
        yield ("state", "durability"), "a crash loses windows, thresholds and open alerts since the last snapshot"


def _twice(settings: Settings) -> list[str]:
    """Return the filters that have topics in common with another one, and are not a part of it."""
    every = dict.fromkeys(template.filter for group in settings.streams.values() for template, _ in group.readers)
    return crossing(one for one in every if not any(covers(other, one) for other in every if other != one))


def _is_local(host: str) -> bool:
    return host in ("localhost", "::1") or host.startswith("127.")


def _mqtt(settings: Settings) -> Iterator[Finding]:
    mqtt, inbox = settings.mqtt, settings.inbox
    if mqtt.protocol == "3.1.1" and mqtt.password is not None and mqtt.username is None:
        yield ("mqtt", "password"), "add mqtt.username; MQTT 3.1.1 has no password without one"
    if mqtt.tls is None and "tls" in mqtt.given:
        yield ("mqtt", "tls"), "write tls: {} to encrypt with the authorities of the system, or remove the key"
    if mqtt.tls is not None and (mqtt.tls.cert is None) != (mqtt.tls.key is None):
        given, missing = ("cert", "key") if mqtt.tls.key is None else ("key", "cert")
        yield ("mqtt", "tls", given), f"add mqtt.tls.{missing}; mutual TLS needs both"
    if inbox.batch_max > inbox.max_messages:
        yield ("inbox", "batch_max"), f"lower it to inbox.max_messages ({inbox.max_messages}) or less"
    if mqtt.receive_maximum > inbox.max_messages:
        yield (
            ("mqtt", "receive_maximum"),
            f"lower it to inbox.max_messages ({inbox.max_messages}) or less, or messages must be dropped",
        )


def _web(settings: Settings) -> Iterator[Finding]:
    web = settings.web
    if web.port > 65535:
        yield ("web", "listen"), "use a port up to 65535; 0 takes a free one"
    if not web.loopback and web.token is None:
        yield ("web", "listen"), "set web.token, or listen on 127.0.0.1: others can reach this address"


def _home_assistant(settings: Settings) -> Iterator[Finding]:
    if settings.home_assistant is None:
        if "home_assistant" in settings.model_fields_set:
            yield ("home_assistant",), "write home_assistant: {} to turn it on, or remove the key"
        return
    published = f"streamae/{settings.instance}/homeassistant/+/+"
    for name, group in settings.streams.items():
        for i, topic in enumerate(group.topics):
            if overlap(published, Template.parse(topic.topic).filter):
                yield (
                    ("streams", name, "topics", i, "topic"),
                    f"leave out {published}, which streamae publishes for Home Assistant: it would read its own scores",
                )


def _group(loc: Loc, group: StreamGroup) -> Iterator[Finding]:
    templates = [Template.parse(topic.topic) for topic in group.topics]
    seen: set[str] = set()
    for i, (topic, template) in enumerate(zip(group.topics, templates, strict=True)):
        here = (*loc, "topics", i)
        yield from topic_conflicts(here, topic, template)
        shape = re.sub(r"\{[^{}.]*(\.*)\}", r"{\1}", topic.topic)
        if shape in seen:
            yield (*here, "topic"), f"remove it; an earlier topic of this group already stands for {template.filter}"
        seen.add(shape)
    yield from _stream_name(loc, group)
    if isinstance(group.align, GridAlign):
        yield from _grid((*loc, "align"), group.align)


def _stream_name(loc: Loc, group: StreamGroup) -> Iterator[Finding]:
    kept = [topic.stream_labels for topic in group.topics]
    if group.stream is None:
        for i, labels in enumerate(kept):
            if labels != kept[0]:
                yield (
                    (*loc, "topics", i, "topic"),
                    "give it the labels of the group's first topic, or add `stream:` with the labels that both have",
                )
        return
    wanted = [part.partition("}")[0] for part in group.stream.split("{")[1:]]
    for name in wanted:
        if name == CHANNEL:
            yield (*loc, "stream"), "leave {channel} out; all channels of a machine are one stream"
        elif not all(name in labels for labels in kept):
            common = sorted(set(kept[0]).intersection(*kept))
            choice = ", ".join("{" + label + "}" for label in common) or "none: add {labels} to the topics"
            yield (*loc, "stream"), f"use labels that every topic of the group has ({choice}), not {{{name}}}"
    if not wanted and any(kept):
        yield (*loc, "stream"), "use at least one label, or all machines become one stream"


def _grid(here: Loc, grid: GridAlign) -> Iterator[Finding]:
    if grid.gap_max_s is not None and grid.gap_max_s < grid.every_s:
        yield (*here, "gap_max"), f"raise it to `every` ({grid.every_s:g} s) or more, or there is never a window"
    if grid.gap_max_s is not None and grid.gap_max_s > GAP_PERIODS_MAX * grid.every_s:
        yield (*here, "gap_max"), f"lower it to {GAP_PERIODS_MAX} periods of the grid or less; each becomes a row"
    if grid.lateness_s > _PERIODS_LATE_MAX * grid.every_s:
        yield (*here, "lateness"), f"lower it to {_PERIODS_LATE_MAX} periods of the grid or less; each waits in memory"


def _sinks(settings: Settings) -> Iterator[Finding]:
    names: set[str] = set()
    for i, sink in enumerate(settings.sinks):
        if sink.name in names:
            key = "name" if "name" in sink.given else "type"
            yield ("sinks", i, key), f"give each sink a name of its own; there is already one called {sink.name}"
        names.add(sink.name)
        if sink.published:
            yield from _loops(("sinks", i, "topic"), sink, settings)


def _maintenance(settings: Settings) -> Iterator[Finding]:
    names: set[str] = set()
    for i, window in enumerate(settings.maintenance):
        here = ("maintenance", i)
        if window.name in names:
            yield (*here, "name"), f"give each window a name of its own; there is already one called {window.name}"
        names.add(window.name)
        if not any(fnmatchcase(name, window.group) for name in settings.streams):
            yield (*here, "group"), f"name a group of this file ({', '.join(settings.streams)}), or a pattern of some"
        if isinstance(window, OneOff) and window.until_s <= window.from_s:
            yield (*here, "until"), "write a time after `from`"
        if isinstance(window, Recurring) and window.duration_s >= gap_days(window) * 86400:
            yield (
                (*here, "duration"),
                f"write less than the {duration_text(gap_days(window) * 86400.0)} from one start to the next: "
                "it would never end",
            )


def _loops(here: Loc, sink: SinkSettings, settings: Settings) -> Iterator[Finding]:
    """An alert that comes back as a sample would be scored."""
    filters = [(name, Template.parse(topic.topic).filter) for name, g in settings.streams.items() for topic in g.topics]
    for name, group in settings.streams.items():
        stream = group.stream or "/".join("{" + label + "}" for label in group.topics[0].stream_labels)
        published = (
            sink.published.replace("{instance}", settings.instance).replace("{group}", name).replace("{stream}", stream)
        )
        levels = "/".join("+" if "{" in level else level for level in published.split("/"))
        for reader, pattern in filters:
            if overlap(f"{levels}/+", pattern):
                yield (
                    here,
                    f"publish where streams.{reader} does not subscribe ({pattern}), or alerts come back as samples",
                )
                return
