"""Every stream of a fleet goes bad in the same second: does the intake keep pace, and how are the sinks notified?

    python -m tests.bench.storm [--streams 10000] [--calm 5] [--storm 20]

The core, the loop, the store and the sinks' threads are the daemon's own; the sinks are a webhook, an Alertmanager's
API, MQTT on a real mosquitto, and the log, at the pace of the product. One row a second of every stream is offered by
the clock, so that an intake that falls behind shows as lag. Printed: messages a second, lag in the calm and in the
storm, notifications by sink and how many alerts travelled in each, and what the store holds. Exit code 1 unless every
alert is stored, every sink was notified of all of them, in order, and the lag stayed below a second.
"""

import argparse
import json
import logging
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np

from streamae.config import load
from streamae.core.alert import AlertRule
from streamae.core.groups import Groups
from streamae.core.types import Batch
from streamae.daemon.clock import Clock
from streamae.daemon.loop import Loop
from streamae.daemon.sink_threads import SinkThreads
from streamae.ingest.source import Accepted, SourceStatus
from streamae.metrics import Metrics
from streamae.store.store import Store
from tests import plants
from tests.brokers import Mosquitto

START_S = 1_700_000_000.0
WARM_ROWS = 6
CONFIG = """\
instance: storm
mqtt: {{host: 127.0.0.1, port: {broker}}}
streams:
  pumps: {{topics: [{{topic: "plant/{{pump}}", payload: json, time: t}}], model: {{path: none.pt}}}}
sinks:
  - {{type: log}}
  - {{type: mqtt}}
  - {{type: webhook, url: "http://127.0.0.1:{receiver}/webhook", group_wait: 0s}}
  - {{type: alertmanager, url: "http://127.0.0.1:{receiver}/am"}}
"""


