"""Something about a stream is changed on purpose: asked for over the page, made by the loop, kept over a crash."""

import threading
from types import SimpleNamespace

import pytest

from streamae.core.alert import AlertRule
from streamae.core.groups import Groups
from streamae.core.takeover import states
from streamae.core.types import AlertState, StreamChange
from streamae.daemon.loop import Loop
from streamae.daemon.page.view import DaemonView
from streamae.daemon.recover import recover
from streamae.errors import UnavailableError
from streamae.ingest.source import SourceStatus
from streamae.metrics import Metrics
from streamae.store.store import Store
from tests import plants
from tests.core.test_pipeline import T0, plant
from tests.store_world import Clock

RULE = AlertRule(keep_firing_for_s=3)
MOVED = {(1, t) for t in range(40, 500)}  # both channels of p1 stand 40 higher from then on


class World:
    """A view over a loop and a real store; nobody else turns the loop."""

    def __init__(self, folder):
        self.folder = folder
        self.groups = Groups("plant-1", [plants.group(alert=RULE)])
        self.store = Store.open(folder, "process", lambda: 0.0, sinks=["sink"])
        clock, source = Clock(), SimpleNamespace(status=lambda: SourceStatus(connected=True, connects=1))
        self.metrics = Metrics(clock)
        self.loop = Loop(
            source, self.groups, self.store, self.metrics, arrived=clock, now=clock, monotonic=clock, sleep=lambda _: 0
        )
        self.view = DaemonView(self.loop, self.store, self.metrics, now=clock, monotonic=clock, silent_after_s=60.0)
        self.woken = 0

        def wake():
            self.woken += 1

        self.view.change.wake = wake

    def carry(self, messages, *, step=33):
        for first in range(0, len(messages), step):
            batch = plants.batch(messages[first : first + step])
            now_s = T0 + first / 3
            report = self.groups.step(batch, now_s)
            self.store.commit(batch, report, now_s, None)
            self.view.note(report)

    def ask(self, kind, stream="p1", name="", since_s=None):
        """Ask as the web's thread does, while the loop answers between its turns."""
        answers = []
        wanted = StreamChange(kind, "pumps", stream, name)
        asker = threading.Thread(target=lambda: answers.append(self.view.change(wanted, since_s)))
        asker.start()
        while asker.is_alive():
            self.view.answer()
        return answers[0]

    @property
    def pipeline(self):
        return self.groups.pipelines["pumps"]

    def after_a_crash(self):
        self.store._abandon()
        self.store = Store.open(self.folder, "process", lambda: 0.0, sinks=["sink"])
        again = Groups("plant-1", [plants.group(alert=RULE)])
        recover(self.store, again)
        return again


@pytest.fixture
def world(tmp_path):
    made = World(tmp_path)
    yield made
    made.store._abandon()


def test_a_sensor_that_was_moved_is_judged_by_what_is_normal_now(world):
    """It learns from the journal since the change, its alert is resolved, and what comes after is normal at once."""
    messages = plant(120, bad=MOVED)
    world.carry(messages[: 3 * 90])
    assert states(world.pipeline)[1] == AlertState.FIRING
    assert world.ask("relearn", since_s=T0 + 45) == ""
    assert world.woken == 1
    assert [a.transition.state for a in world.store.alerts.history(9, group="pumps", stream="p1")] == ["resolved"]
    world.carry(messages[3 * 90 :])
    assert states(world.pipeline).tolist() == [0, 0, 0]
    assert world.pipeline.latest.score[1] < 1
    assert world.pipeline.scale.of(1)[0] == pytest.approx([140, 140], abs=1.5)


def test_without_a_past_it_learns_from_what_comes(world):
    """Without a time, and where the journal has too little, the stream is learning until it has its warm-up."""
    messages = plant(150, bad=MOVED)
    world.carry(messages[: 3 * 60])
    for since_s in (None, T0 + 58):
        assert world.ask("relearn", since_s=since_s) == ""
        assert states(world.pipeline)[1] == AlertState.LEARNING
    assert world.pipeline.scale.seen(3)[1] == 2
    world.carry(messages[3 * 60 :])
    assert states(world.pipeline).tolist() == [0, 0, 0]
    assert world.pipeline.scale.of(1)[0] == pytest.approx([140, 140], abs=1.5)


@pytest.mark.parametrize(("kind", "name"), [("relearn", ""), ("remove", ""), ("rename", "fan")])
def test_a_change_stands_before_it_is_answered(world, kind, name):
    """After a crash the state is that of before it, to the bit; nothing has to be asked for again."""
    world.carry(plant(60, bad=MOVED))
    assert world.ask(kind, name=name, since_s=T0 + 45 if kind == "relearn" else None) == ""
    world.carry(plant(70, bad=MOVED)[180:])
    assert world.after_a_crash().snapshot() == world.groups.snapshot()


def test_a_fold_without_the_snapshot_makes_the_change_too(world):
    """The journal alone gives the same state: what the stream learnt from stands in it."""
    world.carry(plant(60, bad=MOVED))
    world.ask("relearn", since_s=T0 + 45)
    world.ask("rename", stream="p0", name="fan")
    world.carry(plant(70, bad=MOVED)[180:])
    wanted = world.groups.snapshot()
    again = Groups("plant-1", [plants.group(alert=RULE)])
    with world.store.past() as past:
        for _, batch, now_s in past.rows(1):
            again.step(batch, now_s)
    assert again.snapshot() == wanted


@pytest.mark.parametrize(
    ("kind", "stream", "name", "said"),
    [
        ("remove", "p9", "", "there is no such stream"),
        ("rename", "p1", "p1", "already"),
        ("rename", "p1", "", "form {pump}"),
    ],
)
def test_what_cannot_be_changed_is_said(world, kind, stream, name, said):
    """Nothing is changed then."""
    world.carry(plant(30))
    before = world.groups.snapshot()
    assert said in world.ask(kind, stream, name)
    assert world.groups.snapshot() == before
    assert world.woken == 0


def test_the_page_forgets_a_removed_stream(world):
    """The last stream takes its number, and has its own past there, not that of the one that is gone."""
    world.carry(plant(60))
    world.view.publish()
    kept = world.view._history("pumps").rows.read(2, 100)
    world.ask("remove", "p0")
    world.view.publish()
    assert world.view.snapshot().tables["pumps"].names == ["p2", "p1"]
    history = world.view._history("pumps")
    assert history.rows.read(0, 100)["values"].tolist() == kept["values"].tolist()
    assert history.rows.count(2) == 0
    world.carry(plant(100)[180:])
    assert history.rows.read(2, 100)["time_s"].min() >= T0 + 60 + 19  # p0 again, after its warm-up


def test_a_daemon_that_stops_changes_nothing(world):
    """The asker learns that."""
    world.carry(plant(30))
    world.loop._given_up = True
    error = []

    def ask():
        try:
            world.view.change(StreamChange("remove", "pumps", "p1"), None)
        except UnavailableError as raised:
            error.append(raised)

    asker = threading.Thread(target=ask)
    asker.start()
    while asker.is_alive():
        world.view.answer()
    assert "nothing was changed" in str(error[0])
