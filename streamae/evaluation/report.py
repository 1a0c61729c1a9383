"""From runs to a table: one line a method, one group of columns a data set, the random floor in sight.

A figure of a method on a data set is the mean over its series of the mean over its seeds; `spread` is the standard
deviation over seeds of the data set's mean. Series without an event carry no VUS but count for false alarms, which are
pooled: events over rows, not a mean of ratios.
"""

import json
import math
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from streamae.evaluation import budgets
from streamae.evaluation.protocol import Result

__all__ = ["Bar", "areas", "headline", "markdown", "per_series", "summarise", "write_report"]

Summary = dict[str, dict[str, dict[str, float]]]
"""data set -> method -> measure -> figure."""

AREAS = ("vus_pr", "vus_roc", "auc_pr", "auc_roc")
HEADLINE = "vus_pr"


class Bar:
    """A progress bar for `protocol.evaluate(done=…)`; use as a context."""

    def __init__(self) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
        )
        self._task = self._progress.add_task("evaluate", total=None)

    def __enter__(self) -> "Bar":
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def __call__(self, finished: int, total: int, result: Result) -> None:
        """Move the bar and name the run that has just finished."""
        name = f"{result['dataset']}/{result['series']} · {result['method']}"
        self._progress.update(self._task, completed=finished, total=total, description=name[:60].ljust(60))


def summarise(results: Sequence[Result]) -> Summary:
    """Average the runs: per data set, method and measure; see the module's text for how."""
    groups: dict[tuple[str, str], list[Result]] = defaultdict(list)
    for r in results:
        groups[r["dataset"], r["method"]].append(r)
    out: Summary = defaultdict(dict)
    for (dataset, method), part in groups.items():
        out[dataset][method] = _figures(part)
    return dict(sorted(out.items()))


def areas(results: Sequence[Result]) -> list[str]:
    """Return the Markdown lines of the mean VUS-PR over series: a line a method, a column a data set, ± over seeds."""
    summary = summarise(results)
    lines = _row(["method", *(f"{s}, {_scored(results, s)} series" for s in summary), "mean of sets"])
    lines += _row(["---", *["---:"] * (len(summary) + 1)])
    for m, values in _means(results).items():
        spreads = [*(summary[s].get(m, {}).get("spread", 0.0) for s in summary), 0.0]
        cells = [f"{_number(v)}{f' ±{d:.3f}' if d > 0 else ''}" for v, d in zip(values, spreads, strict=True)]
        lines += _row([m, *cells])
    return lines


def headline(results: Sequence[Result]) -> str:
    """Return the tables that matter most: mean VUS-PR, the own threshold in two figures a set, budgets kept.

    The first method is ours; a line says how far it is from the best of the others, set by set. Budgets are shown for
    sets that last long enough for one false alarm a week.
    """
    summary, means = summarise(results), _means(results)
    lines = ["**VUS-PR** (higher is better; a random score is the floor), mean over series, ± over seeds", ""]
    lines += areas(results)
    if len(means) > 1:
        ours, others = next(iter(means)), np.array(list(means.values()))
        lines += _row(
            [f"{ours} minus the best other", *(f"{d:+.3f}" for d in others[0] - np.nanmax(others[1:], axis=0))]
        )
    lines += ["", "**At the own threshold**: share of the events found, false alarms per 1,000 normal rows", ""]
    lines += _row(["method", *(f"{s}: {what}" for s in summary for what in ("found", "false"))])
    lines += _row(["---", *["---:"] * (2 * len(summary))])
    for m in means:
        found = [by_method.get(m, {}) for by_method in summary.values()]
        lines += _row([m, *(_number(f.get(k, math.nan)) for f in found for k in ("recall", "false_per_1000"))])
    for s in summary:
        judged = [(int(r["seed"]), r["budgets"]) for r in results if r["dataset"] == s and r.get("budgets")]
        if judged and budgets.long_enough(judged):
            lines += ["", f"**False alarms raised, by budget**, {s}", "", *budgets.table(judged)]
    return "\n".join(lines) + "\n"


