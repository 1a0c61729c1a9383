"""What the API is asked: the parameters of each question, their bounds in their types, and the reading of them.

A value that does not fit is refused by its name, with what it is and what is allowed; that sentence is made from the
same schema as `openapi.json`.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import BeforeValidator, Field, TypeAdapter, ValidationError
from pydantic.json_schema import GenerateJsonSchema

from streamae.web.alert_answers import AlertStates, SilenceStates
from streamae.web.answers import meaning

__all__ = [
    "Action", "AlertsAsked", "Digits", "Limit", "Number", "PageAsked", "ParameterError", "PastAsked", "Reader",
    "Schema", "SilencesAsked", "StreamAsked",
]  # fmt: skip

_SHOWN_MAX = 60
_TIME_MAX_S = 1e11


class Schema(GenerateJsonSchema):
    """JSON Schema without the titles that pydantic makes up, and with `StatusAnswer` called Status."""

    def normalize_name(self, name: str) -> str:
        """Return the name of a component."""
        return super().normalize_name(name).removesuffix("Answer")

    def field_title_should_be_set(self, schema: Any) -> bool:
        """Return False: the name of a property says as much."""
        return False


def _whole(text: Any) -> int:
    """Read plain digits, as a URL has them: no sign, no space, no underscore, no other script."""
    if not isinstance(text, str) or not (text.isascii() and text.isdigit()):
        raise ValueError("not digits")
    return int(text)


def _real(text: Any) -> float:
    return float(text)


Digits = BeforeValidator(_whole)
Limit = Annotated[int, Field(ge=1, le=1000, description="How many to give at most"), Digits]
Time = Annotated[float, Field(gt=-_TIME_MAX_S, lt=_TIME_MAX_S, allow_inf_nan=False), BeforeValidator(_real)]
Number = Annotated[int, Field(ge=0, le=999_999_999, description="Number of the silence"), Digits]
Action = Annotated[
    Literal["acknowledge", "false-alarm", "real", "withdraw-feedback"],
    meaning(
        "What to say of the alert: a `real` one teaches its stream's threshold nothing; `withdraw-feedback` takes back "
        "what was said"
    ),
]
_Group = Annotated[str, meaning("Group of the stream")]
_Stream = Annotated[str, meaning("Name of the stream")]


@dataclass(frozen=True, slots=True)
class PageAsked:
    """How much of a list."""

    limit: Limit = 100


@dataclass(frozen=True, slots=True)
class AlertsAsked:
    """Which alerts."""

    state: Annotated[AlertStates | None, meaning("Only these")] = None
    limit: Limit = 100


@dataclass(frozen=True, slots=True)
class SilencesAsked:
    """Which silences."""

    state: Annotated[SilenceStates | None, meaning("Only these")] = None
    limit: Limit = 100


@dataclass(frozen=True, slots=True)
class StreamAsked:
    """Which stream, and how much of it."""

    group: _Group
    stream: _Stream
    rows: Annotated[int, Field(ge=1, le=2048, description="How many of the last rows and scores"), Digits] = 512


@dataclass(frozen=True, slots=True)
class PastAsked:
    """Which stream, and when."""

    group: _Group
    stream: _Stream
    from_s: Annotated[Time, meaning("Begin of the span, event time, seconds since 1970")]
    until_s: Annotated[Time, meaning("End of the span; a year after from_s at most")]
    points: Annotated[
        int,
        Field(
            ge=10,
            le=2000,
            description="Into how many parts the span is cut where it has more than two rows for each; "
            "a part is drawn as the lowest and the highest of each line",
        ),
        Digits,
    ] = 600


class ParameterError(ValueError):
    """A value that was refused; the text says which, and what is allowed."""


T = TypeVar("T")


class Reader(Generic[T]):
    """Reads values of a type, a dictionary's by name or a single one; `strict` for JSON, whose values have types."""

    def __init__(self, kind: Any, *, strict: bool = False) -> None:
        self._adapter: TypeAdapter[T] = TypeAdapter(kind)
        self._strict = strict

    @cached_property
    def schema(self) -> Mapping[str, Any]:
        """The type as JSON Schema."""
        return self._adapter.json_schema(schema_generator=Schema)

    def read(self, given: Any, name: str = "") -> T:
        """Return what was given as the type; raises ParameterError, which calls a single value by `name`."""
        try:
            return self._adapter.validate_python(given, strict=self._strict)
        except ValidationError as error:
            faults = error.errors(include_url=False, include_context=False)
        raise ParameterError(self._explained(faults, given, name))

    def _explained(self, faults: Sequence[Mapping[str, Any]], given: Any, name: str) -> str:
        if unknown := sorted(str(fault["loc"][0]) for fault in faults if fault["type"] == "extra_forbidden"):
            return f"{unknown[0]} is not known; use {', '.join(sorted(self.schema['properties']))}"
        about, place = self.schema, faults[0]["loc"]
        if "properties" in about:
            name = str(place[0])
            about, given = about["properties"][name], given.get(name)
        if faults[0]["type"] == "missing":
            return f"{name} is missing"
        if about.get("type") == "array":
            given = faults[0]["input"]
        return f"{name} is {_allowed(about)}, not {_shown(given)}"


def _allowed(about: Mapping[str, Any]) -> str:
    """What may stand there, in words."""
    if "anyOf" in about:
        return " or ".join(_allowed(one) for one in about["anyOf"] if one.get("type") != "null")
    said = "a text"
    if "enum" in about:
        said = f"one of {', '.join(about['enum'])}"
    elif about["type"] == "integer":
        said = f"a number from {about['minimum']} to {about['maximum']}"
    elif about["type"] == "number":
        low = f"from {about['minimum']:g}" if "minimum" in about else f"above {about['exclusiveMinimum']:g}"
        said = f"a number of seconds {low} and below {about['exclusiveMaximum']:g}"
    elif about["type"] == "array":
        said = about["items"]["format"]
    elif about["type"] == "object":
        said = f"an object of at most {about['maxProperties']} texts"
    elif "maxLength" in about:
        said = f"a text of {about['maxLength']} characters at most"
    return said


def _shown(value: Any) -> str:
    """The value that was given, as Python has a text and JSON the rest, cut short."""
    text = repr(value) if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= _SHOWN_MAX else f"{text[:_SHOWN_MAX]}…"
