"""The detector on a plant whose truth is known: false alarms against the budget, and what it finds of each fault.

    python -m tests.bench.plant --seeds 0 1 2 --results runs.jsonl --markdown

For each plant and seed the default model is trained on some normal days of all its streams. Then

    normal   the days that follow go through the daemon's core, and its threshold is run at each budget; alarms (runs
             of rows above the threshold) are counted as `streamae evaluate` counts them, against budget times time.
    faults   a copy of each stream's next day gets one fault; recall is the share of faults with an alarm while they
             last, delay the time to the first. The control is the same stretch of the same stream without the fault.
             A stuck sensor is also the concern of `core.sensors.stage`, whose verdict is counted on its own.
    size     the score must rise with the magnitude of the fault. What rises is the score of a row with the fault over
             that of the same row without it, at the row where it rises most (`rise`). The peak of the stretch is kept
             beside it, and need not rise: a fault of hours lies among changes of mode, whose own peaks hide it until
             it is the larger, and a small one may lead a reading back into its usual range first. In those stretches
             the distance to the nearest window of the training stands still or falls as well (single sensors, drift:
             its rank correlation with the magnitude is .84, and so is the score's), so no score of a window rises.

Every figure is a function of plant, seed and bench; one JSON line each of them, so a run can be taken up again.
"""

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from streamae.core.alert import AlertRule
from streamae.core.pipeline import Pipeline
from streamae.core.profile import Profile
from streamae.core.sensors.stage import SensorRule, Sensors
from streamae.core.types import F64, I8, I32, I64, Readings, Rows
from streamae.errors import StreamaeError
from streamae.evaluation.budgets import BUDGETS, thresholds
from streamae.evaluation.metrics import DAY_S, alarms
from streamae.marked import replace_block
from streamae.model.artifact import profile_of
from streamae.model.runtime import TorchReconstructor
from streamae.model.spec import DetectorSpec
from streamae.tools.simulate.faults import ActiveFault, Fault
from streamae.tools.simulate.plants import Fleet, Plant, Pumps
from streamae.training.backtest import offline_group
from streamae.training.dataset import Stream
from streamae.training.fit import Recipe
from streamae.training.train import TrainConfig, train_streams
from tests.bench.plant_table import tables

__all__ = ["PLANTS", "Bench", "FaultTrial", "evaluate_plant", "main", "rises", "score_streams"]

FAULT_BUDGET = "1/week"
LASTS_S = {
    "spike": 30.0,
    "drift": 21_600.0,
    "stuck": 7200.0,
    "oscillation": 600.0,
    "leak": 7200.0,
    "mode_mixup": 7200.0,
}
MAGNITUDES = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
_LEAD_S, _TAIL_S = 3600.0, 1800.0
_ROWS_PER_STEP = 512
_UNJUDGED = 1e-6  # the score of a row without a full window, with and without the fault

Run = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Bench:
    """How large the bench is. A day of the plant lasts `day_s`; faults last as `LASTS_S`, times `day_s` over a day."""

    streams: int = 8
    train_days: float = 3.0
    normal_days: float = 7.0
    period_s: float = 10.0
    day_s: float = DAY_S
    recipe: Recipe = TrainConfig().recipe

    def plant(self, kind: str, seed: int) -> Plant:
        """Return a plant of this size."""
        return PLANTS[kind](self, seed)

    def rows(self, days: float) -> int:
        """Rows in so many days of the plant."""
        return round(days * self.day_s / self.period_s)

    def real_s(self, seconds: float) -> float:
        """What so many seconds of a real day are in a day of the plant; at least three rows."""
        return max(seconds * self.day_s / DAY_S, 3 * self.period_s)


PLANTS: Mapping[str, Callable[[Bench, int], Plant]] = {
    "pumps": lambda b, seed: Pumps(b.streams, 2, seed=seed, period_s=b.period_s, day_s=b.day_s),
    "sensors": lambda b, seed: Fleet(b.streams, seed=seed, period_s=b.period_s, day_s=b.day_s),
}


@dataclass(frozen=True, slots=True, eq=False)
class FaultTrial:
    """A copy of a stream's rows, with or without a fault, and the rows `label[N]` that the fault is at work in."""

    stream: int
    kind: str
    magnitude: float
    values: F64
    label: I8


def train_plant(plant: Plant, bench: Bench, seed: int) -> tuple[Profile, TorchReconstructor]:
    """Train the default model on the plant's next `train_days` of all streams."""
    time_s, values, _ = plant.rows(bench.rows(bench.train_days))
    streams = [Stream(name, plant.channels, time_s, values[:, i]) for i, name in enumerate(plant.names)]
    trained = train_streams(streams, seed, TrainConfig(recipe=bench.recipe))
    spec = DetectorSpec.from_mapping(trained.manifest["network"])
    return profile_of(trained.manifest, ""), TorchReconstructor(trained.scripted, spec)


