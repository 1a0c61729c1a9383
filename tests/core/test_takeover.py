"""Another model takes over a group, at a reload and at a start: one contract for both, over a real store."""

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from streamae.core.alert import AlertRule
from streamae.core.align_rule import GridAlign
from streamae.core.flapping import FlapRule
from streamae.core.groups import Groups
from streamae.core.report import Report
from streamae.core.sensors.state import SensorRule
from streamae.core.takeover import progress, refill, states
from streamae.core.types import AlertState, Batch, Maintenance
from streamae.daemon import refill as refilling
from streamae.daemon.recover import keep, recover
from streamae.store.store import Store
from tests import plants
from tests.core.test_pipeline import BAD, plant

GOLDEN = Path(__file__).parents[1] / "golden" / "state-mid-alert"
RULE = AlertRule(keep_firing_for_s=3)
SINCE = {"places.heard_s", "places.minute", "places.refused", "scale.again", "scale.waits"}  # not in its snapshots
FIRES = 3 * 44  # messages of `plant(60, bad=BAD)` after which p1 fires
START, RELOAD = "start", "reload"
both = pytest.mark.parametrize("way", [START, RELOAD])


def other(**changes):
    """Another model: its digest differs, and what the arguments say."""
    return replace(plants.profile(**changes), digest="1" * 64)


class World:
    """A store and the pipeline that runs on it, as the daemon has them."""

    def __init__(self, folder, **group):
        self.folder, self.group, self.heard = folder, {"alert": RULE} | group, []
        self.open()
        self.groups = Groups("plant-1", [plants.group(**self.group)])

    def open(self):
        self.store = Store.open(self.folder, "process", lambda: 0.0, sinks=["sink"])

    def carry(self, messages, *, step=11, snapshot_at=(4,)):
        """Take messages, and commit; returns the reports."""
        reports = []
        for n, first in enumerate(range(0, len(messages), step)):
            batch = plants.batch(messages[first : first + step])
            reports.append(self.groups.step(batch, 0.0))
            self.store.commit(batch, reports[-1], 0.0, self.groups.snapshot() if n in snapshot_at else None)
        return reports

    def save(self):
        self.store.commit(Batch([], [], np.zeros(0)), Report(0, 0, 0, {}, {}, ()), 0.0, self.groups.snapshot())

    def change(self, way, *, crash=True, **group):
        """Go on with other settings of the group, by a reload or by a start; returns the notes."""
        running = self.groups
        if way == START:
            if not crash:
                self.save()
            self.store._abandon()
            self.open()
        self.group |= group
        self.groups = Groups("plant-1", [plants.group(**self.group)])
        found = recover(self.store, self.groups, running if way == RELOAD else None)
        assert keep(self.store, self.groups, 0.0, found) == []
        return found.notes

    @property
    def pipeline(self):
        return self.groups.pipelines["pumps"]

    def notified(self):
        """What the sink would get, in order."""
        outbox = self.store.outbox
        while due := [t for t, _ in outbox.due("sink", 1e12, 99)]:
            outbox.sent("sink", [t.notice_key for t in due])
            self.heard += [(t.stream, t.rule, t.state, t.sequence) for t in due]
        return self.heard


@pytest.fixture
def make(tmp_path):
    worlds = []

    def world(name="state", **group):
        worlds.append(World(tmp_path / name, **group))
        return worlds[-1]

    yield world
    for one in worlds:
        one.store._abandon()


CHANGES = {
    "longer": {"profile": other(window=9)},
    "shorter": {"profile": other(window=2)},
    "learns levels": {"profile": other(learn_windows=5)},
    "channels": {"profile": other(channels=("b", "a"))},
    "fewer channels": {"profile": other(channels=("a",))},
    "known": {"profile": other(streams={"p0": plants.known_stream([0, 0], [1, 1], weight=[0.5, 0.5], zero=1.0)})},
    "strides": {"profile": other(window=6), "stride": 4},
}  # fmt: skip


