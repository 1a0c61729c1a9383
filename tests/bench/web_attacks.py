"""What strangers on the page's port can take from the probes and from scoring, without a token.

    python -m tests.bench.web_attacks [--tree PATH_OF_ANOTHER_CHECKOUT] [--seconds 15] [--only idle,listing]

A daemon with 20,000 streams is sent 300 messages a second. Then one attack after the other runs from a process of its
own at the lowest priority, while /healthz is asked on a new connection every quarter of a second, /metrics once a
second. Printed for each attack: the longest that /healthz took (`none` where no answer came in 10 s or the answer was a
refusal), the longest of /metrics, the 99th percentile of the time from a sample to its score in units of the one
without any attack, measured turn by turn with it, and the daemon's memory. With `--tree` the code there does the same.
Exit code 1 where /healthz took a second or more, or scoring more than 1.5 times as long, with this checkout's code.
"""

import argparse
import contextlib
import http.client
import json
import os
import random
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent.parent
STREAMS = 20_000
ACTIVE = 300  # streams that send a row a second
PATIENCE_S = 10.0
ROUNDS = 3
LISTING = "GET /api/v1/streams?limit={} HTTP/1.1\r\nHost: localhost\r\n\r\n"
HELD = 300  # connections of an attack that only holds them: more than there are places
CONFIG = """\
instance: attacked
mqtt: {{host: 127.0.0.1, port: {broker}}}
web: {{listen: "127.0.0.1:{page}"}}
metrics: {{per_stream: true}}
streams:
  pumps:
    topics: [{{topic: "plant/{{pump}}", payload: json, values: {{value: v}}, time: t}}]
    model: {{path: {model}, sha256: {sha256}}}
    max_streams: 30000
sinks: []
"""


# ---- attacks: each runs until its process is ended


def hold(port: int, said: bytes, more: bytes, count: int = HELD) -> None:
    """Hold so many connections, say something on each, and a little more each second; open new ones for those lost."""
    held: list[socket.socket] = []
    while True:
        while len(held) < count:
            with contextlib.suppress(OSError):
                one = socket.create_connection(("127.0.0.1", port), timeout=5)
                one.sendall(said)
                one.setblocking(False)
                held.append(one)
        time.sleep(1.0)
        kept = []
        for one in held:
            try:
                if more:
                    one.send(more)
                if more or one.recv(1, socket.MSG_PEEK):
                    kept.append(one)
            except BlockingIOError:
                kept.append(one)
            except OSError:
                one.close()
        held = kept


def read_nothing(port: int, paths: Sequence[str], count: int = HELD) -> None:
    """Ask for much on each connection, and take nothing of it."""
    held = []
    while True:
        with contextlib.suppress(OSError):
            one = socket.socket()
            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            one.connect(("127.0.0.1", port))
            one.sendall(LISTING.format(1000).replace("/api/v1/streams?limit=1000", random.choice(paths)).encode())
            held.append(one)
        if len(held) >= count:
            held.pop(0).close()
            time.sleep(0.05)


def ask(port: int, paths: Sequence[str], clients: int = 48) -> None:
    """So many clients that ask again as soon as they have an answer; for a refusal's sake the last path."""

    def client() -> None:
        web = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        known = list(paths)
        while True:
            try:
                web.request("GET", known[0], headers={"Host": "localhost"})
                answer = web.getresponse()
                answer.read()
                if answer.status == 400 and len(known) > 1:
                    known.pop(0)
                if answer.status == 503:
                    time.sleep(0.1)
            except (OSError, http.client.HTTPException):
                web.close()
                time.sleep(0.05)

    threads = [threading.Thread(target=client, daemon=True) for _ in range(clients)]
    for thread in threads:
        thread.start()
    threads[0].join()


def churn(port: int) -> None:
    """Connect, say nonsense, leave, as fast as that goes."""
    while True:
        with contextlib.suppress(OSError):
            one = socket.create_connection(("127.0.0.1", port), timeout=5)
            one.sendall(b"\x16\x03\x01\x02\x00\x01nonsense\r\n\r\n")
            one.close()


