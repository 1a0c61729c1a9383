"""JSON values of a model file, read key by key: each has its type, its shape and its range, or is refused by name."""

import math
from collections.abc import Iterable, Mapping
from typing import Any, NoReturn

import numpy as np

from streamae.errors import ArtifactError

__all__ = ["FieldReader"]

_SHOWN_MAX = 60


class FieldReader:
    """A mapping of JSON values of the place `where`, read key by key.

    Every refusal is an ArtifactError that names the key and what was found there.
    """

    def __init__(self, kept: Any, where: str) -> None:
        self._where = where
        if not isinstance(kept, Mapping):
            raise ArtifactError(f"{where}: got {_shown(kept)}; it must be a mapping. {_REMEDY}")
        self._kept = kept

    def has(self, key: str) -> bool:
        """Whether there is something at a key."""
        return self._kept.get(key) is not None

    def choice(self, key: str, known: tuple[str, ...]) -> str:
        """Return one of the words that are known."""
        value = self._get(key)
        if not isinstance(value, str) or value not in known:
            self.refuse(key, f"this streamae knows {' and '.join(known)}")
        return str(value)

    def number(self, key: str) -> float:
        """Return a finite number."""
        return float(self.numbers(key))

    def whole(self, key: str, *, at_least: int = 0, below: float = math.inf) -> int:
        """Return a whole number in a range."""
        return int(self.wholes(key, at_least=at_least, below=below))

    def numbers(self, key: str, *shape: int | None, above: float = -math.inf) -> Any:
        """Return finite numbers of this shape; None: of any length."""
        value = self._get(key)
        if not _are_numbers(value):
            self.refuse(key, f"it must be {_shape_text(shape)}")
        try:
            found = np.asarray(value, np.float64)
        except (ValueError, OverflowError):  # rows of different lengths, or beyond a float
            self.refuse(key, f"it must be {_shape_text(shape)}")
        fits = len(found.shape) == len(shape) and all(b in (None, a) for a, b in zip(found.shape, shape, strict=True))
        if not fits or not np.isfinite(found).all() or not (found > above).all():
            self.refuse(key, f"it must be {_shape_text(shape)}" + ("" if above == -math.inf else f" above {above:g}"))
        return found

    def wholes(self, key: str, *shape: int | None, at_least: int = 0, below: float = math.inf) -> Any:
        """Return whole numbers of this shape in a range."""
        found = self.numbers(key, *shape)
        if not ((found == np.floor(found)) & (found >= at_least) & (found < min(below, 2.0**53))).all():
            span = f"from {at_least} on" if below == math.inf else f"from {at_least} to {below - 1:g}"
            self.refuse(key, f"it must be {_shape_text(shape)}, whole and {span}")
        return found.astype(np.int64)

    def texts(self, key: str, length: int | None = None) -> tuple[str, ...]:
        """Return a list of so many names; None: of any number."""
        value = self._get(key)
        wanted = isinstance(value, list) and length in (None, len(value)) and all(isinstance(x, str) for x in value)
        if not wanted:
            self.refuse(key, "it must be a list of names" if length is None else f"it must be a list of {length} names")
        return tuple(value)

    def within(self, key: str) -> "FieldReader":
        """Return a reader of the mapping at a key."""
        return FieldReader(self._get(key), f"{self._where}.{key}".removeprefix("."))

    def _get(self, key: str) -> Any:
        if key not in self._kept:
            raise ArtifactError(f"{self._name(key)}: got nothing; {_REMEDY}")
        return self._kept[key]

    def refuse(self, key: str, wanted: str) -> NoReturn:
        """Raise for what stands at a key, which is not what is `wanted`."""
        raise ArtifactError(f"{self._name(key)}: got {_shown(self._kept[key])}; {wanted}. {_REMEDY}")

    def _name(self, key: str) -> str:
        return f"{self._where}.{key}".removeprefix(".")


_REMEDY = "The model file was changed, or written by another streamae: train the model again with `streamae train`"


def _are_numbers(value: Any) -> bool:
    if isinstance(value, list):
        return all(_are_numbers(one) for one in value)
    return isinstance(value, int | float) and not isinstance(value, bool)


def _shape_text(shape: Iterable[int | None]) -> str:
    sizes = ["" if n is None else f"{n} " for n in shape]
    words = (
        "a finite number",
        "a list of {}finite numbers",
        "{}rows of {}finite numbers",
        "{}times {}rows of {}numbers",
    )
    return words[len(sizes)].format(*sizes)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN_MAX else text[: _SHOWN_MAX - 3] + "..."
