"""Seeds of the simulator, in parts that the workers of a run can share: see `seeds.py`."""

import pytest

from tests.faults.seeds import PARTS, check_part


@pytest.mark.parametrize("part", range(PARTS), ids="part-{}".format)  # parts are spread over workers: conftest.py
def test_no_seed_breaks_a_promise(part: int) -> None:
    """Whatever happens in whatever order: nothing lost uncounted, doubled, invented or delivered out of order."""
    check_part(part)
