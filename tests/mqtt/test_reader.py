"""The bulk reader against its oracle, stock paho reading the same bytes. The source's contract runs over both, too."""

import logging
import socket
import time
from collections.abc import Callable, Iterator

import paho.mqtt.client as paho
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from streamae.mqtt.reader import BulkClient, best_client, rehearse, split_publishes

VERSIONS = {4: MQTTProtocolVersion.MQTTv311, 5: MQTTProtocolVersion.MQTTv5}
Message = tuple[bytes, bytes, int, int]


def varint(value: int) -> bytes:
    out = bytearray()
    while True:
        value, digit = value >> 7, value & 127
        out.append(digit | (128 if value else 0))
        if not value:
            return bytes(out)


def publish(version: int, message: Message, properties: Properties | None = None) -> bytes:
    """The frame of a PUBLISH, written down from the standard."""
    topic, payload, flags, mid = message
    body = len(topic).to_bytes(2, "big") + topic + (mid.to_bytes(2, "big") if flags & 2 else b"")
    if version == 5:
        body += properties.pack() if properties is not None else b"\0"
    body += payload
    return bytes([0x30 | flags]) + varint(len(body)) + body


def connack(version: int) -> bytes:
    return b"\x20\x03\0\0\0" if version == 5 else b"\x20\x02\0\0"


PINGRESP = b"\xd0\0"


class Wire:
    """A client of one kind on one end of a socket pair; what it delivers, in order, and the log of its callbacks."""

    def __init__(self, kind: type[paho.Client], version: int) -> None:
        self.client = kind(CallbackAPIVersion.VERSION2, protocol=VERSIONS[version], manual_ack=True)
        ours, self.broker = socket.socketpair()
        for one in (ours, self.broker):
            one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        ours.setblocking(False)
        self.client._sock = ours
        self.client.on_socket_register_write = lambda *_: None
        self.got: list[object] = []
        self.chunks = 0
        self.client.on_connect = lambda *_: self.got.append("connected")
        self.client.on_disconnect = lambda *_: self.got.append("disconnected")
        self.client.on_subscribe = lambda _c, _u, mid, *_: self.got.append(("suback", mid))
        self.client.on_message = self.take
        if isinstance(self.client, BulkClient):
            self.client.deliver_bulk = self.take_many

    def take(self, _c: object, _u: object, message: paho.MQTTMessage) -> None:
        flags = 8 * message.dup + 2 * bool(message.qos) + message.retain
        self.got.append((message._topic, bytes(message.payload), flags, message.mid))

    def take_many(self, *columns: object) -> None:
        self.chunks += 1
        self.got += zip(*columns, strict=True)

    def feed(self, *parts: bytes) -> int:
        """Write each part and let the client read all of it; return the last code."""
        rc = MQTTErrorCode.MQTT_ERR_SUCCESS
        for part in parts:
            self.broker.sendall(part)
            for _ in range(2 * len(part) + 2):  # stock paho reads one packet a call
                if self.client.socket() is None:
                    return rc
                try:
                    if not self.client.socket().recv(1, socket.MSG_PEEK):
                        break
                except BlockingIOError:
                    break
                rc = self.client.loop_read()
        return rc

    def close(self) -> None:
        self.broker.close()
        if self.client.socket() is not None:
            self.client.socket().close()


@pytest.fixture
def make_wire() -> Iterator[Callable[..., Wire]]:
    made: list[Wire] = []

    def make(kind: type[paho.Client], version: int) -> Wire:
        made.append(Wire(kind, version))
        return made[-1]

    yield make
    for wire in made:
        wire.close()


def many_properties() -> Properties:
    properties = Properties(PacketTypes.PUBLISH)
    properties.MessageExpiryInterval = 7
    properties.ContentType = "text/plain"
    properties.UserProperty = [("k", "v" * 150)]  # longer than 127 bytes: a length of two bytes
    return properties


def conversation(version: int) -> tuple[bytes, list[object]]:
    """Frames of every kind that a subscriber gets, and what must come of them."""
    messages: list[Message] = [
        (b"t/a", b"1", 0, 0),
        (b"t/a", b"", 2, 1),
        (b"t/b", b"x" * 200, 10, 65535),
        ("größe/ü".encode(), bytes(range(256)), 1, 0),
        (b"t", b"{}", 3, 258),
    ]
    frames = [publish(version, m) for m in messages]
    frames += [publish(version, messages[0], many_properties()), publish(version, messages[2], many_properties())]
    suback = b"\x90\x04\x00\x05\x00\x01" if version == 5 else b"\x90\x03\x00\x05\x01"
    stream = connack(version) + frames[0] + frames[1] + PINGRESP + suback + b"".join(frames[2:5]) + PINGRESP
    expected: list[object] = ["connected", *messages[:2], ("suback", 5), *messages[2:]]
    if version == 5:
        return stream + frames[5] + frames[6], [*expected, messages[0], messages[2]]
    return stream, expected


