"""The contract of core.formats.number_rule: one rule for numbers, words and holes in the payloads of every format."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamae.core.decode import Decoder, PayloadSpec
from streamae.core.formats import FORMATS
from streamae.core.formats.number_rule import NumberRule, check_word, is_unit
from streamae.core.formats.values import FLOAT32_MAX
from streamae.core.routes import Router, Streams
from streamae.core.topics import Template
from streamae.core.types import Drop
from streamae.daemon.json_parser import json_loads
from tests import sparkplug as sp
from tests.golden_payloads import NOW, open_decoder

pytestmark = pytest.mark.quick

SAID = {"words": {"open": 1, "Closed": 0, "jammed": None}, "decimal": ",", "units": ("°C", "%", "C")}
HOLES = [None, math.nan, "unavailable", "Unknown", "none", "NULL", "nan", "-nan", "N/A", "", "  ", "--", "error", "\0"]


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (21.5, 21.5), (7, 7.0), ("21.5", 21.5), (" -3\n", -3.0), ("+1.25e-3", 0.00125), (".5", 0.5), ("21.", 21.0),
        ("\ufeff21.5", 21.5), ("21.5\0\0", 21.5), ('"21.5"', 21.5), ("\u00a021.5", 21.5),
        (True, 1.0), (False, 0.0), ("on", 1.0), ("OFF", 0.0), ("True", 1.0), ('"false"', 0.0),
        ("open", Drop.NOT_A_NUMBER), ("21,5", Drop.NOT_A_NUMBER), ("21.5 °C", Drop.NOT_A_NUMBER),
        ("1_000", Drop.NOT_A_NUMBER), ("0x1F", Drop.NOT_A_NUMBER), ("1 2", Drop.NOT_A_NUMBER),
        ("٢١", Drop.NOT_A_NUMBER),
        ("2\0001\0", Drop.NOT_A_NUMBER), ([21.5], Drop.NOT_A_NUMBER), ({"v": 1}, Drop.NOT_A_NUMBER),
        (math.inf, Drop.NOT_FINITE), ("-inf", Drop.NOT_FINITE), ("Infinity", Drop.NOT_FINITE),
        ("1e400", Drop.NOT_FINITE),
        (10**400, Drop.NOT_FINITE), (1e300, Drop.NOT_FINITE), ("9" * 100_000, Drop.NOT_FINITE),
        *((hole, Drop.UNAVAILABLE) for hole in HOLES),
    ],
)  # fmt: skip
def test_a_value_is_a_number_or_the_reason_why_it_is_none(value, number):
    """Numbers, numbers and words as text, the source's own words for no value; blanks and the like are passed over."""
    found = NumberRule().number(value)
    assert (type(found), found) == (type(number), number)


@pytest.mark.parametrize(
    ("value", "number"),
    [
        ("open", 1.0), ("CLOSED", 0.0), ("on", 1.0), ("jammed", Drop.UNAVAILABLE), ("ajar", Drop.NOT_A_NUMBER),
        ("21,5", 21.5), ("21,5 °C", 21.5), ("-3,25C", -3.25), ("45 %", 45.0), ("7", 7.0),
        ("1.234,5", Drop.NOT_A_NUMBER),
        ("21.5", Drop.NOT_A_NUMBER), ("1,2,3", Drop.NOT_A_NUMBER), ("21,5 °F", Drop.NOT_A_NUMBER),
        ("°C", Drop.NOT_A_NUMBER),
        (21.5, 21.5), (None, Drop.UNAVAILABLE), (True, 1.0),
    ],
)  # fmt: skip
def test_what_the_configuration_declares_is_read(value, number):
    """Further words, the decimal comma and units behind a number; JSON's own numbers have no decimal sign to choose."""
    assert NumberRule(**SAID).number(value) == number


def test_words_of_the_configuration_come_before_those_that_are_known():
    assert NumberRule({"on": 0, "off": 1, "offline": 0}).number("ON") == 0
    assert NumberRule({"true": 0, "false": 1}).number(True) == 0
    assert NumberRule({"offline": 0}).number("offline") == 0


@pytest.mark.parametrize("word", [" 21.5 ", "1e3"])
def test_a_word_is_no_number(word):
    """It would be read as that number by the fast way, which knows no words."""
    with pytest.raises(ValueError, match="write words"):
        check_word(word)


