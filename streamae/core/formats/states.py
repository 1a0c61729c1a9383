"""The states of smart homes: Zigbee2MQTT, Tasmota, and Home Assistant's statestream.

A state is JSON with some numbers in it, or one word. Its values are called by their path (`AM2301.Temperature`,
`ENERGY.Power[0]`); `ON` and `OFF` are 1 and 0, other text measures nothing.

zigbee2mqtt    <base>/<name>: flat or nested JSON; `last_seen` (ISO 8601 or ms) is the time, where it is switched on;
               with `output: attribute` one value on <base>/<name>/<attribute>. www.zigbee2mqtt.io, MQTT topics
tasmota        tele/<name>/SENSOR: JSON by sensor; its `Time` is local and has no offset, so the arrival counts unless
               the zone is configured. tasmota.github.io/docs, MQTT and JSON Status Responses
homeassistant  <base>/<domain>/<entity>/state: plain text; `unknown` and `unavailable` say that there is no value.
               www.home-assistant.io/integrations/mqtt_statestream
"""

import re
from collections.abc import Iterable
from datetime import datetime

from streamae.core.formats.spec import Format, Loads, PayloadSpec, Record
from streamae.core.formats.values import to_seconds
from streamae.core.types import Drop

__all__ = ["HOME_ASSISTANT", "TASMOTA", "ZIGBEE2MQTT", "flattened"]

_DEPTH_MAX = 8
_LEAVES_MAX = 512
_PLAIN_KEY = re.compile(r"[^.\[\]\"]+\Z")
_ABSENT_STATES = {b"unknown", b"unavailable", b"none"}


def flattened(document: object) -> dict[str, object]:
    """Return the leaves of a document by their path, at most a few hundred of them."""
    leaves: dict[str, object] = {}
    _flatten(document, "", 0, leaves)
    return leaves


def _flatten(node: object, path: str, depth: int, leaves: dict[str, object]) -> None:
    if depth > _DEPTH_MAX or len(leaves) >= _LEAVES_MAX:
        return
    if isinstance(node, dict):
        for key, value in node.items():
            name = key if _PLAIN_KEY.match(key) else f'"{key}"'
            _flatten(value, f"{path}.{name}" if path else name, depth + 1, leaves)
    elif isinstance(node, list):
        for i, value in enumerate(node[:_LEAVES_MAX]):
            _flatten(value, f"{path}[{i}]", depth + 1, leaves)
    else:
        leaves[path] = node


def _zigbee2mqtt(payload: bytes, spec: PayloadSpec, loads: Loads, arrival_s: float) -> Iterable[Record | Drop]:
    del spec, arrival_s
    try:
        document = loads(payload)
    except (ValueError, RecursionError):
        document = payload.decode(errors="replace") if payload[:1] not in b"{[" else Drop.MALFORMED
    if isinstance(document, list | Drop):
        return [Drop.MALFORMED]
    if not isinstance(document, dict):
        return [Record(None, {"value": document}, {})]
    seen = document.pop("last_seen", None)
    if seen is None:
        return [Record(None, flattened(document), {})]
    time_s = to_seconds(seen)
    return [time_s if isinstance(time_s, Drop) else Record(time_s, flattened(document), {})]


def _zigbee2mqtt_skips(topic: bytes) -> bool:
    levels = topic.split(b"/")
    return levels[-1] in (b"availability", b"set", b"get") or b"bridge" in levels[1:2]


def _tasmota(payload: bytes, spec: PayloadSpec, loads: Loads, arrival_s: float) -> Iterable[Record | Drop]:
    del arrival_s
    try:
        document = loads(payload)
    except (ValueError, RecursionError):
        return [Drop.MALFORMED]
    if isinstance(document, dict) and isinstance(document.get("StatusSNS"), dict):
        document = document["StatusSNS"]  # the answer to the command Status 8 or 10
    if not isinstance(document, dict):
        return [Drop.MALFORMED]
    stamp = document.pop("Time", None)
    time_s = None if spec.zone is None else _local(stamp, spec)
    return [time_s if isinstance(time_s, Drop) else Record(time_s, flattened(document), {})]


def _local(stamp: object, spec: PayloadSpec) -> float | Drop:
    """Read a local time in the configured zone; of the hour that comes twice a year the first is meant."""
    try:
        moment = datetime.fromisoformat(stamp) if isinstance(stamp, str) else None
        return Drop.BAD_TIME if moment is None else moment.replace(tzinfo=moment.tzinfo or spec.zone).timestamp()
    except (ValueError, OverflowError):
        return Drop.BAD_TIME


def _home_assistant(payload: bytes, spec: PayloadSpec, loads: Loads, arrival_s: float) -> Iterable[Record | Drop]:
    del spec, loads, arrival_s
    state = payload.strip().strip(b'"')
    if state.lower() in _ABSENT_STATES:
        return [Record(None, {"value": None}, {})]
    return [Record(None, {"value": state.decode(errors="replace")}, {})]


ZIGBEE2MQTT = Format(_zigbee2mqtt, _zigbee2mqtt_skips, words=True)
TASMOTA = Format(_tasmota, lambda topic: topic.endswith((b"/LWT", b"/STATE")), words=True)
HOME_ASSISTANT = Format(_home_assistant, words=True, plain=True)
