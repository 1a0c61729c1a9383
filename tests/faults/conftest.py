"""Fixtures of the fault tests: a model made in two seconds, daemons that start in a fraction of one."""

from collections.abc import Iterator

import pytest

from tests.faults import plant
from tests.faults.collector import Collector
from tests.faults.processes import Zygote


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> plant.Model:
    return plant.train_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="session")
def zygote() -> Iterator[Zygote]:
    made = Zygote()
    yield made
    made.close()


@pytest.fixture
def collector() -> Iterator[Collector]:
    made = Collector()
    yield made
    made.close()
