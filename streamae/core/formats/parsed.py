"""A payload as a JSON document, or `Drop.MALFORMED`: no parser's error leaves a format."""

from typing import Any

from streamae.core.formats.spec import Loads
from streamae.core.types import Drop

__all__ = ["parsed", "parsed_or_text"]


def parsed(payload: bytes, loads: Loads) -> Any:
    """Return a payload as a JSON document, MALFORMED where it is none."""
    try:
        return loads(payload)
    except (ValueError, RecursionError):  # ValueError: not JSON, not UTF-8, or a number too long
        return Drop.MALFORMED


def parsed_or_text(payload: bytes, loads: Loads) -> Any:
    """Return a payload as a JSON document, or as the text that it is; MALFORMED where it begins as JSON does."""
    found = parsed(payload, loads)
    return payload.decode(errors="replace").strip() if found is Drop.MALFORMED and payload[:1] not in b"{[" else found
