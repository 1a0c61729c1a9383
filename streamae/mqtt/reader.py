"""Read PUBLISH frames in bulk: paho's client, with another way from the socket to the messages.

paho asks the socket three times for each message and builds an object with a lock for it, which costs some 40 µs.
`BulkClient` reads what the socket has, up to a bound, splits runs of ordinary PUBLISH frames (QoS 0 and 1, well
formed) in one pass, and gives each run to `deliver_bulk` as columns. Every other frame, and every PUBLISH with
anything unusual about it, is handed to paho's own reader, byte for byte, through the one seam that it reads from: so
the protocol stays paho's, and so do errors. A run is delivered before the frame behind it is handed on.

This rests on some of paho's private names. `best_client` therefore plays a whole connection through the class before
it is used, and goes back to stock paho, saying so, where that does not come out right.
"""

import logging
import socket
import struct
from collections.abc import Sequence
from typing import Any, Protocol

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion

__all__ = ["BulkClient", "best_client", "flags_of", "rehearse", "split_publishes"]

_log = logging.getLogger("streamae.mqtt")
_CHUNK = 256 * 1024
_READ_MAX = 1024 * 1024  # bytes a call of loop_read, so that acknowledgements are not kept waiting
_PUBLISH_0, _PUBLISH_1 = 0x30, 0x32
_PUBACK = 0x40
_FLAGS = 0x0B  # dup, QoS 1, retained
_SUBSCRIPTION_IDENTIFIER, _USER_PROPERTY = 0x0B, 0x26
_SIZES = {0x01: 1, 0x02: 4, 0x23: 2}  # properties of a fixed size: payload format, message expiry, topic alias
_ack = struct.Struct("!BBH").pack


class DeliverBulk(Protocol):
    """Takes a run of messages as columns; see `streamae.mqtt.state.Deliver`."""

    def __call__(
        self, topics: Sequence[bytes], payloads: Sequence[bytes], flags: Sequence[int], mids: Sequence[int]
    ) -> None:
        """Take these messages."""
        ...


Run = tuple[int, list[bytes], list[bytes], list[int], list[int]]


def split_publishes(buffer: bytes, at: int, five: bool) -> Run:
    """Split the run of complete, ordinary PUBLISH frames that begins at `at`.

    Returns where the run ends, and its topics, payloads, flags and packet ids (0 at QoS 0). `five`: the frames are
    those of MQTT 5 and have properties, which are passed over but for the lowest subscription identifier: that is added
    to the flags as `flags_of` says.
    """
    topics: list[bytes] = []
    payloads: list[bytes] = []
    flags: list[int] = []
    mids: list[int] = []
    size = len(buffer)
    while at + 4 < size:  # an ordinary PUBLISH has a header of 2 bytes, and a topic of at least 1 behind 2 bytes
        first, length, body = buffer[at], buffer[at + 1], at + 2
        if length > 127:
            length, body = _long(buffer, at + 1)
        stop = body + length
        acknowledged = first & 0xF6 == _PUBLISH_1
        if stop > size or not (acknowledged or first & 0xF6 == _PUBLISH_0) or length < 3:
            break
        topic = body + 2
        begin = end = topic + (buffer[body] << 8 | buffer[body + 1])
        mid = identifier = 0
        if acknowledged:
            begin += 2
            if begin > stop:
                break
            mid = buffer[end] << 8 | buffer[end + 1]
        if five:
            if begin >= stop:
                break
            extra = buffer[begin]
            begin += 1
            if extra:
                if extra > 127:
                    extra, begin = _long(buffer[:stop], begin - 1)
                identifier = _identifier(buffer, begin, min(begin + extra, stop))
                begin += extra
        if begin > stop or end == topic:
            break
        topics.append(buffer[topic:end])
        payloads.append(buffer[begin:stop])
        flags.append(first & _FLAGS | identifier << 4)
        mids.append(mid)
        at = stop
    return at, topics, payloads, flags, mids


def _long(buffer: bytes, at: int) -> tuple[int, int]:
    """Read a variable byte integer; return it and the place behind it. One that does not end there is enormous."""
    value = shift = 0
    for i in range(at, min(at + 4, len(buffer))):
        value |= (buffer[i] & 127) << shift
        if buffer[i] < 128:
            return value, i + 1
        shift += 7
    return 1 << 32, at + 4


def flags_of(flags: int, identifiers: Sequence[int]) -> int:
    """Return the flags of a PUBLISH with the lowest of its subscription identifiers above their four bits; 0: none."""
    return flags | min(identifiers, default=0) << 4


def _identifier(buffer: bytes, at: int, stop: int) -> int:
    """Return the lowest subscription identifier among the properties of a PUBLISH, 0 where there is none."""
    lowest = 0
    while at < stop:
        kind, at = buffer[at], at + 1
        if kind == _SUBSCRIPTION_IDENTIFIER:
            value, at = _long(buffer, at)
            lowest = min(lowest or value, value)
        elif kind in _SIZES:
            at += _SIZES[kind]
        else:  # texts, each behind its length
            for _ in range(2 if kind == _USER_PROPERTY else 1):
                at += 2 + int.from_bytes(buffer[at : at + 2], "big")
    return lowest if at == stop else 0


def _frame_end(buffer: bytes, at: int) -> int:
    """Return where the frame at `at` ends; beyond the buffer, where more of it has to come to know or to read it."""
    if len(buffer) - at < 2:
        return at + 2
    length, body = _long(buffer, at + 1)
    if length == 1 << 32:  # paho refuses the fifth byte
        return at + 6
    return body + length