@both
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_another_model_judges_the_next_row(make, way, change):
    """For any other model windows are full, streams that it does not know have learnt, from the journal alone."""
    world = make()
    world.carry(plant(60))
    notes = world.change(way, **change)
    assert any("has another model now: 3 of 3 streams have their windows from the journal" in note for note in notes)
    rows = change.get("stride", 1)
    (report,) = world.carry(plant(60 + rows)[-3 * rows :], step=99)
    verdicts = report.groups["pumps"].verdicts
    assert sorted(verdicts.stream.tolist())[:3] == [0, 1, 2]
    assert np.isfinite(verdicts.score).all()
    assert set(states(world.pipeline).tolist()) == {AlertState.INACTIVE}


def test_a_refill_says_at_every_row_of_the_journal_that_it_lives(make):
    """As often as it reads a row, so that a long one is not taken for a hang; a group that goes on reads none."""
    world = make()
    world.carry(plant(60), step=20)
    rows = []
    for profile, read in ((plants.profile(), 0), (other(), 9)):
        groups = Groups("plant-1", [plants.group(alert=RULE, profile=profile)])
        recover(world.store, groups, world.groups, lambda: rows.append(1))
        assert len(rows) == read


@both
def test_a_grid_that_changes_is_rebuilt_from_the_journal(make, way):
    """Rows of another distance are other rows: where they lie apart now, the window of the same model holds these."""
    world = make(align=GridAlign(1.0, lateness_s=0.0))
    world.carry(plant(80))
    world.change(way, align=GridAlign(2.0, lateness_s=0.0), profile=plants.profile(gap_max_s=5.0, warmup_rows=8))
    time_s, _ = world.pipeline.rings.latest(0)
    assert np.diff(time_s).tolist() == [2.0, 2.0, 2.0]


@both
def test_the_old_model_goes_on_where_nothing_changed(make, way):
    """Control: thresholds, averages and alerts of a group whose model is the same are those of before, to the bit."""
    world, messages = make(), plant(60, bad=BAD)
    world.carry(messages[:FIRES])
    before = world.pipeline.state()
    world.change(way)
    after = world.pipeline.state()
    assert [name for name in before if not np.array_equal(before[name], after[name], equal_nan=True)] == []


@both
@pytest.mark.parametrize("change", [CHANGES["longer"], CHANGES["channels"], CHANGES["learns levels"]])
def test_an_alert_that_fires_goes_on_under_its_id(make, way, change):
    """While the fault lasts there is no notification and no second alert; its end is notified once, as the next."""
    world, messages = make(), plant(70, bad=BAD)
    world.carry(messages[:FIRES])
    (begun,) = world.store.alerts.open()
    notes = world.change(way, **change)
    assert any("1 alerts that fire go on" in note for note in notes)
    assert world.pipeline.firing_ids() == [begun.transition.id]
    assert states(world.pipeline)[1] == AlertState.FIRING
    world.carry(messages[FIRES : FIRES + 3])
    assert [one.transition.id for one in world.store.alerts.open()] == [begun.transition.id]
    reports = world.carry(messages[FIRES + 3 :])
    assert [(t.id, t.state) for r in reports for t in r.transitions][-1] == (begun.transition.id, "resolved")
    assert world.store.alerts.open() == []
    notified = world.notified()
    assert notified[0] == ("p1", "anomaly", "firing", 0)
    assert notified[-1] == ("p1", "anomaly", "resolved", len(notified) - 1)
    assert len(world.store.alerts.history()) == 1


@both
def test_an_alert_goes_on_until_the_new_model_can_judge_its_stream(make, way, monkeypatch):
    """A stream that learns is not known to be well: its alert neither ends nor is hidden; then it is judged."""
    monkeypatch.setattr(refilling, "_FIRST_MESSAGES", 1)
    monkeypatch.setattr(refilling, "_COST_MAX", 1)
    world, messages = make(), plant(120, bad=BAD)
    world.carry(messages[:FIRES])
    world.change(way, profile=other(window=3, learn_windows=5))
    shown = []
    for first in range(FIRES, len(messages), 3):
        world.carry(messages[first : first + 3])
        shown.append((int(states(world.pipeline)[1]), len(world.store.alerts.open())))
    learnt = shown.index((AlertState.INACTIVE, 0))
    assert shown[:learnt] == [(AlertState.FIRING, 1)] * learnt
    assert 20 < learnt < 40
    assert set(shown[learnt:]) == {(AlertState.INACTIVE, 0)}


