"""The contract of times in payloads: local times of a zone, and one bound for all that any format reads.

The bound is enforced where readings are collected (`ReadingColumns`), so it holds for births, deaths, nulls and ends of
holds, and a format that forgot it cannot let a time of the future pass.
"""

import json
import math
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamae.core.align import GridRows
from streamae.core.align_rule import GridAlign
from streamae.core.counters import Counters
from streamae.core.decode import PayloadSpec
from streamae.core.formats import FORMATS
from streamae.core.formats.columns import ReadingColumns, TopicRun
from streamae.core.formats.values import EARLIEST_S, to_seconds
from streamae.core.types import Drop
from streamae.daemon.json_parser import json_loads
from tests import sparkplug as sp
from tests.golden_payloads import NOW, open_decoder

pytestmark = pytest.mark.quick

BERLIN, LORD_HOWE = ZoneInfo("Europe/Berlin"), ZoneInfo("Australia/Lord_Howe")  # half an hour of summer time
UNSET, FORGED, YEAR_2100 = 0.0, EARLIEST_S - 1, 4_102_444_800.0


@pytest.mark.parametrize(
    ("text", "zone", "utc"),
    [
        ("2024-07-01T12:00:00", BERLIN, "2024-07-01T10:00:00"), ("2024-01-01 12:00:00", BERLIN, "2024-01-01T11:00:00"),
        ("2024-07-01T12:00:00", None, "2024-07-01T12:00:00"), ("2024-07-01T12:00:00Z", BERLIN, "2024-07-01T12:00:00"),
        ("2024-07-01T12:00:00+05:00", BERLIN, "2024-07-01T07:00:00"),
        ("20240701T120000", BERLIN, "2024-07-01T10:00:00"),
        ("2024-03-31T02:30:00", BERLIN, "2024-03-31T01:30:00"),  # left out: the clock shows winter time still
        ("2024-10-06T02:15:00", LORD_HOWE, "2024-10-05T15:45:00"),
        ("20240701120000", BERLIN, "2024-07-01T10:00:00"),
    ],
)  # fmt: skip
def test_a_local_time_is_of_the_zone_that_is_configured(text, zone, utc):
    """A time that says its offset has its own; one that the zone leaves out in spring is of a clock not put forward."""
    expected = datetime.fromisoformat(utc).replace(tzinfo=UTC).timestamp()
    assert to_seconds(text, zone=zone) == to_seconds(text, zone=zone, near_s=NOW) == expected


@pytest.mark.parametrize(
    ("zone", "day", "shift_s"), [(BERLIN, "2024-10-27T02:30:00", 3600), (LORD_HOWE, "2024-04-07T01:45:00", 1800)]
)
def test_of_a_time_that_comes_twice_the_one_nearer_to_the_arrival_is_meant(zone, day, shift_s):
    first = datetime.fromisoformat(day).replace(tzinfo=zone).timestamp()
    assert to_seconds(day, zone=zone) == first
    for late_s in (-5.0, 0.0, 20.0, shift_s / 2):
        assert to_seconds(day, zone=zone, near_s=first + late_s) == first
    for late_s in (shift_s / 2 + 1, shift_s, shift_s + 20.0, 86_400.0):
        assert to_seconds(day, zone=zone, near_s=first + late_s) == first + shift_s


@pytest.mark.parametrize(
    ("zone", "day"), [(BERLIN, "2024-10-27"), (BERLIN, "2024-03-31"), (LORD_HOWE, "2024-04-07"), (None, "2024-10-27")]
)
@pytest.mark.parametrize("loads", [json.loads, json_loads()])
def test_a_day_on_which_the_clocks_change_is_read_without_a_jump(zone, day, loads):
    """A device that shows the local time of each moment sends every minute once, in order, through the whole day."""
    start = datetime.fromisoformat(day).replace(tzinfo=zone or UTC).timestamp() - 3600
    moments = start + 60.0 * np.arange(26 * 60)
    local = [datetime.fromtimestamp(t, zone or UTC).replace(tzinfo=None).isoformat() for t in moments.tolist()]
    decoder, _ = open_decoder(PayloadSpec("json", time="t", zone=zone), loads=loads)
    payloads = [json.dumps({"t": text, "a": 1, "b": 2}).encode() for text in local]
    readings, drops = decoder.decode([b"p"] * len(payloads), payloads, moments + 2.0)
    assert +drops == {}
    assert readings.time_s[::2].tolist() == moments.tolist()


