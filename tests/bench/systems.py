"""LSTM, LSTM autoencoder or both: which is better? The tutorial's open question, as one command.

    python -m tests.bench.systems FOLDER… --seeds 0 1 2 --results runs.jsonl --markdown

Every system gets the same: rows z-scored on the training rows, the window T (the training rows' period, or 32 rows),
the hidden size, the budget of steps, the optimiser and the initialisation. What differs is the question alone:

    LSTM                      at every row, which row comes next? (Malhotra et al. 2015; no code, no decoder)
    LSTM autoencoder          what were the T rows, given nothing but the code of them? (Malhotra et al. 2016)
    LSTM forecaster           what are the last K rows, given the code of the T - K before? (encoder-decoder)
    composite                 both of the last two from one code (Srivastava et al. 2015)

and, as variants, the autoencoder's decoder: target in order of time, conditional free-running, conditional and
teacher forced. The score of row t is the mean square error over the rows of the trailing window that ends at t, for
all of them: a forecast's errors, which cover K rows, are averaged over the window's forecasts. Each channel's is
divided by its mean over the training rows and the channels (and, for the composite, the two kinds) are averaged.

Channels with at most two values in the training rows are inputs and not targets. No banks, no linear path, no adaptive
threshold: these are the systems of the literature, not this project's detector.
"""

import argparse
import json
import math
import sys
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from streamae.core.types import F64
from streamae.errors import StreamaeError
from streamae.evaluation.baselines import baselines, trailing_windows, train_max_threshold
from streamae.evaluation.protocol import (
    Detector,
    Judged,
    LabelledSeries,
    Result,
    evaluate,
    find_series,
    finished,
    read_labelled,
)
from streamae.evaluation.report import areas
from streamae.marked import replace_block
from streamae.model.network import EncoderDecoder
from streamae.model.runtime import prepare_torch
from streamae.model.spec import NetworkSpec
from streamae.training.dataset import find_period
from streamae.training.fit import Recipe, fit

__all__ = ["SYSTEMS", "VARIANTS", "Budget", "NextRow", "main", "paired", "systems"]

_WINDOW, _WINDOW_LEAST, _WINDOW_MOST = 32, 16, 96
_MIX = 0.05  # of the mean over channels in the unit of each: one that fits perfectly must not rule the score
_TILE = 512  # windows scored at once
_FLOOR = "random"
_AGAINST = "LSTM autoencoder"

SYSTEMS: Mapping[str, Mapping[str, Any]] = {
    "LSTM": {"task": "next row"},
    "LSTM autoencoder": {"task": "reconstruction"},
    "LSTM forecaster": {"task": "prediction"},
    "composite": {"task": "composite"},
}
VARIANTS: Mapping[str, Mapping[str, Any]] = {
    "autoencoder, in order of time": {"task": "reconstruction", "reversed": False},
    "autoencoder, conditional": {"task": "reconstruction", "decoder": "conditional_free"},
    "autoencoder, teacher forced": {"task": "reconstruction", "decoder": "conditional_teacher"},
}


@dataclass(frozen=True, slots=True)
class Budget:
    """What every system gets."""

    hidden: int = 16
    recipe: Recipe = field(default_factory=lambda: Recipe(steps=300, batch=32))


