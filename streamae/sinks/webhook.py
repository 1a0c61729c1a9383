"""The webhook sink: `POST {"version": 1, "alerts": [...]}`, always that shape, one transition or many.

A receiver that has seen an alert's `key` before has seen the transition; `Idempotency-Key` says the same of a request
as a whole: it is the key of the one transition, or a hash over the keys of all.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Literal

from streamae.core.report import Transition
from streamae.core.setting import Setting
from streamae.sinks.http import Endpoint, HttpSettings
from streamae.sinks.payload import VERSION, batch_key, document, encode
from streamae.sinks.spec import GatheredSettings, Installation, SinkSpec

__all__ = ["SINK", "WebhookOptions", "WebhookSink"]


@dataclass(frozen=True, kw_only=True)
class WebhookOptions(GatheredSettings, HttpSettings):
    """Alerts as JSON in a POST."""

    type: Literal["webhook"]
    """Kind of sink."""
    name: Annotated[str, Setting(form="name")] = "webhook"
    """What the outbox and the metrics call it; no two sinks may share one."""


class WebhookSink:
    """Posts to `url` with `headers`; ConfigError for an address that is none."""

    refresh_s = None

    def __init__(
        self,
        url: str,
        headers: Mapping[str, str] | None = None,
        *,
        name: str = "webhook",
        timeout_s: float = 10.0,
        batch_max: int = 100,
        ca_file: str | None = None,
        page: str = "",
    ) -> None:
        self.name = name
        self.batch_max = batch_max
        self._page = page
        self._endpoint = Endpoint(url, headers or {}, timeout_s, ca_file)

    def send(self, transitions: Sequence[Transition]) -> None:
        """Post them in one request."""
        self._post(transitions)

    def rehearse(self, test: Transition) -> None:
        """Build the request."""
        self._endpoint.rehearse(*_request([test], self._page))

    def try_out(self, test: Transition) -> str:
        """Post the test and its end in one request, so that a receiver that keeps alerts keeps none."""
        return self._post([test, replace(test, sequence=test.sequence + 1, state="resolved")])

    def _post(self, transitions: Sequence[Transition]) -> str:
        return self._endpoint.post(*_request(transitions, self._page))

    def close(self) -> None:
        """Do nothing: each request has a connection of its own."""


def _request(transitions: Sequence[Transition], page: str) -> tuple[bytes, dict[str, str]]:
    body = encode({"version": VERSION, "alerts": [document(transition, page) for transition in transitions]})
    return body, {"Content-Type": "application/json", "Idempotency-Key": batch_key(transitions)}


def _made(settings: WebhookOptions, installation: Installation) -> WebhookSink:
    return WebhookSink(
        settings.url,
        settings.headers,
        name=settings.name,
        timeout_s=settings.timeout_s,
        ca_file=settings.ca_file,
        page=installation.page,
    )


SINK = SinkSpec(WebhookOptions, _made)
