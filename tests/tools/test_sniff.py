"""What `sniff` proposes is what the daemon understands: of shapes made up by hypothesis, and of a real broker."""

import json
import math
import os
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from streamae.config import load
from streamae.core.decode import Decoder, PayloadSpec, deferred
from streamae.core.formats import FORMATS
from streamae.core.formats.spec import Sighting
from streamae.core.routes import Router, Streams
from streamae.core.topics import Template
from streamae.core.types import Drop
from streamae.errors import UnavailableError
from streamae.mqtt import ConnectionOptions
from streamae.tools.replay import ReplayPace
from streamae.tools.simulate.plants import Pumps
from streamae.tools.simulate.publish import publish_plant
from streamae.tools.sniff.listen import Seen, Sniffed, sniff
from streamae.tools.sniff.propose import propose, understand
from tests import sparkplug as sp
from tests.brokers import free_port
from tests.services import ROOT

NOW_S = 1.7e9


def seen(messages: dict[str, list[bytes]], every_s: float = 1.0) -> Sniffed:
    """As if each topic had carried these payloads, `every_s` apart."""
    sniffed = Sniffed()
    for topic, payloads in messages.items():
        one = sniffed.topics[topic] = Seen()
        for i, payload in enumerate(payloads):
            one.add(payload, NOW_S + i * every_s)
            sniffed.messages += 1
    return sniffed


def said(sniffed: Sniffed) -> str:
    return propose(sniffed, now_s=NOW_S, seconds=3)


def groups(text: str) -> dict:
    return (yaml.safe_load(text) or {}).get("streams", {})


def doc(**values: object) -> list[bytes]:
    return [json.dumps(values).encode()] * 3


def channels_of(group: dict, sniffed: Sniffed) -> list[str]:
    """The channels that a model for this group would be trained on."""
    first = group["topics"][0]
    if "values" in first:
        return list(first["values"])
    template = Template.parse(first["topic"])
    found = [labels for topic in sniffed.topics if (labels := template.match(topic)) is not None]
    return list({labels.get("channel", "value") for labels in found})


def read_all(folder, text: str, sniffed: Sniffed) -> dict[str, int]:
    """Give every message to every group that has a template for it, as the daemon does; readings by topic."""
    path = folder / "streamae.yaml"
    path.write_text(f"instance: x\nstate: {{dir: state}}\nmqtt: {{host: localhost}}\n{text}")
    configured = load(path)
    decoders = []
    for name, group in configured.streams.items():
        channels = channels_of(groups(text)[name], sniffed)
        router = Router(group.templates, channels, Streams(group.stream_template(name), 10_000), deferred(group.topics))
        decoders.append((group.templates, Decoder(router, group.topics, channels, future_max_s=math.inf)))
    found = {}
    _, unknown = understand(sniffed, NOW_S)
    for topic, one in sniffed.topics.items():
        if topic in unknown:
            continue
        asked = [d for ts, d in decoders if any(t.match(topic) is not None for t in ts)]
        assert asked, f"{topic}: in no group, and not said to be\n{text}"
        n = len(one.payloads)
        told = [decoder.decode([topic.encode()] * n, one.payloads, np.full(n, NOW_S)) for decoder in asked]
        whole = [len(readings) for readings, drops in told if not +drops or {*+drops} == {Drop.MISSING_VALUE}]
        assert any(whole), f"{topic}: {told}\n{text}"
        found[topic] = sum(whole)
    return found


def test_channels_on_topics_of_their_own():
    """Four numbers of each pump on topics of their own are one group with {channel}, aligned on their period."""
    names = [f"plant/line{p % 2 + 1}/pump{p:02d}/{c}" for p in range(8) for c in ("flow", "pressure", "vibration")]
    text = said(seen({name: [b"1.5", b"2", b"-3e4"] for name in names}, every_s=2.03))
    (group,) = groups(text).values()
    assert group["topics"] == [{"topic": "plant/{line}/{pump}/{channel}", "payload": "number"}]
    assert group["align"] == {"every": "2s", "method": "hold"}
    assert "# 8 streams, a message about every 2.03 s" in text
    assert "# channels: flow, pressure, vibration" in text


