"""The contract of Sparkplug B: read as Google's protobuf package reads it, and its births, deaths and numbers obeyed.

The topics and rules are those of the specification 3.0.0: chapter 4 (topics), 5 (sessions), 6 (payloads).
"""

import math

import numpy as np
import pytest
from google.protobuf.message import DecodeError
from hypothesis import example, given, settings
from hypothesis import strategies as st

from streamae.core.align_rule import GridAlign
from streamae.core.decode import Decoder, PayloadSpec, deferred
from streamae.core.formats.sparkplug_payload import Address, SparkplugMetric, address_of, parse, value_of
from streamae.core.groups import Groups
from streamae.core.routes import Router, Streams
from streamae.core.topics import Template
from streamae.core.types import Batch
from tests import sparkplug as sp
from tests.plants import group, profile
from tests.quick import examples
from tests.sparkplug import metric, payload

pytestmark = pytest.mark.quick

NOW = 1_700_000_000.0
DEVICE = "spBv1.0/{group}/+/{node}/{device}"


class Edge:
    """A decoder for devices of edge nodes, and a node that speaks to it."""

    def __init__(self, spec=None, template=DEVICE, channels=("Flow", "Pressure"), max_streams=10):
        specs = [
            spec or PayloadSpec("sparkplug"),
            PayloadSpec("sparkplug", listens=True),
            PayloadSpec("sparkplug", listens=True),
        ]
        texts = [template, "spBv1.0/{group}/+/{node}", "spBv1.0/{group}/+/{node}/+"]
        labels = [x for x in Template.parse(template).labels if x != "channel"]
        labels += [x for x in Template.parse(specs[0].name or "x").labels if x != "channel"]
        self.streams = Streams("/".join("{" + x + "}" for x in labels), max_streams)
        router = Router([Template.parse(text) for text in texts], channels, self.streams, deferred(specs))
        self.decoder, self.channels, self.seq = Decoder(router, specs, channels), channels, 0

    def says(self, kind, *metrics, device="pump1", node="n1", seq=True, time_s=NOW - 1, raw=None):
        """One message; returns (stream, channel, time, value) of its readings, and its drops."""
        device = f"/{device}" if kind[0] == "D" else ""
        if seq is True:
            self.seq = 0 if kind == "NBIRTH" else (self.seq + 1) % 256
        number = self.seq if seq is True else seq if seq is not False else None
        body = payload(*metrics, seq=number, time_s=time_s) if raw is None else raw
        r, drops = self.decoder.decode([f"spBv1.0/g/{kind}/{node}{device}".encode()], [body], np.array([NOW]))
        rows = zip(r.stream.tolist(), r.channel.tolist(), r.time_s.tolist(), r.value.tolist(), strict=True)
        said = [(self.streams.names[s], self.channels[c], t, v) for s, c, t, v in rows]
        return said, {k.value: n for k, n in drops.items() if n}

    def born(self, **alias):
        self.says("NBIRTH", metric("bdSeq", datatype=sp.INT64, long_value=7))
        return self.says(
            "DBIRTH",
            metric("Flow", alias=10, datatype=sp.DOUBLE, double_value=1.5),
            metric("Pressure", alias=11, datatype=sp.INT32, int_value=2**32 - 5),
            metric("Serial", alias=12, datatype=sp.STRING, string_value=b"x"),
        )


def test_a_birth_gives_names_and_first_values_and_data_come_by_alias():
    """Aliases of a birth stand for name and type in all data that follow."""
    edge = Edge()
    assert edge.born() == ([("g/n1/pump1", "Flow", NOW - 1, 1.5), ("g/n1/pump1", "Pressure", NOW - 1, -5.0)], {})
    said = edge.says("DDATA", metric(alias=11, int_value=2**32 - 7, timestamp=round((NOW - 3) * 1000)))
    assert said == ([("g/n1/pump1", "Pressure", NOW - 3, -7.0)], {})
    assert edge.says("DDATA", metric(alias=12, string_value=b"y")) == ([], {})
    assert edge.says("DDATA", metric("Flow", double_value=3.0))[0] == [("g/n1/pump1", "Flow", NOW - 1, 3.0)]


