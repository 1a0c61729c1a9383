"""The unit, as far as systemd's tools judge it without running it, and the notify protocol as systemd hears it."""

import json
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from streamae.daemon.heartbeat import HANGS_AFTER_S
from tests import brokers
from tests.brokers import Mosquitto, wait_until
from tests.services import ROOT, Feed, NotifySocket, plant, write

UNIT = ROOT / "deploy" / "systemd" / "streamae.service"
ANALYZE = shutil.which("systemd-analyze")
needs_systemd = pytest.mark.skipif(ANALYZE is None, reason="systemd-analyze is not installed: apt-get install systemd")
EXPOSURE_MAX = 1.5
WATCHDOG_S = 1.0

# The daemon with faults that can be switched on: a model that does not return, a disk that is full, a journal of which
# a reload reads one row after another, without end.
SPOILT = """
import sys, time
from pathlib import Path
from streamae.model.runtime import TorchReconstructor
from streamae.errors import StoreError
from streamae.store.store import Store
switch = Path(sys.argv[1])
fault = lambda: switch.read_text() if switch.exists() else ""
errors, commit = TorchReconstructor.errors, Store.commit
def slow(self, *given):
    while fault() == "hang":
        time.sleep(0.02)
    return errors(self, *given)
def full(self, *given):
    if fault() == "full":
        raise StoreError("no space left on device")
    return commit(self, *given)
TorchReconstructor.errors, Store.commit = slow, full
from streamae.daemon import daemon
recover = daemon.recover
def long(store, groups, running, alive):
    while fault() == "journal":
        time.sleep(0.02)
        alive()
    while fault() == "one row":
        time.sleep(0.02)
    return recover(store, groups, running, alive)
daemon.recover = lambda store, groups, *reload: long(store, groups, *reload) if reload else recover(store, groups)
from streamae.daemon.run import run
sys.exit(run(Path(sys.argv[2])))
"""


def analyze(*arguments):
    return subprocess.run([ANALYZE, *arguments], capture_output=True, text=True, check=False)


def unit_with(folder, change=lambda text: text):
    """The unit with a program that exists here, or systemd-analyze would complain of that alone."""
    program = folder / "streamae"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    path = folder / "streamae.service"
    path.write_text(change(UNIT.read_text().replace("/opt/streamae/bin/streamae", str(program))))
    return path


@needs_systemd
def test_systemd_has_nothing_to_say_about_the_unit(tmp_path):
    """`systemd-analyze verify` says nothing at all; it does about a key that it does not know."""
    assert analyze("verify", str(unit_with(tmp_path))).stderr == ""
    spoilt = unit_with(tmp_path, lambda text: text.replace("WatchdogSec=", "WatchdogSecs="))
    assert "'WatchdogSecs'" in analyze("verify", str(spoilt)).stderr


@needs_systemd
def test_the_unit_exposes_little(tmp_path):
    """`systemd-analyze security` finds an exposure of at most 1.5; without the sandbox it finds more."""

    def exposure(change):
        said = analyze("security", "--offline=true", "--no-pager", str(unit_with(tmp_path, change)))
        return float(re.search(r"Overall exposure level for \S+: ([\d.]+)", said.stdout)[1])

    assert exposure(lambda text: text) <= EXPOSURE_MAX
    assert exposure(lambda text: re.sub(r"(?m)^(Protect|Private|SystemCallFilter).*\n", "", text)) > EXPOSURE_MAX


def test_the_unit_leaves_out_what_breaks_us():
    """No MemoryDenyWriteExecute (the LSTM kernels are compiled), no ProcSubset (metrics of the process)."""
    keys = dict(line.split("=", 1) for line in UNIT.read_text().splitlines() if re.match(r"[A-Z]\w+=", line))
    assert not {"MemoryDenyWriteExecute", "ProcSubset"} & set(keys)
    wanted = {"Type": "notify", "DynamicUser": "yes", "StateDirectory": "streamae", "RestartPreventExitStatus": "78"}
    assert {key: keys[key] for key in wanted} == wanted
    assert {"WatchdogSec", "ExecReload", "LoadCredential"} <= set(keys)


