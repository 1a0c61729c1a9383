"""The contract of core.formats: what each format's own documentation shows is read exactly; no bytes raise."""

import json
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from streamae.core.decode import Decoder, PayloadSpec, deferred
from streamae.core.formats import FORMATS
from streamae.core.formats.states import flattened
from streamae.core.formats.values import lookup, parse_path
from streamae.core.topics import Router, Streams, Template
from streamae.daemon.json_parser import json_loads

NOW = 1_700_000_000.0
GOLDEN = sorted((Path(__file__).parents[1] / "golden" / "payloads").glob("*.yaml"))


def cases():
    for path in GOLDEN:
        golden = yaml.safe_load(path.read_text())
        for case in golden["cases"]:
            yield pytest.param(path.stem, golden, case, id=f"{path.stem}: {case['name']}")


def make(spec, template="{pump}", channels=("a", "b"), max_streams=10):
    labels = Template.parse(template).labels
    names = Template.parse(spec.name).labels if spec.name else ()
    every = dict.fromkeys((*labels, *spec.labels, *names))
    stream = "/".join("{" + label + "}" for label in every if label != "channel")
    streams = Streams(stream, max_streams)
    router = Router([Template.parse(template)], channels, streams, deferred([spec]))
    return Decoder(router, [spec], channels), streams


def read(decoder, streams, channels, messages):
    topics, payloads = zip(*messages, strict=True)
    r, drops = decoder.decode(topics, payloads, np.full(len(topics), NOW))
    rows = zip(r.stream.tolist(), r.channel.tolist(), r.time_s.tolist(), r.value.tolist(), strict=True)
    return [[streams.names[s], channels[c], t, v] for s, c, t, v in rows], {k.value: n for k, n in drops.items()}


@pytest.mark.parametrize(("kind", "golden", "case"), list(cases()))
def test_the_documentation_s_own_payloads_are_read_exactly(kind, golden, case):
    """Values, channels, streams and times as the specification means them; what is refused has its reason."""
    given = dict(case.get("spec", {}))
    zone = given.pop("time_zone", None)
    spec = PayloadSpec(kind, **given, zone=None if zone is None else ZoneInfo(zone))
    template = case.get("template", golden.get("template", "{pump}"))
    decoder, streams = make(spec, template, golden["channels"])
    message = (case.get("topic", "p").encode(), case["payload"].encode())
    rows, drops = read(decoder, streams, golden["channels"], [message])
    assert drops == case.get("drops", {})
    expected = [
        [stream, channel, NOW + (t or 0) if t is None or t < 0 else t, float(v)]
        for stream, channel, t, v in case.get("readings", [])
    ]
    assert len(rows) == len(expected)
    for row, wanted in zip(sorted(rows, key=str), sorted(expected, key=str), strict=True):
        assert row == [*wanted[:2], pytest.approx(wanted[2], abs=1e-6), pytest.approx(wanted[3], nan_ok=True)]


def test_every_format_has_golden_payloads():
    assert {path.stem for path in GOLDEN} == set(FORMATS)


def test_measured_together_is_one_origin():
    """Fields of one line, and SenML records of one time, make one row."""
    for kind, payload in (
        ("influx", b"m a=1,b=2 1556813561000000000\nm a=3,b=4 1556813562000000000"),
        ("senml", b'[{"bt":1556813561,"n":"a","v":1},{"n":"a","t":1,"v":3},{"n":"b","v":2},{"n":"b","t":1,"v":4}]'),
    ):
        decoder, _ = make(PayloadSpec(kind))
        readings, drops = decoder.decode([b"p"], [payload], np.array([NOW]))
        assert not drops
        together = {}
        for origin, channel, value in zip(
            readings.origin.tolist(), readings.channel.tolist(), readings.value.tolist(), strict=True
        ):
            together.setdefault(origin, {})[channel] = value
        assert sorted(map(str, together.values())) == ["{0: 1.0, 1: 2.0}", "{0: 3.0, 1: 4.0}"]


def test_no_stream_is_made_by_what_carries_no_sample():
    """A topic that is matched, but whose payload says nothing of the channels, leaves no empty stream behind."""
    decoder, streams = make(PayloadSpec("zigbee2mqtt"), "z/{pump}/#")
    decoder.decode([b"z/x/availability", b"z/y", b"z/z"], [b"online", b'{"other": 1}', b"{"], np.full(3, NOW))
    assert streams.names == []


def test_streams_that_tags_name_are_bounded():
    """A tag with ever new values fills the group's streams and no more; the rest is counted."""
    decoder, streams = make(PayloadSpec("influx", labels={"id": "id"}), max_streams=3)
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
    decoder, _ = make(PayloadSpec("influx"))
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
    """Whatever stands in names and strings, writing by the rules and reading are inverse."""

    def said(value):
        if isinstance(value, bool):
            return str(value).lower()
        if isinstance(value, str):
            return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
        return f"{value}i" if isinstance(value, int) else repr(value)

    head = "".join(f",{escape(k)}={escape(v)}" for k, v in tags.items())
    line = f"{escape(measurement, ', ')}{head} " + ",".join(f"{escape(k)}={said(v)}" for k, v in fields.items())
    (record,) = FORMATS["influx"].records(
        f"{line} {stamp}".encode(), PayloadSpec("influx", time_unit="ns"), json.loads, NOW
    )
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
KNOWN = [case.encode() for path in GOLDEN for case in (c["payload"] for c in yaml.safe_load(path.read_text())["cases"])]


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


SPECS = [
    spec
    for kind in FORMATS
    for spec in (
        PayloadSpec(kind),
        PayloadSpec(kind, values={"a": "AM2301.Temperature", "b": "temperature"}, zone=ZoneInfo("Europe/Berlin")),
        *([PayloadSpec(kind, name="urn:dev:ow:{id}:{channel}")] if kind == "senml" else []),
        *([PayloadSpec(kind, labels={"id": "host"}, where={"cpu": "cpu0"})] if kind in ("influx", "telegraf") else []),
    )
]


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(SPECS), st.binary(max_size=60) | JSON.map(lambda x: json.dumps(x).encode()) | mutations())
def test_no_payload_raises(spec, payload):
    """Whatever comes becomes readings that are finite or say that there is none, or counted drops."""
    decoder, streams = make(spec)
    readings, _ = decoder.decode([b"p"], [payload], np.array([NOW]))
    assert np.isfinite(readings.time_s).all()
    assert not np.isinf(readings.value.astype(np.float32)).any()
    assert len(streams) <= 10


@given(JSON)
def test_a_flattened_name_is_the_path_to_its_value(document):
    """What a state's values are called can be looked up as a path, quotes and indices included."""
    for path, value in flattened({"root": document}).items():
        found = lookup({"root": document}, parse_path(path))
        assert found is value or found == value or found != found  # noqa: PLR0124  (NaN)
