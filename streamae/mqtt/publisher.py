"""Publish, and know that the broker has it: a bounded in-flight window, and an end that waits for every PUBACK.

The window is the only queue: `publish` blocks while it is full, so a fast writer is slowed to the broker's pace and
the memory stays bounded. A connection that breaks is made again, and what was in flight is sent again (QoS 1).
"""

import ssl
import threading
from collections.abc import Callable, Sequence
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import MQTTErrorCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from streamae.errors import UnavailableError
from streamae.failure import failure_of
from streamae.mqtt.options import PROTOCOLS, ConnectionOptions, make_client, tls_context

__all__ = ["Publisher"]

_END_S = 0.5  # for paho's thread to end; it is no longer needed, and may be connecting
_QUIET_S = 60.0  # no PUBACK for so long, with messages in flight: the broker does not take them


class Publisher:
    """A connection to publish on, from one thread; `with` opens and closes it.

    `watched(topic, payload, retained)` is called, in paho's thread, for messages of the filters in `watch`: what others
    publish there, and before MQTT 5 our own, too.

    Attributes: `sent` and `acknowledged` count messages; `refused` those that the broker answered with an error code
    (only MQTT 5 says so); `connects` counts connections.
    """

    def __init__(
        self,
        connection: ConnectionOptions,
        *,
        in_flight_max: int = 512,
        watch: Sequence[str] = (),
        watched: Callable[[str, bytes, bool], object] = lambda topic, payload, retained: None,
    ) -> None:
        self.connection = connection
        self.connects = 0
        self._watch, self._watched = tuple(watch), watched
        self.sent = 0
        self.acknowledged = 0
        self.refused = 0
        self._refusal = ""
        self._in_flight_max = in_flight_max
        self._window = threading.BoundedSemaphore(in_flight_max)
        self._changed = threading.Condition()
        self._tls: ssl.SSLContext | None = tls_context(connection.tls) if connection.tls else None
        self._client: paho.Client | None = None
        self._answer: tuple[bool, str] | None = None

    def __enter__(self) -> "Publisher":
        self.open()
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self.close(wait=error is None)

    def open(self) -> None:
        """Connect, by MQTT 5 and else, where `protocol` is "auto", by 3.1.1.

        :raises UnavailableError: the broker cannot be reached or refuses us.
        """
        protocols = ("5", "3.1.1") if self.connection.protocol == "auto" else (self.connection.protocol,)
        reasons = []
        for protocol in protocols:
            reason = self._try(protocol)
            if reason is None:
                return
            reasons.append(f"MQTT {protocol}: {reason}")
        advice = "check that the broker runs and that host, port, tls and credentials are right"
        raise UnavailableError(f"broker {self.connection.address} refuses us: {'; '.join(reasons)}; {advice}")

    def _try(self, protocol: str) -> str | None:
        client = make_client(
            self.connection, protocol=protocol, tls=self._tls, reconnect=True, in_flight_max=self._in_flight_max
        )
        client.on_connect = self._on_connect
        client.on_publish = self._on_publish
        client.on_disconnect = self._on_disconnect
        client.on_message = self._on_message
        self._answer = None
        try:
            client.reconnect()
        except Exception as error:  # of the system, of TLS, of paho: their text may hold what they were given
            return failure_of(error)
        client.loop_start()
        with self._changed:
            self._changed.wait_for(lambda: self._answer is not None, self.connection.connect_timeout_s)
        accepted, reason = self._answer or (False, "no CONNACK in time")
        if not accepted:
            client.on_disconnect = None
            _end(client)
            return reason
        self._client = client
        return None

    def _on_connect(self, client: paho.Client, _u: object, _f: object, reason: Any, _p: object) -> None:
        if not reason.is_failure:
            self.connects += 1
            if self._watch:  # each connection is a session of its own
                five = client.protocol == PROTOCOLS["5"]
                asked: Any = SubscribeOptions(qos=1, noLocal=True) if five else 1
                client.subscribe([(topic_filter, asked) for topic_filter in self._watch])
        with self._changed:
            self._answer = (not reason.is_failure, str(reason))
            self._changed.notify_all()

    def _on_disconnect(self, _c: paho.Client, _u: object, _f: object, reason: Any, _p: object) -> None:
        with self._changed:
            if self._answer is None:
                self._answer = (False, f"closed before CONNACK ({reason})")
            self._changed.notify_all()

    def _on_message(self, _c: paho.Client, _u: object, message: paho.MQTTMessage) -> None:
        try:
            topic = message.topic
        except UnicodeDecodeError:
            return  # against the standard, and so nothing that we know of
        self._watched(topic, bytes(message.payload), bool(message.retain))

    def _on_publish(self, _c: paho.Client, _u: object, _m: int, reason: Any, _p: object) -> None:
        with self._changed:
            self.acknowledged += 1
            if reason.is_failure:
                self.refused += 1
                self._refusal = str(reason)
            self._changed.notify_all()
        self._window.release()

    def publish(self, topic: str, payload: bytes | str, *, qos: int = 1, retain: bool = False) -> None:
        """Send one message as soon as the window has room.

        :raises UnavailableError: no message was acknowledged for a minute although the window is full.
        """
        client = self._client
        if client is None:
            raise UnavailableError(f"not connected to broker {self.connection.address}; call open() first")
        while not self._window.acquire(timeout=_QUIET_S):
            self._stalled()
        try:
            outcome = client.publish(topic, payload, qos, retain)
        except ValueError as error:
            self._window.release()
            raise UnavailableError(f"topic {topic!r} cannot be published on ({failure_of(error)})") from None
        if qos == 0 and outcome.rc != MQTTErrorCode.MQTT_ERR_SUCCESS:
            self._window.release()  # paho forgets a QoS 0 message that it could not send
            return
        self.sent += 1

    def flush(self, timeout_s: float = _QUIET_S) -> None:
        """Wait until the broker has acknowledged everything.

        :raises UnavailableError: it took longer than `timeout_s`, or the broker refused a message.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: self.acknowledged >= self.sent, timeout_s):
                self._stalled()
        if self.refused:
            message = f"broker {self.connection.address} refused {self.refused} messages ({self._refusal})"
            raise UnavailableError(f"{message}; give this user the right to publish on these topics")

    def _stalled(self) -> None:
        waiting = self.sent - self.acknowledged
        message = f"broker {self.connection.address} acknowledges nothing, {waiting} messages in flight"
        raise UnavailableError(f"{message}; check the broker's log and its limits")

    def close(self, *, wait: bool = True) -> None:
        """Disconnect, after `flush` where `wait` says so."""
        client, self._client = self._client, None
        if client is None:
            return
        try:
            if wait:
                self.flush()
        finally:
            _end(client)


def _end(client: paho.Client) -> None:
    """Disconnect; `loop_stop` waits for paho's thread, and that for whatever it is at, so it is left to itself."""
    client.disconnect()
    ending = threading.Thread(target=client.loop_stop, name="publisher-end", daemon=True)
    ending.start()
    ending.join(_END_S)
