"""The MQTT source against real brokers: what it promises about order, acknowledgement, faults and bounds."""

import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from streamae.core.types import Drop
from streamae.errors import ConfigError, UnavailableError
from streamae.ingest.mqtt import MqttSource, ReceiveLimits, pauses_s
from streamae.ingest.source import Accepted
from streamae.mqtt import ConnectionOptions, Publisher, Subscription, Tls
from streamae.mqtt.reader import BulkClient
from tests.brokers import Mosquitto, free_port, tls_lines, wait_until

Maker = Callable[..., MqttSource]
CLIENT_KINDS: dict[str, object] = {"stock": paho.Client, "bulk": BulkClient}


@pytest.fixture(params=CLIENT_KINDS)
def client_kind(request: pytest.FixtureRequest) -> object:
    return CLIENT_KINDS[request.param]


@pytest.fixture
def make_source(client_kind: object) -> Iterator[Maker]:
    made: list[MqttSource] = []

    def make(
        port: int,
        *filters: str,
        limits: ReceiveLimits | None = None,
        client_id: str = "daemon",
        options: dict | None = None,
        wait: bool = True,
        **connection: object,
    ) -> MqttSource:
        described = ConnectionOptions(host="127.0.0.1", port=port, client_id=client_id)
        source = MqttSource(
            replace(described, **connection),
            [Subscription(one) for one in filters or ("t/#",)],
            limits or ReceiveLimits(batch_wait_s=0.01),
            now=time.time,
            monotonic=time.monotonic,
            jitter=random.random,
            **{"client_kind": client_kind, **(options or {})},
        )
        made.append(source)
        source.start()
        if wait:
            wait_until(lambda: source.status().subscribed, what=f"subscribed: {source.status()}")
        return source

    yield make
    for source in made:
        source.close()


@pytest.mark.parametrize("wait_s", [0.0, 0.005, 0.05, 0.2])
@pytest.mark.parametrize("qos", [0, 1])
def test_a_batch_takes_three_reads_and_leaves_time_for_the_work(wait_s, qos):
    """Also where each read is a fifteenth late."""
    rest_s, linger_s = pauses_s([Subscription("a/#", qos)], wait_s)
    assert 0 <= 2 * rest_s * 16 / 15 <= linger_s
    assert rest_s + linger_s == pytest.approx(0.95 * wait_s)


def take_all(source: MqttSource, count: int, *, ack: bool = True, timeout_s: float = 20) -> list[Accepted]:
    """Take until `count` messages came."""
    batches: list[Accepted] = []
    deadline = time.monotonic() + timeout_s
    while sum(map(len, batches)) < count:
        assert time.monotonic() < deadline, f"{sum(map(len, batches))} of {count}: {source.status()}"
        batch = source.take(4096, 0.2)
        if len(batch):
            batches.append(batch)
            if ack:
                source.ack(batch)
    return batches


def payloads(taken: list[Accepted]) -> list[bytes]:
    return [payload for one in taken for payload in one.batch.payloads]


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_messages_come_in_order_with_packet_ids(mosquitto: Mosquitto, make_source: Maker, protocol: str) -> None:
    """Every message arrives once, in the order of publication, under its own topic, with QoS 1 packet ids."""
    source = make_source(mosquitto.port, protocol=protocol)
    sent = [(f"t/{i % 3}", str(i).encode()) for i in range(3000)]
    mosquitto.publish(sent)
    batches = take_all(source, len(sent))
    assert payloads(batches) == [payload for _, payload in sent]
    assert [t for b in batches for t in b.batch.topics] == [topic.encode() for topic, _ in sent]
    assert all((b.batch.mid > 0).all() and not b.batch.dup.any() and b.batch.epoch == 1 for b in batches)
    assert source.status().protocol == protocol
    wait_until(lambda: source.status().unacknowledged == 0)


def test_qos_0_has_no_packet_id(mosquitto: Mosquitto, make_source: Maker) -> None:
    """A QoS 0 message has packet id 0, and there is nothing to acknowledge."""
    source = make_source(mosquitto.port)
    mosquitto.publish([("t/a", b"1")], qos=0)
    (batch,) = take_all(source, 1)
    assert batch.batch.mid.tolist() == [0]
    assert source.status().unacknowledged == 0


