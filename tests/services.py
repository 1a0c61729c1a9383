"""The daemon and its neighbours as real processes: `streamae run`, Prometheus, Alertmanager, and a plant that speaks.

Each class owns one process (or thread), writes its output to a file that a failing test can show, and ends it with a
bounded wait. Nothing here knows of a particular test.
"""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from streamae.tools.simulate.faults import Fault
from streamae.tools.simulate.plants import Pumps
from tests.brokers import Mosquitto, free_port, wait_until

if TYPE_CHECKING:
    from tests.models import TrainedPumps

ROOT = Path(__file__).parent.parent
CONFIG = """\
instance: plant-1
state: {{dir: state, snapshot_every: 2s}}
mqtt: {{host: 127.0.0.1, port: {broker}, silent_after: {silent}s}}
web: {{listen: "127.0.0.1:{page}"}}
metrics: {{per_stream: true}}
streams:
  pumps:
    topics:
      - {{topic: "plant/{{line}}/{{pump}}", payload: json, time: t}}
    stream: "{{line}}-{{pump}}"
    model: {{path: {model}, sha256: {sha256}}}
    alert: {{for: 0s, keep_firing_for: {keep}s}}
sinks:
  - {{type: log}}
  - {{type: mqtt}}
"""
PROMETHEUS = shutil.which("prometheus")
PROMTOOL = shutil.which("promtool")
ALERTMANAGER = shutil.which("prometheus-alertmanager") or shutil.which("alertmanager")


def ask(url: str, timeout_s: float = 5.0) -> tuple[int, str]:
    """GET `url`: status and body; (0, why) while nobody answers."""
    try:
        with urllib.request.urlopen(url, timeout=timeout_s) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError as error:
        return 0, str(error)