@both
def test_a_new_model_that_finds_nothing_has_as_long_as_any_to_find_it(make, way):
    """The alert ends `keep_firing_for_s` after the newest row that the old model had, not with the first new one."""
    world = make(alert=AlertRule(keep_firing_for_s=10))
    world.carry(plant(60, bad=BAD)[:FIRES])
    blind = other()
    world.change(way, profile=replace(blind, calibration=plants.calibration(2, threshold=1e9)))
    (end,) = [t for r in world.carry(plant(70, bad=BAD)[FIRES:], step=3) for t in r.transitions]
    assert (end.state, end.time_s) == ("resolved", 1_700_000_043 + 10)


@both
def test_an_alert_that_goes_on_counts_once_against_the_budget(make, way):
    """It is no other onset for the new model: the threshold is raised by none."""
    world, messages = make(), plant(60, bad=BAD)
    world.carry(messages[:FIRES])
    world.change(way, profile=other(window=3))
    world.carry(messages[FIRES : FIRES + 3])
    assert world.pipeline.threshold.state()["on"][1]
    assert world.pipeline.threshold.state()["theta"][1] == 0


@both
def test_an_alert_of_a_stream_that_is_gone_is_resolved_for_every_sink(make, way):
    """Streams have new names, so that one is never judged again: its end is notified when the new model begins."""
    world, messages = make(), plant(60, bad=BAD)
    world.carry(messages[:FIRES])
    notes = world.change(way, profile=other(), stream="pump-{pump}")
    assert "resolved 1 alerts that no stream stands behind any more" in notes
    assert world.store.alerts.open() == []
    assert world.notified() == [("p1", "anomaly", "firing", 0), ("p1", "anomaly", "resolved", 1)]
    assert world.pipeline.streams.names == ["pump-p0", "pump-p1", "pump-p2"]
    assert (world.pipeline.rings.fill(3) == 4).all()


@both
def test_of_two_alerts_of_one_stream_the_newer_goes_on(make, way):
    """As a reload of an earlier release left them: the older one is resolved."""
    world, messages = make(), plant(60, bad=BAD)
    (first,) = [t for r in world.carry(messages[:FIRES]) for t in r.transitions]
    second = replace(first, onset_s=first.onset_s + 1, id="another")
    again = replace(second, id=world.pipeline.transitions.anomaly_id(1, second.onset_s))
    world.store.publish([again], 0.0)
    world.change(way, profile=other())
    assert [one.transition.id for one in world.store.alerts.open()] == [again.id] == world.pipeline.firing_ids()
    assert world.notified()[-1] == ("p1", "anomaly", "resolved", 1)


def strayed(seconds):
    """As `plant`, but channel a of p2 is out of its range from second 30 on."""
    out = []
    for topic, payload, arrival_s in plant(seconds):
        document = json.loads(payload)
        if topic == b"plant/p2" and document["t"] - 1_700_000_000 >= 30:
            document["a"] = 204.0
        out.append((topic, json.dumps(document).encode(), arrival_s))
    return out


@pytest.mark.parametrize(
    ("way", "crash", "change", "goes_on"),
    [
        (RELOAD, False, {}, True),
        (START, False, {}, True),
        (START, True, {}, False),  # the snapshot is older than the notification: found again, not sent twice
        (RELOAD, False, {"channels": ("b", "a")}, False),
    ],
)
def test_verdicts_on_sensors_go_on_where_the_channels_are_the_same(make, way, crash, change, goes_on):
    """They have nothing to do with the model; else they are resolved, so that no alert stays open for ever."""
    world = make(health=SensorRule(range={"a": (-50.0, 203.5)}), flapping=FlapRule())
    world.carry(strayed(50), snapshot_at=(2,))
    (open_,) = world.store.alerts.open()
    assert open_.transition.rule == "out_of_range"
    world.change(way, crash=crash, profile=other(window=5, **change))
    assert [one.transition.id for one in world.store.alerts.open()] == [open_.transition.id] * goes_on
    if not goes_on:
        assert ("p2", "out_of_range", "resolved", 1) in world.notified()
        closed_s = world.store.alerts.get(open_.transition.id).closed_s
        assert closed_s == 1_700_000_030, "where it began: what is out of range is no row, so none is newer"


