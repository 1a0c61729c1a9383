"""The fault table of the README: plays every fault, and prints a row for each as it ends.

    python -m tests.faults.table [--quick] [--only kill,cells,soak] [--cycles 25] [--rounds 3] [--seeds 5000] ...

The sizes of the README's rows are the long ones of `make test-long`; `--quick` takes those that fit in some minutes.
"""

import argparse
import tempfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.brokers import Mosquitto
from tests.faults import plant, seeds, soak
from tests.faults.broker_faults import Outcome, play_all
from tests.faults.kill import torment
from tests.faults.processes import Zygote
from tests.faults.simulation import BUGS
from tests.faults.test_supervision import THREADS
from tests.faults.test_supervision import play as play_thread

HEAD = ("fault", "behaviour", "cycles", "lost", "spurious", "doubled", "detected = true loss")
QUICK = {"cycles": 25, "rounds": 3, "seeds": 500, "minutes": 1.0, "settle": 10.0}
LONG = {"cycles": 300, "rounds": 30, "seeds": 5000, "minutes": 10.0, "settle": 150.0}
Row = tuple[object, ...]


@dataclass(frozen=True)
class Stage:
    """What the faults are played with."""

    folder: Path
    model: plant.Model
    zygote: Zygote
    sizes: argparse.Namespace


def kills(stage: Stage) -> Iterator[Row]:
    """The daemon is ended again and again under 1,000 messages a second."""
    cycles = stage.sizes.cycles
    said = {
        "slow": (
            "`kill -9` at 1,000 messages/s, webhook fails 15 %",
            "resumes windows, warm-up and open alerts",
            cycles,
        ),
        "tidy": ("SIGTERM at 1,000 messages/s", "drains, exit 0", min(cycles, 25)),
        "hasty": ("*control: acknowledged before the commit*", "caught by the same harness", 10),
    }
    for variant, (fault, behaviour, n) in said.items():
        broker = Mosquitto(stage.folder / f"broker-{variant}").start()
        tidy, patience_s = variant == "tidy", 5 if variant == "hasty" else 90
        try:
            seen = torment(
                stage.folder / variant, broker, stage.model, stage.zygote, cycles=n, seed=1, tidy=tidy,
                variant="slow" if tidy else variant, patience_s=patience_s,
            )  # fmt: skip
        finally:
            broker.kill()
        lost = f"{seen.lost} of {seen.expected} alerts, {seen.messages_lost} of {seen.sent} messages"
        yield fault, behaviour, n, lost, seen.spurious, seen.doubled, "" if seen.messages_lost else "yes"


def cells(stage: Stage) -> Iterator[Row]:
    """Broker and network misbehave."""
    for name, seen in play_all(stage.folder / "cells", stage.model, stage.zygote, stage.sizes.rounds).items():
        yield _cell(seen) if isinstance(seen, Outcome) else (name, f"FAILED: {seen}", "", "", "", "", "")


def _cell(seen: Outcome) -> Row:
    heals = f"heals in {max(seen.heals_s):.1f} s at most" + (", exit 69 first" if seen.exits else "")
    lost = f"{seen.true_loss} of {seen.sent} messages"
    detected = f"{seen.sessions_lost} lost sessions counted" if seen.sessions_lost else "yes, none"
    return seen.cell, heals, len(seen.heals_s), lost, seen.alerts_wrong, seen.doubled, detected


def threads(stage: Stage) -> Iterator[Row]:
    """Each thread of the daemon dies and hangs."""
    broker = Mosquitto(stage.folder / "broker-threads").start()
    try:
        for thread in THREADS:
            for kind in ("dies", "hangs"):
                folder = stage.folder / f"{thread}-{kind}"
                folder.mkdir()
                seen = play_thread(folder, broker, stage.model, stage.zygote, thread, kind)
                after = "/healthz fails, watchdog starves" if seen.code is None else f"exit {seen.code}"
                yield f"thread {thread} {kind}", f"noticed in {seen.after_s} s, {after}", 1, "", "", "", ""
    finally:
        broker.kill()


def soaked(stage: Stage) -> Iterator[Row]:
    """The same load for minutes."""
    sizes = stage.sizes
    seen = soak.play(stage.folder / "soak", stage.model, stage.zygote, minutes=sizes.minutes, settle_s=sizes.settle)
    slope, files = seen.resident_mb, seen.file_mb.last - seen.file_mb.first
    flat = f"{slope.per_hour:.3f} ± {slope.error_per_hour:.3f} MB/h of {slope.last:.0f} MB; SQLite {files:+.2f} MB"
    more = f"threads {seen.threads.last - seen.threads.first:+.0f}, files {seen.files.last - seen.files.first:+.0f}"
    fault = f"{seen.minutes:g} min at {soak.PER_S:g} messages/s over {soak.STREAMS} streams"
    yield fault, f"{flat}; {more}", 1, f"{seen.lost} of {seen.sent} messages", seen.alerts_wrong, 0, "yes"


def simulated(stage: Stage) -> Iterator[Row]:
    """Everything at once, in virtual time."""
    played = seeds.play_all(range(stage.sizes.seeds))
    broken = len(played.violations)
    for fault in seeds.FAULTS:
        yield f"simulated: {fault}", f"in {played.seeds_with[fault]} seeds", played.faults[fault], "", "", "", ""
    lost = f"{broken} promises broken, {played.told} alerts told"
    yield (
        "simulated: all of these",
        "no promise broken",
        f"{played.seeds} seeds",
        lost,
        0,
        0,
        "yes" if not broken else "NO",
    )
    found = [seeds.first_to_catch(bug) for bug in BUGS]
    caught = [seed for seed in found if seed is not None]
    last = f"all found by seed {max(caught)}" if len(caught) == len(BUGS) else f"{len(caught)} found"
    yield "*control: planted mistakes*", last, len(BUGS), "", "", "", ""


PARTS: dict[str, Callable[[Stage], Iterator[Row]]] = {
    "kill": kills, "cells": cells, "threads": threads, "soak": soaked, "simulator": simulated,
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="sizes that fit in some minutes")
    parser.add_argument("--only", default=",".join(PARTS), help="parts to play: %(default)s")
    for name, value in LONG.items():
        parser.add_argument(f"--{name}", type=type(value), help=f"default: {value}, quick: {QUICK[name]}")
    sizes = parser.parse_args()
    for name, value in (QUICK if sizes.quick else LONG).items():
        if getattr(sizes, name) is None:
            setattr(sizes, name, value)
    wanted = sizes.only.split(",")
    if unknown := set(wanted) - set(PARTS):
        parser.error(f"--only: there is no {', '.join(unknown)}")
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as name:
        folder, zygote = Path(name), Zygote()
        try:
            stage = Stage(folder, plant.train_model(folder), zygote, sizes)
            for row in (HEAD, ("---",) * len(HEAD)):
                _print(row)
            for part in wanted:
                for row in PARTS[part](stage):
                    _print(row)
        finally:
            zygote.close()


def _print(row: Row) -> None:
    print("| " + " | ".join(map(str, row)) + " |", flush=True)


if __name__ == "__main__":
    main()
