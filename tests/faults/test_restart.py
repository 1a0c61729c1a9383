"""A daemon that is killed with SIGKILL in the middle of a replay goes on where it was, as if nothing had happened.

Real processes: mosquitto, `streamae run`, a publisher. What counts as "where it was" is the pure core, folded over the
same messages without any interruption.
"""

import itertools
import json
import signal
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.brokers import Mosquitto, free_port, wait_until
from tests.faults import plant
from tests.faults.collector import Collector
from tests.faults.processes import Daemon, Publisher

ROWS = 430
SICK = plant.name_of(0)
SICK_ROWS = range(330, 370)


def rows() -> list[tuple[str, str]]:
    """Rows of two known and two learning streams; SICK is far off in SICK_ROWS, after all have learnt."""
    made = []
    for row, s in itertools.product(range(ROWS), (0, 1, 30, 31)):
        value = plant.calm(s, row) + (3000.0 if s == 0 and row in SICK_ROWS else 0.0)
        made.append((plant.topic_of(s), json.dumps({"t": plant.START_S + row, "v": value})))
    return made


def held(recording: Sequence[tuple[str, str]], until: threading.Event) -> Iterator[tuple[str, str]]:
    """A replay that stops while SICK is sick, however long it takes to notice and to kill."""
    for row, message in enumerate(recording):
        if row == 4 * SICK_ROWS[-1]:
            until.wait(120)
        yield message


def open_alerts(daemon: Daemon) -> dict[str, float]:
    """Id -> onset of what fires in SICK, as the page has it."""
    status, text = daemon.get("/api/v1/alerts?state=firing")
    alerts = json.loads(text)["alerts"] if status == 200 else []
    return {one["id"]: one["onset_s"] for one in alerts if one["stream"] == SICK}


def test_kill_9_during_a_replay_loses_no_window_no_open_alert_and_no_warm_up(
    tmp_path: Path, mosquitto: Mosquitto, model: plant.Model, collector: Collector
) -> None:
    """After `kill -9` and a restart the windows and the open alert are there again, and no warm-up is repeated."""
    page = free_port()
    config = plant.write_config(tmp_path / "plant", model, mosquitto.port, collector.port, page)
    daemon = Daemon(config, page).start()
    daemon.wait_ready()
    recording, killed = rows(), threading.Event()
    publisher = Publisher(mosquitto.port, held(recording, killed), per_s=1000).start()
    wait_until(lambda: open_alerts(daemon), 60, "an alert is open")
    daemon.signal(signal.SIGKILL)
    assert daemon.wait() == -signal.SIGKILL

    taken = plant.journalled(config)
    assert taken == recording[: len(taken)]
    found, truth = plant.recovered(config), plant.core(config)
    plant.fold(truth, taken)
    assert plant.differences(found, truth, plant.CLOCKS) == []
    assert plant.differences(found, plant.replayed(config, plant.core(config))) == []

    daemon.start()
    daemon.wait_ready()
    (onset_s,) = open_alerts(daemon).values()
    assert onset_s == plant.START_S + SICK_ROWS[0]
    wait_until(daemon.streams, what="the page has a picture")
    states = {name: one["state"] for name, one in daemon.streams().items()}
    assert states == dict.fromkeys(("pump01", "pump30", "pump31"), "ok") | {SICK: "firing"}

    killed.set()
    wait_until(lambda: len(publisher.sent) == len(recording), 60, "the replay ends")
    publisher.stop()
    whole = plant.core(config)
    expected = {t.key for t in plant.fold(whole, recording).transitions}
    wait_until(lambda: plant.keys_of(collector) >= expected, 60, "the alert is resolved")
    assert daemon.stop() == 0
    assert len(expected) == 2
    assert plant.keys_of(collector) == expected
    found = plant.recovered(config)
    assert plant.differences(found, whole, plant.CLOCKS) == []
    assert plant.differences(found, plant.replayed(config, plant.core(config))) == []


def test_a_kill_after_a_reload_leaves_what_the_old_rules_made_of_the_rows_before(
    tmp_path: Path, mosquitto: Mosquitto, model: plant.Model, collector: Collector
) -> None:
    """An alert that fires goes on, though the new rule asks for more; folded by that alone it would never have been."""
    page, recording = free_port(), rows()[: 4 * (SICK_ROWS[0] + 5)]
    config = plant.write_config(tmp_path / "plant", model, mosquitto.port, collector.port, page)
    rare = config.read_text().replace("snapshot_every: 2s", "snapshot_every: 1h")
    config.write_text(rare)
    truth, journal = plant.core(config), plant.core(config)
    plant.fold(truth, recording)
    daemon = Daemon(config, page).start()
    daemon.wait_ready()
    publisher = Publisher(mosquitto.port, iter(recording), per_s=1000).start()
    wait_until(lambda: len(plant.journalled(config)) == len(recording), 60, "all rows are in the journal")
    publisher.stop()
    reloaded = "streamae_config_last_reload_success_timestamp_seconds"
    began = daemon.metric(reloaded)
    config.write_text(rare.replace("for: 0s", "for: 1h"))
    daemon.signal(signal.SIGHUP)
    wait_until(lambda: daemon.metric(reloaded) > began, 30, "the reload")
    daemon.signal(signal.SIGKILL)
    daemon.wait()

    found = plant.recovered(config)
    assert len(plant.firing(found)) == 1
    assert plant.differences(found, truth, plant.CLOCKS) == []
    assert plant.differences(found, plant.replayed(config, journal)) == []
    control = plant.core(config)
    plant.fold(control, recording)
    assert plant.firing(control) == []
