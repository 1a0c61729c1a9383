"""The contract of Home Assistant's discovery: documented payloads, nothing published twice, nothing left behind.

There is no Home Assistant here. What the broker carries is held against the fields that its documentation names
(integrations/mqtt: device discovery payload, availability, origin; integrations/binary_sensor.mqtt and sensor.mqtt),
by a validator that knows these fields and no others; everything else is a real broker and the real daemon.
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import paho.mqtt.client as paho
import pytest
from hypothesis import given
from hypothesis import strategies as st
from paho.mqtt.enums import CallbackAPIVersion

from streamae.core.types import AlertState
from streamae.daemon.homeassistant import _instance, _streams
from streamae.sinks.homeassistant import Discovery, DiscoveryOptions
from streamae.sinks.homeassistant_device import DeviceStreams, InstanceState
from streamae.web.view import Snapshot, StreamTable
from tests import services
from tests.brokers import Mosquitto, wait_until

TERMS = DiscoveryOptions("plant-1", devices_max=3, every_s=10.0, stale_after_s=60.0, forget_after_s=600.0)
SHORT = {
    "dev": "device", "o": "origin", "cmps": "components", "stat_t": "state_topic", "avty": "availability",
    "avty_mode": "availability_mode", "t": "topic", "p": "platform", "uniq_id": "unique_id",
    "dev_cla": "device_class", "val_tpl": "value_template", "json_attr_t": "json_attributes_topic",
    "stat_cla": "state_class", "ic": "icon",
}  # fmt: skip
SHORT_DEVICE = {"ids": "identifiers", "mf": "manufacturer", "mdl": "model", "sw": "sw_version", "sn": "serial_number"}
SHORT_DEVICE |= {"cu": "configuration_url"}
DEVICE = {"identifiers", "name", "manufacturer", "model", "sw_version", "serial_number", "configuration_url"}
COMMON = {
    "platform",
    "name",
    "unique_id",
    "value_template",
    "icon",
    "json_attributes_topic",
    "device_class",
    "availability",
}
ENTITY = {"binary_sensor": COMMON, "sensor": COMMON | {"state_class"}}
LEVEL = re.compile(r"[a-zA-Z0-9_-]+")


def spelled(given: Any, words: dict[str, str]) -> Any:
    """`given` with its abbreviations written out, as Home Assistant does before it looks at a payload."""
    return {words.get(key, key): value for key, value in given.items()}


def validate(topic: str, payload: bytes, prefix: str = "homeassistant") -> dict[str, Any]:
    """The payload with its keys written out; fails on what the documentation does not allow."""
    assert topic.startswith(f"{prefix}/device/")
    *_, node, object_id, last = topic.split("/")
    assert len(topic.removeprefix(f"{prefix}/").split("/")) == 4
    assert last == "config"
    assert LEVEL.fullmatch(node)
    assert LEVEL.fullmatch(object_id)
    said = spelled(json.loads(payload), SHORT)
    required = {"device", "origin", "components"}
    assert required <= said.keys() <= required | {"state_topic", "availability", "availability_mode", "qos", "encoding"}
    device = said["device"] = spelled(said["device"], SHORT_DEVICE)
    assert device.keys() <= DEVICE
    assert device["identifiers"]
    assert all(isinstance(one, str) for one in device["identifiers"])
    assert all(isinstance(device[key], str) for key in device.keys() - {"identifiers"})
    assert spelled(said["origin"], SHORT_DEVICE).keys() <= {"name", "sw_version", "support_url"}
    assert said["origin"]["name"]
    assert said["qos"] in (0, 1, 2)
    assert said["availability_mode"] in ("all", "any", "latest")
    for one in said["availability"]:
        assert spelled(one, SHORT).keys() == {"topic"}
    for key, entity in list(said["components"].items()):
        said["components"][key] = spelled(entity, SHORT)
    for entity in said["components"].values():
        assert {"platform", "unique_id"} <= entity.keys() <= ENTITY[entity["platform"]]
        assert entity.get("device_class") in (None, "problem")
        assert entity.get("state_class") in (None, "measurement")
        assert re.fullmatch(r"\{\{ value_json\.\w+ \}\}", entity["value_template"])
    topics = [said["state_topic"], *(spelled(one, SHORT)["topic"] for one in said["availability"])]
    assert not any(set(one) & set("+#\0") for one in topics)
    return said


def rendered(entity: dict[str, Any], state: bytes) -> str:
    """What the entity's template makes of a state, as Jinja renders it: a null becomes the text None, unknown."""
    value = json.loads(state)[re.fullmatch(r"\{\{ value_json\.(\w+) \}\}", entity["value_template"])[1]]
    return str(value)


