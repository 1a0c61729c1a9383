"""Home Assistant: each stream as a device with four entities, the instance as one more, found by MQTT discovery.

A stream's retained discovery message, `<prefix>/device/<node>/<object>/config`, names the device and its entities: a
binary sensor (`problem`: an alert fires), the score, the channel that has most of it, and a second binary sensor for
all else that is wrong: a verdict on a sensor, quarantine. All read one retained
JSON state; null means unknown: the stream learns or fills its window, or the model fails on it. An entity is available
while the daemon is (its last will on `streamae/<instance>/status`) and the stream speaks. An empty discovery message
takes a device away.

What was published is remembered, so that `step` returns only what changed: an alert's state at once, a score that moves
at most every `every_s` seconds. The broker remembers what an earlier run announced: it is `found` again, as all of this
instance stands under one node, and withdrawn where group or stream are gone.

What somebody else writes on these topics is `heard`, and written over (`repairs`).

Nothing here sends: `step` returns messages, and `announce` makes the next one repeat everything (a birth message of
Home Assistant, a new connection, a failed delivery).

Source: https://www.home-assistant.io/integrations/mqtt/ (device discovery payload, discovery topic, availability,
birth message), /integrations/binary_sensor.mqtt/ and /integrations/sensor.mqtt/ (payload `None`: unknown).
"""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from streamae import __version__
from streamae.addresses import http_address
from streamae.core.setting import INTERNAL, Setting
from streamae.core.silence import patience_s
from streamae.sinks.homeassistant_device import (
    DeviceStreams,
    InstanceState,
    entities,
    instance_config,
    object_id_of,
    slug,
    state_of,
    text,
)
from streamae.sinks.payload import encode
from streamae.sinks.retained import KeptTopics
from streamae.sinks.texts import stream_link

__all__ = ["Discovery", "DiscoveryMessage", "DiscoveryOptions"]

_INSTANCE = "instance"  # object id of the device of the instance; those of streams end in a digest
_FOUND_MAX = 10_000  # devices of earlier runs that are remembered until they are judged


@dataclass(frozen=True, slots=True)
class DiscoveryMessage:
    """One retained message; an empty payload takes away what the broker retains."""

    topic: str
    payload: bytes


@dataclass(frozen=True, slots=True)
class DiscoveryOptions:
    """Home Assistant, on the same broker: each stream as a device of its own, by MQTT discovery."""

    instance: Annotated[str, INTERNAL] = "streamae"
    """Name of the installation."""
    prefix: Annotated[str, Setting(pattern=r"^[A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)*$")] = "homeassistant"
    """Its discovery prefix; the birth message is awaited on <prefix>/status."""
    devices_max: Annotated[int, Setting(key="max_devices", ge=1, le=2000)] = 100
    """Streams that become devices, at most, in the order of their appearance."""
    every_s: Annotated[float, Setting(ge=1, le=3600)] = 10.0
    """Shortest time between two messages of a stream whose score moves; an alert is sent at once."""
    stale_after_s: Annotated[float | None, Setting(gt=0)] = None
    """Silence after which a stream's entities become unavailable. Without it, five times its longest so far, 5m at
    least."""
    forget_after_s: Annotated[float, Setting(gt=0)] = 604800.0
    """Silence after which a stream's device is taken away; it comes back when the stream speaks again."""
    page: Annotated[str | None, Setting(check=http_address)] = None
    """Address of streamae's page, as people reach it: the device's link. Without it, web.external_url."""

    @property
    def node(self) -> str:
        """The topic level that all devices of this instance share."""
        return f"streamae_{slug(self.instance)}"

    @property
    def status_topic(self) -> str:
        """Where Home Assistant says that it has started."""
        return f"{self.prefix}/status"

    @property
    def ours(self) -> tuple[str, str]:
        """The filters of all that this instance publishes here, and nobody else may."""
        return f"{self.prefix}/device/{self.node}/+/config", f"streamae/{self.instance}/homeassistant/#"


@dataclass(slots=True)
class _Device:
    """What was published of a stream, and when it last made progress. `spoke` is False until it did since the start."""

    group: str
    stream: str
    object: str
    progress: tuple[float, int]
    moved_s: float
    spoke: bool
    longest_s: float = 0.0
    silences: int = 0
    announced: bool = False
    available: bool | None = None
    state: dict[str, Any] | None = None
    stated_s: float = -math.inf


