"""Seeds of the simulator, a quarter of all: see `seeds.py`."""

from tests.faults.seeds import check_part


def test_no_seed_breaks_a_promise() -> None:
    """Whatever happens in whatever order: nothing lost uncounted, doubled, invented or told out of order."""
    check_part(2)