class Home:
    """A stand-in for Home Assistant's memory: discovery, states and availability by topic, and how many came."""

    def __init__(self) -> None:
        self.retained: dict[str, bytes] = {}
        self.count = 0

    def take(self, topic: str, payload: bytes) -> None:
        self.count += 1
        self.retained[topic] = payload
        if not payload:
            del self.retained[topic]

    def devices(self) -> dict[str, dict[str, Any]]:
        configs = {topic: payload for topic, payload in self.retained.items() if topic.endswith("/config")}
        found = [validate(t, p) for t, p in configs.items()]
        return {c["device"]["serial_number"]: c for c in found if "serial_number" in c["device"]}

    def instance(self) -> tuple[str, list[str], str]:
        """What the device of the instance shows: its trouble, what it is, and how many fire."""
        ((topic, payload),) = [(t, p) for t, p in self.retained.items() if t.endswith("/instance/config")]
        config = validate(topic, payload)
        state = self.retained[config["state_topic"]]
        shown = [rendered(config["components"][key], state) for key in ("trouble", "firing")]
        return shown[0], json.loads(state)["troubles"], shown[1]

    def entity(self, stream: str, key: str) -> str:
        device = self.devices()[stream]
        return rendered(device["components"][key], self.retained.get(device["state_topic"], b"{}"))

    def available(self, stream: str) -> bytes | None:
        topic = spelled(self.devices()[stream]["availability"][1], SHORT)["topic"]
        return self.retained.get(topic)


def table(*names: str, score: float = 0.5, state: int = 0, time_s: float = 1.0, learned: int = 9) -> DeviceStreams:
    S = len(names)
    return DeviceStreams(
        list(names), ("flow", "pressure"), np.full(S, score), np.full(S, 1.0), np.full(S, state, np.int8),
        np.full(S, 1, np.int32), np.full(S, time_s), np.full(S, learned),
    )  # fmt: skip


def play(home: Home, discovery: Discovery, now_s: float, **tables: DeviceStreams) -> int:
    before = home.count
    for message in discovery.step(tables, now_s):
        home.take(message.topic, message.payload)
    return home.count - before


@pytest.mark.parametrize("state", [AlertState.LEARNING, AlertState.FILLING])
def test_what_nobody_has_judged_is_unknown_and_never_off(state):
    """While a stream learns or fills its window, at the start or after a gap: anomaly, score and channel."""
    home, discovery = Home(), Discovery(TERMS)
    play(home, discovery, 0.0, pumps=table("p1", state=state))
    assert {home.entity("p1", key) for key in ("anomaly", "score", "worst_channel")} == {"None"}
    play(home, discovery, 1.0, pumps=table("p1", state=AlertState.INACTIVE))
    assert home.entity("p1", "anomaly") == "OFF"
    play(home, discovery, 2.0, pumps=table("p1", state=state))
    assert home.entity("p1", "anomaly") == "None"


def test_a_stream_that_the_model_fails_on_is_unknown():
    """Whatever it was before; an alert that fires is still one."""
    home, discovery = Home(), Discovery(TERMS)
    failing = replace(table("p1", "p2", "p3"), unjudged={0, 2}, state=np.array([0, 0, 2], np.int8))
    play(home, discovery, 0.0, pumps=failing)
    assert [home.entity(name, "anomaly") for name in ("p1", "p2", "p3")] == ["None", "OFF", "ON"]
    play(home, discovery, 0.5, pumps=replace(failing, unjudged=()))
    assert home.entity("p1", "anomaly") == "OFF", "at once, as with any change of state"


def test_the_daemon_says_which_streams_nobody_judges():
    """Those in quarantine; all of a group whose model is broken."""
    made = StreamTable(
        "g", ["a", "b"], ["x"], np.ones(2), np.ones(2), np.zeros(2, np.int8), np.zeros(2, np.int32), np.zeros(2),
        np.full(2, 9), 9, marks={1: ["quarantined"]},
    )  # fmt: skip
    assert set(_streams(made).unjudged) == {1}
    assert set(_streams(replace(made, broken="MemoryError")).unjudged) == {0, 1}


