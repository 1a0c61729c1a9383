"""The protocol: what a detector may see, and when; what is measured, and on which rows.

A detector fits on rows [0, train_rows) of one series, never sees a label or another series, and has one setting for all
series. It scores every row in order, and the score of row t uses rows <= t. Measured are the rows >= train_rows only.

A series is `<name>.csv` or `<name>.csv.gz` with the columns `timestamp,<channels…>,label`, beside it an optional
`<name>.meta.json` with `train_rows`. An evaluation is a list of runs (series x method x seed); each finished run is one
JSON line, and a run whose line is already there is not repeated, so an evaluation can be stopped and resumed.
"""

import csv
import gzip
import json
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from streamae.errors import SeriesError
from streamae.evaluation.budgets import BUDGETS
from streamae.evaluation.metrics import DAY_S, alarms, measure, vus_window

__all__ = [
    "Detector",
    "Judged",
    "LabelledSeries",
    "Result",
    "Scored",
    "evaluate",
    "find_series",
    "finished",
    "read_labelled",
    "score_once",
]

F64 = npt.NDArray[np.float64]
Bool = npt.NDArray[np.bool_]

TRAIN_SHARE = 0.3  # of the rows, where nothing says how many
LABEL = "label"


@dataclass(frozen=True, slots=True, eq=False)
class LabelledSeries:
    """One series: `values[N, C]` at `time_s[N]` with `label[N]`; rows [0, train_rows) are for fitting."""

    name: str
    dataset: str
    channels: tuple[str, ...]
    time_s: F64
    values: F64
    label: Bool
    train_rows: int

    def __len__(self) -> int:
        """Return N, the number of rows."""
        return len(self.label)

    @property
    def row_s(self) -> float:
        """Typical spacing of rows in seconds."""
        return float(np.median(np.diff(self.time_s)))


class Judged(NamedTuple):
    """What a detector says of the rows: `score[N]`, its own `threshold[N]`, and those at other budgets by name."""

    score: F64
    threshold: F64
    budgets: Mapping[str, F64] = {}


Detector = Callable[[LabelledSeries, int, int], Judged]
"""`detect(series, train_rows, seed)`; the labels in `series` are not for its eyes."""

Scored = Callable[[LabelledSeries, str, int, F64, F64], object]
"""`scored(series, method, seed, score[N], threshold[N])` after each run."""

Result = dict[str, Any]


def find_series(path: Path) -> list[Path]:
    """Return the series under `path` (a file, or a folder searched with its subfolders), sorted by name."""
    if path.is_file():
        return [path]
    found = sorted(p for p in path.rglob("*") if p.name.endswith((".csv", ".csv.gz")) and _has_label(p))
    if not found:
        raise SeriesError(f"{path}: no labelled series here; a series is NAME.csv[.gz] with a last column `{LABEL}`")
    return found


def read_labelled(path: Path, train_rows: int | None = None) -> LabelledSeries:
    """Read one series; `train_rows` overrides the meta file's, and 30 % of the rows stand in where neither says.

    A missing value repeats the last one of its channel. Raises SeriesError where the file is not a labelled series.
    """
    with _open(path) as lines:
        header, *body = csv.reader(lines)
    if len(header) < 3 or header[-1] != LABEL:
        raise SeriesError(f"{path}: line 1: columns are {','.join(header)}; expected timestamp,<channels…>,{LABEL}")
    try:
        values = np.array([[float(v) if v else np.nan for v in row[1:-1]] for row in body], np.float64)
        label = np.array([float(row[-1]) > 0 for row in body], np.bool_)
    except (ValueError, IndexError) as e:
        raise SeriesError(f"{path}: {e}; every cell between timestamp and {LABEL} must be a number") from e
    if values.ndim != 2 or values.shape[1] != len(header) - 2:
        raise SeriesError(f"{path}: rows differ in length; each needs {len(header)} cells")
    stem = path.name.removesuffix(".gz").removesuffix(".csv")
    rows = train_rows or _meta(path.parent / f"{stem}.meta.json").get("train_rows") or int(len(body) * TRAIN_SHARE)
    if not 2 <= rows <= len(body):
        raise SeriesError(f"{path}: {rows} training rows of {len(body)} rows; --train-rows is between 2 and the length")
    channels = tuple(header[1:-1])
    times = _times([row[0] for row in body])
    return LabelledSeries(stem, path.parent.name, channels, times, _hold(values), label, rows)


