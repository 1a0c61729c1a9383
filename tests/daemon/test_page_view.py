"""What the daemon's view answers to the web, over a real store and a pipeline of an exact model."""

import threading
from types import SimpleNamespace

import numpy as np
import pytest

from streamae.core.groups import Groups
from streamae.core.types import Batch
from streamae.daemon.loop import Loop
from streamae.daemon.page.view import DaemonView
from streamae.ingest.source import SourceStatus
from streamae.metrics import Metrics
from streamae.store.dedup import digest_of
from tests import plants
from tests.store_world import Clock, numbered, opened, report, transition

T0 = 1_700_000_000.0
DEADLY = Batch([b"a\xff"], [b"\xfd\xfe"], np.zeros(1))


@pytest.fixture
def world(tmp_path):
    """Give a view with its store and loop; nobody turns the loop."""
    store, clock = opened(tmp_path), Clock()
    source = SimpleNamespace(status=lambda: SourceStatus(connected=True))
    groups, metrics = Groups("plant-1", [plants.group()]), Metrics(clock)
    loop = Loop(source, groups, store, metrics, arrived=clock, now=clock, monotonic=clock, sleep=lambda _: None)
    view = DaemonView(loop, store, metrics, now=clock, monotonic=clock, silent_after_s=60.0)
    yield SimpleNamespace(view=view, store=store, groups=groups)
    store.close()


def test_an_alert_that_has_ended_is_blamed_on_what_it_began_with(world):
    """While it fires, on what its newest transition says; the window that ends it is normal and names anything."""
    began, grew = transition(1, 0, shares={"a": 0.9, "b": 0.1}), transition(1, 1, shares={"a": 0.3, "b": 0.7})
    world.store.commit(numbered(1), report(began, grew), T0)
    (firing,) = world.view.alerts("firing", 9)
    assert (firing["worst_channel"], firing["shares"]["b"]) == ("b", 0.7)
    ended = transition(1, 2, "resolved", shares={"a": 0.5, "b": 0.5}, score=0.1)
    world.store.commit(numbered(2), report(ended), T0)
    (over,) = world.view.alerts(None, 9)
    assert (over["state"], over["score"], over["worst_channel"], over["shares"]["a"]) == ("resolved", 0.1, "a", 0.9)
    assert "first" not in over


def test_what_needs_a_person_is_counted_as_firing(world):
    """Anomalies, verdicts on sensors, quarantine, broken models and poison: each by itself, and all together."""
    kinds = ("anomalies", "sensor_faults", "quarantined", "broken_models", "poison")
    pipeline = world.groups.pipelines["pumps"]

    def counted():
        world.view.publish()
        status = world.view.snapshot().status
        return status["firing"], [status[kind] for kind in kinds]

    assert counted() == (0, [0, 0, 0, 0, 0])
    for name in ("p0", "p1", "p2"):
        pipeline.streams.add(name)
    pipeline.begin()
    pipeline.alerts.hold(0, "critical", 0, (T0, T0), 3.0)
    pipeline.health.open = lambda: [(1, 0, "stuck", T0), (-1, -1, "stale", T0)]
    assert counted() == (3, [1, 2, 0, 0, 0])
    assert world.view.snapshot().tables["pumps"].group_marks == ["stale"]
    pipeline.quarantine.held = lambda streams: np.array([2])
    pipeline.broken = "MemoryError"
    world.store.poison.fresh = lambda now_s: 4
    assert counted() == (9, [1, 2, 1, 1, 4])
    assert world.view.snapshot().tables["pumps"].troubles.keys() == {1, 2}


def test_a_model_is_shown_with_where_its_thresholds_stand(world):
    """Of the streams that are judged; before the first one, of none."""
    pipeline = world.groups.pipelines["pumps"]
    about = {"manifest": {"streams": {}, "golden": []}, "path": SimpleNamespace(name="m"), "digest": "0"}
    world.view.artifacts = {"pumps": SimpleNamespace(profile=pipeline.profile, **about)}
    world.view.publish()
    assert world.view.models()[0]["thresholds"] is None
    for name in ("p0", "p1", "p2", "p3"):
        pipeline.streams.add(name)
    pipeline.begin()
    pipeline.latest.threshold[:4] = 2.0, np.nan, 0.5, 1.0
    world.view.publish()
    assert world.view.models()[0]["thresholds"] == {"lowest": 0.5, "median": 1.0, "highest": 2.0}


