"""Filters with topics in common, against a real broker: each message comes once, and is acknowledged in full."""

import random
import time
from collections.abc import Iterator

import pytest

from streamae.ingest.mqtt import MqttSource, ReceiveLimits
from streamae.mqtt import ConnectionOptions, Subscription
from streamae.mqtt.copies import Copies
from tests.brokers import Mosquitto, wait_until
from tests.ingest.test_mqtt_source import CLIENT_KINDS

FILTERS = ("plant/+/flow", "plant/p1/+", "plant/#")


@pytest.fixture
def sources() -> Iterator[list[MqttSource]]:
    made: list[MqttSource] = []
    yield made
    for one in made:
        one.close()


def listen(port: int, kind: object, qos: int) -> MqttSource:
    source = MqttSource(
        ConnectionOptions(host="127.0.0.1", port=port, client_id="daemon"),
        [Subscription(one, qos) for one in FILTERS],
        ReceiveLimits(batch_wait_s=0.01),
        now=time.time, monotonic=time.monotonic, jitter=random.random, client_kind=kind,
    )  # fmt: skip
    source.start()
    wait_until(lambda: source.status().subscribed, what=f"subscribed: {source.status()}")
    return source


def taken(source: MqttSource, marker: bytes) -> list[bytes]:
    """What comes until the marker, acknowledged."""
    found: list[bytes] = []
    end_s = time.monotonic() + 20
    while marker not in found:
        assert time.monotonic() < end_s, found
        accepted = source.take(1000, 0.2)
        found += accepted.batch.payloads
        source.ack(accepted)
    return found


@pytest.mark.parametrize("kind", CLIENT_KINDS)
@pytest.mark.parametrize("qos", [0, 1])
def test_each_message_comes_once(mosquitto: Mosquitto, sources: list[MqttSource], kind: str, qos: int) -> None:
    """Three filters match some of the topics, and no message comes twice."""
    source = listen(mosquitto.port, CLIENT_KINDS[kind], qos)
    sources.append(source)
    sent = [("plant/p1/flow", b"%d" % i) for i in range(50)] + [("plant/p2/flow", b"a"), ("plant/p1/x", b"b")]
    mosquitto.publish([*sent, ("plant/end", b"end")])
    assert taken(source, b"end") == [payload for _, payload in sent] + [b"end"]
    wait_until(lambda: source.status().unacknowledged == 0)


def test_without_it_this_broker_sends_copies(
    mosquitto: Mosquitto, sources: list[MqttSource], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control: where copies are all taken, as many come as this broker sends, and that is more than one."""
    monkeypatch.setattr(Copies, "surplus", lambda self, topic, identifier, *, retained: False)
    source = listen(mosquitto.port, CLIENT_KINDS["bulk"], 0)
    sources.append(source)
    mosquitto.publish([("plant/p1/flow", b"1"), ("plant/end", b"end")])
    found = taken(source, b"end")
    if found.count(b"1") == 1:
        pytest.skip("this mosquitto sends one copy with all identifiers")
    assert found.count(b"1") == 3
