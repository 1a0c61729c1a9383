"""A wall clock that steps a day back and ten years forward, under a daemon that runs in the test's own process."""

import itertools
import threading
import time
from pathlib import Path

import pytest

from streamae.daemon.clock import Clock
from streamae.daemon.life import Daemon
from tests.brokers import Mosquitto, free_port, wait_until
from tests.faults import plant
from tests.faults.collector import Collector

DAY_S, TEN_YEARS_S = 86400.0, 10 * 365.25 * 86400.0


@pytest.mark.parametrize("step_s", [-DAY_S, TEN_YEARS_S], ids=["a day back", "ten years forward"])
def test_a_clock_that_steps_loses_and_invents_nothing(
    tmp_path: Path, mosquitto: Mosquitto, model: plant.Model, step_s: float
) -> None:
    """Where samples carry their own time, a step of the wall clock is without effect on alerts and their delivery."""
    stepped = [0.0]
    collector = Collector(seed=7)
    config = plant.write_config(tmp_path / "plant", model, mosquitto.port, collector.port, free_port())
    daemon = Daemon(config, Clock(now=lambda: time.time() + stepped[0]))
    daemon.start()
    stopping = threading.Event()
    loop = threading.Thread(target=lambda: [daemon.turn() for _ in iter(stopping.is_set, True)], daemon=True)
    try:
        loop.start()
        wait_until(lambda: daemon.loop.source.status().subscribed)
        rows = plant.messages(streams=4)
        before, after = (list(itertools.islice(rows, 4 * n)) for n in (230, 230))
        mosquitto.publish(before)
        stepped[0] = step_s  # some of the rows are not taken yet, and some alerts wait for their next attempt
        mosquitto.publish(after)
        expected = {t.key for t in plant.fold(plant.core(config), before + after).transitions}
        assert len(expected) > 8
        wait_until(lambda: plant.keys_of(collector) >= expected, 60, "all alerts are told")
        assert plant.keys_of(collector) == expected
        assert not collector.contradictions
        assert daemon.view.snapshot().unhealthy == []
    finally:
        stopping.set()
        loop.join(10)
        daemon.stop()
        collector.close()
    assert plant.journalled(config) == before + after