def test_unacknowledged_messages_come_again(make_mosquitto: Callable[..., Mosquitto], make_source: Maker) -> None:
    """What was taken and not acknowledged is delivered again to the next process, marked dup, with the same ids."""
    broker = make_mosquitto()
    first = make_source(broker.port)
    broker.publish([("t/a", str(i)) for i in range(100)])
    taken: list[Accepted] = []
    while (left := 60 - sum(map(len, taken))) > 0:
        taken.append(first.take(left, 5))
    rest = take_all(first, 40, ack=False)
    first.ack([batch for batch in taken if len(batch)][-1])
    assert first.status().unacknowledged == 40
    wait_until(lambda: broker.log().count("Received PUBACK") == 60)  # a broker need not read on after the end
    first.close()
    second = make_source(broker.port, options={"expect_session": True})
    again = take_all(second, 40)
    assert payloads(again) == payloads(rest)
    assert [m for b in again for m in b.batch.mid] == [m for b in rest for m in b.batch.mid]
    assert all(b.batch.dup.all() for b in again)
    assert second.status().sessions_lost == 0
    assert second.status().session_present


def test_acknowledgement_of_an_old_connection_is_not_sent(
    mosquitto: Mosquitto, make_source: Maker, make_proxy: Callable
) -> None:
    """An acknowledgement reaches only the connection its message came from: after a reconnect it comes again."""
    proxy = make_proxy(mosquitto.port)
    source = make_source(proxy.port)
    mosquitto.publish([("t/a", b"old")])
    (old,) = take_all(source, 1, ack=False)
    proxy.cut()
    wait_until(lambda: not source.status().connected)
    proxy.heal()
    wait_until(lambda: source.status().epoch == 2)
    source.ack(old)
    (again,) = take_all(source, 1, ack=False)
    assert (again.batch.payloads, again.batch.epoch, again.batch.dup.tolist()) == ([b"old"], 2, [True])
    assert "PUBACK from daemon" not in mosquitto.log()
    source.ack(again)
    wait_until(lambda: "Received PUBACK from daemon" in mosquitto.log(), what="PUBACK of the new connection")


def test_a_batch_never_spans_two_connections(mosquitto: Mosquitto, make_source: Maker, make_proxy: Callable) -> None:
    """Messages of two connections are taken in two batches, the older first."""
    proxy = make_proxy(mosquitto.port)
    source = make_source(proxy.port, session_expiry_s=0)
    mosquitto.publish([("t/a", b"1")])
    wait_until(lambda: source.status().waiting == 1)
    proxy.cut()
    wait_until(lambda: not source.status().connected)
    proxy.heal()
    wait_until(lambda: source.status().epoch == 2 and source.status().subscribed)
    mosquitto.publish([("t/a", b"2")])
    wait_until(lambda: source.status().waiting == 2)
    batches = take_all(source, 2)
    assert [(b.batch.epoch, b.batch.payloads) for b in batches] == [(1, [b"1"]), (2, [b"2"])]


@pytest.mark.parametrize("persistence", [False, True])
def test_heals_after_a_broker_restart(
    make_mosquitto: Callable[..., Mosquitto], make_source: Maker, persistence: bool
) -> None:
    """After a restart it is subscribed again; a broker that forgot the session is noticed and counted."""
    broker = make_mosquitto(persistence=persistence)
    source = make_source(broker.port)
    broker.stop()
    wait_until(lambda: not source.status().connected)
    broker.start()
    wait_until(lambda: source.status().subscribed, 15)
    broker.publish([("t/a", b"after")])
    assert payloads(take_all(source, 1)) == [b"after"]
    status = source.status()
    assert status.sessions_lost == (0 if persistence else 1)
    assert (status.connects, status.epoch, status.error) == (2, 2, "")


def test_half_open_connection_is_noticed(mosquitto: Mosquitto, make_source: Maker, make_proxy: Callable) -> None:
    """A line that swallows everything is given up after the keepalive, and healed when it passes again."""
    proxy = make_proxy(mosquitto.port)
    source = make_source(proxy.port, keepalive_s=1)
    proxy.blackhole()
    wait_until(lambda: not source.status().connected, 15, "half-open noticed")
    proxy.heal()
    wait_until(lambda: source.status().subscribed, 15)


