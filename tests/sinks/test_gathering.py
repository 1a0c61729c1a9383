"""One notice for many: a plant that stops is one message, and a single alert is late by a few seconds only."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from streamae.core.report import Transition
from streamae.sinks.apprise import AppriseOptions, AppriseSink
from streamae.sinks.delivery import Delivery, DeliveryPace
from streamae.sinks.log import LogSinkOptions
from streamae.sinks.sink import SinkUnavailableError
from streamae.sinks.webhook import WebhookOptions
from streamae.store.store import Store
from tests.sinks.test_delivery import Ear, always, run
from tests.store_world import Clock, transition

WAIT_S = 10.0


class World:
    """An outbox, a sink that may be given many at once, and what it got: one list a notice."""

    def __init__(self, folder: Path, wait_s: float = WAIT_S) -> None:
        self.clock = Clock()
        self.store = Store.open(folder, "process", self.clock, sinks=["ear"])
        self.notices: list[tuple[float, list[Transition]]] = []
        self.ear = Ear(lambda some: self.notices.append((self.clock.now_s, list(some))), batch_max=1000)
        self.delivery = Delivery(self.ear, self.store.outbox, self.clock, pace=DeliveryPace(), group_wait_s=wait_s)
        self.began_s = self.clock.now_s

    def play(self, began: list[tuple[float, Transition]], until_s: float) -> list[int]:
        """Publish each transition at its second; return the size of each notice."""
        for at_s, one in sorted(began, key=lambda pair: pair[0]):
            self.run_until(at_s)
            self.store.publish([one], self.clock())
        self.run_until(until_s)
        return [len(some) for _, some in self.notices]

    def run_until(self, at_s: float) -> None:
        """Let the delivery's thread work, looking at the outbox at least each half second: it is woken by news."""
        while (left_s := self.began_s + at_s - self.clock.now_s) > 0:
            run(self.delivery, self.clock, 0.001)
            self.clock.now_s = min(self.clock.now_s, self.began_s + at_s)
            self.clock.now_s += min(0.5, left_s)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.store.close()


def stop(
    streams: int, spread_s: float, *, first: int = 0, state: str = "firing", **changes: object
) -> list[tuple[float, Transition]]:
    sequence = 1 if state == "firing" else 2
    return [(n * spread_s / streams, transition(first + n, sequence, state, **changes)) for n in range(streams)]


@pytest.mark.parametrize(("streams", "spread_s"), [(200, 0.0), (200, 40.0), (30, 55.0)])
def test_a_plant_that_stops_is_one_notice(world: World, streams: int, spread_s: float) -> None:
    """All feeds at once, or machines that run down one after another: one notice with all of them, each with its id."""
    assert world.play(stop(streams, spread_s, rule="anomaly"), 200.0) == [streams]
    assert {one.id for one in world.notices[0][1]} == {transition(n).id for n in range(streams)}


def test_a_night_is_two_notices(world: World) -> None:
    """The stop in the evening and the end of it in the morning, each one notice, whatever the order of streams."""
    evening, morning = stop(60, 20.0), stop(60, 30.0, state="resolved")
    assert world.play(evening + [(36_000 + at_s, one) for at_s, one in reversed(morning)], 37_000.0) == [60, 60]
    assert {one.state for one in world.notices[1][1]} == {"resolved"}


def test_a_storm_that_goes_on_is_a_notice_each_five_minutes(world: World) -> None:
    """Hundreds over half an hour: the first together, then a few; without waiting they would be hundreds."""
    sizes = world.play(stop(400, 1800.0), 2400.0)
    assert sum(sizes) == 400
    assert len(sizes) <= 8


def test_kinds_are_not_mixed(world: World) -> None:
    """Other groups and other rules are other news: one notice for each, and none waits for the others' quiet."""
    groups = stop(20, 5.0, group="fans") + stop(20, 5.0, first=100, group="pumps")
    rules = stop(20, 5.0, first=200, rule="stuck")
    assert len(world.play(groups + rules, 100.0)) <= 3
    for _, notice in world.notices:
        assert {one.state for one in notice} == {"firing"}


def test_a_single_alert_waits_for_others_and_no_longer(world: World) -> None:
    """Ten seconds, as is asked for; and of one that ends meanwhile both are sent."""
    world.play([(0.0, transition(1)), (3.0, transition(1, 2, "resolved"))], 60.0)
    (first_s, _), (second_s, _) = world.notices
    assert WAIT_S <= first_s - world.began_s <= WAIT_S + 1
    assert second_s - first_s <= WAIT_S + 2
    assert [one.sequence for _, notice in world.notices for one in notice] == [1, 2]


def test_a_critical_alert_does_not_wait_for_a_storm_of_warnings(world: World) -> None:
    """In the five minutes after a notice of many warnings it waits as any single one, not for their end."""
    late = transition(500, severity="critical")
    world.play([*stop(50, 0.0), (60.0, transition(400)), (61.0, late)], 400.0)
    at_s = next(at_s for at_s, notice in world.notices if late in notice) - world.began_s
    assert at_s <= 61.0 + WAIT_S + 1
    assert [len(notice) for _, notice in world.notices] == [50, 2]


def test_what_failed_is_not_gathered_again(world: World) -> None:
    """A notice that the receiver could not take goes at its next try, not after another wait."""
    world.ear.mood = always(SinkUnavailableError("503"))
    world.play(stop(5, 0.0), WAIT_S + 1)
    world.ear.mood = lambda some: world.notices.append((world.clock.now_s, list(some)))
    world.run_until(WAIT_S + 4)
    assert [len(notice) for _, notice in world.notices] == [5]


def test_at_a_stop_nothing_waits(world: World) -> None:
    """What is gathered when the daemon stops is sent then."""
    world.store.publish([transition(n) for n in range(3)], world.clock())
    world.delivery.deliver_due()
    assert world.notices == []
    world.delivery.deliver_due(paced=False)
    assert [len(notice) for _, notice in world.notices] == [3]


def test_without_a_wait_it_is_a_storm(tmp_path: Path) -> None:
    """The control: a sink that sends each at once sends many."""
    world = World(tmp_path, 0.0)
    assert len(world.play(stop(200, 40.0), 200.0)) > 20
    world.store.close()


def test_who_waits_by_default() -> None:
    """What people read waits ten seconds, a log does not; 0s turns it off."""
    assert (
        AppriseOptions(type="apprise", urls=("x",)).gathered_s
        == WebhookOptions(type="webhook", url="x").gathered_s
        == WAIT_S
    )
    assert LogSinkOptions(type="log").gathered_s == 0
    assert WebhookOptions(type="webhook", url="x", group_wait_s=0.0).gathered_s == 0


def test_the_words_of_a_storm_say_how_many_and_where() -> None:
    """One title for all: how many streams of which group, and what they do."""
    sink = AppriseSink([], lambda: 0.0, page="https://plant.example")
    some = [one for _, one in stop(30, 0.0, rule="anomaly")]
    message = sink._message(some)
    assert message["title"] == "streamae: 30 streams of pumps: anomaly"
    assert message["body"].endswith("https://plant.example")
    assert sink._message([*some, transition(99, group="fans")])["title"] == "streamae: 31 alerts"