def test_a_unit_is_no_number():
    assert [is_unit(unit) for unit in ("°C", "1/min", "m3", " ", "", "10", "e3")] == [True, True, True, *[False] * 4]


def influx(value):
    """A point with a value as its field; None where the line protocol cannot have it."""
    return f'm a="{value}",b=1.5'.encode() if isinstance(value, str) else None


def readers():
    """For every kind of format: how a value stands in a message of it, on which topic, read how."""
    document = {"a": "VALUE", "b": 1.5}

    def within(made, mark='"VALUE"'):
        return lambda value: json.dumps(made).replace(mark, json.dumps(value)).encode()

    def sparkplug(value):
        if value is None:
            one = sp.metric("a", datatype=sp.DOUBLE, is_null=True)
        elif isinstance(value, float):
            one = sp.metric("a", datatype=sp.DOUBLE, double_value=value)
        else:
            one = sp.metric("a", datatype=sp.STRING, string_value=value.encode())
        return sp.payload(one, sp.metric("b", datatype=sp.DOUBLE, double_value=1.5), seq=0, time_s=NOW)

    return {
        "json": (within(document), b"p", "{pump}"),
        "zigbee2mqtt": (within(document), b"p", "{pump}"),
        "tasmota": (within(document), b"p", "{pump}"),
        "telegraf": (within({"fields": document, "name": "m", "tags": {}}), b"p", "{pump}"),
        "senml": (within([{"n": "a", "v": "VALUE"}, {"n": "b", "v": 1.5}]), b"p", "{pump}"),
        "shelly": (within({"method": "NotifyStatus", "params": document}), b"p/events/rpc", "{pump}/events/rpc"),
        "influx": (influx, b"p", "{pump}"),
        "sparkplug": (sparkplug, b"spBv1.0/g/DDATA/n/d", "spBv1.0/{group}/+/{node}/{device}"),
    }  # fmt: skip


@pytest.mark.parametrize("kind", readers())
@pytest.mark.parametrize(
    ("value", "read"),
    [("21.5", 21.5), ("on", 1.0), ("open", 1.0), ("21,5 °C", None), ("unavailable", math.nan),
    (None, math.nan), (math.nan, math.nan)],
)  # fmt: skip
def test_every_format_reads_a_value_in_the_same_way_and_the_others_beside_it(kind, value, read):
    """As text, as a word, as a hole or as what nobody knows: it is what the rule says, and its neighbour is read."""
    write, topic, template = readers()[kind]
    payload = write(value)
    if payload is None:  # the line protocol has no null and no NaN
        assert kind == "influx"
        return
    decoder, _ = open_decoder(PayloadSpec(kind, words={"open": 1}), template)
    readings, drops = decoder.decode([topic], [payload], np.array([NOW]))
    found = dict(zip(readings.channel.tolist(), readings.value.tolist(), strict=True))
    assert found.pop(1) == 1.5
    expected = {} if read is None else {0: read}
    assert [*map(repr, found.items())] == [*map(repr, expected.items())]
    why = {None: {Drop.NOT_A_NUMBER: 1}}.get(read, {Drop.UNAVAILABLE: 1} if math.isnan(read or 0) else {})
    assert +drops == why


def test_every_format_has_been_tried():
    """Those whose payload is one value, on a topic of its own, have a test of their own."""
    assert {name for name, form in FORMATS.items() if not form.plain} == set(readers())


@pytest.mark.parametrize("kind", ["number", "homeassistant", "victron"])
@pytest.mark.parametrize(
    ("value", "read"), [("21,5 °C", 21.5), ("open", 1.0), ("unknown", math.nan), ("nan", math.nan)]
)
def test_a_payload_that_is_one_value_is_read_by_the_same_rule(kind, value, read):
    topic = "N/p/x/1/a" if kind == "victron" else "p/a"
    template = "N/{pump}/x/{n}/{channel...}" if kind == "victron" else "{pump}/{channel}"
    payload = json.dumps({"value": value}) if kind == "victron" else value
    decoder, _ = open_decoder(PayloadSpec(kind, words={"open": 1}, decimal=",", unit="°C"), template)
    readings, drops = decoder.decode([topic.encode()], [payload.encode()], np.array([NOW]))
    assert [*map(repr, readings.value.tolist())] == [repr(read)]
    assert +drops == ({Drop.UNAVAILABLE: 1} if math.isnan(read) else {})


