"""The API's types as a user's type checker sees them: a good program passes `mypy --strict`, mistakes are found."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import streamae
from tests.models import write_pumps

ROOT = Path(__file__).parents[2]
TYPED = Path(__file__).parent / "typed"


def run(command, folder):
    return subprocess.run([str(word) for word in command], cwd=folder, capture_output=True, text=True, check=False)


@pytest.mark.timeout(900)  # without a cache, mypy reads torch first
def test_mypy_accepts_a_user_and_finds_mistakes():
    """`mypy --strict` says nothing of user.py, and in mistakes.py exactly the errors that its comments want."""
    # The project's settings, and so its cache: they are strict, and leave out optional libraries without types.
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file", "pyproject.toml", "--no-error-summary"]
    done = run([*command, *sorted(TYPED.glob("*.py"))], ROOT)
    found = set(re.findall(r"(?m)^\S*?(\w+\.py):(\d+): error: .*\[([\w-]+)\]$", done.stdout))
    assert "error" in done.stdout, done.stderr
    wanted = {
        ("mistakes.py", str(n), code)
        for n, line in enumerate((TYPED / "mistakes.py").read_text().splitlines(), 1)
        for code in re.findall(r"# wants ([\w-]+)", line)
    }
    assert len(wanted) == 8
    assert found == wanted, done.stdout


def test_the_package_says_that_it_is_typed():
    """`py.typed` lies in the package and is among its data: without it, a user's checker sees nothing of all this."""
    assert (Path(streamae.__file__).parent / "py.typed").is_file()
    assert '"py.typed"' in (ROOT / "pyproject.toml").read_text()


def test_the_users_program_runs(tmp_path):
    """The program that is checked also does what it says: trains, loads, scores in bulk and row by row."""
    file = write_pumps(tmp_path, rows=500)[1][0]
    arguments = [file, tmp_path / "pumps.pt", tmp_path / "models.json"]
    done = run([sys.executable, "-W", "ignore", TYPED / "user.py", *arguments], tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert re.fullmatch(rf"{streamae.__version__} \d+ \w+ True \['learning', 'learning'\] \d+\n", done.stdout)
