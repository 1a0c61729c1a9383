"""A fleet of single sensors of very different level and scale, one model trained on a few of them, a real broker.

    python -m tests.bench.fleet [--streams 10000] [--seconds 300] [--rate 1]

A publisher in a process of its own sends each sensor's value once a row at QoS 0, spread evenly over the row. At
`--rate 1` payloads are plain numbers and their time is the arrival; faster rates send JSON with event time, a second a
row. In the last fifth, faults begin in ten sensors that the model never saw. Printed: messages sent, received and
dropped, memory and its slope after the warm-up, CPU a message, and the alerts. Exit code 1 unless nothing was dropped,
memory stayed flat, the ten were caught and no other sensor alarmed.
"""

import argparse
import json
import multiprocessing
import os
import socket
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from streamae.core.report import Transition
from streamae.tools.broker import Broker
from streamae.tools.simulate.faults import Fault
from streamae.tools.simulate.plants import Fleet
from tests.brokers import free_port
from tests.services import Daemon

SLOTS = 50  # portions that a row's messages are sent in
CONFIG = """\
instance: fleet
state: {{dir: state, durability: {durability}}}
mqtt: {{host: 127.0.0.1, port: {broker}, protocol: "5", qos: 0, session_expiry: 0s}}
web: {{listen: "127.0.0.1:{page}"}}
log: {{level: warning}}
streams:
  fleet:
    topics: [{topic}]
    model: {{path: {model}, sha256: {sha256}}}
    max_streams: {streams}
    warmup_rows: {warmup_rows}
    alert: {{for: {for_s:g}s, keep_firing_for: 30s}}
sinks: [{{type: log}}]
"""
NUMBER = '{topic: "sensors/{sensor}/{channel}", payload: number}'
JSON = '{topic: "sensors/{sensor}", payload: json, values: {value: v}, time: t}'


@dataclass(frozen=True)
class Trial:
    """What is run; rows are seconds of event time, and `rate` of them are sent in a second."""

    streams: int = 10_000
    rows: int = 300
    rate: float = 1.0
    trained: int = 20
    train_rows: int = 1200
    faulty: int = 10
    day_s: float = 40.0  # the warm-up below sees two days
    warmup_rows: int = 80
    window: int = 48
    learn_windows: int = 40
    for_s: float = 5.0
    fault_rows: int = 40
    durability: str = "process"
    seed: int = 7

    @property
    def ready_row(self) -> int:
        """The row from which a sensor that the model never saw is scored."""
        return self.warmup_rows + self.window + self.learn_windows

    def faults(self) -> list[Fault]:
        """The faults, one second after the other, from seconds after the plant's start."""
        kinds = (("spike", 4.0), ("oscillation", 3.0), ("drift", 8.0), ("leak", 4.0), ("spike", -4.0))
        rng = np.random.default_rng(self.seed)
        chosen = rng.choice(np.arange(self.trained, self.streams), self.faulty, replace=False)
        start_s = self.train_rows + self.rows - self.fault_rows - self.faulty
        return [
            Fault(kinds[i % len(kinds)][0], f"s{number:05d}", start_s + i, self.fault_rows, kinds[i % len(kinds)][1])
            for i, number in enumerate(chosen.tolist())
        ]


def plant_of(trial: Trial) -> Fleet:
    """The whole fleet, before its first row."""
    return Fleet(trial.streams, seed=trial.seed, day_s=trial.day_s)


def publish(trial: Trial, port: int, pipe: Connection) -> None:
    """The publisher's process: waits for a word on the pipe, publishes everything, and says what it did."""
    plant = plant_of(trial)
    for _ in range(trial.train_rows):
        plant.rows(1)
    for fault in trial.faults():
        plant.inject(fault)
    topics = [f"sensors/{name}{'/value' if trial.rate == 1 else ''}".encode() for name in plant.names]
    heads = [len(topic).to_bytes(2, "big") + topic for topic in topics]
    sock = socket.create_connection(("127.0.0.1", port))
    sock.sendall(b"\x10\x11\x00\x04MQTT\x04\x02\x00\x00\x00\x05fleet")
    assert sock.recv(4) == b"\x20\x02\x00\x00", "the broker refuses the publisher"
    pipe.send("ready")
    pipe.recv()
    plant.start_s = time.time() - plant.elapsed_s - (0 if trial.rate == 1 else trial.rows)
    begin_s, late_s, sent = time.monotonic(), 0.0, 0
    for row in range(trial.rows):
        frames = frames_of(heads, plant, with_time=trial.rate != 1)
        for slot in range(SLOTS):
            wait_s = begin_s + (row + slot / SLOTS) / trial.rate - time.monotonic()
            if wait_s > 0:
                time.sleep(wait_s)
            late_s = max(late_s, -wait_s)
            part = frames[slot::SLOTS]
            sock.sendall(b"".join(part))
            sent += len(part)
    sock.sendall(b"\xe0\x00")
    sock.close()
    pipe.send({"sent": sent, "late_s": late_s, "seconds": time.monotonic() - begin_s, "cpu_s": time.process_time()})