@given(
    st.datetimes(datetime(2001, 1, 1), datetime(2030, 1, 1)), st.sampled_from([BERLIN, LORD_HOWE]), st.floats(0, 600)
)
def test_what_a_right_clock_shows_is_read_as_its_moment(moment, zone, late_s):
    """For any moment, its local time read within ten minutes is that moment, to the microsecond."""
    seconds = moment.replace(tzinfo=UTC).timestamp()
    shown = datetime.fromtimestamp(seconds, zone).replace(tzinfo=None)
    assert to_seconds(shown.isoformat(), zone=zone, near_s=seconds + late_s) == pytest.approx(seconds, abs=1e-5)


# Every format and every kind of message with a time that nobody can believe, and the reading that must not appear.
def kinds(time_s):
    """(format, spec, topic, template, messages before, the message) for every kind of message that has a time."""
    ms = round(time_s * 1000)
    iso = (datetime(1970, 1, 1) + timedelta(seconds=time_s)).isoformat() + "Z"
    rows = [
        ("json", PayloadSpec("json", time="t"), {"t": time_s, "a": 1, "b": None}),
        ("json", PayloadSpec("json", time="t"), {"t": iso, "a": 1, "b": 2}),
        ("json", PayloadSpec("json", time="t"), {"t": f"{time_s:.3f}" if time_s else "0.0", "a": 1, "b": 2}),
        ("json", PayloadSpec("json", time="t", time_unit="ms"), {"t": ms, "a": None, "b": None}),
        ("json", PayloadSpec("json", time="t", samples="$"), [{"t": time_s, "a": 1, "b": 2}]),
        ("json", PayloadSpec("json", time="t", samples="s", sample_every_s=1.0), {"t": time_s, "s": [{"a": 1,
        "b": 2}]}),
        ("json", PayloadSpec("json", time="t", labels={"x": "x"}), {"x": "new", "t": time_s, "a": 1, "b": None}),
        ("json", PayloadSpec("json", time="t", samples="$", id="n"), [{"n": "a", "value": None, "t": time_s}]),
        ("telegraf", PayloadSpec("telegraf", time_unit="s"), {"fields": {"a": 1, "b": None}, "name": "m",
        "tags": {}, "timestamp": time_s}),
        ("senml", PayloadSpec("senml"), [{"bt": time_s, "n": "a", "v": 1}, {"n": "b", "v": None}]),
        ("zigbee2mqtt", PayloadSpec("zigbee2mqtt"), {"last_seen": iso, "a": 1, "b": None}),
        ("zigbee2mqtt", PayloadSpec("zigbee2mqtt"), {"last_seen": ms, "a": None}),
        ("tasmota", PayloadSpec("tasmota", zone=UTC), {"Time": iso[:-1], "a": 1, "b": None}),
        ("shelly", PayloadSpec("shelly"), {"method": "NotifyStatus", "params": {"ts": time_s, "a": 1, "b": None}}),
    ]  # fmt: skip
    for kind, spec, document in rows:
        topic = "p/events/rpc" if kind == "shelly" else "p"
        template = "{pump}/events/rpc" if kind == "shelly" else "{pump}"
        if not (kind == "senml" and time_s < 2**28):  # such a time of SenML is relative to the arrival
            yield kind, spec, topic, template, [], json.dumps(document).encode()
    yield "influx", PayloadSpec("influx", time_unit="s"), "p", "{pump}", [], f"m a=1,b=t {round(time_s)}".encode()
    metrics = [sp.metric(name, alias=i, datatype=sp.DOUBLE, double_value=1.0) for i, name in enumerate("ab")]
    birth = ("spBv1.0/g/DBIRTH/n/d", sp.payload(*metrics, seq=1, time_s=NOW - 2))
    for said, (kind, before, body) in {
        "a birth": ("DBIRTH", [], sp.payload(*metrics, seq=1, time_s=time_s)),
        "data": ("DDATA", [birth], sp.payload(sp.metric(alias=0, double_value=2.0), seq=2, time_s=time_s)),
        "a null": ("DDATA", [birth], sp.payload(sp.metric(alias=0, is_null=True), seq=2, time_s=time_s)),
        "a metric": (
            "DDATA",
            [birth],
            sp.payload(sp.metric(alias=0, double_value=2.0, timestamp=ms), seq=2, time_s=NOW),
        ),
        "a death": ("DDEATH", [birth], sp.payload(seq=2, time_s=time_s)),
        "the node's death": ("NDEATH", [birth], sp.payload(time_s=time_s)),
    }.items():
        assert said
        topic = f"spBv1.0/g/{kind}/n" + ("/d" if kind[0] == "D" else "")
        yield "sparkplug", PayloadSpec("sparkplug"), topic, "spBv1.0/{group}/+/{node}/{device}", before, body