def test_single_sensors_are_streams_not_channels():
    """Numbered sensors are streams of one channel; so are named ones that do not come as a grid."""
    text = said(seen({f"sensors/s{i:05d}/value": [b"1"] * 3 for i in range(30)}))
    assert groups(text)["sensors"]["topics"] == [{"topic": "sensors/{sensor}/value", "payload": "number"}]
    assert "align" not in groups(text)["sensors"]
    uneven = {"home/kitchen/temp": [b"1"], "home/garden/wind": [b"2"], "home/roof/sun": [b"3"]}
    assert "{channel}" not in said(seen(uneven))


def test_json_with_time_metadata_and_further_keys():
    """JSON is read by its paths; the time is found by name and value; counters and rare keys are left out."""
    stamp = "2023-11-14T22:13:20+00:00"
    messages = {
        f"rooms/{name}": doc(temperature=21.5, humidity=40, seq=i, last_seen=stamp, **({"co2": 1} if i == 0 else {}))
        for i, name in enumerate(["kitchen", "hall", "roof"])
    }
    text = said(seen(messages))
    (group,) = groups(text).values()
    assert group["topics"] == [
        {
            "topic": "rooms/{room}",
            "payload": "json",
            "values": {"temperature": "temperature", "humidity": "humidity"},
            "time": "last_seen",
        }
    ]
    assert "left out as not measured: seq" in text


def test_nested_values_and_lists_of_samples():
    """Nested numbers are named by the end of their path, more of it where that is not enough; lists become samples."""
    document = {"time": NOW_S * 1000, "AM2301": {"Temperature": 20, "Humidity": 40}, "DS18": {"Temperature": 3.5}}
    text = said(seen({"tele/a/SENSOR": doc(**document), "tele/b/SENSOR": doc(**document)}))
    (topic,) = groups(text)["tele"]["topics"]
    assert topic["values"] == {
        "AM2301_Temperature": "AM2301.Temperature",
        "Humidity": "AM2301.Humidity",
        "DS18_Temperature": "DS18.Temperature",
    }
    rows = [{"p": 1.0, "q": 2.0}, {"p": 1.5, "q": 2.5}]
    (topic,) = groups(said(seen({"m/1": doc(ts=NOW_S, rows=rows), "m/2": doc(ts=NOW_S, rows=rows)})))["m"]["topics"]
    assert (topic["samples"], topic["time"], topic["sample_every"]) == ("rows", "ts", "0.5s")
    stamped = [{"t": NOW_S, "p": 1.0}, {"t": NOW_S + 1, "p": 2.0}]
    (topic,) = groups(said(seen({"m/1": doc(rows=stamped)})))["m-1"]["topics"]
    assert topic["time"] == "t"
    assert "sample_every" not in topic


def test_shapes_that_would_hide_behind_each_other():
    """Two shapes under one template are two groups, since each message goes to whoever knows its values."""
    messages = {f"house/room{i}": doc(temperature=20, humidity=40) for i in range(4)}
    text = said(seen(messages | {"house/plug": doc(power=3.5, voltage=230)}))
    assert [g["topics"][0]["topic"] for g in groups(text).values()] == ["house/{room}", "house/plug"]
    text = said(seen(messages | {f"house/plug{i}": doc(power=3.5, voltage=230) for i in range(2)}))
    assert [g["topics"][0]["topic"] for g in groups(text).values()] == ["house/{room}", "house/{plug}"]
    # The values of a part are no mark of their own: its topics are told apart, or it is not built.
    text = said(seen(messages | {f"house/probe-{i}": doc(temperature=3.5) for i in range(2)}))
    assert [g["topics"][0]["topic"] for g in groups(text).values()] == ["house/probe-{probe}", "house/{room}"]
    text = said(seen(messages | {f"house/{name}": doc(temperature=3.5) for name in ("cellar", "attic")}))
    assert len(groups(text)) == 1
    assert "house/attic and 1 more like it: another shape (temperature) where house/{room} has its own" in text


