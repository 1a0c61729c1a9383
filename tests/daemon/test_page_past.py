"""A stream's past from the journal: what the daemon made of it then, wherever in time it lies, at a bounded cost."""

import json
import sqlite3
import threading
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamae.core.align_rule import GridAlign
from streamae.core.decode import PayloadSpec
from streamae.core.groups import Groups
from streamae.core.past import past_of
from streamae.core.types import Batch
from streamae.daemon.page import past
from streamae.daemon.page.detail import extremes, picture
from streamae.daemon.page.past import StreamReplay
from streamae.errors import UnavailableError
from streamae.store.store import Store
from tests import plants
from tests import sparkplug as sp
from tests.brokers import wait_until
from tests.sparkplug import metric, payload

T0 = 1_700_000_000.0
KNOWN = plants.known_stream(
    [10.0, 10.0], [1.0, 1.0], weight=[0.5, 0.5], zero=float(np.log(4.0)), offset=float(np.log(5.0))
)


class Journalled:
    """A pipeline that commits as the daemon does; remembers each row and verdict of a stream."""

    def __init__(self, folder, watched="p1", durability="process", **group):
        self.store = Store.open(folder / "state", durability, lambda: T0)
        group.setdefault("profile", plants.profile(streams={watched: KNOWN}))
        self.groups = Groups("i", [plants.group(**group)])
        self.pipeline, self.stream = self.groups.pipelines["pumps"], watched
        self.rows, self.verdicts = {}, {}
        self.opened = 0

    def take(self, messages, now_s, **batch):
        """Take messages (topic, payload, arrival) as one batch that is written at `now_s`."""
        one = plants.batch(messages)
        one = Batch(one.topics, one.payloads, one.arrival_s, **batch)
        report = self.groups.step(one, now_s)
        self.store.commit(one, report, now_s)
        mine = self.pipeline.streams.index(self.stream)
        rows = report.groups["pumps"].rows
        stream, time_s, values = rows.stream, rows.time_s, rows.values
        self.rows |= {t: v for s, t, v in zip(stream, time_s.tolist(), values.tolist(), strict=True) if s == mine}
        v = report.groups["pumps"].verdicts
        at = np.flatnonzero(v.stream == mine)
        self.verdicts |= dict(zip(v.time_s[at].tolist(), v.score[at].tolist(), strict=True))

    @contextmanager
    def past(self):
        self.opened += 1
        with self.store.past() as past:
            yield past

    def look(self, from_s, until_s):
        """Return the picture of a span with 2,000 points, and what was said of it."""
        pipeline, known = self.pipeline, past_of(self.pipeline, self.stream, from_s, 0)
        mine = (-1, pipeline.streams.index(self.stream))
        reader = StreamReplay(self.past, json.loads)
        raw, read = reader.read(known, lambda topic: pipeline.router.find(topic) in mine, from_s, until_s)
        return picture(
            raw, pipeline.profile.channels, pipeline.group.reconstructor, (read["from_s"], until_s), 2000
        ), read

    def wanted(self, seen, from_s, until_s):
        return {t: v for t, v in seen.items() if from_s <= t <= until_s}


def column(pair):
    """Drawn times and values without the empty rows of gaps."""
    times, values = pair
    return {t: v for t, v in zip(times, values, strict=True) if not np.isnan(v)}


def message(pump, t, rng, *, arrival_s=None, **more):
    a, b = rng.normal(0, 1, 2) + pump * 10
    return b"plant/p%d" % pump, json.dumps({"a": a, "b": b, "t": t, **more}).encode(), arrival_s or t + 0.1


def play(world, seconds, *, begin=0, wall=lambda t: t, quiet=(), batch_s=2):
    """Rows of three pumps once a second, some seconds a batch, written when `wall` says; `quiet` are silent seconds."""
    rng = np.random.default_rng(0)
    for second in range(begin, seconds, batch_s):
        times = [T0 + second + i for i in range(batch_s) if second + i not in quiet]
        if times:
            said = [message(p, t, rng, arrival_s=wall(t)) for t in times for p in range(3)]
            world.take(said, wall(times[-1]) + 0.2)


