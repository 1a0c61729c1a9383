"""Tasmota: tele/<name>/SENSOR carries JSON by sensor.

Values are called by their path (`AM2301.Temperature`, `ENERGY.Power[0]`). `ON` and `OFF` are 1 and 0, other text
measures nothing. `Time` is local and has no offset, so the arrival counts unless the zone is configured.
"""

from collections.abc import Sequence

from streamae.core.formats.flat import flattened
from streamae.core.formats.parsed import parsed
from streamae.core.formats.sighting import always, document, records_in, sighting_of
from streamae.core.formats.spec import Format, Loads, PayloadSpec, Record, Records, Sighting
from streamae.core.formats.values import to_seconds
from streamae.core.types import Drop

__all__ = ["FORMAT"]


def _records(topic: bytes, payload: bytes, spec: PayloadSpec, loads: Loads, arrival_s: float) -> Records:
    del topic
    state = parsed(payload, loads)
    if isinstance(state, dict) and isinstance(state.get("StatusSNS"), dict):
        state = state["StatusSNS"]  # the answer to the command Status 8 or 10
    if not isinstance(state, dict):
        return [Drop.MALFORMED]
    stamp = state.pop("Time", None)
    time_s = None if spec.zone is None else to_seconds(stamp, zone=spec.zone, near_s=arrival_s)
    return [time_s if isinstance(time_s, Drop) else Record(time_s, flattened(state), {})]


def _skips(topic: bytes) -> bool:
    return topic.endswith((b"/LWT", b"/STATE"))


def _recognise(topic: str, payloads: Sequence[bytes]) -> Sighting | str | None:
    levels = topic.split("/")
    documents = [document(payload) for payload in payloads]
    objects = all(isinstance(one, dict) for one in documents)
    sensor = objects and levels[-1] == "SENSOR" and all("Time" in one for one in documents)
    answer = objects and all(isinstance(one.get("StatusSNS"), dict) for one in documents)
    if not sensor and not answer and not (levels[0] == "tele" and levels[-1] in ("LWT", "STATE")):
        return None
    if _skips(topic.encode()):
        return "what the device says of itself, not samples"
    return sighting_of(FORMAT.name, always(records_in(_records, FORMAT.name, topic, payloads), words=True))


FORMAT = Format(
    name="tasmota",
    about="Tasmota: telemetry of sensors and energy meters",
    link="https://tasmota.github.io/docs/MQTT/",
    example='{topic: "tele/{device}/SENSOR", payload: tasmota, values: {power: ENERGY.Power}, time_zone: UTC}',
    records=_records,
    keys=("values", "time_zone"),
    skips=_skips,
    recognise=_recognise,
    words=True,
)