def test_a_stream_is_a_device_with_anomaly_score_and_worst_channel():
    """One discovery message names four entities whose templates read one state, and two availability topics."""
    home = Home()
    play(home, Discovery(TERMS), 0.0, pumps=table("p1", score=2.3456, state=AlertState.FIRING))
    device = home.devices()["p1"]
    assert {key: one["platform"] for key, one in device["components"].items()} == {
        "anomaly": "binary_sensor", "score": "sensor", "worst_channel": "sensor", "trouble": "binary_sensor",
    }  # fmt: skip
    assert device["components"]["anomaly"]["device_class"] == "problem"
    assert [home.entity("p1", key) for key in device["components"]] == ["ON", "2.35", "pressure", "OFF"]
    assert device["availability_mode"] == "all"
    assert device["availability"][0] == {"t": "streamae/plant-1/status"}


def test_trouble_that_is_no_anomaly_is_an_entity_of_its_own():
    """A stuck sensor, quarantine: at once, with the words as attributes; also of a stream that is silent."""
    home, discovery = Home(), Discovery(TERMS)
    play(home, discovery, 0.0, pumps=table("p1", "p2"))
    assert [home.entity(name, "trouble") for name in ("p1", "p2")] == ["OFF", "OFF"]
    troubled = replace(table("p1", "p2"), troubles={0: ["stuck: flow", "quarantined"], 1: []})
    play(home, discovery, 0.5, pumps=troubled)
    assert [home.entity(name, "trouble") for name in ("p1", "p2")] == ["ON", "OFF"]
    state = json.loads(home.retained[home.devices()["p1"]["state_topic"]])
    assert state["troubles"] == ["stuck: flow", "quarantined"]
    entity = home.devices()["p1"]["components"]["trouble"]
    assert entity["availability"] == [{"t": "streamae/plant-1/status"}], "not that of a stream which speaks"
    play(home, discovery, 1.0, pumps=table("p1", "p2"))
    assert home.entity("p1", "trouble") == "OFF"


def test_a_mark_that_nobody_has_to_act_upon_is_no_trouble():
    """Maintenance, and waiting for a window, are notes; a verdict on a sensor beside them is trouble."""
    made = StreamTable(
        "g", ["a", "b", "c"], ["x"], np.ones(3), np.ones(3), np.zeros(3, np.int8), np.zeros(3, np.int32), np.zeros(3),
        np.full(3, 9), 9, marks={0: ["maintenance"], 1: ["filling", "stale: x"], 2: ["flapping"]},
    )  # fmt: skip
    assert _streams(made).troubles == {1: ["stale: x"], 2: ["flapping"]}
    why = {"since_s": 5.0, "reason": "late", "words": "its clock is wrong"}
    unjudged = replace(made, marks={0: ["maintenance"]}, unjudged={0: why, 2: why})
    assert _streams(unjudged).troubles == {n: ["not judged: its clock is wrong"] for n in (0, 2)}


def test_what_is_no_single_streams_is_a_device_of_the_instance():
    """A broken model, poison, a group that is silent: one device, there while the daemon is, and gone with it."""
    home, discovery = Home(), Discovery(TERMS)

    def say(about: InstanceState) -> int:
        before = home.count
        for message in discovery.step({"pumps": table("p1")}, 0.0, about):
            home.take(message.topic, message.payload)
        return home.count - before

    say(InstanceState(0))
    assert home.instance() == ("OFF", [], "0")
    assert say(InstanceState(0)) == 0
    broken = InstanceState(3, ("the model of group pumps judges nothing: MemoryError", "pumps: stale"))
    assert say(broken) == 1
    assert home.instance() == ("ON", list(broken.troubles), "3")
    discovery.announce()
    assert say(broken) == 2 + 2
    say(InstanceState(9, tuple("x" * 1000 for _ in range(100))))
    assert len(home.retained["streamae/plant-1/homeassistant/instance/state"]) < 5000
    assert set(home.devices()) == {"p1"}
    for message in discovery.withdraw():
        home.take(message.topic, message.payload)
    assert home.retained == {}


