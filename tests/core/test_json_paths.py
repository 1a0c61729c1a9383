"""The contract of typed decoding: whatever parses, and however many messages at once, the readings are the same."""

import json
import math
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamae.core.decode import Decoder, PayloadSpec
from streamae.core.routes import Router, Streams
from streamae.core.topics import Template
from streamae.daemon.json_parser import TypedJson, json_loads

NOW = 1_700_000_000.0
PARSERS = {"json": json.loads, "typed": TypedJson(json.loads)}
try:
    import orjson

    PARSERS |= {"orjson": orjson.loads, "typed over orjson": TypedJson(orjson.loads)}
except ImportError:
    pass

SPECS = [
    PayloadSpec("json"),
    PayloadSpec("json", time="t"),
    PayloadSpec("json", values={"flow": "a.b", "temp": '"x.y"'}, time="m.ts", time_unit="ms"),
    PayloadSpec("json", values={"flow": "a.b", "temp": "a.b"}, time="t"),
    PayloadSpec("json", values={"flow": "a", "temp": "a.b"}),
    PayloadSpec("json", values={"flow": "a[0]", "temp": "a[-1]"}, time="t"),
    PayloadSpec("json", values={"flow": "v", "temp": "w"}, samples="s", sample_every_s=1.0),
    PayloadSpec("json", time="t", zone=ZoneInfo("Europe/Berlin"), words={"open": 1, "shut": None}, unit=("°C", "bar")),
    PayloadSpec("json", time="t", decimal=",", quality="q", good=("192-255",)),
    PayloadSpec("json", values={"flow": "a.b", "temp": "a.c[0]"}, time="$.m.ts"),
]
VALUE = st.one_of(
    st.floats(-1e6, 1e6),
    st.integers(-(2**60), 2**60),
    st.sampled_from(
        [True, None, "1.5", "1,5", "on", "Open", "shut", "2.5 bar", "nan", "unavailable", float("nan"), float("inf")]
    ),
    st.sampled_from([[1, 2], {"b": 2.5}, '{"b": 2.5, "c": [1]}', 1e300, "", "2024-01-01T00:00:00Z", NOW]),
)
# No integer beyond 64 bits: orjson refuses the whole document, msgspec skips one that is not asked for.
KEYS = st.sampled_from(["flow", "temp", "t", "a", "x.y", "m", "v", "s", "q", "ä"])
DOCUMENT = st.one_of(
    st.builds(
        lambda a, b, t: {"flow": a, "temp": b, "t": t, "a": {"b": a}, "x.y": b, "m": {"ts": 1e3 * NOW}, "v": a},
        st.floats(-1e6, 1e6), st.floats(-1e6, 1e6), st.sampled_from(
            [
                NOW, int(NOW), NOW + 1e9, "2023-01-01T00:00:00Z", "2023-10-29 02:30:00", "2023-11-14T23:13:20", 0,
                1e3 * NOW, 10**6 * int(NOW), 1e9 * NOW, 1e11, 1e300, str(int(NOW)), "1700000000.123", "1700000000123",
                "20231114221320",
            ]
        ),
    ),
    st.dictionaries(KEYS, VALUE, max_size=6),
    VALUE,
)  # fmt: skip
PAYLOAD = st.one_of(
    DOCUMENT.map(lambda d: json.dumps(d).encode()),
    DOCUMENT.map(lambda d: json.dumps(d, ensure_ascii=False, indent=1).encode()),
    st.sampled_from(
        [
            b"",
            b" ",
            b"{",
            b"[" * 10_000,
            b'{"flow":1,"flow":2,"temp":3}',
            b'{"flow":1e400,"temp":1}',
            b"1 2",
            b'{"flow":1,"temp":2}\0',
            b'\xef\xbb\xbf{"flow":1,"temp":nan}',
            b'{"flow":1,"temp":2,"x":-inf}',
            b"1.5\0",
            b'"2"',
        ]
    ),
    st.binary(max_size=8),
)
TOPICS = [
    b"p1",
    b"p2",
    b"p3",
    b"q/p1/flow",
    b"q/p9/temp",
    b"q/p2/colour",
    b"n/p1/flow",
    b"n/p2/temp",
    b"else/where/x/y",
]
MESSAGES = st.lists(st.tuples(st.sampled_from(TOPICS), PAYLOAD), max_size=12)


