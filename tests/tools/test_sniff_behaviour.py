"""What `sniff` leaves out, and what it makes of names within payloads: each rule with inputs of different makes."""

import json

import numpy as np
import pytest
import yaml

from streamae.core.formats.sighting import measures_nothing
from streamae.tools.sniff.behaviour import Course, judged
from streamae.tools.sniff.listen import Sniffed, note
from streamae.tools.sniff.propose import propose
from streamae.tools.sniff.tags import name_template

NOW_S = 1.7e9


def sniffed_of(messages) -> Sniffed:
    """As if these (offset in seconds, topic, document) had been published."""
    found = Sniffed()
    for offset, topic, document in messages:
        payload = document if isinstance(document, bytes) else json.dumps(document).encode()
        note(found, topic.encode(), payload, NOW_S + offset)
    return found


def said(messages) -> str:
    seconds = max(offset for offset, _, _ in messages)
    return propose(sniffed_of(messages), now_s=NOW_S + seconds, seconds=seconds)


def topics(text) -> list[dict]:
    return [group["topics"][0] for group in (yaml.safe_load(text) or {}).get("streams", {}).values()]


@pytest.mark.parametrize(
    "name",
    ["battery", "batt_pct", "Battery.Level", "linkquality", "rssi", "rxInfo[0].loRaSNR", "wifi_signal", "uptime_s",
     "fw", "firmware_version", "ENERGY.Yesterday", "energy_today", "last_month", "fCnt", "txInfo.frequency",
     "uplink.rx_metadata.rssi", "freq1", "power_outage_count", "UptimeSec", "freemem", "device_temperature"],
)  # fmt: skip
def test_what_a_device_says_of_itself_measures_nothing(name):
    assert measures_nothing(name)


@pytest.mark.parametrize(
    "name", ["temperature", "ENERGY.Power[0]", "Dc/0/Voltage", "frequency", "signal", "level", "flow_total", "voltage"]
)
def test_measurements_are_kept(name):
    assert not measures_nothing(name, ["temperature", "power_outage_count"])


def test_a_voltage_beside_a_battery_is_the_battery_s_unless_power_is_measured():
    assert measures_nothing("voltage", ["battery", "temperature", "voltage", "power_outage_count"])
    assert measures_nothing("volt", ["batt", "hum", "volt"])
    assert not measures_nothing("voltage", ["battery", "power", "voltage"])
    assert not measures_nothing("voltage", ["current", "voltage"])


def course(*values, every_s=60.0) -> dict:
    return {"stream": Course([NOW_S + every_s * i for i in range(len(values))], [float(v) for v in values])}


def test_values_are_judged_by_how_they_behave():
    """Constants, clocks, numbers of messages, counters by name or by nature, Fahrenheit; measurements stay."""
    rng = np.random.default_rng(0)
    warm = np.round(20 + rng.normal(0, 1, 40), 1)
    heard = {
        "nominal": course(*[42] * 40),
        "temperature": course(*[21.5] * 40),  # stands still, and is a temperature
        "alive": course(*range(1000, 1000 + 60 * 40, 60)),
        "nr": course(*range(7, 47)),
        "kwh": course(*np.round(100 + np.arange(40) / 7, 1)),
        "litres": course(*np.cumsum(rng.integers(1, 9, 40))),
        "pulses": course(*[*range(65500, 65530), *range(0, 10)]),
        "noise": course(*rng.normal(0, 1, 40)),
        "inside": course(*warm),
        "inside_f": course(*np.round(warm * 1.8 + 32, 1)),
    }
    found = judged(heard, heard)
    assert found.constant == ("nominal",)
    assert set(found.clocks) == {"alive", "nr"}
    assert set(found.counters) == {"kwh", "litres", "pulses"}
    assert found.doubled == ("inside_f",)
    assert judged({"nominal": course(*[42] * 5, every_s=1.0)}, ["nominal"]).constant == ()  # heard for five seconds