@dataclass
class Receiver:
    """An HTTP receiver of both forms; `sizes` are the alerts in each request, by path; `firing` before `resolved`."""

    sizes: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    notified: dict[str, dict[str, set[str]]] = field(default_factory=lambda: defaultdict(lambda: defaultdict(set)))
    disorder: int = 0

    def __post_init__(self) -> None:
        outer, lock = self, threading.Lock()

        class Answers(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                said = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with lock:
                    outer.take(self.path, said)
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
        self.port = int(self._server.server_address[1])
        threading.Thread(target=self._server.serve_forever, args=(0.1,), daemon=True).start()

    def take(self, path: str, said: Any) -> None:
        if path == "/webhook":
            alerts = said["alerts"]
            pairs = [(alert["id"], alert["state"]) for alert in alerts]
        else:
            alerts, now_s = said, time.time()
            ends_s = [datetime.fromisoformat(alert["endsAt"]).timestamp() for alert in alerts]
            pairs = [
                (alert["labels"]["streamae_id"], "firing" if end_s > now_s else "resolved")
                for alert, end_s in zip(alerts, ends_s, strict=True)
            ]
        self.sizes[path].append(len(alerts))
        for alert, state in pairs:
            self.disorder += state == "resolved" and alert not in self.notified[path]["firing"]
            self.notified[path][state].add(alert)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class Fleet:
    """A source: one row of every stream a second, by the clock; the rows before are there at once."""

    def __init__(self, streams: int, bad: range, rows: int) -> None:
        self.topics = [f"plant/p{n:05d}".encode() for n in range(streams)]
        self.bad, self.rows = bad, rows
        self.began_s, self._row, self._at = 0.0, 0, 0

    def take(self, limit: int, timeout_s: float) -> Accepted:
        due_s = self.began_s + self._row - WARM_ROWS
        if self.began_s == 0.0 or self._row < WARM_ROWS:
            due_s = time.time()
        # A row's messages are spread over its second.
        streams = len(self.topics)
        ready = min(int((time.time() - due_s) * streams) + 1, streams) if self._row >= WARM_ROWS else streams
        n = min(limit, ready - self._at)
        if n <= 0 or self._row >= self.rows:
            time.sleep(0.005)
            return Accepted(Batch([], [], np.zeros(0)))
        value = 100.0 if self._row in self.bad else 0.1
        payload = f'{{"t": {START_S + self._row}, "a": {value}}}'.encode()
        arrival_s = due_s + (self._at + np.arange(n)) / streams if self._row >= WARM_ROWS else np.full(n, due_s)
        batch = Batch(self.topics[self._at : self._at + n], [payload] * n, arrival_s)
        self._at += n
        if self._at == streams:
            self._row, self._at = self._row + 1, 0
            if self._row == WARM_ROWS:
                self.began_s = time.time()
        return Accepted(batch)

    @property
    def row(self) -> int:
        return self._row

    def ack(self, _: Accepted) -> None:
        return

    def status(self) -> SourceStatus:
        return SourceStatus(connected=True)


@dataclass
class Outcome:
    """What a storm did: lag in seconds by phase, requests and alerts by sink, what the store holds, what is wrong."""

    streams: int
    messages_per_s: float
    lag_s: dict[str, list[float]]
    requests: dict[str, list[int]]
    stored: int
    open_at_worst: int
    notified_after_s: float
    log_lines: int
    commit_s: list[float]
    wrong: list[str]

    def lines(self) -> list[str]:
        lag = {name: (np.percentile(v, 50), max(v)) for name, v in self.lag_s.items() if v}
        return [
            f"{self.streams} streams, {self.messages_per_s:.0f} messages/s",
            *(
                f"lag in the {name}: median {a * 1000:.0f} ms, longest {b * 1000:.0f} ms"
                for name, (a, b) in lag.items()
            ),
            f"longest step with its commit: {max(self.commit_s) * 1000:.0f} ms",
            f"alerts that fired: {self.open_at_worst}, stored: {self.stored}, "
            f"all notified {self.notified_after_s:.0f} s later",
            *(
                f"{name}: {len(n)} notifications, {sum(n)} transitions, up to {max(n)}"
                for name, n in self.requests.items()
            ),
            f"lines in the log: {self.log_lines}",
            *(f"WRONG: {line}" for line in self.wrong),
        ]


def storm(folder: Path, streams: int, calm_s: int, storm_s: int) -> Outcome:
    """Play one storm in `folder`."""
    broker = Mosquitto(folder / "broker", general=["max_queued_messages 0"]).start()
    receiver, counted = Receiver(), _Lines()
    alerts_log = logging.getLogger("streamae.alerts")
    alerts_log.addHandler(counted)
    (folder / "streamae.yaml").write_text(CONFIG.format(broker=broker.port, receiver=receiver.port))
    settings, clock = load(folder / "streamae.yaml"), Clock()
    store = Store.open(folder / "state", "process", clock.now, None, [s.name for s in settings.sinks])
    sink_threads = SinkThreads(settings, store.outbox, clock)
    try:
        with broker.collect("streamae/storm/alerts/#") as messages:
            sink_threads.start()
            outcome = _play(store, sink_threads, streams, calm_s, storm_s)
            ended_s = time.monotonic()
            while any(s.pending for s in store.outbox.stats().values()) and time.monotonic() - ended_s < 600:
                time.sleep(0.1)
            outcome.notified_after_s = time.monotonic() - ended_s
            time.sleep(0.5)  # the broker's last messages to the collector
            _judge(outcome, store, receiver, list(messages), counted.lines)
        return outcome
    finally:
        sink_threads.stop(5.0)
        store.close()
        receiver.close()
        alerts_log.removeHandler(counted)
        broker.kill()


class _Lines(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.lines = 0

    def emit(self, _: logging.LogRecord) -> None:
        self.lines += 1


def _play(store: Store, sink_threads: SinkThreads, streams: int, calm_s: int, storm_s: int) -> Outcome:
    first = WARM_ROWS + calm_s
    fleet = Fleet(streams, range(first, first + storm_s), first + storm_s + calm_s + 6)
    known = plants.known_stream(zero=float(np.log(4.0)), offset=float(np.log(5.0)))
    names = [topic.decode().partition("/")[2] for topic in fleet.topics]
    profile = plants.profile(("a",), window=3, streams=dict.fromkeys(names, known), warmup_rows=6)
    rule = AlertRule(keep_firing_for_s=3.0)
    group = plants.group(profile=profile, alert=rule, max_streams=streams)
    loop = Loop(
        fleet, Groups("storm", [group]), store, Metrics(time.time),  # type: ignore[arg-type]
        arrived=time.time, now=time.time, monotonic=time.monotonic, sleep=time.sleep, snapshot_every_s=5.0,
    )  # fmt: skip
    lag: dict[str, list[float]] = {"calm": [], "storm": []}
    took, worst, began_s = [], 0, time.monotonic()
    while fleet.row < fleet.rows:
        row, at_s = fleet.row, time.monotonic()
        report = loop.turn(0.25)
        if report is None:
            continue
        took.append(time.monotonic() - at_s)
        if report.transitions:
            sink_threads.wake()
        worst += sum(t.state == "firing" and t.sequence == 0 for t in report.transitions)
        if row >= WARM_ROWS and loop.lag_s is not None:
            lag["calm" if row < first else "storm"].append(loop.lag_s)
    passed_s = time.monotonic() - began_s
    return Outcome(streams, streams * fleet.rows / passed_s, lag, {}, 0, worst, 0.0, 0, took, [])


def _judge(
    outcome: Outcome, store: Store, receiver: Receiver, messages: list[tuple[str, bytes, bool]], lines: int
) -> None:
    history = store.alerts.history(10 * outcome.streams)
    outcome.stored, outcome.log_lines = len(history), lines
    outcome.requests = dict(receiver.sizes)
    expected, wrong = {alert.transition.id for alert in history}, outcome.wrong
    if len(expected) != outcome.streams or any(a.transition.state != "resolved" for a in history):
        wrong.append(f"{len(expected)} alerts are stored, of {outcome.streams}")
    for path in ("/webhook", "/am/api/v2/alerts"):
        for state in ("firing", "resolved"):
            if receiver.notified[path][state] != expected:
                wrong.append(f"{path}: {len(receiver.notified[path][state])} {state}, not {len(expected)}")
    events: Counter[tuple[str, str]] = Counter()
    states: dict[str, str] = {}
    for topic, payload, _ in messages:
        said = json.loads(payload)
        if topic.endswith("/event"):
            events[said["id"], said["state"]] += 1
        else:
            states[topic] = said["state"]
    outcome.requests["mqtt events"] = [len(events)]
    if {i for i, _ in events} != expected or len(events) != 2 * len(expected) or set(states.values()) != {"resolved"}:
        wrong.append(f"mqtt: {len(events)} events, {Counter(states.values())} states")
    if receiver.disorder:
        wrong.append(f"{receiver.disorder} ends were notified before their beginnings")
    if max(len(n) for n in receiver.sizes.values()) > outcome.streams / 10 + 60:
        wrong.append("a receiver got more notifications than a tenth of the alerts")
    if outcome.log_lines > outcome.streams / 10 + 60:
        wrong.append(f"{outcome.log_lines} lines in the log")


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, default=10_000)
    parser.add_argument("--calm", type=int, default=5, help="seconds before the storm, and after it")
    parser.add_argument("--storm", type=int, default=20, help="seconds that every stream stays bad")
    asked = parser.parse_args()
    logging.getLogger("streamae").addHandler(logging.NullHandler())
    logging.getLogger("streamae").propagate = False
    with tempfile.TemporaryDirectory() as folder:
        outcome = storm(Path(folder), asked.streams, asked.calm, asked.storm)
    if max(outcome.lag_s["storm"]) > 1.0:
        outcome.wrong.append("the intake fell behind by more than a second")
    print("\n".join(outcome.lines()))
    return 1 if outcome.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
