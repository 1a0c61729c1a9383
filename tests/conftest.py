"""Fixtures for every room: real brokers, a breakable network, certificates. See brokers.py for what they can do."""

import os
import sys
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

os.environ.setdefault("OMP_NUM_THREADS", "1")  # two threads spinning on two busy cores make every test slower

from tests import brokers, installed, quick

settings.load_profile("ours")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--quick", action="store_true", help="the core's tests without torch; see tests/quick.py")


def pytest_configure(config: pytest.Config) -> None:
    if config.option.quick:
        settings.load_profile("quick")
        sys.modules["torch"] = None  # type: ignore[assignment]  # importing it raises ImportError


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    if not config.option.quick or (collection_path.is_file() and collection_path.suffix != ".py"):
        return None
    paths = [collection_path] if collection_path.is_file() else collection_path.rglob("test_*.py")
    return None if any(map(quick.is_quick, paths)) else True


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object:
    """With `--dist loadfile` a file stays with one worker, for its fixtures; but parts of a test are spread.

    xdist's own groups (`--dist loadgroup`) do nothing under pytest 9.
    """
    from xdist.scheduler import LoadScopeScheduling

    class Files(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return nodeid if "[part-" in nodeid else nodeid.split("::", maxsplit=1)[0]

    return Files(config, log) if config.getvalue("dist") == "loadfile" else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.option.quick:
        full = [item for item in items if item.get_closest_marker("full")]
        config.hook.pytest_deselected(items=full)
        items[:] = [item for item in items if item not in full]


def refused(report: pytest.TestReport | pytest.CollectReport) -> None:
    """Make a failure of what was skipped for want of something that can be installed."""
    why = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    if report.skipped and not hasattr(report, "wasxfail") and not any(reason in why for reason in installed.NATURAL):
        report.outcome = "failed"
        report.longrepr = f"in CI nothing may be missing, and this was skipped. {why}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if installed.is_ci():
        refused(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    if installed.is_ci():
        refused(report)
    return report


def pytest_runtest_setup() -> None:
    """Undo what a model of an earlier test did to the process: it flushes denormals, which hypothesis wants to draw."""
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_flush_denormal(False)


if TYPE_CHECKING:
    from tests.models import TrainedPumps


@pytest.fixture
def make_mosquitto(tmp_path: Path) -> Iterator[Callable[..., brokers.Mosquitto]]:
    """Give a maker of started brokers: keyword arguments are those of `brokers.Mosquitto`."""
    if brokers.MOSQUITTO is None:
        pytest.skip("mosquitto is not installed: apt-get install mosquitto")
    started: list[brokers.Mosquitto] = []

    def make(**options: object) -> brokers.Mosquitto:
        broker = brokers.Mosquitto(tmp_path / f"mosquitto-{len(started)}", **options)
        started.append(broker)
        return broker.start()

    yield make
    for broker in started:
        broker.kill()


@pytest.fixture
def mosquitto(make_mosquitto: Callable[..., brokers.Mosquitto]) -> brokers.Mosquitto:
    """Give a broker of the test's own on a free loopback port, anonymous, without persistence."""
    return make_mosquitto()


@pytest.fixture
def make_proxy() -> Iterator[Callable[[int], brokers.Proxy]]:
    """Give a maker of TCP proxies in front of a port; see `brokers.Proxy` for the faults they can play."""
    started: list[brokers.Proxy] = []

    def make(target_port: int) -> brokers.Proxy:
        started.append(brokers.Proxy(target_port))
        return started[-1]

    yield make
    for proxy in started:
        proxy.close()


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a folder with a CA, server, client and wrong certificates made for this run."""
    return brokers.make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> "TrainedPumps":
    """Give a small model of four-channel pumps, trained once for the whole run; see `models.TrainedPumps`."""
    from tests import models  # imports torch: seconds, for tests that want it only

    return models.train_pumps(tmp_path_factory.mktemp("trained"))
