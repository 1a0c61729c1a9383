"""The contract of core.decode: payload bytes become readings, or a drop with its reason."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamae.core.decode import Decoder, PayloadSpec
from streamae.core.formats.values import parse_path, to_seconds
from streamae.core.routes import Router, Streams
from streamae.core.topics import Template
from streamae.core.types import Drop

pytestmark = pytest.mark.quick

NOW = 1_700_000_000.0


def decoder(spec, *, template="{pump}", channels=("flow", "temp"), **changes):
    return Decoder(Router([Template.parse(template)], channels, Streams("{pump}", 10)), [spec], channels, **changes)


def read(spec, payload, *, topic=b"p1", **changes):
    readings, drops = decoder(spec, **changes).decode([topic], [payload], np.array([NOW]))
    rows = zip(readings.channel.tolist(), readings.time_s.tolist(), readings.value.tolist(), strict=True)
    return list(rows), dict(drops)


def test_a_plain_number_is_a_reading_at_its_arrival():
    """`number` reads the payload as one number of the topic's channel."""
    assert read(PayloadSpec(), b" 2.5\n", template="{pump}/{channel}", topic=b"p1/temp") == ([(1, NOW, 2.5)], {})


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"", Drop.EMPTY),
        (b"  ", Drop.EMPTY),
        (b"ajar", Drop.NOT_A_NUMBER),
        (b"1,5", Drop.NOT_A_NUMBER),
        (b"1_0", Drop.NOT_A_NUMBER),
        (b"\xff\xff", Drop.NOT_A_NUMBER),
    ],
)
def test_what_is_no_number_is_dropped_with_its_reason(payload, reason):
    """Nothing but a number that float32 can hold becomes a reading of a plain payload."""
    assert read(PayloadSpec(), payload, template="{pump}/{channel}", topic=b"p1/temp") == ([], {reason: 1})


@pytest.mark.parametrize(
    ("spec", "document", "expected"),
    [
        (PayloadSpec("json"), {"flow": 1, "temp": 2.5}, [(0, NOW, 1.0), (1, NOW, 2.5)]),
        (
            PayloadSpec("json", values={"flow": "a.b[1]", "temp": '"x.y"'}, time="m.ts", time_unit="ms"),
            {"a": {"b": [0, 7]}, "x.y": 8, "m": {"ts": (NOW - 5) * 1000}},
            [(0, NOW - 5, 7.0), (1, NOW - 5, 8.0)],
        ),
        (
            PayloadSpec("json", values={"flow": "v"}, samples="readings", time="t"),
            {"readings": [{"v": 1, "t": NOW - 2}, {"v": 2, "t": NOW - 1}]},
            [(0, NOW - 2, 1.0), (0, NOW - 1, 2.0)],
        ),
        (
            PayloadSpec("json", values={"flow": "[1]"}, samples="readings", time="[0]"),
            {"readings": [[NOW - 2, 1], [NOW - 1, 2]]},
            [(0, NOW - 2, 1.0), (0, NOW - 1, 2.0)],
        ),
        (
            PayloadSpec("json", values={"flow": ""}, samples="burst", sample_every_s=0.5, time="t"),
            {"burst": [1, 2, 3], "t": NOW - 10},
            [(0, NOW - 10, 1.0), (0, NOW - 9.5, 2.0), (0, NOW - 9, 3.0)],
        ),
        (
            PayloadSpec("json", values={"flow": ""}, samples="burst", sample_every_s=0.5),
            {"burst": [1, 2, 3]},
            [(0, NOW - 1, 1.0), (0, NOW - 0.5, 2.0), (0, NOW, 3.0)],
        ),
    ],
)
def test_json_is_read_by_path(spec, document, expected):
    """Flat, nested, several channels, arrays of samples with their own time or a common spacing."""
    assert read(spec, json.dumps(document).encode()) == (expected, {})


@pytest.mark.parametrize(
    ("payload", "drops"),
    [
        (b"{", {Drop.MALFORMED: 1}),
        (b'"\xff"', {Drop.MALFORMED: 1}),
        (b"[" * 100_000, {Drop.MALFORMED: 1}),
        (b'{"flow": %s, "temp": 1}' % (b"9" * 5_000), {Drop.MALFORMED: 1}),
        (b'{"flow": %s, "temp": 1}' % (b"9" * 400), {Drop.NOT_FINITE: 1}),
        (b'{"flow": "three", "temp": [3]}', {Drop.NOT_A_NUMBER: 2}),
        (b'{"flow": null, "temp": NaN}', {Drop.UNAVAILABLE: 2}),
        (b"{}", {Drop.MISSING_VALUE: 2}),
        (b"3", {Drop.MISSING_VALUE: 2}),
    ],
)
def test_bad_json_is_counted_not_raised(payload, drops):
    """A document that lacks something drops that value alone; one that is no document drops whole."""
    assert read(PayloadSpec("json"), payload)[1] == drops


