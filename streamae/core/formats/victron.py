"""Victron Venus OS: each value of a GX device has a topic of its own, below that of its service.

    N/<portal id>/<service>/<device instance>/<D-Bus path>        {"value": 936}, settings also with `min` and `max`

The channel is the path, `Dc/0/Voltage`, so a topic ends in {channel...}: N/{portal}/battery/{battery}/{channel...}.
`{"value": null}` says that a device does not have this value, an empty payload that the device has gone. Only what
changes is published, and everything after a keep-alive, which another program must send to the GX (R/<portal
id>/keepalive).
"""

import re
from collections.abc import Sequence

from streamae.core.formats.parsed import parsed
from streamae.core.formats.sighting import document, ever, records_in
from streamae.core.formats.spec import Format, Loads, PayloadSpec, Record, Records, Sighting
from streamae.core.types import Drop

__all__ = ["FORMAT"]

_DEPTH = 4  # levels above the path
_OF_THE_DEVICE = re.compile(  # what a service says of itself; the same on every service
    r"(Mgmt|Settings|Devices?|ModificationTime)(/.*)?|DeviceInstance|Connected|ProductId|ProductName|CustomName|Serial"
    r"|(Firmware|Hardware)Version|.*/(Firmware|Hardware)Version|(.*/)?ProductId|(.*/)?DeviceInstance"
    r"|(Alarms|History|Timers|Capabilities|Link)/.*|(.*/)?(ErrorCode|DeviceOffReason)"
)
_NOT_MEASURED = {"settings", "platform", "logger", "modem", "vecan", "adc"}  # services


def _records(topic: bytes, payload: bytes, spec: PayloadSpec, loads: Loads, arrival_s: float) -> Records:
    del topic, spec, arrival_s
    if not payload.strip():
        return [Record(None, {"value": None}, {})]
    found = parsed(payload, loads)
    if not isinstance(found, dict) or "value" not in found:
        return [Drop.MALFORMED]
    value = None if found["value"] == [] else found["value"]  # an empty list is how D-Bus spells that there is none
    return [Record(None, {"value": value}, {})]


def _path(topic: str) -> tuple[list[str], str] | None:
    """Return the levels above the D-Bus path, and the path; None where a topic has none."""
    levels = topic.split("/")
    above, path = levels[:_DEPTH], "/".join(levels[_DEPTH:])
    return (above, path) if path and above[0] == "N" and above[3].isdigit() else None


def _skips(topic: bytes) -> bool:
    found = _path(topic.decode(errors="replace"))
    return found is not None and _OF_THE_DEVICE.fullmatch(found[1]) is not None


def _recognise(topic: str, payloads: Sequence[bytes]) -> Sighting | str | None:
    levels = topic.split("/")
    found = _path(topic)
    if levels[0] != "N" or not all(_is_ours(payload) for payload in payloads):
        return None
    if found is None:
        return "what the GX device says of itself, not samples" if len(levels) == 3 else None
    above, path = found
    if above[2] in _NOT_MEASURED:
        return "Victron's settings and system, not samples"
    numbers = ever(records_in(_records, FORMAT.name, topic, payloads))
    kept = tuple(path for _ in numbers if not _OF_THE_DEVICE.fullmatch(path))
    place = "/".join([*above, "{channel...}"])
    ignored = tuple(path for _ in numbers if path not in kept)
    return Sighting(kept, ignored, place=place, family=above[2], nothing="a Victron device without numbers")


def _is_ours(payload: bytes) -> bool:
    found = document(payload)
    return not payload.strip() or (isinstance(found, dict) and "value" in found)


def _refuses_topic(topic: str) -> str | None:
    levels = topic.split("/")
    if "N" in levels and len(levels) - levels.index("N") > _DEPTH:
        return None
    return "write N/{portal}/battery/{battery}/{channel...}, with the service whose devices you mean for battery"


FORMAT = Format(
    name="victron",
    about="Victron Venus OS (Cerbo GX and others): one value a topic, called by its D-Bus path",
    link="https://github.com/victronenergy/dbus-flashmq",
    example='{topic: "N/{portal}/battery/{battery}/{channel...}", payload: victron}',
    records=_records,
    skips=_skips,
    refuses_topic=_refuses_topic,
    recognise=_recognise,
    keys=("values",),
    plain=True,
    channel=True,
    empty_ends=True,
    on_change=True,
)
