"""The fault table of the README: runs every fault and prints what became of it.

python -m tests.faults.table [--cycles 25] [--rounds 3] [--seeds 100]
"""

import argparse
import logging
import shutil
import tempfile
import warnings
from pathlib import Path

from tests.brokers import Mosquitto
from tests.faults import plant
from tests.faults.broker_faults import Outcome, play_all
from tests.faults.kill import torment
from tests.faults.processes import Zygote
from tests.faults.simulation import BUGS, ViolationError, simulate

ROW = "| {} | {} | {} | {} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in (("--cycles", 25), ("--rounds", 3), ("--seeds", 100)):
        parser.add_argument(name, type=int, default=value)
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as name:
        folder, zygote = Path(name), Zygote()
        try:
            model = plant.train_model(folder)
            print(ROW.format("fault", "behaviour", "cycles", "lost"))
            print(ROW.format("---", "---", "---", "---"))
            _kills(folder, model, zygote, asked.cycles)
            for outcome in play_all(folder / "cells", model, zygote, asked.rounds).values():
                _cell(outcome)
        finally:
            zygote.close()
    _seeds(asked.seeds)


def _kills(folder: Path, model: plant.Model, zygote: Zygote, cycles: int) -> None:
    said = {
        "slow": ("`kill -9` at 1,000 messages/s, webhook fails 15 %", "resumes windows, warm-up and open alerts"),
        "tidy": ("SIGTERM at 1,000 messages/s", "drains, exit 0"),
        "hasty": ("*control: acknowledged before the commit*", "caught by the same harness"),
    }
    for variant, (fault, behaviour) in said.items():
        broker = Mosquitto(folder / f"broker-{variant}").start()
        tidy, kind = variant == "tidy", "slow" if variant == "tidy" else variant
        try:
            outcome = torment(
                folder / variant, broker, model, zygote, cycles=cycles, seed=1, variant=kind, tidy=tidy,
                patience_s=5 if variant == "hasty" else 90,
            )  # fmt: skip
        finally:
            broker.kill()
        lost = f"{outcome.lost} of {outcome.expected} alerts, {outcome.spurious} spurious, {outcome.doubled} doubled"
        print(ROW.format(fault, behaviour, cycles, lost), flush=True)


def _cell(outcome: Outcome | Exception) -> None:
    if isinstance(outcome, Exception):
        print(ROW.format("?", str(outcome), "", ""))
        return
    healed = f"heals in {max(outcome.heals_s):.1f} s at most" + (", exit 69 first" if outcome.exits else "")
    lost = f"{outcome.true_loss} of {outcome.sent} messages"
    if outcome.sessions_lost:
        lost += f" that only the broker held; said {outcome.sessions_lost} times"
    print(ROW.format(outcome.cell, healed, len(outcome.heals_s), lost), flush=True)


def _seeds(seeds: int) -> None:
    logging.disable(logging.CRITICAL)
    folder = Path(tempfile.mkdtemp(dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
    broken = sum(_breaks(folder / str(seed), seed, "") for seed in range(seeds))
    caught = sum(any(_breaks(folder / f"{bug}{seed}", seed, bug) for seed in range(500)) for bug in BUGS)
    shutil.rmtree(folder)
    print(ROW.format("everything at once, simulated", "no promise broken", f"{seeds} seeds", f"{broken} violations"))
    print(ROW.format("*control: planted mistakes*", "found within 500 seeds", len(BUGS), f"{caught} found"))


def _breaks(folder: Path, seed: int, bug: str) -> bool:
    try:
        simulate(folder, seed, bug)
    except ViolationError:
        return True
    finally:
        shutil.rmtree(folder)
    return False


if __name__ == "__main__":
    main()
