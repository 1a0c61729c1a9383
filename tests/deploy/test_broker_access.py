"""The access lists in deploy/: with mosquitto's the daemon's parts work, and who forges its topics is refused."""

import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from streamae.ingest.mqtt import MqttSource, ReceiveLimits
from streamae.mqtt import ConnectionOptions, Publisher, Subscription, transient
from streamae.sinks.homeassistant import Discovery, DiscoveryOptions
from streamae.sinks.mqtt import BrokerPublisher, MqttSink, _watched
from tests.brokers import Mosquitto, wait_until
from tests.mqtt.test_forgery import streams
from tests.services import ROOT
from tests.store_world import transition

MOSQUITTO_ACL, EMQX_ACL = ROOT / "deploy/mosquitto/acl.conf", ROOT / "deploy/emqx/acl.conf"
PAGE = ROOT / "deploy/docs/broker-access.md"
USERS = ("streamae", "plant", "homeassistant", "reader")
OURS = (
    "streamae/plant-1/status",
    "streamae/owner/streamae-plant-1",
    "streamae/plant-1/alerts/pumps/p1/anomaly",
    "streamae/plant-1/homeassistant/pumps_p1/state",
    "homeassistant/device/streamae_plant-1/pumps_p1/config",
)


@pytest.fixture
def guarded(make_mosquitto: Callable[..., Mosquitto], tmp_path: Path) -> Mosquitto:
    """Give a mosquitto with the shipped access list, and a password for each of its users: its name."""
    if shutil.which("mosquitto_passwd") is None:
        pytest.skip("mosquitto_passwd is not installed: apt-get install mosquitto")
    passwords = tmp_path / "passwords"
    passwords.touch(mode=0o600)
    for user in USERS:
        subprocess.run(["mosquitto_passwd", "-b", str(passwords), user, user], check=True, capture_output=True)
    shutil.copy(MOSQUITTO_ACL, tmp_path / "acl.conf")
    (tmp_path / "acl.conf").chmod(0o600)
    lines = ["allow_anonymous false", f"password_file {passwords}", f"acl_file {tmp_path / 'acl.conf'}"]
    return make_mosquitto(listener=lines)


def as_user(broker: Mosquitto, user: str) -> ConnectionOptions:
    return ConnectionOptions(
        host="127.0.0.1", port=broker.port, client_id="streamae-plant-1", username=user, password=user, protocol="5"
    )


@pytest.fixture
def source(guarded: Mosquitto) -> Iterator[MqttSource]:
    made = MqttSource(
        as_user(guarded, "streamae"), [Subscription("plant/#")], ReceiveLimits(batch_wait_s=0.01),
        now=time.time, monotonic=time.monotonic, jitter=lambda: 0.5, status_topic="streamae/plant-1/status",
    )  # fmt: skip
    made.start()
    wait_until(lambda: made.status().subscribed, what="subscribed")
    yield made
    made.close()


def kept(broker: Mosquitto, user: str = "reader") -> dict[str, bytes]:
    """All that the broker retains, as a user may see it."""
    found: dict[str, bytes] = {}
    done = []
    options = replace(as_user(broker, user), client_id="looks", session_expiry_s=0)
    client = paho.Client(CallbackAPIVersion.VERSION2, "looks", protocol=paho.MQTTv5)
    client.username_pw_set(user, user)
    client.on_connect = lambda *_: client.subscribe("#", 1)
    client.on_subscribe = lambda *_: done.append(1)
    client.on_message = lambda _c, _u, m: found.__setitem__(m.topic, m.payload)
    client.connect(options.host, options.port)
    client.loop_start()
    wait_until(lambda: done)
    time.sleep(0.1)
    client.disconnect()
    client.loop_stop()
    return found


def refused(broker: Mosquitto, user: str, topics: tuple[str, ...]) -> list[int]:
    """What the broker answers to a forgery on each topic: reason codes of MQTT 5."""
    answers: dict[int, int] = {}
    client = paho.Client(CallbackAPIVersion.VERSION2, f"forger-{user}", protocol=paho.MQTTv5)
    client.username_pw_set(user, user)
    client.on_publish = lambda _c, _u, mid, reason, _p: answers.__setitem__(mid, reason.value)
    client.connect("127.0.0.1", broker.port)
    client.loop_start()
    sent = [client.publish(topic, b"forged", 1, retain=True) for topic in topics]
    wait_until(lambda: len(answers) == len(topics))
    client.disconnect()
    client.loop_stop()
    return [answers[one.mid] for one in sent]