class NextRow(EncoderDecoder):
    """A plain LSTM: its output at each row, read out, is the next row. The decoder's cell is not used."""

    def errors(self, windows: Tensor, lengths: Tensor | None = None) -> Tensor:
        """[B, T, C] -> [B, Q], RMSE of the one-step forecasts of rows 1..T-1; `lengths` are not supported."""
        assert lengths is None, "all windows are full here"
        return self._misses(windows).square().mean(dim=1).sqrt()

    def loss(self, windows: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Mean square error of the same forecasts."""
        assert lengths is None, "all windows are full here"
        return self._misses(windows).square().mean()

    def _misses(self, windows: Tensor) -> Tensor:
        past = windows[:, :-1]
        out = self.encoder(past, self.encoder.start(past))[0]
        foreseen: Tensor = self.forecaster.frames(out)
        return windows[:, 1:].index_select(2, self.targets) - foreseen


def systems(budget: Budget | None = None, *, variants: bool = True) -> dict[str, Detector]:
    """Return each system by name as `evaluation.protocol.evaluate` takes it, with the random floor first."""
    chosen = {**SYSTEMS, **(VARIANTS if variants else {})}
    ours = {name: _detector(settings, budget or Budget()) for name, settings in chosen.items()}
    return {_FLOOR: baselines()[_FLOOR], **ours}


def _detector(settings: Mapping[str, Any], budget: Budget) -> Detector:
    def detect(series: LabelledSeries, train_rows: int, seed: int) -> Judged:
        rows = _standardised(series.values, train_rows)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = _network(rows, train_rows, settings, budget.hidden)
            ends = np.arange(network.window - 1, train_rows)
            held_out = ends[:0]  # the budget is the budget: the last step stands for all of them
            fit(network, torch.from_numpy(rows).float(), ends, held_out, recipe=budget.recipe, seed=seed)
        score = _score(network, rows, train_rows)
        return Judged(score, train_max_threshold(score, train_rows))

    return detect


def _standardised(values: F64, train_rows: int) -> F64:
    """Z-scored on the training rows; a channel that is constant there keeps its unit."""
    learnt = values[:train_rows]
    scale = learnt.std(axis=0)
    units: F64 = (values - learnt.mean(axis=0)) / np.where(scale > 1e-9, scale, 1.0)
    return units


def _network(rows: F64, train_rows: int, settings: Mapping[str, Any], hidden: int) -> EncoderDecoder:
    learnt = rows[:train_rows]
    varied = [c for c in range(rows.shape[1]) if len(np.unique(learnt[:, c])) > 2] or [0]
    period = find_period(learnt[:, varied], longest=train_rows // 2) or _WINDOW
    window = max(8, min(int(np.clip(period, _WINDOW_LEAST, _WINDOW_MOST)), train_rows // 8))
    shape = {"channels": rows.shape[1], "targets": tuple(varied), "window": window, "hidden": hidden}
    if settings["task"] == "next row":
        return NextRow(NetworkSpec(task="prediction", horizon=1, **shape))
    horizon = 0 if settings["task"] == "reconstruction" else max(1, min(8, window // 4))
    return EncoderDecoder(NetworkSpec(horizon=horizon, **shape, **settings))


def _score(network: EncoderDecoder, rows: F64, train_rows: int) -> F64:
    """[N, C] -> score [N]: trailing-window errors in units of their training mean, averaged."""
    network.eval()
    windows = trailing_windows(rows, network.window)
    with torch.inference_mode():
        parts = [
            network.errors(torch.from_numpy(windows[at : at + _TILE].astype(np.float32))).double().numpy()
            for at in range(0, len(rows), _TILE)
        ]
    square: F64 = np.concatenate(parts) ** 2
    Q = len(network.targets)
    if network.forecasts and not isinstance(network, NextRow):
        square[:, -Q:] = trailing_windows(square[:, -Q:], network.window - network.horizon + 1).mean(axis=1)
    kinds = square.reshape(len(rows), -1, Q)
    mean = kinds[network.window - 1 : train_rows].mean(axis=0)
    unit = mean + _MIX * mean.mean(axis=1, keepdims=True) + 1e-12
    score: F64 = (kinds / unit).mean(axis=(1, 2))
    return score


def paired(results: Sequence[Result], against: str = _AGAINST) -> str:
    """Return the Markdown table of VUS-PR differences to one system, series by series: the answer with its doubt.

    Mean over series (each the mean over its seeds) ± its standard error, and on how many series it was better or worse
    by more than .005.
    """
    series: dict[tuple[str, str], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for r in results:
        if not math.isnan(r["vus_pr"]):
            series[r["dataset"], r["series"]][r["method"]].append(r["vus_pr"])
    methods = [m for m in dict.fromkeys(r["method"] for r in results) if m != against]
    sets = sorted({dataset for dataset, _ in series})
    lines = [f"| minus {against} | " + " | ".join([*sets, "all"]) + " |", "|---" * (len(sets) + 2) + "|"]
    for method in methods:
        cells = []
        for wanted in [{s} for s in sets] + [set(sets)]:
            both = [v for (d, _), v in series.items() if d in wanted and v.get(method) and v.get(against)]
            cells.append(_difference(np.array([np.mean(v[method]) - np.mean(v[against]) for v in both])))
        lines.append(f"| {method} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _difference(away: F64) -> str:
    if len(away) < 2:
        return "–"
    error = float(away.std(ddof=1)) / math.sqrt(len(away))
    won, lost = int((away > 0.005).sum()), int((away < -0.005).sum())
    return f"{away.mean():+.3f} ± {error:.3f} ({won} better, {lost} worse)"


def _complete(results: Sequence[Result]) -> list[Result]:
    """Only series that all systems of a data set have finished: no mean over easier series than another's."""
    runs: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for r in results:
        runs[r["dataset"]][r["series"]] += 1
    return [r for r in results if runs[r["dataset"]][r["series"]] == max(runs[r["dataset"]].values())]


def _has_event(path: Path) -> bool:
    series = read_labelled(path)
    return bool(series.label[series.train_rows :].any())


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.systems", description=__doc__.splitlines()[0])
    parser.add_argument("paths", nargs="*", type=Path, metavar="DIR", help="labelled series, or folders of them")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--results", type=Path, help="JSON lines to resume from and append to")
    parser.add_argument("--steps", type=int, default=Budget().recipe.steps, help="training steps of every system")
    parser.add_argument("--hidden", type=int, default=Budget().hidden)
    parser.add_argument("--no-variants", action="store_true", help="the four systems only")
    parser.add_argument("--finished", action="store_true", help="run nothing; tabulate what stands in --results")
    parser.add_argument("--markdown", action="store_true", help="print tables instead of one JSON line a run")
    parser.add_argument(
        "--update", "--readme", type=Path, help="replace the tables between the markers `systems` of this file"
    )
    given = parser.parse_args(argv)
    if given.finished and (given.results is None or not given.results.exists()):
        parser.error("--finished reads --results, which must exist")
    if not given.finished and not given.paths:
        parser.error("name at least one labelled series, or a folder of them")
    return given


def main(argv: Sequence[str] | None = None, say: Callable[[str], Any] = sys.stdout.write) -> int:
    """Run every system with every seed on every series that has a scored event, and print the answer."""
    given = _arguments(argv)
    prepare_torch()
    budget = Budget(given.hidden, replace(Budget().recipe, steps=given.steps))
    try:
        if given.finished:
            results = _complete(finished(given.results))
        else:
            paths = [path for top in given.paths for path in find_series(top) if _has_event(path)]
            detectors = systems(budget, variants=not given.no_variants)
            results = evaluate(paths, detectors, seeds=given.seeds, results=given.results)
        if given.update is not None:
            replace_block(given.update, "systems", _tables(results, budget))
    except StreamaeError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    say(_tables(results, budget) if given.markdown else "".join(json.dumps(r) + "\n" for r in results))
    return 0


def _tables(results: Sequence[Result], budget: Budget) -> str:
    count = len({(r["dataset"], r["series"]) for r in results})
    seeds = ", ".join(str(s) for s in sorted({r["seed"] for r in results}))
    head = f"{count} series, seeds {seeds}; {budget.recipe.steps} steps, {budget.hidden} hidden units, one setting"
    table = "\n".join(areas(results))
    return f"{head}; mean VUS-PR, ± over seeds\n\n{table}\n\n{paired(results)}"


if __name__ == "__main__":
    sys.exit(main())
