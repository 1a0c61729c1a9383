"""Silences over HTTP: what somebody asks for, read from JSON; every mistake named.

    {"group": "pumps", "stream": "line1/*", "rule": "*", "labels": {"line": "1"},
     "duration_s": 7200 | "ends_s": …, "starts_s": …, "created_by": "ada", "comment": "bearing is changed"}

At least one of group, stream, rule and labels must be there, so that nobody silences a plant by an empty object.
"""

import json
import math
from collections.abc import Mapping
from typing import Any

from starlette.exceptions import HTTPException

from streamae.web.view import SilenceWanted

__all__ = ["DURATION_MAX_S", "read_silence"]

DURATION_MAX_S = 366 * 86400.0
_PATTERNS = ("group", "stream", "rule")
_TEXT_MAX, _LABELS_MAX = 1000, 32
_KNOWN = {*_PATTERNS, "labels", "starts_s", "ends_s", "duration_s", "created_by", "comment"}


def read_silence(body: str, now_s: float) -> SilenceWanted:
    """Read a request's body; HTTPException 400 says which key is wrong and what to write."""
    try:
        given = json.loads(body)
        json.dumps(given, ensure_ascii=False).encode()  # an escape can be half a character, which nobody could store
    except (ValueError, RecursionError):
        raise HTTPException(400, "the body is one JSON object") from None
    if not isinstance(given, dict):
        raise HTTPException(400, "the body is one JSON object")
    if unknown := sorted(set(given) - _KNOWN):
        raise HTTPException(400, f"{unknown[0]} is not known; use {', '.join(sorted(_KNOWN))}")
    if not any(given.get(name) for name in (*_PATTERNS, "labels")):
        raise HTTPException(400, "name what to silence: group, stream, rule or labels; * is everything")
    starts_s = _time(given, "starts_s", now_s)
    if ("ends_s" in given) == ("duration_s" in given):
        raise HTTPException(400, "write either ends_s or duration_s")
    ends_s = _time(given, "ends_s", 0.0) if "ends_s" in given else starts_s + _time(given, "duration_s", 0.0)
    if ends_s <= max(starts_s, now_s) or ends_s - starts_s > DURATION_MAX_S:
        raise HTTPException(400, "a silence ends after its start and after now, and lasts a year at most")
    patterns = {name: _text(given, name) or "*" for name in _PATTERNS}
    said = {name: _text(given, name) for name in ("created_by", "comment")}
    return SilenceWanted(
        **patterns, labels=_labels(given.get("labels") or {}), starts_s=starts_s, ends_s=ends_s, **said
    )


def _text(given: Mapping[str, Any], name: str) -> str:
    value = given.get(name, "")
    if not isinstance(value, str) or len(value) > _TEXT_MAX:
        raise HTTPException(400, f"{name} is a text of {_TEXT_MAX} characters at most")
    return value


def _time(given: Mapping[str, Any], name: str, default: float) -> float:
    value = given.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e12 or math.isnan(value):
        raise HTTPException(400, f"{name} is a number of seconds")
    return float(value)


def _labels(value: Any) -> dict[str, str]:
    fits = isinstance(value, dict) and len(value) <= _LABELS_MAX
    if not fits or not all(isinstance(v, str) and len(k) + len(v) <= _TEXT_MAX for k, v in value.items()):
        raise HTTPException(400, f"labels is an object of at most {_LABELS_MAX} texts")
    return dict(value)
