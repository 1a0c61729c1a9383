"""Zigbee2MQTT: the state of a device as JSON with some numbers in it, or as one word.

    <base>/<name>                   flat or nested JSON; `last_seen` (ISO 8601 or ms) is the time, where it is on
    <base>/<name>/<attribute>       one value, with `output: attribute`

Values are called by their path. `ON` and `OFF` are 1 and 0, other text measures nothing.
"""

import re
from collections.abc import Sequence

from streamae.core.formats.flat import flattened
from streamae.core.formats.parsed import parsed_or_text
from streamae.core.formats.sighting import always, document, records_in, sighting_of
from streamae.core.formats.spec import Format, Loads, PayloadSpec, Record, Records, Sighting
from streamae.core.formats.values import to_seconds
from streamae.core.types import Drop

__all__ = ["FORMAT"]

_BESIDE = re.compile(r"linkquality|update[._].*|.*\.(installed|latest)_version|device\..*")


def _records(topic: bytes, payload: bytes, spec: PayloadSpec, loads: Loads, arrival_s: float) -> Records:
    del topic, spec, arrival_s
    state = parsed_or_text(payload, loads)
    if isinstance(state, list | Drop):
        return [Drop.MALFORMED]
    if not isinstance(state, dict):
        return [Record(None, {"value": state}, {})]
    seen = state.pop("last_seen", None)
    if seen is None:
        return [Record(None, flattened(state), {})]
    time_s = to_seconds(seen)
    return [time_s if isinstance(time_s, Drop) else Record(time_s, flattened(state), {})]


def _skips(topic: bytes) -> bool:
    levels = topic.split(b"/")
    return levels[-1] in (b"availability", b"set", b"get") or b"bridge" in levels[1:2]


def _recognise(topic: str, payloads: Sequence[bytes]) -> Sighting | str | None:
    documents = [document(payload) for payload in payloads]
    objects, levels = all(isinstance(one, dict) for one in documents), topic.split("/")
    ours = levels[0] == FORMAT.name and (objects or len(levels) > 2)
    if not ours and not (objects and any("linkquality" in one for one in documents)):
        return None
    if _skips(topic.encode()):
        return "what the bridge says of itself or of devices, not samples"
    return sighting_of(FORMAT.name, always(records_in(_records, FORMAT.name, topic, payloads), words=True), _BESIDE)


FORMAT = Format(
    name="zigbee2mqtt",
    about="Zigbee2MQTT: the state of a device as JSON, or one attribute a topic",
    link="https://www.zigbee2mqtt.io/guide/usage/mqtt_topics_and_messages.html",
    example='{topic: "zigbee2mqtt/{device}", payload: zigbee2mqtt, values: {temperature: temperature}}',
    records=_records,
    keys=("values",),
    skips=_skips,
    recognise=_recognise,
    timed=True,
    channel=True,
    words=True,
)