@pytest.fixture
def world(tmp_path):
    made = []

    def make(**options):
        made.append(Journalled(tmp_path, **options))
        return made[-1]

    yield make
    for one in made:
        one.store.close()


def same(world, from_s, until_s, says_whole=True):
    """Hold a span that was looked at against what the daemon made of it at the time."""
    seen, read = world.look(from_s, until_s)
    rows = world.wanted(world.rows, from_s, until_s)
    for c, line in enumerate(seen["channels"]):
        drawn = column((seen["time_s"], line["values"]))
        scaled = np.array(list(rows.values()), np.float32).reshape(-1, 2)
        raw = world.pipeline.scale.raw(world.pipeline.streams.index(world.stream), scaled)
        assert list(drawn) == list(rows)
        assert list(drawn.values()) == pytest.approx(raw[:, c].tolist(), rel=1e-4, abs=1e-4)
    verdicts = world.wanted(world.verdicts, from_s, until_s)
    drawn = column((seen["verdicts"]["time_s"], seen["verdicts"]["score"]))
    assert drawn == pytest.approx({t: s for t, s in verdicts.items() if not np.isnan(s)}, rel=1e-5)
    assert read["whole"] is says_whole
    return seen, read


def same_from(world, rows):
    """The same, of a stream whose first rows the daemon had not scaled then."""
    seen, _ = world.look(T0, T0 + 1000)
    scores = column((seen["verdicts"]["time_s"], seen["verdicts"]["score"]))
    then = {t: s for t, s in world.verdicts.items() if not np.isnan(s)}
    assert {t: scores[t] for t in then} == pytest.approx(then, rel=1e-5)
    assert min(scores) < min(then)
    assert sorted(world.rows)[0] == T0 + rows
    return seen, _


def test_a_past_is_what_the_daemon_made_of_it(world):
    """Every row and every score of a span, from its first moment on, though windows begin before it."""
    one = world()
    play(one, 300)
    for span in ((100, 160), (30, 300), (-500, 900), (298, 299), (200.5, 201.5)):
        seen, read = same(one, T0 + span[0], T0 + span[1])
        assert (read["journal_from_s"], read["from_s"]) == (T0, T0 + max(span[0], 0))
        assert (read["pieces"], read["scored_every"], seen["point_s"]) == (1, 1, None)
        assert max(line["share"] for line in seen["channels"]) > 0.5


def test_a_gap_is_a_gap_and_silence_is_no_end(world):
    """No line spans a silence, and what comes after it is found, whether the span begins before it or within."""
    one = world()
    play(one, 300, quiet=range(150, 250))
    seen, _ = same(one, T0 + 100, T0 + 290)
    middle = [v is None or np.isnan(v) for v in seen["channels"][0]["values"]]
    assert sum(middle) == 1
    same(one, T0 + 200, T0 + 290)
    assert same(one, T0 + 160, T0 + 240)[0]["time_s"] == []


@pytest.mark.parametrize(
    "wall",
    [
        lambda t: t + 10 * 365 * 86400.0,  # a recording of ten years ago
        lambda t: T0 + 5e8 + (t - T0) / 20,  # the same, twenty times as fast
        lambda t: t - 7200.0,  # a device that takes local time for UTC
        lambda t: t if not 100 <= t - T0 < 160 else T0 + 160,  # queued by the broker during an outage of ours
    ],
)
def test_the_clock_of_a_stream_may_be_another_than_that_of_the_journal(world, wall):
    """A span is one of event time, wherever in the journal its messages stand."""
    one = world(future_max_s=1e9)
    play(one, 200, wall=wall)
    for span in ((60, 110), (120, 150), (0, 199)):
        same(one, T0 + span[0], T0 + span[1])


def test_a_stream_may_speak_seldom_or_not_any_more(world):
    """Once in a hundred batches of the others; and when it is gone, its last words are still found."""
    slow = replace(plants.profile(gap_max_s=500.0, streams={"p9": KNOWN}), period_s=50.0)
    one = world(watched="p9", profile=slow)
    rng = np.random.default_rng(0)
    for second in range(500):
        t = T0 + second
        rare = [message(9, t, rng)] if second % 50 == 0 and second < 300 else []
        one.take([message(0, t, rng), message(1, t, rng), *rare], t + 0.2)
    same(one, T0 + 60, T0 + 490)
    assert same(one, T0 + 300, T0 + 490)[0]["time_s"] == []


