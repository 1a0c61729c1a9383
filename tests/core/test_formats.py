"""The contract of core.formats, for every format that is registered: what its own documentation shows is read exactly,
no bytes raise, a value that is gone ends its own hold alone, and no time is believed that is far ahead.

`tests/tools/test_sniff_formats.py` is the part of the contract that `sniff` has.
"""

import importlib
import json
import math
from collections import Counter
from dataclasses import replace
from zoneinfo import ZoneInfo

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from streamae.config.check import check
from streamae.core.decode import Decoder, PayloadSpec, deferred
from streamae.core.formats import FORMATS, influx
from streamae.core.formats.flat import flattened
from streamae.core.formats.spec import Format
from streamae.core.formats.values import lookup, parse_path
from streamae.core.routes import Router, Streams
from streamae.core.topics import Template
from streamae.core.types import Drop
from streamae.daemon.json_parser import json_loads
from tests.golden_payloads import FOLDER, NOW, about, every_case, golden_of, open_decoder

CASES = every_case()
OF_FORMATS = pytest.mark.parametrize("kind", FORMATS)
GONE = ("null", "NaN", '"unavailable"')  # as JSON spells them, or Python's writer of it


def read(case, messages=None, arrival_s=NOW):
    """The readings of a case's messages as [stream, channel, time, value], and what was refused."""
    decoder, streams = open_decoder(case.spec, case.template, case.channels)
    topics, payloads = zip(*(messages or case.messages), strict=True)
    r, drops = decoder.decode(topics, payloads, np.full(len(topics), arrival_s))
    rows = zip(r.stream.tolist(), r.channel.tolist(), r.time_s.tolist(), r.value.tolist(), strict=True)
    return [[streams.names[s], case.channels[c], t, v] for s, c, t, v in rows], {
        k.value: n for k, n in drops.items() if n
    }


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_documentation_s_own_payloads_are_read_exactly(case):
    """Values, channels, streams and times as the specification means them; what is refused has its reason."""
    rows, drops = read(case)
    assert drops == case.drops
    expected = [[s, c, NOW + (t or 0) if t is None or t < 0 else t, float(v)] for s, c, t, v in case.readings]
    assert len(rows) == len(expected)
    for row, wanted in zip(sorted(rows, key=str), sorted(expected, key=str), strict=True):
        assert row == [*wanted[:2], pytest.approx(wanted[2], abs=1e-6), pytest.approx(wanted[3], nan_ok=True)]


def test_every_format_has_golden_payloads():
    """A format without golden payloads is no format, and payloads without a format are forgotten ones."""
    assert {path.stem for path in FOLDER.glob("*.yaml")} == set(FORMATS)
    assert {kind for kind in FORMATS if any(case.clean for case in golden_of(kind))} == set(FORMATS)


@OF_FORMATS
def test_a_format_is_one_file_that_says_all_of_itself(kind, tmp_path):
    """It is called as its file, has a line and a link for the documentation, and an example that `check` accepts."""
    form = FORMATS[kind]
    module = importlib.import_module(f"streamae.core.formats.{kind}")
    assert (module.FORMAT, module.FORMAT.name) == (form, kind)
    assert 0 < len(form.about) < 100
    assert "\n" not in form.about
    assert form.link.startswith("https://")
    assert (form.records is None) != (form.open is None)
    keys = {"values", "value", "time", "time_unit", "samples", "sample_every", "sequence", "labels", "where", "name"}
    assert set(form.keys) <= keys | {"time_zone", "id", "quality", "good"}
    example = yaml.safe_load(form.example)
    assert example["payload"] == kind
    assert set(example) <= {"topic", "payload", *form.keys}
    path = tmp_path / "streamae.yaml"
    path.write_text(
        "instance: x\nstate: {dir: state}\nmqtt: {host: localhost}\n"
        f"streams: {{group: {{topics: [{form.example}], model: {{path: m.pt}}}}}}\n"
    )
    assert any(f", {kind}: " in line for line in check(path))