@pytest.mark.parametrize("version", [4, 5])
@pytest.mark.parametrize("kind", [paho.Client, BulkClient])
def test_frames_split_at_every_byte(make_wire: Callable[..., Wire], kind: type[paho.Client], version: int) -> None:
    """Wherever a conversation is cut in two, and byte by byte, every frame means the same, in the same order."""
    stream, expected = conversation(version)
    for cut in range(1, len(stream)):
        wire = make_wire(kind, version)
        assert wire.feed(stream[:cut], stream[cut:]) == 0
        assert wire.got == expected, f"cut at {cut}"
        wire.close()
    wire = make_wire(kind, version)
    assert wire.feed(*(stream[i : i + 1] for i in range(len(stream)))) == 0
    assert wire.got == expected


@pytest.mark.parametrize("version", [4, 5])
def test_a_run_is_one_delivery(make_wire: Callable[..., Wire], version: int) -> None:
    """Ordinary frames that were read together are delivered together; the negative control reads them one by one."""
    messages = [(b"t/%d" % i, b"%d" % i, 2 * (i % 2), i if i % 2 else 0) for i in range(500)]
    stream = connack(version) + b"".join(publish(version, m) for m in messages)
    bulk, stock = make_wire(BulkClient, version), make_wire(paho.Client, version)
    assert bulk.feed(stream) == stock.feed(stream) == 0
    assert bulk.got == stock.got == ["connected", *messages]
    assert bulk.chunks == 1


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_splitting_is_what_paho_reads(data: st.DataObject) -> None:
    """Any run of frames, whole or mutilated, is split as far as, and into what, stock paho reads from it."""
    version = data.draw(st.sampled_from([4, 5]))
    five = version == 5
    message = st.tuples(
        st.binary(min_size=1, max_size=20),
        st.binary(max_size=200),
        st.sampled_from([0, 1, 2, 3, 8, 10, 11]),
        st.integers(1, 65535),
    ).map(lambda m: m if m[2] & 2 else (*m[:3], 0))
    wanted = data.draw(st.lists(message, max_size=8))
    flavours = [data.draw(st.booleans()) for _ in wanted]
    frames = [publish(version, m, many_properties() if f else None) for m, f in zip(wanted, flavours, strict=True)]
    before, after = data.draw(st.binary(max_size=3)), data.draw(st.sampled_from([b"", PINGRESP, b"\x34\x05\0\x01a\0"]))
    stream = before + b"".join(frames) + after
    at, *columns = split_publishes(stream, len(before), five)
    assert list(zip(*columns, strict=True)) == wanted
    assert at == len(stream) - len(after)
    cut = data.draw(st.integers(len(before), len(stream)))
    ends = [len(before) + sum(map(len, frames[: i + 1])) for i in range(len(frames))]
    at, *columns = split_publishes(stream[:cut], len(before), five)
    whole = sum(end <= cut for end in ends)
    assert list(zip(*columns, strict=True)) == wanted[:whole]
    assert at == (ends[whole - 1] if whole else len(before))


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=60), st.sampled_from([4, 5]))
def test_garbage_ends_as_with_stock_paho(rest: bytes, version: int) -> None:
    """Any bytes mean the same to both; in MQTT 5 the bulk client does not look into properties that paho refuses."""
    first: Message = (b"t/a", b"1", 0, 0)
    heard = []
    for kind in (paho.Client, BulkClient):
        wire = Wire(kind, version)
        try:
            wire.feed(connack(version) + publish(version, first) + b"\x32" + rest)
        except Exception as error:  # what stock paho raises on garbage is its own affair
            wire.got.append(type(error))
        finally:
            wire.close()
        heard.append(wire.got)
    stock, bulk = heard
    assert bulk[:2] == stock[:2] == ["connected", first]
    if version == 4:
        assert bulk == stock
    else:
        messages = [m for m in stock if isinstance(m, tuple)]
        assert [m for m in bulk if isinstance(m, tuple)][: len(messages)] == messages


def test_malformed_publish_is_paho_s_to_refuse(make_wire: Callable[..., Wire]) -> None:
    """A topic longer than its frame, an empty topic in 3.1.1 or a fifth length byte ends the connection."""
    for rest in (b"\x30\x05\x00\x09abc", b"\x30\x03\x00\x00x", b"\x30\xff\xff\xff\xff\xff\x01"):
        for kind in (paho.Client, BulkClient):
            wire = make_wire(kind, 4)
            assert wire.feed(connack(4) + rest) == MQTTErrorCode.MQTT_ERR_PROTOCOL
            assert wire.got == ["connected", "disconnected"]