@pytest.mark.parametrize("saved", [True, False])
def test_a_crash_after_the_change_leaves_the_state_that_the_change_made(make, saved):
    """State is the fold of the journal: whether the new state was saved, or is found again from the old one."""
    world = make()
    world.carry(plant(60, bad=BAD)[:FIRES])
    world.save()
    running, store = world.groups, world.store
    world.group |= {"profile": other(window=6, learn_windows=5)}
    first = Groups("plant-1", [plants.group(**world.group)])
    found = recover(store, first, running)
    if saved:
        keep(store, first, 0.0, found)
    store._abandon()
    world.open()
    second = Groups("plant-1", [plants.group(**world.group)])
    recover(world.store, second)
    one, two = first.pipelines["pumps"].state(), second.pipelines["pumps"].state()
    assert one.keys() == two.keys()
    assert [name for name in one if not np.array_equal(one[name], two[name], equal_nan=True)] == []


def test_what_was_saved_is_not_refilled_again(make):
    """The next start finds the new model's own state."""
    world = make()
    world.carry(plant(60))
    assert any("another model" in note for note in world.change(RELOAD, profile=other()))
    assert not any("another model" in note for note in world.change(START))
    again = replace(other(), digest="2" * 64)
    assert any("another model" in note for note in world.change(START, crash=False, profile=again))
    assert not any("another model" in note for note in world.change(START)), "though the journal had nothing new"


def test_a_state_that_the_store_does_not_take_is_not_gone_on_with(make):
    """The end of an alert could not be notified: StoreError, and the daemon keeps what runs."""
    from streamae.errors import StoreError

    world = make()
    world.carry(plant(60, bad=BAD)[:FIRES])
    world.group |= {"profile": other(), "stream": "pump-{pump}"}
    fresh = Groups("plant-1", [plants.group(**world.group)])
    found = recover(world.store, fresh, world.groups)

    def full(*_):
        raise StoreError("the disk is full")

    world.store.commit = full
    with pytest.raises(StoreError):
        keep(world.store, fresh, 0.0, found)
    assert len(found.resolved) == 1
    assert len(world.store.alerts.open()) == 1


@pytest.mark.parametrize("step", [1, 7, 1000])
def test_what_is_refilled_does_not_depend_on_the_batches(step):
    """Messages one by one, in any batches, or all at once."""
    messages = plant(60, bad=BAD)

    def made(step):
        pipeline = Groups("i", [plants.group(profile=other(window=7, learn_windows=9), stride=2)]).pipelines["pumps"]
        for first in range(0, len(messages), step):
            part = plants.batch(messages[first : first + step])
            refill(pipeline, part)
        return pipeline.state()

    one, two = made(step), made(13)
    assert [name for name in one if not np.array_equal(one[name], two[name], equal_nan=True)] == []


