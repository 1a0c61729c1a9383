"""The way from an unknown broker to a daemon that watches it: sniff, record, train, check, run, each the real verb.

On one real mosquitto speak the simulated plant (JSON), a home of Zigbee2MQTT devices, and an edge node of Sparkplug B.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import paho.mqtt.client as paho
import pytest
import yaml
from paho.mqtt.enums import CallbackAPIVersion

from streamae.history.messages import from_recordings
from streamae.tools.simulate.plants import Pumps
from streamae.training.train import train
from tests import sparkplug as sp
from tests.brokers import free_port, wait_until
from tests.models import quick, quiet
from tests.services import ROOT, Daemon

COMMAND = [sys.executable, "-m", "streamae.cli"]
EVERY_S = 0.05
REBIRTH = 40  # ticks


class Feeds:
    """Three ecosystems on one broker, twenty rows a second each, from a thread of their own."""

    def __init__(self, port: int) -> None:
        self._client = paho.Client(CallbackAPIVersion.VERSION2)
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.ticks = self._seq = 0
        self._rng = np.random.default_rng(1)

    def __enter__(self) -> "Feeds":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join(10)
        self._client.disconnect()
        self._client.loop_stop()

    def _run(self) -> None:
        plant = Pumps(3, 1, seed=1, period_s=EVERY_S, start_s=time.time())
        while not self._stopping.wait(EVERY_S):
            _, values, _ = plant.rows(1)
            for s, name in enumerate(plant.names):
                row = dict(zip(plant.channels, values[0, s].tolist(), strict=True))
                self._say(f"plant/{name}", json.dumps({"t": time.time(), **row}).encode())
            for room in ("kitchen", "hall", "roof"):
                warm = 20 + np.sin(self.ticks / 15) + self._rng.normal(0, 0.1)
                state = {"temperature": warm, "humidity": 40 + self._rng.normal(), "state": "ON", "linkquality": 80}
                seen = {"last_seen": round(time.time() * 1000)}
                self._say(f"zigbee2mqtt/{room}", json.dumps({**state, **seen}).encode())
            self._edge(self.ticks)
            self.ticks += 1

    def _edge(self, tick: int) -> None:
        if tick % REBIRTH == 0:
            self._seq = -1
            self._spark("NBIRTH", sp.metric("bdSeq", datatype=sp.INT64, long_value=tick))
        for number in (1, 2):
            flow = np.sin(tick / 10 + number) + self._rng.normal(0, 0.05)
            speed = 1000 + round(20 * np.cos(tick / 10) + self._rng.normal(0, 2))
            names = ("Motor/Flow", "Motor/Speed") if tick % REBIRTH == 0 else ("", "")
            self._spark(
                "DBIRTH" if tick % REBIRTH == 0 else "DDATA",
                sp.metric(names[0], alias=10 * number, datatype=sp.DOUBLE, double_value=flow),
                sp.metric(names[1], alias=10 * number + 1, datatype=sp.INT32, int_value=speed),
                device=f"/fan{number}",
            )

    def _spark(self, kind: str, *metrics: object, device: str = "") -> None:
        self._seq = (self._seq + 1) % 256
        self._say(f"spBv1.0/hall/{kind}/edge1{device}", sp.payload(*metrics, seq=self._seq, time_s=time.time()))

    def _say(self, topic: str, payload: bytes) -> None:
        self._client.publish(topic, payload, qos=0)


def record_rows(feeds, rows, path, recording):
    """Run the verb until the feeds have sent so many rows, however slow the machine is, and end it as Ctrl-C would."""
    recorder = subprocess.Popen([*COMMAND, "record", "-c", str(path), str(recording)], cwd=ROOT)
    wait_until(lambda: recording.is_file() and recording.stat().st_size, 60, "nothing is recorded")
    enough = feeds.ticks + rows
    wait_until(lambda: feeds.ticks >= enough, 120, "the feeds are silent")
    recorder.send_signal(signal.SIGINT)
    assert recorder.wait(30) == 0


def verb(*arguments: str, env: dict[str, str] | None = None) -> str:
    done = subprocess.run(
        [*COMMAND, *arguments], cwd=ROOT, capture_output=True, text=True, check=False, env={**os.environ, **(env or {})}
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.timeout(300)
def test_from_an_unknown_broker_to_scores(mosquitto, tmp_path):
    """What sniff prints is enough: pasted, recorded by, trained on, checked and run, all three groups are scored."""
    home, page = tmp_path / "home", free_port()
    (home / "streamae").mkdir(parents=True)
    env, path, recording = {"XDG_STATE_HOME": str(home)}, tmp_path / "streamae.yaml", tmp_path / "normal.jsonl"
    with Feeds(mosquitto.port) as feeds:
        block = verb("sniff", "--host", "127.0.0.1", "--port", str(mosquitto.port), "--seconds", "4")
        kinds = {name: group["topics"][0]["payload"] for name, group in yaml.safe_load(block)["streams"].items()}
        assert kinds == {"plant": "json", "zigbee2mqtt": "zigbee2mqtt", "spBv1-0": "sparkplug"}, block
        assert "streamae train --recording normal.jsonl --streams streamae.yaml" in block
        about = f"mqtt: {{host: 127.0.0.1, port: {mosquitto.port}}}\nweb: {{listen: '127.0.0.1:{page}'}}\n"
        daemon = Daemon(tmp_path, f"instance: x\nstate: {{dir: state}}\n{about}{block}", page, env)
        record_rows(feeds, 150 + REBIRTH, path, recording)
        for name in ("plant", "zigbee2mqtt"):
            found = from_recordings(path, name, [recording]).series
            known = home / "streamae" / "models.json"
            train(
                [],
                tmp_path / f"{name}.pt",
                config=quick(20),
                fetched=found,
                now=time.time,
                registry=known,
                console=quiet(),
            )
        (tmp_path / "train.yaml").write_text("recipe: {steps: 20}\n")
        arguments = ["--recording", str(recording), "--streams", str(path), "--group", "spBv1-0"]
        verb("train", *arguments, "-c", str(tmp_path / "train.yaml"), env=env)
        checked = verb("check", "-c", str(path), env=env)
        assert "sparkplug: channels Flow from Motor/Flow, Speed from Motor/Speed" in checked
        try:
            daemon.start()
            daemon.wait_for("/readyz", 60)
            wanted = {"plant": 3, "zigbee2mqtt": 3, "spBv1-0": 2}

            def scored() -> dict[str, int]:
                streams = daemon.streams().values()
                return {name: sum(s["group"] == name and s["score"] is not None for s in streams) for name in wanted}

            wait_until(lambda: scored() == wanted, 60, daemon.log())
            assert daemon.metric("streamae_messages_dropped_total", reason="sequence_gap") == 0
            assert daemon.stop() == 0, daemon.log()
        finally:
            daemon.kill()