def test_the_daemon_says_what_is_wrong_with_the_instance():
    """Its conditions but those of Home Assistant itself, and verdicts on whole groups."""
    made = StreamTable(
        "g", ["a"], ["x"], np.ones(1), np.ones(1), np.zeros(1, np.int8), np.zeros(1, np.int32), np.zeros(1),
        np.full(1, 9), 9, group_marks=["stale"],
    )  # fmt: skip
    one = {"name": "g", "what": "the model of group g judges nothing", "reason": "MemoryError"}
    failing = [{"kind": "model", **one}, {"kind": "home_assistant", **one}]
    found = _instance(Snapshot(0.0, status={"firing": 2}, tables={"g": made}, conditions=failing))
    assert found == InstanceState(2, ("the model of group g judges nothing: MemoryError", "g: stale"))


def test_a_device_leads_to_its_stream_on_the_page():
    """Where somebody has said how people reach it; names with slashes and spaces come out whole."""
    home = Home()
    play(home, Discovery(replace(TERMS, page="https://plant.example/s/")), 0.0, pumps=table("line 1/p1"))
    about = home.devices()["line 1/p1"]["device"]
    assert about["configuration_url"] == "https://plant.example/s/#/stream/pumps/line%201%2Fp1"


def test_what_is_not_yet_known_is_unknown():
    """A stream that learns has no score, no worst channel, and is neither anomalous nor not."""
    home = Home()
    play(home, Discovery(TERMS), 0.0, pumps=table("p1", score=np.nan, state=AlertState.LEARNING))
    assert [home.entity("p1", key) for key in ("anomaly", "score", "worst_channel")] == ["None"] * 3


def test_an_alert_is_notified_at_once_and_a_score_at_most_every_so_often():
    """Between two messages of a score lie ten seconds; a change of the alert's state waits for nothing."""
    home, discovery = Home(), Discovery(TERMS)
    play(home, discovery, 0.0, pumps=table("p1", time_s=0.0))
    published = [
        play(home, discovery, float(s), pumps=table("p1", score=0.5 + s / 100, time_s=float(s))) for s in range(60)
    ]
    assert sum(published[1:]) == 1 + 5  # one availability, then 10, 20, 30, 40, 50
    assert play(home, discovery, 60.1, pumps=table("p1", score=3.0, state=AlertState.FIRING, time_s=61)) == 1
    assert play(home, discovery, 60.2, pumps=table("p1", score=3.1, state=AlertState.FIRING, time_s=62)) == 0
    assert play(home, discovery, 60.3, pumps=table("p1", score=0.1, time_s=63)) == 1
    assert home.entity("p1", "anomaly") == "OFF"


def test_a_state_that_does_not_change_is_not_notified_again():
    """A steady plant costs no messages."""
    home, discovery = Home(), Discovery(TERMS)
    for s in range(3):
        play(home, discovery, float(s), pumps=table("p1", time_s=float(s)))
    assert sum(play(home, discovery, float(s), pumps=table("p1", time_s=float(s))) for s in range(3, 500)) == 0


def test_a_silent_stream_is_unavailable_then_forgotten_and_comes_back():
    """Unavailable after `stale_after`, gone with all that was retained after `forget_after`, back with its next row."""
    home, discovery = Home(), Discovery(TERMS)
    play(home, discovery, 0.0, pumps=table("p1", time_s=1.0))
    assert home.available("p1") is None  # of an earlier run, perhaps: it has not spoken since
    play(home, discovery, 1.0, pumps=table("p1", time_s=2.0))
    assert home.available("p1") == b"online"
    play(home, discovery, 62.0, pumps=table("p1", time_s=2.0))
    assert home.available("p1") == b"offline"
    play(home, discovery, 602.0, pumps=table("p1", time_s=2.0))
    assert home.retained == {}
    assert play(home, discovery, 603.0, pumps=table("p1", time_s=2.0)) == 0
    play(home, discovery, 604.0, pumps=table("p1", time_s=3.0))
    assert home.available("p1") == b"online"


def test_the_number_of_devices_is_capped_and_a_place_that_gets_free_is_taken():
    """The first streams become devices; who is left out is counted, and follows when one goes."""
    home, discovery = Home(), Discovery(TERMS)
    play(home, discovery, 0.0, pumps=table("a", "b", "c", "d", "e"))
    assert set(home.devices()) == {"a", "b", "c"}
    assert (discovery.devices, discovery.left_out) == (3, 2)
    speaking = table("a", "b", "c", "d", "e")
    speaking.time_s[:] = [1.0, 5.0, 5.0, 5.0, 5.0]  # `a` alone stays silent
    play(home, discovery, 300.0, pumps=speaking)
    play(home, discovery, 601.0, pumps=speaking)
    play(home, discovery, 602.0, pumps=speaking)
    assert set(home.devices()) == {"b", "c", "d"}
    assert (discovery.devices, discovery.left_out) == (3, 1)


