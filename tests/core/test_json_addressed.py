"""The contract of JSON that says whose it is: labels, what must hold, names, quality, lists, JSON within text.

Payloads are laid out as the documentation of rtl_433, Kepware's IoT gateway, ChirpStack 3 and 4, OpenMQTTGateway and
OPC UA PubSub shows them.
"""

import json
import math
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamae.core.decode import PayloadSpec
from streamae.core.formats.discovery import channel_names
from streamae.core.formats.quality import check_good
from streamae.core.formats.values import lookup, parse_path
from streamae.core.topics import Template
from streamae.core.types import Drop
from streamae.daemon.json_parser import json_loads
from tests.golden_payloads import NOW, open_decoder

pytestmark = pytest.mark.quick


def read(spec, *documents, template="t", topic="t", channels=("a", "b"), loads=json.loads, max_streams=10):
    """Readings as (stream, channel, time, value) of documents, each a message; what is refused; the origins."""
    decoder, streams = open_decoder(spec, template, channels, max_streams, loads)
    payloads = [one if isinstance(one, bytes) else json.dumps(one).encode() for one in documents]
    r, drops = decoder.decode([topic.encode()] * len(payloads), payloads, np.full(len(payloads), NOW))
    rows = zip(r.stream.tolist(), r.channel.tolist(), r.time_s.tolist(), r.value.tolist(), strict=True)
    return [(streams.names[s], channels[c], t, v) for s, c, t, v in rows], +drops, r.origin.tolist()


def tower(**changes):
    return {"time": "2023-11-14 23:13:20", "model": "Acurite-Tower", "id": 1234, "a": 21.5, "b": 45, **changes}


@pytest.mark.parametrize("loads", [json.loads, json_loads()])
def test_rtl_433_says_model_and_id_in_the_payload(loads):
    """Labels are text or whole numbers at a path; what is of another model is passed over, and is no refusal."""
    spec = PayloadSpec(
        "json", labels={"sensor": "id", "ch": "channel"}, where={"model": "Acurite-Tower"}, time="time",
        zone=ZoneInfo("Europe/Berlin"),
    )  # fmt: skip
    others = [tower(model="Other", channel="A"), tower(model=None, channel="A"), {"time": "soon"}]
    found, drops, origins = read(
        spec, tower(channel="A"), tower(id=77, channel="B", b="46"), *others, tower(channel=2), loads=loads
    )
    assert drops == {}
    assert {row[2] for row in found} == {NOW}
    assert [row[0] for row in found] == ["1234/A", "1234/A", "77/B", "77/B", "1234/2", "1234/2"]
    assert [row[3] for row in found] == [21.5, 45, 21.5, 46, 21.5, 45]
    assert origins == [0, 0, 1, 1, 2, 2]


def test_a_label_that_is_missing_or_cannot_be_one_refuses_its_entry_alone():
    spec = PayloadSpec("json", labels={"sensor": "dev.id"})
    found, drops, _ = read(
        spec, {"a": 1, "b": 2}, {"dev": {"id": None}, "a": 1}, {"dev": {"id": 1.5}, "a": 1},
        {"dev": {"id": True}, "a": 1},
        {"dev": {"id": ""}, "a": 1}, {"dev": {"id": "x/\ud800"}, "a": 1}, {"dev": {"id": "A4:C1/38"}, "a": 7},
    )  # fmt: skip
    assert found == [("A4:C1%2F38", "a", NOW, 7)]
    assert drops == {Drop.MISSING_VALUE: 12}  # the label of six messages, and b of six


def kepware(*values, **more):
    return {"timestamp": 1e3 * NOW, "values": list(values), **more}


def tag(name, value, *, q=True, at_s=0.0):
    return {"id": name, "v": value, "q": q, "t": 1e3 * (NOW + at_s)}


KEPWARE = PayloadSpec(
    "json", samples="values", id="id", value="v", quality="q", time="t", name="{line}.{pump}.{channel}"
)


