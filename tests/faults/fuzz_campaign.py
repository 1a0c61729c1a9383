"""Fuzzes every target by coverage for hours in all, a slice of each in turn, and goes on where it was interrupted.

    python -m tests.faults.fuzz_campaign [--total 7200] [--slice 60] [--folder build/fuzz] [--only web,wire]

`--total` are the seconds of all targets together, those of earlier runs included: what was tried, the inputs that took
a new way through the code, and each input that raised are kept in the folder, so that an interruption costs one slice.
Needs atheris (`pip install -e '.[fuzz]'`). Exit code 1 while any input that raised is kept there: `faults` of a target,
to be deleted when the code is repaired.
"""

import argparse
import hashlib
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.faults.fuzz import ROOT, TARGETS, best_engine, hunt_in


@dataclass
class Progress:
    """What was done of one target so far; `coverage` in edges of the code that inputs have taken."""

    seconds: float = 0.0
    inputs: int = 0
    coverage: int = 0
    uncaught: int = 0

    def line(self, name: str) -> str:
        return f"| {TARGETS[name][1]} | {self.inputs} | {self.seconds:.0f} | {self.coverage} | {self.uncaught} |"


def progress_of(folder: Path) -> Progress:
    kept = folder / "progress.json"
    return Progress(**json.loads(kept.read_text())) if kept.exists() else Progress()


def go_on(folder: Path, name: str, seconds: float) -> Progress:
    """Fuzz one target for a slice, and keep what came of it."""
    folder.mkdir(parents=True, exist_ok=True)
    done = progress_of(folder)
    found = hunt_in(folder, name, seconds, seed=1 + int(done.seconds))
    done.seconds += found.seconds
    done.inputs += found.inputs
    done.coverage = max(done.coverage, found.coverage)
    if found.fault:
        (folder / "faults").mkdir(exist_ok=True)
        cause = found.fault.partition(", from ")[0]
        (folder / "faults" / hashlib.sha256(cause.encode()).hexdigest()[:16]).write_text(found.fault)
        print(f"{name}: {found.fault}", flush=True)
    done.uncaught = len(list((folder / "faults").glob("*")))
    beside = folder / "progress.new"
    beside.write_text(json.dumps(asdict(done)))
    beside.replace(folder / "progress.json")
    return done


def campaign(folder: Path, names: Sequence[str], total_s: float, slice_s: float) -> dict[str, Progress]:
    """Fuzz whatever had least time, until all have had `total_s` together; returns what was done of each."""
    while True:
        done = {name: progress_of(folder / name) for name in names}
        left_s = total_s - sum(one.seconds for one in done.values())
        if left_s < 1:
            return done
        least = min(names, key=lambda name: done[name].seconds)
        print(done[least].line(least), flush=True)
        go_on(folder / least, least, max(1.0, min(slice_s, left_s)))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--total", type=float, default=7200.0, help="seconds in all: %(default)s")
    parser.add_argument("--slice", type=float, default=60.0, help="seconds of a target at a time: %(default)s")
    parser.add_argument("--folder", type=Path, default=ROOT / "build" / "fuzz", help="%(default)s")
    parser.add_argument("--only", default=",".join(TARGETS), help="%(default)s")
    asked = parser.parse_args()
    if best_engine() != "atheris":
        print("atheris is not installed: pip install -e '.[fuzz]'", file=sys.stderr)
        return 2
    done = campaign(asked.folder, asked.only.split(","), asked.total, asked.slice)
    print("\n| target | inputs | seconds | edges covered | uncaught |\n|---|---|---|---|---|")
    for name, one in done.items():
        print(one.line(name))
    print(f"\n{sum(x.inputs for x in done.values())} inputs, {sum(x.uncaught for x in done.values())} uncaught")
    return 1 if any(one.uncaught for one in done.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