def test_what_was_measured_together_is_one_row():
    """Metrics of one timestamp share their origin; without one of their own that is the message's."""
    edge = Edge()
    edge.born()
    body = payload(metric(alias=10, double_value=1.0), metric(alias=11, int_value=2), seq=2, time_s=NOW)
    r, _ = edge.decoder.decode([b"spBv1.0/g/DDATA/n1/pump1"], [body], np.array([NOW]))
    assert len(set(r.origin.tolist())) == 1


def test_data_before_their_birth_are_refused_unless_they_name_themselves():
    """An alias means nothing without its birth; a name is enough."""
    edge = Edge()
    assert edge.says("DDATA", metric(alias=10, double_value=1.0)) == ([], {"no_birth": 1})
    assert edge.says("DDATA", metric("Flow", datatype=sp.DOUBLE, double_value=1.0)) == (
        [("g/n1/pump1", "Flow", NOW - 1, 1.0)],
        {},
    )
    edge.born()
    assert edge.says("DDATA", metric(alias=99, double_value=1.0)) == ([], {}), "a metric that the group does not know"


def test_a_new_node_birth_forgets_the_aliases_of_the_session_before():
    edge = Edge()
    edge.born()
    edge.says("NBIRTH", metric("bdSeq", datatype=sp.INT64, long_value=8))
    assert edge.says("DDATA", metric(alias=10, double_value=1.0)) == ([], {"no_birth": 1})


def test_holes_in_the_sequence_are_counted():
    """Numbers run from 0 to 255 and start again; what is missing was lost; what comes late or twice is no loss."""
    edge = Edge()
    edge.born()  # 0 and 1
    assert edge.says("DDATA", seq=2)[1] == {}
    assert edge.says("DDATA", seq=6)[1] == {"sequence_gap": 3}
    assert edge.says("NDATA", seq=7)[1] == {}, "numbers are the node's, over all of its devices"
    assert edge.says("DDATA", seq=7)[1] == {}
    assert edge.says("DDATA", seq=5)[1] == {}
    assert edge.says("DDATA", device="pump2", seq=8)[1] == {}
    for seq in (100, 200, 255, 0, 1):
        edge.says("DDATA", seq=seq)
    assert edge.says("DDATA", seq=3)[1] == {"sequence_gap": 1}


def test_deaths_end_what_the_device_said():
    """After the death of a device, or of its node, none of its values holds; its aliases are gone."""
    ended = [("g/n1/pump1", "Flow"), ("g/n1/pump1", "Pressure")]
    for kind in ("DDEATH", "NDEATH"):
        edge = Edge()
        edge.born()
        bd = [metric("bdSeq", datatype=sp.INT64, long_value=7)] if kind == "NDEATH" else []
        said, drops = edge.says(kind, *bd, seq=kind == "DDEATH" or False)
        assert [row[:2] for row in said] == ended
        assert all(math.isnan(row[3]) for row in said)
        after_s = NOW - 1 + 0.001  # the data have that time, too, and came before
        assert said[0][2] == (after_s if kind == "DDEATH" else NOW), "a will was made long before"
        assert drops == {}
        assert edge.says("DDATA", metric(alias=10, double_value=1.0), seq=False) == ([], {"no_birth": 1})


def test_the_will_of_an_earlier_session_ends_nothing():
    edge = Edge()
    edge.born()
    assert edge.says("NDEATH", metric("bdSeq", datatype=sp.INT64, long_value=6), seq=False) == ([], {})
    assert edge.says("DDATA", metric(alias=10, double_value=1.0))[0] != []


def quality_of(number):
    """A set of properties on the wire: `Engineering Unit` as text, and `Quality` as a number of 32 bits."""
    values = [b"\x08\x0c\x42\x01C", b"\x08\x03\x18" + bytes([number & 0x7F | (0x80 if number > 127 else 0)])]
    values[1] += bytes([number >> 7]) if number > 127 else b""
    keys = b"".join(b"\x0a" + bytes([len(key)]) + key for key in (b"Engineering Unit", b"Quality"))
    return keys + b"".join(b"\x12" + bytes([len(value)]) + value for value in values)