class Service:
    """One process with its output in `folder/<name>.log`, and a port that it is asked on."""

    def __init__(self, name: str, folder: Path, port: int) -> None:
        self.name, self.folder, self.port = name, folder, port
        self.process: subprocess.Popen[bytes] | None = None
        self._log = folder / f"{name}.log"

    def launch(self, *command: str, env: Mapping[str, str] | None = None) -> None:
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                command, stdout=log, stderr=log, cwd=ROOT, env={**os.environ, **(env or {})}
            )

    def get(self, path: str) -> tuple[int, str]:
        return ask(f"http://127.0.0.1:{self.port}{path}")

    def wait_for(self, path: str, timeout_s: float = 40.0) -> None:
        """Wait until `path` answers 200; fail with the log where the process ends first."""
        assert self.process
        wait_until(lambda: self.get(path)[0] == 200 or self.process.poll() is not None, timeout_s, self.log())
        assert self.process.poll() is None, self.log()

    def signal(self, number: int) -> None:
        assert self.process
        self.process.send_signal(number)

    def stop(self, timeout_s: float = 30.0) -> int:
        """SIGTERM; returns the exit code."""
        self.signal(signal.SIGTERM)
        return self.wait(timeout_s)

    def wait(self, timeout_s: float = 30.0) -> int:
        assert self.process
        return self.process.wait(timeout_s)

    def kill(self) -> None:
        """End of the test, in whatever state."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
            self.process.wait(10)

    def log(self) -> str:
        return self._log.read_text(errors="replace") if self._log.exists() else ""


class Daemon(Service):
    """`python -m streamae.cli run -c folder/streamae.yaml`, whose text is `config`, on the page's port."""

    def __init__(self, folder: Path, config: str, port: int, env: Mapping[str, str] | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        super().__init__("streamae", folder, port)
        self.path = folder / "streamae.yaml"
        self.path.write_text(config)
        self._env = env

    def start(self) -> "Daemon":
        self.launch(sys.executable, "-m", "streamae.cli", "run", "-c", str(self.path), env=self._env)
        return self

    def metric(self, name: str, **labels: str) -> float:
        """The sum of the samples called `name` that carry `labels`; NaN where there is none."""
        status, text = self.get("/metrics")
        wanted = [f'{key}="{value}"' for key, value in labels.items()]
        found = [
            float(line.rsplit(" ", 1)[1])
            for line in (text.splitlines() if status == 200 else [])
            if line.startswith((f"{name} ", f"{name}{{")) and all(label in line for label in wanted)
        ]
        return sum(found) if found else float("nan")

    def streams(self) -> dict[str, dict[str, Any]]:
        status, text = self.get("/api/v1/streams?limit=1000")
        return {one["stream"]: one for one in json.loads(text)["streams"]} if status == 200 else {}


class Prometheus(Service):
    """Debian's Prometheus on its own folder; `config` is the text of prometheus.yml."""

    def __init__(self, folder: Path, config: str = "", *, retention: str = "1h") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._retention = retention
        super().__init__("prometheus", folder, free_port())
        self.config(config)

    def config(self, text: str) -> None:
        """Write prometheus.yml, for one that must name the own port."""
        (self.folder / "prometheus.yml").write_text(text)

    def start(self) -> "Prometheus":
        assert PROMETHEUS
        self.launch(
            PROMETHEUS,
            f"--config.file={self.folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={self.folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{self.port}",
            f"--storage.tsdb.retention.time={self._retention}",
        )
        self.wait_for("/-/ready")
        return self

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The result of an instant query as a vector; a scalar becomes a vector of one. Fails on a bad expression."""
        status, text = self.get("/api/v1/query?" + urllib.parse.urlencode({"query": expression}))
        assert status == 200, f"{expression}: {text}"
        answer = json.loads(text)["data"]
        return [{"metric": {}, "value": answer["result"]}] if answer["resultType"] == "scalar" else answer["result"]

    def value(self, expression: str) -> float:
        """The sum of the values of an instant query; NaN where it is empty."""
        found = [float(one["value"][1]) for one in self.query(expression)]
        return sum(found) if found else float("nan")

    def alerts(self) -> list[dict[str, Any]]:
        """Alerts that are pending or firing now."""
        return json.loads(self.get("/api/v1/alerts")[1])["data"]["alerts"]


class Alertmanager(Service):
    """Debian's Alertmanager on its own folder; `config` is the text of alertmanager.yml."""

    def __init__(self, folder: Path, config: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        super().__init__("alertmanager", folder, free_port())
        (folder / "alertmanager.yml").write_text(config)

    def start(self) -> "Alertmanager":
        assert ALERTMANAGER
        self.launch(
            ALERTMANAGER,
            f"--config.file={self.folder / 'alertmanager.yml'}",
            f"--storage.path={self.folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{self.port}",
            "--cluster.listen-address=",
        )
        self.wait_for("/-/ready")
        return self

    def alerts(self) -> list[dict[str, Any]]:
        return json.loads(self.get("/api/v2/alerts")[1])


def write(folder: Path, broker: Mosquitto, trained: "TrainedPumps", *, silent: int = 300, keep: int = 5) -> Daemon:
    """A daemon of its own folder and port, not yet started; `silent` and `keep` in seconds."""
    page = free_port()
    given = {"broker": broker.port, "page": page, "model": trained.path, "sha256": trained.sha256}
    return Daemon(folder, CONFIG.format(silent=silent, keep=keep, **given), page)


def plant(trained: "TrainedPumps") -> Pumps:
    """The plant of the training as it goes on after the rows that were written of it, for as often as one asks."""
    from tests.models import pump_rows  # imports torch

    return pump_rows(trained.plant.steps)[0]


class Feed:
    """The pumps of `models.train_pumps`, going on after their series, live on a broker from a thread.

    A row of every pump each `1 / rows_per_s`, in event time one second after the other, ending up at the present:
    `behind_s` says how far in the past it begins. `pause` and `go_on` make the topics silent and alive again.
    """

    def __init__(self, port: int, plant: Pumps, *, rows_per_s: float = 8.0, behind_s: float = 3000.0) -> None:
        self.plant = plant
        plant.start_s = time.time() - behind_s - plant.elapsed_s
        self.rows = 0
        self._period_s = 1.0 / rows_per_s
        self._stopping, self._speaking = threading.Event(), threading.Event()
        self._speaking.set()
        self._wanted: list[tuple[str, str, float, float]] = []
        self._client = paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> "Feed":
        self._thread.start()
        return self

    def pause(self) -> None:
        self._speaking.clear()

    def go_on(self) -> None:
        self._speaking.set()

    def inject(self, kind: str, stream: str, magnitude: float, duration_s: float) -> None:
        """Begin a fault with the next row."""
        self._wanted.append((kind, stream, magnitude, duration_s))

    def history(self, rows: int) -> None:
        """Publish `rows` rows at once, before `start`."""
        for _ in range(rows):
            self._publish_row()

    def _run(self) -> None:
        due_s = time.monotonic()
        while not self._stopping.is_set():
            due_s = max(due_s + self._period_s, time.monotonic() - 1.0)
            self._stopping.wait(max(0.0, due_s - time.monotonic()))
            if self._speaking.is_set():
                self._publish_row()

    def _publish_row(self) -> None:
        for kind, stream, magnitude, duration_s in (self._wanted.pop() for _ in range(len(self._wanted))):
            self.plant.inject(Fault(kind, stream, self.plant.elapsed_s, duration_s, magnitude))
        time_s, values, _ = self.plant.rows(1)
        for labels, row in zip(self.plant.labels, values[0].tolist(), strict=True):
            topic = f"plant/{labels['line']}/{labels['pump']}"
            message = {"t": float(time_s[0]), **dict(zip(self.plant.channels, row, strict=True))}
            self._client.publish(topic, json.dumps(message), 1)
        self.rows += 1

    def stop(self) -> None:
        self._stopping.set()
        self._speaking.set()
        if self._thread.is_alive():
            self._thread.join(10)
        self._client.disconnect()
        self._client.loop_stop()


class NotifySocket:
    """A fake of systemd's notify socket: `messages` fills with what the process says, each a dict of assignments."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.messages: list[tuple[float, dict[str, str]]] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._socket.settimeout(0.2)
        self._open = True
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        while self._open:
            with contextlib.suppress(TimeoutError, OSError):
                text = self._socket.recv(4096).decode()
                said = dict(line.split("=", 1) for line in text.splitlines())
                self.messages.append((time.monotonic(), said))

    def said(self, key: str) -> list[str]:
        """Every value that `key` was given so far."""
        return [said[key] for _, said in list(self.messages) if key in said]

    def close(self) -> None:
        self._open = False
        self._thread.join(2)
        self._socket.close()