@pytest.mark.parametrize(
    ("value", "unit", "seconds"),
    [
        (1_700_000_000, "auto", 1.7e9),
        (1_700_000_000_123, "auto", 1_700_000_000.123),
        (1_700_000_000_123_456, "auto", 1_700_000_000.123456),
        (1_700_000_000_000_000_000, "auto", 1.7e9),
        (1_700_000_000, "ms", 1.7e6),
        ("2023-11-14T22:13:20Z", "auto", 1.7e9),
        ("2023-11-14 22:13:20", "rfc3339", 1.7e9),
        ("2023-11-15T00:13:20+02:00", "rfc3339", 1.7e9),
        ("yesterday", "auto", Drop.BAD_TIME),
        ("1700000000", "auto", 1.7e9),
        ("1700000000.123", "auto", 1_700_000_000.123),
        (" 1700000000123 ", "auto", 1_700_000_000.123),
        ("1700000000", "s", 1.7e9),
        ("1700000000123", "ms", 1_700_000_000.123),
        ("1700000000", "rfc3339", Drop.BAD_TIME),
        ("2023-11-14T22:13:20Z", "s", Drop.BAD_TIME),
        ("20231114T221320Z", "auto", 1.7e9),
        ("20231114221320", "auto", 1.7e9),
        ("20231114", "auto", 1_699_920_000),
        ("1" * 30, "auto", Drop.BAD_TIME),
        ("", "auto", Drop.BAD_TIME),
        ("NaN", "s", Drop.BAD_TIME),
        (True, "auto", Drop.BAD_TIME),
        (None, "auto", Drop.BAD_TIME),
        (5, "rfc3339", Drop.BAD_TIME),
        (float("nan"), "auto", Drop.BAD_TIME),
    ],
)
def test_time_is_read_in_its_unit(value, unit, seconds):
    """Time is seconds, ms, µs, ns or RFC 3339, declared or seen from its magnitude."""
    assert to_seconds(value, unit) == (pytest.approx(seconds) if isinstance(seconds, float) else seconds)


@pytest.mark.parametrize("payload", [b"-inf", b"1e400", b"1e308", b"9" * 400, b"9" * 100_000])
def test_what_float32_cannot_hold_ends_the_hold_of_its_channel(payload):
    """It is counted, and no number: what stood there before holds no longer."""
    rows, drops = read(PayloadSpec(), payload, template="{pump}/{channel}", topic=b"p1/temp")
    assert ([*map(str, rows)], drops) == ([f"(1, {NOW}, nan)"], {Drop.NOT_FINITE: 1})


def test_a_far_future_stamp_is_refused():
    """A sample ahead of its arrival by more than future_max_s would make all that follow late."""
    spec = PayloadSpec("json", values={"flow": "v"}, time="t")
    assert read(spec, json.dumps({"v": 1, "t": NOW + 59}).encode())[1] == {}
    assert read(spec, json.dumps({"v": 1, "t": NOW + 61}).encode()) == ([], {Drop.FUTURE: 1})
    assert read(spec, b'{"v": 1}') == ([], {Drop.BAD_TIME: 1})


@pytest.mark.parametrize("path", [".a", "a..b", "a[x]", "a[", 'a"b"'])
def test_what_is_no_path_is_refused(path):
    """A path that cannot be followed is refused when the config is read, with the column."""
    with pytest.raises(ValueError, match="column"):
        parse_path(path)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["flow", "t", "r"]), inner, max_size=3),
)
SPECS = [
    PayloadSpec(),
    PayloadSpec("json"),
    PayloadSpec("json", time="t"),
    PayloadSpec("json", samples="r", time="t"),
    PayloadSpec("json", samples="r", sample_every_s=0.1),
]


@given(st.sampled_from(SPECS), st.binary(max_size=40) | JSON.map(lambda x: json.dumps(x).encode()))
def test_no_payload_raises(spec, payload):
    """Any input becomes finite readings, ends of holds, or counted drops."""
    readings, drops = decoder(spec).decode([b"p1"], [payload], np.array([NOW]))
    assert not np.isinf(readings.value.astype(np.float32)).any()
    assert np.isfinite(readings.time_s).all()
    assert len(readings) or drops or json.loads(payload) in ({"r": []},) or b"[]" in payload


def test_messages_keep_their_order_and_their_arrival_in_either_way_of_reading():
    """Plain numbers that are read as a run, and others that are read one by one, come out as they came in."""
    made = decoder(PayloadSpec(), template="{pump}/{channel}")
    topics = [b"p1/flow", b"p2/flow", b"p1/temp", b"p2/temp", b"p1/flow", b"p2/flow"]
    payloads = [b"1", b" 2 ", b"ajar", b"4", b"5\n", b"6"]
    readings, drops = made.decode(topics, payloads, NOW + np.arange(6.0))
    assert readings.value.tolist() == [1, 2, 4, 5, 6]
    assert readings.time_s.tolist() == [NOW + n for n in (0, 1, 3, 4, 5)]
    assert readings.arrival_s.tolist() == readings.time_s.tolist()
    assert (readings.stream.tolist(), readings.channel.tolist()) == ([0, 1, 1, 0, 1], [0, 0, 1, 0, 0])
    assert drops == {Drop.NOT_A_NUMBER: 1}
