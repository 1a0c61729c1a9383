"""Topics that the daemon alone may write, and that others write all the same: not believed, and written again.

Against a real broker without an access list; with one, see tests/deploy/test_broker_access.py.
"""

import json
import random
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from streamae.ingest.mqtt import MqttSource, ReceiveLimits
from streamae.mqtt import ConnectionOptions, Publisher, Subscription, transient
from streamae.mqtt.ownership import OwnTopics
from streamae.mqtt.state import Ledger
from streamae.sinks.homeassistant import Discovery, DiscoveryOptions
from streamae.sinks.homeassistant_device import DeviceStreams
from streamae.sinks.mqtt import BrokerPublisher, MqttSink, _watched
from streamae.sinks.retained import KeptTopics
from tests.brokers import Mosquitto, Proxy, wait_until
from tests.store_world import Clock, transition

STATUS, OWNER = "streamae/p/status", "streamae/owner/daemon"
Maker = Callable[..., MqttSource]


@pytest.fixture
def make_source() -> Iterator[Maker]:
    made: list[MqttSource] = []

    def make(port: int, protocol: str = "5") -> MqttSource:
        source = MqttSource(
            ConnectionOptions(host="127.0.0.1", port=port, client_id="daemon", protocol=protocol),
            [Subscription("t/#")],
            ReceiveLimits(batch_wait_s=0.01),
            now=time.time,
            monotonic=time.monotonic,
            jitter=random.random,
            status_topic=STATUS,
        )
        made.append(source)
        source.start()
        wait_until(lambda: source.status().subscribed, what="subscribed")
        return source

    yield make
    for source in made:
        source.close()


def retained(broker: Mosquitto, topic: str) -> bytes:
    """What the broker keeps on a topic; b"" for nothing."""
    with broker.collect(topic) as received:
        broker.publish([("end/of/it", b"")])  # behind it, what is retained has come
        time.sleep(0.1)
        return next((payload for name, payload, kept in received if name == topic and kept), b"")


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_a_forged_owner_does_not_end_the_daemon(
    mosquitto: Mosquitto, make_source: Maker, make_proxy: Callable[[int], Proxy], protocol: str
) -> None:
    """Messages on the owner's topic, before and after reconnects, retained or not: it goes on, and signs again."""
    proxy = make_proxy(mosquitto.port)
    source = make_source(proxy.port, protocol)
    ours = retained(mosquitto, OWNER)
    for number in range(2):
        for retain in (False, True):
            mosquitto.publish([(OWNER, b"forged")] * 2, retain=retain)
        wait_until(lambda: retained(mosquitto, OWNER) == ours, 15, "signed again")
        connects = source.status().connects
        proxy.reset()
        wait_until(lambda before=connects: source.status().connects > before and source.status().subscribed)
        mosquitto.publish([(OWNER, b"forged")] * 2)
        assert source.status().connects == number + 2
    mosquitto.publish([("t/a", b"still here")])
    wait_until(lambda: len(source.take(10, 0.1)), what="it hears")
    assert not source.status().fatal


@pytest.mark.parametrize("forged", [b"offline", b"", b"\xff\0nonsense"])
def test_a_forged_status_is_written_again(mosquitto: Mosquitto, make_source: Maker, forged: bytes) -> None:
    """A false `offline`, an emptied topic: within seconds it is `online` again, and `offline` when the daemon goes."""
    source = make_source(mosquitto.port)
    wait_until(lambda: retained(mosquitto, STATUS) == b"online")
    mosquitto.publish([(STATUS, forged)], retain=True)
    wait_until(lambda: retained(mosquitto, STATUS) == b"online", 15, "online again")
    wait_until(lambda: source.status().forged == 1, 15, "it is counted")
    source.close()
    wait_until(lambda: retained(mosquitto, STATUS) == b"offline", 15, "offline")
    time.sleep(0.2)
    assert retained(mosquitto, STATUS) == b"offline"


class FakeClient:
    """Takes what is published."""

    def __init__(self) -> None:
        self.published: list[tuple[str, bytes]] = []

    def publish(self, topic: str, payload: bytes, **_: object) -> None:
        self.published.append((topic, payload))

    def subscribe(self, *_: object) -> None:
        pass


def own_topics(clock: Clock) -> tuple[OwnTopics, FakeClient, Ledger]:
    ledger, client = Ledger(), FakeClient()
    topics = OwnTopics(STATUS, OWNER, b"mine", ledger, "broker:1883", clock)
    ledger.note(connects=1)
    topics.announce(client, fresh=True)  # type: ignore[arg-type]
    client.published.clear()
    return topics, client, ledger


def test_repairs_are_bounded_however_fast_somebody_writes() -> None:
    """A thousand forgeries a second for a minute: a repair each five seconds, not more."""
    clock = Clock()
    topics, client, _ = own_topics(clock)
    for _ in range(60_000):
        topics.heard(client, STATUS.encode(), b"offline", retained=False)  # type: ignore[arg-type]
        topics.repair(client)  # type: ignore[arg-type]
        clock.now_s += 0.001
    assert 10 <= len(client.published) <= 13
    assert set(client.published) == {(STATUS, b"online")}


def test_two_takeovers_within_minutes_are_a_rival_and_two_within_months_are_not() -> None:
    """What happens seldom is a ghost each time, be it forged; rivals meet within seconds."""
    clock = Clock()
    topics, client, ledger = own_topics(clock)
    for _ in range(3):
        ledger.note(connects=ledger.state.connects + 1)
        topics.heard(client, OWNER.encode(), b"another", retained=True)  # type: ignore[arg-type]
        assert not ledger.state.fatal
        clock.now_s += 3600
    clock.now_s += 5 - 3600
    topics.heard(client, OWNER.encode(), b"another", retained=True)  # type: ignore[arg-type]
    assert "taken over" in ledger.state.fatal


