"""Whatever bytes come from outside, what reads them says what is wrong with them, and raises nothing else."""

import pytest

from tests.faults.fuzz import TARGETS, best_engine, hunt


@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.parametrize(
    "seconds", [pytest.param(1.5), pytest.param(60, marks=[pytest.mark.long, pytest.mark.timeout(600)])]
)
def test_no_bytes_raise(name: str, seconds: float) -> None:
    """Payloads, topics and templates, configurations, journal rows, requests: changed ones are read or refused."""
    outcome = hunt(name, seconds, "hypothesis" if seconds < 10 else best_engine())
    print(f"\n{outcome.line()}")
    assert outcome.inputs
    assert not outcome.fault


@pytest.mark.parametrize(
    ("name", "seconds"),
    [("topics", 60), ("journal", 60), *(pytest.param(name, 120, marks=pytest.mark.long) for name in TARGETS)],
)
def test_a_planted_mistake_is_found(name: str, seconds: float) -> None:
    """The control: a mistake that one in fifty of the changed inputs reveals, of those that are accepted."""
    outcome = hunt(name, seconds, "hypothesis" if seconds < 100 else best_engine(), planted=True)
    print(f"\n{outcome.line()}")
    assert "PlantedError" in outcome.fault