def test_what_is_not_understood_is_said():
    """Text, bytes, other JSON: named in comments with their reason; nothing in a topic can leave its comment."""
    messages = {
        "bridge/state": [b"online"],
        "a/bytes": [b"\x08\x81\xff"],
        "spBv1.0/g/NDATA/n": [b"\x12\x02\x10\x07"],
        "a/list": [b"[1, 2]"],
        "a/words": [b'{"state": "ON"}'],
        "evil\n  injected: true\x1b[31m/x": [b"off"],
        "a/empty": [b""],
    }
    text = said(seen(messages))
    assert yaml.safe_load(text) is None
    assert "injected" in text
    assert "\x1b" not in text
    for words in ("text, such as 'online'", "3 bytes that are not text", "JSON that is not an object", "empty"):
        assert words in text
    assert "JSON without numbers" in text
    assert "Sparkplug by alias, and no birth in that time" in text
    assert "Nothing was published" in said(Sniffed())


def rows_of(kind: str) -> dict[str, list[bytes]]:
    """What some machines would have published in this format."""
    n = range(3)
    if kind == "sparkplug":
        flow = {"alias": 1, "datatype": sp.DOUBLE, "double_value": 1.0}
        return {
            "spBv1.0/hall/NBIRTH/edge1": [sp.payload(sp.metric("bdSeq", datatype=sp.INT64, long_value=1), seq=0)],
            **{
                f"spBv1.0/hall/DBIRTH/edge1/pump{p}": [
                    sp.payload(sp.metric("Sensors/Flow", **flow), sp.metric("Model", datatype=sp.STRING), seq=p)
                ]
                for p in (1, 2)
            },
            **{
                f"spBv1.0/hall/DDATA/edge1/pump{p}": [sp.payload(sp.metric(alias=1, double_value=i)) for i in n]
                for p in (1, 2)
            },
        }
    text = {
        "influx": (
            "telegraf/raynor/cpu",
            "cpu,cpu=cpu{i},host=raynor usage_idle=9{i},usage_user=1 17000000000{i}0000000",
        ),
        "telegraf": (
            "t/x",
            '{{"fields": {{"a": {i}, "s": "x"}}, "name": "m", "tags": {{"host": "h{i}"}}, "timestamp": 1700000000}}',
        ),
        "senml": ("s/1", '[{{"bn": "urn:dev:ow:10e2:", "n": "voltage", "v": {i}}}, {{"n": "current", "v": 2}}]'),
        "zigbee2mqtt": ("zigbee2mqtt/hall", '{{"temperature": {i}, "state": "ON", "linkquality": 9, "action": "x"}}'),
        "tasmota": ("tele/hall/SENSOR", '{{"Time": "2023-11-14T22:13:20", "AM2301": {{"Temperature": {i}}}}}'),
        "homeassistant": ("ha/sensor/hall_temperature/state", "2{i}.5"),
    }
    topic, body = text[kind]
    return {topic: [body.format(i=i).encode() for i in n]}


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("influx", {"topic": "telegraf/raynor/cpu", "values": {"usage_idle": "usage_idle", "usage_user": "usage_user"},
                    "labels": {"cpu": "cpu"}}),
        ("telegraf", {"topic": "t/x", "values": {"a": "a"}, "labels": {"host": "host"}}),
        ("senml", {"topic": "s/1", "values": {"voltage": "voltage", "current": "current"},
                   "name": "urn:dev:ow:{source}:{channel}"}),
        ("zigbee2mqtt", {"topic": "zigbee2mqtt/hall", "values": {"temperature": "temperature"}}),
        ("tasmota", {"topic": "tele/hall/SENSOR", "values": {"Temperature": "AM2301.Temperature"}}),
        ("homeassistant", {"topic": "ha/sensor/hall_temperature/state"}),
        ("sparkplug", {"topic": "spBv1.0/hall/+/edge1/{pump}", "values": {"Flow": "Sensors/Flow"}}),
    ],
)  # fmt: skip
def test_known_formats_are_called_by_their_name(tmp_path, kind, expected):
    """A format is recognised, its numbers are the channels, and the daemon with the block reads every message."""
    messages = rows_of(kind)
    sniffed = seen(messages)
    text = said(sniffed)
    (group,) = groups(text).values()
    assert group["topics"] == [{"payload": kind, **expected}]
    path = tmp_path / "streamae.yaml"
    path.write_text(text)
    (name, configured), = load(path).streams.items()  # fmt: skip
    read = configured.readers
    channels = list(expected.get("values", {"value": ""}))
    router = Router(
        [t for t, _ in read], channels, Streams(configured.stream_template(name), 99), deferred([s for _, s in read])
    )
    decoder = Decoder(router, [s for _, s in read], channels, future_max_s=math.inf)
    sent = [(topic.encode(), payload) for topic, payloads in messages.items() for payload in payloads]
    readings, drops = decoder.decode([t for t, _ in sent], [p for _, p in sent], np.full(len(sent), NOW_S))
    assert not +drops
    assert set(readings.channel.tolist()) == set(range(len(channels)))
    assert len(router.streams) == {"influx": 3, "telegraf": 3, "sparkplug": 2}.get(kind, 1)