@pytest.fixture(scope="module")
def world(tmp_path_factory, trained):
    """A daemon that systemd would run, with its notify socket, its broker and a plant, and the switch of its faults."""
    if brokers.MOSQUITTO is None:
        pytest.skip("mosquitto is not installed: apt-get install mosquitto")
    folder = tmp_path_factory.mktemp("systemd")
    with tempfile.TemporaryDirectory(prefix="notify-") as short:  # a socket's path has 107 bytes at most
        notify = NotifySocket(Path(short) / "notify")
        broker = Mosquitto(folder / "broker").start()
        feed = Feed(broker.port, plant(trained)).start()
        env = {"NOTIFY_SOCKET": str(notify.path), "WATCHDOG_USEC": str(int(WATCHDOG_S * 1e6))}
        daemon = write(folder / "daemon", broker, trained)
        switch = folder / "fault"
        daemon.launch(sys.executable, "-c", SPOILT, str(switch), str(daemon.path), env=env)
        try:
            wait_until(lambda: notify.said("READY"), 60, daemon.log())
            yield daemon, notify, switch, feed
        finally:
            daemon.kill()
            feed.stop()
            broker.kill()
            notify.close()


def watchdogs(notify):
    return len(notify.said("WATCHDOG"))


def test_ready_and_watchdog(world):
    """READY comes once the daemon answers, WATCHDOG at half of systemd's interval from then on, also in silence."""
    daemon, notify, _, feed = world
    assert daemon.get("/healthz")[0] == 200
    assert notify.said("READY") == ["1"]
    assert notify.said("STATUS")[0] == "running"
    before = watchdogs(notify)
    wait_until(lambda: watchdogs(notify) >= before + 3, 20, "WATCHDOG under load")
    feed.pause()
    before = watchdogs(notify)
    wait_until(lambda: watchdogs(notify) >= before + 3, 20, "WATCHDOG in silence")
    feed.go_on()


def test_reload_is_announced_and_ended(world):
    """SIGHUP: RELOADING with the monotonic time, then READY again, for a refused configuration too."""
    daemon, notify, _, _ = world
    good = daemon.path.read_text()
    for text, status in ((good, "running"), (good + "nonsense: 1\n", "running; the last reload was refused")):
        ready, began = len(notify.said("READY")), time.monotonic()
        daemon.path.write_text(text)
        daemon.signal(signal.SIGHUP)
        wait_until(lambda: len(notify.said("READY")) > ready, 30, daemon.log())  # noqa: B023  (called at once)
        assert notify.said("STATUS")[-1] == status
        reloading = [said for _, said in notify.messages if "RELOADING" in said][-1]
        assert reloading["RELOADING"] == "1"
        assert began <= int(reloading["MONOTONIC_USEC"]) / 1e6 <= time.monotonic()
    daemon.path.write_text(good)


def test_a_reload_that_reads_a_long_journal_is_no_hang(world):
    """While rows come WATCHDOG goes on and /healthz is fine; one row that does not end is a hang like any other."""
    daemon, notify, switch, _ = world
    switch.write_text("journal")
    try:
        ready, reloads = len(notify.said("READY")), len(notify.said("RELOADING"))
        daemon.signal(signal.SIGHUP)
        wait_until(lambda: len(notify.said("RELOADING")) > reloads, 20, "RELOADING")
        fed, more = watchdogs(notify), int(2 * (HANGS_AFTER_S + 2) / WATCHDOG_S)
        wait_until(lambda: watchdogs(notify) >= fed + more, 60, "WATCHDOG for longer than /healthz would wait")
        assert daemon.get("/healthz")[0] == 200
        assert len(notify.said("READY")) == ready, "the reload goes on"
        switch.write_text("one row")
        wait_until(lambda: daemon.get("/healthz")[0] == 503, 30, "/healthz notices")
        assert "while it reloads" in daemon.get("/healthz")[1]
    finally:
        switch.unlink()
    wait_until(lambda: len(notify.said("READY")) > ready, 30, daemon.log())


def failing(daemon):
    """The names of what must be mended."""
    return [one["name"] for one in json.loads(daemon.get("/api/v1/status")[1])["conditions"]]


