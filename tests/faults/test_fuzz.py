"""Whatever bytes come from outside, what reads them says what is wrong with them, and raises nothing else."""

import itertools
from pathlib import Path

import pytest

from tests.faults import fuzz_campaign
from tests.faults.fuzz import TARGETS, Outcome, best_engine, hunt


@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.parametrize(
    "seconds", [pytest.param(0.7), pytest.param(60, marks=[pytest.mark.long, pytest.mark.timeout(600)])]
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


def test_a_campaign_goes_on_where_it_was_interrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An interruption costs the slice that was going on; what was found is kept, and each target has its part."""
    turns = itertools.count(1)

    def slice_of(folder: Path, name: str, seconds: float, *, seed: int) -> Outcome:
        if (turn := next(turns)) == 4:
            raise KeyboardInterrupt
        return Outcome(name, "atheris", 10, seconds, "ValueError: x, from b'y'" if turn == 2 else "", 100 + turn)

    monkeypatch.setattr(fuzz_campaign, "hunt_in", slice_of)
    with pytest.raises(KeyboardInterrupt):
        fuzz_campaign.campaign(tmp_path, ["web", "wire"], 100.0, 10.0)
    done = fuzz_campaign.campaign(tmp_path, ["web", "wire"], 100.0, 10.0)
    assert sum(one.seconds for one in done.values()) == 100
    assert {one.seconds for one in done.values()} == {50}
    assert sum(one.inputs for one in done.values()) == 100
    assert (done["web"].uncaught, done["wire"].uncaught) == (0, 1)
    assert done["web"].coverage > 101
