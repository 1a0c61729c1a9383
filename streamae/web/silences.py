"""Silences over HTTP: what somebody asks for, as JSON; every mistake is named.

    {"group": "pumps", "stream": "line1/*", "rule": "*", "labels": {"line": "1"},
     "duration_s": 7200 | "ends_s": …, "starts_s": …, "created_by": "ada", "comment": "bearing is changed"}

At least one of group, stream, rule and labels must be there, so that nobody silences a plant by an empty object.
"""

from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field
from starlette.exceptions import HTTPException
from typing_extensions import TypedDict

from streamae.web.answers import meaning
from streamae.web.view import SilenceWanted

__all__ = ["DURATION_MAX_S", "SilenceAsked", "silence_of"]

DURATION_MAX_S = 366 * 86400.0
_TEXT_MAX = 1000
_PATTERN = "* any text, ? one character, [ab] one of these; without it, everything"


def _short(labels: dict[str, str]) -> dict[str, str]:
    if any(len(name) + len(value) > _TEXT_MAX for name, value in labels.items()):
        raise ValueError("too long")
    return labels


_Text = Annotated[str, Field(max_length=_TEXT_MAX)]
_Seconds = Annotated[float, Field(ge=0, lt=1e12, allow_inf_nan=False)]
_Labels = Annotated[
    dict[str, str], Field(max_length=32), AfterValidator(_short), BeforeValidator(lambda given: given or {})
]


class SilenceAsked(TypedDict, total=False):
    """At least one of group, stream, rule and labels; and either ends_s or duration_s."""

    __pydantic_config__ = ConfigDict(extra="forbid")  # type: ignore[misc]

    group: Annotated[_Text, meaning(f"Groups to silence: {_PATTERN}")]
    stream: Annotated[_Text, meaning(f"Streams to silence: {_PATTERN}")]
    rule: Annotated[_Text, meaning(f"Rules to silence: {_PATTERN}")]
    labels: Annotated[_Labels, meaning("Labels that a stream must have")]
    starts_s: Annotated[_Seconds, meaning("When it begins, within a year; now, without it")]
    ends_s: Annotated[_Seconds, meaning("When it ends")]
    duration_s: Annotated[_Seconds, meaning("How long it lasts, in seconds; a year at most")]
    created_by: Annotated[_Text, meaning("Who asks for it")]
    comment: Annotated[_Text, meaning("Why")]


def silence_of(asked: SilenceAsked, now_s: float) -> SilenceWanted:
    """Return the silence that is asked for; HTTPException 400 says what does not fit together."""
    if not any(asked.get(name) for name in ("group", "stream", "rule", "labels")):
        raise HTTPException(400, "name what to silence: group, stream, rule or labels; * is everything")
    if ("ends_s" in asked) == ("duration_s" in asked):
        raise HTTPException(400, "write either ends_s or duration_s")
    starts_s = asked.get("starts_s", now_s)
    ends_s = asked["ends_s"] if "ends_s" in asked else starts_s + asked["duration_s"]
    if ends_s <= max(starts_s, now_s) or ends_s - starts_s > DURATION_MAX_S:
        raise HTTPException(400, "a silence ends after its start and after now, and lasts a year at most")
    if starts_s > now_s + DURATION_MAX_S:
        raise HTTPException(400, "a silence begins within a year")
    return SilenceWanted(
        group=asked.get("group") or "*",
        stream=asked.get("stream") or "*",
        rule=asked.get("rule") or "*",
        labels=asked.get("labels", {}),
        starts_s=starts_s,
        ends_s=ends_s,
        created_by=asked.get("created_by", ""),
        comment=asked.get("comment", ""),
    )