@pytest.mark.parametrize("time_s", [UNSET, FORGED, NOW + 61, YEAR_2100])
@pytest.mark.parametrize("loads", [json.loads, json_loads()])
def test_no_message_of_any_format_has_a_time_that_is_not_believed(time_s, loads):
    """Far ahead or before 2000, sample, birth, death, null or list: no reading has that time, and it is counted."""
    tried = set()
    for kind, spec, topic, template, before, body in kinds(time_s):
        decoder, _ = open_decoder(spec, template, loads=loads)
        for early_topic, early in before:
            decoder.decode([early_topic.encode()], [early], np.array([NOW - 1]))
        readings, drops = decoder.decode([topic.encode()], [body], np.array([NOW]))
        death = topic.split("/")[-2 if topic.endswith("/d") else -1] == "n" and "DEATH" in topic
        what = (kind, topic, body)
        assert set(readings.time_s.tolist()) == ({NOW} if death else set()), what
        assert np.isnan(readings.value).all(), what
        why = Drop.FUTURE if time_s > NOW else Drop.BAD_TIME
        assert drops.get(why, 0) == (0 if "NDEATH" in topic else 1), what  # the time of a will is not looked at
        assert set(+drops) <= {why}, what
        tried.add(kind)
    timed = {name for name, form in FORMATS.items() if form.timed or {"time", "time_zone"} & {*form.keys}}
    assert tried == timed - ({"senml"} if time_s < 2**28 else set())


def test_a_message_just_within_the_bounds_is_read():
    """The control: the same messages a moment earlier, or at the beginning of 2000."""
    for time_s in (NOW + 59, EARLIEST_S, NOW):
        for kind, spec, topic, template, before, body in kinds(time_s):
            decoder, _ = open_decoder(spec, template)
            for early_topic, early in before:
                decoder.decode([early_topic.encode()], [early], np.array([NOW - 1]))
            readings, drops = decoder.decode([topic.encode()], [body], np.array([NOW]))
            assert len(readings), (kind, topic)
            assert not {Drop.FUTURE, Drop.BAD_TIME} & {*(+drops)}, (kind, topic)


def test_the_clock_of_this_machine_may_not_be_set_yet():
    """Where the arrival itself is before 2000, it says nothing of the senders: what is older than now is read."""
    decoder, _ = open_decoder(PayloadSpec("json", time="t"))
    for time_s, read in ((90.0, 2), (110.0, 2), (200.0, 0)):
        body = json.dumps({"t": time_s, "a": 1, "b": 2}).encode()
        assert len(decoder.decode([b"p"], [body], np.array([100.0]))[0]) == read


