"""What a topic's JSON documents consist of: entries with their times, and in each its values, labels and quality.

An entry is one of a list of samples, or the document itself. What an entry does not say (a time, a label, a quality),
the document around it may say for all.
"""

from collections.abc import Iterator, Mapping, Sequence

from streamae.core.formats.flat import flattened
from streamae.core.formats.quality import QualityRule
from streamae.core.formats.spec import VALUES_A_POINT, Loads, PayloadSpec
from streamae.core.formats.values import Path, lookup, parse_path, to_seconds
from streamae.core.types import Drop

__all__ = ["JsonDocument"]

_MISSING = Drop.MISSING_VALUE


class JsonDocument:
    """The compiled paths of one topic's documents."""

    def __init__(self, spec: PayloadSpec, loads: Loads) -> None:
        self._spec, self._loads = spec, loads
        self._time, self._samples, self._id, quality = map(_path, (spec.time, spec.samples, spec.id, spec.quality))
        self._value = parse_path(spec.value)
        self._quality = None if quality is None else QualityRule(quality, spec.good)
        self._where = [(parse_path(path), text) for path, text in spec.where.items()]
        self._labels = {path: parse_path(path) for path in spec.labels.values()}

    def lookup(self, document: object, path: Path) -> object:
        """Follow a path, through text that is JSON itself as well; MISSING_VALUE where it leads nowhere."""
        return lookup(document, path, self._loads)

    def entries(
        self, document: object, arrival_s: float, values: int = VALUES_A_POINT
    ) -> Iterator[tuple[object, float | Drop]] | Drop:
        """Return each entry and its time, or why it has none.

        `values` are read of each entry; a Drop says that the list of samples is missing or too long for that.
        """
        if self._samples is None:
            return iter([(document, self._time_of(document, document, arrival_s))])
        found = self.lookup(document, self._samples)
        if not isinstance(found, list):
            return Drop.MISSING_VALUE
        if len(found) * values > VALUES_A_POINT * self._spec.max_points:
            return Drop.TOO_MANY_POINTS
        return self._spread(found, document, arrival_s)

    def _spread(
        self, entries: Sequence[object], document: object, arrival_s: float
    ) -> Iterator[tuple[object, float | Drop]]:
        every_s = self._spec.sample_every_s
        if every_s is None:
            for entry in entries:
                yield entry, self._time_of(entry, document, arrival_s)
            return
        start_s = self._start(document, arrival_s, len(entries), every_s)
        for i, entry in enumerate(entries):
            yield entry, start_s if isinstance(start_s, Drop) else start_s + i * every_s

    def _start(self, document: object, arrival_s: float, entries: int, every_s: float) -> float | Drop:
        """Return the time of the first of entries that have none of their own."""
        if self._time is None:
            return arrival_s - (entries - 1) * every_s
        return self._seconds(self.lookup(document, self._time), arrival_s)

    def _time_of(self, entry: object, document: object, arrival_s: float) -> float | Drop:
        return arrival_s if self._time is None else self._seconds(self._said(entry, document, self._time), arrival_s)

    def _seconds(self, found: object, arrival_s: float) -> float | Drop:
        return to_seconds(found, self._spec.time_unit, self._spec.zone, arrival_s)

    def _said(self, entry: object, document: object, path: Path) -> object:
        """Return what an entry says, else the document around it."""
        found = self.lookup(entry, path)
        return self.lookup(document, path) if found is _MISSING and entry is not document else found

    def value(self, entry: object, document: object, path: Path) -> object:
        """Return the value at a path of an entry: UNAVAILABLE where it is not good, MISSING_VALUE where it is not."""
        found = lookup(entry, path, self._loads)
        if self._quality is None or found is _MISSING or self._quality.good(path, entry, document):
            return found
        return Drop.UNAVAILABLE

    def named(self, entry: object, document: object) -> Iterator[tuple[str, object]]:
        """Yield the values of an entry with their names: what stands at `id`, without it all leaves by their path."""
        if self._id is None:
            for name, found in flattened(entry, self._loads).items():
                good = self._quality is None or self._quality.good(_steps(name), entry, document)
                yield name, found if good else Drop.UNAVAILABLE
            return
        own = as_text(self.lookup(entry, self._id))
        if own is not None:
            yield own, self.value(entry, document, self._value)

    def selected(self, entry: object, document: object) -> bool:
        """Whether an entry is one that the topic asks for."""
        return all(_equals(self._said(entry, document, path), text) for path, text in self._where)

    def tags(self, entry: object, document: object) -> Mapping[str, str]:
        """Return what the paths of labels lead to, by path, as far as it can be a label."""
        found = {path: as_text(self._said(entry, document, steps)) for path, steps in self._labels.items()}
        return {path: text for path, text in found.items() if text is not None}


def _path(text: str | None) -> Path | None:
    return None if text is None else parse_path(text)


def _steps(name: str) -> Path:
    """Return the path that a name is; the root where it is none, since a key has a quote in it."""
    try:
        return parse_path(name)
    except ValueError:
        return ()


def as_text(found: object) -> str | None:
    """Return text or a whole number as text, None for anything else."""
    if isinstance(found, bool) or not isinstance(found, str | int) or isinstance(found, Drop):
        return None
    return str(found)


def _equals(found: object, text: str) -> bool:
    if isinstance(found, bool):
        return text == ("true" if found else "false")
    return not isinstance(found, Drop) and isinstance(found, str | int | float) and str(found) == text