class Discovery:
    """The devices of one instance; not thread-safe. Times are of a monotonic clock, in seconds."""

    def __init__(self, terms: DiscoveryOptions) -> None:
        self.terms = terms
        self._devices: dict[tuple[str, str], _Device] = {}
        self._forgotten: dict[tuple[str, str], tuple[float, int]] = {}
        self._found: dict[str, tuple[str, str]] = {}
        self.kept = KeptTopics()
        self._about: InstanceState | None = None
        self._first_s: float | None = None
        self.left_out = 0

    @property
    def devices(self) -> int:
        """How many streams are shown as devices."""
        return len(self._devices)

    def announce(self) -> None:
        """Make the next step publish everything again."""
        for device in self._devices.values():
            device.announced, device.available, device.state = False, None, None
        self.kept.begin()
        self._about = None

    def heard(self, topic: str, payload: bytes, *, retained: bool) -> None:
        """Take what somebody else wrote on a topic of ours, or (`retained`) what the broker has there."""
        if self.kept.heard(topic, payload, retained=retained) and topic.endswith("/config"):
            self.found(topic, payload)

    def repairs(self, now_s: float) -> list[DiscoveryMessage]:
        """Return what has to be published over what others wrote."""
        return [DiscoveryMessage(*one) for one in self.kept.repairs(now_s)]

    def _noted(self, messages: list[DiscoveryMessage]) -> list[DiscoveryMessage]:
        self.kept.note((message.topic, message.payload) for message in messages)
        return messages

    def found(self, topic: str, payload: bytes) -> None:
        """Note a retained discovery message of ours that the broker has; one that names no stream is ignored."""
        object_id = topic.split("/")[-2]
        try:
            device = json.loads(payload)["dev"]
            group, stream = str(device["mdl"]), str(device["sn"])
        except (ValueError, KeyError, TypeError):
            return
        if len(self._found) < _FOUND_MAX:
            self._found[object_id] = group, stream

    def step(
        self, tables: Mapping[str, DeviceStreams], now_s: float, about: InstanceState | None = None
    ) -> list[DiscoveryMessage]:
        """Return what is to be published of the streams as they stand, in `tables` by group, and of the instance."""
        first = self._first_s is None
        self._first_s = now_s if self._first_s is None else self._first_s
        messages: list[DiscoveryMessage] = []
        shown: set[tuple[str, str]] = set()
        self.left_out = 0
        for group, table in tables.items():
            for i, stream in enumerate(table.names):
                key = group, stream
                device = self._devices.get(key) or self._admit(key, table, i, now_s, known=first)
                if device is not None and self._speaks(device, table, i, now_s):
                    shown.add(key)
                    messages += self._news(device, table, i, now_s)
        for key in [key for key in self._devices if key not in shown]:
            messages += self._removal(self._devices.pop(key).object)
        self._forgotten = {key: progress for key, progress in self._forgotten.items() if key[0] in tables}
        messages += self._leftovers(tables, now_s)
        return self._noted(messages + ([] if about is None else self._instance_news(about)))

    def withdraw(self) -> list[DiscoveryMessage]:
        """Return what takes every device away; nothing is shown afterwards."""
        objects = [device.object for device in self._devices.values()] + list(self._found)
        self._devices, self._found = {}, {}
        objects += [] if self._about is None else [_INSTANCE]
        self._about = None
        return self._noted([message for one in dict.fromkeys(objects) for message in self._removal(one)])

    def _admit(
        self, key: tuple[str, str], table: DeviceStreams, i: int, now_s: float, *, known: bool
    ) -> _Device | None:
        """Make a device of a stream, where there is room; one that fell silent comes back when it speaks again.

        A stream of an earlier run is `known` from the first step on, whether it still speaks or not.
        """
        progress = _progress(table, i)
        if self._forgotten.get(key) == progress:
            return None
        if len(self._devices) >= self.terms.devices_max:
            self.left_out += 1
            return None
        self._forgotten.pop(key, None)
        device = self._devices[key] = _Device(*key, object_id_of(*key), progress, now_s, spoke=not known)
        return device

    def _speaks(self, device: _Device, table: DeviceStreams, i: int, now_s: float) -> bool:
        """Note whether a stream made progress; False where it has been silent for too long to be kept."""
        progress = _progress(table, i)
        if progress != device.progress:
            if device.spoke:  # one beyond what is allowed teaches no more than that
                silent_s = min(now_s - device.moved_s, self._patience_s(device))
                device.longest_s, device.silences = max(device.longest_s, silent_s), device.silences + 1
            device.progress, device.moved_s, device.spoke = progress, now_s, True
        if now_s - device.moved_s <= self.terms.forget_after_s:
            return True
        self._forgotten[device.group, device.stream] = progress
        return False

    def _patience_s(self, device: _Device) -> float:
        return self.terms.stale_after_s or patience_s(device.longest_s, device.silences)

    def _leftovers(self, tables: Mapping[str, DeviceStreams], now_s: float) -> Iterator[DiscoveryMessage]:
        """Take away what an earlier run announced and nobody stands behind any more."""
        shown = {device.object for device in self._devices.values()}
        waited = self._first_s is not None and now_s - self._first_s > self.terms.forget_after_s
        for object_id, (group, stream) in list(self._found.items()):
            if object_id in shown:
                del self._found[object_id]
            elif group not in tables or stream in tables[group].names or waited:
                del self._found[object_id]
                yield from self._removal(object_id)

    def _removal(self, object_id: str) -> list[DiscoveryMessage]:
        topics = (self._config_topic(object_id), f"{self._base(object_id)}/state", self._availability(object_id))
        return [DiscoveryMessage(topic, b"") for topic in topics]

    def _news(self, device: _Device, table: DeviceStreams, i: int, now_s: float) -> Iterator[DiscoveryMessage]:
        if not device.announced:
            device.announced = True
            yield DiscoveryMessage(self._config_topic(device.object), encode(self._config(device)))
        silent = now_s - device.moved_s > self._patience_s(device)
        available = False if silent else True if device.spoke else None
        if available is not None and available != device.available:
            device.available = available
            yield DiscoveryMessage(self._availability(device.object), b"online" if available else b"offline")
        state = state_of(table, i)
        turned = device.state is None or any(state[key] != device.state[key] for key in ("state", "anomaly", "trouble"))
        if turned or (state != device.state and now_s - device.stated_s >= self.terms.every_s):
            device.state, device.stated_s = state, now_s
            yield DiscoveryMessage(f"{self._base(device.object)}/state", encode(state))

    def _instance_news(self, about: InstanceState) -> list[DiscoveryMessage]:
        """The device of the instance itself: what a person must repair that is no single stream's."""
        if about == self._about:
            return []
        state = DiscoveryMessage(f"{self._base(_INSTANCE)}/state", encode(about.state()))
        first, self._about = self._about is None, about
        if not first:
            return [state]
        config = instance_config(self.terms.node, self.terms.instance, state.topic, self._status_topic, self.terms.page)
        return [DiscoveryMessage(self._config_topic(_INSTANCE), encode(config)), state]

    @property
    def _status_topic(self) -> str:
        return f"streamae/{self.terms.instance}/status"

    def _base(self, object_id: str) -> str:
        return f"streamae/{self.terms.instance}/homeassistant/{object_id}"

    def _availability(self, object_id: str) -> str:
        return f"{self._base(object_id)}/availability"

    def _config_topic(self, object_id: str) -> str:
        return f"{self.terms.prefix}/device/{self.terms.node}/{object_id}/config"

    def _config(self, device: _Device) -> dict[str, Any]:
        """The device discovery payload; keys in their documented short forms."""
        unique = f"{self.terms.node}_{device.object}"
        group, stream = text(device.group), text(device.stream)
        about = {"ids": [unique], "name": stream if stream == group else f"{group} {stream}", "mf": "streamae"}
        about |= {"mdl": group, "sn": stream, "sw": __version__}
        page = stream_link(self.terms.page or "", device.group, device.stream)
        return {
            "dev": about | ({"cu": page} if page else {}),
            "o": {"name": "streamae", "sw": __version__},
            "cmps": dict(entities(unique, f"{self._base(device.object)}/state", self._status_topic)),
            "stat_t": f"{self._base(device.object)}/state",
            "avty": [{"t": self._status_topic}, {"t": self._availability(device.object)}],
            "avty_mode": "all",
            "qos": 1,
        }


def _progress(table: DeviceStreams, i: int) -> tuple[float, int]:
    time_s = float(table.time_s[i])
    return (-math.inf if math.isnan(time_s) else time_s, int(table.learned[i]))