def test_a_model_that_fails_on_everything_is_a_reason_not_to_be_ready(world):
    """Named with its group and what it raised; gone with the failure. The process lives meanwhile."""
    pipeline = world.groups.pipelines["pumps"]
    pipeline.broken = "MemoryError: no words"
    world.view.publish()
    assert "the model of group pumps judges nothing: MemoryError: no words" in world.view.snapshot().unready
    assert world.view.snapshot().unhealthy == []
    pipeline.broken = ""
    world.view.publish()
    assert not [reason for reason in world.view.snapshot().unready if "judges nothing" in reason]


@pytest.mark.parametrize(
    ("gap_max_s", "silent_s", "ready"), [(5.0, 299, True), (5.0, 301, False), (7200.0, 7000, True)]
)
def test_how_long_a_plant_may_be_silent_follows_its_models(tmp_path, gap_max_s, silent_s, ready):
    """Without `mqtt.silent_after`, five minutes, or as long as all models bridge."""
    store, clock = opened(tmp_path), Clock()
    source = SimpleNamespace(status=lambda: SourceStatus(connected=True, subscribed=True, last_message_age_s=silent_s))
    groups, metrics = Groups("plant-1", [plants.group(profile=plants.profile(gap_max_s=gap_max_s))]), Metrics(clock)
    loop = Loop(source, groups, store, metrics, arrived=clock, now=clock, monotonic=clock, sleep=lambda _: None)
    view = DaemonView(loop, store, metrics, now=clock, monotonic=clock, silent_after_s=None)
    view.publish()
    assert any("no message has arrived" in reason for reason in view.snapshot().unready) is not ready
    store.close()


def test_a_past_is_read_while_the_loop_goes_on(world):
    """The loop copies what it knows of the stream between two turns; of no stream, group or model there is none."""
    view = world.view
    world.store.commit(numbered(1), report(), T0)
    view.artifacts = {"pumps": SimpleNamespace(manifest={"targets": ["a", "b"]})}
    pipeline = world.groups.pipelines["pumps"]
    pipeline.streams.add("p1")
    pipeline.begin()
    stop = threading.Event()
    loop = threading.Thread(target=lambda: [view.answer() for _ in iter(stop.is_set, True)])
    loop.start()
    try:
        found = view.past("pumps", "p1", T0, T0 + 60, 100)
        assert found["read"] == {
            "journal_from_s": T0, "from_s": T0, "whole": True, "pieces": 1, "scored_every": 1,
        }  # fmt: skip
        assert [line["name"] for line in found["history"]["channels"]] == ["a", "b"]
        assert view.past("pumps", "p9", T0, T0 + 60, 100) is None
        assert view.past("fans", "p1", T0, T0 + 60, 100) is None
    finally:
        stop.set()
        loop.join(10)


def test_what_a_sink_refused_is_listed_and_notified_once_more(world):
    """Sink by sink, with the alert and what was said; after a retry it waits again, and there is nothing to retry."""
    world.store.outbox.register(["a", "b"])
    world.store.commit(numbered(1), report(transition(1, 0), transition(2, 0)), T0)
    world.store.outbox.dead("b", [transition(2, 0).key], "400: no")
    letter = {"sink": "b", "alert": transition(2).id, "key": transition(2, 0).key, "error": "400: no"}
    assert world.view.dead_letters(9) == [letter]
    assert [world.view.retry(sink) for sink in ("a", "b", "b", "nobody")] == [False, True, False, False]
    assert world.view.dead_letters(9) == []
    assert len(world.store.outbox.due("b", T0, 9)) == 2


def test_poison_is_shown_as_text(world):
    """Bytes that are no UTF-8 are spelt out, so that anything can be said in JSON."""
    world.store.attempts._begin(deaths=9, suspect=digest_of(DEADLY, 0), same=9)
    world.store.poison.without(DEADLY, "broker", T0)
    (shown,) = world.view.poison()
    assert (shown["topic"], shown["payload"], shown["bytes"], shown["origin"]) == ("a\\xff", "\\xfd\\xfe", 2, "broker")
