"""What a source of messages promises the daemon, whatever it reads from.

`take` gives messages in receive order; `ack` is called with each batch, in the order of the takes, after the store has
committed it; `stop_intake` ends what arrives while what was taken may still be acknowledged; `close` is bounded.
"""

from dataclasses import dataclass, field
from typing import Protocol

from streamae.core.types import Batch, Drops

__all__ = ["Source", "SourceStatus"]


@dataclass(frozen=True, slots=True)
class SourceStatus:
    """How a source is doing, for metrics, /readyz and the page; counters run since `start`.

    `last_message_age_s` is None before the first message. `fresh_epochs` are the newest epochs that began a session:
    packet ids start anew there. `error` says why nothing may be coming, `fatal` that it never will. `unacknowledged`
    counts QoS 1 messages taken or waiting of the current connection; `window_limited` how often that stood at `window`,
    the limit that we gave the broker or that it has shown to have: it then waits for our commits. `fill` is how much of
    the inbox's bounds is in use, 0 to 1. `broker_dropped` is the broker's own count of messages that it dropped for any
    client since it started, None where it does not say.
    """

    connected: bool = False
    subscribed: bool = False
    last_message_age_s: float | None = None
    epoch: int = 0
    lost: Drops = field(default_factory=Drops)
    protocol: str = ""
    session_present: bool = False
    sessions_lost: int = 0
    fresh_epochs: tuple[int, ...] = ()
    connects: int = 0
    failures: int = 0
    denied: tuple[str, ...] = ()
    error: str = ""
    fatal: str = ""
    waiting: int = 0
    fill: float = 0.0
    unacknowledged: int = 0
    window_limited: int = 0
    window: int = 0
    broker_dropped: int | None = None


class Source(Protocol):
    """Where messages come from."""

    def start(self) -> None:
        """Begin; must return at once, the status tells how it goes."""
        ...

    def take(self, limit: int, timeout_s: float) -> Batch:
        """Return up to `limit` messages of one connection, or an empty batch after `timeout_s`.

        :raises UnavailableError: nothing will ever come again, and why.
        """
        ...

    def ack(self, batch: Batch) -> None:
        """Acknowledge a batch that `take` gave, once it is committed."""
        ...

    def stop_intake(self) -> None:
        """Take in nothing more."""
        ...

    def close(self, timeout_s: float = 5.0) -> None:
        """Send what is to be sent, disconnect, end threads, within `timeout_s`."""
        ...

    def status(self) -> SourceStatus:
        """Return how it is doing; may be called from any thread."""
        ...