def test_a_journal_is_read_further_back_where_that_is_needed_and_no_further(make, monkeypatch):
    """A stream that speaks seldom has its window too; neither is read what is not needed, nor what costs too much."""
    slow = [m for n, m in enumerate(plant(400)) if m[0] != b"plant/p2" or n // 3 % 12 == 0]
    monkeypatch.setattr(refilling, "_FIRST_MESSAGES", 60)
    passes = []
    whole = refilling._pass
    monkeypatch.setattr(
        refilling, "_pass", lambda *given: (passes.append(given[-2]), whole(*given))[1],
    )  # fmt: skip
    world = make(profile=plants.profile(gap_max_s=20.0, warmup_rows=5))
    world.carry(slow)
    world.change(RELOAD, profile=other(gap_max_s=20.0, warmup_rows=5))
    assert (world.pipeline.rings.fill(3) == 4).all()
    assert len(passes) == 2
    assert passes[0] > passes[1] > 1
    monkeypatch.setattr(refilling, "_COST_MAX", 100)
    world.change(RELOAD, profile=replace(other(gap_max_s=20.0, warmup_rows=6), digest="2" * 64))
    assert len(passes) == 3
    assert states(world.pipeline)[2] == AlertState.LEARNING


def test_a_message_that_ends_the_process_while_it_is_refilled_is_found_and_left_out(make, monkeypatch):
    """As one that ends a start: after some of them it is kept as poison, and all other rows are there."""
    world, messages = make(), plant(60)
    deadly = messages[100]
    world.carry(messages)
    world.save()
    whole = Groups.refill

    def die(groups, names, batch, now_s):
        if deadly[1] in batch.payloads:
            raise MemoryError
        whole(groups, names, batch, now_s)

    monkeypatch.setattr(Groups, "refill", die)
    world.group |= {"profile": other(window=3)}
    deaths, fresh = 0, None
    while fresh is None and deaths < 15:
        world.store._abandon()
        world.open()
        made = Groups("plant-1", [plants.group(**world.group)])
        try:
            recover(world.store, made)
            fresh = made
        except MemoryError:
            deaths += 1
    assert 1 < deaths < 15
    assert [(one.topic, one.payload) for one in world.store.poison.all()] == [(deadly[0], deadly[1])]
    assert (fresh.pipelines["pumps"].rings.fill(3) == 3).all()
    assert fresh.pipelines["pumps"].scale.seen(3).tolist() == [20, 20, 20]


def test_a_loss_in_the_journal_is_a_gap_in_what_is_refilled(make):
    """No window spans messages that are known to be lost; those of other groups' topics do not matter."""
    world, messages = make(), plant(60)
    world.carry(messages[:-6])
    for holes in ([b"plant/p1"], [b"other"]):
        batch = replace(plants.batch(messages[-6:] if holes == [b"other"] else []), holes=holes)
        world.store.commit(batch, world.groups.step(batch, 0.0), 0.0)
    world.change(RELOAD, profile=other())
    assert world.pipeline.rings.fill(3).tolist() == [4, 2, 4]


def test_rows_of_maintenance_teach_nothing_in_a_refill_either(make):
    """The plan of now holds for the rows of the past that it speaks of; it stands as before afterwards."""
    world, messages = make(), plant(60)
    rest = [Maintenance("pumps", "p0", 1_700_000_030.0, 1_700_000_060.0)]
    batch = replace(plants.batch(messages), maintenance=rest)
    world.store.commit(batch, world.groups.step(batch, 0.0), 0.0)
    world.change(RELOAD, profile=other(warmup_rows=40))
    assert world.pipeline.scale.seen(3).tolist() == [30, 40, 40]
    assert world.pipeline.maintenance.planned == rest


def test_a_group_that_is_new_or_gone_is_said(make):
    """A group without rows starts cold; one that is gone takes its alerts with it, which are resolved."""
    world, messages = make(), plant(60, bad=BAD)
    world.carry(messages[:FIRES])
    running = world.groups
    fresh = Groups("plant-1", [plants.group("fans", template="fan/{pump}")])
    found = recover(world.store, fresh, running)
    assert "group fans starts cold: the journal has none of its rows" in found.notes
    assert "group pumps is not in the configuration any more" in found.notes
    assert [(t.state, t.sequence) for t in found.resolved] == [("resolved", 1)]


def test_two_groups_go_their_own_ways(make):
    """One has another model, the other goes on: it takes the journal's rows once, and its alerts are its own."""
    world = make()
    fans = plants.group("fans", template="fan/{pump}", alert=RULE)
    world.groups = Groups("plant-1", [plants.group(alert=RULE), fans])
    messages = [m for one in plant(60, bad=BAD) for m in (one, (one[0].replace(b"plant", b"fan"), *one[1:]))]
    world.carry(messages[: 2 * FIRES])
    whole = world.groups.pipelines["fans"].state()
    world.store._abandon()
    world.open()
    second = Groups("plant-1", [plants.group(alert=RULE, profile=other(window=6)), fans])
    found = recover(world.store, second)
    assert found.resolved == []
    after = second.pipelines["fans"].state()
    assert [name for name in whole if not np.array_equal(whole[name], after[name], equal_nan=True)] == []
    assert (second.pipelines["pumps"].rings.fill(3) == 6).all()
    assert len(second.pipelines["pumps"].firing_ids()) == 1


def test_a_state_directory_of_the_last_release_is_restored_in_the_middle_of_an_alert(tmp_path):
    """The state is that which the release itself made of it, to the bit, and so is what it says of the rows after."""
    expected = json.loads((GOLDEN / "expected.json").read_text())
    (tmp_path / "state").mkdir()
    shutil.copy(GOLDEN / "state.db", tmp_path / "state")
    store = Store.open(tmp_path / "state", "process", lambda: 0.0, sinks=["log"])
    groups = Groups("plant-1", [plants.group(alert=RULE)])
    try:
        found = recover(store, groups)
        pipeline = groups.pipelines["pumps"]
        state = {name: hashlib.sha256(np.ascontiguousarray(a).tobytes()) for name, a in pipeline.state().items()}
        digests = {name: one.hexdigest()[:16] for name, one in state.items()}
        assert {name: digests[name] for name in expected["state"]} == expected["state"]
        assert digests.keys() - expected["state"].keys() >= SINCE
        assert (pipeline.streams.names, pipeline.firing_ids()) == (expected["streams"], expected["firing"])
        assert found.resolved == []
        v = (report := groups.step(plants.batch(plant(60, bad=BAD)[FIRES:]), 0.0)).groups["pumps"].verdicts
        said = zip(v.stream.tolist(), v.time_s.tolist(), v.score, v.threshold, v.state.tolist(), strict=True)
        assert [[s, t, repr(float(a)), repr(float(b)), c] for s, t, a, b, c in said] == expected["verdicts"]
        assert [[t.key, t.state, t.time_s] for t in report.transitions] == expected["transitions"]
    finally:
        store._abandon()


@pytest.mark.parametrize("window", [4, 6])
def test_an_alert_of_the_last_release_goes_on_with_another_model(tmp_path, window):
    """An upgrade and a new model at once: its snapshots do not say what rows they hold, so they are read again."""
    expected = json.loads((GOLDEN / "expected.json").read_text())
    (tmp_path / "state").mkdir()
    shutil.copy(GOLDEN / "state.db", tmp_path / "state")
    store = Store.open(tmp_path / "state", "process", lambda: 0.0, sinks=["log"])
    groups = Groups("plant-1", [plants.group(alert=RULE, profile=other(window=window))])
    try:
        assert recover(store, groups).resolved == []
        assert groups.pipelines["pumps"].firing_ids() == expected["firing"]
        assert (groups.pipelines["pumps"].rings.fill(3) == window).all()
    finally:
        store._abandon()


def test_a_stream_is_ok_only_where_a_full_window_was_judged():
    """Learning, then filling, then ok; a gap, and a loss, make it fill again; the rows are counted on the way."""
    groups = Groups("i", [plants.group(profile=plants.profile(warmup_rows=5, learn_windows=3))])
    pipeline, seen = groups.pipelines["pumps"], []
    messages = [m for m in plant(30) if m[0] == b"plant/p0"]
    for message in messages[:15]:
        groups.step(plants.batch([message]), 0.0)
        now = progress(pipeline)
        seen.append((AlertState(int(now.state[0])).word, int(now.rows[0]), int(now.needed[0])))
    assert seen[:10] == [("learning", n, 11) for n in range(1, 11)]
    assert seen[10] == ("filling", 4, 4), "full, and judged with the next row"
    assert seen[11:] == [("ok", 4, 4)] * 4
    groups.step(plants.batch([messages[25]]), 0.0)
    assert progress(pipeline).rows[0] == 1
    assert states(pipeline)[0] == AlertState.FILLING
    for message in messages[26:]:
        groups.step(plants.batch([message]), 0.0)
    assert states(pipeline)[0] == AlertState.INACTIVE
    pipeline.interrupt(None)
    assert states(pipeline)[0] == AlertState.FILLING


def test_a_restored_stream_whose_window_is_not_full_is_not_ok():
    """Neither one that was never judged, nor one whose window a snapshot holds in part."""
    known = plants.known_stream([0, 0], [1e3, 1e3], weight=[0.5, 0.5], zero=1.0)
    profile = plants.profile(streams=dict.fromkeys(("p0", "p1", "p2"), known))
    first, second = (Groups("i", [plants.group(profile=profile)]) for _ in range(2))
    first.step(plants.batch(plant(2)), 0.0)
    second.restore(first.snapshot())
    assert states(second.pipelines["pumps"]).tolist() == [AlertState.FILLING] * 3
    second.step(plants.batch(plant(6)[6:]), 0.0)
    assert states(second.pipelines["pumps"]).tolist() == [AlertState.INACTIVE] * 3