def test_a_file_beside_the_others_is_a_format():
    """The registry is what lies in the folder: nothing else names the formats."""
    found = [
        path.stem for path in (FOLDER.parents[2] / "streamae/core/formats").glob("[a-z]*.py") if is_format(path.stem)
    ]
    assert sorted(found) == sorted(FORMATS)
    assert list(FORMATS)[:2] == ["number", "json"]


def is_format(name):
    return isinstance(getattr(importlib.import_module(f"streamae.core.formats.{name}"), "FORMAT", None), Format)


def without(document, path, gone):
    """The document as JSON with something else at a path."""
    copy = json.loads(json.dumps(document))
    if not path:
        return gone
    inner = lookup(copy, path[:-1])
    inner[path[-1]] = "GONE"
    return json.dumps(copy).replace('"GONE"', gone)


def number_leaves(node, path=()):
    if isinstance(node, dict | list):
        for key, inner in node.items() if isinstance(node, dict) else enumerate(node):
            yield from number_leaves(inner, (*path, key))
    elif isinstance(node, int | float | str) and not isinstance(node, bool):
        yield path, node


def mutilated(case):
    """The messages of a case with one value that is read made null, NaN or unavailable, and which reading it was."""
    for at, (topic, payload) in enumerate(case.messages):
        try:
            document = json.loads(payload)
        except ValueError:
            document = payload.decode(errors="replace")  # plain text: the payload is the value
        for path, leaf in number_leaves(document):
            same = [row for row in case.readings if is_said(row[3], leaf)]
            if len(same) == 1 and sum(is_said(same[0][3], other) for _, other in number_leaves(document)) == 1:
                for gone in GONE:
                    changed = without(document, path, gone).encode()
                    yield [*case.messages[:at], (topic, changed), *case.messages[at + 1 :]], same[0]


def is_said(value, leaf):
    try:
        return float(leaf) == value
    except ValueError:
        return False


@OF_FORMATS
def test_a_value_that_is_gone_ends_its_own_hold_alone(kind):
    """Null, NaN or "unavailable" in a value's place: it is counted, never a number, and all others are as they were."""
    tried = 0
    for case in golden_of(kind):
        if not case.clean:
            continue
        whole, _ = read(case)
        for messages, (stream, channel, *_) in mutilated(case):
            rows, drops = read(case, messages)
            left = [row for row in rows if not math.isnan(row[3])]
            assert sum(drops.values()) == 1, (case.name, messages)
            assert Counter(map(str, left)) <= Counter(map(str, whole)), (case.name, messages)
            assert len(left) == len(whole) - 1, (case.name, messages)
            assert {tuple(row[:2]) for row in rows if math.isnan(row[3])} <= {(stream, channel)}, (case.name, messages)
            tried += 1
    ended = any(math.isnan(value) for case in golden_of(kind) for *_, value in case.readings)
    assert tried or ended or about(kind)["no_null"]


@OF_FORMATS
def test_a_time_that_is_far_ahead_is_refused_once(kind):
    """By the one bound that all formats have: nothing is read, and a sample is counted once, not each of its values."""
    tried = 0
    for case in golden_of(kind):
        times = [t for _, _, t, value in case.readings if t is not None and t > 0]
        if not case.clean or len(times) < len(case.readings):
            continue
        rows, drops = read(case, arrival_s=min(times) - 61)
        assert set(drops) == {"future"}, case.name
        assert all(math.isnan(value) and t <= min(times) - 1 for *_, t, value in rows), case.name
        samples = len({(stream, t) for stream, _, t, _ in case.readings})
        assert drops["future"] <= max(samples, len(case.messages)), case.name
        assert read(case, arrival_s=max(times) - 59)[1] == {}, case.name
        tried += 1
    assert tried or not FORMATS[kind].timed