def test_a_group_that_is_gone_takes_its_devices_with_it():
    home, discovery = Home(), Discovery(TERMS)
    play(home, discovery, 0.0, pumps=table("a"), fans=table("a"))
    assert len([topic for topic in home.retained if topic.endswith("/config")]) == 2
    play(home, discovery, 1.0, fans=table("a"))
    assert {c["device"]["model"] for c in home.devices().values()} == {"fans"}


def test_what_an_earlier_run_announced_is_taken_away_when_nobody_stands_behind_it():
    """A group that is gone at once; a stream that may only be late after `forget_after`; a present one never."""
    home, discovery = Home(), Discovery(TERMS)
    play(home, Discovery(TERMS), 0.0, pumps=table("a", "late"), fans=table("x"))
    for topic, payload in list(home.retained.items()):
        if topic.endswith("/config"):
            discovery.found(topic, payload)
    play(home, discovery, 0.0, pumps=table("a"))
    assert set(home.devices()) == {"a", "late"}
    play(home, discovery, 599.0, pumps=table("a", time_s=2.0))
    assert set(home.devices()) == {"a", "late"}
    play(home, discovery, 601.0, pumps=table("a", time_s=3.0))
    assert set(home.devices()) == {"a"}
    for payload in (b"", b"[]", b"{}", b'{"dev": 3}', b"\xff"):
        discovery.found("homeassistant/device/streamae_plant-1/x/config", payload)
    for message in discovery.withdraw():
        home.take(message.topic, message.payload)
    assert home.retained == {}


def test_an_announcement_tells_everything_again_and_only_once():
    home, discovery = Home(), Discovery(TERMS)
    play(home, discovery, 0.0, pumps=table("a"))
    play(home, discovery, 1.0, pumps=table("a", time_s=2.0))
    kept = dict(home.retained)
    home.retained.clear()
    discovery.announce()
    assert play(home, discovery, 2.0, pumps=table("a", time_s=3.0)) == 3
    assert home.retained == kept
    assert play(home, discovery, 3.0, pumps=table("a", time_s=4.0)) == 0


@given(
    names=st.lists(st.text(min_size=1), min_size=1, max_size=3, unique=True),
    instance=st.from_regex("[A-Za-z0-9][A-Za-z0-9_.-]{0,9}", fullmatch=True),
)
def test_any_name_gives_a_valid_device_of_its_own(names, instance):
    """Whatever a topic holds, the payload is valid, and neither devices nor entities of two streams share an id."""
    home = Home()
    for group in ("pumps", "pumps_2"):
        play(home, Discovery(DiscoveryOptions(instance)), 0.0, **{group: table(*names)})
    configs = [validate(t, p) for t, p in home.retained.items() if t.endswith("/config")]
    assert len(configs) == 2 * len(names)
    ids = [entity["unique_id"] for one in configs for entity in one["components"].values()]
    assert len(set(ids)) == len(ids) == 8 * len(names)


def test_instances_and_streams_whose_names_clean_to_the_same_stay_apart():
    """`a.b` and `a_b` are two instances, `1/2` and `1_2` two streams; an id is the same in every run."""
    assert DiscoveryOptions("a.b").node != DiscoveryOptions("a_b").node == "streamae_a_b"
    home = Home()
    play(home, Discovery(TERMS), 0.0, pumps=table("1/2", "1_2", "1 2"))
    ids = {stream: one["device"]["identifiers"][0] for stream, one in home.devices().items()}
    assert len(set(ids.values())) == 3
    assert ids["1/2"] == "streamae_plant-1_pumps_1_2_" + hashlib.sha256(b"pumps\x001/2").hexdigest()[:12]


@pytest.fixture
def listener(mosquitto: Mosquitto) -> Iterator[Callable[[Mosquitto], Home]]:
    """A maker of homes that listen on a broker to all that Home Assistant would subscribe to."""
    clients = []

    def listen(broker: Mosquitto) -> Home:
        home = Home()
        client = paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
        client.on_message = lambda _c, _u, message: home.take(message.topic, message.payload)
        client.connect("127.0.0.1", broker.port)
        client.subscribe([("homeassistant/device/#", 1), ("streamae/+/homeassistant/#", 1), ("streamae/+/status", 1)])
        client.loop_start()
        clients.append(client)
        return home

    yield listen
    for client in clients:
        client.disconnect()
        client.loop_stop()


