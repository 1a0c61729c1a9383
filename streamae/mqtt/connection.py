"""One connection: from CONNECT to its end, in the network thread. See session.py for the life around it.

A connection owns one paho client and what is true of itself only: what was asked for, its deadlines, why it ended. What
outlives it goes to the `Ledger`, which the session shares with all its connections.
"""

import logging
import select
from collections.abc import Sequence
from typing import Any

import paho.mqtt.client as paho

from streamae.failure import failure_of, place_of
from streamae.mqtt.options import make_client
from streamae.mqtt.reader import BulkClient, flags_of
from streamae.mqtt.session_options import SessionOptions
from streamae.mqtt.subscribing import FLAGS, Subscribing

__all__ = ["Connection"]

_DROPPED_TOPIC = "$SYS/broker/publish/messages/dropped"
_TAKEN_OVER = 0x8E
_UNSUPPORTED_PROTOCOL = 0x84
_RETRY_DENIED_S = 4.0
_TICK_S = 0.5
_FULL_BYTES = 64 * 1024  # of one read: what keeps up with this needs no rest, and the system's buffer is no larger
_CONNECTING_S = 60.0  # name resolution, TCP and TLS may block for so long in all
_log = logging.getLogger("streamae.mqtt")


class Connection:
    """One connection over MQTT `protocol`; `live` serves it until it ends and says why."""

    def __init__(self, terms: SessionOptions, protocol: str) -> None:
        self._terms = terms
        self._ledger = terms.ledger
        self._protocol = protocol
        self._ours = {_DROPPED_TOPIC.encode(), *terms.own_topics.names}  # messages that are not for `deliver`
        self._subscribing = Subscribing(terms.subscriptions)
        self._deadline_s: float | None = None
        self._ask_again_s: float | None = None
        self._end = ""
        self._client = self._make()

    def live(self) -> str:
        """Connect and serve until the connection ends; return why it ended. Raises nothing."""
        client = self._client
        self._terms.beat(_CONNECTING_S)
        try:
            client.reconnect()
            self._expect_answer()
            reason = self._serve()
        except (OSError, ValueError) as error:  # TCP, TLS, name resolution, WebSocket handshake
            reason = failure_of(error)
        except Exception as error:  # the thread's boundary: paho raises anything on a malformed packet
            reason = f"cannot make sense of the broker: {place_of(error)}"
        self._drop()
        return reason

    def _make(self) -> paho.Client:
        terms = self._terms
        client = make_client(
            terms.connection, protocol=self._protocol, tls=terms.tls, manual_ack=True, kind=terms.client_kind
        )
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_subscribe = self._on_subscribe
        client.on_message = self._on_message
        client.on_socket_register_write = lambda *_: None  # we look at want_write() ourselves
        if self._terms.status_topic:
            client.will_set(self._terms.status_topic, "offline", qos=1, retain=True)
        if isinstance(client, BulkClient):
            client.deliver_bulk = self._sort
        return client

    def _expect_answer(self) -> None:
        self._deadline_s = self._terms.monotonic() + self._terms.connection.connect_timeout_s

    def _drop(self) -> None:
        # Not a DISCONNECT: that would cancel the will and, on a broken line, wait for nothing.
        sock = self._client.socket()
        self._client.on_disconnect = None
        if sock is not None:
            try:
                sock.close()
            except OSError:
                return

    def _serve(self) -> str:
        client = self._client
        saying_goodbye = resting = False
        while True:
            self._terms.beat(0.0)
            sock = client.socket()
            if sock is None:
                return self._end or "connection lost"
            writers = [sock] if client.want_write() else []
            # Brokers write message by message. A bulk client rests after a read, so that the next finds some together.
            readers = [self._terms.wakened] if resting else [sock, self._terms.wakened]
            readable, writable, _ = select.select(readers, writers, [], self._terms.rest_s if resting else _TICK_S)
            if self._terms.wakened in readable:
                self._terms.wakened.recv(4096)
                self._send_acks()
            due = resting or sock in readable
            rc = self._read(client, sock) if due else 0
            rests = isinstance(client, BulkClient) and 0 < client.read_bytes < _FULL_BYTES
            resting = due and rests and self._terms.rest_s > 0
            if not rc and client.socket() is not None and (writable or client.want_write()):
                rc = client.loop_write()
            rc = rc or client.loop_misc()
            if rc or client.socket() is None:
                return self._end or (paho.error_string(rc) if rc else "connection lost")
            if self._ledger.state.fatal:
                return self._ledger.state.fatal
            if self._terms.stopping.is_set():
                if saying_goodbye or not self._ledger.state.connected:
                    return "closed"
                saying_goodbye = self._say_goodbye()
            if overdue := self._check_deadlines():
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

    def _send_acks(self) -> None:
        client = self._client
        while self._terms.acks:
            epoch, mids = self._terms.acks.popleft()
            if epoch != self._ledger.state.epoch or not self._ledger.state.connected:
                continue
            if isinstance(client, BulkClient):
                client.ack_many(mids)
                continue
            for mid in mids:
                client.ack(mid, 1)

    def _say_goodbye(self) -> bool:
        client = self._client
        self._send_acks()
        self._terms.own_topics.say_offline(client)
        client.disconnect()
        client.loop_write()
        return True

    def _check_deadlines(self) -> str:
        now_s = self._terms.monotonic()
        if self._ledger.state.connected and not self._terms.stopping.is_set():
            self._terms.own_topics.repair(self._client)
        if self._deadline_s is not None and now_s > self._deadline_s:
            return "no SUBACK in time" if self._ledger.state.connected else "no CONNACK in time"
        if self._ask_again_s is not None and now_s > self._ask_again_s:
            self._ask_again_s = None
            if self._subscribing.again(self._client):
                self._expect_answer()
        return ""

    # Callbacks of paho, in the network thread.

    def _on_connect(self, _c: paho.Client, _u: object, flags: Any, reason: Any, granted: Any) -> None:
        if reason.is_failure:
            self._end = f"refused: {reason}; check mqtt.username, mqtt.password and the broker's access rules"
            if reason.value == _UNSUPPORTED_PROTOCOL:
                self._end = f"refused: {reason}; set mqtt.protocol to auto or 3.1.1"
            return
        present = bool(flags.session_present)
        expected = self._ledger.state.connects > 0 or self._terms.expect_session
        lost = expected and not present and self._terms.connection.lasting
        self._ledger.note(
            epoch=self._ledger.state.epoch + 1,
            connected=True,
            subscribed=not self._terms.subscriptions,
            protocol=self._protocol,
            session_present=present,
            sessions_lost=self._ledger.state.sessions_lost + lost,
            fresh_epochs=self._ledger.state.with_fresh(present),
            connects=self._ledger.state.connects + 1,
            denied=(),
            error="",
        )
        if self._protocol == "3.1.1" and self._terms.connection.protocol == "auto":
            note = "QoS 1 is limited to the broker's own in-flight window (mosquitto: 20) per commit and round trip"
            _log.warning(
                "broker %s does not speak MQTT 5, going on with 3.1.1: %s", self._terms.connection.address, note
            )
        if lost:
            _log.warning(
                "broker %s lost our session: what it had queued for us is lost", self._terms.connection.address
            )
        self._deadline_s = None
        if first := self._ledger.state.connects == 1:  # later ones are the end of the condition, which says so
            _log.info("broker %s: connected by MQTT %s", self._terms.connection.address, self._protocol)
        self._terms.own_topics.announce(self._client, fresh=first or not present or self._ledger.state.sign_again)
        if self._terms.stale and present:
            self._client.unsubscribe(list(self._terms.stale))
        if self._subscribing.begin(self._client, granted, five=self._protocol == "5"):
            self._expect_answer()
        if not self._terms.subscriptions:
            self._terms.condition.works()
        self._client.subscribe(_DROPPED_TOPIC, 0)  # best effort: only mosquitto and its like have it

    def _on_subscribe(self, _c: paho.Client, _u: object, mid: int, reasons: Sequence[Any], _p: object) -> None:
        if not self._subscribing.answered(mid, reasons):
            return
        self._deadline_s = None
        denied = self._subscribing.denied
        error = f"subscription denied: {'; '.join(denied)}; give this user the right to read it" if denied else ""
        if denied:
            self._ask_again_s = self._terms.monotonic() + _RETRY_DENIED_S
            self._terms.condition.failed(error)
        else:
            self._terms.condition.works()
        self._ledger.note(subscribed=not denied, denied=denied, error=error)

    def _on_disconnect(self, _c: paho.Client, _u: object, flags: Any, reason: Any, _p: object) -> None:
        if flags.is_disconnect_packet_from_server:
            self._end = self._end or f"disconnected by the broker: {reason}"
            if reason.value == _TAKEN_OVER:
                self._terms.own_topics.taken_over()
        elif not self._ledger.state.connected:
            self._end = self._end or f"closed before CONNACK: {reason}"
        else:
            self._end = self._end or f"connection lost: {reason}"

    def _on_message(self, _c: paho.Client, _u: object, message: paho.MQTTMessage) -> None:
        try:
            topic = message.topic.encode()
        except UnicodeDecodeError:
            topic = message._topic  # not UTF-8, against the standard: the raw bytes are what we want anyway
        flags = (8 if message.dup else 0) | (2 if message.qos else 0) | (1 if message.retain else 0)
        identifiers = getattr(message.properties, "SubscriptionIdentifier", ())
        self._sort((topic,), (bytes(message.payload),), (flags_of(flags, identifiers),), (message.mid,))

    def _sort(
        self, topics: Sequence[bytes], payloads: Sequence[bytes], flags: Sequence[int], mids: Sequence[int]
    ) -> None:
        """Keep the messages that are for the session itself, deliver the others; of copies of a message, one."""
        if max(flags) > FLAGS:
            (topics, payloads, flags, mids), surplus = self._subscribing.once((topics, payloads, flags, mids))
            for mid in surplus:
                self._client.ack(mid, 1)
            if not topics:
                return
        if self._ours.isdisjoint(topics):
            self._terms.deliver(self._ledger.state.epoch, topics, payloads, flags, mids)
            return
        for topic, payload, flag, mid in zip(topics, payloads, flags, mids, strict=True):
            if mid and topic in self._ours:  # a wildcard of the user's covers it, too
                self._client.ack(mid, 1)
            if topic not in self._ours:
                self._terms.deliver(self._ledger.state.epoch, (topic,), (payload,), (flag,), (mid,))
            elif topic in self._terms.own_topics.names:
                self._terms.own_topics.heard(self._client, topic, payload, retained=bool(flag & 1))
            elif payload.isdigit():
                self._ledger.note(broker_dropped=int(payload))