def test_withheld_connack_is_bounded(mosquitto: Mosquitto, make_source: Maker, make_proxy: Callable) -> None:
    """A broker that accepts and says nothing is given up after the connect timeout, with the reason in the status."""
    proxy = make_proxy(mosquitto.port)
    proxy.blackhole()
    source = make_source(proxy.port, connect_timeout_s=0.5, wait=False, protocol="5")
    wait_until(lambda: "no CONNACK" in source.status().error, 10, "the reason")
    proxy.heal()
    wait_until(lambda: source.status().subscribed, 15)


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_another_process_with_our_client_id_ends_it(mosquitto: Mosquitto, make_source: Maker, protocol: str) -> None:
    """When a second process takes the session over, the first ends with an error that says so, the second goes on."""
    options = {"status_topic": "streamae/p/status"}
    first = make_source(mosquitto.port, protocol=protocol, options=options)
    second = make_source(mosquitto.port, protocol=protocol, options=options)
    wait_until(lambda: first.status().fatal or second.status().fatal)
    with pytest.raises(UnavailableError, match=r"taken over: another process uses this client id.*mqtt\.client_id"):
        first.take(10, 0)
    wait_until(lambda: second.status().subscribed, 15)
    mosquitto.publish([("t/a", b"for the second")])
    assert payloads(take_all(second, 1)) == [b"for the second"]
    assert not second.status().fatal


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_a_ghost_of_our_last_run_is_no_rival(mosquitto: Mosquitto, make_source: Maker, protocol: str) -> None:
    """A CONNECT and a signature that a killed process had sent may be read after ours: once, we come back and go on.

    The control: when it happens again, it is a rival.
    """
    source = make_source(mosquitto.port, protocol=protocol, options={"status_topic": "streamae/p/status"})

    def haunt() -> None:
        before = source.status().connects
        ghost = paho.Client(CallbackAPIVersion.VERSION2, client_id="daemon", protocol=paho.MQTTv5)
        kept = Properties(PacketTypes.CONNECT)
        kept.SessionExpiryInterval = 3600
        ghost.connect("127.0.0.1", mosquitto.port, clean_start=False, properties=kept)
        ghost.loop_start()
        ghost.publish("streamae/owner/daemon", b"another", 1, retain=True).wait_for_publish(10)
        ghost.loop_stop()
        if ghost.socket():
            ghost.socket().close()
        wait_until(lambda: source.status().fatal or (source.status().connects > before and source.status().subscribed))

    haunt()
    mosquitto.publish([("t/a", b"after the ghost")])
    assert payloads(take_all(source, 1)) == [b"after the ghost"]
    assert not source.status().fatal
    haunt()
    wait_until(lambda: source.status().fatal, what="the rival is known")


def test_our_own_last_run_is_not_another_process(
    mosquitto: Mosquitto, make_source: Maker, make_proxy: Callable
) -> None:
    """The signature of our own former run, or our own reconnect, is no take-over."""
    options = {"status_topic": "streamae/p/status"}
    make_source(mosquitto.port, options=options).close()
    proxy = make_proxy(mosquitto.port)
    source = make_source(proxy.port, options=options)
    proxy.cut()
    wait_until(lambda: not source.status().connected)
    proxy.heal()
    wait_until(lambda: source.status().epoch == 2 and source.status().subscribed)
    mosquitto.publish([("t/a", b"1")])
    assert payloads(take_all(source, 1)) == [b"1"]
    assert not source.status().fatal


def test_denied_subscription_is_an_error_until_it_is_granted(make_source: Maker) -> None:
    """A denied subscription is visible in the status, and that one is asked for again until it is granted."""
    server = socket.create_server(("127.0.0.1", 0))
    asked: list[bytes] = []

    def serve() -> None:
        connection, _ = server.accept()
        connection.recv(1000)
        connection.sendall(b"\x20\x02\x00\x00")
        while packet := connection.recv(1000):
            if b"allowed/#" in packet or b"t/#" in packet:
                asked.append(packet)
                codes = b"\x01\x80" if len(asked) == 1 else b"\x01"
                connection.sendall(b"\x90" + bytes([2 + len(codes)]) + packet[2:4] + codes)

    threading.Thread(target=serve, daemon=True).start()
    source = make_source(server.getsockname()[1], "allowed/#", "t/#", wait=False, protocol="3.1.1")
    wait_until(lambda: source.status().denied)
    assert source.status().denied[0].startswith("t/#: ")
    assert not source.status().subscribed
    assert "give this user the right" in source.status().error
    wait_until(lambda: source.status().subscribed, 15)
    assert (source.status().denied, source.status().error, source.status().connects) == ((), "", 1)
    assert b"allowed/#" not in asked[1]
    server.close()


