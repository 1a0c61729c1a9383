"""Known formats, by what topics and payloads look like: the part of `sniff` that needs no guessing.

Each format recognises its own topics (`core.formats`); here what it says of the topics of one machine is put together.
"""

from collections.abc import Mapping, Sequence

from streamae.core.formats import FORMATS
from streamae.core.formats.spec import Sighting
from streamae.tools.sniff.shapes import Shape

__all__ = ["known_format", "put_together"]


def known_format(topic: str, payloads: Sequence[bytes]) -> tuple[str, Sighting | str] | None:
    """Return the name of a topic's format and what it says of it, or None where no format recognises the topic."""
    for name, form in FORMATS.items():
        found = form.recognise(topic, payloads)
        if found is not None:
            return name, found
    return None


def put_together(kind: str, seen: Mapping[str, Sighting]) -> Shape | str:
    """Return the shape of a place from what was seen on its topics, or why it has none."""
    values = dict.fromkeys(name for one in seen.values() for name in one.values)
    if not values:
        samples = [one.nothing for one in seen.values() if one.samples]
        return (samples or [one.nothing for one in seen.values()])[-1]
    first = next(iter(seen.values()))
    ignored = dict.fromkeys(name for one in seen.values() for name in one.ignored)
    ordered = tuple(values) if len(seen) == 1 else tuple(sorted(values))
    return Shape(
        kind, ordered, ignored=tuple(ignored), labels=first.labels, where=first.where, name=first.name,
        family=first.family,
    )  # fmt: skip
