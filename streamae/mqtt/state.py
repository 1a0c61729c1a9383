"""What is known of a session, and what its user gives it: small values that cross between the threads."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

__all__ = ["Deliver", "Ledger", "SessionState", "Subscription"]


_FRESH_KEPT = 16  # sessions that may start over between two turns of the loop


class Deliver(Protocol):
    """Called in the network thread with messages in receive order; must only enqueue, and never raise.

    `flags` is the low nibble of each PUBLISH: 8 dup, 2 QoS 1, 1 retained; `mids` are packet ids, 0 at QoS 0.
    """

    def __call__(
        self,
        epoch: int,
        topics: Sequence[bytes],
        payloads: Sequence[bytes],
        flags: Sequence[int],
        mids: Sequence[int],
    ) -> None:
        """Take these messages."""
        ...


@dataclass(frozen=True, slots=True)
class Subscription:
    """One topic filter; `retained` asks the broker for its retained messages too."""

    filter: str
    qos: int = 1
    retained: bool = False


@dataclass(frozen=True, slots=True)
class SessionState:
    """What is known of the connection: replaced as a whole, so that any thread may read it.

    `fatal` is set when going on would be wrong (the session was taken over); `error` is the last reason of not being
    connected or subscribed, empty while all is well. `connects` counts CONNACKs, `failures` attempts and connections
    that ended. `sessions_lost` counts CONNACKs without the session that we expected: what it held is lost.
    `fresh_epochs` are the newest connections that began a session: no packet id from before one comes again after it.
    `sign_again` says that our signature is to be put over the other's.
    `broker_dropped` is $SYS/broker/publish/messages/dropped, where the broker says it. `forged` counts how often a
    topic of ours was written over, by somebody else or by a late last will, and repaired.
    """

    epoch: int = 0
    connected: bool = False
    subscribed: bool = False
    protocol: str = ""
    session_present: bool = False
    sessions_lost: int = 0
    fresh_epochs: tuple[int, ...] = ()
    connects: int = 0
    failures: int = 0
    denied: tuple[str, ...] = ()
    error: str = ""
    fatal: str = ""
    sign_again: bool = False
    broker_dropped: int | None = None
    forged: int = 0

    def with_fresh(self, present: bool) -> tuple[int, ...]:
        """`fresh_epochs` after the next CONNACK, which says whether a session was present."""
        return self.fresh_epochs if present else (*self.fresh_epochs, self.epoch + 1)[-_FRESH_KEPT:]


class Ledger:
    """The current state, which survives connections; written by the network thread, read by anybody."""

    def __init__(self) -> None:
        self.state = SessionState()

    def note(self, **changes: Any) -> None:
        """Replace the state by one with these changes."""
        self.state = replace(self.state, **changes)
