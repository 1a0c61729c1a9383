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
there, it knows that it was taken over in between, and ends: the process that was started last goes on.
"""

import logging
import secrets
import select
import socket
import ssl
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import paho.mqtt.client as paho
from paho.mqtt.subscribeoptions import SubscribeOptions

from streamae.mqtt.connection import ClientMaker, Connection, make_client, tls_context

__all__ = ["Deliver", "Session", "SessionState", "Subscription"]

_DROPPED_TOPIC = "$SYS/broker/publish/messages/dropped"
_TAKEN_OVER = 0x8E
_UNSUPPORTED_PROTOCOL = 0x84
_RETRY_DENIED_S = 4.0
_TICK_S = 0.5
_log = logging.getLogger("streamae.mqtt")


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
    `broker_dropped` is $SYS/broker/publish/messages/dropped, where the broker says it.
    """

    epoch: int = 0
    connected: bool = False
    subscribed: bool = False
    protocol: str = ""
    session_present: bool = False
    sessions_lost: int = 0
    connects: int = 0
    failures: int = 0
    denied: tuple[str, ...] = ()
    error: str = ""
    fatal: str = ""
    broker_dropped: int | None = None


class Session:
    """A subscriber that heals by itself. `start`, then `acknowledge` what was committed, then `close`.

    `subscriptions` are made on every connect; `stale` filters, which a former configuration may have left in the
    broker's session, are given up. `status_topic` gets a retained "online", and "offline" by will or by `close`.
    `expect_session` says that a former process left a session behind, so that its absence at the first CONNACK counts.

    :raises ConfigError: from the constructor, when a TLS file cannot be used.
    """

    def __init__(
        self,
        connection: Connection,
        subscriptions: Sequence[Subscription],
        deliver: Deliver,
        *,
        monotonic: Callable[[], float],
        jitter: Callable[[], float],
        status_topic: str | None = None,
        stale: Sequence[str] = (),
        expect_session: bool = False,
        client_kind: ClientMaker | None = None,
    ) -> None:
        self.connection = connection
        self.state = SessionState()
        self._subscriptions = tuple(subscriptions)
        self._deliver = deliver
        self._monotonic = monotonic
        self._jitter = jitter
        self._status_topic = status_topic
        self._stale = tuple(stale)
        self._expect_session = expect_session
        self._client_kind = client_kind or paho.Client
        self._tls: ssl.SSLContext | None = tls_context(connection.tls) if connection.tls else None
        self._protocol = "5" if connection.protocol == "auto" else connection.protocol
        self._signature = secrets.token_hex(8).encode()
        plain_id = connection.client_id.replace("+", "_").replace("#", "_")
        self._owner_topic = f"streamae/owner/{plain_id}" if status_topic else ""
        self._ours = {_DROPPED_TOPIC.encode(), self._owner_topic.encode()}  # not for `deliver`
        self._acks: deque[tuple[int, Sequence[int]]] = deque()
        self._stopping = threading.Event()
        self._waker, self._wakened = socket.socketpair()
        self._waker.setblocking(False)
        self._wakened.setblocking(False)
        self._thread = threading.Thread(target=self._run, name="streamae-mqtt", daemon=True)
        # Of the current connection, touched by the network thread only:
        self._asked: dict[int, tuple[Subscription, ...]] = {}
        self._deadline_s: float | None = None
        self._ask_again_s: float | None = None

    def start(self) -> None:
        """Start the network thread; the state tells how it goes."""
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether the network thread runs."""
        return self._thread.is_alive()

    def acknowledge(self, epoch: int, mids: Sequence[int]) -> None:
        """Send PUBACK for `mids`, in this order, if `epoch` is still the current connection."""
        if mids:
            self._acks.append((epoch, mids))
            self._wake()

    def close(self, timeout_s: float = 5.0) -> bool:
        """Send what is queued, say "offline", disconnect; return whether the thread ended within `timeout_s`."""
        self._stopping.set()
        self._wake()
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
        ended = not self._thread.is_alive()
        if ended:
            self._waker.close()
            self._wakened.close()
        return ended

    def _wake(self) -> None:
        try:
            self._waker.send(b"\0")
        except OSError:
            return  # full: it is awake already; closed: it has ended

    def _note(self, **changes: Any) -> None:
        self.state = replace(self.state, **changes)

    # The thread: connections, one after another.

    def _run(self) -> None:
        down_since_s = self._monotonic()
        delay_s = 0.5
        while not self._stopping.is_set() and not self.state.fatal:
            connects = self.state.connects
            reason = self._live()
            self._note(connected=False, subscribed=False)
            if self._stopping.is_set():
                return
            if self.state.connects > connects:
                down_since_s, delay_s = self._monotonic(), 0.5
            self._note(error=reason, failures=self.state.failures + 1)
            _log.warning("broker %s: %s", self.connection.address, self.state.fatal or reason)
            long_down = self._monotonic() - down_since_s > 60
            delay_s = min(delay_s * 2, 30.0 if long_down else 4.0)
            self._stopping.wait(delay_s * (0.5 + 0.5 * self._jitter()))

    def _live(self) -> str:
        """Make one connection and serve it until it ends; return why it ended."""
        client = self._make()
        try:
            client.reconnect()
            self._deadline_s = self._monotonic() + self.connection.connect_timeout_s
            self._ask_again_s = None
            reason = self._serve(client)
        except (OSError, ValueError) as error:  # TCP, TLS, name resolution, WebSocket handshake
            reason = f"{error or type(error).__name__}"
        except Exception as error:  # the thread's boundary: paho raises anything on a malformed packet
            _log.exception("broker %s: connection given up", self.connection.address)
            reason = f"cannot make sense of the broker: {type(error).__name__}: {error}"
        if client.socket() is not None:
            self._drop(client)
        if self.connection.protocol == "auto" and not self.state.connects:
            self._try_other_protocol(reason)
        return reason

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

    def _make(self) -> paho.Client:
        client = make_client(
            self.connection, protocol=self._protocol, tls=self._tls, manual_ack=True, kind=self._client_kind
        )
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_subscribe = self._on_subscribe
        client.on_message = self._on_message
        client.on_socket_register_write = lambda *_: None  # we look at want_write() ourselves
        if self._status_topic:
            client.will_set(self._status_topic, "offline", qos=1, retain=True)
        self._asked = {}
        self._end = ""
        if hasattr(client, "deliver_bulk"):
            client.deliver_bulk = self._sort
        return client

    @staticmethod
    def _drop(client: paho.Client) -> None:
        # Not a DISCONNECT: that would cancel the will and, on a broken line, wait for nothing.
        sock = client.socket()
        client.on_disconnect = None
        if sock is not None:
            try:
                sock.close()
            except OSError:
                return

    def _serve(self, client: paho.Client) -> str:
        saying_goodbye = False
        while True:
            sock = client.socket()
            if sock is None:
                return self._end or "connection lost"
            writers = [sock] if client.want_write() else []
            readable, writable, _ = select.select([sock, self._wakened], writers, [], _TICK_S)
            if self._wakened in readable:
                self._wakened.recv(4096)
                self._send_acks(client)
            rc = self._read(client, sock) if sock in readable else 0
            if not rc and client.socket() is not None and (writable or client.want_write()):
                rc = client.loop_write()
            rc = rc or client.loop_misc()
            if rc or client.socket() is None:
                return self._end or (paho.error_string(rc) if rc else "connection lost")
            if self.state.fatal:
                return self.state.fatal
            if self._stopping.is_set():
                if saying_goodbye or not self.state.connected:
                    return "closed"
                saying_goodbye = self._say_goodbye(client)
            if overdue := self._check_deadlines(client):
                return overdue

    @staticmethod
    def _read(client: paho.Client, sock: Any) -> int:
        """Read until nothing is buffered above the socket, where select() would not see it."""
        before: tuple[int, int] | None = None
        while True:
            rc = client.loop_read()
            if rc or client.socket() is None:
                return int(rc)
            # paho's WebSocket keeps what it has of a frame to itself, and its pending() does not speak of it; where
            # that stands still, the rest of the frame is yet to come.
            frame = (len(getattr(sock, "_readbuffer", b"")), getattr(sock, "_payload_head", 0))
            moving = frame[0] > 0 and frame != before
            before = frame
            if not moving and not (hasattr(sock, "pending") and sock.pending()):
                return 0

    def _send_acks(self, client: paho.Client) -> None:
        while self._acks:
            epoch, mids = self._acks.popleft()
            if epoch != self.state.epoch or not self.state.connected:
                continue
            ack_many = getattr(client, "ack_many", None)
            if ack_many is not None:
                ack_many(mids)
                continue
            for mid in mids:
                client.ack(mid, 1)

    def _say_goodbye(self, client: paho.Client) -> bool:
        self._send_acks(client)
        if self._status_topic:
            client.publish(self._status_topic, "offline", qos=0, retain=True)
        client.disconnect()
        client.loop_write()
        return True

    def _check_deadlines(self, client: paho.Client) -> str:
        now_s = self._monotonic()
        if self._deadline_s is not None and now_s > self._deadline_s:
            return "no SUBACK in time" if self.state.connected else "no CONNACK in time"
        if self._ask_again_s is not None and now_s > self._ask_again_s:
            self._ask_again_s = None
            self._subscribe(client, tuple(s for s in self._subscriptions if s.filter in self._denied_filters()))
        return ""

    def _denied_filters(self) -> set[str]:
        return {line.rsplit(": ", 1)[0] for line in self.state.denied}

    # Callbacks of paho, in the network thread.

    def _on_connect(self, client: paho.Client, _u: object, flags: Any, reason: Any, properties: Any) -> None:
        if reason.is_failure:
            self._end = f"refused: {reason}; check mqtt.username, mqtt.password and the broker's access rules"
            if reason.value == _UNSUPPORTED_PROTOCOL:
                self._end = f"refused: {reason}; set mqtt.protocol to auto or 3.1.1"
            return
        present = bool(flags.session_present)
        expected = self.state.connects > 0 or self._expect_session
        lost = expected and not present and self.connection.session_expiry_s > 0
        self._note(
            epoch=self.state.epoch + 1,
            connected=True,
            subscribed=not self._subscriptions,
            protocol=self._protocol,
            session_present=present,
            sessions_lost=self.state.sessions_lost + lost,
            connects=self.state.connects + 1,
            denied=(),
            error="",
        )
        if self._protocol == "3.1.1" and self.connection.protocol == "auto":
            note = "QoS 1 is limited to the broker's own in-flight window (mosquitto: 20) per commit and round trip"
            _log.warning("broker %s does not speak MQTT 5, going on with 3.1.1: %s", self.connection.address, note)
        if lost:
            _log.warning("broker %s lost our session: what it had queued for us is lost", self.connection.address)
        self._deadline_s = None
        if self._status_topic:
            client.publish(self._status_topic, "online", qos=1, retain=True)
            if self.state.connects == 1 or not present:  # a session that is lost was not taken over
                client.publish(self._owner_topic, self._signature, qos=1, retain=True)
            client.subscribe(self._owner_topic, 0)
        if self._stale and present:
            client.unsubscribe(list(self._stale))
        self._subscribe(client, self._subscriptions)
        client.subscribe(_DROPPED_TOPIC, 0)  # best effort: only mosquitto and its like have it

    def _subscribe(self, client: paho.Client, wanted: tuple[Subscription, ...]) -> None:
        if not wanted:
            return
        five = self._protocol == "5"
        asked: list[Any] = []
        for one in wanted:
            handling = (
                SubscribeOptions.RETAIN_SEND_ON_SUBSCRIBE if one.retained else SubscribeOptions.RETAIN_DO_NOT_SEND
            )
            options = SubscribeOptions(qos=one.qos, retainHandling=handling) if five else one.qos
            asked.append((one.filter, options))
        _, mid = client.subscribe(asked)
        if mid is not None:
            self._asked[mid] = wanted
            self._deadline_s = self._monotonic() + self.connection.connect_timeout_s

    def _on_subscribe(self, _c: paho.Client, _u: object, mid: int, reasons: Sequence[Any], _p: object) -> None:
        asked = self._asked.pop(mid, ())
        if not asked:
            return
        self._deadline_s = None
        denied = tuple(
            f"{one.filter}: {reason}" for one, reason in zip(asked, reasons, strict=False) if reason.is_failure
        )
        error = f"subscription denied: {'; '.join(denied)}; give this user the right to read it" if denied else ""
        if denied:
            self._ask_again_s = self._monotonic() + _RETRY_DENIED_S
            if denied != self.state.denied:
                _log.error("broker %s: %s", self.connection.address, error)
        self._note(subscribed=not denied, denied=denied, error=error)

    def _on_disconnect(self, _c: paho.Client, _u: object, flags: Any, reason: Any, _p: object) -> None:
        if flags.is_disconnect_packet_from_server:
            self._end = self._end or f"disconnected by the broker: {reason}"
            if reason.value == _TAKEN_OVER:
                self._taken_over()
        elif not self.state.connected:
            self._end = self._end or f"closed before CONNACK: {reason}"
        else:
            self._end = self._end or f"connection lost: {reason}"

    def _on_message(self, _c: paho.Client, _u: object, message: paho.MQTTMessage) -> None:
        try:
            topic = message.topic.encode()
        except UnicodeDecodeError:
            topic = message._topic  # not UTF-8, against the standard: the raw bytes are what we want anyway
        flags = (8 if message.dup else 0) | (2 if message.qos else 0) | (1 if message.retain else 0)
        self._sort((topic,), (bytes(message.payload),), (flags,), (message.mid,))

    def _sort(
        self, topics: Sequence[bytes], payloads: Sequence[bytes], flags: Sequence[int], mids: Sequence[int]
    ) -> None:
        """Keep the messages that are for the session itself, deliver the others."""
        if self._ours.isdisjoint(topics):
            self._deliver(self.state.epoch, topics, payloads, flags, mids)
            return
        for topic, payload, flag, mid in zip(topics, payloads, flags, mids, strict=True):
            if topic not in self._ours:
                self._deliver(self.state.epoch, (topic,), (payload,), (flag,), (mid,))
            elif topic == self._owner_topic.encode():
                self._check_owner(payload)
            elif payload.isdigit():
                self._note(broker_dropped=int(payload))

    def _check_owner(self, signature: bytes) -> None:
        # At our first connect the retained signature may be that of our own last run.
        if signature != self._signature and self.state.connects > 1:
            self._taken_over()

    def _taken_over(self) -> None:
        advice = "another process uses this client id; stop it, or give each its own mqtt.client_id"
        self._note(fatal=f"broker {self.connection.address}: session taken over: {advice}")
