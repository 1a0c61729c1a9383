"""Who may hold a connection, and for how long: deadlines, and who gives way where there are too many.

A client may be slow by accident or on purpose. Whoever is waited for (the rest of a request, or that an answer is
taken) is given so many seconds; and where all places are taken, the one that has been waited for longest gives way to
the one that comes, so that a probe always gets in. Where many places belong to one address, its own give way first.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from streamae.pacing import Rests

__all__ = ["ConnectionLimits", "WebConnection", "close_overdue"]

Phase = Literal["works", "request", "body", "answer"]


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """How many connections there may be, and how long a client may keep the server waiting."""

    connections_max: int = 256
    request_s: float = 10.0
    """For a request's first line and headers, and between two requests of a connection."""
    body_s: float = 10.0
    """For the body of a request."""
    answer_s: float = 30.0
    """For taking an answer; of a stream of events, for taking what is there."""
    unsent_max_bytes: int = 32 << 20
    """Of answers that nobody takes, all together."""


class WebConnection(H11Protocol):
    """One connection; `limits` and `rests` are those of its server, whose thread rests after what connections cost."""

    def __init__(self, limits: ConnectionLimits, rests: Rests, **given: Any) -> None:
        super().__init__(**given)
        self.limits, self._rests = limits, rests
        self._seen: tuple[Phase, object] = ("request", None)
        self._since_s = self.loop.time()

    def connection_made(self, transport: Any) -> None:
        """Take the connection in, and let another give way for it where there are too many."""
        super().connection_made(transport)
        self._rests.rest()
        _make_room(self, self.limits.connections_max)

    def data_received(self, data: bytes) -> None:
        """Take bytes in, and see whether something else is waited for now."""
        super().data_received(data)
        self._rests.rest()
        self.waits_since_s(self.loop.time())

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP, and end; a request that is being answered has lost its client by it."""
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete:
            cycle.disconnected = True
            cycle.message_event.set()
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            super().send_400_response(msg)
        else:
            self.transport.close()

    @property
    def phase(self) -> Phase:
        """What is being waited for: the client's request, its body, that it takes the answer; or for us (`works`)."""
        if self.unsent_bytes:
            return "answer"
        if self.cycle is None or self.cycle.response_complete:
            return "request"
        return "body" if self.cycle.more_body else "works"

    @property
    def unsent_bytes(self) -> int:
        """Bytes of answers that the system has not taken yet."""
        return int(self.transport.get_write_buffer_size())

    @property
    def closing(self) -> bool:
        """Whether it has been closed already."""
        return bool(self.transport.is_closing()) and not self.unsent_bytes

    def waits_since_s(self, now_s: float) -> float:
        """Return since when (the loop's clock) the client has been waited for, as far as that has been looked at."""
        phase, request = self.phase, self.cycle
        if self._seen[0] != phase or self._seen[1] is not request:
            self._seen, self._since_s = (phase, request), now_s
        return self._since_s

    def give_up(self) -> None:
        """Close it at once; what is unsent is thrown away."""
        self.transport.abort()


def close_overdue(connections: Iterable[Any], now_s: float) -> None:
    """Close every connection whose client lets the server wait for too long; to be called about once a second."""
    unsent: list[tuple[float, WebConnection]] = []
    for one in _open(connections):
        since_s, phase, limits = one.waits_since_s(now_s), one.phase, one.limits
        patience_s = {"request": limits.request_s, "body": limits.body_s, "answer": limits.answer_s}.get(phase)
        if patience_s is not None and now_s - since_s > patience_s:
            one.give_up()
        elif phase == "answer":
            unsent.append((since_s, one))
    unsent.sort(key=lambda pair: pair[0], reverse=True)
    total = sum(one.unsent_bytes for _, one in unsent)
    while len(unsent) > 1 and total > unsent[0][1].limits.unsent_max_bytes:
        one = unsent.pop()[1]
        total -= one.unsent_bytes
        one.give_up()


def _make_room(new: WebConnection, connections_max: int) -> None:
    """Let the client that has been waited for longest give way; of an address with many, one of its own."""
    others = [one for one in _open(new.connections) if one is not new]
    if len(others) < connections_max:
        return
    now_s = new.loop.time()
    waiting = [one for one in others if one.phase != "works"]
    held = Counter(_address(one) for one in waiting)
    if waiting:
        min(waiting, key=lambda one: (-held[_address(one)], one.waits_since_s(now_s))).give_up()
    else:
        new.give_up()


def _address(connection: WebConnection) -> str:
    return connection.client[0] if connection.client else ""


def _open(connections: Iterable[Any]) -> list[WebConnection]:
    return [one for one in list(connections) if isinstance(one, WebConnection) and not one.closing]