def test_refused_credentials_are_said(make_mosquitto: Callable[..., Mosquitto], make_source: Maker) -> None:
    """A broker that refuses us leaves its reason and the remedy in the status, without the password."""
    broker = make_mosquitto(listener=["allow_anonymous false"])
    source = make_source(broker.port, wait=False, username="me", password="hunter2")
    wait_until(lambda: source.status().error)
    assert "Not authorized" in source.status().error
    assert "mqtt.password" in source.status().error
    assert "hunter2" not in repr(source.status()) + repr(ConnectionOptions(password="hunter2"))


def test_overflow_and_size_are_counted_and_acknowledged(mosquitto: Mosquitto, make_source: Maker) -> None:
    """What does not fit is counted by its reason, reported as a hole behind what fits, and acknowledged after it."""
    limits = ReceiveLimits(max_messages=10, max_payload_bytes=100, batch_wait_s=0)
    source = make_source(mosquitto.port, limits=limits)
    mosquitto.publish([("t/big", b"x" * 101), *(("t/a", str(i)) for i in range(25))])
    wait_until(lambda: source.status().waiting + sum(source.status().lost.values()) == 26)
    batch = source.take(100, 1)
    assert batch.batch.payloads == [str(i).encode() for i in range(10)]
    assert batch.batch.lost == {Drop.OVERFLOW: 15, Drop.TOO_LARGE: 1}
    source.ack(batch)
    hole = source.take(100, 0)
    assert (len(hole), hole.batch.holes) == (0, [b"t/a"])
    assert source.status().unacknowledged == 15
    source.ack(hole)
    wait_until(lambda: source.status().unacknowledged == 0)
    wait_until(lambda: mosquitto.log().count("Received PUBACK from daemon") == 26, what="26 PUBACKs")
    assert source.take(10, 0).batch.lost == {}


def test_refusals_alone_are_acknowledged_too(mosquitto: Mosquitto, make_source: Maker) -> None:
    """Messages that never reach a batch are acknowledged although nothing is committed for them."""
    source = make_source(mosquitto.port, limits=ReceiveLimits(max_payload_bytes=1))
    mosquitto.publish([("t/a", b"xx")] * 3)
    wait_until(lambda: sum(source.status().lost.values()) == 3)
    assert source.take(10, 0.05).batch.lost == {Drop.TOO_LARGE: 3}
    wait_until(lambda: mosquitto.log().count("Received PUBACK from daemon") == 3)


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_retained_messages_are_not_samples(mosquitto: Mosquitto, make_source: Maker, protocol: str) -> None:
    """A retained message is not taken as a sample unless its subscription wants it."""
    mosquitto.publish([("t/a", b"memory")], retain=True)
    source = make_source(mosquitto.port, protocol=protocol)
    mosquitto.publish([("t/a", b"live")])
    assert payloads(take_all(source, 1)) == [b"live"]
    assert source.status().lost[Drop.RETAINED] == (1 if protocol == "3.1.1" else 0)


def test_retained_messages_are_samples_where_wanted(mosquitto: Mosquitto, client_kind: object) -> None:
    """A subscription with `retained` gets the broker's memory."""
    mosquitto.publish([("t/a", b"memory")], retain=True)
    source = MqttSource(
        ConnectionOptions(host="127.0.0.1", port=mosquitto.port),
        [Subscription("t/+", retained=True)],
        ReceiveLimits(),
        now=time.time,
        monotonic=time.monotonic,
        jitter=random.random,
        client_kind=client_kind,
    )
    source.start()
    try:
        assert payloads(take_all(source, 1)) == [b"memory"]
    finally:
        source.close()


