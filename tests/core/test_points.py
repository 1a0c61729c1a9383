"""The work of one message is bounded by what it holds, in every format, and so is what is counted of it."""

import json
from dataclasses import replace

import numpy as np
import pytest

from streamae.core.decode import PayloadSpec
from streamae.core.formats import FORMATS, columns, edge_nodes, influx, senml, sparkplug_payload, telegraf
from streamae.core.types import Drop
from tests import sparkplug as sp
from tests.golden_payloads import NOW, open_decoder

pytestmark = pytest.mark.quick

MANY = 300
SPEC = {"max_points": MANY}


def numbered(n: int) -> str:
    return ",".join(f'"k{i}":{i}' for i in range(n))


def metrics(n: int) -> bytes:
    return sp.payload(*(sp.metric(f"m{i}", datatype=sp.DOUBLE, double_value=1.0) for i in range(n)), seq=0, time_s=NOW)


def payloads(n: int) -> dict[str, tuple[PayloadSpec, str, bytes, bytes]]:
    """By name: a spec, a topic template, a topic, and a payload with so many points, of which the group knows some."""
    entries = [{"a": i, "t": NOW + i / 1000} for i in range(n)]
    record = json.dumps({"fields": {"a": 1}, "name": "m", "tags": {}, "timestamp": NOW})
    return {
        "samples": (
            PayloadSpec("json", samples="r", time="t", **SPEC), "{p}", b"p", json.dumps({"r": entries}).encode()
        ),
        "samples without time": (
            PayloadSpec("json", samples="r", sample_every_s=0.001, **SPEC), "{p}", b"p",
            json.dumps({"r": [{"a": 1}] * n}).encode(),
        ),
        "lines": (
            PayloadSpec("influx", **SPEC), "{p}", b"p", b"\n".join(b"m a=%d %d" % (i, NOW * 1e9) for i in range(n))
        ),
        "fields of a line": (
            PayloadSpec("influx", **SPEC), "{p}", b"p", b"m a=1," + b",".join(b"f%d=1" % i for i in range(n - 1))
        ),
        "telegraf": (
            PayloadSpec("telegraf", **SPEC), "{p}", b"p", f'{{"metrics":[{",".join([record] * n)}]}}'.encode()
        ),
        "fields of a record": (
            PayloadSpec("telegraf", **SPEC), "{p}", b"p",
            f'{{"fields":{{"a":1,{numbered(n - 1)}}},"name":"m","tags":{{}},"timestamp":{NOW:.0f}}}'.encode(),
        ),
        "senml": (
            PayloadSpec("senml", **SPEC), "{p}", b"p",
            json.dumps([{"n": "a", "v": 1, "t": i - n} for i in range(n)]).encode(),
        ),
        "tasmota": (PayloadSpec("tasmota", **SPEC), "{p}", b"p", f'{{"a":1,{numbered(n - 1)}}}'.encode()),
        "zigbee2mqtt": (PayloadSpec("zigbee2mqtt", **SPEC), "{p}", b"p", f'{{"a":1,{numbered(n - 1)}}}'.encode()),
        "shelly": (
            PayloadSpec("shelly", values={"a": "switch:0.a"}, **SPEC), "{p}/status/{x}", b"p/status/switch:0",
            f'{{"a":1,{numbered(n - 1)}}}'.encode(),
        ),
        "sparkplug": (
            PayloadSpec("sparkplug", values={"a": "m1"}, **SPEC), "spBv1.0/{g}/+/{n}", b"spBv1.0/g/NBIRTH/n", metrics(n)
        ),
    }  # fmt: skip


def read(case: tuple[PayloadSpec, str, bytes, bytes]):
    spec, template, topic, payload = case
    return open_decoder(spec, template, ("a",), 4)[0].decode([topic], [payload], np.full(1, NOW))


FLAT = {"tasmota", "zigbee2mqtt", "shelly"}  # the state of one device, whose first few hundred values are looked at
WHOLE = {"lines", "telegraf", "senml", "sparkplug"}  # each point counts, however few values it has


@pytest.mark.parametrize("name", sorted(payloads(1).keys() - FLAT))
def test_a_message_with_more_points_than_it_may_have_is_refused_and_counted_once(name):
    """And is read where it has as many as it may."""
    most = MANY if name in WHOLE else 4 * MANY
    found, drops = read(payloads(most)[name])
    assert len(found)
    assert Drop.TOO_MANY_POINTS not in drops
    for n in (most + 1, 4 * most):
        found, drops = read(payloads(n)[name])
        assert not len(found)
        assert +drops == {Drop.TOO_MANY_POINTS: 1}


