"""Seeds of the simulator, in parts that the workers of a run can share: see `seeds.py`."""

import pytest

from tests.faults.seeds import PARTS, SEEDS, SEEDS_LONG, check


@pytest.mark.parametrize("part", range(PARTS), ids="part-{}".format)  # parts are spread over workers: conftest.py
def test_no_seed_breaks_a_promise(part: int) -> None:
    """Whatever happens in whatever order: nothing lost uncounted, doubled, invented or delivered out of order."""
    check(range(part, SEEDS, PARTS))


@pytest.mark.long
@pytest.mark.parametrize("part", range(PARTS), ids="part-{}".format)
def test_no_seed_of_many_breaks_a_promise(part: int) -> None:
    """The same, for ten times as many seeds that `make test` has not played."""
    check(range(SEEDS + part, SEEDS + SEEDS_LONG, PARTS))
