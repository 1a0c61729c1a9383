"""How a value of a payload becomes a number: the one rule of every format.

    21.5                       a number
    "21.5", 21.5 as text       the same; a decimal comma and a unit behind it where the configuration says so
    true, "on", "ON"           1, and `false` and `off` 0; further words where the configuration says so
    null, NaN, "unavailable"   the source's own word that there is no value now: it ends the hold of this value

Around text, blanks, NUL, a byte order mark and one pair of quotes are passed over. Other text is no value: it is
refused.
"""

import math
import re
import string
from collections.abc import Mapping, Sequence

from streamae.core.formats.values import FLOAT32_MAX, to_number
from streamae.core.types import Drop

__all__ = ["PLAIN_NUMBERS", "NumberRule", "check_word", "is_unit"]

_EDGES = string.whitespace + "\0\ufeff\u00a0\u202f\u2009"
_NUMBER = re.compile(r"[+-]?(?:[0-9]++\.?[0-9]*+|\.[0-9]++)(?:[eE][+-]?[0-9]++)?")
_ENDLESS = re.compile(r"[+-]?(?:inf|infinity|1\.#inf)")
_ABSENT = (
    "", "-", "--", "---", "?", "n/a", "na", "nan", "-nan", "+nan", "1.#ind", "-1.#ind", "1.#qnan", "-1.#qnan", "nil",
    "none", "null", "undefined", "unavailable", "unknown", "invalid", "error", "err", "fault", "offline",
)  # fmt: skip
_WORDS: Mapping[str, float | None] = {"on": 1.0, "off": 0.0, "true": 1.0, "false": 0.0, **dict.fromkeys(_ABSENT)}


def check_word(word: str) -> None:
    """Raise ValueError for a word that is read as a number anyway."""
    if _NUMBER.fullmatch(word.strip()) is not None:
        raise ValueError("write words only; what is a number is read as that number")


def is_unit(unit: str) -> bool:
    """Whether a unit can be distinguished from the number before it."""
    return bool(unit.strip()) and bool(set(unit) - set("0123456789.,+-eE "))


class NumberRule:
    """The rule with what the configuration adds: words and their numbers, the decimal sign, units to pass over."""

    __slots__ = ("_comma", "_units", "_words")

    def __init__(
        self, words: Mapping[str, float | None] | None = None, *, decimal: str = ".", units: Sequence[str] = ()
    ) -> None:
        self._words = {**_WORDS, **{word.strip().casefold(): _float(number) for word, number in (words or {}).items()}}
        self._comma = decimal == ","
        self._units = sorted((unit.strip() for unit in units), key=len, reverse=True)

    def number(self, value: object) -> float | Drop:
        """Return a value as a number that float32 can hold, or why it is none: UNAVAILABLE where its source says so."""
        if type(value) is float:
            return value if abs(value) <= FLOAT32_MAX else Drop.UNAVAILABLE if math.isnan(value) else Drop.NOT_FINITE
        if isinstance(value, str):
            return self._of_text(value)
        if isinstance(value, bool):
            return self._of_word("true" if value else "false")
        return Drop.UNAVAILABLE if value is None else to_number(value)

    def _of_text(self, text: str) -> float | Drop:
        if not self._comma and _NUMBER.fullmatch(text) is not None:
            return to_number(float(text))
        text = text.strip(_EDGES)
        if len(text) > 1 and text[0] == text[-1] == '"':
            text = text[1:-1].strip(_EDGES)
        if not self._comma and _NUMBER.fullmatch(text) is not None:
            return to_number(float(text))
        word = text.casefold()
        if word in self._words:
            return self._of_word(word)
        for unit in self._units:
            if text.endswith(unit):
                text = text.removesuffix(unit).rstrip(_EDGES)
                break
        if self._comma:
            text = "" if "." in text else text.replace(",", ".")
        if _NUMBER.fullmatch(text) is not None:
            return to_number(float(text))
        return Drop.NOT_A_NUMBER if _ENDLESS.fullmatch(text.casefold()) is None else Drop.NOT_FINITE

    def _of_word(self, word: str) -> float | Drop:
        number = self._words[word]
        return Drop.UNAVAILABLE if number is None else number


def _float(number: float | None) -> float | None:
    return None if number is None else float(number)


PLAIN_NUMBERS = NumberRule()