def test_alarms_since_have_raised_the_threshold_and_the_past_has_it_where_it_stood(world):
    """An alarm is one in its past too, though it has raised the limit; the control forgets that, and shows none."""
    one = world()
    rng = np.random.default_rng(0)
    for second in range(200):
        t, jump = T0 + second, 4.5 if 100 <= second < 106 else 0.0
        one.take([(b"plant/p1", json.dumps({"a": 10 + jump, "b": 10 + rng.normal() + jump, "t": t}).encode(), t)], t)

    def peak(onsets):
        known = past_of(one.pipeline, "p1", T0 + 50, onsets)
        raw, _ = StreamReplay(one.past, json.loads).read(known, lambda _: True, T0 + 50, T0 + 150)
        return np.nanmax(raw.verdicts["score"] / raw.verdicts["threshold"])

    assert one.pipeline.threshold.state()["theta"][0] > 0.3
    assert peak(1) > 1 > peak(0)


def test_a_long_past_is_read_in_pieces_at_a_bounded_cost(world, monkeypatch):
    """Beyond the budget: evenly spread pieces, each with scores, all of them what the daemon had; and that is said."""
    one = world()
    play(one, 1600, batch_s=8)
    monkeypatch.setattr(past, "_COST_MAX", 8_000)
    unpacked = []
    known = Store.past

    @contextmanager
    def counted(store):
        with known(store) as past:
            rows = past.rows

            def counting(*asked):
                for row in rows(*asked):
                    unpacked.append(row[0])
                    yield row

            past.rows = counting
            yield past

    monkeypatch.setattr(Store, "past", counted)
    seen, read = one.look(T0 + 50, T0 + 1550)
    assert not read["whole"]
    assert 5 <= read["pieces"] <= 48
    assert len(unpacked) * (24 + past._ROW_COST + 8 * past._OWN_COST) < 1.3 * 8_000
    drawn = column((seen["time_s"], seen["channels"][0]["values"]))
    assert set(drawn) <= set(one.rows)
    assert np.diff(sorted(drawn)).max() < 1500 / read["pieces"] * 1.5, "spread over the whole span"
    scores = column((seen["verdicts"]["time_s"], seen["verdicts"]["score"]))
    assert len(scores) > 2 * read["pieces"]
    assert scores == pytest.approx({t: one.verdicts[t] for t in scores}, rel=1e-5)
    breaks = sum(np.isnan(v) for v in seen["channels"][0]["values"])
    assert read["pieces"] / 2 < breaks < read["pieces"], "no line spans what was not read"
    same(one, T0 + 1000, T0 + 1100)  # nearer, everything is there


def test_more_windows_than_a_picture_shows_are_thinned(world, monkeypatch):
    """Every k-th window is scored, that is said, and the scores are those of these windows."""
    one = world()
    play(one, 240)
    monkeypatch.setattr(past, "_WINDOWS_MAX", 50)
    seen, read = one.look(T0 + 30, T0 + 230)
    assert (read["whole"], read["scored_every"]) == (True, 4)
    scores = column((seen["verdicts"]["time_s"], seen["verdicts"]["score"]))
    assert 45 < len(scores) < 55
    assert scores == pytest.approx({t: one.verdicts[t] for t in scores}, rel=1e-5)