def test_null_is_no_value_and_history_has_its_own_time():
    edge = Edge()
    edge.born()
    said, drops = edge.says("DDATA", metric(alias=10, is_null=True))
    assert math.isnan(said[0][3])
    assert drops == {"unavailable": 1}
    for quality, gone in ((0, True), (500, True), (192, False)):
        said, drops = edge.says("DDATA", metric(alias=10, double_value=1.0, properties=quality_of(quality)))
        assert (math.isnan(said[0][3]), drops) == (gone, {"unavailable": 1} if gone else {})
    old = metric(alias=10, double_value=4.0, is_historical=True, timestamp=round((NOW - 500) * 1000))
    assert edge.says("DDATA", old)[0] == [("g/n1/pump1", "Flow", NOW - 500, 4.0)]
    ahead = metric(alias=10, double_value=4.0, timestamp=round((NOW + 61) * 1000))
    assert edge.says("DDATA", ahead) == ([], {"future": 1})


@pytest.mark.parametrize(
    ("datatype", "field", "value"),
    [
        (sp.INT8, {"int_value": 2**32 - 1}, -1.0),
        (sp.INT8, {"int_value": 0xFF}, -1.0),
        (sp.INT16, {"int_value": 0xFFFF_8000}, -32768.0),
        (sp.INT32, {"int_value": 0x8000_0000}, -(2.0**31)),
        (sp.INT64, {"long_value": 2**64 - 3}, -3.0),
        (sp.UINT8, {"int_value": 255}, 255.0),
        (sp.UINT16, {"int_value": 65535}, 65535.0),
        (sp.UINT32, {"int_value": 2**32 - 1}, 2.0**32 - 1),
        (sp.UINT32, {"long_value": 2**32 - 1}, 2.0**32 - 1),
        (sp.UINT64, {"long_value": 2**64 - 1}, 2.0**64),
        (sp.FLOAT, {"float_value": 1.5}, 1.5),
        (sp.DOUBLE, {"double_value": -2.5}, -2.5),
        (sp.BOOLEAN, {"boolean_value": True}, 1.0),
        (sp.BOOLEAN, {"boolean_value": False}, 0.0),
        (sp.DATETIME, {"long_value": 1}, None),
        (sp.STRING, {"string_value": b"1"}, "1"),
        (sp.DOUBLE, {"string_value": b"1"}, None),
        (15, {"string_value": b"1"}, None),
        (0, {"int_value": 7}, 7.0),
    ],
)
def test_each_type_is_read_as_the_specification_says(datatype, field, value):
    """Signed integers travel in unsigned fields; text may be a number, times, UUIDs and structures measure nothing."""
    (found,) = parse(payload(metric("m", datatype=datatype, **field))).metrics
    assert value_of(found, datatype) == value


def test_a_number_that_float32_cannot_hold_and_text_are_refused_in_a_channel():
    edge = Edge()
    edge.born()
    assert edge.says("DDATA", metric(alias=10, double_value=math.inf))[1] == {"not_finite": 1}
    assert edge.says("DDATA", metric(alias=10, datatype=sp.STRING, string_value=b"full"))[1] == {"not_a_number": 1}
    assert edge.says("DDATA", metric(alias=10, string_value=b"1"))[1] == {"not_a_number": 1}  # of a number's type
    assert edge.says("DDATA", raw=b"\xff\xff")[1] == {"malformed_payload": 1}
    assert edge.says("DCMD", metric("Flow", double_value=1.0)) == ([], {}), "a command is no sample"


def test_names_with_folders_can_name_the_machine():
    """One edge node without devices speaks for several machines: `Line1/Pump3/Flow`."""
    edge = Edge(PayloadSpec("sparkplug", name="{line}/{pump}/{channel}"), "spBv1.0/{group}/+/{node}")
    birth = [
        metric(f"L1/P{p}/{c}", alias=10 * p + i, datatype=sp.DOUBLE, double_value=0.0)
        for p in (1, 2)
        for i, c in enumerate(("Flow", "Pressure"))
    ]
    edge.says("NBIRTH", *birth, metric("Node Control/Rebirth", datatype=sp.BOOLEAN, boolean_value=False))
    assert edge.streams.names == ["g/n1/L1/P1", "g/n1/L1/P2"]
    assert edge.says("NDATA", metric(alias=21, double_value=5.0))[0] == [("g/n1/L1/P2", "Pressure", NOW - 1, 5.0)]


