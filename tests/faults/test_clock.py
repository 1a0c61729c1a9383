"""A wall clock that steps a day back and ten years forward, under a daemon that runs in the test's own process."""

import itertools
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from streamae.core.report import Report
from streamae.daemon.clock import ArrivalClock, Clock
from streamae.daemon.daemon import Daemon
from tests.brokers import Mosquitto, free_port, wait_until
from tests.faults import plant
from tests.faults.collector import Collector

DAY_S, TEN_YEARS_S = 86400.0, 10 * 365.25 * 86400.0


@pytest.mark.parametrize("step_s", [-DAY_S, TEN_YEARS_S], ids=["a day back", "ten years forward"])
class Driven:
    """A daemon in this process whose wall clock is set by `step_s`, with its loop in a thread."""

    def __init__(self, config: Path) -> None:
        self.step_s = 0.0
        self.daemon = Daemon(config, Clock(now=lambda: time.time() + self.step_s))
        self.reports: list[Report] = []
        self.daemon.on_report = self.reports.append
        self.daemon.start()
        self._stopping = threading.Event()
        self._loop = threading.Thread(target=self._live, daemon=True)
        self._loop.start()
        wait_until(lambda: self.daemon.loop.source.status().subscribed)

    def _live(self) -> None:
        while not self._stopping.is_set():
            self.daemon.turn()

    def rows(self) -> int:
        return sum(report.rows for report in self.reports)

    def looks(self) -> None:
        """Wait until the daemon has looked at the wall clock, as it does before each new picture for the page."""
        seen = self.daemon.view.snapshot().sequence
        wait_until(lambda: self.daemon.view.snapshot().sequence >= seen + 2, 20, "a look at the wall clock")

    def stop(self) -> None:
        self._stopping.set()
        self._loop.join(10)
        self.daemon.stop()


@pytest.mark.parametrize("step_s", [-DAY_S, TEN_YEARS_S], ids=["a day back", "ten years forward"])
def test_samples_without_a_time_of_their_own_survive_a_step(
    tmp_path: Path, mosquitto: Mosquitto, model: plant.Model, step_s: float
) -> None:
    """Event time by arrival does not step: every sample is a row, every window is scored, and no other alarm comes.

    So it is over a restart with the clock as it was set, too.
    """
    config = plant.write_config(tmp_path / "plant", model, mosquitto.port, 1, free_port())
    numbers = config.read_text().replace("payload: json, values: {value: v}, time: t", "payload: number")
    config.write_text(numbers.partition("sinks:")[0] + "sinks: []\n")
    row = itertools.count()

    def play(rows: int, spike: float = 0.0) -> None:
        for _ in range(rows):
            n = next(row)
            for stream in range(2):
                mosquitto.publish([(plant.topic_of(stream), str(plant.calm(stream, n) + spike))])
            time.sleep(0.03)

    driven = Driven(config)
    try:
        play(30)
        driven.step_s = step_s
        play(30)
        driven.looks()
        play(10)
        wait_until(lambda: driven.rows() == 140, 20, "every sample is a row")
        assert sum(report.windows for report in driven.reports) == 140 - 2 * 7
        assert not any(report.transitions or report.drops for report in driven.reports)
    finally:
        driven.stop()
    again = Driven(config)
    again.step_s = step_s
    try:
        play(10)
        wait_until(lambda: again.rows() == 20, 20, "every sample after the restart is a row")
        assert not any(report.transitions for report in again.reports)
        play(2, spike=5000.0)
        wait_until(lambda: any(report.transitions for report in again.reports), 10, "the fault")
    finally:
        again.stop()


def test_the_arrival_clock_never_steps_and_follows_slowly() -> None:
    """It takes the wall clock at the start, but not one from before the last run; it drifts after it, 5 ms a second."""
    wall, boot = [1000.0], [0.0]
    clock = Clock(now=lambda: wall[0], since_boot=lambda: boot[0])
    arrivals = ArrivalClock(clock, not_before_s=2000.0)
    assert arrivals.now() == 2000.0
    arrivals = ArrivalClock(clock)
    stamps = [arrivals.now()]
    for second in range(400):
        wall[0], boot[0] = wall[0] + 1.0 + (0.5 if second == 10 else 0.0), boot[0] + 1.0
        stamps.append(arrivals.now())
        arrivals.follow()
    steps = np.diff(stamps)
    assert steps.min() >= 0.995
    assert steps.max() <= 1.005 + 1e-9
    assert abs(arrivals.now() - wall[0]) < 1e-3
    wall[0] -= DAY_S
    arrivals.follow()
    boot[0] += 10.0
    assert arrivals.now() - stamps[-1] == pytest.approx(9.95, abs=0.06)


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
        wait_until(lambda: plant.keys_of(collector) >= expected, 60, "all alerts are notified")
        assert plant.keys_of(collector) == expected
        assert not collector.contradictions
        assert daemon.view.snapshot().unhealthy == []
    finally:
        stopping.set()
        loop.join(10)
        daemon.stop()
        collector.close()
    assert plant.journalled(config) == before + after