@pytest.mark.parametrize(
    ("documents", "expected"),
    [
        ([{"boot": NOW_S - 500, "flow": 1.0 + i} for i in range(5)], None),
        ([{"time": "2023-11-01T00:00:00Z", "flow": 1.0 + i} for i in range(5)], None),
        ([{"boot": NOW_S - 500, "ts": NOW_S + 10 * i, "flow": 1.0 + i} for i in range(5)], "ts"),
        ([{"m": {"at": 1000 * (NOW_S + 10 * i)}, "flow": 1.0 + i} for i in range(5)], "m.at"),
    ],
)
def test_a_time_that_stands_still_is_none(documents, expected):
    (topic,) = topics(said([(10.0 * i, "pump/1", one) for i, one in enumerate(documents)]))
    assert topic.get("time") == expected


def test_a_local_time_without_a_zone_is_not_taken_for_utc():
    """Two hours ahead of the arrival is a zone, which the reader must name; the arrival counts until then."""
    messages = [(60.0 * i, "p/1", {"time": f"2023-11-15 00:{13 + i}:20", "flow": 1.0 + i}) for i in range(5)]
    text = said(messages)
    assert "time" not in topics(text)[0]
    assert "+2 h from UTC: add time_zone" in text


def test_devices_of_several_kinds_on_one_topic():
    """A name within the payload that varies is a label; a model that has other values is a group of its own."""
    messages = []
    for i in range(12):
        messages += [
            (
                10.0 * i,
                "radio/all",
                {"model": "TH", "id": 7, "temperature": 20.1 + i, "humidity": 50 - i, "mic": "CRC"},
            ),
            (
                10.0 * i + 1,
                "radio/all",
                {"model": "TH", "id": 9, "temperature": 3.3 + i, "humidity": 80 - i, "mic": "CRC"},
            ),
            (10.0 * i + 2, "radio/all", {"model": "Rain", "id": 9, "rain_mm": 0.3 * i % 2}),
        ]
    first, second = topics(said(messages))
    assert (first["labels"], first["where"]) == ({"id": "id"}, {"model": "TH"})
    assert first["values"] == {"temperature": "temperature", "humidity": "humidity"}
    assert (second["where"], second["values"]) == ({"model": "Rain"}, {"rain_mm": "rain_mm"})
    alike = [(i, "farm", {"device": {"name": f"barn{i % 3}"}, "lux": 100.0 + i % 7}) for i in range(12)]
    (topic,) = topics(said(alike))
    assert topic["labels"] == {"name": "device.name"}
    assert "where" not in topic


def test_a_number_of_the_message_is_nobody_s_name():
    """What is another one in each message is not whose it is."""
    messages = [(10.0 * i, "w/1", {"message_id": f"m{i}", "uuid": f"{i}-{i}", "flow": i % 3 + 0.5}) for i in range(12)]
    (topic,) = topics(said(messages))
    assert "labels" not in topic


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        (
            {
                "timestamp": 1,
                "values": [{"id": f"L1.P{p}.{c}", "v": 1.5, "q": True} for p in (1, 2) for c in ("A", "B")],
            },
            {"samples": "values", "id": "id", "value": "v", "quality": "q", "name": "L1.{device}.{channel}"},
        ),
        (
            [{"NodeId": f"ns=2;s={n}", "Value": 1.5, "StatusCode": "Good"} for n in ("Flow", "Level", "Temp")],
            {"samples": "$", "id": "NodeId", "value": "Value", "quality": "StatusCode"},
        ),
    ],
)
def test_lists_of_tags_are_never_mixed(document, expected):
    """Each name in a list is a value of its own; names of several parts are taken apart."""
    (topic,) = topics(said([(10.0 * i, "gateway", document) for i in range(4)]))
    assert {key: topic.get(key) for key in ("samples", "id", "value", "quality", "name") if key in topic} == expected


def test_one_tag_a_message_is_a_tag_too():
    messages = [(i, "opc", {"tag": ("Flow", "Level", "Temp")[i % 3], "value": 1.5 * i}) for i in range(12)]
    (topic,) = topics(said(messages))
    assert (topic["id"], topic["value"], [*topic["values"]]) == ("tag", "value", ["Flow", "Level", "Temp"])


