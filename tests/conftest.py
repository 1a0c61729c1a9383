"""Fixtures for every room: real brokers, a breakable network, certificates. See brokers.py for what they can do."""

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

os.environ.setdefault("OMP_NUM_THREADS", "1")  # two threads spinning on two busy cores make every test slower

from tests import brokers

# How long an example takes says how busy the machine is, and nothing about what it tests.
settings.register_profile("ours", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("ours")


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