def score_once(
    series: LabelledSeries,
    method: str,
    detect: Detector,
    seed: int,
    now: Callable[[], float] = time.perf_counter,
    scored: Scored = lambda *run: None,
) -> Result:
    """Run one detector on one series and measure it; the labels are hidden from the detector, not from `scored`."""
    hidden = np.zeros(len(series), np.bool_)
    shown = LabelledSeries(
        series.name, series.dataset, series.channels, series.time_s, series.values, hidden, series.train_rows
    )
    start = now()
    score, threshold, budgets = Judged(*detect(shown, series.train_rows, seed))
    wall_s = now() - start
    if len(score) != len(series) or not np.isfinite(score[series.train_rows :]).all():
        raise SeriesError(f"{series.name}: {method} gave no finite score for some row after the training rows")
    scored(series, method, seed, score, threshold)
    rest = slice(series.train_rows, None)
    quality = measure(
        series.label[rest], score[rest], threshold[rest], window=vus_window(series.values[:, 0]), row_s=series.row_s
    )
    key = {"dataset": series.dataset, "series": series.name, "method": method, "seed": seed}
    raised = {name: _raised(series, score > limit, name) for name, limit in budgets.items()}
    return key | quality.as_dict() | {"budgets": raised, "rows": len(series), "wall_s": round(wall_s, 3)}


def _raised(series: LabelledSeries, above: Bool, budget: str) -> Mapping[str, float]:
    """False alarms behind the training rows, and how many of them the budget asked for in their normal time."""
    rest = slice(series.train_rows, None)
    found = alarms(series.label[rest], above[rest], row_s=series.row_s)
    return {"raised": found.false_events, "asked": BUDGETS[budget] * found.normal_days * DAY_S}


def evaluate(
    paths: Sequence[Path],
    detectors: Mapping[str, Detector],
    *,
    seeds: Sequence[int] = (0,),
    results: Path | None = None,
    train_rows: int | None = None,
    seeded: Iterable[str] | None = None,
    done: Callable[[int, int, Result], None] = lambda finished, total, result: None,
    scored: Scored = lambda *run: None,
) -> list[Result]:
    """Run every detector with every seed on every series and return one result a run.

    `results` is the JSON-lines file to resume from and append to. `seeded` names the methods that the seed means
    something to (default all); the others run once, with the first seed. `done(finished, total, result)` reports
    progress, and `scored` sees each run that is not taken from `results`. Series without a scored event count for
    false alarms only.
    """
    many = set(detectors if seeded is None else seeded)
    plan = [(p, m, s) for p in paths for m in detectors for s in (seeds if m in many else seeds[:1])]
    known: dict[tuple[str, str, str, int], Result] = {}
    if results is not None and results.exists():
        results.write_text(_complete(results), encoding="utf-8")  # a run that was cut off is run again
        known = {_key(r): r for r in finished(results)}
    out: list[Result] = []
    series: LabelledSeries | None = None
    at: Path | None = None
    for path, method, seed in plan:
        stem = path.name.removesuffix(".gz").removesuffix(".csv")
        result = known.get((path.parent.name, stem, method, seed))
        if result is None:
            if series is None or at != path:
                series, at = read_labelled(path, train_rows), path
            result = score_once(series, method, detectors[method], seed, scored=scored)
            if results is not None:
                with results.open("a", encoding="utf-8") as f:
                    f.write(json.dumps(_finite(result)) + "\n")
        out.append(result)
        done(len(out), len(plan), result)
    return out


def _key(result: Result) -> tuple[str, str, str, int]:
    return result["dataset"], result["series"], result["method"], result["seed"]


def _finite(result: Result) -> Result:
    """NaN has no place in JSON: write null."""
    return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in result.items()}


def finished(path: Path) -> list[Result]:
    """Return the runs of a results file, in its order, without a last one that is not written out; none without a file.

    The file may be another process's, at work.
    """
    lines = _complete(path).splitlines()
    return [{k: math.nan if v is None else v for k, v in json.loads(line).items()} for line in lines]


def _complete(path: Path) -> str:
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    return text[: text.rfind("\n") + 1]


def _open(path: Path) -> Any:
    try:
        return gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8")
    except OSError as e:
        raise SeriesError(f"{path}: {e.strerror}; give a labelled CSV file") from e


def _has_label(path: Path) -> bool:
    with _open(path) as lines:
        return str(lines.readline()).rstrip("\r\n").endswith(f",{LABEL}")


def _meta(path: Path) -> Mapping[str, Any]:
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def _times(texts: Sequence[str]) -> F64:
    """Seconds: numbers as they are, ISO 8601 as seconds since 1970 UTC, anything else as the row's index."""
    try:
        return np.array(texts, np.float64)
    except ValueError:
        pass
    try:
        stamps = (datetime.fromisoformat(t) for t in texts)
        return np.array([(t if t.tzinfo else t.replace(tzinfo=UTC)).timestamp() for t in stamps], np.float64)
    except ValueError:
        return np.arange(len(texts), dtype=np.float64)


def _hold(values: F64) -> F64:
    """Repeat the last finite value of each channel over missing ones; the first finite one before it, else 0."""
    finite = np.isfinite(values)
    if finite.all():
        return values
    n = len(values)
    last = np.maximum.accumulate(np.where(finite, np.arange(n)[:, None], -1), axis=0)
    opening = np.argmax(finite, axis=0)
    held = np.take_along_axis(values, np.where(last >= 0, last, opening[None, :]), axis=0)
    return np.nan_to_num(held, nan=0.0)
