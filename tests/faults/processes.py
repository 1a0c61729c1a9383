"""The processes of the black box: daemons to start and kill, and a publisher that keeps its pace."""

import contextlib
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from tests.brokers import wait_until

ROOT = Path(__file__).parent.parent.parent


class Zygote:
    """Forks daemons out of one prepared process; see zygote.py."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.zygote"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT,
        )  # fmt: skip

    def ask(self, **asked: Any) -> int | None:
        assert self._process.stdin
        assert self._process.stdout
        with self._lock:
            self._process.stdin.write(json.dumps(asked) + "\n")
            self._process.stdin.flush()
            answer: int | None = json.loads(self._process.stdout.readline())
            return answer

    def close(self) -> None:
        self._process.kill()
        self._process.wait()


class Daemon:
    """One daemon of `config` at a time. With a zygote it is a fork of that, else `python -m streamae.cli run`."""

    def __init__(self, config: Path, page: int, zygote: Zygote | None = None, variant: str = "plain") -> None:
        self.config, self.page, self.variant = config, page, variant
        self._zygote = zygote
        self._process: subprocess.Popen[bytes] | None = None
        self.pid: int | None = None
        self.env: dict[str, str] = {}
        self.log = config.parent / "daemon.log"

    def start(self) -> "Daemon":
        if self._zygote:
            self.pid = self._zygote.ask(config=str(self.config), log=str(self.log), variant=self.variant, env=self.env)
            return self
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "streamae.cli", "run", "-c", str(self.config)], stdout=log, stderr=log, cwd=ROOT
            )
        self.pid = self._process.pid
        return self

    def signal(self, number: int) -> None:
        assert self.pid
        os.kill(self.pid, number)

    def ended(self) -> int | None:
        """The exit code, negative for a signal; None while it runs."""
        assert self.pid
        code = self._zygote.ask(ended=self.pid) if self._zygote else self._process and self._process.poll()
        if code is not None:
            self.pid = None
        return code

    def wait(self, timeout_s: float = 60.0) -> int:
        """Return the exit code, negative for a signal."""
        found: list[int] = []

        def end() -> bool:
            code = self.ended()
            found.extend([] if code is None else [code])
            return code is not None

        wait_until(end, timeout_s, f"the daemon ends: {self.log}")
        return found[0]

    def kill(self) -> None:
        if self.pid:
            self.signal(signal.SIGKILL)
            code = self.wait()
            assert code in {-signal.SIGKILL, 0, 70}, f"exit {code}: {self.lines()[-2000:]}"

    def stop(self) -> int:
        self.signal(signal.SIGTERM)
        return self.wait()

    def get(self, path: str) -> tuple[int, str]:
        """Ask the daemon's page; (0, why) while nobody answers."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.page}{path}", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError as error:
            return 0, str(error)

    def streams(self) -> dict[str, dict[str, Any]]:
        status, text = self.get("/api/v1/streams?limit=1000")
        return {one["stream"]: one for one in json.loads(text)["streams"]} if status == 200 else {}

    def metric(self, name: str) -> float:
        """The sum over all labels of a metric; NaN where there is none."""
        status, text = self.get("/metrics")
        lines = text.splitlines() if status == 200 else []
        found = [float(x.rsplit(" ", 1)[1]) for x in lines if x.startswith((f"{name} ", f"{name}{{"))]
        return sum(found) if found else float("nan")

    def wait_ready(self, timeout_s: float = 90.0) -> None:
        wait_until(lambda: self.get("/readyz")[0] == 200, timeout_s, f"ready: {self.log}")

    def lines(self) -> str:
        return self.log.read_text(errors="replace") if self.log.exists() else ""


class Publisher:
    """Publishes rows at a pace, QoS 1, from a thread of its own, through restarts of the broker; `sent` is in order.

    So is what the broker gets: after a lost connection nothing new is sent before what was under way has come through.
    On a machine that is too busy it falls behind its pace: no more is under way than there are packet ids.
    """

    UNDER_WAY_MAX = 20_000

    def __init__(self, port: int, source: Iterator[tuple[str, str]], per_s: float = 1000.0) -> None:
        self.sent: list[tuple[str, str]] = []
        self._source, self._per_s = source, per_s
        self._stopping, self._cut = threading.Event(), threading.Event()
        self._client = paho.Client(
            CallbackAPIVersion.VERSION2, client_id="publisher", clean_session=False, protocol=paho.MQTTv311
        )
        self._client.max_inflight_messages_set(1000)
        self._client.max_queued_messages_set(0)
        self._client.reconnect_delay_set(1, 1)
        self._confirmed = 0

        def confirm(*_: object) -> None:
            self._confirmed += 1

        self._client.on_publish = confirm
        self._client.on_disconnect = lambda *_: self._cut.set()
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> "Publisher":
        self._thread.start()
        return self

    def _run(self) -> None:
        began_s, count = time.monotonic(), 0
        while not self._stopping.is_set():
            due = int((time.monotonic() - began_s) * self._per_s)
            if self._cut.is_set() and self._client.is_connected() and self._confirmed >= len(self.sent):
                self._cut.clear()
            if not self._cut.is_set():
                room = self.UNDER_WAY_MAX - (len(self.sent) - self._confirmed)
                for topic, payload in itertools.islice(self._source, max(0, min(due - count, room))):
                    self._client.publish(topic, payload, 1)
                    self.sent.append((topic, payload))
                count = max(count, due)
            self._stopping.wait(0.01)

    def stop(self) -> list[tuple[str, str]]:
        """Stop, wait until the broker has everything, and return what was sent."""
        self._stopping.set()
        self._thread.join()
        wait_until(lambda: self._confirmed >= len(self.sent), 300, "the broker has taken everything")
        self.close()
        return self.sent

    def close(self) -> None:
        self._stopping.set()
        with contextlib.suppress(Exception):
            self._client.disconnect()
        self._client.loop_stop()
