"""A full disk, an orderly stop and a wrong clock: nothing is acknowledged that is not stored, nothing is lost."""

import contextlib
import resource
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.brokers import Mosquitto, free_port, wait_until
from tests.faults import plant
from tests.faults.collector import Collector
from tests.faults.kill import account, settle, torment
from tests.faults.processes import Daemon, Publisher, Zygote


class Disk:
    """A small file system that can be filled: a tmpfs where we may mount one, else a limit on the size of files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True)
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(folder)], capture_output=True, check=False
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


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    made = Disk(tmp_path / "plant" / "state")
    yield made
    made.close()


@pytest.mark.parametrize("full_s", [pytest.param(3), pytest.param(60, marks=pytest.mark.long)])
def test_a_full_disk_under_load_stops_the_intake_and_nothing_else(
    tmp_path: Path, disk: Disk, mosquitto: Mosquitto, model: plant.Model, zygote: Zygote, full_s: int
) -> None:
    """While the disk is full nothing is acknowledged; it goes on by itself, even if killed, and loses nothing."""
    collector, page = Collector(), free_port()
    config = plant.write_config(tmp_path / "plant", model, mosquitto.port, collector.port, page)
    daemon = Daemon(config, page, zygote).start()
    publisher = None
    try:
        daemon.wait_ready()
        publisher = Publisher(mosquitto.port, plant.messages()).start()
        wait_until(lambda: daemon.metric("streamae_rows_total") > 0)
        for killed in (False, True):
            disk.fill(daemon)
            wait_until(lambda: daemon.metric("streamae_store_writable") == 0, what="it says so")
            stored = len(plant.journalled(config))
            time.sleep(full_s)
            assert daemon.get("/readyz")[0] == 503
            assert daemon.get("/healthz")[0] == 200, "waiting for space is not hanging"
            assert len(plant.journalled(config)) == stored
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
        outcome = account(config, collector, sent, 2)
        print(f"\n{'tmpfs' if disk.mounted else 'RLIMIT_FSIZE'}, full for {full_s} s twice: {outcome}")
        assert outcome.clean, outcome
        assert outcome.expected
    finally:
        if publisher:
            publisher.close()
        daemon.kill()
        collector.close()


def test_sigterm_under_load_drains_and_exits_0(
    tmp_path: Path, mosquitto: Mosquitto, model: plant.Model, zygote: Zygote
) -> None:
    """An orderly stop in the middle of 1,000 messages a second loses nothing, doubles nothing and ends with 0."""
    outcome = torment(tmp_path / "plant", mosquitto, model, zygote, cycles=3, seed=3, tidy=True)
    print(f"\n{outcome}")
    assert outcome.clean, outcome
