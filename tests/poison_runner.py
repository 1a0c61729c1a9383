"""A supervisor of one daemon: starts it again whenever it dies, as systemd does, and says how each one ended.

    python -m tests.poison_runner CONFIG MARK [--forget]

Each daemon is a fork, and kills itself in native code's manner when a batch holds a payload with MARK in it. With
`--forget`, the control, what the last one was at is forgotten before each start. Ends when a daemon ended well.
"""

import os
import signal
import sys
from pathlib import Path

from streamae.core.pipeline import Pipeline
from streamae.daemon.run import run
from streamae.model import runtime

assert runtime

STARTS_MAX = 7


def deadly(mark: bytes) -> None:
    """Let a pipeline die, without a word, of what has the mark."""
    step = Pipeline.step

    def step_or_die(self, batch, *rest):  # type: ignore[no-untyped-def]
        if any(mark in payload for payload in batch.payloads):
            os.kill(os.getpid(), signal.SIGKILL)
        return step(self, batch, *rest)

    Pipeline.step = step_or_die  # type: ignore[method-assign]


def main(config: Path, mark: str, *, forget: bool) -> None:
    deadly(mark.encode())
    for _ in range(STARTS_MAX):
        if forget:
            (config.parent / "state" / "attempt").unlink(missing_ok=True)
        pid = os.fork()
        if pid == 0:
            os._exit(run(config))
        print(f"started {pid}", flush=True)
        _, status = os.waitpid(pid, 0)
        print(f"ended {os.waitstatus_to_exitcode(status)}", flush=True)
        if status == 0:
            return


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], forget=sys.argv[3:] == ["--forget"])