@pytest.mark.parametrize("version", [4, 5])
@pytest.mark.parametrize("kind", [paho.Client, BulkClient])
def test_large_packets_are_put_together(make_wire: Callable[..., Wire], kind: type[paho.Client], version: int) -> None:
    """A packet far larger than one read arrives whole, with its neighbours, and nothing of it is kept."""
    big: Message = (b"t/big", bytes(range(256)) * 20_000, 2, 9)  # 5 MB
    small: Message = (b"t/a", b"1", 0, 0)
    stream = connack(version) + publish(version, small) + publish(version, big) + publish(version, small)
    wire = make_wire(kind, version)
    assert wire.feed(*(stream[i : i + 100_000] for i in range(0, len(stream), 100_000))) == 0
    assert wire.got == ["connected", small, big, small]
    assert not getattr(wire.client, "_held", b"")


def test_acknowledgements_are_one_write(make_wire: Callable[..., Wire]) -> None:
    """All acknowledgements of a batch leave in one packet of the socket, in order."""
    wire = make_wire(BulkClient, 5)
    wire.feed(connack(5))
    wire.client.ack_many(range(1, 2001))
    assert len(wire.client._out_packet) == 1
    assert wire.client.loop_write() == 0
    sent = wire.broker.recv(100_000)
    assert sent == b"".join(b"\x40\x02" + mid.to_bytes(2, "big") for mid in range(1, 2001))


def test_end_of_file_delivers_what_came_first(make_wire: Callable[..., Wire]) -> None:
    """What was read before the line broke is delivered before its end is reported."""
    wire = make_wire(BulkClient, 5)
    wire.broker.sendall(connack(5) + publish(5, (b"t/a", b"1", 0, 0)))
    wire.broker.close()
    assert wire.client.loop_read() == MQTTErrorCode.MQTT_ERR_CONN_LOST
    assert wire.got == ["connected", (b"t/a", b"1", 0, 0), "disconnected"]


@pytest.mark.parametrize("kind", [paho.Client, BulkClient])
def test_reading_feeds_the_keepalive(make_wire: Callable[..., Wire], kind: type[paho.Client]) -> None:
    """Bytes that arrive are a sign of life, and a line without any is asked by a PINGREQ, and then given up."""
    wire = make_wire(kind, 5)
    wire.client._keepalive = 60
    wire.feed(connack(5))
    wire.client._last_bytes_received = 0.0
    wire.feed(publish(5, (b"t/a", b"1", 0, 0)))
    assert time.monotonic() - wire.client._last_bytes_received < 60
    wire.client._last_bytes_received = time.monotonic() - 61
    assert wire.client.loop_misc() == 0
    wire.client.loop_write()
    assert wire.broker.recv(10) == b"\xc0\x00"
    wire.client._ping_t = time.monotonic() - 61
    wire.client._last_bytes_received = time.monotonic() - 61
    assert wire.client.loop_misc() != 0
    assert wire.got[-1] == "disconnected"


@pytest.mark.parametrize("kind", [paho.Client, BulkClient])
def test_a_reconnected_client_begins_with_an_empty_hand(
    make_wire: Callable[..., Wire], kind: type[paho.Client]
) -> None:
    """Half a frame of the line before is not put in front of what the next one brings."""
    wire = make_wire(kind, 5)
    first, second = (b"t/a", b"1", 0, 0), (b"t/b", b"2", 2, 7)
    wire.feed(connack(5) + publish(5, first) + publish(5, second)[:-1])
    wire.broker.close()
    wire.client.loop_read()
    listener = socket.create_server(("127.0.0.1", 0))
    wire.client._host, wire.client._port = listener.getsockname()
    wire.client.reconnect()
    wire.broker, _ = listener.accept()
    listener.close()
    wire.client.loop_write()
    wire.feed(connack(5) + publish(5, second))
    assert wire.got == ["connected", first, "disconnected", "connected", second]


class Renamed(BulkClient):
    """As if a new paho had another name for its reader."""

    _packet_read = property(lambda self: (_ for _ in ()).throw(AttributeError("_packet_read")))


class Restructured(BulkClient):
    """As if a new paho read from elsewhere: nothing that is handed on reaches it."""

    def _packet_read(self) -> MQTTErrorCode:
        self._handed = b""
        return MQTTErrorCode.MQTT_ERR_SUCCESS


class Deaf(BulkClient):
    """As if acknowledgements went nowhere."""

    def _packet_queue(self, *_: object, **__: object) -> MQTTErrorCode:
        return MQTTErrorCode.MQTT_ERR_SUCCESS


@pytest.mark.parametrize("kind", [Renamed, Restructured, Deaf])
def test_a_paho_that_does_not_fit_is_read_in_the_stock_way(
    kind: type[BulkClient], caplog: pytest.LogCaptureFixture
) -> None:
    """Where the rehearsal fails, stock paho is used, and the log says why; where it succeeds, nothing is said."""
    with caplog.at_level(logging.WARNING, "streamae.mqtt"):
        assert best_client(kind) is paho.Client
    assert "does not fit this paho-mqtt" in caplog.text
    caplog.clear()
    assert rehearse() == ""
    assert best_client() is BulkClient
    assert not caplog.text
