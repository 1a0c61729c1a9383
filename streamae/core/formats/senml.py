"""SenML in JSON: a pack is an array of records, and what stands in a record's base fields holds for those after it.

The name of a value is base name and name put together, its time base time and time added up: from 2**28 on that is
seconds since 1970, below it is relative to now, the arrival. `v` (with the base value added) and `vb` are the value,
`s` (with the base sum) is its integral over time and called `<name>.sum`; `vs` and `vd` are no numbers. What was
measured at one time is one record here. A pack of a later version, or with a field that must be understood (its name
ends in `_`), is refused whole.

Specification: RFC 8428, sections 4.1 to 4.7.
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from streamae.core.formats.parsed import parsed
from streamae.core.formats.sighting import document, ever, records_in, sighting_of
from streamae.core.formats.spec import Format, Loads, PayloadSpec, Record, Records, Sighting
from streamae.core.formats.values import to_number
from streamae.core.types import Drop

__all__ = ["FORMAT"]

_VERSION = 10
_ABSOLUTE_S = 2.0**28
_PARTS = re.compile(r"(?:(.*[:/]))?([^:/{}#+]+)([:/])([^:/{}#+]+)")
_SOURCE = "source"  # the label that `sniff` gives to what distinguishes the machines of a pack


class _Base:
    """The base fields as they stand at a record."""

    __slots__ = ("name", "sum", "time_s", "value")

    def __init__(self) -> None:
        self.name, self.time_s, self.value, self.sum = "", 0.0, 0.0, 0.0

    def follow(self, record: dict[str, Any]) -> bool:
        """Take over the base fields of a record; False where one is not what it must be."""
        if "bn" in record:
            if not isinstance(record["bn"], str):
                return False
            self.name = record["bn"]
        for key, place in (("bt", "time_s"), ("bv", "value"), ("bs", "sum")):
            if key in record:
                number = to_number(record[key])
                if isinstance(number, Drop):
                    return False
                setattr(self, place, number)
        return True


def _records(topic: bytes, payload: bytes, spec: PayloadSpec, loads: Loads, arrival_s: float) -> Records:
    del topic
    pack = parsed(payload, loads)
    if isinstance(pack, list) and len(pack) > spec.max_points:
        return [Drop.TOO_MANY_POINTS]
    if not isinstance(pack, list) or not all(isinstance(record, dict) and _understood(record) for record in pack):
        return [Drop.MALFORMED]
    base, together, refused = _Base(), {}, []  # type: tuple[_Base, dict[float, dict[str, object]], list[Drop]]
    for record in pack:
        if not base.follow(record):
            return [Drop.MALFORMED]
        found = _resolved(record, base, arrival_s)
        if isinstance(found, Drop):
            refused.append(found)
        else:
            together.setdefault(found[0], {}).update(found[1])
    return [*(Record(time_s, values, {}) for time_s, values in together.items() if values), *refused]


def _understood(record: dict[str, Any]) -> bool:
    version = record.get("bver", _VERSION)
    return isinstance(version, int) and version <= _VERSION and not any(key.endswith("_") for key in record)


def _resolved(record: dict[str, Any], base: _Base, arrival_s: float) -> tuple[float, dict[str, object]] | Drop:
    name, own_s = record.get("n", ""), to_number(record.get("t", 0))
    if not isinstance(name, str) or not base.name + name:
        return Drop.MALFORMED
    if isinstance(own_s, Drop):
        return Drop.BAD_TIME
    time_s = base.time_s + own_s
    values: dict[str, object] = {}
    if "v" in record:
        values[base.name + name] = _added(record["v"], base.value)
    elif "vb" in record:
        values[base.name + name] = record["vb"]
    if "s" in record:
        values[base.name + name + ".sum"] = _added(record["s"], base.sum)
    return time_s if time_s >= _ABSOLUTE_S else arrival_s + time_s, values


def _added(value: object, base: float) -> object:
    number = to_number(value)
    return value if isinstance(number, Drop) else number + base


def _recognise(topic: str, payloads: Sequence[bytes]) -> Sighting | str | None:
    if not all(_is_pack(document(payload)) for payload in payloads):
        return None
    found = sighting_of(FORMAT.name, ever(records_in(_records, FORMAT.name, topic, payloads)))
    return found if isinstance(found, str) else _named(found)


def _is_pack(found: object) -> bool:
    if not isinstance(found, list) or not found or not all(isinstance(record, dict) for record in found):
        return False
    named = isinstance(found[0].get("bn", found[0].get("n")), str)
    return named and all({"v", "vb", "vs", "vd", "s", "bn"} & set(record) for record in found)


def _named(found: Sighting) -> Sighting:
    """Where all names have parts, the one before the last distinguishes the sources."""
    split = [_PARTS.fullmatch(name) for name in found.values]
    heads = {one[1] or "" for one in split if one is not None}
    marks = {one[3] for one in split if one is not None}
    if None in split or len(heads) > 1 or len(marks) > 1 or re.search(r"[{}#+]", (head := heads.pop())):
        return found
    channels = tuple(dict.fromkeys(one[4] for one in split if one is not None))
    return replace(found, values=channels, ignored=(), name=f"{head}{{{_SOURCE}}}{marks.pop()}{{channel}}")


FORMAT = Format(
    name="senml",
    about="SenML in JSON (RFC 8428), as of LwM2M and CoAP gateways",
    link="https://www.rfc-editor.org/rfc/rfc8428",
    example='{topic: "sensors/{site}", payload: senml, name: "urn:dev:ow:{device}:{channel}"}',
    records=_records,
    keys=("values", "name"),
    recognise=_recognise,
    timed=True,
)