def test_a_birth_without_any_channel_gives_a_notice():
    edge = Edge(PayloadSpec("sparkplug", values={"Flow": "Sensors/flow"}), channels=("Flow",))
    assert edge.says("DBIRTH", metric("Flow", alias=1, datatype=sp.DOUBLE))[1] == {"unknown_channel": 1}
    assert edge.says("DBIRTH", metric("Sensors/flow", alias=1, datatype=sp.DOUBLE, double_value=2.0))[0] != []


def test_edge_nodes_are_bounded():
    """Ever new edge nodes do not fill the memory; what is beyond the bound is counted."""
    edge = Edge(max_streams=1)
    drops = [edge.says("DDATA", node=f"n{i}")[1] for i in range(1_005)]
    assert drops[-1] == {"max_streams": 1}
    assert len(edge.decoder.state()["edge_nodes"]) < 100_000


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("NBIRTH"), st.integers(0, 3)),
        st.tuples(st.just("NDEATH"), st.integers(0, 3)),
        st.tuples(st.just("DBIRTH"), st.integers(0, 3)),
        st.tuples(st.just("DDEATH"), st.integers(0, 255)),
        st.tuples(st.just("DDATA"), st.integers(0, 255)),
    ),
    max_size=25,
)


def message(kind, n):
    bd = metric("bdSeq", datatype=sp.INT64, long_value=n)
    body = {
        "NBIRTH": payload(bd, seq=0, time_s=NOW),
        "NDEATH": payload(bd),
        "DBIRTH": payload(metric("Flow", alias=n, datatype=sp.INT32, int_value=n), seq=1, time_s=NOW),
        "DDEATH": payload(seq=n, time_s=NOW),
        "DDATA": payload(metric(alias=n % 4, int_value=n), metric("Pressure", double_value=n), seq=n, time_s=NOW),
    }[kind]
    return f"spBv1.0/g/{kind}/n1{'' if kind[0] == 'N' else '/pump1'}".encode(), body


@settings(deadline=None)
@given(STEPS, st.integers(0, 25))
def test_the_state_is_all_that_later_messages_lean_on(steps, cut):
    """Saved and restored between any two messages, a decoder says the same as one that went on."""
    whole, first, second = Edge(), Edge(), Edge()
    messages = [message(*step) for step in steps]

    def run(edge, part):
        r, drops = edge.decoder.decode([t for t, _ in part], [p for _, p in part], np.full(len(part), NOW))
        return [*zip(r.stream.tolist(), r.channel.tolist(), map(str, r.value.tolist()), strict=True)], drops

    expected = run(whole, messages)
    before = run(first, messages[:cut])
    for name in first.streams.names:
        second.streams.add(name)
    second.decoder.restore(first.decoder.state())
    after = run(second, messages[cut:])
    assert (before[0] + after[0], before[1] + after[1]) == expected


def test_a_death_ends_the_rows_that_a_grid_would_hold():
    """Between a death and the next birth there are no rows, though the hold of a value would last far longer."""
    made = group(
        template=DEVICE,
        payload=PayloadSpec("sparkplug"),
        stream="{node}/{device}",
        align=GridAlign(1.0, lateness_s=0.0, gap_max_s=1000.0),
        profile=profile(channels=("Flow",)),
    )
    groups = Groups("x", [made])

    def rows(kind, n, time_s):
        body = payload(metric("Flow", alias=1, datatype=sp.DOUBLE, double_value=n), seq=n, time_s=time_s)
        topic = f"spBv1.0/g/{kind}/n1/p".encode()
        return groups.step(Batch([topic], [body], np.array([time_s])), time_s).rows

    assert rows("DBIRTH", 1, NOW) + rows("DDATA", 2, NOW + 10) == 11
    assert rows("DDEATH", 3, NOW + 15) == 4, "the tick of the death has no value any more"
    assert rows("DBIRTH", 4, NOW + 100) == 1


def grid(channels=("Flow",)):
    return group(
        template=DEVICE,
        payload=PayloadSpec("sparkplug"),
        stream="{node}/{device}",
        align=GridAlign(1.0, lateness_s=1.0, gap_max_s=1000.0),
        profile=profile(channels=channels),
    )