def test_topics_of_one_machine_are_put_together(monkeypatch):
    """A format that gives a machine many topics has one group for each kind of machine, called as the kind."""

    def recognise(topic, payloads):
        room, kind, number, path = topic.split("/", 3)
        return Sighting((path,), place=f"{room}/{kind}/{number}/{{channel...}}", family=kind, nothing="no numbers")

    monkeypatch.setitem(FORMATS, "homeassistant", replace(FORMATS["homeassistant"], recognise=recognise))
    names = [
        f"hall/{kind}/{n}/{path}" for kind, n in (("fan", 1), ("fan", 2), ("pump", 1)) for path in ("u/1", "i", "p/x/y")
    ]
    text = said(seen({name: [b"1", b"2"] for name in names}))
    found = groups(text)
    assert {name: [topic["topic"] for topic in group["topics"]] for name, group in found.items()} == {
        "fan": ["hall/fan/{fan}/{channel...}"],
        "pump": ["hall/pump/1/{channel...}"],
    }
    assert "# 2 streams, a message about every 1 s" in text
    assert "# channels: i, p/x/y, u/1" in text


LEVEL = st.text(st.characters(exclude_characters="/+#\0", exclude_categories=["Cs"]), max_size=6)
TOPIC = st.lists(LEVEL, min_size=1, max_size=4).map("/".join).filter(lambda t: t and not t.startswith("$"))
KEY = st.text(max_size=5)
LEAF = st.one_of(st.floats(), st.integers(), st.text(max_size=4), st.booleans(), st.none(), st.just(NOW_S))
NODE = st.recursive(
    LEAF, lambda x: st.one_of(st.dictionaries(KEY, x, max_size=3), st.lists(x, max_size=3)), max_leaves=8
)
PAYLOAD = st.one_of(
    st.floats().map(lambda x: repr(x).encode()), st.binary(max_size=6), NODE.map(lambda x: json.dumps(x).encode())
)


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(TOPIC, st.lists(PAYLOAD, min_size=1, max_size=2), max_size=8))
def test_any_broker_gives_a_block_that_loads_and_reads(tmp_path_factory, messages):
    """Whatever topics and payloads there are: the block is valid, and what it covers is read, but for missing parts."""
    sniffed = seen(messages)
    text = said(sniffed)
    if not groups(text):
        return
    found = read_all(tmp_path_factory.getbasetemp(), text, sniffed)
    assert found
    assert all(found.values())


