"""The `sources:` block of train.yaml: databases whose past is to be learnt from."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Discriminator, Field, WithJsonSchema

from streamae.config.base import Headers, Section
from streamae.config.load import load_as
from streamae.config.units import Duration, FilePath, HttpText, Secret, Text, parse_duration
from streamae.core.setting import placeholders

__all__ = ["Flux", "History", "InfluxQl", "Prometheus", "Source", "read_history", "seconds"]

_MOMENT = r"^(now|-[0-9]+(\.[0-9]+)?(ms|s|m|h|d|w)|[0-9]{4}-[0-9]{2}-[0-9]{2}.*)$"


def seconds(moment: str, now_s: float) -> float:
    """`now`, `-14d` (before now), `2026-05-01` or `2026-05-01T06:00:00Z` -> seconds since 1970; UTC by default."""
    if moment == "now":
        return now_s
    if moment.startswith("-"):
        return now_s - parse_duration(moment[1:])
    when = datetime.fromisoformat(moment)
    return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()


def _moment(value: Any) -> Any:
    try:
        seconds(value, 0.0)
    except (ValueError, AttributeError):
        raise ValueError("write now, a time before now such as -14d, or a date such as 2026-05-01T06:00:00Z") from None
    return str(value)


Moment = Annotated[str, BeforeValidator(_moment), WithJsonSchema({"type": "string", "pattern": _MOMENT})]
_Template = Annotated[Text, AfterValidator(placeholders(()))]


class _Database(Section):
    url: HttpText
    """Base address, such as http://prometheus:9090."""
    queries: Annotated[dict[_Template, Text], Field(min_length=1)]
    """Channel -> query that gives it, a series for each stream. A label in braces names the channel: {sensor}."""
    stream: _Template
    """Name of a stream, made of the labels of the answers: "{line}/{pump}"; as in streamae.yaml."""
    start: Moment = "-14d"
    """From when: a time before now, or a date."""
    end: Moment = "now"
    """Until when."""
    step_s: Duration = Field(alias="step", gt=0)
    """Period of the rows: the one that the daemon will build (align.every)."""
    token: Secret | None = None
    """Token: Bearer for Prometheus, Token for InfluxDB; file:/path, credential:name or ${VARIABLE}."""
    username: Text | None = None
    """User name, where the database wants one instead of a token."""
    password: Secret | None = None
    """Its password: file:/path, credential:name or ${VARIABLE}."""
    headers: Headers = Field(default={})
    """Further headers, such as X-Scope-OrgID; secrets only as file:, credential: or ${VARIABLE}."""
    ca: FilePath | None = None
    """File with the certificate authorities to trust, PEM. Without it, those of the system."""
    timeout_s: Duration = Field(default=60.0, alias="timeout", gt=0, le=3600)
    """Longest wait for an answer."""


class Prometheus(_Database):
    """Prometheus, VictoriaMetrics, Thanos, Mimir: expressions over `query_range`."""

    type: Literal["prometheus"]
    """Kind of source."""


class Flux(_Database):
    """InfluxDB 2: Flux, with v.timeRangeStart, v.timeRangeStop and v.windowPeriod."""

    type: Literal["influxdb"]
    """Kind of source."""
    org: Text
    """The organisation."""
    part_s: Duration = Field(default=86400.0, alias="part", gt=0)
    """Span of time of one request."""


class InfluxQl(_Database):
    """InfluxDB 1 and 3, or 2 with a mapping: InfluxQL, with $timeFilter and $interval."""

    type: Literal["influxql"]
    """Kind of source."""
    database: Text
    """The database."""
    retention_policy: Text | None = None
    """The retention policy. Without it, the database's own."""
    part_s: Duration = Field(default=86400.0, alias="part", gt=0)
    """Span of time of one request."""


Source = Annotated[Prometheus | Flux | InfluxQl, Discriminator("type")]


class History(Section):
    """What of train.yaml says where the series come from; its other keys are read elsewhere."""

    model_config = ConfigDict(extra="ignore")

    sources: tuple[Source, ...] = ()
    """Databases to fetch series from."""


def read_history(path: Path, environ: Mapping[str, str] | None = None) -> tuple[Source, ...]:
    """Return the sources of a train.yaml. Raises ConfigError with one line for each mistake."""
    if not re.search(r"^\s*[\"']?sources", path.read_text(errors="replace") if path.is_file() else "", re.MULTILINE):
        return ()
    return load_as(History, path, environ)[0].sources
