"""The quality that a payload gives its values: true, "good", 192 … What is not good is no value now."""

import re
from collections.abc import Sequence

from streamae.core.formats.values import Path, lookup
from streamae.core.types import Drop

__all__ = ["QualityRule", "check_good"]

_RANGE = re.compile(r"([0-9]{1,9})-([0-9]{1,9})")


def check_good(text: str) -> None:
    """Raise ValueError for a range that has no number in it."""
    found = _RANGE.fullmatch(text)
    if found is not None and int(found[1]) > int(found[2]):
        raise ValueError(f"write the smaller number first, as {found[2]}-{found[1]}")


class QualityRule:
    """Where a quality stands, and which are good: words, numbers, and ranges of numbers."""

    def __init__(self, path: Path, good: Sequence[str]) -> None:
        self._path = path
        self._words = {text.casefold() for text in good if _RANGE.fullmatch(text) is None}
        self._ranges = [(int(one[1]), int(one[2])) for text in good if (one := _RANGE.fullmatch(text)) is not None]

    def good(self, value: Path, entry: object, document: object) -> bool:
        """Whether a value at a path of an entry is good: by what stands beside it, in the entry, or in the document."""
        for place, path in ((entry, (*value[:-1], *self._path)), (entry, self._path), (document, self._path)):
            found = lookup(place, path)
            if found is not Drop.MISSING_VALUE:
                return self._is_good(found)
        return True

    def _is_good(self, found: object) -> bool:
        if found is None:
            return True
        if isinstance(found, bool):
            return ("true" if found else "false") in self._words
        if isinstance(found, float) and found.is_integer():
            found = int(found)
        text = str(found).strip().casefold() if isinstance(found, str | int | float) else ""
        number = int(text) if text.isascii() and text.isdigit() and len(text) < 10 else -1
        return text in self._words or any(low <= number <= high for low, high in self._ranges)