def test_aliases_survive_a_restart():
    """A snapshot holds what the births said, so that data by alias are read after a restart as before."""
    first, second, cold = (Groups("x", [grid()]) for _ in range(3))

    def step(groups, kind, seq, time_s):
        flow = metric("Flow" if kind == "DBIRTH" else "", alias=1, datatype=sp.DOUBLE, double_value=seq)
        body = payload(flow, seq=seq, time_s=time_s)
        return groups.step(Batch([f"spBv1.0/g/{kind}/n1/p".encode()], [body], np.array([time_s])), time_s)

    step(first, "DBIRTH", 1, NOW)
    second.restore(first.snapshot())
    assert step(second, "DDATA", 2, NOW + 5).rows == step(first, "DDATA", 2, NOW + 5).rows == 5
    report = step(cold, "DDATA", 2, NOW + 5)
    assert report.rows == 0
    assert "edge node g/n1: data by alias came before a birth; restart it, or write" in report.notices[0]
    assert step(cold, "DDATA", 3, NOW + 6).notices == [], "reported once"
    assert step(cold, "DBIRTH", 4, NOW + 7).drops == {}


@settings(deadline=None)
@given(STEPS, st.lists(st.integers(0, 25), max_size=4))
def test_births_and_deaths_do_not_depend_on_how_messages_were_grouped(steps, cuts):
    """For any batches the state of all stages is the same, ended values included."""
    messages = [message(*step) for step in steps]
    arrival_s = NOW + np.arange(len(messages), dtype=np.float64)
    whole, parts = Groups("x", [grid(("Flow", "Pressure"))]), Groups("x", [grid(("Flow", "Pressure"))])

    def run(groups, bounds):
        rows = 0
        for a, b in zip(bounds[:-1], bounds[1:], strict=True):
            topics, bodies = [t for t, _ in messages[a:b]], [p for _, p in messages[a:b]]
            rows += groups.step(Batch(topics, bodies, arrival_s[a:b]), NOW).rows
        return rows

    n = len(messages)
    assert run(whole, [0, n]) == run(parts, sorted({0, n, *(c for c in cuts if c < n)}) if n else [0, 0])
    (one,), (other,) = whole.pipelines.values(), parts.pipelines.values()
    for name, array in one.state().items():
        if name.startswith(("decode", "align.held", "align.mark", "scale")):
            np.testing.assert_array_equal(array, other.state()[name], name)


def test_two_groups_may_listen_to_one_edge_node():
    """Pumps and fans of one node: each group gets its own devices, and both see the node die."""
    groups = [
        group(
            name,
            template=f"spBv1.0/{{group}}/+/{{node}}/{name}_{{id}}",
            stream="{id}",
            payload=PayloadSpec("sparkplug"),
            profile=profile(channels=("Flow",)),
        )
        for name in ("pump", "fan")
    ]
    extra = [Template.parse("spBv1.0/{group}/+/{node}"), Template.parse("spBv1.0/{group}/+/{node}/+")]
    listens = PayloadSpec("sparkplug", listens=True)
    for one in groups:
        one.templates.extend(extra)
        one.payloads.extend([listens, listens])
    groups = Groups("x", groups)
    flow = metric("Flow", alias=1, datatype=sp.DOUBLE, double_value=1.0)
    sent = [
        ("NBIRTH/n", payload(metric("bdSeq", datatype=sp.INT64, long_value=1), seq=0)),
        ("DBIRTH/n/pump_1", payload(flow, seq=1)),
        ("DBIRTH/n/fan_1", payload(flow, seq=2)),
        ("NDEATH/n", payload(metric("bdSeq", datatype=sp.INT64, long_value=1))),
        ("DDATA/n/pump_1", payload(metric(alias=1, double_value=1.0), seq=3)),
        ("DDATA/n/fan_1", payload(metric(alias=1, double_value=1.0), seq=4)),
    ]
    topics = [f"spBv1.0/g/{a[:6].strip('/')}{a[6:] if a[5] != '/' else a[5:]}".encode() for a, _ in sent]
    report = groups.step(Batch(topics, [p for _, p in sent], np.full(len(sent), NOW)), NOW)
    assert {k.value: n for k, n in report.drops.items() if n} == {"no_birth": 2}
    assert report.rows == 2
    assert [pipeline.streams.names for pipeline in groups.pipelines.values()] == [["1"], ["1"]]


