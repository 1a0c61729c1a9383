"""Shelly: relays, plugs, meters and sensors of all generations, as they publish by themselves.

Generation 2 and later, JSON by component; values are called by their path, `switch:0.apower`:

    <device>/events/rpc             NotifyStatus with what has changed, NotifyFullStatus with all; `ts` is the time
    <device>/status/<component>     one component whole, where "generic status update" is on; no time

Generation 1, one value a topic, so that the template is shellies/{device}/{channel...}:

    shellies/<device>/relay/0/power, …/emeter/0/voltage, …/sensor/temperature      plain numbers
    shellies/<device>/relay/0       on, off, or a word that measures nothing (overpower)

Null says that a sensor cannot be read. Events of buttons, and what a device says of its network, are no samples.
"""

import re
from collections.abc import Sequence

from streamae.core.formats.flat import flattened
from streamae.core.formats.parsed import parsed_or_text
from streamae.core.formats.sighting import document, ever, records_in, sighting_of
from streamae.core.formats.spec import Format, Loads, PayloadSpec, Record, Records, Sighting
from streamae.core.formats.values import to_seconds
from streamae.core.types import Drop

__all__ = ["FORMAT"]

_SYSTEM = {"sys", "wifi", "eth", "cloud", "mqtt", "ble", "ws", "ht_ui", "plugs_ui", "knx", "matter", "bthome"}
_BESIDE = re.compile(r".*\.(id|tF|minute_ts|timer_\w+)|.*\.by_minute\[\d+\]|.*\.counts\..*")
_GEN1_BESIDE = re.compile(r"(ext_)?temperature_f(/.*)?|.*/overpower_value|longpush/.*|.*/set|.*/command")
_ABOUT_ITSELF = (b"online", b"announce", b"info", b"command", b"settings")
_NOT_SAMPLES = "what the device says of itself, not samples"


def _records(topic: bytes, payload: bytes, spec: PayloadSpec, loads: Loads, arrival_s: float) -> Records:
    del spec, arrival_s
    *_, kind, last = [b"", b"", *topic.split(b"/")]
    found = parsed_or_text(payload, loads)
    if (kind, last) == (b"events", b"rpc"):
        return _notified(found)
    if kind == b"status":
        component = {last.decode(errors="replace"): found}
        return [Record(None, flattened(component), {}) if isinstance(found, dict) else Drop.MALFORMED]
    return [Drop.MALFORMED if isinstance(found, dict | list | Drop) else Record(None, {"value": found}, {})]


def _notified(frame: object) -> Records:
    params = frame.get("params") if isinstance(frame, dict) else None
    if not isinstance(frame, dict) or not isinstance(params, dict):
        return [Drop.MALFORMED]
    if frame.get("method") not in ("NotifyStatus", "NotifyFullStatus"):
        return []
    stamp = params.get("ts")  # null until the device has the time
    time_s = None if stamp is None else to_seconds(stamp)
    values = flattened({name: part for name, part in params.items() if name != "ts" and name not in _SYSTEM})
    if isinstance(time_s, Drop):
        return [time_s]
    return [Record(time_s, values, {})] if values else []


def _skips(topic: bytes) -> bool:
    *_, kind, last = [b"", b"", *topic.split(b"/")]
    return (
        last in _ABOUT_ITSELF
        or (last == b"rpc" and kind != b"events")
        or (kind == b"status" and last.decode(errors="replace") in _SYSTEM)
        or kind == b"input_event"
    )


def _recognise(topic: str, payloads: Sequence[bytes]) -> Sighting | str | None:
    *above, kind, last = ["", "", *topic.split("/")]
    documents = [document(payload) for payload in payloads]
    objects = all(isinstance(one, dict) for one in documents)
    if (kind, last) == ("events", "rpc") and objects and all("method" in one for one in documents):
        return sighting_of(FORMAT.name, ever(records_in(_records, FORMAT.name, topic, payloads), words=True), _BESIDE)
    if kind == "status" and objects and last in _SYSTEM:
        return _NOT_SAMPLES
    if kind == "status" and objects and re.fullmatch(r"\w+:\d+", last) and all("id" in one for one in documents):
        found = sighting_of(FORMAT.name, ever(records_in(_records, FORMAT.name, topic, payloads), words=True), _BESIDE)
        place = "/".join([*above[2:], kind, "+"])
        known = (found.values, found.ignored) if isinstance(found, Sighting) else ((), ())
        return Sighting(*known, place=place, nothing="a Shelly without numbers")
    if last == "online" and re.match("shelly", topic) and set(documents) <= {True, False}:
        return _NOT_SAMPLES
    return _first_generation(topic, payloads) if topic.startswith("shellies/") else None


def _first_generation(topic: str, payloads: Sequence[bytes]) -> Sighting | str:
    _, device, *path = topic.split("/")
    channel = "/".join(path)
    if not path or _skips(topic.encode()):
        return _NOT_SAMPLES
    numbers = ever(records_in(_records, FORMAT.name, topic, payloads), words=True)
    kept = (channel,) if numbers and not _GEN1_BESIDE.fullmatch(channel) else ()
    return Sighting(
        kept,
        (channel,) if numbers and not kept else (),
        place=f"shellies/{device}/{{channel...}}",
        family=device.rpartition("-")[0],
        nothing="a Shelly without numbers",
    )


FORMAT = Format(
    name="shelly",
    about="Shelly devices of all generations: relays, plugs, meters, sensors",
    link="https://shelly-api-docs.shelly.cloud/gen2/ComponentsAndServices/Mqtt",
    example='{topic: "{device}/events/rpc", payload: shelly, values: {power: "switch:0.apower"}}',
    records=_records,
    keys=("values",),
    skips=_skips,
    recognise=_recognise,
    timed=True,
    channel=True,
    words=True,
    on_change=True,
)
