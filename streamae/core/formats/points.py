"""Points of InfluxDB's data model, in any notation: which of them `sniff` proposes, and which of their fields."""

import re
from collections.abc import Sequence

from streamae.core.formats.sighting import always, distinguishing, measured
from streamae.core.formats.spec import MEASUREMENT, Record, Sighting

__all__ = ["points_sighting"]

_LABEL = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")


def points_sighting(kind: str, records: Sequence[Record]) -> tuple[Sighting, ...] | str:
    """Return each measurement with its fields and the tags that tell its points apart, the most frequent first."""
    every = [record.tags[MEASUREMENT] for record in records]
    if not every:
        return f"{kind} without points"
    names = sorted(dict.fromkeys(every), key=every.count, reverse=True)
    found = [_measurement(name, [r for r in records if r.tags[MEASUREMENT] == name], len(names) > 1) for name in names]
    return tuple(one for one in found if one is not None) or f"{kind} without numbers that are always there"


def _measurement(name: str, records: Sequence[Record], several: bool) -> Sighting | None:
    values, ignored = measured(always(records))
    if not values:
        return None
    tags = dict.fromkeys(tag for record in records for tag in record.tags if _LABEL.match(tag) and tag != MEASUREMENT)
    whole = [tag for tag in tags if all(record.tags.get(tag) for record in records)]
    varied = sorted(whole, key=lambda tag: len({record.tags[tag] for record in records}), reverse=True)
    labels = distinguishing([record.tags for record in records], varied)
    ordered = tuple(tag for tag in whole if tag in labels)
    return Sighting(tuple(values), tuple(ignored), ordered, ((MEASUREMENT, name),) if several else (), family=name)