def test_a_reader_that_forgets_the_bound_cannot_pass_it():
    """Whatever a format gives, singly or as a run: a value is refused once for its sample, an end is at the arrival."""
    out = ReadingColumns()
    out.begin(0, NOW, NOW + 60)
    for origin, time_s in enumerate((YEAR_2100, UNSET, math.nan, math.inf, -math.inf, NOW)):
        out.origins = origin
        out.add(0, 0, time_s, 1.0)
        out.add(0, 1, time_s, 2.0)
        out.take(0, 2, time_s, Drop.UNAVAILABLE)
    found = out.readings(np.array([NOW]))
    assert found.time_s.tolist() == [NOW] * 8
    assert found.value[np.isfinite(found.value)].tolist() == [1.0, 2.0]
    assert +out.drops == {Drop.FUTURE: 2, Drop.BAD_TIME: 3, Drop.UNAVAILABLE: 6}
    one, zero = np.array([NOW]), np.zeros(1, np.int32)
    run = TopicRun(np.zeros(1, np.int64), zero, zero, [b""], one, one + 60)
    for time_s, taken in ((NOW, True), (NOW + 60, True), (NOW + 61, False), (UNSET, False), (math.nan, False)):
        assert out.add_run(run, zero[:, None], np.array([time_s]), np.ones((1, 1))) is taken


@pytest.mark.parametrize(
    ("stamp", "kind"), [(EARLIEST_S + 1, "DDEATH"), (NOW - 3600, "DDEATH"), (NOW, "DDEATH"), (None, "NDEATH")]
)
@pytest.mark.parametrize("ahead_s", [0.0, 30.0])
def test_a_death_comes_after_the_data_before_it(stamp, kind, ahead_s):
    """With a time long past, or that of the last sample, or by a clock that is ahead: nothing is held beyond it."""
    decoder, _ = open_decoder(PayloadSpec("sparkplug"), "spBv1.0/{group}/+/{node}/{device}")
    grid = GridRows(GridAlign(every_s=1.0, gap_max_s=600.0, lateness_s=0.5), 2, 600.0, Counters([None] * 2))
    metrics = [sp.metric(name, alias=i, datatype=sp.DOUBLE, double_value=1.0) for i, name in enumerate("ab")]
    birth = sp.payload(*metrics, seq=1, time_s=NOW + ahead_s)
    again = sp.payload(*metrics, seq=3, time_s=NOW + 500)
    death = sp.payload(seq=None if kind[0] == "N" else 2, time_s=stamp if stamp != NOW else NOW + ahead_s)
    rows = []
    for what, body, arrival_s in (("DBIRTH", birth, NOW), (kind, death, NOW + 0.5), ("DBIRTH", again, NOW + 500)):
        topic = f"spBv1.0/g/{what}/n" + ("/d" if what[0] == "D" else "")
        readings, drops = decoder.decode([topic.encode()], [body], np.array([arrival_s]))
        assert +drops == {}, (what, drops)
        grid.grow(1)
        found, late = grid.step(readings)
        assert +late == {}
        rows += found.time_s.tolist()
    assert rows == [NOW + ahead_s]  # and the one of the second birth is open still


@pytest.mark.parametrize("stamp", [YEAR_2100, UNSET, None])
def test_a_death_with_a_strange_time_ends_the_device_and_blinds_nothing(stamp):
    """After it nothing is held, and after the next birth the device is read again, with no sample late."""
    decoder, _ = open_decoder(PayloadSpec("sparkplug"), "spBv1.0/{group}/+/{node}/{device}")
    grid = GridRows(GridAlign(every_s=1.0, gap_max_s=600.0, lateness_s=1.0), 2, 600.0, Counters([None] * 2))
    rows, drops = [], []

    def says(kind, body, arrival_s):
        readings, _ = decoder.decode([f"spBv1.0/g/{kind}/n/d".encode()], [body], np.array([arrival_s]))
        grid.grow(1)
        found, refused = grid.step(readings)
        rows.extend(found.time_s.tolist())
        drops.append(+refused)

    metrics = [sp.metric(name, alias=i, datatype=sp.DOUBLE, double_value=1.0) for i, name in enumerate("ab")]
    for n in range(60):
        now_s, seq = NOW + n, n % 256
        if n in (0, 30):
            says("DBIRTH", sp.payload(*metrics, seq=seq, time_s=now_s), now_s)
        elif n == 20:
            says("DDEATH", sp.payload(seq=seq, time_s=stamp), now_s)
        elif n < 20 or n > 30:
            says("DDATA", sp.payload(sp.metric(alias=n % 2, double_value=float(n)), seq=seq, time_s=now_s), now_s)
    assert not any(drops)
    assert rows == [NOW + n for n in (*range(20), *range(30, 59))]
