"""The table of deploy/docs/faults.md: plays every fault, and prints a row for each as it ends.

    python -m tests.faults.table [--quick] [--only kill,cells,soak] [--write] [--cycles 25] [--rounds 3] ...

The sizes of its rows are the long ones of `make test-long`; `--quick` takes those that fit in some minutes.
`--write` keeps the rows of the parts that were played in `table.json`, and writes the page's table from it.
"""

import argparse
import fcntl
import json
import tempfile
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.faults import plant
from tests.faults.processes import Zygote
from tests.faults.rows import PARTS, Row, Stage

HEAD = ("fault", "behaviour", "cycles", "lost", "invented", "doubled")
QUICK = {
    "cycles": 25, "rounds": 3, "seeds": 500, "minutes": 1.0, "settle": 10.0, "full": 3.0, "fuzz": 3.0,
    "topics": 20_000, "storm": 2000,
}  # fmt: skip
LONG = {
    "cycles": 300, "rounds": 30, "seeds": 5000, "minutes": 10.0, "settle": 150.0, "full": 60.0, "fuzz": 60.0,
    "topics": 1_000_000, "storm": 10_000,
}  # fmt: skip
KEPT = Path(__file__).with_name("table.json")
PAGE = Path(__file__).parent.parent.parent / "deploy" / "docs" / "faults.md"
BEGIN, END = "<!-- faults: written by python -m tests.faults.table --write -->\n", "<!-- end of faults -->"


def table(kept: dict[str, Any]) -> str:
    """Return the whole table, its parts in the order in which they are played."""
    rows = [row for part in PARTS if part in kept for row in kept[part]["rows"]]
    return "".join(_line(row) + "\n" for row in (HEAD, ("---",) * len(HEAD), *rows))


def keep(part: str, rows: Sequence[Row]) -> None:
    """Put the rows of a part in the place of its earlier ones, there and in the page."""
    with KEPT.open("r+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        kept = json.load(file) | {part: {"played": time.strftime("%Y-%m-%d"), "rows": rows}}
        file.seek(0)
        file.truncate()
        file.write(json.dumps(dict(sorted(kept.items())), indent=1, ensure_ascii=False) + "\n")
        file.flush()
        PAGE.write_text(with_table(PAGE.read_text(), table(kept)))


def with_table(page: str, text: str) -> str:
    """Return the page with this table between its marks."""
    before, _, rest = page.partition(BEGIN)
    return before + BEGIN + text + END + rest.partition(END)[2]


def _line(row: Row) -> str:
    return "| " + " | ".join(map(str, row)) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="sizes that fit in some minutes")
    parser.add_argument("--only", default=",".join(PARTS), help="parts to play: %(default)s")
    parser.add_argument("--write", action="store_true", help="keep the rows, and write them into deploy/docs/faults.md")
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
            print(_line(HEAD), _line(("---",) * len(HEAD)), sep="\n", flush=True)
            for part in wanted:
                rows = []
                for row in PARTS[part](stage):
                    print(_line(row), flush=True)
                    rows.append(row)
                if sizes.write:
                    keep(part, rows)
        finally:
            zygote.close()


if __name__ == "__main__":
    main()
