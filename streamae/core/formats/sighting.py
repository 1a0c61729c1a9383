"""What `sniff` needs to call a topic's numbers by their names: the part that all formats have in common.

Names are taken from a few payloads, so rare names may be missing.
"""

import json
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from streamae.core.formats.number_rule import PLAIN_NUMBERS
from streamae.core.formats.parsed import parsed
from streamae.core.formats.spec import Loads, PayloadSpec, Record, Records, Sighting
from streamae.core.types import Drop

__all__ = ["NOT_MEASURED", "always", "document", "ever", "numbers_of", "records_in", "sighting_of"]

NOT_MEASURED = re.compile(r"^(id|_id|seq|sequence|counter|msg_?id|version|fw|firmware|uptime)$", re.IGNORECASE)
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


def sighting_of(kind: str, names: Sequence[str], beside: re.Pattern[str] | None = None) -> Sighting | str:
    """Return these numbers, without those that measure nothing: what the pattern `beside` matches, and counters."""
    ignored = [x for x in names if NOT_MEASURED.match(x) or (beside is not None and beside.fullmatch(x))]
    values = tuple(name for name in names if name not in ignored)
    return Sighting(values, tuple(ignored)) if values else f"{kind}, and no numbers that are always there"
