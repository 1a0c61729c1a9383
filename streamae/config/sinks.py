"""The `sinks:` block: where alerts go."""

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Discriminator, Field, model_validator
from pydantic_core import PydanticCustomError

from streamae.config.base import Name, Section, no_plain_credentials, placeholders
from streamae.config.units import Duration, FilePath, HiddenText, Text

__all__ = ["AlertmanagerSink", "LogSink", "MqttSink", "Sink", "WebhookSink"]


_FIELDS = ("instance", "group", "stream", "rule", "severity", "state", "id", "label_")


def _publishable(text: str) -> str:
    if "+" in text or "#" in text:
        raise ValueError("name one topic to publish on, without the wildcards + and #")
    return text


class _Reminded(Section):
    renotify_s: Annotated[Duration, Field(ge=60)] | None = Field(default=None, alias="renotify")
    """Interval in which an alert that still fires is sent again, unless acknowledged or silenced. Without it, never."""


class LogSink(_Reminded):
    """Alerts as lines of the program's own log."""

    type: Literal["log"]
    """Kind of sink."""
    name: Name = "log"
    """What the outbox and the metrics call it; no two sinks may share one."""


class MqttSink(_Reminded):
    """Alerts as messages on the same broker: the state, retained, and each event."""

    type: Literal["mqtt"]
    """Kind of sink."""
    name: Name = "mqtt"
    """What the outbox and the metrics call it; no two sinks may share one."""
    topic: Annotated[Text, AfterValidator(placeholders(_FIELDS)), AfterValidator(_publishable)] = (
        "streamae/{instance}/alerts/{group}/{stream}"
    )
    """Topic of a stream's state; events go to the same with /event behind it."""
    timeout_s: Duration = Field(default=10.0, alias="timeout", gt=0, le=300)
    """Longest wait for the broker's acknowledgement."""


class _HttpSink(Section):
    url: HiddenText
    """Where to POST; may be file:, credential: or ${VARIABLE} where the address itself is a secret."""
    headers: dict[Text, HiddenText] = Field(default={})
    """Further headers; Authorization and other secrets only as file:, credential: or ${VARIABLE}."""
    timeout_s: Duration = Field(default=10.0, alias="timeout", gt=0, le=300)
    """Longest wait for an answer."""
    ca: FilePath | None = None
    """File with the certificate authorities to trust, PEM. Without it, those of the system."""

    @model_validator(mode="before")
    @classmethod
    def _no_plain_credentials(cls, value: Any) -> Any:
        return no_plain_credentials(value)

    @model_validator(mode="after")
    def _is_http(self) -> Self:
        if not self.url.get_secret_value().startswith(("http://", "https://")):
            raise PydanticCustomError("url", "write a url that starts with http:// or https://")
        return self


class WebhookSink(_Reminded, _HttpSink):
    """Alerts as JSON in a POST."""

    type: Literal["webhook"]
    """Kind of sink."""
    name: Name = "webhook"
    """What the outbox and the metrics call it; no two sinks may share one."""


class AlertmanagerSink(_HttpSink):
    """Alerts pushed to an Alertmanager, API v2; rules in Prometheus are the recommended way."""

    type: Literal["alertmanager"]
    """Kind of sink."""
    name: Name = "alertmanager"
    """What the outbox and the metrics call it; no two sinks may share one."""
    refresh_s: Duration = Field(default=60.0, alias="refresh", ge=1, le=3600)
    """Interval in which what still fires is sent again; Alertmanager forgets it otherwise."""


Sink = Annotated[LogSink | MqttSink | WebhookSink | AlertmanagerSink, Discriminator("type")]