class BulkClient(paho.Client):
    """A paho client for one who calls `loop_read` himself; it is the stock client until `deliver_bulk` is set."""

    deliver_bulk: DeliverBulk | None = None

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._held = bytearray()
        self.read_bytes = 0  # by the last call of `loop_read`
        self._needed = 2  # bytes from which on something can be done with `_held`
        self._handed = b""  # what paho's own reader gets instead of the socket

    def reconnect(self) -> MQTTErrorCode:
        """Forget what was read of the former connection, then as in the stock client."""
        self._held.clear()
        self._needed, self._handed, self.read_bytes = 2, b"", 0
        return super().reconnect()

    def loop_read(self, max_packets: int = 1) -> MQTTErrorCode:
        """Read what is there, up to a megabyte, and act upon every frame that is complete."""
        if self.deliver_bulk is None or self._sock is None:
            return super().loop_read(max_packets)
        lost = self._fill()
        rc = self._act() if len(self._held) >= self._needed else MQTTErrorCode.MQTT_ERR_SUCCESS
        rc = rc or lost
        return self._loop_rc_handle(rc) if rc and self._sock is not None else rc

    def ack_many(self, mids: Sequence[int]) -> None:
        """Send PUBACK for all of these, in this order, in one write."""
        if mids:
            self._packet_queue(_PUBACK, b"".join(_ack(_PUBACK, 2, mid) for mid in mids), mids[-1], 1)

    def _fill(self) -> MQTTErrorCode:
        self.read_bytes = 0
        while self.read_bytes < _READ_MAX:
            try:
                chunk = super()._sock_recv(_CHUNK)
            except BlockingIOError:
                break
            except OSError as error:
                _log.debug("reading: %s", error)
                return MQTTErrorCode.MQTT_ERR_CONN_LOST
            if not chunk:
                return MQTTErrorCode.MQTT_ERR_CONN_LOST
            self._held += chunk
            self.read_bytes += len(chunk)
        if self.read_bytes:
            with self._msgtime_mutex:
                self._last_bytes_received = paho.time_func()
        return MQTTErrorCode.MQTT_ERR_SUCCESS

    def _act(self) -> MQTTErrorCode:
        """Deliver runs of PUBLISH frames, hand on the frames between them, keep what is incomplete."""
        buffer, at = bytes(self._held), 0
        five = self._protocol == MQTTProtocolVersion.MQTTv5
        while True:
            at, topics, payloads, flags, mids = split_publishes(buffer, at, five)
            if topics and self.deliver_bulk is not None:
                self.deliver_bulk(topics, payloads, flags, mids)
            end = _frame_end(buffer, at)
            if end > len(buffer):
                break
            self._handed, at = buffer[at:end], end
            rc = self._packet_read()
            if rc or self._sock is None:
                return rc
        del self._held[:at]
        self._needed = end - at
        return MQTTErrorCode.MQTT_ERR_SUCCESS

    def _sock_recv(self, bufsize: int) -> bytes:
        if not self._handed:
            return super()._sock_recv(bufsize)
        part, self._handed = self._handed[:bufsize], self._handed[bufsize:]
        return part


_PRIVATE = ("_sock", "_sock_recv", "_packet_read", "_packet_queue", "_loop_rc_handle", "_msgtime_mutex", "_protocol")
_CONNACK, _PINGRESP = b"\x20\x03\x00\x00\x00", b"\xd0\x00"
_FIRST = b"\x32\x0b\x00\x03t/a\x00\x07\x00abc"  # QoS 1, packet id 7, no properties
_SECOND = b"\x31\x0d\x00\x03t/b\x05\x02\x00\x00\x00\x09xy"  # QoS 0, retained, a property


def rehearse(kind: type[BulkClient] = BulkClient) -> str:
    """Play a connection through a client, without a network; return what went wrong, "" where nothing did."""
    ours, theirs = socket.socketpair()
    try:
        return _play(kind, ours, theirs)
    except (AttributeError, TypeError, ValueError, KeyError, OSError) as error:
        return f"{type(error).__name__}: {error}"
    finally:
        ours.close()
        theirs.close()


def _play(kind: type[BulkClient], ours: socket.socket, theirs: socket.socket) -> str:
    client = kind(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv5, manual_ack=True)
    missing = [name for name in (*_PRIVATE, "_last_bytes_received") if not hasattr(client, name)]
    if missing or not hasattr(paho, "time_func"):
        return f"paho has no {', '.join(missing) or 'time_func'}"
    connected: list[bool] = []
    got: list[tuple[bytes, bytes, int, int]] = []
    client.on_connect = lambda _c, _u, _f, reason, _p: connected.append(not reason.is_failure)
    client.deliver_bulk = lambda *columns: got.extend(zip(*columns, strict=True))
    client.on_socket_register_write = lambda *_: None
    ours.setblocking(False)
    theirs.settimeout(1.0)
    client._sock = ours
    for part in (_CONNACK + _FIRST + _PINGRESP + _SECOND[:5], _SECOND[5:]):
        theirs.sendall(part)
        rc = client.loop_read()
        if rc:
            return f"reading ends with {rc!r}"
    client.ack_many([7, 8])
    client.loop_write()
    if connected != [True] or got != [(b"t/a", b"abc", 2, 7), (b"t/b", b"xy", 1, 0)]:
        return f"CONNACK {connected}, messages {got}"
    sent = theirs.recv(100)
    return "" if sent == b"\x40\x02\x00\x07\x40\x02\x00\x08" else f"acknowledgements {sent!r}"


def best_client(kind: type[BulkClient] = BulkClient) -> type[paho.Client]:
    """Return the bulk client where it works with the paho that is installed, else the stock one, with a warning."""
    problem = rehearse(kind)
    if not problem:
        return kind
    _log.warning("the bulk reader does not fit this paho-mqtt, reading with the stock client instead: %s", problem)
    return paho.Client
