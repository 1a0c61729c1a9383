"""Seeds of the simulator in a loop, and how often each fault came up in them."""

import logging
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults.simulation import ViolationError, simulate

SEEDS = 2000  # in `make test`
SEEDS_LONG = 20_000  # in `make test-long`, others than these
PARTS = 4  # tests that share them, so that workers can play them side by side
SEEDS_TO_CATCH = 500


@dataclass
class Played:
    """What became of some seeds: `faults` in all of them, and in how many seeds each (`seeds_with`)."""

    seeds: int = 0
    messages: int = 0
    delivered: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    seeds_with: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)

    def table(self) -> str:
        lines = [f"{self.seeds} seeds, {self.messages} messages, {self.delivered} transitions delivered"]
        return "\n".join(
            lines + [f"  {n:7d} in {self.seeds_with[k]:5d} seeds: {k}" for k, n in self.faults.most_common()]
        )


@contextmanager
def memory() -> Iterator[Path]:
    """A folder in memory where there is one, so that no seed waits for a disk; and no log of thousands of crashes."""
    shm = Path("/dev/shm")
    made = Path(tempfile.mkdtemp(dir=shm if shm.is_dir() else None))
    logging.disable(logging.CRITICAL)
    try:
        yield made
    finally:
        logging.disable(logging.NOTSET)
        shutil.rmtree(made)


def play(seeds: Iterable[int], bug: str = "") -> Iterator[tuple[int, Played]]:
    """Play seed after seed; give what is known after each."""
    played = Played()
    with memory() as folder:
        for seed in seeds:
            try:
                world = simulate(folder / str(seed), seed, bug)
                played.faults += world.happened
                played.seeds_with += Counter(dict.fromkeys(world.happened, 1))
                played.messages += len(world.broker.published)
                played.delivered += len(world.delivered)
            except ViolationError as violation:
                played.violations.append(f"seed {seed}: {violation}")
            finally:
                shutil.rmtree(folder / str(seed))
            played.seeds += 1
            yield seed, played


def play_all(seeds: Iterable[int]) -> Played:
    played = Played()
    for _, played in play(seeds):  # noqa: B007
        pass
    return played


def first_to_catch(bug: str, seeds: Iterable[int] = range(SEEDS_TO_CATCH)) -> int | None:
    """The first seed that finds a planted mistake; None where none does."""
    return next((seed for seed, played in play(seeds, bug) if played.violations), None)


def check(seeds: range) -> None:
    """Play these seeds; every fault must have come up in them."""
    played = play_all(seeds)
    print(f"\n{played.table()}")
    assert not played.violations, played.violations[:3]
    assert played.seeds == len(seeds)
    for fault in FAULTS:
        often = played.seeds // (1000 if fault in RARE else 400)
        assert played.seeds_with[fault] > often or not often, f"{fault} hardly ever came up: {played.table()}"


FAULTS = (
    "acknowledgements lost", "clock step", "connection lost", "crash after commit", "crash before commit",
    "crash between turns", "crash delivered", "disk full", "orderly stop", "redelivery", "session lost", "sink refuses",
    "sink takes and hangs up",
)  # fmt: skip
RARE = ("crash delivered",)  # in four of a thousand seeds