def test_the_daemon_works_with_the_list_and_forgers_are_refused(guarded: Mosquitto, source: MqttSource) -> None:
    """It reads, says that it is online, signs, alerts, and announces devices; nobody else writes any of it."""
    sink = MqttSink(
        BrokerPublisher(
            transient(as_user(guarded, "streamae"), "alerts"), _watched("streamae/{instance}/alerts/x", "plant-1")
        )
    )
    sink.look_after(list)
    sink.send([transition(1)])
    terms = DiscoveryOptions("plant-1")
    with Publisher(transient(as_user(guarded, "streamae"), "ha"), watch=(terms.status_topic, *terms.ours)) as publisher:
        for message in Discovery(terms).step(streams(), 0.0):
            publisher.publish(message.topic, message.payload, retain=True)
        publisher.flush(10.0)
    assert publisher.refused == 0
    before = kept(guarded)
    assert before["streamae/plant-1/status"] == b"online"
    assert {topic.split("/")[1] for topic in before} >= {"plant-1", "owner", "device"}
    assert any(topic.endswith("/config") for topic in before)
    assert any("/alerts/" in topic for topic in before)

    not_authorized = 0x87
    for user in ("plant", "homeassistant", "reader"):
        assert refused(guarded, user, OURS) == [not_authorized] * len(OURS), user
    assert kept(guarded) == before
    assert not source.status().fatal

    assert refused(guarded, "plant", ("plant/line1/p1",)) != [not_authorized]
    wait_until(lambda: len(source.take(10, 0.1)), what="the sensors are heard")
    sink.close()


def test_without_the_list_the_forgeries_stand_for_a_while(mosquitto: Mosquitto) -> None:
    """The control: a broker without one takes them all."""
    client = paho.Client(CallbackAPIVersion.VERSION2, "forger", protocol=paho.MQTTv5)
    client.connect("127.0.0.1", mosquitto.port)
    client.loop_start()
    sent = [client.publish(topic, b"forged", 1, retain=True) for topic in OURS]
    for one in sent:
        one.wait_for_publish(10)
    client.disconnect()
    client.loop_stop()
    with mosquitto.collect("#") as received:
        wait_until(lambda: {topic for topic, _, _ in received} >= set(OURS))


def test_emqx_has_the_same_list() -> None:
    """Each term is one of Erlang's, as EMQX reads them; it names the same users and topics as mosquitto's."""
    terms = [line for line in EMQX_ACL.read_text().splitlines() if line and not line.startswith("%%")]
    term = re.compile(
        r'\{(allow|deny), (all|\{username, "\w+"\}), (publish|subscribe|all), \["[^"]+"(, "[^"]+")*\]\}\.'
        r"|\{deny, all\}\."
    )
    assert all(term.fullmatch(line) for line in terms), terms
    granted = {t for line in terms if line.startswith("{allow, {username") for t in re.findall(r'"([^"]+)"', line)}
    lists = re.findall(r"^topic \w+ (\S+)$|^user (\w+)$", MOSQUITTO_ACL.read_text(), re.MULTILINE)
    assert granted == {topic or user for topic, user in lists}
    assert terms[-1] == "{deny, all}."
    denied = [line for line in terms if line.startswith("{deny, all, publish")]
    assert "streamae/#" in denied[0]
    assert terms.index(denied[0]) < min(i for i, line in enumerate(terms) if 'publish, ["plant/#"' in line)


def test_the_page_names_every_topic_that_the_daemon_writes() -> None:
    """Who writes a list of their own finds all of them there."""
    page = PAGE.read_text()
    for topic in re.findall(r"^topic readwrite (\S+)$", MOSQUITTO_ACL.read_text(), re.MULTILINE):
        assert topic.removesuffix("/#") in page, topic
    assert all(f"`{topic}`" in page for topic in ("streamae/plant-1/status", "streamae/plant-1/alerts/#"))
