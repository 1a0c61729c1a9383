"""The control of the simulator: every mistake that is planted in the code around the core is found soon."""

import pytest

from tests.faults.seeds import SEEDS_TO_CATCH, first_to_catch
from tests.faults.simulation import BUGS


@pytest.mark.parametrize("bug", BUGS)
def test_a_planted_mistake_is_found(bug: str) -> None:
    """The same seeds, from the first on, with one mistake, break a promise within 500."""
    seed = first_to_catch(bug)
    print(f"\n{bug}: found by seed {seed}")
    assert seed is not None, f"{bug} went unnoticed for {SEEDS_TO_CATCH} seeds"
