"""What a session gives to each of its connections: see session.py, and connection.py for what it does with it."""

import socket
import ssl
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from streamae.condition import Condition
from streamae.mqtt.options import ClientMaker, ConnectionOptions
from streamae.mqtt.ownership import OwnTopics
from streamae.mqtt.state import Deliver, Ledger, Subscription

__all__ = ["SessionOptions"]


@dataclass(frozen=True, slots=True)
class SessionOptions:
    """What all connections of a session have in common: see `Session`. `wakened` is readable when something waits."""

    connection: ConnectionOptions
    subscriptions: tuple[Subscription, ...]
    deliver: Deliver
    monotonic: Callable[[], float]
    status_topic: str | None
    stale: tuple[str, ...]
    expect_session: bool
    client_kind: ClientMaker
    tls: ssl.SSLContext | None
    own_topics: OwnTopics
    ledger: Ledger
    condition: Condition
    acks: deque[tuple[int, Sequence[int]]]
    wakened: socket.socket
    stopping: threading.Event
    beat: Callable[[float], object]  # a sign of life, and the seconds for which the thread may now block
    rest_s: float  # between reads of a bulk client