def test_kepware_lists_tags_with_quality_and_time():
    """Each entry is one value, its name is taken apart,
    and what has one time is one row; other tags are passed over.
    """
    found, drops, origins = read(
        KEPWARE,
        kepware(
            tag("l.p1.a", 1.5), tag("l.p2.a", 2.5), tag("l.p1.b", 3), tag("l.p1.speed", 9), tag("_System._Time", "x")
        ),
        kepware(tag("l.p1.a", "4.5", at_s=-2), tag("l.p1.b", True, at_s=-1)),
    )
    assert found == [
        ("l/p1", "a", NOW, 1.5), ("l/p1", "b", NOW, 3), ("l/p2", "a", NOW, 2.5),
        ("l/p1", "a", NOW - 2, 4.5), ("l/p1", "b", NOW - 1, 1),
    ]  # fmt: skip
    assert (drops, origins) == ({}, [0, 0, 1, 2, 3])


def test_a_value_of_bad_quality_ends_its_own_hold():
    """Bad quality is the source's word that there is no value now; the others of the message are read."""
    found, drops, _ = read(KEPWARE, kepware(tag("l.p1.a", 0, q=False), tag("l.p1.b", 3)))
    assert (list(map(str, found)), drops) == (
        [f"('l/p1', 'a', {NOW}, nan)", f"('l/p1', 'b', {NOW}, 3.0)"], {Drop.UNAVAILABLE: 1}
    )  # fmt: skip


@pytest.mark.parametrize(
    ("good", "qualities", "bad"),
    [
        (None, [True, "Good", "GOOD", 192, 192.0, "216", 255, None, "ok"], [False, "Bad", 0, 64, "uncertain",
        191, 256, [], 24.5]),
        (("0", "Good"), [0, "0", "good", 0.0], [192, True, 2147483648, ""]),
        (("0-99",), [0, 50, "99"], [100, -1, True]),
    ],
)  # fmt: skip
def test_what_is_good_is_said_by_words_and_numbers(good, qualities, bad):
    """Truth, OPC's words and its numbers are known; whoever counts otherwise says so."""
    spec = PayloadSpec("json", quality="q") if good is None else PayloadSpec("json", quality="q", good=good)
    for some, gone in ((qualities, False), (bad, True)):
        for quality in some:
            found, _, _ = read(spec, {"a": 1, "b": 2, "q": quality}, template="{p}")
            assert [math.isnan(row[3]) for row in found] == [gone] * 2, quality


def test_a_quality_stands_beside_the_value_in_the_entry_or_in_the_message():
    """The nearest one counts; a value without any is good."""
    spec = PayloadSpec("json", values={"a": "a.v", "b": "b.v"}, quality="q")
    for document, gone in (
        ({"a": {"v": 1, "q": "bad"}, "b": {"v": 2, "q": "good"}}, [True, False]),
        ({"a": {"v": 1}, "b": {"v": 2, "q": True}, "q": 0}, [True, False]),
        ({"a": {"v": 1}, "b": {"v": 2}}, [False, False]),
    ):
        found, _, _ = read(spec, document, template="{p}")
        assert [math.isnan(row[3]) for row in found] == gone, document


def test_quality_does_not_depend_on_how_many_messages_are_read_at_once():
    """The fast way knows no quality, and leaves such documents to the other."""
    found, _, _ = read(
        PayloadSpec("json", quality="q"), *[{"a": 1, "b": 2, "q": "bad"}] * 3, template="{p}", loads=json_loads()
    )
    assert all(math.isnan(row[3]) for row in found)


def test_a_message_may_be_a_list():
    """`$` is the document: each entry is a sample with its own labels and time."""
    spec = PayloadSpec("json", samples="$", labels={"pump": "dev"}, time="ts")
    entries = [{"dev": "p1", "ts": NOW - 1, "a": 1, "b": 2}, {"dev": "p2", "ts": NOW, "a": 3, "b": 4}]
    found, drops, origins = read(spec, entries, {"dev": "p1", "ts": NOW, "a": 1})
    assert [row[0] + row[1] for row in found] == ["p1a", "p1b", "p2a", "p2b"]
    assert (drops, origins) == ({Drop.MISSING_VALUE: 1}, [0, 0, 1, 1])
    pairs = [{"n": "a", "v": 21.5}, {"n": "b", "v": "45"}, {"n": "uptime", "v": 1e9}]
    found, drops, origins = read(PayloadSpec("json", samples="$", id="n", value="v"), pairs, template="{p}")
    assert (found, drops, origins) == ([("t", "a", NOW, 21.5), ("t", "b", NOW, 45)], {}, [0, 0])