def frames_of(heads: list[bytes], plant: Fleet, *, with_time: bool) -> list[bytes]:
    """The PUBLISH frames of the plant's next row."""
    time_s, values, _ = plant.rows(1)
    texts = map(repr, values[0, :, 0].tolist())
    if with_time:
        at_s = float(time_s[0])
        texts = (f'{{"t":{at_s!r},"v":{text}}}' for text in texts)
    bodies = [head + text.encode() for head, text in zip(heads, texts, strict=True)]
    assert max(map(len, bodies)) < 128
    return [bytes((0x30, len(body))) + body for body in bodies]


@dataclass
class Outcome:
    """What happened; `problems` says what should not have."""

    sent: int = 0
    received: float = 0
    dropped: dict[str, float] = field(default_factory=dict)
    streams: float = 0
    windows: float = 0
    cpu_s: float = 0
    broker_cpu_s: float = 0
    publisher_late_s: float = 0
    latency_s: float = 0
    rss_mb: list[tuple[float, float]] = field(default_factory=list)
    rss_slope_mb_per_min: float = 0
    rss_rise: float = 0
    caught: dict[str, str] = field(default_factory=dict)
    missed: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def cpu_s(pid: int) -> float:
    """CPU seconds of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def rss_mb(pid: int) -> float:
    """Resident memory of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def train_model(trial: Trial, folder: Path) -> tuple[Path, str]:
    """Train on the first sensors of the fleet; return the model file and its digest."""
    from streamae.tools.simulate.publish import write_plant
    from streamae.training.train import TrainConfig, train

    plant = plant_of(trial)
    paths = write_plant(plant, trial.train_rows, folder / "history", labelled=False, only=plant.names[: trial.trained])
    config = TrainConfig(window=trial.window, learn_windows=trial.learn_windows, warmup_rows=trial.warmup_rows)
    model = folder / "fleet.pt"
    done = train(paths, model, None, 0, config, now=time.time, registry=folder / "models.json")
    return model, done.digest


def run(trial: Trial, folder: Path, say: Callable[[str], object] = print) -> Outcome:
    """Train, run everything, and hold it against what must be so."""
    model, digest = train_model(trial, folder)
    say(f"trained on {trial.trained} of {trial.streams} streams; scored from row {trial.ready_row} of {trial.rows} on")
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    with Broker(monotonic=time.monotonic, sleep=time.sleep, kind="mosquitto") as broker:
        publisher = context.Process(target=publish, args=(trial, broker.port, theirs))
        publisher.start()
        page = free_port()
        topic = NUMBER if trial.rate == 1 else JSON
        named = {**asdict(trial), "broker": broker.port, "page": page, "model": model, "sha256": digest}
        daemon = Daemon(folder / "daemon", CONFIG.format(topic=topic, **named), page).start()
        try:
            daemon.wait_for("/healthz", 60)
            assert ours.poll(120) and ours.recv() == "ready"
            while daemon.metric("streamae_source_subscribed") != 1:
                time.sleep(0.05)
            outcome = watch(trial, daemon, broker._process.pid, ours, say)
            assert daemon.stop(60) == 0, daemon.log()
        except BaseException:
            say(daemon.log()[-3000:])
            raise
        finally:
            daemon.kill()
            publisher.kill()
            publisher.join()
    judge_alerts(trial, folder / "daemon" / "state", outcome)
    judge(trial, outcome)
    return outcome


def watch(trial: Trial, daemon: Daemon, broker_pid: int, pipe: Connection, say: Callable[[str], object]) -> Outcome:
    """Let the publisher go; sample memory until everything has arrived; read the counters."""
    outcome, pid = Outcome(), daemon.process.pid
    before = cpu_s(pid), cpu_s(broker_pid)
    begin_s = time.monotonic()
    pipe.send("go")
    every_s = max(0.5, 10.0 / trial.rate)
    while not pipe.poll(every_s):
        outcome.rss_mb.append(((time.monotonic() - begin_s) * trial.rate, rss_mb(pid)))
        age = daemon.metric("streamae_messages_received_total")
        say(f"row {outcome.rss_mb[-1][0]:5.0f}: RSS {outcome.rss_mb[-1][1]:6.1f} MB, {age:.0f} messages received")
    said: dict[str, Any] = pipe.recv()
    outcome.sent, outcome.publisher_late_s = said["sent"], said["late_s"]
    deadline_s = time.monotonic() + 20
    while daemon.metric("streamae_messages_received_total") < outcome.sent and time.monotonic() < deadline_s:
        time.sleep(0.2)
    outcome.cpu_s, outcome.broker_cpu_s = cpu_s(pid) - before[0], cpu_s(broker_pid) - before[1]
    outcome.received = daemon.metric("streamae_messages_received_total")
    outcome.streams = daemon.metric("streamae_streams", group="fleet")
    outcome.windows = daemon.metric("streamae_windows_scored_total")
    waited = [daemon.metric(f"streamae_arrival_to_commit_seconds_{part}") for part in ("sum", "count")]
    outcome.latency_s = waited[0] / waited[1]
    for line in daemon.get("/metrics")[1].splitlines():
        if line.startswith(("streamae_messages_dropped_total", "streamae_messages_lost_total")):
            name, _, count = line.rpartition(" ")
            if float(count):
                outcome.dropped[name.partition("{")[2].rstrip("}")] = float(count)
    return outcome