def test_measured_together_is_one_origin():
    """Fields of one line, and SenML records of one time, make one row."""
    for kind, payload in (
        ("influx", b"m a=1,b=2 1556813561000000000\nm a=3,b=4 1556813562000000000"),
        ("senml", b'[{"bt":1556813561,"n":"a","v":1},{"n":"a","t":1,"v":3},{"n":"b","v":2},{"n":"b","t":1,"v":4}]'),
    ):
        decoder, _ = open_decoder(PayloadSpec(kind))
        readings, drops = decoder.decode([b"p"], [payload], np.array([NOW]))
        assert not drops
        together = {}
        for origin, channel, value in zip(
            readings.origin.tolist(), readings.channel.tolist(), readings.value.tolist(), strict=True
        ):
            together.setdefault(origin, {})[channel] = value
        assert sorted(map(str, together.values())) == ["{0: 1.0, 1: 2.0}", "{0: 3.0, 1: 4.0}"]


@pytest.mark.parametrize(("on_change", "refused"), [(False, {Drop.UNKNOWN_CHANNEL: 1}), (True, {})])
def test_what_has_changed_need_be_no_channel(monkeypatch, on_change, refused):
    """Where only changes are published, a message with none of the channels is no mistake; elsewhere it is counted."""
    monkeypatch.setitem(FORMATS, "zigbee2mqtt", replace(FORMATS["zigbee2mqtt"], on_change=on_change))
    decoder, _ = open_decoder(PayloadSpec("zigbee2mqtt"))
    readings, drops = decoder.decode([b"p", b"p"], [b'{"other": 1}', b'{"a": 1, "other": 1}'], np.full(2, NOW))
    assert (readings.value.tolist(), drops) == ([1.0], refused)


def test_no_stream_is_made_by_what_carries_no_sample():
    """A topic that is matched, but whose payload says nothing of the channels, leaves no empty stream behind."""
    decoder, streams = open_decoder(PayloadSpec("zigbee2mqtt"), "z/{pump}/#")
    decoder.decode([b"z/x/availability", b"z/y", b"z/z"], [b"online", b'{"other": 1}', b"{"], np.full(3, NOW))
    assert streams.names == []


def test_streams_that_tags_name_are_bounded():
    """A tag with ever new values fills the group's streams and no more; the rest is counted."""
    decoder, streams = open_decoder(PayloadSpec("influx", labels={"id": "id"}), max_streams=3)
    lines = "\n".join(f"m,id={i} a=1" for i in range(10)).encode()
    _, drops = decoder.decode([b"p"], [lines], np.array([NOW]))
    assert len(streams) == 3
    assert {k.value: n for k, n in drops.items()} == {"max_streams": 7}


@pytest.mark.parametrize("loads", [json.loads, json_loads()])
def test_half_a_character_names_no_stream(loads):
    """JSON can spell what no file and no answer can hold; a stream of such a name would break each that shows it."""
    spec = PayloadSpec("telegraf", labels={"host": "host"})
    streams = Streams("{host}", 4)
    router = Router([Template.parse("t")], ("a",), streams, deferred([spec]))
    payload = b'{"fields": {"a": 1}, "name": "m", "tags": {"host": "x\\ud800"}, "timestamp": 1700000000}'
    readings, drops = Decoder(router, [spec], ("a",), loads=loads).decode([b"t"], [payload], np.array([NOW]))
    assert (len(readings), streams.names, sum(drops.values())) == (0, [], 1)


def test_a_far_future_stamp_is_refused():
    decoder, _ = open_decoder(PayloadSpec("influx"))
    _, drops = decoder.decode([b"p"], [b"m a=1 1700000061000000000\nm a=1 1700000059000000000"], np.array([NOW]))
    assert {k.value: n for k, n in drops.items()} == {"future": 1}


# Properties: the line protocol against a writer of our own, everything against bytes.
NAME = st.text(
    st.characters(codec="utf-8", exclude_characters='\n\r\\"#', exclude_categories=["Cs", "Cc"]), min_size=1, max_size=6
)


