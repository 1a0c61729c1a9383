"""What the tests want beside the Python packages of the `dev` extra, and how it comes onto this machine.

    python tests/installed.py programs   brings programs by apt-get: on Debian or Ubuntu, as root, or by sudo
    python tests/installed.py            brings Python packages into this environment, says in one line what is missing

What is there is not asked for: a machine that has everything needs no network. Where something stays missing its tests
are skipped; in CI (`CI=true`) that is an error, here and in every test that is skipped for want of it.
"""

import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
SBIN = "/usr/sbin:/usr/local/sbin:/opt/homebrew/sbin"
# Why a test may be skipped in CI too: what no installation changes.
NATURAL = (
    "torch sees no CUDA device here",
    "a log is never away",
    "mounting a tmpfs needs root",
    "this processor has neither AVX2 nor AVX-512",
)


@dataclass(frozen=True)
class Program:
    """A program under any of these names, the Debian packages that bring it, and what is not tested without it."""

    names: tuple[str, ...]
    packages: tuple[str, ...]
    tests: str

    def is_there(self) -> bool:
        return any(find(name) for name in self.names)


@dataclass(frozen=True)
class Package:
    """Python packages of an extra of pyproject.toml, by the module or program that shows that one is there."""

    extra: str
    module: str
    tests: str

    def is_there(self) -> bool:
        beside = shutil.which(self.module, path=str(Path(sys.executable).parent))
        return beside is not None or importlib.util.find_spec(self.module) is not None


PROGRAMS = (
    Program(("cc", "gcc"), ("gcc", "libc6-dev"), "the native kernel"),
    Program(("openssl",), ("openssl",), "TLS"),
    Program(("mosquitto",), ("mosquitto",), "whatever needs a broker"),
    Program(("mosquitto_pub",), ("mosquitto-clients",), "the README's own commands"),
    Program(("promtool",), ("prometheus",), "Prometheus and its rules"),
    Program(("alertmanager", "prometheus-alertmanager"), ("prometheus-alertmanager",), "Alertmanager"),
    Program(("chromium", "chromium-browser"), ("chromium",), "the page in a browser"),
    Program(("systemd-analyze",), ("systemd",), "the systemd unit"),
)
PACKAGES = (
    Package("lint", "hadolint", "the Dockerfile"),
    Package("lint", "check-jsonschema", "the compose file"),
    Package("lint", "kubernetes-validate", "the Kubernetes manifest"),
    Package("parquet", "pyarrow", "Parquet recordings"),
    Package("dev", "matplotlib", "plots"),
)


def find(name: str) -> str | None:
    """Return where a program is, also where only root's PATH leads."""
    return shutil.which(name) or shutil.which(name, path=SBIN)


def python_packages() -> tuple[str, ...]:
    """Return what Debian leaves out of Python: what makes the environment, and Python.h for the native kernel."""
    environment = () if importlib.util.find_spec("ensurepip") else ("python3-venv",)
    headers = () if (Path(sysconfig.get_path("include")) / "Python.h").exists() else ("python3-dev",)
    return environment + headers


def root_prefix() -> list[str] | None:
    """Return what a command is run behind to be root without asking anybody; None where we may not."""
    if os.geteuid() == 0:
        return []
    sudo = shutil.which("sudo")
    may = sudo and subprocess.run([sudo, "-n", "true"], capture_output=True, check=False).returncode == 0
    return [str(sudo), "-n"] if may else None


def bring_programs() -> None:
    """Install what is missing by apt-get, where that may be; says nothing of what could not be."""
    packages = [package for program in PROGRAMS if not program.is_there() for package in program.packages]
    packages += python_packages()
    apt, prefix = shutil.which("apt-get"), root_prefix() if packages else None
    if apt is None or prefix is None:
        return
    print(f"bringing {', '.join(packages)} for the tests (tests/installed.py)", flush=True)
    quiet = ["-q", "-o", "Acquire::Retries=1", "-o", "Acquire::http::Timeout=20", "-o", "DPkg::Lock::Timeout=60"]
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}

    def run(*command: str) -> bool:
        return subprocess.run([*prefix, apt, *quiet, *command], env=env, check=False).returncode == 0

    run("update")
    install = ("install", "-y", "--no-install-recommends")
    if not run(*install, *packages):  # one that this release does not have must not cost the others
        for package in packages:
            run(*install, package)


def bring_packages() -> None:
    """Install the extras of which something is missing, each by itself."""
    import tomllib

    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for extra in dict.fromkeys(one.extra for one in PACKAGES if not one.is_there()):
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--retries", "1", *extras[extra]]
        subprocess.run(command, check=False)
    importlib.invalidate_caches()


def missing() -> list[tuple[str, str]]:
    """Return what is not there: what is not tested for want of it, and how to get it."""
    programs = [(p.tests, f"apt-get install {' '.join(p.packages)}") for p in PROGRAMS if not p.is_there()]
    return programs + [(p.tests, f"pip install '.[{p.extra}]'") for p in PACKAGES if not p.is_there()]


def complaint(lacks: Iterable[tuple[str, str]]) -> str:
    """Return the line that says it."""
    return "NOT TESTED here: " + "; ".join(f"{tests} ({how})" for tests, how in lacks)


def is_ci() -> bool:
    """Return whether this is CI, where nothing may be missing."""
    return os.environ.get("CI", "").lower() in {"1", "true"}


def main(arguments: list[str]) -> int:
    """Bring what may be brought; returns the exit code."""
    if arguments == ["programs"]:
        bring_programs()
        return 0
    bring_packages()
    lacks = missing()
    if lacks:
        print(complaint(lacks), flush=True)
    return 1 if lacks and is_ci() else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