def judge_alerts(trial: Trial, state: Path, outcome: Outcome) -> None:
    """Read the alerts of the stopped daemon's store."""
    from streamae.store.store import Store

    store = Store.open(state, "process", time.time)
    try:
        alerts: list[Transition] = [alert.transition for alert in store.alerts.history(100_000)]
    finally:
        store.close()
    start_s = {fault.stream: fault for fault in trial.faults()}
    for alert in alerts:
        fault = start_s.get(alert.stream)
        line = f"{alert.score / alert.threshold:.1f} x threshold"
        if fault is None:
            outcome.others.append(f"{alert.stream} ({line})")
        else:
            outcome.caught[alert.stream] = f"{fault.kind} {fault.magnitude:+g}: {line}"
    outcome.missed = [f"{name} ({fault.kind})" for name, fault in start_s.items() if name not in outcome.caught]


def judge(trial: Trial, outcome: Outcome) -> None:
    """Hold the outcome against what must be so."""
    after = [(row, mb) for row, mb in outcome.rss_mb if row > trial.ready_row + 10]
    if len(after) >= 3:
        rows, mb = np.array(after).T
        outcome.rss_slope_mb_per_min = float(np.polyfit(rows / trial.rate / 60, mb, 1)[0])
        third = max(1, len(mb) // 3)
        outcome.rss_rise = float(np.median(mb[-third:]) / np.median(mb[:third]) - 1)
    wants = {
        "messages were lost or invented": outcome.received != outcome.sent,
        "messages were dropped": bool(outcome.dropped),
        "not every stream was found": outcome.streams != trial.streams,
        "memory grows after the warm-up": outcome.rss_rise > 0.03,
        "faults were missed": bool(outcome.missed),
        "healthy streams alarmed": bool(outcome.others),
        "windows were not scored": outcome.windows
        < 0.95 * trial.streams * (trial.rows - trial.warmup_rows - trial.window),
    }
    outcome.problems = [problem for problem, wrong in wants.items() if wrong]


def report(trial: Trial, outcome: Outcome) -> str:
    """The outcome as text."""
    o = outcome
    us = 1e6 * o.cpu_s / max(o.received, 1)
    lines = [
        f"messages     sent {o.sent}, received {o.received:.0f}, dropped {o.dropped or 0}; publisher late by at most "
        f"{o.publisher_late_s:.2f} s",
        f"streams      {o.streams:.0f}; windows scored {o.windows:.0f}",
        f"CPU          daemon {o.cpu_s:.1f} s, {us:.1f} us a message; broker {o.broker_cpu_s:.1f} s",
        f"latency      arrival to commit {1000 * o.latency_s:.0f} ms in the mean",
        f"memory       {o.rss_mb[-1][1]:.0f} MB at the end; after the warm-up {o.rss_slope_mb_per_min:+.2f} MB/min, "
        f"rise {100 * o.rss_rise:+.1f} %",
        f"faults       caught {len(o.caught)} of {trial.faulty}"
        + (f"; missed {', '.join(o.missed)}" if o.missed else ""),
        *(f"             {name}: {what}" for name, what in sorted(o.caught.items())),
        f"other alarms {len(o.others)}" + (f": {', '.join(o.others[:10])}" if o.others else ""),
        f"verdict      {'; '.join(o.problems) if o.problems else 'everything holds'}",
    ]
    return "\n".join(lines)


def main() -> int:
    """Run it and print."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--streams", type=int, default=10_000)
    arguments.add_argument("--seconds", type=int, default=300, help="rows of each stream, a second apart")
    arguments.add_argument("--rate", type=float, default=1.0, help="rows sent in a second")
    arguments.add_argument("--durability", choices=["process", "power", "none"], default="process")
    arguments.add_argument("--json", type=Path, help="write the outcome there, too")
    chosen = arguments.parse_args()
    trial = Trial(streams=chosen.streams, rows=chosen.seconds, rate=chosen.rate, durability=chosen.durability)
    with tempfile.TemporaryDirectory() as folder:
        outcome = run(trial, Path(folder), lambda line: print(line, flush=True))
    print(report(trial, outcome))
    if chosen.json:
        chosen.json.write_text(json.dumps(asdict(outcome), indent=2))
    return 1 if outcome.problems else 0


if __name__ == "__main__":
    sys.exit(main())
