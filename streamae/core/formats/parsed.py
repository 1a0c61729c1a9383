"""A payload as a JSON document, or `Drop.MALFORMED`: no parser's error leaves a format.

Devices write some documents that are none: with a byte order mark or in UTF-16, with NUL behind them (C's strings),
with NaN and Infinity as C or Python spell them. These are read as what they mean.
"""

import codecs
import json
import re
from typing import Any

from streamae.core.formats.spec import Loads
from streamae.core.types import Drop

__all__ = ["parsed", "parsed_or_text", "text_of"]

_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_EDGES = " \t\r\n\0\ufeff"
_NOT_FINITE = re.compile(r"([:,\[]\s*+)([-+]?)(nan|inf|infinity)(?=\s*+[,\]}])", re.IGNORECASE)


def parsed(payload: bytes, loads: Loads) -> Any:
    """Return a payload as a JSON document, MALFORMED where it is none."""
    try:
        return loads(payload)
    except (ValueError, RecursionError):  # ValueError: not JSON, not UTF-8, or a number too long
        return _nearly(payload)


def _nearly(payload: bytes) -> Any:
    """Return what is JSON but for its ends or its numbers that are not finite."""
    try:
        text = _decoded(payload).strip(_EDGES)
        return json.loads(text if _NOT_FINITE.search(text) is None else _NOT_FINITE.sub(_said, text))
    except (ValueError, RecursionError):
        return Drop.MALFORMED


def _said(found: re.Match[str]) -> str:
    return found[1] + ("NaN" if found[3][:1] in "nN" else "Infinity")


def _decoded(payload: bytes) -> str:
    return payload.decode("utf-16" if payload.startswith(_UTF16) else "utf-8")


def text_of(payload: bytes) -> str:
    """Return a payload as text: UTF-8, UTF-16 with its mark, else Latin-1, which any bytes are."""
    try:
        return _decoded(payload)
    except UnicodeDecodeError:
        return payload.decode("latin-1")


def parsed_or_text(payload: bytes, loads: Loads) -> Any:
    """Return a payload as a JSON document, or as the text that it is; MALFORMED where it begins as JSON does."""
    found = parsed(payload, loads)
    return text_of(payload).strip() if found is Drop.MALFORMED and payload[:1] not in b"{[" else found
