"""The `sinks:` block: where alerts go."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Discriminator
from pydantic_core import PydanticCustomError

from streamae.config.base import no_plain_credentials, placeholders
from streamae.config.block import Checked, block
from streamae.core.setting import INTERNAL, Setting

__all__ = ["AlertmanagerOptions", "LogSinkOptions", "MqttSinkOptions", "SinkOptions", "WebhookOptions"]


_FIELDS = ("instance", "group", "stream", "rule", "severity", "state", "id", "label_")


def _publishable(text: str) -> None:
    placeholders(_FIELDS)(text)
    if "+" in text or "#" in text:
        raise ValueError("name one topic to publish on, without the wildcards + and #")


@dataclass(frozen=True, kw_only=True)
class _Named:
    given: Annotated[frozenset[str], INTERNAL] = field(default=frozenset(), compare=False, repr=False)
    """Fields that the file has."""


@dataclass(frozen=True, kw_only=True)
class _Reminded(_Named):
    renotify_s: Annotated[float | None, Setting(ge=60)] = None
    """Interval in which an alert that still fires is sent again, unless acknowledged or silenced. Without it, never."""


@block("LogSink")
@dataclass(frozen=True, kw_only=True)
class LogSinkOptions(_Reminded):
    """Alerts as lines of the program's own log."""

    type: Literal["log"]
    """Kind of sink."""
    name: Annotated[str, Setting(form="name")] = "log"
    """What the outbox and the metrics call it; no two sinks may share one."""


@block("MqttSink")
@dataclass(frozen=True, kw_only=True)
class MqttSinkOptions(_Reminded):
    """Alerts as messages on the same broker: the state, retained, and each event."""

    type: Literal["mqtt"]
    """Kind of sink."""
    name: Annotated[str, Setting(form="name")] = "mqtt"
    """What the outbox and the metrics call it; no two sinks may share one."""
    topic: Annotated[str, Setting(check=_publishable)] = "streamae/{instance}/alerts/{group}/{stream}"
    """Topic of a stream's state; events go to the same with /event behind it."""
    timeout_s: Annotated[float, Setting(gt=0, le=300)] = 10.0
    """Longest wait for the broker's acknowledgement."""


@dataclass(frozen=True, kw_only=True)
class _Http:
    url: Annotated[str, Setting(form="hidden")] = field(repr=False)
    """Where to POST; may be file:, credential: or ${VARIABLE} where the address itself is a secret."""
    headers: Mapping[str, Annotated[str, Setting(form="hidden")]] = field(default_factory=dict, repr=False)
    """Further headers; Authorization and other secrets only as file:, credential: or ${VARIABLE}."""
    timeout_s: Annotated[float, Setting(gt=0, le=300)] = 10.0
    """Longest wait for an answer."""
    ca: Path | None = None
    """File with the certificate authorities to trust, PEM. Without it, those of the system."""


def _is_http(read: Any) -> Any:
    if not read.url.startswith(("http://", "https://")):
        raise PydanticCustomError("url", "write a url that starts with http:// or https://")
    return read


@block("WebhookSink", before=no_plain_credentials, after=_is_http)
@dataclass(frozen=True, kw_only=True)
class WebhookOptions(_Reminded, _Http):
    """Alerts as JSON in a POST."""

    type: Literal["webhook"]
    """Kind of sink."""
    name: Annotated[str, Setting(form="name")] = "webhook"
    """What the outbox and the metrics call it; no two sinks may share one."""


@block("AlertmanagerSink", before=no_plain_credentials, after=_is_http)
@dataclass(frozen=True, kw_only=True)
class AlertmanagerOptions(_Named, _Http):
    """Alerts pushed to an Alertmanager, API v2; rules in Prometheus are the recommended way."""

    type: Literal["alertmanager"]
    """Kind of sink."""
    name: Annotated[str, Setting(form="name")] = "alertmanager"
    """What the outbox and the metrics call it; no two sinks may share one."""
    refresh_s: Annotated[float, Setting(ge=1, le=3600)] = 60.0
    """Interval in which what still fires is sent again; Alertmanager forgets it otherwise."""


SinkOptions = Annotated[
    Checked[LogSinkOptions] | Checked[MqttSinkOptions] | Checked[WebhookOptions] | Checked[AlertmanagerOptions],
    Discriminator("type"),
]