def test_receive_maximum_is_the_window(mosquitto: Mosquitto, make_source: Maker) -> None:
    """The broker stops at Receive Maximum until something is acknowledged; being limited by it is counted."""
    source = make_source(mosquitto.port, receive_maximum=50, protocol="5")
    mosquitto.publish([("t/a", str(i)) for i in range(200)])
    wait_until(lambda: source.status().waiting == 50)
    assert source.status().unacknowledged == 50
    assert payloads(take_all(source, 200)) == [str(i).encode() for i in range(200)]
    assert source.status().window_limited >= 1


def test_availability_topic(mosquitto: Mosquitto, make_source: Maker, make_proxy: Callable) -> None:
    """The status topic is retained: online on connect, offline by close, and by will when the line breaks."""
    proxy = make_proxy(mosquitto.port)
    with mosquitto.collect("streamae/+/status") as said:
        source = make_source(proxy.port, options={"status_topic": "streamae/p/status"})
        wait_until(lambda: [s[1] for s in said] == [b"online"])
        proxy.cut()
        wait_until(lambda: [s[1] for s in said] == [b"online", b"offline"], what="the will")
        proxy.heal()
        wait_until(lambda: said[-1][1] == b"online", 15)
        source.close()
        wait_until(lambda: said[-1][1] == b"offline")
    with mosquitto.collect("streamae/+/status") as said:
        wait_until(lambda: said == [("streamae/p/status", b"offline", True)])


def test_tls_checks_the_host_and_both_certificates(
    make_mosquitto: Callable[..., Mosquitto], make_source: Maker, certificates
) -> None:
    """Mutual TLS connects; a strange authority, another host's certificate and a missing client's do not."""
    mutual, wrong = free_port(), free_port()
    make_mosquitto(
        extra={mutual: tls_lines(certificates, mutual=True), wrong: tls_lines(certificates, server="wronghost")}
    )
    ca, own = str(certificates / "ca.pem"), str(certificates / "client.pem")
    good = Tls(ca=ca, cert=own, key=str(certificates / "client.key"))
    source = make_source(mutual, tls=good, host="localhost")
    with Publisher(ConnectionOptions(port=mutual, client_id="p", tls=good)) as publisher:
        publisher.publish("t/a", b"x" * 50_000)
    assert payloads(take_all(source, 1)) == [b"x" * 50_000]
    for port, tls, word in (
        (mutual, replace(good, ca=str(certificates / "stranger.pem")), "CERTIFICATE_VERIFY_FAILED"),
        (wrong, Tls(ca=ca), "mismatch"),
        (mutual, Tls(ca=ca), ""),
    ):
        refused = make_source(port, tls=tls, host="localhost", client_id="refused", wait=False)
        wait_until(lambda source=refused: source.status().error)
        assert word in refused.status().error
        assert refused.status().connects == 0
        refused.close()
    make_source(wrong, tls=Tls(ca=ca, insecure=True), client_id="insecure")


def test_tls_on_one_side_alone_is_named(
    make_mosquitto: Callable[..., Mosquitto], make_source: Maker, certificates
) -> None:
    """Both ways round; a certificate that is refused and a port where nobody listens are something else."""
    secured = free_port()
    broker = make_mosquitto(extra={secured: tls_lines(certificates)})
    ca = str(certificates / "ca.pem")
    for port, tls, word in (
        (broker.port, Tls(ca=ca), "does the broker speak TLS on port"),
        (secured, None, "set mqtt.tls"),
        (free_port(), Tls(ca=ca), ""),
        (secured, Tls(ca=str(certificates / "stranger.pem")), ""),
    ):
        refused = make_source(port, tls=tls, host="localhost", client_id="refused", wait=False)
        wait_until(lambda source=refused: source.status().error)
        assert word in refused.status().error
        assert word or "TLS" not in refused.status().error
        refused.close()


def test_missing_tls_file_is_a_config_error(client_kind: object) -> None:
    """A TLS file that is not there is named before anything is connected."""
    with pytest.raises(ConfigError, match=r"mqtt\.tls\.ca: /nowhere\.pem"):
        Publisher(ConnectionOptions(tls=Tls(ca="/nowhere.pem")))


def test_websockets(make_mosquitto: Callable[..., Mosquitto], make_source: Maker) -> None:
    """The same over WebSocket, with a payload of more than one frame."""
    port = free_port()
    broker = make_mosquitto(extra={port: ["protocol websockets", "allow_anonymous true"]})
    source = make_source(port, transport="websockets")
    sent = [("t/a", bytes([i % 256]) * (i * 37 % 20_000)) for i in range(200)]
    broker.publish(sent)
    assert payloads(take_all(source, 200)) == [payload for _, payload in sent]


