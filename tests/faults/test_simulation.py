"""Seeds in a loop: no promise is broken under any of them, and every planted mistake is found soon."""

import logging
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.simulation import BUGS, ViolationError, simulate

SEEDS_TO_CATCH = 500


@pytest.fixture
def folder() -> Iterator[Path]:
    """Give a folder in memory where there is one: no seed waits for a disk."""
    shm = Path("/dev/shm")
    made = Path(tempfile.mkdtemp(dir=shm if shm.is_dir() else None))
    logging.disable(logging.CRITICAL)  # thousands of crashes, each with its warnings
    yield made
    logging.disable(logging.NOTSET)
    shutil.rmtree(made)


@pytest.mark.parametrize(
    "seeds", [pytest.param(40), pytest.param(5000, marks=[pytest.mark.long, pytest.mark.timeout(7200)])]
)
def test_no_seed_breaks_a_promise(folder: Path, seeds: int) -> None:
    """Whatever happens in whatever order: nothing lost uncounted, doubled, invented or told out of order."""
    crashes = told = sessions = 0
    for seed in range(seeds):
        world = simulate(folder / str(seed), seed)
        crashes, told, sessions = crashes + world.crashes, told + len(world.told), sessions + world.broker.losses
        shutil.rmtree(folder / str(seed))
    print(f"\n{seeds} seeds: {crashes} crashes, {sessions} lost sessions, {told} transitions told, 0 violations")
    assert crashes > seeds
    assert told > seeds
    assert sessions > seeds // 10


@pytest.mark.parametrize("from_seed", [pytest.param("known"), pytest.param("first", marks=pytest.mark.long)])
@pytest.mark.parametrize("bug", BUGS)
def test_a_planted_mistake_is_found(folder: Path, bug: str, from_seed: str) -> None:
    """The control: the same seeds, with one mistake in the code around the core, break a promise before long.

    The long run starts at seed 0; the short one at a seed that is known to find the mistake.
    """
    first = BUGS[bug] if from_seed == "known" else 0
    for seed in range(first, first + SEEDS_TO_CATCH):
        try:
            simulate(folder / str(seed), seed, bug)
        except ViolationError as violation:
            print(f"\n{bug}: found by seed {seed}: {str(violation)[:100]}")
            return
        finally:
            shutil.rmtree(folder / str(seed))
    pytest.fail(f"{bug} went unnoticed for {SEEDS_TO_CATCH} seeds")