@pytest.mark.parametrize(
    ("names", "template"),
    [
        ([f"Line1.Pump{p}.{c}" for p in (1, 2) for c in ("Flow", "Power")], "Line1.{pump}.{channel}"),
        ([f"{m}/{c}" for m in ("north", "south") for c in ("in", "out")], None),  # a template's level cannot hold it
        ([f"{m}_{c}" for m in ("k1", "k2", "k3") for c in ("t", "p")], "{device}_{channel}"),
        (["Flow", "Power"], None),
        (["a.x", "b.y", "c.z"], None),
    ],
)
def test_names_are_taken_apart_where_all_have_the_same_parts(names, template):
    found = name_template(names)
    assert found == template or (template is None and found == "{device}/{channel}")


def bridge(*devices) -> bytes:
    return json.dumps([
        {"friendly_name": name, "type": "EndDevice", "definition": {"model": "m", "exposes": [
            {"type": "numeric", "property": one, "access": 1} for one in values]}} for name, values in devices
    ]).encode()  # fmt: skip


def test_what_a_bridge_knows_and_was_not_heard_is_named():
    """Battery sensors are silent for an hour; Zigbee2MQTT says that they are there, and what they would send."""
    state = {"temperature": 21.5, "humidity": 40, "linkquality": 90}
    messages = [
        (0.0, "zigbee2mqtt/bridge/devices", bridge(("hall", ["temperature"]), ("cellar", ["temperature", "battery"])))
    ]
    text = said([*messages, *((60.0 * i, "zigbee2mqtt/hall", state) for i in range(3))])
    assert "# zigbee2mqtt has cellar, not heard yet: it would send temperature\n" in text
    assert "hall, not heard" not in text
    for broken in (b"{", b"[1]", b'[{"friendly_name": 3}]', b'[{"friendly_name": "x", "definition": {"exposes": 7}}]'):
        assert "not heard yet" not in said([(0.0, "z/bridge/devices", broken), (1.0, "z/x", {"a": 1.5})])


def test_who_was_heard_once_must_be_listened_to_for_longer():
    once = said([(0.0, "a/1", {"flow": 1.5}), (0.0, "a/2", {"flow": 1.5}), (30.0, "a/1", {"flow": 1.6})])
    assert "1 of 2 streams were heard only once" in once
    assert "--duration 5m" in once
    assert "heard only once" not in said([(30.0 * i, "a/1", {"flow": i}) for i in range(4)])


@pytest.mark.parametrize(
    ("every_s", "align", "stale"),
    [(1.0, {"every": "1s", "method": "hold"}, None), (60.0, {"every": "1m", "method": "hold"}, "5m"),
     (900.0, {"every": "15m", "method": "hold"}, "75m")],
)  # fmt: skip
def test_what_is_proposed_follows_the_period(every_s, align, stale):
    """Grid and silence are those of what was measured."""
    names = [f"p/pump{p}/{c}" for p in (1, 2, 3) for c in ("flow", "power")]
    text = said([(every_s * i, name, str(1.5 + i % 4).encode()) for i in range(6) for name in names])
    (group,) = yaml.safe_load(text)["streams"].values()
    assert group["align"] == align
    assert group.get("health", {}).get("stale_after") == stale


def test_irregular_senders_get_a_grid_that_bridges_their_longest_silence():
    """Zigbee devices speak when something changes: every minute or every hour."""
    at = [0, 60, 120, 200, 3000, 3060, 3130, 6700, 6760]
    text = said([(t, f"zigbee2mqtt/r{r}", {"temperature": 20 + t % 7, "linkquality": 9}) for t in at for r in (1, 2)])
    (group,) = yaml.safe_load(text)["streams"].values()
    assert group["align"]["gap_max"] == "179m"
    assert group["health"]["stale_after"] == "179m"


def devices(names, every_s=300.0, **values) -> list:
    """Zigbee devices that send these values, a little different each time."""
    moving = [{k: v + i / 10 if isinstance(v, float) else v for k, v in values.items()} for i in (0, 3, 1, 4, 2, 0)]
    return [(every_s * i, f"zigbee2mqtt/{n}", {**one, "linkquality": 9}) for i, one in enumerate(moving) for n in names]