def test_broker_of_3_1_1_only(make_source: Maker) -> None:
    """Where a broker refuses MQTT 5 in the words of 3.1.1, `auto` goes on with 3.1.1."""
    server = socket.create_server(("127.0.0.1", 0))
    levels: list[int] = []

    def serve() -> None:
        for _ in range(2):
            connection, _ = server.accept()
            packet = connection.recv(1000)
            levels.append(packet[packet.index(b"MQTT") + 4])
            connection.sendall(b"\x20\x02\x00\x00" if levels[-1] == 4 else b"\x20\x02\x00\x01")
            if levels[-1] == 4:
                subscribe = connection.recv(1000)
                connection.sendall(b"\x90\x03" + subscribe[2:4] + b"\x01")
                connection.sendall(b"\x30\x07\x00\x03t/\xff42")  # a topic that is not UTF-8
                time.sleep(0.5)
            connection.close()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        source = make_source(server.getsockname()[1], wait=False)
        (batch,) = take_all(source, 1)
    finally:
        server.close()
    assert levels == [5, 4]
    assert (batch.batch.topics, batch.batch.payloads) == ([b"t/\xff"], [b"42"])


def test_garbage_from_the_broker_ends_the_connection_not_the_thread(make_source: Maker) -> None:
    """Packets that make no sense end that connection; the thread lives on and tries again."""
    server = socket.create_server(("127.0.0.1", 0))
    accepted = []

    def serve() -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            accepted.append(connection)
            connection.recv(1000)
            connection.sendall(b"\x20\x03\x00\x00\x00" + b"\x32\x05\x00\xffabc")

    threading.Thread(target=serve, daemon=True).start()
    try:
        source = make_source(server.getsockname()[1], wait=False, protocol="5")
        wait_until(lambda: len(accepted) >= 2, 15, "another attempt")
        wait_until(lambda: source.status().error, 15, "what was wrong")  # each CONNACK takes it back for a moment
        assert not source.status().fatal
    finally:
        server.shutdown(socket.SHUT_RDWR)
        server.close()


def test_stopped_intake_leaves_messages_for_the_next_run(mosquitto: Mosquitto, make_source: Maker) -> None:
    """After `stop_intake` what still comes is neither taken nor acknowledged: the next run gets it."""
    source = make_source(mosquitto.port)
    mosquitto.publish([("t/a", b"1")])
    (batch,) = take_all(source, 1, ack=False)
    source.stop_intake()
    mosquitto.publish([("t/a", b"2")])
    source.ack(batch)
    source.close()
    assert payloads(take_all(make_source(mosquitto.port), 1)) == [b"2"]


def test_stale_filters_are_given_up(mosquitto: Mosquitto, make_source: Maker) -> None:
    """A subscription that a former configuration left in the session is given up."""
    make_source(mosquitto.port, "old/#", "t/#").close()
    source = make_source(mosquitto.port, "t/#", options={"stale": ["old/#"]})
    mosquitto.publish([("old/a", b"old"), ("t/a", b"new")])
    assert payloads(take_all(source, 1)) == [b"new"]


def test_publisher_counts_and_waits(mosquitto: Mosquitto) -> None:
    """A publisher's end means that the broker has everything; it is refused where there is no broker."""
    with mosquitto.collect("t/#") as received:
        with Publisher(ConnectionOptions(host="127.0.0.1", port=mosquitto.port), in_flight_max=5) as publisher:
            for i in range(500):
                publisher.publish("t/a", str(i))
        assert (publisher.sent, publisher.acknowledged) == (500, 500)
        wait_until(lambda: len(received) == 500)
    with pytest.raises(UnavailableError, match="check that the broker runs"):
        Publisher(ConnectionOptions(host="127.0.0.1", port=free_port())).open()


def test_broker_drops_are_watched(mosquitto: Mosquitto, make_source: Maker) -> None:
    """The broker's own count of dropped messages is read, and does not count as a message of ours."""
    source = make_source(mosquitto.port)
    wait_until(lambda: source.status().broker_dropped is not None)
    assert source.status().last_message_age_s is None
    assert source.status().waiting == 0
