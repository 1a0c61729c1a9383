"""Receive for years: one network thread of our own that connects, subscribes, delivers and acknowledges.

Theory of operation. Every connection gets a new paho client, so nothing of an old one can leak into it; paho's
threads are not used. `epoch` counts the connections whose CONNACK said yes. Only the network thread touches the
client: `acknowledge` puts packet ids in a queue with their epoch and wakes it, and ids of another epoch than the
current one are thrown away there, because on a new session they would acknowledge, and so lose, other messages.

`deliver` is called in the network thread, must only enqueue, and must never raise. Whatever paho itself raises on a
malformed packet ends that connection and not the thread. After a loss the thread backs off with jitter: up to 4 s in
the first minute, so that a broker's restart heals within 5 s, and up to 30 s after that.

Every wait is bounded: TCP, TLS, CONNACK and SUBACK by `connect_timeout_s`, a half-open connection by the keepalive.
A denied subscription is asked for again every 4 s, for an administrator may be granting it right now.

Two processes with one client id would take the session from each other for ever. MQTT 5 has a reason code for that,
which not every broker sends (mosquitto 2.0 does not), and 3.1.1 has none. So a session with a `status_topic` signs a
retained topic, `streamae/owner/<client id>`, when it connects first. Coming back and finding another's signature
there, it knows that it was taken over in between; what is written there meanwhile is not believed (ownership.py). Once
it signs again, for what a killed process of ours had sent may be read late by a busy broker; a rival that lives takes
over again, and then it ends: who was started last goes on.
"""

import logging
import secrets
import socket
import threading
from collections import deque
from collections.abc import Callable, Sequence

from streamae.condition import Condition
from streamae.failure import HANDSHAKE_LATE
from streamae.mqtt.connection import Connection
from streamae.mqtt.options import ClientMaker, ConnectionOptions, tls_context
from streamae.mqtt.ownership import OwnTopics
from streamae.mqtt.reader import best_client
from streamae.mqtt.session_options import SessionOptions
from streamae.mqtt.state import Deliver, Ledger, SessionState, Subscription

__all__ = ["Session"]

# As `failure_of` says it: types, and constants of OpenSSL.
_NO_TLS_THERE = ("ConnectionResetError", "SSLEOFError", "WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", HANDSHAKE_LATE)
_NOTHING_SAID = ("ConnectionResetError", "closed before CONNACK", "connection lost", "no CONNACK")
_log = logging.getLogger("streamae.mqtt")