def wait_for_devices(home: Home, number: int) -> None:
    wait_until(lambda: len(home.devices()) == number, 60, f"{number} devices")


def test_a_fault_turns_a_real_pumps_sensor_on_and_everything_survives_restarts(mosquitto, trained, tmp_path, listener):
    """With the real daemon and broker: devices appear, a fault turns one on, a birth message and a broker without its
    memory bring everything back, a daemon that stops is unavailable, and a reload takes the devices away.
    """
    home = listener(mosquitto)
    daemon = services.write(tmp_path / "daemon", mosquitto, trained)
    plain = daemon.path.read_text()
    daemon.path.write_text(plain + "home_assistant: {max_devices: 2, every: 1s}\n")
    feed = services.Feed(mosquitto.port, services.plant(trained), rows_per_s=20.0)
    try:
        daemon.start().wait_for("/readyz")
        feed.start()
        wait_for_devices(home, 2)
        name = next(iter(home.devices()))
        wait_until(lambda: home.entity(name, "anomaly") == "OFF", 60, "the pump is fine")
        wait_until(lambda: home.available(name) == b"online", 20, "the pump is available")
        assert home.retained["streamae/plant-1/status"] == b"online"
        wait_until(lambda: daemon.metric("streamae_home_assistant_devices") == 2, 20, "the metric")
        wait_until(lambda: daemon.metric("streamae_home_assistant_streams_left_out") > 0, 20, "the other metric")
        assert "raise home_assistant.max_devices" in daemon.log()

        feed.inject("leak", name.replace("-", "/"), 12.0, 3000.0)
        wait_until(lambda: home.entity(name, "anomaly") == "ON", 60, "the pump is anomalous")

        def exceeds() -> bool:
            said = json.loads(home.retained[home.devices()[name]["state_topic"]])
            return said["score"] > said["threshold"]

        wait_until(exceeds, 30, "its score is above its threshold")
        assert home.entity(name, "worst_channel") in trained.plant.channels

        configs = lambda: sum(topic.endswith("/config") for topic in published)  # noqa: E731
        published: list[str] = []
        home.take = lambda topic, payload, take=home.take: (published.append(topic), take(topic, payload))[1]
        birth = paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
        birth.connect("127.0.0.1", mosquitto.port)
        birth.loop_start()
        birth.publish("homeassistant/status", "online", 1).wait_for_publish(10)
        wait_until(lambda: configs() == 3, 20, "announced on birth")
        birth.disconnect()
        birth.loop_stop()

        mosquitto.kill()  # without persistence: all that was retained is gone
        mosquitto.start()
        again = listener(mosquitto)
        wait_for_devices(again, 2)
        wait_until(lambda: again.available(name) == b"online", 30, "available again")

        daemon.path.write_text(plain)
        daemon.signal(1)
        wait_until(lambda: not again.devices(), 30, "the devices are taken away")
        assert daemon.stop() == 0
        wait_until(lambda: again.retained == {"streamae/plant-1/status": b"offline"}, 20, "nothing is left")
    finally:
        feed.stop()
        daemon.kill()


@pytest.mark.parametrize("every_s", [10.0, 900.0, 3600.0])
def test_how_long_a_stream_may_be_silent_follows_its_own_silences(every_s):
    """Without `stale_after`, a sensor that speaks each quarter of an hour stays available, not for ten of them."""
    home, discovery = Home(), Discovery(DiscoveryOptions("plant-1"))
    for n in range(6):
        play(home, discovery, n * every_s, pumps=table("p1", time_s=float(n)))
        play(home, discovery, (n + 0.99) * every_s, pumps=table("p1", time_s=float(n)))
        assert home.available("p1") in (b"online", None)
    assert home.available("p1") == b"online"
    play(home, discovery, 5 * every_s + max(290.0, 4.9 * every_s), pumps=table("p1", time_s=5.0))
    assert home.available("p1") == b"online"
    play(home, discovery, 5 * every_s + max(310.0, 5.1 * every_s), pumps=table("p1", time_s=5.0))
    assert home.available("p1") == b"offline"
