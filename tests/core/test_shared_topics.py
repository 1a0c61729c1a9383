"""The contract of topics that several groups share: each message goes, once, to every group that knows its values."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamae.core.align_rule import GridAlign
from streamae.core.decode import PayloadSpec
from streamae.core.groups import Groups
from streamae.core.types import Drop
from streamae.daemon.json_parser import json_loads
from tests import plants
from tests.quick import examples

pytestmark = pytest.mark.quick

T0 = 1_700_000_000.0
GRID = GridAlign(every_s=1.0)
CLIMATE, PLUGS = ("temperature", "humidity"), ("power", "voltage", "current")


def group(name, channels, *, template="zigbee2mqtt/{device}", kind="zigbee2mqtt", stream="{device}", **changes):
    spec = changes.pop("payload", None) or PayloadSpec(kind, values={c: c for c in channels})
    return plants.group(
        name, template=template, stream=stream, payload=spec, profile=plants.profile(channels), align=GRID, **changes
    )


def home(kind="zigbee2mqtt"):
    """Climate sensors and plugs under one filter, each a group."""
    return [group("climate", CLIMATE, kind=kind), group("plugs", PLUGS, kind=kind)]


def played(groups, messages, edges=()):
    """Step through (topic, document), one a second; returns the streams of each group, rows and drops."""
    made = Groups("i", groups, json_loads())
    cuts = sorted({0, len(messages), *(e % (len(messages) + 1) for e in edges)})
    sent = [
        (topic.encode(), document if isinstance(document, bytes) else json.dumps(document).encode(), T0 + i)
        for i, (topic, document) in enumerate(messages)
    ]
    drops, rows = {}, {}
    for a, b in zip(cuts, cuts[1:], strict=False):
        report = made.step(plants.batch(sent[a:b]), T0)
        for reason, n in report.drops.items():
            drops[reason] = drops.get(reason, 0) + n
        for name, news in report.groups.items():
            rows[name] = rows.get(name, 0) + len(news.intake.known.nonzero()[0])
    return {name: x.streams.names for name, x in made.pipelines.items()}, rows, drops


SENSOR = {"temperature": 21.5, "humidity": 40, "battery": 97, "voltage": 3005, "linkquality": 90}
PLUG = {"power": 12.5, "voltage": 231, "current": 0.1, "state": "ON", "linkquality": 120}
CONTACT = {"contact": True, "battery": 100, "linkquality": 60}


@pytest.mark.parametrize("kind", ["zigbee2mqtt", "json"])
def test_each_group_gets_its_devices_of_a_shared_topic(kind):
    """Climate sensors and plugs under one filter: each device is a stream of its group alone, and nothing is refused.

    A climate sensor's battery voltage has the name of a plug's: a part of what a plug has, where another group has the
    whole of its own, makes no plug.
    """
    messages = [("zigbee2mqtt/kitchen", SENSOR), ("zigbee2mqtt/fridge", PLUG)] * 20
    streams, known, drops = played(home(kind), messages)
    assert streams == {"climate": ["kitchen"], "plugs": ["fridge"]}
    assert known == {"climate": 20, "plugs": 20}
    assert drops == {}


def test_a_message_that_two_groups_know_is_read_by_both():
    """What has all that two groups ask for is a stream of both, and once in each."""
    both = {**SENSOR, **PLUG}
    streams, known, drops = played(home(), [("zigbee2mqtt/heater", both)] * 3)
    assert streams == {"climate": ["heater"], "plugs": ["heater"]}
    assert known == {"climate": 3, "plugs": 3}
    assert drops == {}


@pytest.mark.parametrize("groups", [home(), home("json"), home()[:1]])
def test_what_nobody_knows_is_refused_once_and_makes_no_stream(groups):
    """A contact sensor that no group reads is counted once a message, not once a group, and takes no stream's place."""
    messages = [("zigbee2mqtt/door", CONTACT), ("zigbee2mqtt/kitchen", SENSOR), ("zigbee2mqtt/door", b"")]
    streams, _, drops = played(groups, messages)
    assert streams["climate"] == ["kitchen"]
    assert all("door" not in names for names in streams.values())
    assert drops in (
        {Drop.UNKNOWN_CHANNEL: 1, Drop.EMPTY: 1},
        {Drop.MISSING_VALUE: 2, Drop.EMPTY: 1},  # one for each path of the first group, as where it is alone
    )


def test_strangers_take_no_place_of_a_stream():
    """With room for one stream, five contact sensors and a text leave it to the machine that comes last."""
    for kind, messages in (
        ("json", [(f"zigbee2mqtt/door{i}", CONTACT) for i in range(5)]),
        ("zigbee2mqtt", [(f"zigbee2mqtt/door{i}", b"OFF") for i in range(5)]),
    ):
        one = [group("climate", CLIMATE, kind=kind, max_streams=1)]
        streams, _, drops = played(one, [*messages, ("zigbee2mqtt/kitchen", SENSOR)])
        assert streams == {"climate": ["kitchen"]}
        assert Drop.MAX_STREAMS not in drops


