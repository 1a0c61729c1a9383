"""More messages than there is time to score: a real daemon with a model that is too slow, over a real broker."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from streamae.core.pipeline import Pipeline
from streamae.core.types import Drop
from streamae.daemon.daemon import Daemon
from tests.brokers import Mosquitto, free_port, wait_until
from tests.faults import plant

STREAMS = plant.KNOWN  # judged from the first full window on
WINDOW_S = 0.004  # what the slow model takes for a window, so that it carries 250 a second
OVERLOAD, CALM = 340.0, 60.0  # messages a second


class Slow:
    """A model that takes its time for each window."""

    def __init__(self, model) -> None:
        self._model = model

    def errors(self, windows):
        time.sleep(WINDOW_S * len(windows))
        return self._model.errors(windows)


class Feed:
    """Rows of all streams at a rate, from where the last call ended; `spike` makes one stream's value jump."""

    def __init__(self, port: int) -> None:
        self.row = 0
        self.client = paho.Client(CallbackAPIVersion.VERSION2)
        self.client.connect("127.0.0.1", port)
        self.client.loop_start()

    def play(self, seconds: float, rate: float, spike: int | None = None) -> None:
        begin_s, sent = time.monotonic(), 0
        while sent < seconds * rate:
            for stream in range(STREAMS):
                value = plant.calm(stream, self.row) + (5000.0 if stream == spike else 0.0)
                payload = json.dumps({"t": plant.START_S + self.row, "v": value})
                self.client.publish(plant.topic_of(stream), payload, qos=0)
            self.row, sent = self.row + 1, sent + STREAMS
            time.sleep(max(0.0, begin_s + sent / rate - time.monotonic()))

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


@contextmanager
def running(folder: Path, broker: int, model: plant.Model, thinning_max: int) -> Iterator[tuple[Daemon, list]]:
    """A daemon with a slow model, a small inbox, and small batches; yields it and the transitions as they come."""
    config = plant.write_config(folder, model, broker, 1, free_port())
    text = config.read_text().replace("keepalive: 5s", "keepalive: 5s, qos: 0")
    inbox = f"max_messages: 120, batch_max: 12, batch_wait: 5ms, thinning_max: {thinning_max}"
    text = text.replace("thinning_max: 1", inbox)
    config.write_text(text.replace("qos: 0", "qos: 0, receive_maximum: 100").partition("sinks:")[0] + "sinks: []\n")
    daemon, notified, stopping = Daemon(config), [], threading.Event()
    daemon.start()
    pipeline = daemon.loop.groups.pipelines["pumps"]
    pipeline.group = replace(pipeline.group, reconstructor=Slow(pipeline.group.reconstructor))
    daemon.on_report = lambda report: notified.extend(report.transitions)

    def live() -> None:
        while not stopping.is_set():
            daemon.turn()

    loop = threading.Thread(target=live, daemon=True)
    loop.start()
    try:
        wait_until(lambda: daemon.loop.source.status().subscribed)
        yield daemon, notified
    finally:
        stopping.set()
        loop.join(10)
        daemon.stop()


def drops(daemon: Daemon) -> int:
    return daemon.loop.source.status().lost[Drop.OVERFLOW]


def shown(daemon: Daemon, name: str, least: float) -> None:
    """Wait until the page's picture, which is made once a second, has a number of at least `least`."""
    wait_until(lambda: daemon.view.snapshot().status[name] >= least, 20, f"{name} on the page")


def worked_off(daemon: Daemon) -> bool:
    return not daemon.loop.source.status().waiting


@pytest.mark.parametrize("careful", [True, False], ids=["daemon", "control: windows span the loss"])
def test_our_own_loss_raises_no_alarm(
    tmp_path: Path, mosquitto: Mosquitto, model: plant.Model, monkeypatch: pytest.MonkeyPatch, careful: bool
) -> None:
    """Where the inbox overflows, drops are counted and no stream alarms; a fault is found as soon as it is over.

    The control, in which windows go on over the loss, alarms.
    """
    if not careful:
        monkeypatch.setattr(Pipeline, "interrupt", lambda *_: 0)
    with running(tmp_path, mosquitto.port, model, thinning_max=1) as (daemon, notified):
        feed = Feed(mosquitto.port)
        try:
            feed.play(0.5, CALM)
            feed.play(6.0, OVERLOAD)
            wait_until(lambda: worked_off(daemon), 20)
            lost, alarmed = drops(daemon), {t.stream for t in notified}
            assert lost > 50
            if not careful:
                assert alarmed
                return
            assert alarmed == set()
            shown(daemon, "dropped", lost)
            feed.play(2.0, CALM)
            feed.play(0.5, CALM, spike=2)
            wait_until(lambda: {t.stream for t in notified} == {plant.name_of(2)}, 10, "the fault after the overload")
            assert drops(daemon) == lost
            shown(daemon, "interrupted", STREAMS)
        finally:
            feed.close()


def test_a_backlog_is_thinned_before_anything_is_dropped(
    tmp_path: Path, mosquitto: Mosquitto, model: plant.Model
) -> None:
    """The same overload with thinning: nothing is dropped, nothing alarms, a fault in the middle of it is found."""
    with running(tmp_path, mosquitto.port, model, thinning_max=8) as (daemon, notified):
        feed = Feed(mosquitto.port)
        try:
            feed.play(0.5, CALM)
            overload = threading.Thread(target=feed.play, args=(5.0, OVERLOAD))
            overload.start()
            shown(daemon, "thinning", 2)
            overload.join()
            assert notified == []
            feed.play(0.3, OVERLOAD, spike=3)
            wait_until(lambda: {t.stream for t in notified} == {plant.name_of(3)}, 10, "the fault under the overload")
            assert drops(daemon) == 0
            feed.play(12.0, CALM)
            wait_until(lambda: daemon.loop.load_shedding.thinning == 1, 30, "every window scored again")
        finally:
            feed.close()