def feed(port: int, template: str, spec: PayloadSpec, rows: int) -> None:
    plant = Pumps(4, 2, start_s=time.time() - rows, seed=1)
    pace = ReplayPace(8.0, time.monotonic, time.sleep)
    publish_plant(
        plant, ConnectionOptions(host="127.0.0.1", port=port), Template.parse(template), spec, pace=pace, rows=rows
    )


@pytest.mark.parametrize(
    ("template", "spec"),
    [
        ("plant/{line}/{pump}", PayloadSpec("json", time="t")),
        ("plant/{line}/{pump}/{channel}", PayloadSpec("number")),
    ],
)
def test_the_verb_on_a_real_broker(mosquitto, trained, tmp_path, template, spec):
    """`streamae sniff` beside the simulator prints a block that, pasted, `streamae check` accepts with the model."""
    command = [sys.executable, "-m", "streamae.cli"]
    look = subprocess.Popen(
        [*command, "sniff", "--host", "127.0.0.1", "--port", str(mosquitto.port), "--seconds", "4"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT,
    )  # fmt: skip
    deadline_s = time.monotonic() + 40
    while look.poll() is None and time.monotonic() < deadline_s:
        feed(mosquitto.port, template, spec, rows=8)
    out, err = look.communicate(timeout=10)
    assert look.returncode == 0, err
    (group,) = groups(out).values()
    assert group["topics"][0]["topic"] == template, out
    assert group["topics"][0]["payload"] == spec.kind
    assert group["topics"][0].get("time") == spec.time
    config = tmp_path / "streamae.yaml"
    config.write_text(f"instance: x\nstate: {{dir: state}}\nmqtt: {{host: 127.0.0.1, port: {mosquitto.port}}}\n{out}")
    (tmp_path / "plant.pt").write_bytes(trained.path.read_bytes())
    home = tmp_path / "home" / "streamae"
    home.mkdir(parents=True)
    (home / "models.json").write_bytes(trained.registry.read_bytes())
    checked = subprocess.run(
        [*command, "check", "-c", str(config)], cwd=ROOT, capture_output=True, text=True, check=False,
        env={**os.environ, "XDG_STATE_HOME": str(home.parent)},
    )  # fmt: skip
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "plant/+/+" in checked.stdout


def test_retained_messages_are_counted_apart(mosquitto):
    """A retained message says nothing of what is published now."""
    mosquitto.publish([("t/old", b"1")], retain=True)
    clocks = {"now": time.time, "monotonic": time.monotonic, "jitter": lambda: 0.5}
    connection = ConnectionOptions(host="127.0.0.1", port=mosquitto.port, protocol="3.1.1")
    found = sniff(connection, ["#"], 0.5, **clocks)
    assert (found.messages, found.retained, found.topics) == (0, 1, {})
    assert "1 retained messages were not looked at" in said(found)
    with pytest.raises(UnavailableError, match=r"check host, port, credentials"):
        sniff(ConnectionOptions(host="127.0.0.1", port=free_port(), connect_timeout_s=0.2), ["#"], 0.5, **clocks)
    assert Drop.RETAINED == "retained"


def test_what_a_bridge_keeps_of_its_devices_is_asked_for(mosquitto):
    """Of the retained messages Zigbee2MQTT's list of devices is read, on any broker and with a filter of its own."""
    exposes = [{"type": "numeric", "property": "temperature", "access": 1}]
    device = {"friendly_name": "cellar", "type": "EndDevice", "definition": {"exposes": exposes}}
    mosquitto.publish([("z2m/bridge/devices", json.dumps([device]).encode()), ("z2m/hall", b"1")], retain=True)
    clocks = {"now": time.time, "monotonic": time.monotonic, "jitter": lambda: 0.5}
    for protocol, topic in (("3.1.1", "#"), ("5", "#"), ("5", "z2m/#")):
        connection = ConnectionOptions(host="127.0.0.1", port=mosquitto.port, protocol=protocol)
        text = said(sniff(connection, [topic], 0.5, **clocks))
        assert "# z2m has cellar, not heard yet: it would send temperature" in text