@pytest.mark.parametrize("name", sorted(FLAT))
def test_a_state_of_many_values_is_read_in_part(name):
    """What comes after some hundred values is none of the device's."""
    spec, template, topic, payload = payloads(20_000)[name]
    found, drops = read((replace(spec, max_points=2000), template, topic, payload))
    assert (len(found), +drops) == (1, {})


def test_every_format_of_many_points_has_a_case():
    """What is one value a message has none."""
    single = {"number", "homeassistant", "victron"}
    assert {spec.kind for spec, *_ in payloads(1).values()} | single == set(FORMATS)


@pytest.mark.parametrize("name", ["samples", "lines", "telegraf", "senml", "sparkplug"])
def test_what_is_refused_is_not_read(name, monkeypatch):
    """Not one point of it; the control reads a few."""
    read_points = []
    for room, function in (
        (columns.ReadingColumns, "take"), (influx, "_point"), (telegraf, "_metric"), (senml, "_resolved"),
        (edge_nodes.SparkplugReader, "_add"),
    ):  # fmt: skip
        plain = getattr(room, function)
        monkeypatch.setattr(room, function, lambda *x, plain=plain: read_points.append(1) or plain(*x))
    read(payloads(40 * MANY)[name])
    assert not read_points
    read(payloads(3)[name])
    assert read_points


@pytest.mark.parametrize("entry", ["0", '"x"', "null", "true", "{}", "[]"])
def test_what_a_message_lacks_is_counted_once_for_each_channel(entry):
    """However many entries are no samples; what is one beside them is read."""
    spec = PayloadSpec("json", samples="r", max_points=10_000)
    decoder = open_decoder(spec, "{p}", ("a", "b", "c", "d"), 4)[0]
    body = f'{{"r":[{",".join([entry] * 5000)},{{"a":1,"b":2,"c":3,"d":4}}]}}'.encode()
    found, drops = decoder.decode([b"p"], [body], np.full(1, NOW))
    assert len(found) == 4
    assert drops == {Drop.MISSING_VALUE: 4}


def test_a_burst_of_plain_numbers_is_read():
    """4,096 of them, as a vibration logger sends; the 32,000 that 64 KiB can hold are too many for four channels."""
    spec = PayloadSpec("json", values={"a": ""}, samples="r", sample_every_s=0.001)
    body = json.dumps({"r": [0.125] * 4096}).encode()
    found, drops = open_decoder(spec, "{p}", ("a",), 4)[0].decode([b"p"], [body], np.full(1, NOW))
    assert (len(found), +drops) == (4096, {})
    spec = PayloadSpec("json", samples="r")
    body = b'{"r":[' + b",".join([b"0"] * 32_000) + b"]}"
    found, drops = open_decoder(spec, "{p}", ("a", "b", "c", "d"), 4)[0].decode([b"p"], [body], np.full(1, NOW))
    assert (len(found), +drops) == (0, {Drop.TOO_MANY_POINTS: 1})


def test_a_metric_of_many_fields_is_refused():
    """One metric can hold as many fields as a payload can bytes."""
    block = b"\x50\x01" * 5000  # int_value, again and again
    body = b"\x12" + bytes([len(block) & 0x7F | 0x80, len(block) >> 7]) + block
    with pytest.raises(ValueError, match="too many fields"):
        sparkplug_payload.parse(body)


def test_an_honest_message_of_the_largest_size_is_read():
    """64 KiB of line protocol as Telegraf writes it, of a JSON array as a logger does: below the default bound."""
    line = b"cpu,host=web-17,region=north usage_user=12.25,usage_system=3.5,usage_idle=84.25 1700000000000000000\n"
    samples = json.dumps({"r": [{"t": 1700000000.125 + i / 100, "a": 0.12345678} for i in range(1400)]}).encode()
    for spec, body in (
        (PayloadSpec("influx", values={"a": "usage_user"}), line * (65536 // len(line))),
        (PayloadSpec("json", samples="r", time="t"), samples),
    ):
        found, drops = open_decoder(spec, "{p}", ("a",), 4)[0].decode([b"p"], [body], np.full(1, 1700000100.0))
        assert len(body) <= 65536
        assert len(found) > 600
        assert not +drops