def test_askers_take_turns_and_nothing_is_written(world, monkeypatch):
    """One reads, some wait, further ones are asked to come again; the connection cannot write, the writer commits."""
    one = world()
    play(one, 60)
    known, find = past_of(one.pipeline, "p1", T0, 0), lambda _: True
    held, go, reading, most = threading.Event(), threading.Event(), [], []

    @contextmanager
    def slow():
        reading.append(1)
        most.append(len(reading))
        with one.past() as past:
            with pytest.raises(sqlite3.OperationalError, match="readonly"):
                past._connection.execute("DELETE FROM journal")
            held.set()
            go.wait(20)
            yield past
        reading.pop()

    reader, found = StreamReplay(slow, json.loads), []
    monkeypatch.setattr(past, "_PATIENCE_S", 60.0)
    askers = [
        threading.Thread(target=lambda: found.append(reader.read(known, find, T0, T0 + 60)))
        for _ in range(past._ASKERS_MAX)
    ]
    for asker in askers:
        asker.start()
    assert held.wait(20)
    wait_until(lambda: reader._room._value == 0, 20, "not all wait")
    with pytest.raises(UnavailableError, match="again"):
        reader.read(known, find, T0, T0 + 60)
    one.take([message(0, T0 + 60, np.random.default_rng(0))], T0 + 60.2)
    go.set()
    for asker in askers:
        asker.join(20)
    assert [len(raw.time_s) for raw, _ in found] == [60] * len(askers)
    assert set(most) == {1}


def test_an_asker_does_not_wait_for_ever(world, monkeypatch):
    one = world()
    reader = StreamReplay(one.past, json.loads)
    monkeypatch.setattr(past, "_PATIENCE_S", 0.01)
    with reader._turn, pytest.raises(UnavailableError, match="again"):
        reader.read(None, lambda _: True, T0, T0 + 60)
    assert reader._room._value == past._ASKERS_MAX


def test_a_row_that_is_damaged_is_passed_over(world):
    one = world()
    play(one, 200)
    with sqlite3.connect(one.store._database.path) as connection:
        connection.execute("UPDATE journal SET body = zeroblob(20) WHERE seq = 75")
    seen, _ = one.look(T0 + 100, T0 + 199)
    assert len(seen["time_s"]) == 98


def test_what_ended_the_process_does_not_end_it_again(world):
    """A message that is kept as poison is never looked at, though the journal has it; the control looks."""
    one = world()
    play(one, 60)
    deadly = message(1, T0 + 60, np.random.default_rng(0))
    one.take([deadly, message(1, T0 + 61, np.random.default_rng(1))], T0 + 61)
    assert one.look(T0 + 50, T0 + 61)[0]["time_s"][-2:] == [T0 + 60, T0 + 61]
    batch = plants.batch([deadly])
    one.store.poison._bury(batch, np.array([0]), "journal", T0)
    assert one.look(T0 + 50, T0 + 61)[0]["time_s"][-2:] == [T0 + 59, T0 + 61]


def test_without_a_journal_there_is_no_past(world):
    one = world(durability="none")
    play(one, 60)
    seen, read = one.look(T0, T0 + 60)
    assert (seen["time_s"], read["journal_from_s"]) == ([], None)


def test_a_stream_that_was_met_in_passing_is_judged_by_what_it_taught(world):
    """Its warm-up too is seen then, in the units that it led to; a stream that learns still learns from the start."""
    one = world(profile=plants.profile(warmup_rows=20, learn_windows=10))
    play(one, 60)
    seen, _ = same_from(one, 20)
    assert len(column((seen["time_s"], seen["channels"][0]["values"]))) == 60
    assert past_of(one.pipeline, "p77", T0, 0) is None
    two = past_of(one.pipeline, "p1", T0, 0)
    assert (two.scale is None, two.scoring is None) == (False, False)


def test_a_stream_that_learns_learns_again(world):
    """No verdict comes of a stream that has still to learn its level, and no row of one that has no scale."""
    one = world(profile=plants.profile(warmup_rows=20, learn_windows=500))
    play(one, 10)
    assert one.look(T0, T0 + 100)[0]["time_s"] == []
    play(one, 60, begin=10)
    seen, _ = one.look(T0, T0 + 100)
    assert len(seen["time_s"]) == 60
    assert column((seen["verdicts"]["time_s"], seen["verdicts"]["score"])) == {}


