"""What a month of real trouble costs one machine, in two checkouts beside each other.

    python -m tests.bench.month --results month.jsonl --before ../streamae-at-another-commit
    python -m tests.bench.month --cases clock tap --seeds 0 1

A default model is trained on four days of three machines; then a machine lives through a month, a row a minute, as
messages through the core. Something is done to it on day 5 or from the start (`tests.bench.month_play.CASES`), and from
day 18 on it has five faults of four hours. Counted are

    false     alarms that begin without a fault. After a change on purpose, those of its first two days do not count
    alarm     hours at whose end an alert fires without a fault
    blind     hours without a judged row, parts added up, after the first day
    silent    of these, whole hours that the page calls ok
    lowest    the lowest threshold that was shown without a fault, over all seeds
    found     faults during which an alert began

Each run is a process of its own with the checkout on its path, and one JSON line; what the file of results has is not
run again. A run takes about half a minute.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

__all__ = ["main", "table"]

ROOT = Path(__file__).parents[2]
PLAY = Path(__file__).with_name("month_play.py")
NAMES = {
    "nothing": "control: nothing happens", "stranger": "control: a machine that training did not see",
    "rest": "a warm-up while the machine rests", "unit": "°C becomes °F", "moved": "a sensor is moved",
    "mode": "few values beside others, a new machine", "setpoint": "a setpoint that moves once",
    "tap": "a sensor that rests", "clock": "a clock falls back by 11 days", "summer": "a clock falls back by an hour",
    "forged": "a stamp a minute ahead, every 50 rows", "gaps": "every third row is lost",
    "away": "the daemon is away for half an hour a day", "collapse": "after a true alarm of two days",
    "real": "after one that people called real",
}  # fmt: skip
_COLUMNS = ("false", "alarm_h", "blind_h", "unmarked_h")


def play(tree: Path, case: str, seed: int) -> dict[str, Any]:
    """Play one case in a process whose package is that of a checkout."""
    environment = {**os.environ, "PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-P", str(PLAY), case, str(seed)]
    done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{case}, seed {seed}, in {tree}: {done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def table(runs: Sequence[dict[str, Any]]) -> str:
    """Return the Markdown table of these runs: sums over seeds, before and now where both were played."""
    sides = [side for side in ("before", "now") if any(run["side"] == side for run in runs)]
    names = ("false", "alarm h", "blind h", "silent h", "lowest", "found")
    heads = ["what happens", *(f"{name}, {side}" for name in names for side in sides)]
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    for case, words in NAMES.items():
        cells = [words]
        for column in (*_COLUMNS, "lowest", "found"):
            for side in sides:
                own = [run for run in runs if run["case"] == case and run["side"] == side]
                total = (min if column == "lowest" else sum)([run[column] for run in own] or [0])
                of = f" of {sum(run['faults'] for run in own)}" if column == "found" else ""
                cells.append(f"{total:g}{of}" if own else "")
        if any(cells[1:]):
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Play what is not there yet, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=Path("month.jsonl"))
    parser.add_argument("--before", type=Path, help="another checkout, whose column stands first")
    parser.add_argument("--cases", nargs="*", choices=NAMES, default=list(NAMES))
    parser.add_argument("--seeds", nargs="*", type=int, default=[0])
    asked = parser.parse_args(arguments)
    trees = {"now": ROOT} if asked.before is None else {"before": asked.before.resolve(), "now": ROOT}
    runs = [json.loads(line) for line in asked.results.read_text().splitlines()] if asked.results.exists() else []
    there = {(run["case"], run["seed"], run["side"]) for run in runs}
    with asked.results.open("a") as out:
        for seed in asked.seeds:
            for case in asked.cases:
                for side, tree in trees.items():
                    if (case, seed, side) not in there:
                        run = {"case": case, "seed": seed, "side": side, **play(tree, case, seed)}
                        runs.append(run)
                        print(json.dumps(run), file=out, flush=True)
                        print(json.dumps(run), file=sys.stderr)
    print(table(runs))


if __name__ == "__main__":
    main()