def test_a_full_disk_is_waiting_and_not_hanging(world):
    """While commits fail the loop waits for space: WATCHDOG goes on, /healthz is fine, /readyz and the metric tell."""
    daemon, notify, switch, _ = world
    switch.write_text("full")
    try:
        wait_until(lambda: daemon.metric("streamae_store_writable") == 0, 20, daemon.log())
        before = watchdogs(notify)
        wait_until(lambda: watchdogs(notify) >= before + 2, 20, "WATCHDOG while the disk is full")
        assert daemon.get("/healthz")[0] == 200
        assert "intake is paused: " in daemon.get("/readyz")[1]
        assert "state" in failing(daemon)
    finally:
        switch.unlink()
    wait_until(lambda: daemon.metric("streamae_store_writable") == 1, 20, "it recovers by itself")
    assert "state" not in failing(daemon)
    assert daemon.log().count("the state cannot be written") == 2, "its begin and its end"


def test_a_hung_model_stops_the_watchdog(world):
    """A model that does not return: the page still answers, but WATCHDOG stays out, so systemd would restart us, and
    /healthz fails within ten seconds and names the thread.
    """
    daemon, notify, switch, _ = world

    def silent():
        before = watchdogs(notify)
        time.sleep(3 * WATCHDOG_S)
        return watchdogs(notify) == before

    wait_until(lambda: not silent(), 30, "the watchdog is fed")
    switch.write_text("hang")
    try:
        wait_until(silent, 30, "WATCHDOG stays out for three of its periods")
        before = watchdogs(notify)
        assert daemon.get("/metrics")[0] == 200
        wait_until(lambda: daemon.get("/healthz")[0] == 503, 30, "/healthz notices too")
        said = daemon.get("/healthz")[1]
        assert re.search(r"thread MainThread hangs: no progress for \d+ s while it runs the pipeline", said), said
        assert HANGS_AFTER_S < 10
    finally:
        switch.unlink()
    wait_until(lambda: watchdogs(notify) > before, 20, "and comes back with progress")


def test_stopping_is_said(world):
    """SIGTERM: STOPPING, then exit 0. (Last: it ends the daemon of this file.)"""
    daemon, notify, _, _ = world
    assert daemon.stop() == 0
    wait_until(lambda: notify.said("STOPPING") == ["1"], 5)


STUB_PYTHON = """#!/bin/sh
# A Python that makes an environment whose pip only notes what it was asked for.
[ "$1" = -c ] && exec {python} "$@"
mkdir -p "$3/bin"
printf '#!/bin/sh\necho "$@" >> "{log}"\n' > "$3/bin/pip"
chmod +x "$3/bin/pip"
"""


def install(folder: Path, python: str) -> subprocess.CompletedProcess[str]:
    env = {"PATH": "/usr/bin:/bin", "DESTDIR": str(folder / "machine"), "PYTHON": python}
    script = ROOT / "deploy" / "systemd" / "install.sh"
    return subprocess.run([str(script)], env=env, capture_output=True, text=True, timeout=60, check=False)


def test_the_install_script_brings_what_the_unit_wants_and_keeps_what_is_there(tmp_path):
    """Program, unit, configuration and credential stand where the unit looks; a second run overwrites no configuration.

    The environment is a stub here: what a real pip installs is seen by following deploy/README.md.
    """
    stub = tmp_path / "python"
    stub.write_text(STUB_PYTHON.format(python=sys.executable, log=tmp_path / "pip.log"))
    stub.chmod(0o755)
    done = install(tmp_path, str(stub))
    assert done.returncode == 0, done.stderr
    machine, unit = tmp_path / "machine", UNIT.read_text()
    program = re.search(r"ExecStart=(/\S+/)streamae run -c (\S+)", unit)
    assert (machine / program[1].removeprefix("/")).is_dir()
    config = machine / program[2].removeprefix("/")
    credential = machine / re.search(r"LoadCredential=\S+:/(\S+)", unit)[1]
    assert config.read_text() == (ROOT / "deploy" / "streamae.yaml").read_text()
    assert (config.stat().st_mode & 0o777, credential.stat().st_mode & 0o777) == (0o644, 0o600)
    assert (machine / "etc/systemd/system/streamae.service").read_text() == unit
    assert f"{ROOT}[fast]" in (tmp_path / "pip.log").read_text()
    config.write_text("mine")
    credential.write_text("secret")
    assert install(tmp_path, str(stub)).returncode == 0
    assert (config.read_text(), credential.read_text()) == ("mine", "secret")


def test_the_install_script_refuses_a_python_that_will_not_do(tmp_path):
    old = tmp_path / "python2"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    done = install(tmp_path, str(old))
    assert done.returncode == 1
    assert "is not Python 3.11 to 3.13" in done.stderr
    assert not (tmp_path / "machine").exists()
