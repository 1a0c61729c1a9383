"""`make quick` is all tests of the core and nothing that wants torch."""

import ast
import subprocess
import sys

import pytest

from tests import quick
from tests.services import ROOT


def imported(path):
    """The modules that a file imports when it is imported itself."""
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module


def run_quick(path):
    """Run what `make quick` would, of a file or folder that is not among our tests."""
    plugins = ("-p", "tests.conftest", "-p", "no:cacheprovider", "-n", "0")
    command = [sys.executable, "-m", "pytest", "--quick", *plugins, f"--rootdir={ROOT}", str(path)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_what_tests_the_core_alone_is_run_by_make_quick():
    """A test file that imports nothing of the package but the core belongs to it: none is forgotten."""
    alone = []
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        ours = [name for name in imported(path) if name.split(".")[0] == "streamae"]
        if ours and all(name.startswith("streamae.core") for name in ours):
            alone.append(path)
    assert len(alone) >= 10
    assert [str(path) for path in alone if not quick.is_quick(path)] == []


@pytest.mark.parametrize(
    ("line", "passes"), [("import torch", False), ("def test(): import torch", False), ("def test(): ...", True)]
)
def test_make_quick_refuses_torch(tmp_path, line, passes):
    """A quick file that imports torch, at once or in a test, fails there, and one that does not passes."""
    path = tmp_path / "test_one.py"
    path.write_text(f"import pytest\npytestmark = pytest.mark.quick\n{line}\n")
    done = run_quick(path)
    assert (done.returncode == 0) == passes, done.stdout + done.stderr
    assert passes or "torch" in done.stdout


def test_make_quick_leaves_other_files_and_full_tests_out(tmp_path):
    """A file that does not say so is not imported, and a test that is marked `full` is not run."""
    (tmp_path / "test_other.py").write_text("raise RuntimeError\n")
    (tmp_path / "test_one.py").write_text(
        "import pytest\npytestmark = pytest.mark.quick\n@pytest.mark.full\ndef test_full(): assert 0\ndef test(): ...\n"
    )
    done = run_quick(tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed, 1 deselected" in done.stdout
