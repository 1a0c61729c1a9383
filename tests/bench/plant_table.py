"""The tables of `tests.bench.plant`: budgets, recall and delay by fault, and whether the score rises with the fault."""

from collections import defaultdict
from collections.abc import Sequence
from itertools import groupby
from typing import Any

import numpy as np

from streamae.evaluation import budgets

__all__ = ["growth", "rank_correlation", "tables"]

Run = dict[str, Any]


def tables(runs: Sequence[Run]) -> str:
    """Return the Markdown tables of these runs, plant by plant."""
    parts = []
    for plant, found in _by(runs, "plant").items():
        seeds = ", ".join(str(run["seed"]) for run in found)
        days = sum(run["normal"]["stream_days"] for run in found)
        parts += [
            f"### {plant}: {days:.0f} normal stream-days, seeds {seeds}",
            "",
            *budgets.table([(run["seed"], run["normal"]["budgets"]) for run in found]),
            "",
            *_faults(found),
            "",
        ]
    return "\n".join(parts)


def rank_correlation(x: Sequence[float], y: Sequence[float]) -> float:
    """Spearman's: the correlation of the ranks of x and y; ties share their mean rank."""
    ranks = [_ranks(np.asarray(v, np.float64)) for v in (x, y)]
    a, b = (r - r.mean() for r in ranks)
    return float((a * b).sum() / max(np.sqrt((a * a).sum() * (b * b).sum()), 1e-12))


def _ranks(x: np.ndarray) -> np.ndarray:
    _, inverse, count = np.unique(x, return_inverse=True, return_counts=True)
    last = np.cumsum(count)
    mean: np.ndarray = (last - (count - 1) / 2.0)[inverse]
    return mean


def _faults(runs: Sequence[Run]) -> list[str]:
    """Recall (median delay) by kind and magnitude; at magnitude 0 the share of controls that alarmed."""
    trials = [trial | {"seed": run["seed"]} for run in runs for trial in run["trials"]]
    sizes = sorted({t["magnitude"] for t in trials})
    titles = ["control", *(f"{m:g}" for m in sizes[1:])]
    lines = _row(["fault, by magnitude in spreads", *titles, "rank: rise", "steps up", "rank: peak"])
    lines += _row(["---", *["---:"] * (len(sizes) + 3)])
    for kind, of_kind in _by(trials, "kind").items():
        by_size = _by(of_kind, "magnitude")
        cells = [_cell(by_size.get(size, [])) for size in sizes]
        lines += _row([kind.replace("_", " "), *cells, *(_numbers(growth(of_kind)) if len(by_size) > 2 else "–––")])
        if "sensor_s" in of_kind[0]:
            by_size = _by([t | {"delay_s": t["sensor_s"]} for t in of_kind], "magnitude")
            cells = [_cell(by_size.get(size, [])) for size in sizes]
            lines += _row([f"{kind}: verdict on the sensor", *cells, *"–––"])
    return lines


def _cell(trials: Sequence[Run]) -> str:
    if not trials:
        return "–"
    delays = [t["delay_s"] for t in trials if t["delay_s"] is not None]
    recall = f"{len(delays) / len(trials):.2f}"
    return f"{recall} ({_span(float(np.median(delays)))})" if delays and trials[0]["magnitude"] else recall


def _span(seconds: float) -> str:
    for size, unit in ((3600.0, "h"), (60.0, "min")):
        if seconds >= size:
            return f"{seconds / size:.2g} {unit}"
    return f"{seconds:.0f} s"


def growth(trials: Sequence[Run]) -> tuple[float, float, float]:
    """Whether the score grows with the magnitude of one kind of fault, as means over stretches of rows.

    These are the rank correlation of magnitude and rise; the share of steps to the next magnitude at which the rise
    grows, which a score that saturates fails (ties cost a rank correlation little); and the rank correlation of
    magnitude and peak.
    """
    order = sorted(trials, key=lambda t: (t["seed"], t["stream"], t["magnitude"]))
    stretches = [list(group) for _, group in groupby(order, key=lambda t: (t["seed"], t["stream"]))]
    rise, peak = (np.array([[t[level] for t in own] for own in stretches]) for level in ("rise", "peak"))
    sizes = [t["magnitude"] for t in stretches[0]]
    by_rise, by_peak = (float(np.mean([rank_correlation(sizes, row) for row in level])) for level in (rise, peak))
    return by_rise, float(np.mean(np.diff(rise, axis=1) > 0)), by_peak


def _numbers(values: Sequence[float]) -> list[str]:
    return [f"{x:.3f}" for x in values]


def _by(items: Sequence[Run], key: str) -> dict[Any, list[Run]]:
    found: dict[Any, list[Run]] = defaultdict(list)
    for item in items:
        found[item[key]].append(item)
    return dict(found)


def _row(cells: Sequence[str]) -> list[str]:
    return ["| " + " | ".join(cells) + " |"]