def escape(text, chars=",= "):
    return "".join("\\" + c if c in chars else c for c in text)


VALUE = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False),
    st.integers(-(2**63), 2**63 - 1),
    st.booleans(),
    st.text('ab"\\ ,=', max_size=6),
)


@given(
    NAME.filter(lambda n: n.strip() == n),
    st.dictionaries(NAME, NAME, max_size=3),
    st.dictionaries(NAME, VALUE, min_size=1, max_size=4),
    st.integers(0, 1_699_999_999_999_999_999),
)
def test_a_line_that_was_written_is_read_back(measurement, tags, fields, stamp):
    """For any names and strings, writing by the rules and reading are inverse."""

    def said(value):
        if isinstance(value, bool):
            return str(value).lower()
        if isinstance(value, str):
            return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
        return f"{value}i" if isinstance(value, int) else repr(value)

    head = "".join(f",{escape(k)}={escape(v)}" for k, v in tags.items())
    line = f"{escape(measurement, ', ')}{head} " + ",".join(f"{escape(k)}={said(v)}" for k, v in fields.items())
    spec = PayloadSpec("influx", time_unit="ns")
    (record,) = influx.FORMAT.records(b"p", f"{line} {stamp}".encode(), spec, json.loads, NOW)
    assert record.tags == {**tags, "_measurement": measurement}
    assert record.time_s == pytest.approx(stamp / 1e9)
    assert set(record.values) == set(fields)
    for key, value in fields.items():
        assert isinstance(record.values[key], str) if isinstance(value, str) else record.values[key] == float(value)


KEYS = [*"abnvts", "bn", "bt", "bv", "bver", "fields", "tags", "name", "metrics", "timestamp", "last_seen", "Time"]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=5),
)
KNOWN = [payload for case in CASES for _, payload in case.messages]


@st.composite
def mutations(draw):
    """A golden payload with some bytes cut out, doubled or changed."""
    payload = bytearray(draw(st.sampled_from(KNOWN)))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, max(len(payload) - 1, 0)))
        step = draw(st.sampled_from(["cut", "double", "change"]))
        size = draw(st.integers(1, 8))
        if step == "cut":
            del payload[at : at + size]
        elif step == "double":
            payload[at:at] = payload[at : at + size]
        else:
            payload[at : at + 1] = draw(st.binary(max_size=2))
    return bytes(payload)


BERLIN = ZoneInfo("Europe/Berlin")


@OF_FORMATS
@settings(max_examples=30, deadline=None)  # for each of a dozen formats; the fuzz targets go on for hours
@given(
    st.data(),
    st.binary(max_size=60) | JSON.map(lambda x: json.dumps(x).encode()) | mutations(),
)
def test_no_payload_raises(kind, data, payload):
    """Any payload on any of its topics becomes readings that are finite or say that there is none, or drops."""
    case = data.draw(st.sampled_from(golden_of(kind)))
    topic = data.draw(st.sampled_from([topic for topic, _ in case.messages]))
    zones = [case.spec.zone, BERLIN] if "time_zone" in FORMATS[kind].keys else [case.spec.zone]
    asked = replace(case.spec, zone=data.draw(st.sampled_from(zones)))
    decoder, streams = open_decoder(asked, case.template, case.channels)
    readings, _ = decoder.decode([topic], [payload], np.array([NOW]))
    assert np.isfinite(readings.time_s).all()
    assert not np.isinf(readings.value.astype(np.float32)).any()
    assert len(streams) <= 10


@given(JSON)
def test_a_flattened_name_is_the_path_to_its_value(document):
    """What a state's values are called can be looked up as a path, quotes and indices included."""
    for path, value in flattened({"root": document}).items():
        found = lookup({"root": document}, parse_path(path))
        assert found is value or found == value or found != found  # noqa: PLR0124  (NaN)