@pytest.mark.parametrize(
    "payload",
    [
        b'{"a": NaN, "b": 40}', b'{"a": nan, "b": 40}', b'{"a": -NaN, "b": 40}\0', b'\xef\xbb\xbf{"a": null, "b": 40}',
        '{"a": null, "b": 40}'.encode("utf-16"), b'{"b": 40, "a":nan}', b'{"a": "nan", "b": 40}\0\0\n',
    ],
)  # fmt: skip
@pytest.mark.parametrize("loads", [json.loads, json_loads()])
@pytest.mark.parametrize("kind", ["json", "zigbee2mqtt"])
def test_what_is_nearly_json_is_read_as_it_is_meant(kind, loads, payload):
    """NaN as Python or C spells it, NUL behind a document, a byte order mark: by every parser, and nothing is lost."""
    decoder, _ = open_decoder(PayloadSpec(kind), loads=loads)
    readings, drops = decoder.decode([b"p"], [payload], np.array([NOW]))
    assert list(map(repr, zip(readings.channel.tolist(), readings.value.tolist(), strict=True))) == [
        "(0, nan)",
        "(1, 40.0)",
    ]
    assert drops == {Drop.UNAVAILABLE: 1}


@pytest.mark.parametrize("payload", [b'{"a": nancy}', b'{"a": 1}{"a": 2}', b'{"a": 1\0}', b"{'a': 1}", b'{"a": \xff}'])
def test_what_is_far_from_json_is_refused(payload):
    decoder, _ = open_decoder(PayloadSpec("json"), loads=json_loads())
    assert decoder.decode([b"p"], [payload], np.array([NOW]))[1] == {Drop.MALFORMED: 1}


# The fast way reads runs of what is exactly as expected, and must agree with the rule on whatever it accepts.
TEXT = st.one_of(
    st.floats().map(repr), st.integers(-(10**20), 10**20).map(str), st.floats(-1e3, 1e3).map(lambda x: f"{x:.3f}"),
    st.floats(-1e3, 1e3).map(lambda x: f" {x:.2f} ".replace(".", ",")), st.sampled_from([*map(str, HOLES),
    "on", "open"]),
    st.text("0123456789+-.,eE_ \0°Cn\ufeff\n", max_size=9),
)  # fmt: skip
PLAIN = st.one_of(TEXT.map(str.encode), st.binary(max_size=6))


@pytest.mark.parametrize("spec", [PayloadSpec(), PayloadSpec(words={"open": 1}, decimal=",", unit=("°C", "%"))])
@given(payloads=st.lists(PLAIN, min_size=1, max_size=6))
def test_a_run_of_plain_numbers_reads_as_each_by_the_rule(spec, payloads):
    """Any payloads, together or one by one: the same numbers, holes and reasons, which are those of the rule."""

    def read(some):
        decoder = Decoder(Router([Template.parse("{p}/{channel}")], ("a",), Streams("{p}", 9)), [spec], ("a",))
        readings, drops = decoder.decode([b"p/a"] * len(some), some, np.full(len(some), NOW))
        return [*map(repr, readings.value.tolist())], +drops

    apart = [read([payload]) for payload in payloads]
    values, drops = read(payloads)
    assert values == [value for one, _ in apart for value in one]
    assert drops == sum((one for _, one in apart), type(drops)())
    for (one, _), payload in zip(apart, payloads, strict=True):
        try:
            by_rule = spec.rule.number(payload.decode()) if payload.strip() else Drop.EMPTY
        except UnicodeDecodeError:
            continue
        if isinstance(by_rule, Drop):
            assert one == (["nan"] if by_rule in (Drop.UNAVAILABLE, Drop.NOT_FINITE) else [])
        else:
            assert one == [repr(by_rule)]


@given(
    st.one_of(
        st.text(max_size=20), st.floats(), st.integers(), st.booleans(), st.none(), st.lists(st.none(), max_size=1)
    )
)
def test_whatever_stands_there_is_a_float32_or_a_reason(value):
    for rule in (NumberRule(), NumberRule(**SAID)):
        found = rule.number(value)
        assert isinstance(found, Drop) or abs(found) <= FLOAT32_MAX