# ---- Home Assistant


def streams() -> dict[str, DeviceStreams]:
    one = np.ones(1)
    table = DeviceStreams(
        ["p1"], ("flow",), one, one, np.zeros(1, np.int8), np.zeros(1, np.int32), one, one.astype(int)
    )
    return {"pumps": table}


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_what_home_assistant_reads_is_written_again(mosquitto: Mosquitto, protocol: str) -> None:
    """An emptied discovery topic, a forged state, a device that is none: within seconds all is as it was."""
    terms, heard = DiscoveryOptions("plant-1"), []
    discovery = Discovery(terms)
    options = ConnectionOptions(host="127.0.0.1", port=mosquitto.port, protocol=protocol)
    watched = lambda *one: heard.append(one)  # noqa: E731
    with Publisher(transient(options, "ha"), watch=terms.ours, watched=watched) as publisher:

        def publish(messages: list) -> None:
            for message in messages:
                publisher.publish(message.topic, message.payload, retain=True)
            publisher.flush()

        publish(discovery.step(streams(), 0.0))
        config = next(topic for topic in discovery.kept._standing if topic.endswith("/config"))
        state = next(topic for topic in discovery.kept._standing if topic.endswith("/state"))
        false_device = config.replace("pumps", "forged")
        before = {topic: retained(mosquitto, topic) for topic in (config, state)}
        assert all(before.values())
        time.sleep(0.2)
        for one in heard:  # before MQTT 5 our own comes back
            discovery.heard(one[0], one[1], retained=one[2])
        assert discovery.repairs(0.5) == []
        heard.clear()
        forged = [(config, b""), (state, b'{"anomaly": "OFF"}'), (false_device, before[config])]
        mosquitto.publish(forged, retain=True)
        wait_until(lambda: len(heard) >= 3)
        for one in heard:
            discovery.heard(one[0], one[1], retained=one[2])
        publish(discovery.repairs(1.0))
        assert {topic: retained(mosquitto, topic) for topic in (config, state)} == before
        assert retained(mosquitto, false_device) == b""


def test_what_stands_already_is_not_written_again() -> None:
    """The control: what the broker has as it should be, and what an earlier run left, is no forgery."""
    kept = KeptTopics()
    kept.note([("a", b"1"), ("b", b"2")])
    kept.note([("b", b"")])
    assert not kept.heard("a", b"1", retained=False)
    assert kept.heard("c", b"3", retained=True)
    assert not kept.heard("b", b"", retained=False)
    assert kept.repairs(0.0) == []
    kept.heard("a", b"2", retained=True)
    assert kept.repairs(0.0) == [], "a new connection, on which it is published again"
    kept.heard("a", b"2", retained=False)
    assert kept.repairs(0.0) == [("a", b"1")]
    kept.heard("a", b"", retained=False)
    assert kept.repairs(4.9) == []
    assert kept.repairs(5.0) == [("a", b"1")]


# ---- states of alerts


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_a_forged_state_of_an_alert_is_written_again(mosquitto: Mosquitto, protocol: str) -> None:
    """A false end, an invented alert, an emptied topic: the truth comes back; what waits for the sink is left alone."""
    connection = ConnectionOptions(host="127.0.0.1", port=mosquitto.port, protocol=protocol)
    topic = "streamae/{instance}/alerts/{group}/{stream}"
    watch = _watched(topic, "plant-1")
    assert watch == "streamae/plant-1/alerts/#"
    sink = MqttSink(BrokerPublisher(transient(connection, "alerts"), watch), topic)
    firing, gone, waits = transition(1), transition(2), transition(3)
    standing = [(firing, False), (gone, False), (waits, True)]
    sink.look_after(lambda: standing)
    sink.send([firing, gone])
    state = {one.id: f"streamae/plant-1/alerts/pumps/{one.stream}/model" for one in (firing, gone, waits)}
    invented = "streamae/plant-1/alerts/pumps/north/p9/model"
    truth = {topic: retained(mosquitto, topic) for topic in (state[firing.id], state[gone.id])}
    false_end = json.loads(truth[state[firing.id]]) | {"state": "resolved", "sequence": 2}
    sink.look_after(lambda: standing)
    forged = [
        (state[firing.id], json.dumps(false_end)),
        (state[gone.id], b""),
        (state[waits.id], b"of before"),
        (invented, truth[state[firing.id]].replace(b"p1", b"p9")),
        (invented.replace("p9", "p8"), b"not json"),
    ]
    mosquitto.publish(forged, retain=True)

    def repaired() -> bool:
        sink.look_after(lambda: standing)
        gone = not any(retained(mosquitto, topic) for topic in (invented, invented.replace("p9", "p8")))
        return gone and {topic: retained(mosquitto, topic) for topic in truth} == truth

    wait_until(repaired, 20, "the truth")
    assert retained(mosquitto, state[waits.id]) == b"of before"
    sink.close()


@pytest.mark.parametrize(
    ("topic", "watched"),
    [
        ("streamae/{instance}/alerts/{group}/{stream}", "streamae/plant-1/alerts/#"),
        ("{instance}/{rule}", "plant-1/#"),
        ("out/{instance}", "out/plant-1/#"),
        ("out/{group}/{instance}/{stream}", ""),
        ("out/{instance}-{group}", ""),
        ("out/{group}", ""),
    ],
)
def test_only_what_is_this_instances_alone_is_watched(topic: str, watched: str) -> None:
    """Where another instance may have its states below, nothing is taken for a forgery."""
    assert _watched(topic, "plant-1") == watched
