"""What a room says of its settings, beside their types: for who reads them from a file.

A room keeps what an operator decides in a frozen dataclass of its own, in the units that it computes with. That is the
only class of these settings: `config.block` reads the same class from YAML, with everything that it must know taken
from here. A field is annotated where its type does not say enough:

    critical_ratio: Annotated[float, Setting(key="critical", gt=1)] = 2.0
    \"\"\"Ratio of score to threshold from which an alert is critical, not a warning.\"\"\"

The text below a field is its description in the reference and in the JSON Schema.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

__all__ = ["INTERNAL", "Setting", "placeholders"]

_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """How one field stands in a file, and which values it may have."""

    key: str | None = None
    """Key in the file; by default the name of the field, without its unit."""
    ge: float | None = None
    gt: float | None = None
    le: float | None = None
    lt: float | None = None
    form: Literal["", "name", "patience", "secret", "hidden", "http_url", "headers"] = ""
    """How it is written, where the type and the unit do not say it: see `config.units`."""
    one_of: tuple[str, ...] = ()
    """The words that a text may be."""
    pattern: str | None = None
    """Regular expression of a text."""
    length_max: int | None = None
    """Of a text."""
    items_min: int | None = None
    """Of a list."""
    check: Callable[[Any], object] | None = None
    """Raises ValueError, whose text says what to write instead."""
    internal: bool = False
    """Not in the file: what the room is given by the program, or a constant that tests change."""


INTERNAL = Setting(internal=True)


def placeholders(allowed: tuple[str, ...]) -> Callable[[str], str]:
    """Return a check of a text's {placeholders}; () allows every name, one that ends in _ all that begin so."""

    def check(text: str) -> str:
        for name in _PLACEHOLDER.findall(text):
            if allowed and not any(name == one or (one[-1] == "_" and name.startswith(one)) for one in allowed):
                choice = ", ".join("{" + (one + "NAME" if one[-1] == "_" else one) + "}" for one in allowed)
                raise ValueError(f"use only {choice} in braces, not {{{name}}}")
        if "{" in _PLACEHOLDER.sub("", text) or "}" in _PLACEHOLDER.sub("", text):
            raise ValueError("close each brace that is opened, as in {line}")
        return text

    return check