def other(edge, kind, device, **value):
    """A message of a device that has nothing of the group's, by alias."""
    name = "Mode" if kind == "DBIRTH" else ""
    return edge.says(kind, metric(name, alias=20, datatype=sp.INT32, **value), device=device)


@pytest.mark.parametrize("device", ["light1", "valve7"])
def test_devices_of_others_are_waited_for_no_more_once_they_were_born(device):
    """Their births count as refused; data by alias of them are neither refused nor said to lack a birth."""
    edge = Edge()
    edge.born()
    assert other(edge, "DBIRTH", device, int_value=1) == ([], {"unknown_channel": 1})
    assert other(edge, "DDATA", device, int_value=2) == ([], {})
    assert edge.decoder.notices() == []
    again = Edge()
    again.decoder.restore(edge.decoder.state())
    again.seq = edge.seq
    assert other(again, "DDATA", device, int_value=3) == ([], {}), "a restart forgets none of it"
    assert other(again, "DDATA", "pump9", int_value=3)[1] == {"no_birth": 1}, "the control: a device never born"
    assert len(again.decoder.notices()) == 1


def test_a_device_of_others_that_died_may_be_born_as_one_of_ours():
    """A death or a new birth of the node forgets whose a device was, and births that are kept are bounded."""
    edge = Edge(max_streams=2)
    edge.born()
    for i in range(5_000):
        other(edge, "DBIRTH", f"light{i}", int_value=1)
    assert sum(len(node.births) for node in edge.decoder._memories["sparkplug"]._nodes.values()) == 1 + 1_002
    edge.says("DDEATH", device="light0")
    assert other(edge, "DDATA", "light0", int_value=1)[1] == {"no_birth": 1}
    edge.born()
    assert other(edge, "DDATA", "light1", int_value=1)[1] == {"no_birth": 1}
    born = edge.says("DBIRTH", metric("Flow", alias=3, datatype=sp.DOUBLE, double_value=2.0), device="light1")
    assert [line[3] for line in born[0]] == [2.0]


def test_groups_that_share_an_edge_node_count_its_holes_once():
    """Two groups over the same devices: each takes those that it knows, and a lost message is one."""
    groups = [
        group(
            name, template=DEVICE, stream="{device}",
            payload=PayloadSpec("sparkplug"), profile=profile(channels=(channel,)), align=GridAlign(every_s=1.0),
        )
        for name, channel in (("pumps", "Flow"), ("lights", "Lux"))
    ]  # fmt: skip
    for one in groups:
        one.templates.append(Template.parse("spBv1.0/{group}/+/{node}"))
        one.payloads.append(PayloadSpec("sparkplug", listens=True))
    made = Groups("x", groups)
    sent = [
        ("NBIRTH/n", payload(metric("bdSeq", datatype=sp.INT64, long_value=1), seq=0)),
        ("DBIRTH/n/pump1", payload(metric("Flow", alias=1, datatype=sp.DOUBLE, double_value=1.0), seq=1)),
        ("DBIRTH/n/light1", payload(metric("Lux", alias=1, datatype=sp.DOUBLE, double_value=9.0), seq=2)),
        ("DBIRTH/n/door1", payload(metric("Open", alias=1, datatype=sp.DOUBLE, double_value=0.0), seq=3)),
        ("DDATA/n/pump1", payload(metric(alias=1, double_value=2.0), seq=6)),
        ("DDATA/n/light1", payload(metric(alias=1, double_value=8.0), seq=7)),
    ]
    topics = [f"spBv1.0/g/{address}".encode() for address, _ in sent]
    report = made.step(Batch(topics, [body for _, body in sent], NOW + np.arange(len(sent))), NOW)
    assert {k.value: n for k, n in report.drops.items() if n} == {"sequence_gap": 2, "unknown_channel": 1}
    assert [x.streams.names for x in made.pipelines.values()] == [["pump1"], ["light1"]]
    assert report.notices == []


