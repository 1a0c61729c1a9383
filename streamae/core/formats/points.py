"""Points of InfluxDB's data model, in any notation: which of them `sniff` proposes, and which of their fields."""

import re
from collections.abc import Sequence

from streamae.core.formats.sighting import always
from streamae.core.formats.spec import MEASUREMENT, Record, Sighting

__all__ = ["points_sighting"]

_LABEL = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")


def points_sighting(kind: str, records: Sequence[Record]) -> Sighting | str:
    """Return the measurement that most points have: its fields, and the tags that differ among its points."""
    every = [record.tags[MEASUREMENT] for record in records]
    if not every:
        return f"{kind} without points"
    wanted = max(dict.fromkeys(every), key=every.count)
    mine = [record for record in records if record.tags[MEASUREMENT] == wanted]
    values = tuple(always(mine))
    if not values:
        return f"{kind} without numbers that are always there"
    tags = dict.fromkeys(tag for record in mine for tag in record.tags if _LABEL.match(tag) and tag != MEASUREMENT)
    labels = tuple(tag for tag in tags if len({record.tags.get(tag) for record in mine}) > 1)
    labels = tuple(tag for tag in labels if all(record.tags.get(tag) for record in mine))
    return Sighting(values, labels=labels, where=((MEASUREMENT, wanted),) if len(set(every)) > 1 else ())