def test_plain_numbers_go_where_their_channel_is_known():
    """Two groups over {device}/{channel}: a channel of one is no refusal of the other, a channel of none is one."""
    groups = [
        group(name, channels, template="home/{device}/{channel}", payload=PayloadSpec())
        for name, channels in (("air", ("co2", "temperature")), ("power", ("watts",)))
    ]
    messages = [("home/a/co2", b"800"), ("home/a/temperature", b"21"), ("home/p/watts", b"5"), ("home/p/name", b"tv")]
    streams, known, drops = played(groups, messages)
    assert streams == {"air": ["a"], "power": ["p"]}
    assert known == {"air": 2, "power": 1}
    assert drops == {Drop.UNKNOWN_CHANNEL: 1}


def test_payloads_of_different_formats_share_a_topic():
    """JSON for one group and plain numbers for another: what one cannot read is no refusal where the other can."""
    groups = [
        group("air", CLIMATE, template="home/{device}", kind="json"),
        group("level", ("level",), template="home/{device}", payload=PayloadSpec()),
    ]
    messages = [("home/air1", SENSOR), ("home/tank", b"3.5"), ("home/odd", b"{"), ("home/tank", b"4")]
    streams, _, drops = played(groups, messages)
    assert streams == {"air": ["air1"], "level": ["tank"]}
    assert drops == {Drop.MALFORMED: 1}


def test_where_chooses_the_group():
    """Line protocol under one topic: each group has the records that its `where` asks for."""
    groups = [
        group(
            name, ("usage",), template="telegraf/{host}", stream="{host}",
            payload=PayloadSpec("influx", values={"usage": "usage"}, where={"unit": unit}),
        )
        for name, unit in (("cpu", "c"), ("disk", "d"))
    ]  # fmt: skip
    messages = [
        ("telegraf/a", b"m,unit=c usage=1"),
        ("telegraf/b", b"m,unit=d usage=2"),
        ("telegraf/a", b"m,unit=d x=1"),
    ]
    streams, _, drops = played(groups, messages)
    assert streams == {"cpu": ["a"], "disk": ["b"]}
    assert drops == {Drop.UNKNOWN_CHANNEL: 1}


DEVICES = [SENSOR, PLUG, CONTACT, {"voltage": 2900}, {"temperature": 3}, {**SENSOR, **PLUG}, {"humidity": None}]
TOPICS = [f"zigbee2mqtt/d{i}" for i in range(4)]


@settings(max_examples=examples(40))
@given(
    st.lists(st.tuples(st.sampled_from(TOPICS), st.sampled_from([*DEVICES, b"{", b"", b"on"])), max_size=25),
    st.lists(st.integers(0, 30), max_size=6),
    st.sampled_from(["zigbee2mqtt", "json"]),
)
def test_sharing_does_not_depend_on_the_batches(messages, edges, kind):
    """However the messages are batched, the same streams appear in the same order, and the same is refused."""
    assert played(home(kind), messages, edges) == played(home(kind), messages)


@settings(max_examples=examples(40))
@given(st.lists(st.tuples(st.sampled_from(TOPICS), st.sampled_from([SENSOR, PLUG, CONTACT])), max_size=25))
def test_a_group_of_several_judges_as_it_would_alone(messages):
    """Beside another group that knows none of its values, a group has the streams and rows that it has by itself."""
    climate, other = home()[0], group("contacts", ("contact",))
    together, known, _ = played([climate, other], messages)
    alone, known_alone, drops_alone = played([climate], messages)
    assert together["climate"] == alone["climate"]
    assert known.get("climate", 0) == known_alone.get("climate", 0)
    assert drops_alone.get(Drop.UNKNOWN_CHANNEL, 0) == sum("temperature" not in d for _, d in messages)


def test_a_refill_finds_the_streams_that_the_fold_finds():
    """A group that is given a new pipeline takes its part of the past without the devices of the other group."""
    messages = [("zigbee2mqtt/kitchen", SENSOR), ("zigbee2mqtt/fridge", PLUG), ("zigbee2mqtt/door", CONTACT)] * 3
    sent = [(t.encode(), json.dumps(d).encode(), T0 + i) for i, (t, d) in enumerate(messages)]
    groups = Groups("i", home(), json_loads())
    groups.renew("plugs")
    groups.refill(["plugs"], plants.batch(sent), T0)
    assert groups.pipelines["plugs"].streams.names == ["fridge"]
    assert groups.pipelines["climate"].streams.names == []


def test_a_hole_interrupts_every_group_that_has_the_topic():
    """Messages lost on a shared topic restart the windows of the streams of all groups that read it."""
    groups = Groups("i", home(), json_loads())
    both = json.dumps({**SENSOR, **PLUG}).encode()
    groups.step(plants.batch([(b"zigbee2mqtt/heater", both, T0 + i) for i in range(30)]), T0)
    broken = replace(plants.batch([]), holes=[b"zigbee2mqtt/heater"], arrival_s=np.zeros(0))
    assert groups.step(broken, T0).interrupted == 2
