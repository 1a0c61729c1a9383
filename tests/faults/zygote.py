"""Starts daemons as real processes in a fraction of a second: the libraries are imported once, each daemon is a fork.

    python -m tests.faults.zygote      requests and answers are lines of JSON on standard input and output

`variant` changes the child before it runs: the negative controls live here, not in the product.
"""

import json
import os
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import torch

from streamae.core.report import Report
from streamae.core.types import Batch
from streamae.daemon import build, daemon
from streamae.daemon.heartbeat import Heartbeat
from streamae.daemon.loop import Loop
from streamae.daemon.run import run
from streamae.errors import StreamaeError
from streamae.ingest.mqtt import MqttSource
from streamae.ingest.source import Accepted
from streamae.model import runtime
from streamae.store.store import Store

assert torch
assert runtime
SLOW_DISK_S = 0.02


class SlowStore(Store):
    """A disk that takes its time, so that a kill finds the moments before the commit, and between it and the ack."""

    before_s = after_s = SLOW_DISK_S

    def commit(self, batch: Batch, report: Report, now_s: float, snapshot: bytes | None = None) -> None:
        time.sleep(self.before_s)
        super().commit(batch, report, now_s, snapshot)
        time.sleep(self.after_s)


class HastySource(MqttSource):
    """The negative control: acknowledges as it takes, before anything is committed."""

    def take(self, limit: int, timeout_s: float) -> Accepted:
        accepted = super().take(limit, timeout_s)
        self.ack(accepted)
        return accepted


class SlowerStore(SlowStore):
    """What is acknowledged too early waits long enough for the commit that most kills come between."""

    before_s = 5 * SLOW_DISK_S


class BlindStore(SlowStore):
    """The negative control of redelivery: takes every message for a new one.

    It waits so long before it acknowledges that most kills come between.
    """

    after_s = 10 * SLOW_DISK_S

    def seen(self, batch: Batch):  # type: ignore[no-untyped-def]
        return batch.dup & False


class Trouble:
    """Kills or hangs one thread, from within, once the file `trouble` exists."""

    def __init__(self, kind: str, file: Path) -> None:
        self._kind, self._file = kind, file

    def __call__(self) -> None:
        if self._file.exists():
            if self._kind == "dies":
                raise SystemExit
            time.sleep(3600)


def trouble(thread: str, kind: str, file: Path) -> None:
    """Meet the loop where it begins a turn, every other thread where it would give a sign of life."""
    troubled, beat, turn = Trouble(kind, file), Heartbeat.beat, Loop.turn

    def beat_or_not(self: Heartbeat, busy_s: float = 0.0) -> None:
        if self.name == thread:
            troubled()
        beat(self, busy_s)

    def turn_or_not(self: Loop, timeout_s: float) -> Report | None:
        troubled()
        return turn(self, timeout_s)

    Heartbeat.beat = beat_or_not
    if thread == "loop":
        Loop.turn = turn_or_not


def vary(variant: str, folder: Path) -> None:
    if ":" in variant:
        trouble(*variant.split(":"), folder / "trouble")
        return
    if variant != "plain":
        daemon.Store = SlowStore
    if variant == "hasty":
        build.MqttSource, daemon.Store = HastySource, SlowerStore
    if variant == "blind":
        daemon.Store = BlindStore


def start(config: Path, log: Path, variant: str, env: Mapping[str, str]) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = 70
    os.environ.update(env)
    try:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        null = os.open(os.devnull, os.O_RDONLY)
        for fd, mine in ((null, 0), (out, 1), (out, 2)):
            os.dup2(fd, mine)
        vary(variant, config.parent)
        code = run(config)
    except StreamaeError as error:
        os.write(2, f"{error}\n".encode())
        code = error.exit_code
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stderr.flush()
        os._exit(code)


def main() -> None:
    for line in sys.stdin:
        asked = json.loads(line)
        answer: int | None
        if "ended" in asked:
            pid, status = os.waitpid(asked["ended"], os.WNOHANG)
            answer = os.waitstatus_to_exitcode(status) if pid else None
        else:
            answer = start(Path(asked["config"]), Path(asked["log"]), asked["variant"], asked.get("env", {}))
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
