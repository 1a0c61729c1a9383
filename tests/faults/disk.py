"""A disk that is full for a while, under load: a daemon that waits for it, and one that is killed meanwhile."""

import contextlib
import resource
import signal
import subprocess
import time
from pathlib import Path

from tests.brokers import Mosquitto, free_port, wait_until
from tests.faults import plant
from tests.faults.collector import Collector
from tests.faults.kill import Outcome, account, settle
from tests.faults.processes import Daemon, Publisher, Zygote


class Disk:
    """A small file system that can be filled: a tmpfs where we may mount one, else a limit on the size of files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True)
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=96m", "tmpfs", str(folder)], capture_output=True, check=False
        )
        self.mounted = mounted.returncode == 0
        self._filler = folder / "filler"

    def fill(self, daemon: Daemon) -> None:
        """Leave no byte free."""
        if not self.mounted:
            assert daemon.pid
            resource.prlimit(daemon.pid, resource.RLIMIT_FSIZE, (1, resource.RLIM_INFINITY))
            return
        with self._filler.open("wb", buffering=0) as filler, contextlib.suppress(OSError):
            for size in (1 << 16, 1):
                with contextlib.suppress(OSError):
                    while filler.write(b"x" * size):
                        continue

    def free(self, daemon: Daemon) -> None:
        if self.mounted:
            self._filler.unlink()
        elif daemon.pid:
            resource.prlimit(daemon.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))

    def close(self) -> None:
        if self.mounted:
            subprocess.run(["umount", str(self.folder)], check=True)


def play(folder: Path, broker: Mosquitto, model: plant.Model, zygote: Zygote, full_s: float) -> tuple[str, Outcome]:
    """Fill the state's file system twice, each time for `full_s`; return how it was filled, and the account."""
    disk, collector, page = Disk(folder / "state"), Collector(), free_port()
    config = plant.write_config(folder, model, broker.port, collector.port, page)
    daemon = Daemon(config, page, zygote).start()
    publisher = None
    try:
        daemon.wait_ready()
        publisher = Publisher(broker.port, plant.messages()).start()
        wait_until(lambda: daemon.metric("streamae_rows_total") > 0)
        for killed in (False, True):
            _fill(disk, daemon, config, full_s)
            if killed:
                daemon.signal(signal.SIGKILL)
                daemon.wait()
            disk.free(daemon)
            if killed:
                daemon.start()
            daemon.wait_ready()
            assert daemon.metric("streamae_store_writable") == 1
        sent = publisher.stop()
        settle(daemon, collector, sent)
        assert daemon.stop() == 0
        return "tmpfs" if disk.mounted else "RLIMIT_FSIZE", account(config, collector, sent, 2)
    finally:
        if publisher:
            publisher.close()
        daemon.kill()
        collector.close()
        disk.close()


def _fill(disk: Disk, daemon: Daemon, config: Path, full_s: float) -> None:
    """Fill it; while it is full nothing more is stored, the daemon says so, and it does not count as hanging."""
    disk.fill(daemon)
    wait_until(lambda: daemon.metric("streamae_store_writable") == 0, what="it says so")
    stored = len(plant.journalled(config))
    time.sleep(full_s)
    assert daemon.get("/readyz")[0] == 503
    assert daemon.get("/healthz")[0] == 200, "waiting for space is not hanging"
    assert len(plant.journalled(config)) == stored
