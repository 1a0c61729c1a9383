"""What `sniff` needs to call a topic's numbers by their names: the part that all formats have in common.

Names are taken from a few payloads, so rare names may be missing.
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from streamae.core.formats.number_rule import PLAIN_NUMBERS
from streamae.core.formats.parsed import parsed
from streamae.core.formats.spec import Loads, PayloadSpec, Record, Records, Sighting
from streamae.core.types import Drop

__all__ = [
    "always", "distinguishing", "document", "ever", "measured", "measures_nothing", "numbers_of", "records_in",
    "sighting_of", "snake",
]  # fmt: skip

_OF_THE_DEVICE = re.compile(  # what a device says of itself, its radio and its supply
    r"_?ids?|seq|sequence|sequence_number|counter|msg_?id|packet_?id|f_?cnt|f_?port|dr|adr|tx_?power|channel_?id"
    r"|(.*_)?(version|fw|firmware)|uptime(_.*)?|heap|free_?(mem|memory|heap)|load_?avg|sleep|sleep_mode|mqtt_count"
    r"|(.*_)?(rssi|lqi|link_?quality|snr|signal_(strength|quality|level)|wifi_signal)|signal_dbm?"
    r"|(.*_)?(battery|batt|bat)(_.*)?|vbat|(device|chip)_temperature"
    r"|(power_outage|trigger|reboot|restart|boot|error|reconnect|message|msg)_?counts?|(mac|adv)_type"
    r"|(freq|frequency)_?\d+|mic|mod|button|margin|(.*_)?(ts|timestamp|datetime|last_seen)(_ms|_s|_us|_ns|_utc)?"
)
_OF_THE_PAST = re.compile(  # sums over days and the like, which stand still and then leap
    r"(.*_)?(yesterday|today|daily|weekly|monthly|last_(hour|day|week|month|year)|this_(day|week|month|year))(_.*)?"
    r"|(energy_)?period|(day|week|month|year)(ly)?_(energy|consumption|total)"
)
_OF_THE_RADIO = {"rx_info", "tx_info", "rx_metadata", "update", "wifi", "location", "device_info", "end_device_ids"}
_SUPPLIED = re.compile(r"(device_)?(batt|bat)(ery)?(_state)?")
_SUPPLY = re.compile(r"(.*_)?(volts?|voltage|vbat|vdd|vcc)")
_BATTERY = re.compile(r"(.*_)?(battery|batt|bat|vbat)(_.*)?")
_LOAD = re.compile(r"(.*_)?(power|current|energy|amps?|watts?)(_.*)?")
_STEPS = re.compile(r'"([^"]+)"|([^.\[\]"/:]+)')
_Records = Callable[[bytes, bytes, PayloadSpec, Loads, float], Records]


def document(payload: bytes) -> Any:
    """Return a payload as JSON, None where it is none."""
    found = parsed(payload, json.loads)
    return None if isinstance(found, Drop) else found


def records_in(records: _Records, kind: str, topic: str, payloads: Iterable[bytes]) -> list[Record]:
    """Return what a format reads in payloads, without what it refuses."""
    found = (one for p in payloads for one in records(topic.encode(), p, PayloadSpec(kind), json.loads, 0.0))
    return [record for record in found if not isinstance(record, Drop)]


def numbers_of(record: Record, *, words: bool = False) -> list[str]:
    """Return the names of a record's numbers; with `words` those that stand as text as well."""
    said = ((name, value) for name, value in record.values.items() if words or not isinstance(value, str))
    return [name for name, value in said if not isinstance(PLAIN_NUMBERS.number(value), Drop)]


def ever(records: Iterable[Record], *, words: bool = False) -> list[str]:
    """Return the names that are a number in some record, in the order of their first appearance."""
    return list(dict.fromkeys(name for record in records for name in numbers_of(record, words=words)))


def always(records: Sequence[Record], *, words: bool = False) -> list[str]:
    """Return the names that are a number in every record."""
    common = set.intersection(*(set(numbers_of(record, words=words)) for record in records)) if records else set()
    return [name for name in ever(records, words=words) if name in common]


def snake(name: str) -> str:
    """Return a name in lower case with its words apart: `rxInfo` -> `rx_info`, `loRaSNR` -> `lo_ra_snr`."""
    apart = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])|[^A-Za-z0-9]+", "_", name)
    return re.sub(r"_+", "_", apart).strip("_").lower()


def measures_nothing(name: str, beside: Iterable[str] = ()) -> bool:
    """Whether the value of this name or path measures nothing, as it is called; `beside` are names in the same payload.

    That is what a device says of its firmware, radio and supply, and sums over days. A voltage beside a battery is the
    battery's, where nothing says that power is measured.
    """
    steps = [snake(quoted or plain) for quoted, plain in _STEPS.findall(name)]
    words = [step for step in steps if step and not step.isdigit()] or steps or [""]
    about = _OF_THE_RADIO & {*words[:-1]} or any(map(_SUPPLIED.fullmatch, words[:-1]))
    if _OF_THE_DEVICE.fullmatch(words[-1]) or _OF_THE_PAST.fullmatch(words[-1]) or about:
        return True
    if not _SUPPLY.fullmatch(words[-1]):
        return False
    last = (snake(re.split(r"[./:\[]", other)[-1]) for other in beside)
    others = [one for one in last if _BATTERY.fullmatch(one) or not _OF_THE_DEVICE.fullmatch(one)]
    return any(map(_BATTERY.fullmatch, others)) and not any(map(_LOAD.fullmatch, others))


def measured(names: Iterable[str], beside: re.Pattern[str] | None = None) -> tuple[list[str], list[str]]:
    """Part names into those of measurements, and those that measure nothing, which `beside` says of a format's own."""
    every = list(names)
    nothing = [x for x in every if (beside is not None and beside.fullmatch(x)) or measures_nothing(x, every)]
    return [x for x in every if x not in nothing], nothing


def distinguishing(rows: Sequence[Mapping[str, str]], candidates: Iterable[str]) -> tuple[str, ...]:
    """Return the first of the candidates that, together, tell all rows apart that any of them can tell apart."""
    kept: list[str] = []
    apart = 1
    for name in candidates:
        found = len({tuple(row.get(one) for one in (*kept, name)) for row in rows})
        if found > apart:
            kept.append(name)
            apart = found
    return tuple(kept)


def sighting_of(kind: str, names: Sequence[str], beside: re.Pattern[str] | None = None) -> Sighting | str:
    """Return these numbers, without those that measure nothing; see `measured`."""
    values, ignored = measured(names, beside)
    return Sighting(tuple(values), tuple(ignored)) if values else f"{kind}, and no numbers that are always there"
