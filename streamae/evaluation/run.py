"""The verb `evaluate`: our detector and its peers over labelled series, under one protocol, as tables.

Runs go into a JSON-lines file as they finish, so that a long evaluation can be stopped and taken up again.
"""

import json
import math
from collections.abc import Sequence
from pathlib import Path

from streamae.core.types import F64
from streamae.errors import ConfigError, SeriesError
from streamae.evaluation import baselines as peers
from streamae.evaluation.own import detector
from streamae.evaluation.plot import plot_series, require_matplotlib
from streamae.evaluation.protocol import Detector, LabelledSeries, Result, evaluate, find_series, finished
from streamae.evaluation.report import Bar, markdown, write_report
from streamae.training.plan import TrainConfig

__all__ = ["NAME", "Album", "chosen_series", "evaluate_series", "read_seeds", "write_json"]

NAME = "streamae"


def chosen_series(paths: Sequence[Path]) -> list[Path]:
    """Return the labelled series among files and folders, each once. Raises SeriesError where there is none."""
    found = dict.fromkeys(p for path in paths for p in _found(path))
    return list(found)


def read_seeds(text: str) -> list[int]:
    """Read `0,1,2`. Raises ConfigError on anything else."""
    try:
        return list(dict.fromkeys(int(part) for part in text.split(",")))
    except ValueError:
        raise ConfigError(f"--seeds: got {text!r}; write whole numbers with commas, such as 0,1,2") from None


def write_json(runs: Sequence[Result], path: Path) -> None:
    """Write the runs as one array; what is not a number becomes null."""
    clean = [{k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in r.items()} for r in runs]
    path.write_text(json.dumps(clean, indent=1) + "\n", encoding="utf-8")


class Album:
    """A folder with a picture of each of our runs: channels, reconstruction, score, threshold, labels and alarms."""

    def __init__(self, folder: Path) -> None:
        require_matplotlib()  # now, not after the first hour
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._rebuilt: F64 | None = None

    def keep(self, rebuilt: F64) -> None:
        """Remember the reconstruction of the run that is on."""
        self._rebuilt = rebuilt

    def draw(self, series: LabelledSeries, method: str, seed: int, score: F64, threshold: F64) -> None:
        """Draw a run, if it is one of ours."""
        if method == NAME:
            path = self._folder / f"{series.dataset}-{series.name}-seed{seed}.png"
            plot_series(series, score, threshold, path, reconstruction=self._rebuilt)


def _found(path: Path) -> list[Path]:
    if not path.exists():
        raise SeriesError(f"{path}: there is no such file or folder; name labelled series or folders of them")
    return find_series(path)


def evaluate_series(
    paths: Sequence[Path],
    *,
    seeds: Sequence[int],
    config: TrainConfig,
    with_baselines: bool,
    results: Path | None,
    report: Path | None,
    train_rows: int | None = None,
    plots: Path | None = None,
    only_finished: bool = False,
) -> tuple[str, list[Result]]:
    """Run everything and return the Markdown tables and the runs.

    Ours and the peers that draw at random run with every seed, the others once. `results` is the JSON-lines file to
    resume from; `report` a folder for `report.md` and `report.json`, and `plots` one for a picture of each of our runs,
    but not of those that `results` had already. With `only_finished` nothing is run, and what `results` holds of these
    series is tabulated.
    """
    if only_finished:
        wanted = {(p.parent.name, p.name.removesuffix(".gz").removesuffix(".csv")) for p in chosen_series(paths)}
        runs = [r for r in finished(results) if (r["dataset"], r["series"]) in wanted] if results else []
        if not runs:
            raise ConfigError("--finished: --results holds no run of these series; leave --finished out to run them")
        return markdown(runs), runs
    if config.threshold.incidents is not None:
        raise ConfigError("threshold.method: got fbeta; an evaluation shows no detector an incident, so choose another")
    album = Album(plots) if plots is not None else None
    methods: dict[str, Detector] = {NAME: detector(config, album.keep if album else None)}
    if with_baselines:
        methods |= peers.baselines()
    with Bar() as bar:
        runs = evaluate(
            chosen_series(paths),
            methods,
            seeds=seeds,
            results=results,
            train_rows=train_rows,
            seeded=[NAME, *peers.SEEDED],
            done=bar,
            **({"scored": album.draw} if album else {}),
        )
    if report is not None:
        write_report(runs, report, settings={"seeds": list(seeds), "series": len({r["series"] for r in runs})})
    return markdown(runs), runs
