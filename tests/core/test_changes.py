"""The contract of core.changes and core.places: a stream is removed, learns again, has another name, or gives way."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamae.core.alert import AlertRule
from streamae.core.align_rule import GridAlign
from streamae.core.changes import packed
from streamae.core.decode import PayloadSpec
from streamae.core.flapping import FlapRule
from streamae.core.groups import Groups
from streamae.core.sensors.state import SensorRule
from streamae.core.standing import firing_ids
from streamae.core.takeover import states
from streamae.core.types import AlertState, Batch, Drop, StreamChange
from streamae.store.journal import decode_batch, encode_batch
from tests import plants
from tests.core.test_pipeline import BAD, T0, plant, play
from tests.quick import examples

pytestmark = pytest.mark.quick

RULE = AlertRule(keep_firing_for_s=3)
HOUR, DAY = 3600.0, 86400.0


def asked(*changes):
    """A batch of changes alone."""
    return Batch([], [], np.zeros(0), changes=changes)


def change(kind, stream, name="", rows=""):
    return StreamChange(kind, "pumps", stream, name, rows)


def opened(**group):
    return Groups("i", [plants.group(alert=RULE, **group)])


def verdicts(groups, messages):
    """Scores and thresholds by the name of the stream."""
    found = {}
    for part in [messages[n : n + 7] for n in range(0, len(messages), 7)]:
        news = groups.step(plants.batch(part), 0.0).groups["pumps"]
        for s, time_s, score, threshold in zip(
            news.verdicts.stream, news.verdicts.time_s, news.verdicts.score, news.verdicts.threshold, strict=True
        ):
            found.setdefault(news.names[s], []).append((time_s, score, threshold))
    return found


def only(messages, *pumps):
    return [one for one in messages if one[0] in {b"plant/" + pump.encode() for pump in pumps}]


@pytest.mark.parametrize("gone", ["p0", "p1", "p2"])
@pytest.mark.parametrize("align", [None, GridAlign(1.0, lateness_s=0.5)], ids=["row", "grid"])
def test_the_others_go_on_as_if_nothing_had_happened(gone, align):
    """Whichever stream is removed, in whatever state: scores and thresholds of the others are the same to the bit."""
    align = {} if align is None else {"align": align}
    messages, late = plant(60, bad=BAD)[: 3 * 43], plant(60, bad=BAD)[3 * 43 :]
    groups, control = opened(**align), opened(**align)
    for one in (groups, control):
        play(one, messages)
    groups.step(asked(change("remove", gone)), 0.0)
    others = {"p0", "p1", "p2"} - {gone}
    assert set(groups.pipelines["pumps"].streams.names) == others
    after = verdicts(groups, only(late, *others))
    expected = verdicts(control, only(late, *others))
    assert {name: after[name] for name in others} == {name: expected[name] for name in others}


@pytest.mark.parametrize("gone", ["p0", "p2"])
def test_a_stream_that_comes_again_is_a_new_one(gone):
    """Nothing of a removed stream is left: it has its warm-up, as on the first day."""
    groups = opened()
    play(groups, plant(60, bad=BAD))
    groups.step(asked(change("remove", gone)), 0.0)
    fresh = verdicts(opened(), only(plant(90)[180:], gone))
    assert verdicts(groups, only(plant(90)[180:], gone)) == fresh
    assert groups.pipelines["pumps"].streams.names[-1] == gone


def test_alerts_and_verdicts_of_a_stream_end_with_it():
    """Whoever was notified of a beginning is notified of the end: of the anomaly, and of what its sensors have."""
    groups = opened(health=SensorRule(range={"a": (-30.0, 300.0)}, stale_after_s=None))
    beyond = [(b"plant/p2", json.dumps({"a": 400.0, "b": 0.0, "t": T0 + t}).encode(), T0 + t) for t in range(46, 52)]
    _, begun, _ = play(groups, plant(46, bad={(2, t) for t in range(40, 46)}) + beyond)
    firing = {t.id for t in begun if t.state == "firing"}
    assert {t.rule for t in begun} == {"anomaly", "out_of_range"}
    report = groups.step(asked(change("remove", "p2")), 0.0)
    assert {t.id for t in report.transitions} == firing
    assert {(t.state, t.stream) for t in report.transitions} == {("resolved", "p2")}
    assert firing_ids(groups.pipelines["pumps"]) == []
    json.dumps([t.score for t in report.transitions], allow_nan=False)


def test_a_flapping_alert_ends_with_its_stream():
    """A verdict that an alert flaps is resolved, and no beginning that is held back comes out."""
    groups = opened(flapping=FlapRule(times=1, within_s=1000.0))
    bad = {(1, t) for t in range(30, 120) if t % 12 < 4}
    _, begun, _ = play(groups, plant(118, bad=bad))
    assert "flapping" in {t.rule for t in begun}
    report = groups.step(asked(change("remove", "p1")), 0.0)
    assert [(t.rule, t.state) for t in report.transitions][-1] == ("flapping", "resolved")
    assert firing_ids(groups.pipelines["pumps"]) == []


def test_a_stream_that_learns_again_forgets_what_was_normal():
    """Its alert ends, and what alarmed is normal after the warm-up; a stream that the model knows does so too."""
    known = {"p1": plants.known_stream([100.0, 100.0], [1.0, 1.0], weight=[0.5, 0.5], zero=1.4, offset=1.6)}
    for streams in ({}, known):
        groups = opened(profile=plants.profile(streams=streams))
        play(groups, plant(60, bad={(1, t) for t in range(40, 300)})[: 3 * 60])
        assert states(groups.pipelines["pumps"])[1] == AlertState.FIRING
        report = groups.step(asked(change("relearn", "p1")), 0.0)
        assert [(t.stream, t.state) for t in report.transitions] == [("p1", "resolved")]
        assert states(groups.pipelines["pumps"])[1] == AlertState.LEARNING
        _, after, _ = play(groups, plant(200, bad={(1, t) for t in range(40, 300)})[3 * 60 :])
        assert after == []
        assert states(groups.pipelines["pumps"]).tolist() == [0, 0, 0]


def test_a_stream_learns_again_from_rows_of_its_past():
    """With enough rows of the past it is judged at once, as if it had learnt from them as they came."""
    messages = plant(100, pumps=1)
    groups, control = opened(), opened()
    play(groups, messages[:80])
    play(control, messages[40:80])
    past = [json.loads(payload) for _, payload, _ in messages[40:80]]
    rows = packed(np.array([d["t"] for d in past]), np.array([[d["a"], d["b"]] for d in past]))
    groups.step(asked(change("relearn", "p0", rows=rows)), 0.0)
    assert states(groups.pipelines["pumps"]).tolist() != [AlertState.LEARNING]
    after, expected = verdicts(groups, messages[80:]), verdicts(control, messages[80:])
    assert [x[:2] for x in after["p0"]] == [x[:2] for x in expected["p0"]]
    assert len(after["p0"]) == 20


@pytest.mark.parametrize(
    "rows", ["", "bm8=", packed(np.zeros(2), np.zeros((2, 5))), packed(np.zeros(0), np.zeros((0, 2)))]
)
def test_rows_of_another_form_teach_nothing(rows):
    """A journal of another release, or of a model with other channels, leaves the stream learning."""
    groups = opened()
    play(groups, plant(60))
    groups.step(asked(change("relearn", "p1", rows=rows)), 0.0)
    assert states(groups.pipelines["pumps"]).tolist() == [0, AlertState.LEARNING, 0]


@pytest.mark.parametrize("known", [False, True])
def test_a_renamed_stream_keeps_what_it_learnt(known):
    """Scale, level and threshold go on under the new name, whether it had appeared already or not."""
    groups, control = opened(), opened()
    messages = plant(100, pumps=2)
    for one in (groups, control):
        play(one, messages[:120])
    renamed = [
        (b"plant/fan", payload, s) if topic == b"plant/p0" else (topic, payload, s) for topic, payload, s in messages
    ]
    if known:
        groups.step(plants.batch(only(renamed[120:126], "fan")), 0.0)
    report = groups.step(asked(change("rename", "p0", "fan")), 0.0)
    assert sorted(groups.pipelines["pumps"].streams.names) == ["fan", "p1"]
    assert report.groups["pumps"].renamed == [groups.pipelines["pumps"].streams.index("fan")]
    late = messages[126:] if known else messages[120:]
    after, expected = verdicts(groups, renamed[len(messages) - len(late) :]), verdicts(control, late)
    shared = {t for t, *_ in after["fan"]}
    assert after["fan"] == [line for line in expected["p0"] if line[0] in shared]
    assert len(shared) >= len(expected["p0"]) - 4  # after a gap the window fills again
    assert after["p1"] == expected["p1"]


def test_a_renamed_stream_is_not_missed_under_its_old_name():
    """Verdicts on the old name end, and the stream is not stale before it could be heard again."""
    groups = opened(health=SensorRule(stale_after_s=5.0))
    play(groups, plant(30, pumps=2))
    _, begun, _ = play(groups, only(plant(40, pumps=2)[60:], "p1"))
    assert [(t.stream, t.rule) for t in begun] == [("p0", "stale")]
    report = groups.step(asked(change("rename", "p0", "fan")), 0.0)
    assert [(t.stream, t.rule, t.state) for t in report.transitions] == [("p0", "stale", "resolved")]
    _, after, _ = play(groups, only(plant(44, pumps=2)[80:], "p1"))
    assert after == []


def test_a_change_of_nothing_is_none():
    """A group or stream that is not there (any more) changes nothing."""
    groups = opened()
    play(groups, plant(30))
    before = groups.snapshot()
    for one in (
        change("remove", "p9"),
        change("relearn", ""),
        StreamChange("remove", "fans", "p0"),
        change("odd", "p0"),
    ):
        assert groups.step(asked(one), 0.0).transitions == []
    assert groups.snapshot() == before


def test_changes_stand_in_the_journal():
    """A row of the journal gives back the changes, and folding it gives the same state."""
    wanted = [
        change("remove", "p1"),
        change("rename", "p0", "ü/1"),
        change("relearn", "p2", rows=packed(np.zeros(1), np.ones((1, 2)))),
    ]
    batch = replace(plants.batch(plant(3)), changes=wanted)
    again = decode_batch(encode_batch(batch))
    assert list(again.changes) == wanted
    assert again.only(np.array([1]), first=False).changes == ()
    one, two = opened(), opened()
    for groups, part in ((one, batch), (two, again)):
        play(groups, plant(60, bad=BAD))
        groups.step(part, 0.0)
    assert one.snapshot() == two.snapshot()


@settings(max_examples=examples(20))
@given(
    st.lists(
        st.tuples(st.integers(0, 170), st.sampled_from(["remove", "relearn", "rename"]), st.integers(0, 3)), max_size=5
    )
)
def test_a_snapshot_between_changes_changes_nothing(plan):
    """Whatever is asked for and when: a restored pipeline goes on as the first one, in all of its state."""
    messages = plant(60, bad=BAD)
    first = opened(health=SensorRule(stale_after_s=5.0))
    second = opened(health=SensorRule(stale_after_s=5.0))
    for n in range(0, len(messages), 10):
        for at, kind, pump in plan:
            if n <= at < n + 10:
                for groups in (first, second):
                    groups.step(asked(change(kind, f"p{pump}", f"q{at}" if kind == "rename" else "")), 0.0)
        for groups in (first, second):
            groups.step(plants.batch(messages[n : n + 10]), 0.0)
        third = opened(health=SensorRule(stale_after_s=5.0))
        assert third.restore(second.snapshot()) == []
        second = third
    a, b = first.pipelines["pumps"].state(), second.pipelines["pumps"].state()
    assert a.keys() == b.keys()
    for name in a:
        assert np.array_equal(a[name], b[name], equal_nan=a[name].dtype.kind == "f"), name


# Whose place a new stream takes.


def said(stream, at_s, value=1.0):
    return (b"plant/" + stream.encode(), json.dumps({"a": value, "b": value, "t": T0 + at_s}).encode(), T0 + at_s)


def names(groups):
    return groups.pipelines["pumps"].streams.names


def test_invented_topics_do_not_keep_the_machine_out():
    """Streams that were never judged and are silent for an hour give way, the longest silent first."""
    groups = opened(max_streams=5)
    invented = [said(f"x{n}", n) for n in range(5)]
    _, _, drops = play(groups, [*invented, said("pump", 10), said("pump", 1800)])
    assert names(groups) == ["x0", "x1", "x2", "x3", "x4"]
    assert drops[Drop.MAX_STREAMS] == 2
    report = groups.step(plants.batch([said("pump", HOUR + 61), said("pump", HOUR + 62)]), 0.0)
    assert names(groups) == ["x4", "x1", "x2", "x3", "pump"]
    assert report.groups["pumps"].forgotten == 1
    assert "forgets x0" in report.notices[0]


def test_who_speaks_or_is_judged_stays():
    """Neither a stream that speaks, nor one that was judged within a week, nor a slow one, gives way."""
    groups = opened(max_streams=3)
    play(groups, plant(60, pumps=1))
    talks, slow = (
        [said("talks", 60 + n * 25.0) for n in range(900)],
        [said("slow", 100 + n * 0.9 * HOUR) for n in range(5)],
    )
    play(groups, sorted([*talks, *slow], key=lambda message: message[2]))
    play(groups, [said("new", 7 * HOUR), said("talks", 7 * HOUR), said("new", 7 * HOUR + 99)])
    assert names(groups) == ["p0", "talks", "slow"]
    play(groups, [said("talks", 9 * HOUR), said("new", 9 * HOUR), said("new", 9 * HOUR + 61)])
    assert names(groups) == ["p0", "talks", "new"]  # the slow one was silent for five times its pause
    play(groups, [said("talks", 6 * DAY), said("newer", 6 * DAY), said("new", 6 * DAY), said("newer", 6 * DAY + 99)])
    assert names(groups) == ["p0", "talks", "new"]
    play(groups, [said("talks", 8 * DAY), said("new", 8 * DAY), said("newer", 8 * DAY), said("newer", 8 * DAY + 99)])
    assert sorted(names(groups)) == ["new", "newer", "talks"]


def test_a_message_that_nobody_can_read_keeps_no_place():
    """A stream that never sent a value gives way at once."""
    groups = opened(max_streams=1)
    play(groups, [(b"plant/x", b"{", T0), said("pump", 1), said("pump", 61), said("pump", 62)])
    assert names(groups) == ["pump"]


@pytest.mark.parametrize("spec", [None, PayloadSpec("influx", labels={"pump": "pump"})], ids=["json", "influx"])
@settings(max_examples=examples(25), deadline=None)
@given(edges=st.lists(st.integers(0, 400), max_size=10), seed=st.integers(0, 20))
def test_who_gives_way_does_not_depend_on_the_batches(spec, edges, seed):
    """Messages of more streams than have a place, over days, cut anywhere: the same streams, verdicts and drops."""
    rng = np.random.default_rng(seed)
    at_s = np.cumsum(rng.choice([1.0, 20.0, 1000.0, 20000.0], 200, p=[0.6, 0.2, 0.15, 0.05]))
    pumps = rng.integers(0, 8, 200) // rng.integers(1, 3, 200)
    if spec is None:
        messages = [said(f"p{pump}", s, rng.normal()) for pump, s in zip(pumps.tolist(), at_s.tolist(), strict=True)]
    else:
        messages = [
            (b"plant/any", b"m,pump=p%d a=%f,b=1 %d" % (pump, rng.normal(), int((T0 + s) * 1e9)), T0 + s)
            for pump, s in zip(pumps.tolist(), at_s.tolist(), strict=True)
        ]
    group = {"max_streams": 3, "profile": plants.profile(warmup_rows=4, gap_max_s=1e6)}
    if spec is not None:
        group |= {"payload": spec, "template": "plant/any"}

    def run(edges):
        groups, lines, drops = opened(**group), {}, {}
        cuts = sorted({0, len(messages), *(e % (len(messages) + 1) for e in edges)})
        for a, b in zip(cuts, cuts[1:], strict=False):
            report = groups.step(plants.batch(messages[a:b]), 0.0)
            v, known = report.groups["pumps"].verdicts, report.groups["pumps"].names
            for s, time_s, score in zip(v.stream.tolist(), v.time_s.tolist(), v.score.tolist(), strict=True):
                lines.setdefault(known[s], []).append((time_s, repr(score)))
            for reason, n in report.drops.items():
                drops[reason] = drops.get(reason, 0) + n
        return lines, drops, names(groups)

    whole = run(())
    assert run(edges) == whole
    assert len(whole[2]) == 3


def test_a_snapshot_of_a_former_release_is_read():
    """It does not say when streams were heard: they count as heard when somebody needs a place."""
    groups = opened(max_streams=2)
    play(groups, [said("x", 0), said("y", 1), said("new", 2)])
    pipeline = groups.pipelines["pumps"]
    state = {key: a for key, a in pipeline.state().items() if not key.startswith("places.")}
    again = opened(max_streams=2)
    again.pipelines["pumps"].restore(["x", "y"], state)
    play(again, [said("new", 9 * HOUR), said("new", 9 * HOUR + 61)])
    assert names(again) == ["x", "y"]
    play(again, [said("new", 11 * HOUR), said("new", 11 * HOUR + 61)])
    assert names(again) == ["y", "new"]