class Session:
    """A subscriber that heals by itself. `start`, then `acknowledge` what was committed, then `close`.

    `subscriptions` are made on every connect; `stale` filters, which a former configuration may have left in the
    broker's session, are given up. `status_topic` gets a retained "online", and "offline" by will or by `close`.
    The network thread rests for `rest_s` after each read that brought something, where it reads in bulk.
    `expect_session` says that a former process left a session behind, so that its absence at the first CONNACK counts.

    :raises ConfigError: from the constructor, when a TLS file cannot be used.
    """

    def __init__(
        self,
        connection: ConnectionOptions,
        subscriptions: Sequence[Subscription],
        deliver: Deliver,
        *,
        monotonic: Callable[[], float],
        jitter: Callable[[], float],
        status_topic: str | None = None,
        stale: Sequence[str] = (),
        expect_session: bool = False,
        client_kind: ClientMaker | None = None,
        beat: Callable[[float], object] = lambda busy_s: None,
        rest_s: float = 0.002,
    ) -> None:
        self.connection = connection
        self._ledger = Ledger()
        self._jitter = jitter
        self._waker, wakened = socket.socketpair()
        self._waker.setblocking(False)
        wakened.setblocking(False)
        plain_id = connection.client_name.replace("+", "_").replace("#", "_")
        self._terms = SessionOptions(
            connection=connection,
            subscriptions=tuple(subscriptions),
            deliver=deliver,
            monotonic=monotonic,
            status_topic=status_topic,
            stale=tuple(stale),
            expect_session=expect_session,
            client_kind=client_kind or best_client(),
            tls=tls_context(connection.tls) if connection.tls else None,
            own_topics=OwnTopics(
                status_topic,
                f"streamae/owner/{plain_id}",
                secrets.token_hex(8).encode(),
                self._ledger,
                connection.address,
                monotonic,
            ),
            ledger=self._ledger,
            condition=Condition(
                "broker", connection.address, f"nothing comes from broker {connection.address}", monotonic, _log
            ),
            acks=deque(),
            wakened=wakened,
            stopping=threading.Event(),
            beat=beat,
            rest_s=rest_s,
        )
        self._protocol = "5" if connection.protocol == "auto" else connection.protocol
        self._thread = threading.Thread(target=self._run, name="streamae-mqtt", daemon=True)

    @property
    def state(self) -> SessionState:
        """How it is going; may be read from any thread."""
        return self._ledger.state

    def start(self) -> None:
        """Start the network thread; the state says how it goes."""
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether the network thread runs."""
        return self._thread.is_alive()

    def acknowledge(self, epoch: int, mids: Sequence[int]) -> None:
        """Send PUBACK for `mids`, in this order, if `epoch` is still the current connection."""
        if mids:
            self._terms.acks.append((epoch, mids))
            self._wake()

    def close(self, timeout_s: float = 5.0) -> bool:
        """Send what is queued, say "offline", disconnect; return whether the thread ended within `timeout_s`."""
        self._terms.stopping.set()
        self._wake()
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
        ended = not self._thread.is_alive()
        if ended:
            self._waker.close()
            self._terms.wakened.close()
        return ended

    def _wake(self) -> None:
        try:
            self._waker.send(b"\0")
        except OSError:
            return  # full: it is awake already; closed: it has ended

    # The thread: connections, one after another.

    def _run(self) -> None:
        down_since_s = self._terms.monotonic()
        delay_s = 0.5
        while not self._terms.stopping.is_set() and not self.state.fatal:
            connects = self.state.connects
            reason = Connection(self._terms, self._protocol).live()
            if self.connection.protocol == "auto" and not self.state.connects:
                self._try_other_protocol(reason)
            if self.state.connects == connects:
                reason += self._about_tls(reason)
            self._ledger.note(connected=False, subscribed=False)
            if self._terms.stopping.is_set():
                return
            if self.state.connects > connects:
                down_since_s, delay_s = self._terms.monotonic(), 0.5
            self._ledger.note(error=reason, failures=self.state.failures + 1)
            if self.state.fatal:
                _log.error("%s", self.state.fatal)
            else:
                self._terms.condition.failed(reason)
            long_down = self._terms.monotonic() - down_since_s > 60
            delay_s = min(delay_s * 2, 30.0 if long_down else 4.0)
            self._terms.beat(delay_s)
            self._terms.stopping.wait(delay_s * (0.5 + 0.5 * self._jitter()))

    def _about_tls(self, reason: str) -> str:
        """Return what to look at where a broker hung up before it spoke: so it ends where one side alone speaks TLS."""
        port = self.connection.port
        if self.connection.tls is not None and any(said in reason for said in _NO_TLS_THERE):
            return f"; mqtt.tls is set: does the broker speak TLS on port {port}?"
        if self.connection.tls is None and reason.startswith(_NOTHING_SAID):
            return f"; if the broker speaks TLS on port {port}, set mqtt.tls"
        return ""

    def _try_other_protocol(self, reason: str) -> None:
        """Before the first CONNACK of this process, let 5 and 3.1.1 take turns where a broker does not answer 5.

        An old broker refuses in the words of 3.1.1, hangs up, or says nothing. A session that once was MQTT 5 is never
        downgraded, for then a mere network fault would do it.
        """
        silent = ("refused: Unsupported protocol", "closed before CONNACK", "no CONNACK", "cannot make sense")
        if self._protocol == "3.1.1":
            self._protocol = "5"
        elif reason.startswith(silent):
            self._protocol = "3.1.1"
