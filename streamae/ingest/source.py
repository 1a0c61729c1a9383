"""What every source of messages promises the daemon.

`take` gives messages in receive order; `ack` is called with what it gave, in the order of the takes, after the store
has committed it; `stop_intake` ends what arrives while what was taken may still be acknowledged; `close` is bounded.
"""

from dataclasses import dataclass, field, fields
from typing import Any, Protocol, Self

from streamae.core.types import Batch, Drops
from streamae.mqtt.state import SessionState

__all__ = ["Accepted", "Source", "SourceStatus"]


@dataclass(frozen=True, slots=True, eq=False)
class Accepted:
    """What a source gave in one `take`: it goes through the loop unchanged, and back to `ack` after the commit.

    `acknowledgements` are the packet ids that the broker waits for, in the order of receipt: those of the batch, and
    those of messages that were refused before it.
    """

    batch: Batch
    acknowledgements: list[int] = field(default_factory=list)

    def __len__(self) -> int:
        """Return N, the number of messages."""
        return len(self.batch)


@dataclass(frozen=True, slots=True)
class SourceStatus(SessionState):
    """How a source is doing, for metrics, /readyz and the page: its session, and what it has received since `start`.

    `last_message_age_s` is None before the first message. `unacknowledged` counts QoS 1 messages taken or waiting of
    the current connection; `window_limited` how often that stood at `window`, the limit that we gave the broker or that
    it has shown to have: it then waits for our commits. `fill` is how much of the inbox's bounds is in use, 0 to 1.
    """

    last_message_age_s: float | None = None
    lost: Drops = field(default_factory=Drops)
    waiting: int = 0
    fill: float = 0.0
    unacknowledged: int = 0
    window_limited: int = 0
    window: int = 0

    @classmethod
    def of(cls, session: SessionState, **more: Any) -> Self:
        """Return the status of a source over this session, with what the source knows in addition."""
        return cls(**({f.name: getattr(session, f.name) for f in fields(session)} | more))


class Source(Protocol):
    """Where messages come from."""

    def start(self) -> None:
        """Begin; must return at once, the status shows the progress."""
        ...

    def take(self, limit: int, timeout_s: float) -> Accepted:
        """Return up to `limit` messages of one connection, or none after `timeout_s`.

        :raises UnavailableError: nothing will ever come again, and why.
        """
        ...

    def ack(self, accepted: Accepted) -> None:
        """Acknowledge what `take` gave, once it is committed."""
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