def test_addresses():
    """What a topic names; a bridge may have put levels before it."""
    assert address_of(b"spBv1.0/g/DDATA/n/d") == Address("g/n", "DDATA", "d")
    assert address_of(b"site/spBv1.0/g/NBIRTH/n") == Address("g/n", "NBIRTH", "")
    for topic in (
        b"spBv1.0/STATE/host",
        b"spBv1.0/g/DDATA/n",
        b"spBv1.0/g/NDATA/n/d",
        b"spBv1.0/g/WHAT/n",
        b"x/y",
        b"",
    ):
        assert address_of(topic) is None


# The oracle.
METRICS = st.builds(
    sp.Metric,
    name=st.none() | st.text(max_size=5).map(str.encode),
    alias=st.none() | st.integers(0, 2**63 - 1),
    timestamp=st.none() | st.integers(0, 2**50),
    datatype=st.none() | st.integers(0, 25),
    is_null=st.none() | st.booleans(),
    properties=st.none() | st.binary(max_size=4),
).flatmap(
    lambda m: st.sampled_from(
        [
            {},
            {"int_value": 2**31},
            {"long_value": 2**63},
            {"float_value": 0.5},
            {"double_value": -1e300},
            {"boolean_value": True},
            {"string_value": b"x"},
            {"dataset_value": b""},
        ]
    ).map(lambda value: (m.MergeFrom(sp.Metric(**value)), m)[1])
)
PAYLOADS = st.builds(
    lambda metrics, seq, stamp: sp.Payload(metrics=metrics, seq=seq, timestamp=stamp),
    st.lists(METRICS, max_size=4),
    st.none() | st.integers(0, 2**64 - 1),
    st.none() | st.integers(0, 2**50),
)


def expected_of(message):
    """What the package says that the message holds, in our terms."""

    def number(m):
        field = m.WhichOneof("value")
        if field == "string_value":
            return m.string_value.decode()
        numeric = ("int_value", "long_value", "float_value", "double_value", "boolean_value")
        return float(getattr(m, field)) if field in numeric else None

    def optional(m, field, scale=1.0):
        return getattr(m, field) / scale if m.HasField(field) else None

    alias = [m.alias if m.HasField("alias") and m.alias < 2**63 else None for m in message.metrics]
    return (
        optional(message, "timestamp", 1e3),
        message.seq if message.HasField("seq") else None,
        [
            (m.name.decode(), a, optional(m, "timestamp", 1e3), m.datatype, m.is_null, str(number(m)))
            for m, a in zip(message.metrics, alias, strict=True)
        ],
    )


def ours(message):
    metrics = [(*m[:5], str(float(m.raw) if isinstance(m.raw, int | float) else m.raw)) for m in message.metrics]
    return message.time_s, message.seq, metrics


@given(PAYLOADS)
def test_what_the_package_writes_we_read(message):
    assert ours(parse(message.SerializeToString())) == expected_of(message)


@settings(max_examples=examples(500))
@given(
    st.binary(max_size=40)
    | PAYLOADS.flatmap(
        lambda m: st.tuples(
            st.just(m.SerializeToString()), st.lists(st.tuples(st.integers(0, 60), st.integers(0, 255)), max_size=3)
        ).map(lambda x: damaged(*x))
    )
)
@example(b"\x12\x03\x0a\x01\xff")
@example(b"\x0b\x0c")
@example(b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f")
def test_any_bytes_are_read_as_the_package_reads_them_or_refused(wire):
    """We accept what the package accepts, and read the same; the only thing raised is ValueError."""
    try:
        expected = expected_of(sp.Payload.FromString(wire))
    except (DecodeError, UnicodeDecodeError):
        with pytest.raises(ValueError):
            parse(wire)
        return
    assert ours(parse(wire)) == expected


def damaged(wire, changes):
    body = bytearray(wire)
    for at, byte in changes:
        if at < len(body):
            body[at] = byte
    return bytes(body)


@pytest.mark.parametrize(("datatype", "value"), [(5, 0xFF), (6, 0x01FF), (7, 0x8000_01FF), (1, -1), (2, 0x01FF)])
def test_a_number_is_cut_to_the_bits_of_its_type(datatype, value):
    """A sender that fills the wider field with more bits than its type has is read by those of the type."""
    found = SparkplugMetric("n", None, None, datatype, False, 0x8000_01FF)
    assert value_of(found, datatype) == value