@pytest.mark.parametrize("loads", [json.loads, json_loads()])
def test_json_within_text_is_a_part_of_the_document(loads):
    """ChirpStack 3 gives the decoded values as text; paths lead through it as through ChirpStack 4's object."""
    inner = json.dumps({"temp": 21.5, "deep": json.dumps({"hum": [40, 45]})})
    spec = PayloadSpec("json", values={"a": "objectJSON.temp", "b": "objectJSON.deep.hum[1]"})
    for text, expected in ((inner, [21.5, 45]), ('{"temp": 1', []), ("temp", []), ("", []), ("[1]", [])):
        found, drops, _ = read(spec, {"devEUI": "x", "objectJSON": text}, template="{p}", loads=loads)
        assert [row[3] for row in found] == expected
        assert drops == ({} if expected else {Drop.MISSING_VALUE: 2})
    four = {
        "deviceInfo": {"devEui": "0101"},
        "object": {"temp": 21.5, "hum": 45},
        "time": "2023-11-14T22:13:19.5+00:00",
    }
    spec = PayloadSpec("json", values={"a": "object.temp", "b": "object.hum"}, time="time")
    assert read(spec, four, template="{p}", loads=loads)[0] == [("t", "a", NOW - 0.5, 21.5), ("t", "b", NOW - 0.5, 45)]


def test_one_message_of_several_machines_is_taken_apart_by_its_paths():
    """Without `id` the names are the paths of the document, through text that is JSON as well."""
    spec = PayloadSpec("json", name="{press}.{channel}")
    found, drops, origins = read(spec, {"p1": {"a": 1, "b": 2, "c": 3}, "p2": json.dumps({"a": 4}), "n": 7})
    assert (found, drops) == ([("p1", "a", NOW, 1), ("p1", "b", NOW, 2), ("p2", "a", NOW, 4)], {})
    assert origins == [0, 0, 1]
    flat = PayloadSpec("json", name="{press}_{channel}", quality="q", values={"a": "temperature", "b": "force"})
    found, _, _ = read(flat, {"p1_force": 1, "p2_temperature": 2, "q": True})
    assert found == [("p1", "b", NOW, 1), ("p2", "a", NOW, 2)]


def test_a_message_of_nobody_is_refused_once_and_makes_no_stream():
    """What has none of the group's values is no stream of it, and its tags fill no place."""
    spec = PayloadSpec("json", labels={"pump": "dev"})
    found, drops, _ = read(spec, {"dev": "p1", "c": 1}, {"dev": "p2"}, [1], 7, b"{", max_streams=1)
    assert (found, drops) == ([], {Drop.UNKNOWN_CHANNEL: 4, Drop.MALFORMED: 1})
    found, drops, _ = read(spec, *({"dev": f"p{i}", "a": 1, "b": 2} for i in range(3)), max_streams=2)
    assert ([row[0] for row in found], drops) == (["p0", "p0", "p1", "p1"], {Drop.MAX_STREAMS: 1})


def test_a_topic_may_name_the_channel_and_the_payload_the_machine():
    spec = PayloadSpec("json", labels={"pump": "dev"}, value="v")
    found, drops, _ = read(spec, {"dev": "p1", "v": 3}, template="{site}/{channel}", topic="s/b")
    assert (found, drops) == ([("s/p1", "b", NOW, 3)], {})


def test_numbers_of_messages_are_followed_by_stream():
    """Each machine counts by itself; one that restarts or skips is noticed on its own."""
    spec = PayloadSpec("json", labels={"pump": "dev"}, sequence="n")
    decoder, _ = open_decoder(spec, "t")
    said = [("p1", 1), ("p2", 7), ("p1", 2), ("p2", 8), ("p1", 5)]
    payloads = [json.dumps({"dev": dev, "n": n, "a": 1, "b": 2}).encode() for dev, n in said]
    decoder.decode([b"t"] * 5, payloads, np.full(5, NOW))
    kept = decoder.sequences.state()
    assert [key[0] for key in kept["sequence_of"].tolist()] == [0, 1]
    assert kept["sequence"][:, 0].tolist() == [5, 8]


