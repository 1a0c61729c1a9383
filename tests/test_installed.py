"""What the tests need is brought where it may be, its absence is said in one line, and in CI it is an error."""

import os
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tests import installed
from tests.services import ROOT

# In the place of apt-get, which no test may call: it writes down what it is asked for, and "installs" programs.
APT = """#!/bin/sh
echo "$@" >> {log}
case "$*" in *install*) for name in {brings}; do ln -sf /bin/true {folder}/$name; done;; esac
exit {code}
"""
NAMES = sorted({program.names[0] for program in installed.PROGRAMS})


class Machine:
    """A machine on which nothing but these programs is on the PATH, for `tests/installed.py`."""

    def __init__(self, folder: Path, programs: list[str]) -> None:
        self.folder, self.log = folder, folder / "apt.log"
        for name in programs:
            (folder / name).symlink_to("/bin/true")

    def with_apt(self, brings: list[str], code: int = 0) -> "Machine":
        apt = self.folder / "apt-get"
        apt.write_text(APT.format(log=self.log, brings=" ".join(brings), folder=self.folder, code=code))
        apt.chmod(apt.stat().st_mode | stat.S_IXUSR)
        (self.folder / "ln").symlink_to(str(shutil.which("ln")))
        (self.folder / "sudo").write_text('#!/bin/sh\nshift\nexec "$@"\n')
        (self.folder / "sudo").chmod(0o755)
        return self

    def run(self, *arguments: str, ci: str = "") -> tuple[int, str]:
        """Exit code and output of the script; nothing is brought from a package index."""
        env = {"PATH": str(self.folder), "PIP_NO_INDEX": "1", "CI": ci}
        script = f"import sys; sys.path.insert(0, '.'); from tests import installed; installed.SBIN = ''; " \
                 f"installed.python_packages = lambda: (); sys.exit(installed.main({list(arguments)}))"  # fmt: skip
        command = [sys.executable, "-c", script]
        done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout

    def asked(self) -> str:
        return self.log.read_text() if self.log.exists() else ""


def test_where_everything_is_there_nobody_is_asked(tmp_path):
    """An offline machine that has all programs calls no apt-get and says nothing."""
    machine = Machine(tmp_path, NAMES).with_apt([])
    assert machine.run("programs") == (0, "")
    assert machine.asked() == ""


def test_only_what_is_missing_is_brought(tmp_path):
    """One update and one install of the packages of the missing programs; then nothing is missing."""
    machine = Machine(tmp_path, [name for name in NAMES if name not in {"promtool", "chromium"}])
    machine.with_apt(["promtool", "chromium"])
    code, said = machine.run("programs")
    assert (code, said.count("\n")) == (0, 1)
    update, install = machine.asked().splitlines()
    assert update.endswith("update")
    assert install.endswith("install -y --no-install-recommends prometheus chromium")
    assert machine.run("programs") == (0, "")


def test_what_debian_leaves_out_of_python_is_brought(tmp_path, monkeypatch):
    """A new Debian machine has Python without ensurepip, so no environment, and without Python.h."""
    monkeypatch.setattr(installed.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(installed.sysconfig, "get_path", lambda name: str(tmp_path))
    assert installed.python_packages() == ("python3-venv", "python3-dev")
    monkeypatch.undo()
    (tmp_path / "Python.h").touch()
    monkeypatch.setattr(installed.sysconfig, "get_path", lambda name: str(tmp_path))
    monkeypatch.setattr(installed.importlib.util, "find_spec", lambda name: object())
    assert installed.python_packages() == ()


def test_a_package_that_there_is_not_does_not_cost_the_others(tmp_path):
    """Where the install of all fails, each is tried by itself."""
    machine = Machine(tmp_path, [name for name in NAMES if name not in {"promtool", "chromium"}])
    machine.with_apt([], code=100)
    assert machine.run("programs")[0] == 0
    assert [line.split()[-1] for line in machine.asked().splitlines()] == [
        "update", "chromium", "prometheus", "chromium",
    ]  # fmt: skip


@pytest.mark.parametrize("ci", ["", "true"])
def test_what_cannot_be_brought_is_one_line_and_in_ci_an_error(tmp_path, ci):
    """Without apt-get the line names what is not tested and how to get it; with CI=true the run ends there."""
    machine = Machine(tmp_path, [name for name in NAMES if name not in {"mosquitto", "chromium"}])
    assert machine.run("programs") == (0, "")
    code, said = machine.run(ci=ci)
    assert said.startswith(
        "NOT TESTED here: whatever needs a broker (apt-get install mosquitto); the page in a browser"
    )
    assert said.count("\n") == 1
    assert code == (1 if ci else 0)


SKIPS = """
import pytest

@pytest.fixture
def broker():
    pytest.skip("mosquitto is not installed")

def test_wants_a_tool(): pytest.skip("mosquitto is not installed")
def test_wants_a_module(): pytest.importorskip("no_such_module_at_all")
def test_wants_a_fixture(broker): pass
@pytest.mark.skipif(True, reason="promtool is not installed")
def test_is_marked(): pass
def test_natural(): pytest.skip("torch sees no CUDA device here")
def test_known(): pytest.xfail("known")
def test_plain(): pass
"""
WANTING = {"test_wants_a_tool", "test_wants_a_module", "test_wants_a_fixture", "test_is_marked", "test_file.py"}


@pytest.mark.parametrize("ci", ["", "true"])
def test_in_ci_a_skip_for_want_of_something_fails(tmp_path, ci):
    """Whether a test, its fixture or its whole file is skipped; what no installation changes is skipped there too."""
    (tmp_path / "test_one.py").write_text(SKIPS)
    (tmp_path / "test_file.py").write_text("import pytest\npytest.importorskip('no_such_module_at_all')\n")
    plugins = ("-p", "tests.conftest", "-p", "no:cacheprovider", "-n", "0", "-rA", "--continue-on-collection-errors")
    command = [sys.executable, "-m", "pytest", *plugins, f"--rootdir={ROOT}", str(tmp_path)]
    env = {**os.environ, "CI": ci}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    failed = [line.split(" - ")[0] for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR "))]
    assert {re.split("::|[ /]", one)[-1] for one in failed} == (WANTING if ci else set()), done.stdout
    assert "1 passed" in done.stdout
    assert "1 xfailed" in done.stdout
    assert f"{1 if ci else 1 + len(WANTING)} skipped" in done.stdout