def decoder(spec, loads):
    templates = [Template.parse(t) for t in ("{pump}", "q/{pump}/{channel}", "n/{pump}/{channel}")]
    router = Router(templates, ("flow", "temp"), Streams("{pump}", 4))
    single = PayloadSpec("json", value="v", time=spec.time and "t")
    return Decoder(router, [spec, single, PayloadSpec()], ("flow", "temp"), loads=loads)


def read(made, messages):
    """Readings as lines, with the origins renumbered; and the drops."""
    topics, payloads = zip(*messages, strict=True) if messages else ((), ())
    readings, drops = made.decode(list(topics), list(payloads), np.full(len(messages), NOW))
    origin = np.cumsum(np.r_[False, readings.origin[1:] != readings.origin[:-1]])[: len(readings)]
    columns = [c.tolist() for c in (readings.stream, readings.channel, readings.time_s, readings.value, origin)]
    columns[3] = [None if math.isnan(value) else value for value in columns[3]]
    return list(zip(*columns, strict=True)), {k: n for k, n in drops.items() if n}


@pytest.mark.parametrize("spec", SPECS, ids=range(len(SPECS)))
@pytest.mark.parametrize("name", [n for n in PARSERS if n.startswith("typed")])
@settings(max_examples=40, deadline=None)
@given(messages=MESSAGES)
def test_a_run_reads_as_its_messages_one_by_one(spec, name, messages):
    """Read at once by the typed parser, or one by one by the general one below it: same readings, same drops."""
    general = PARSERS[name.removeprefix("typed over ")] if " over " in name else json.loads
    slow = decoder(spec, general)
    expected, refused = [], {}
    for at, message in enumerate(messages):
        lines, drops = read(slow, [message])
        expected += [(*line[:4], (at, line[4])) for line in lines]
        refused = {k: refused.get(k, 0) + drops.get(k, 0) for k in refused | drops}
    found, drops = read(decoder(spec, PARSERS[name]), messages)
    numbered = {key: n for n, key in enumerate(dict.fromkeys(line[4] for line in expected))}
    assert found == [(*line[:4], numbered[line[4]]) for line in expected]
    assert drops == refused


@pytest.mark.parametrize("name", PARSERS)
def test_every_parser_reads_what_sensors_send(name):
    """Numbers, integers, nested values, times as numbers and as text: the same readings by every parser."""
    spec = PayloadSpec("json", values={"flow": "a.b", "temp": "c"}, time="t")
    documents = [
        {"a": {"b": 1}, "c": 2.5, "t": NOW - 1, "unit": "bar"},
        {"t": "2023-11-14T22:13:20Z", "c": 1, "a": {"b": 0}},
    ]
    messages = [(b"p1", json.dumps(d).encode()) for d in documents]
    lines, drops = read(decoder(spec, PARSERS[name]), messages)
    assert lines == [(0, 0, NOW - 1, 1.0, 0), (0, 1, NOW - 1, 2.5, 0), (0, 0, NOW, 0.0, 1), (0, 1, NOW, 1.0, 1)]
    assert drops == {}


def test_the_parser_of_this_installation_is_typed():
    """With msgspec installed, whole runs are read by it: a document that only it is asked for comes out right."""
    asked = []
    parser = json_loads()
    assert isinstance(parser, TypedJson)
    made = decoder(SPECS[0], parser)
    read(made, [(b"p1", b'{"flow":1,"temp":2}')])  # the first message of a stream is read by itself
    made._readers[0].loads = asked.append
    lines, _ = read(made, [(b"p1", b'{"flow":1,"temp":2}')] * 3)
    assert (len(lines), asked) == (6, [])


def test_one_bad_message_costs_its_neighbours_only_speed():
    """Among a thousand good ones, a bad one is dropped with its reason and the others are read, in order."""
    good = [(b"p%d" % (1 + i % 3), json.dumps({"flow": i, "temp": -i}).encode()) for i in range(1000)]
    messages = [*good[:500], (b"p1", b"{"), *good[500:]]
    lines, drops = read(decoder(SPECS[0], PARSERS["typed"]), messages)
    assert [line[3] for line in lines[::2]] == list(range(1000))
    assert drops == {"malformed_payload": 1}