@pytest.mark.parametrize("path", ["$", "$.a", "$[0].b", "a.$"])
def test_the_root_is_written_as_in_json_path(path):
    document = {"a": {"$": 1}, "b": 2}
    assert lookup([document] if "[0]" in path else document, parse_path(path)) is not Drop.MISSING_VALUE


def test_a_range_of_qualities_begins_with_the_smaller():
    with pytest.raises(ValueError, match="192-255"):
        check_good("255-192")


@pytest.mark.parametrize(
    ("spec", "document", "names"),
    [
        (PayloadSpec("json"), {"temp": "21.5", "serial": "12", "on": True, "x": 4}, ["temp", "x"]),
        (PayloadSpec("json", words={"open": 1}, unit="V"), {"d": "open", "s": "12", "u": "12 V"}, ["d", "u"]),
        (PayloadSpec("json", labels={"d": "id"}, where={"m": "A"}), {"m": "A", "id": 12, "x": 4}, ["x"]),
        (PayloadSpec("json", labels={"d": "id"}, where={"m": "A"}), {"m": "B", "id": 12, "x": 4}, []),
        (KEPWARE, kepware(tag("l.p1.a", 1.5), tag("l.p1.b", "x"), tag("l.p2.c", 2)), ["a", "c"]),
        (PayloadSpec("json", name="{p}.{channel}"), {"p1": {"a": 1}, "p2": {"b": 2}, "n": 7}, ["a", "b"]),
        (PayloadSpec("json", samples="$", id="n", value="v"), [{"n": "a", "v": 1}, {"n": "b", "v": None}], ["a"]),
    ],
)
def test_training_finds_the_channels_that_the_payload_names(spec, document, names):
    """Without `values` the channels are the numbers by their names; text counts where it has a decimal sign."""
    payload = json.dumps(document).encode()
    assert channel_names([(Template.parse("t"), spec)], [(b"t", payload)]) == names


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-9, 9)
    | st.floats()
    | st.sampled_from(["a", "p1", "1.5", '{"a": 1}', "", 'a"b'])
)
KEYS = st.sampled_from(["a", "b", "dev", "id", "v", "q", "t", "values", 'q"', ""])
DOCUMENTS = st.recursive(
    SCALARS, lambda x: st.lists(x, max_size=3) | st.dictionaries(KEYS, x, max_size=5), max_leaves=9
)
SPECS = [
    PayloadSpec("json", labels={"pump": "dev"}, where={"id": "a"}, quality="q", time="t", sequence="v"),
    PayloadSpec("json", samples="values", id="id", value="v", quality="q", time="t"),
    PayloadSpec("json", samples="$", id="id", value="v", name="{pump}-{channel}", sample_every_s=1.0),
    PayloadSpec("json", name="{pump}.{channel}", quality="q", labels={"x": "dev"}),
    PayloadSpec("json", quality="q.q", time="t"),
]  # fmt: skip


@given(st.sampled_from(SPECS), st.lists(DOCUMENTS, max_size=4))
def test_no_document_raises_and_grouping_changes_nothing(spec, documents):
    """Any documents: believable readings or reasons, the same together as one by one."""
    template = "{p}" if spec.addressed is False else "t"
    payloads = [json.dumps(one).encode() for one in documents]
    whole, together = open_decoder(spec, template)[0], []
    readings, drops = whole.decode([b"t"] * len(payloads), payloads, np.full(len(payloads), NOW))
    single, refused = open_decoder(spec, template)[0], type(drops)()
    for payload in payloads:
        one, more = single.decode([b"t"], [payload], np.array([NOW]))
        refused += more
        together += zip(
            one.stream.tolist(), one.channel.tolist(), one.time_s.tolist(), map(repr, one.value.tolist()), strict=True
        )
    columns = (readings.stream.tolist(), readings.channel.tolist(), readings.time_s.tolist())
    assert list(zip(*columns, map(repr, readings.value.tolist()), strict=True)) == together
    assert +drops == +refused
    assert np.isfinite(readings.time_s).all()
    assert not np.isinf(readings.value.astype(np.float32)).any()