def test_no_window_of_the_past_spans_a_loss(world):
    """Where messages were lost the past has the daemon's verdicts and no other; where a backlog thinned, as few."""
    one = world()
    rng = np.random.default_rng(3)
    for second in range(120):
        t = T0 + second
        lost = {"holes": (b"plant/p1",)} if second == 70 else {"thinning": 3} if 90 <= second < 102 else {}
        one.take([message(p, t, rng) for p in range(3)], t + 0.2, **lost)
    same(one, T0 + 40, T0 + 89)
    seen, _ = one.look(T0 + 90, T0 + 101)
    assert len(column((seen["verdicts"]["time_s"], seen["verdicts"]["score"]))) == 4
    same(one, T0 + 102, T0 + 119)


def test_rows_of_a_grid_come_from_channels_that_arrive_apart(world):
    one = world(align=GridAlign(every_s=1.0, lateness_s=1.0, gap_max_s=5.0), template="plant/{pump}/{channel}",
                payload=PayloadSpec("number"))  # fmt: skip
    rng = np.random.default_rng(5)
    for second in range(200):
        t = T0 + second
        topics = [
            (b"plant/p%d/%s" % (p, c), t + 0.3 * p + (0.4 if c == b"b" else 0.1))
            for p in range(3)
            for c in (b"a", b"b")
        ]
        one.take([(topic, repr(rng.normal()).encode(), at) for topic, at in topics], t + 1.5)
    same(one, T0 + 50, T0 + 150)


def test_sparkplug_data_are_read_by_births_from_before(world):
    """The birth lies long before the span; the aliases of another device's birth are not taken for its."""
    topic, spec = "spBv1.0/{group}/+/{node}/{device}", PayloadSpec("sparkplug")
    one = world(watched="m1", template=topic, payload=spec, stream="{device}", profile=plants.profile(warmup_rows=2))
    for device, alias in (("m0", 5), ("m1", 6)):
        born = [metric(name, alias=alias + 10 * c, datatype=sp.DOUBLE, double_value=1.0) for c, name in enumerate("ab")]
        one.take([(f"spBv1.0/g/DBIRTH/n/{device}".encode(), payload(*born, seq=0, time_s=T0), T0)], T0)
    for second in range(1, 100):
        t = T0 + second
        for device, alias in (("m0", 5), ("m1", 6)):
            data = [metric(alias=alias + 10 * c, double_value=second * (c + 1) + alias * 1000) for c in range(2)]
            one.take([(f"spBv1.0/g/DDATA/n/{device}".encode(), payload(*data, time_s=t), t)], t)
    seen, _ = same(one, T0 + 60, T0 + 80)
    assert column((seen["time_s"], seen["channels"][1]["values"]))[T0 + 70] == pytest.approx(6140, rel=1e-4)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.floats(0.01, 4), st.one_of(st.just(np.nan), st.integers(-5, 5))), min_size=1, max_size=60),
    st.floats(0.5, 20),
)
def test_extremes_are_those_that_a_loop_finds(steps, point_s):
    """Of each part the lowest and the highest, in their order, at its first and last time; a lone row is left alone."""
    time_s, values = np.cumsum([s for s, _ in steps]), np.array([v for _, v in steps], np.float64)
    columns = np.column_stack([values, np.arange(len(values), dtype=np.float64)])
    times, drawn, begins = extremes(time_s, columns, 0.0, point_s)
    parts = [int(t / point_s) for t in time_s]
    expected = []
    for part in sorted(set(parts)):
        at = [i for i, p in enumerate(parts) if p == part]
        known = [i for i in at if not np.isnan(values[i])]
        pair = [np.nan, np.nan]
        if known:
            low, high = min(known, key=lambda i: values[i]), max(known, key=lambda i: values[i])
            pair = [values[i] for i in sorted((low, high), key=lambda i: (i, i == high))]
        expected.append((time_s[at[0]], pair[0], True))
        if len(at) > 1:
            expected.append((time_s[at[-1]], pair[1], False))
    assert times.tolist() == [t for t, _, _ in expected]
    assert np.array_equal(drawn[:, 0], [v for _, v, _ in expected], equal_nan=True)
    assert begins.tolist() == [b for _, _, b in expected]
    assert np.array_equal(drawn[begins, 1], np.flatnonzero(np.r_[True, np.diff(parts) > 0]))