def test_a_switch_is_the_mark_of_a_device_whose_measurements_others_have_too():
    """Beside climate sensors a leak sensor with a thermometer is known by its leak; a plug's switch is left out."""
    climate = devices(["a", "b", "c"], temperature=20.5, humidity=40.5)
    leaks, plugs = devices(["l1", "l2"], water_leak=False, temperature=12.5), devices(["p"], power=7.5, state="ON")
    found = [set(topic["values"]) for topic in topics(said(climate + leaks + plugs))]
    assert found == [{"temperature", "humidity"}, {"temperature", "water_leak"}, {"power"}]


def test_entities_are_parted_by_what_their_names_end_in():
    """Rooms with the same few quantities are streams with channels; other quantities are groups of their own."""
    rooms = [f"{n}_{w}" for n in ("kitchen", "living_room", "bath") for w in ("temperature", "humidity", "battery")]
    names = [*rooms, "fridge_power", "tv_power", "outdoor_pressure"]
    base = "homeassistant/sensor"
    text = said([(300.0 * i, f"{base}/{n}/state", f"{20 + i % 4}.5".encode()) for i in range(6) for n in names])
    assert {topic["topic"]: topic.get("values") for topic in topics(text)} == {
        f"{base}/{{sensor}}_{{channel}}/state": {"humidity": "humidity", "temperature": "temperature"},
        f"{base}/{{sensor}}_power/state": None,
        f"{base}/outdoor_pressure/state": None,
    }
    esp = [f"esp{n}/sensor/{w}/state" for n in (1, 2, 3) for w in ("temperature", "pressure", "wifi_signal", "uptime")]
    (topic,) = topics(said([(60.0 * i, name, f"{20 + i % 4}.5".encode()) for i in range(6) for name in esp]))
    assert topic["topic"] == "{esp}/sensor/{channel}/state"
    assert set(topic["values"]) == {"temperature", "pressure"}


def test_families_below_one_tree_are_told_apart_by_their_names():
    """Shellies of the first generation share a tree, and each family has topics of its own."""
    names = [f"shellyht-{d}/sensor/{w}" for d in ("A1", "A2") for w in ("temperature", "humidity", "battery")]
    names += [f"shellyplug-s-{d}/relay/0/power" for d in ("B1", "B2")]
    text = said([(60.0 * i, f"shellies/{n}", f"{20 + i % 4}.5".encode()) for i in range(6) for n in names])
    assert {topic["topic"]: set(topic["values"]) for topic in topics(text)} == {
        "shellies/shellyht-{shellie}/{channel...}": {"sensor/temperature", "sensor/humidity"},
        "shellies/shellyplug-s-{shellie}/{channel...}": {"relay/0/power"},
    }


def test_what_a_network_server_decoded_is_what_was_measured():
    """Of the Things Network and of ChirpStack, whose text within JSON is read too, the radio is left out."""
    ttn = {
        "uplink_message": {"f_cnt": 7, "decoded_payload": {"soil": 20.5}, "rx_metadata": [{"rssi": -90, "snr": 7.5}]}
    }
    old = {"fCnt": 7, "rxInfo": [{"rssi": -57, "loRaSNR": 10}], "objectJSON": '{"temperature": 4.5, "battery": 3.6}'}
    (first,), (second,) = (topics(said([(600.0 * i, "app/1/up", one) for i in range(3)])) for one in (ttn, old))
    assert first["values"] == {"soil": "uplink_message.decoded_payload.soil"}
    assert second["values"] == {"temperature": "objectJSON.temperature"}


def test_what_runs_on_a_battery_may_be_silent_for_long():
    """A short look does not show how long a battery sensor can be silent, so it is given two hours at least."""
    mains, sensor = devices(["p"], every_s=30.0, power=7.5), devices(["s"], every_s=30.0, soil=7.5, battery=80)
    found = yaml.safe_load(said(mains + sensor))["streams"].values()
    assert [group["health"]["stale_after"] for group in found] == ["5m", "2h"]


def test_of_devices_that_speak_by_turns_none_is_forgotten():
    """However many messages a topic has, those that are kept are of all its devices."""
    messages = [(i / 2, "hosts", {"device": f"core{i % 2}", "flow": i % 7 + 0.5}) for i in range(5000)]
    (topic,) = topics(said(messages))
    assert topic["labels"] == {"device": "device"}
