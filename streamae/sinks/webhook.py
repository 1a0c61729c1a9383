"""The webhook sink: `POST {"version": 1, "alerts": [...]}`, always that shape, one transition or many.

A receiver that has seen an alert's `key` before has seen the transition; `Idempotency-Key` says the same of a request
as a whole: it is the key of the one transition, or a hash over the keys of all.
"""

from collections.abc import Mapping, Sequence

from streamae.core.report import Transition
from streamae.sinks.http import Endpoint
from streamae.sinks.payload import VERSION, batch_key, document, encode

__all__ = ["WebhookSink"]


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
    ) -> None:
        self.name = name
        self.batch_max = batch_max
        self._endpoint = Endpoint(url, headers or {}, timeout_s, ca_file)

    def send(self, transitions: Sequence[Transition]) -> None:
        """Post them in one request."""
        body = encode({"version": VERSION, "alerts": [document(transition) for transition in transitions]})
        self._endpoint.post(body, {"Content-Type": "application/json", "Idempotency-Key": batch_key(transitions)})

    def close(self) -> None:
        """Do nothing: each request has a connection of its own."""