def markdown(results: Sequence[Result]) -> str:
    """Return all tables: the headline, then what an operator sees at the own threshold, set by set."""
    methods, lines = list(dict.fromkeys(r["method"] for r in results)), []
    for s, by_method in summarise(results).items():
        lines += ["", f"### {s}, at the own threshold", "", *_own_threshold(by_method, methods)]
    return headline(results) + "\n".join(lines) + "\n"


def per_series(results: Sequence[Result]) -> str:
    """Return one Markdown line a series with the VUS-PR of every method, mean over seeds."""
    methods = list(dict.fromkeys(r["method"] for r in results))
    cells: dict[tuple[str, str], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for r in results:
        cells[r["dataset"], r["series"]][r["method"]].append(r[HEADLINE])
    lines = _row(["series", *methods]) + _row(["---", *["---:"] * len(methods)])
    for (dataset, series), by_method in sorted(cells.items()):
        lines += _row([f"{dataset}/{series}", *(_number(_mean(by_method.get(m, []))) for m in methods)])
    return "\n".join(lines) + "\n"


def write_report(results: Sequence[Result], folder: Path, *, settings: dict[str, Any]) -> None:
    """Write `report.md` (tables) and `report.json` (settings, averages, every run) into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    text = markdown(results) + "\n### VUS-PR of each series\n\n" + per_series(results)
    (folder / "report.md").write_text(text, encoding="utf-8")
    whole = {"settings": settings, "summary": summarise(results), "runs": list(results)}
    (folder / "report.json").write_text(json.dumps(_nulls(whole), indent=1) + "\n", encoding="utf-8")


def _means(results: Sequence[Result]) -> dict[str, list[float]]:
    """VUS-PR of each method on each data set, and the mean of these last."""
    summary, out = summarise(results), {}
    for m in dict.fromkeys(r["method"] for r in results):
        values = [by_method.get(m, {}).get(HEADLINE, math.nan) for by_method in summary.values()]
        out[m] = [*values, float(np.mean(values))]
    return out


def _figures(part: Sequence[Result]) -> dict[str, float]:
    seeds = sorted({r["seed"] for r in part})
    by_seed = [_mean([r[HEADLINE] for r in part if r["seed"] == s]) for s in seeds]
    total = {k: float(np.sum([r[k] for r in part])) for k in ("events", "detected", "false_events", "normal_rows")}
    days = float(np.sum([r["normal_days"] for r in part]))
    return {k: _mean([r[k] for r in part]) for k in AREAS} | {
        "spread": float(np.std(by_seed)) if len(seeds) > 1 else 0.0,
        "seeds": float(len(seeds)),
        "recall": total["detected"] / total["events"] if total["events"] else math.nan,
        "delay_rows": _mean([r["delay_rows"] for r in part]),
        "false_per_1000": 1000.0 * total["false_events"] / total["normal_rows"] if total["normal_rows"] else math.nan,
        "false_per_day": total["false_events"] / days if days > 0 else math.nan,
        "normal_share": _mean([r["normal_share"] for r in part]),
        "wall_s": _mean([r["wall_s"] for r in part]),
    }


def _own_threshold(by_method: dict[str, dict[str, float]], methods: Sequence[str]) -> list[str]:
    columns = {
        "event recall": "recall",
        "delay, rows": "delay_rows",
        "false alarms / 1,000 normal rows": "false_per_1000",
        "false alarms / stream-day": "false_per_day",
        "normal rows in alarm": "normal_share",
        "seconds / series": "wall_s",
    }
    lines = _row(["method", *columns]) + _row(["---", *["---:"] * len(columns)])
    for m in methods:
        if m in by_method:
            lines += _row([m, *(_number(by_method[m][key]) for key in columns.values())])
    return lines


def _scored(results: Sequence[Result], dataset: str) -> int:
    return len({r["series"] for r in results if r["dataset"] == dataset and not math.isnan(r[HEADLINE])})


def _mean(values: Sequence[float]) -> float:
    known = [v for v in values if not math.isnan(v)]
    return float(np.mean(known)) if known else math.nan


def _number(value: float) -> str:
    if math.isnan(value):
        return "–"
    return f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"


def _row(cells: Sequence[str]) -> list[str]:
    return ["| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"]


def _nulls(value: Any) -> Any:
    """NaN has no place in JSON."""
    if isinstance(value, dict):
        return {k: _nulls(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_nulls(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
