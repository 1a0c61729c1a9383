"""Starts daemons as real processes in a fraction of a second: the libraries are imported once, each daemon is a fork.

    python -m tests.faults.zygote      requests and answers are lines of JSON on standard input and output

`variant` changes the child before it runs: the negative controls live here, not in the product.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path

import torch

from streamae.core.types import Batch, Report
from streamae.daemon import assembly, life
from streamae.errors import StreamaeError
from streamae.model import runtime
from streamae.sources.mqtt import MqttSource
from streamae.store.store import Store

assert torch
assert runtime
SLOW_DISK_S = 0.02


class SlowStore(Store):
    """A disk that takes its time, so that a kill finds the moments before the commit, and between it and the ack."""

    def commit(self, batch: Batch, report: Report, now_s: float, snapshot: bytes | None = None) -> None:
        time.sleep(SLOW_DISK_S)
        super().commit(batch, report, now_s, snapshot)
        time.sleep(SLOW_DISK_S)


class HastySource(MqttSource):
    """The negative control: acknowledges as it takes, before anything is committed."""

    def take(self, limit: int, timeout_s: float) -> Batch:
        batch = super().take(limit, timeout_s)
        self.ack(batch)
        return batch


class BlindStore(SlowStore):
    """The negative control of redelivery: takes every message for a new one."""

    def seen(self, batch: Batch):  # type: ignore[no-untyped-def]
        return batch.dup & False


def vary(variant: str) -> None:
    if variant != "plain":
        life.Store = SlowStore
    if variant == "hasty":
        assembly.MqttSource = HastySource
    if variant == "blind":
        life.Store = BlindStore


def start(config: Path, log: Path, variant: str) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = 70
    try:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        null = os.open(os.devnull, os.O_RDONLY)
        for fd, mine in ((null, 0), (out, 1), (out, 2)):
            os.dup2(fd, mine)
        vary(variant)
        code = life.run(config)
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
            answer = start(Path(asked["config"]), Path(asked["log"]), asked["variant"])
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