def score_streams(
    profile: Profile, model: TorchReconstructor, names: Sequence[str], time_s: F64, values: Sequence[F64]
) -> tuple[F64, F64]:
    """Scores and thresholds `[N, S]` of `values[S][n, C]` at `time_s[N]`, by the core; NaN where nothing was judged.

    Streams may be shorter than `time_s`.
    """
    N, S = len(time_s), len(names)
    score, threshold = np.full((N, S), np.nan), np.full((N, S), np.nan)
    pipeline = Pipeline("plant", offline_group(profile, model, AlertRule()))
    step = max(1, _ROWS_PER_STEP * 8 // S)
    for first in range(0, N, step):
        parts = [v[first : first + step] for v in values]
        stream = np.concatenate([np.full(len(p), s, np.int32) for s, p in enumerate(parts)])
        row = np.concatenate([first + np.arange(len(p)) for p in parts])
        report = pipeline.step_rows(names, Rows(stream, time_s[row], np.concatenate(parts)))
        found = report.groups["series"].verdicts
        at = np.searchsorted(time_s, found.time_s)
        score[at, found.stream], threshold[at, found.stream] = found.score, found.threshold
    return score, threshold


def normal_run(plant: Plant, profile: Profile, model: TorchReconstructor, bench: Bench) -> Run:
    """Count the alarms of the plant's next `normal_days` at every budget."""
    time_s, values, label = plant.rows(bench.rows(bench.normal_days))
    score, _ = score_streams(profile, model, plant.names, time_s, list(values.swapaxes(0, 1)))
    calm = label[:, 0] > 0
    found: Run = {}
    for name, rate in BUDGETS.items():
        limit = thresholds(profile, plant.names, time_s, score, rate)
        counts = [alarms(calm, above).false_events for above in (score > limit).T]
        found[name] = {"raised": sum(counts), "asked": rate * len(time_s) * bench.period_s * len(counts)}
    return {"stream_days": len(time_s) * bench.period_s * len(plant.names) / DAY_S, "budgets": found}


def trials(plant: Plant, bench: Bench, seed: int) -> tuple[F64, list[FaultTrial]]:
    """Times `[N]`, and every kind of fault at every magnitude on a copy of each stream; magnitude 0 is the control."""
    time_s, values, _ = plant.rows(bench.rows(0.9))
    numbers = {name: i for i, name in enumerate(plant.channels)}
    rng = np.random.default_rng(seed)
    found = []
    for kind, lasts_s in LASTS_S.items():
        length_s, lead_s, tail_s = bench.real_s(lasts_s), bench.real_s(_LEAD_S), bench.real_s(_TAIL_S)
        room_s = len(time_s) * bench.period_s - lead_s - length_s - tail_s
        for s, name in enumerate(plant.names):
            first = int(rng.uniform(0, room_s) / bench.period_s)
            part = values[first : first + round((lead_s + length_s + tail_s) / bench.period_s), s]
            channel = (s + seed) % len(plant.channels)
            for magnitude in (0.0, *MAGNITUDES[-1:]) if kind == "stuck" else (0.0, *MAGNITUDES):
                fault = Fault(kind, name, lead_s, length_s, magnitude, plant.channels[channel])
                found.append(_trial(fault, s, channel, numbers, part, plant.spread[s], bench.period_s))
    return time_s, found


def _trial(
    fault: Fault, stream: int, channel: int, numbers: Mapping[str, int], rows: F64, spread: F64, period_s: float
) -> FaultTrial:
    age_s: F64 = np.arange(len(rows)).astype(np.float64) * period_s - fault.start_s
    inside = (age_s >= 0) & (age_s < fault.duration_s)
    values = rows.copy()
    if fault.magnitude > 0:
        part = values[inside]
        ActiveFault(fault, stream, channel, numbers).apply(age_s[inside], part, spread)
        values[inside] = part
    return FaultTrial(stream, fault.kind, fault.magnitude, values, inside.astype(np.int8))


def fault_run(plant: Plant, profile: Profile, model: TorchReconstructor, bench: Bench, seed: int) -> Run:
    """Recall, delay, peak and rise of the score of each fault at each magnitude, at the budget of `FAULT_BUDGET`."""
    time_s, made = trials(plant, bench, seed)
    names = [f"{plant.names[t.stream]}~{n}" for n, t in enumerate(made)]
    copies = {name: profile.streams[plant.names[t.stream]] for name, t in zip(names, made, strict=True)}
    calibration = replace(profile.calibration, budget_per_s=BUDGETS[FAULT_BUDGET])
    profile = replace(profile, streams=copies, calibration=calibration)
    score, limit = score_streams(profile, model, names, time_s, [t.values for t in made])
    score = np.nan_to_num(score, nan=_UNJUDGED)
    out: list[Run] = []
    for n, trial in enumerate(made):
        inside = np.flatnonzero(trial.label)
        above = np.flatnonzero(score[inside, n] > limit[inside, n])
        delay_s = float(above[0] * bench.period_s) if len(above) else None
        if trial.magnitude == 0:  # the first of its kind and stream: the control of those that follow
            control = score[:, n]
        held = slice(inside[0], inside[-1] + profile.window)  # rows whose windows hold some of the fault
        level = {"peak": float(score[inside, n].max()), "rise": rises(score[held, n], control[held])}
        out.append(
            {"stream": trial.stream, "kind": trial.kind, "magnitude": trial.magnitude} | {"delay_s": delay_s, **level}
        )
        if trial.kind == "stuck":
            runs = copies[names[n]].runs
            out[-1]["sensor_s"] = sensor_delay_s(profile, trial, runs, bench.period_s)
    return {"trials": out}


def rises(score: F64, control: F64) -> float:
    """How far, in logarithms, a fault lifts the score[n] of a row over that row's without it, where it does most."""
    return float((np.log(score) - np.log(control)).max())


def sensor_delay_s(profile: Profile, trial: FaultTrial, runs: I64 | None, period_s: float) -> float | None:
    """Time from the start of the fault to the core's verdict that a sensor is stuck; None where there is none."""
    N, C = trial.values.shape
    health = Sensors(SensorRule(stale_after_s=None), profile.channels, apart=False)
    health.grow(1)
    health.begin(0, runs, known=True)
    time_s, origin = np.repeat(np.arange(N) * period_s, C), np.repeat(np.arange(N), C).astype(np.int32)
    stream: I32 = np.zeros(N * C, np.int32)
    channel = np.tile(np.arange(C, dtype=np.int32), N)
    samples = Readings(stream, channel, time_s, trial.values.ravel(), origin, time_s)
    found = health.step(samples, np.zeros(N * C, np.bool_), np.zeros(1, np.bool_), float(time_s[-1]))
    begin_s, end_s = np.flatnonzero(trial.label)[[0, -1]] * period_s
    delays = [f.time_s - begin_s for f in found if f.rule == "stuck" and f.fires and begin_s <= f.time_s <= end_s]
    return min(delays, default=None)


def evaluate_plant(
    bench: Bench, plants: Sequence[str], seeds: Sequence[int], results: Path | None, say: Callable[[str], Any]
) -> list[Run]:
    """Run what `results` does not hold yet, append it there, and return all."""
    done = {_key(run): run for run in _lines(results)}
    size = asdict(bench)
    out = []
    for plant in plants:
        for seed in seeds:
            key = json.dumps([plant, seed, size])
            if key not in done:
                done[key] = {"plant": plant, "seed": seed, "bench": size} | _run(bench, plant, seed)
                if results is not None:
                    with results.open("a", encoding="utf-8") as file:
                        file.write(json.dumps(done[key]) + "\n")
            say(f"{plant}, seed {seed}: done\n")
            out.append(done[key])
    return out


def _run(bench: Bench, kind: str, seed: int) -> Run:
    plant = bench.plant(kind, seed)
    profile, model = train_plant(plant, bench, seed)
    found = fault_run(plant, profile, model, bench, seed)
    return found | {"normal": normal_run(plant, profile, model, bench)}


def _key(run: Run) -> str:
    return json.dumps([run["plant"], run["seed"], run["bench"]])


def _lines(path: Path | None) -> list[Run]:
    if path is None or not path.exists():
        return []
    text = path.read_text(encoding="utf-8")
    complete = text[: text.rfind("\n") + 1]  # a run that was cut off while it wrote its line is run again
    if complete != text:
        path.write_text(complete, encoding="utf-8")
    return [json.loads(line) for line in complete.splitlines()]


def main(argv: Sequence[str] | None = None, say: Callable[[str], Any] = sys.stdout.write) -> int:
    """Run the bench and print its tables, or its runs as JSON lines."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.plant", description=__doc__.splitlines()[0])
    parser.add_argument("--plants", nargs="+", choices=PLANTS, default=list(PLANTS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--streams", type=int, default=Bench().streams)
    parser.add_argument("--days", type=float, default=Bench().normal_days, help="of normal operation after training")
    parser.add_argument("--results", type=Path, help="JSON lines to resume from and append to")
    parser.add_argument("--markdown", action="store_true", help="print tables instead of one JSON line a run")
    parser.add_argument(
        "--update", "--readme", type=Path, help="replace the tables between the markers `plant` of this file"
    )
    given = parser.parse_args(argv)
    bench = Bench(streams=given.streams, normal_days=given.days)
    try:
        runs = evaluate_plant(bench, given.plants, given.seeds, given.results, sys.stderr.write)
        if given.update is not None:
            replace_block(given.update, "plant", tables(runs))
    except StreamaeError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    say(tables(runs) if given.markdown else "".join(json.dumps(run) + "\n" for run in runs))
    return 0


if __name__ == "__main__":
    sys.exit(main())