POST = b"POST /api/v1/silences HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9000\r\n\r\n{"
GET_WITH_BODY = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9000\r\n\r\n{"
STREAM = "/api/v1/stream?group=pumps&stream=pump00009&rows=2048"
ATTACKS = {
    "idle": ("300 connections, nothing said", lambda port: hold(port, b"", b"")),
    "head": ("300 half request heads, a byte a second", lambda port: hold(port, b"GET /healthz HTTP/1.1\r\nA:", b"a")),
    "body": ("300 requests with slow bodies", lambda port: hold(port, POST, b" ")),
    "get-body": ("300 probes with slow bodies", lambda port: hold(port, GET_WITH_BODY, b" ")),
    "reader": ("300 listings that nobody takes", lambda port: read_nothing(port, ["/api/v1/streams?limit=1000"])),
    "events": ("300 streams of events that nobody takes", lambda port: read_nothing(port, ["/api/v1/events"])),
    "listing": (
        "48 clients, the longest listing",
        lambda port: ask(port, ["/api/v1/streams?limit=10000", "/api/v1/streams?limit=1000"]),
    ),
    "filter": (
        "48 clients, listings by label and name",
        lambda port: ask(port, ["/api/v1/streams?sort=name&q=9&label=pump=pump00009"]),
    ),
    "stream": ("48 clients, one stream in detail", lambda port: ask(port, [STREAM])),
    "metrics": ("48 clients, /metrics", lambda port: ask(port, ["/metrics"])),
    "healthz": ("48 clients, /healthz", lambda port: ask(port, ["/healthz"])),
    "churn": ("connections of nonsense, as fast as they come", churn),
}


# ---- the daemon, in a process of its own; imports the code of the tree that PYTHONPATH names


def serve(config: Path) -> int:
    """Run the daemon, and write for each batch when it was done and how old its newest scores were."""
    from streamae.daemon.daemon import Daemon
    from streamae.daemon.run import run

    with (config.parent / "ages").open("w", buffering=1) as ages:

        def note(report: Any) -> None:
            now_s = time.time()
            times = np.concatenate([part.verdicts.time_s for part in report.groups.values()] or [np.zeros(0)])
            if len(times):
                ages.write(json.dumps([now_s, np.round(now_s - times, 4).tolist()]) + "\n")

        def start(daemon: Daemon) -> None:
            daemon.on_report = note
            begin(daemon)

        begin, Daemon.start = Daemon.start, start  # type: ignore[method-assign]
        return run(config)


def send(broker: int) -> int:
    """One message of every stream, then a row a second of some, spread over the second."""
    import paho.mqtt.client as paho

    client = paho.Client(paho.CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
    client.max_inflight_messages_set(1000)
    client.max_queued_messages_set(0)
    client.connect("127.0.0.1", broker)
    client.loop_start()
    for stream in range(STREAMS):
        client.publish(f"plant/pump{stream:05d}", json.dumps({"t": time.time(), "v": 10.0}), 1)
    sent, began_s = 0, time.monotonic()
    while True:
        time.sleep(max(0.0, began_s + sent / ACTIVE - time.monotonic()))
        body = json.dumps({"t": time.time(), "v": 10 + random.gauss(0, 1)})
        client.publish(f"plant/pump{sent % ACTIVE:05d}", body, 1)
        sent += 1


# ---- measuring


@dataclass(frozen=True, slots=True)
class Found:
    """What one attack did; seconds, and bytes of memory."""

    healthz_s: float
    metrics_s: float
    p99_s: float
    rss: int


def probe(port: int, path: str) -> float:
    """Return how long an answer took on a connection of its own; infinite where there was none, or another than ok."""
    began_s = time.monotonic()
    try:
        web = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
        web.request("GET", path, headers={"Host": "localhost"})
        answer = web.getresponse()
        ok = answer.status == 200 and answer.read() is not None
        web.close()
    except (OSError, http.client.HTTPException):
        ok = False
    return time.monotonic() - began_s if ok else float("inf")


def watch(port: int, seconds: float, pid: int, ages: Path) -> Found:
    """Probe for some seconds, and read how old scores were meanwhile."""
    worst, rss = {"/healthz": 0.0, "/metrics": 0.0}, 0
    begin_s = time.time()
    until_s = time.monotonic() + seconds
    turn = 0
    while time.monotonic() < until_s:
        for path in ("/healthz", *(("/metrics",) if turn % 4 == 0 else ())):
            worst[path] = max(worst[path], probe(port, path))
        rss = max(rss, int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE"))
        turn += 1
        time.sleep(0.25)
    lines = [json.loads(line) for line in ages.read_text().splitlines() if line.endswith("]")]
    found = [age for at, line in lines if begin_s < at < time.time() for age in line]
    p99_s = float(np.percentile(found, 99)) if len(found) > ACTIVE else float("inf")
    return Found(worst["/healthz"], worst["/metrics"], p99_s, rss)


def joined(rounds: Sequence[Found]) -> Found:
    """The worst of all rounds; of scoring the round in the middle, for the others may be somebody else's doing."""
    p99_s = sorted(one.p99_s for one in rounds)[len(rounds) // 2]
    healthz_s, metrics_s = max(one.healthz_s for one in rounds), max(one.metrics_s for one in rounds)
    return Found(healthz_s, metrics_s, p99_s, max(one.rss for one in rounds))


@contextlib.contextmanager
def process(*arguments: str, nice: int = 0, tree: Path = ROOT) -> Iterator[subprocess.Popen[bytes]]:
    """Run this file as a program, with the code of `tree`."""
    command = [sys.executable, str(Path(__file__).resolve()), *arguments]
    environ = {**os.environ, "PYTHONPATH": str(tree)}
    with tempfile.TemporaryFile() as log:
        running = subprocess.Popen(command, env=environ, cwd=tree, stdout=log, stderr=log)
        os.setpriority(os.PRIO_PROCESS, running.pid, min(19, os.nice(0) + nice))
        try:
            yield running
        finally:
            running.terminate()
            try:
                running.wait(20)
            except subprocess.TimeoutExpired:
                running.kill()
                running.wait()


def measure(
    tree: Path, names: Sequence[str], seconds: float, model: Any, folder: Path
) -> dict[str, tuple[Found, Found]]:
    """Return for each attack what was found without it, just before, and with it."""
    from tests.brokers import Mosquitto, free_port, wait_until

    broker, port = Mosquitto(folder / "broker", verbose=False).start(), free_port()
    found = {}
    try:
        config = folder / "daemon" / "streamae.yaml"
        config.parent.mkdir()
        config.write_text(CONFIG.format(broker=broker.port, page=port, model=model.path, sha256=model.sha256))
        with process("--serve", str(config), tree=tree) as daemon:
            wait_until(lambda: probe(port, "/healthz") < PATIENCE_S or daemon.poll() is not None, what="the daemon")
            with process("--send", str(broker.port)):
                ages = config.parent / "ages"
                wait_until(lambda: ages.exists() and len(ages.read_text().splitlines()) > 20, 120, "scores")
                for name in names:
                    rounds = []
                    for _ in range(ROUNDS):  # turn by turn, so that what else the machine does is in both
                        time.sleep(1.0)
                        before = watch(port, seconds / ROUNDS, daemon.pid, ages)
                        with process("--attack", name, str(port), nice=19):
                            time.sleep(3.0)
                            rounds.append((before, watch(port, seconds / ROUNDS, daemon.pid, ages)))
                    before, after = zip(*rounds, strict=True)
                    found[name] = (joined(before), joined(after))
                    print(line(name, *found[name]), flush=True)
    finally:
        broker.kill()
    return found


def line(name: str, before: Found, found: Found) -> str:
    ratio = found.p99_s / before.p99_s
    said = [f"{one:.2f} s" if one < PATIENCE_S else "none" for one in (found.healthz_s, found.metrics_s)]
    scoring = f"{1e3 * before.p99_s:.0f} -> {1e3 * found.p99_s:.0f} ms ({ratio:.2f})" if ratio < 1e6 else "none"
    return f"| {ATTACKS[name][0]} | {' | '.join(said)} | {scoring} | {found.rss >> 20} MiB |"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tree", type=Path, action="append", default=[], help="another checkout to compare with")
    parser.add_argument("--seconds", type=float, default=15.0, help="of each attack, and without it: %(default)s")
    parser.add_argument("--only", default=",".join(ATTACKS), help="%(default)s")
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--send", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--attack", nargs=2, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.serve or asked.send or asked.attack:
        if asked.attack:
            ATTACKS[asked.attack[0]][1](int(asked.attack[1]))
        return serve(asked.serve) if asked.serve else send(asked.send)
    from tests.faults.plant import train_model

    failed = []
    with tempfile.TemporaryDirectory() as folder:
        model = train_model(Path(folder))
        for n, tree in enumerate([*asked.tree, ROOT]):
            print(f"\n{tree.name}:\n\n| attack | /healthz at worst | /metrics at worst | a score after, p99 | memory |")
            print("|---|---|---|---|---|", flush=True)
            found = measure(tree.resolve(), asked.only.split(","), asked.seconds, model, Path(folder, str(n)))
            failed = [k for k, (was, now) in found.items() if now.healthz_s >= 1 or now.p99_s > 1.5 * was.p99_s]
    print("\nfailed: " + ", ".join(failed) if failed else "\nall within bounds")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
