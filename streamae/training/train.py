"""The verb `train`: series of a group in, one model file out, and a record of everything that was found and done.

What is built is `training.plan`'s decision; `training.features` fits the linear and prototype parts, `training.fit` the
network, and `training.calibrate` finds what is normal for each stream.
"""

import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

import streamae
from streamae.core.align_rule import GridAlign
from streamae.core.types import F32, I64
from streamae.errors import SeriesError
from streamae.history.series import Series
from streamae.model.detector import DetectorNetwork
from streamae.model.export import script
from streamae.model.runtime import TorchReconstructor, choose_device, prepare_torch
from streamae.model.save import format_version, save
from streamae.model.spec import DetectorSpec
from streamae.training.calibrate import calibrate, longest_runs
from streamae.training.cold_start import FAR, calibrate_cold_start
from streamae.training.covariates import CovariateTrial, choose, fit_beside
from streamae.training.dataset import Dataset, Stream, build, load
from streamae.training.features import fit_features
from streamae.training.fit import Fitted, fit, fit_linear
from streamae.training.holdout import first_part, is_short, passed
from streamae.training.incidents import place_threshold, read_incidents, without
from streamae.training.limits import move_threshold
from streamae.training.plan import TrainConfig, ends_of, flat_windows, make_plan, rows_at
from streamae.training.preparing import Ready, prepare

__all__ = ["TrainConfig", "Trained", "train", "train_dataset", "train_ready", "train_streams"]

_GOLDEN_WINDOWS = 4
_LINEAR_WINDOWS = 4000
_CALIBRATED_MAX = 300_000  # windows; beyond, stretches of each stream stand for it
_STRETCH = 4096


@dataclass(frozen=True, slots=True, eq=False)
class Trained:
    """A trained model, before or after it was written."""

    network: DetectorNetwork
    scripted: torch.jit.ScriptModule
    manifest: dict[str, Any]
    digest: str = ""


def train(
    paths: Sequence[Path],
    out: Path,
    rows: int | None = None,
    seed: int = 0,
    config: TrainConfig | None = None,
    *,
    fetched: Sequence[Series] = (),
    grid: GridAlign | None = None,
    now: Callable[[], float],
    registry: Path | None = None,
    console: Console | None = None,
) -> Trained:
    """Train on the first `rows` rows of each file (all, if None), write the model file `out`, and print what was found.

    `fetched` are series in addition to those in files. `grid` puts the samples of files onto a time grid, as the daemon
    does. `now` is a clock in seconds. `registry` records the digest, so that this installation may load the file
    without a pin. Raises SeriesError on series that nothing can be learnt
    from, ArtifactError where `out` cannot be written.
    """
    console = console or Console(file=sys.stderr)
    config = config or TrainConfig()
    began_s = now()
    ready = prepare(load(paths, rows, fetched), config.screening, grid)
    streams, limit = ready.streams, config.threshold
    incidents = read_incidents(limit.incidents, streams) if limit.incidents is not None else []
    normal = without(streams, incidents)
    for note in ready.notes:
        console.print(note, highlight=False, markup=False)
    _say_found(console, build(normal, config.context, ready.counters))
    if incidents:
        console.print(f"left out the rows of {len(incidents)} incidents; they place the threshold", highlight=False)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("loss {task.fields[loss]:.4f}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("training", total=config.recipe.steps, loss=float("nan"))
        ready = replace(ready, streams=normal)
        trained = train_ready(ready, seed, config, lambda step, _, loss: bar.update(task, completed=step, loss=loss))
        bar.update(task, completed=config.recipe.steps)
    if incidents:
        model = TorchReconstructor(trained.scripted, DetectorSpec.from_mapping(trained.manifest["network"]))
        place_threshold(trained.manifest, model, streams, incidents, limit.beta)
        trained.manifest["training"]["incidents"] = len(incidents)
    trained.manifest["training"] |= {"trained_s": began_s, "duration_s": round(now() - began_s, 2)}
    digest = save(out, trained.scripted, trained.manifest, registry)
    _say_trained(console, out, digest, trained.manifest)
    return replace(trained, digest=digest)


def train_streams(
    streams: Sequence[Stream], seed: int, config: TrainConfig, progress: Callable[[int, int, float], None] | None = None
) -> Trained:
    """Train and calibrate on these streams, after finding what of them is a measurement.

    Raises SeriesError on series that nothing can be learnt from.
    """
    return train_ready(prepare(streams, config.screening), seed, config, progress)


def train_ready(
    ready: Ready, seed: int, config: TrainConfig, progress: Callable[[int, int, float], None] | None = None
) -> Trained:
    """Train and calibrate, and ask of rows at the end of each stream what the threshold is worth where it matters.

    Raises SeriesError on series that nothing can be learnt from.
    """
    trained = train_dataset(build(ready.streams, config.context, ready.counters), seed, config, progress)
    ready.complete(trained.manifest)
    limit = config.threshold
    if limit.method != "budget" or not limit.unseen or config.held_out or not is_short(trained.manifest):
        return trained
    try:
        part = build(first_part(ready.streams, limit.unseen), config.context, ready.counters)
        first = train_dataset(part, seed, config, progress)
        ready.complete(first.manifest)
    except SeriesError:  # too short for less of it
        return trained
    model = TorchReconstructor(first.scripted, DetectorSpec.from_mapping(first.manifest["network"]))
    trained.manifest["training"]["unseen_passed"] = by = passed(first.manifest, model, ready.streams, limit.unseen)
    move_threshold(trained.manifest, by)
    return trained


def train_dataset(
    dataset: Dataset, seed: int, config: TrainConfig, progress: Callable[[int, int, float], None] | None = None
) -> Trained:
    """Train and calibrate in memory; a function of its arguments (and of machine and library versions)."""
    prepare_torch()
    device = choose_device(config.device)
    flat = flat_windows(dataset, config.held_out)
    chosen = choose(dataset, make_plan(dataset, config, flat), config, flat)
    dataset, plan = chosen.dataset, chosen.plan
    torch.manual_seed(seed)
    detector = DetectorNetwork(plan.spec)
    fit_features(detector, flat, plan.bases, seed)
    fit_beside(detector, dataset)
    train_ends, held_ends = (np.concatenate(x) for x in ends_of(dataset, plan.spec.network.window, config.held_out))
    rows = torch.from_numpy(dataset.read())
    spread_out = train_ends[:: max(1, len(train_ends) // _LINEAR_WINDOWS)]
    sample = detector.network_input(torch.from_numpy(rows_at(dataset, spread_out, plan.spec.network.window)))
    fit_linear(detector.network, sample, plan.spec.network.linear_rank)
    detector.to(device)
    fitted = fit(
        detector.network,
        rows.to(device),
        train_ends,
        held_ends,
        recipe=config.recipe,
        seed=seed,
        progress=progress,
        prepare=detector.network_input,
    )
    detector.cpu().eval()
    if plan.spec.network.code_distance:
        _fit_code(detector, sample)
    scripted = script(detector)
    runner = TorchReconstructor(scripted, plan.spec)
    record = _record(dataset, plan.spec, runner, fitted=fitted, windows=len(train_ends), seed=seed, config=config)
    record["training"]["inputs"] = chosen.record()
    if dataset.calendar.angles:
        record["calendar"] = dataset.calendar.to_mapping() | {"zone": config.zone}
    return Trained(detector, scripted, record)


def _fit_code(detector: DetectorNetwork, sample: torch.Tensor) -> None:
    with torch.no_grad():
        code = detector.network.encode(sample)
    detector.network.code_center.copy_(code.mean(dim=0))
    detector.network.code_spread.copy_(code.std(dim=0).clamp_min(1e-3))


def _calibrated(ends: Sequence[I64]) -> list[I64]:
    """Window ends to calibrate on: all, or evenly spread stretches of rows in a row where that is too many."""
    part = _CALIBRATED_MAX / sum(len(e) for e in ends)
    if part >= 1:
        return list(ends)
    return [e[(np.arange(len(e)) / _STRETCH * part) % 1.0 < part] for e in ends]


def _record(
    dataset: Dataset,
    spec: DetectorSpec,
    runner: TorchReconstructor,
    *,
    fitted: Fitted,
    windows: int,
    seed: int,
    config: TrainConfig,
) -> dict[str, Any]:
    learn, held = ends_of(dataset, spec.window, config.held_out)
    ends = _calibrated(held if config.held_out > 0 else learn)
    errors = [_errors(runner, dataset, e, spec.window) for e in ends]
    calibration, streams = calibrate(
        errors,
        spec.features(),
        spec.channels,
        learn_windows=config.learn_windows or spec.window,
        row_s=dataset.period_s,
        distance=config.score == "mahalanobis",
        limit=config.threshold,
    )
    warmup_rows = config.warmup_rows or max(4 * spec.window, 64)
    runs = [longest_runs(dataset.values[a:b]) for a, b in pairwise(dataset.bounds.tolist())]
    longest = np.max(runs, axis=0)
    calibration = calibrate_cold_start(calibration, dataset, spec, runner.errors, warmup_rows, longest)
    calibration = replace(calibration, runs=longest)
    own = [
        replace(one, location=dataset.location[s], scale=dataset.scale[s], runs=runs[s])
        for s, one in enumerate(streams)
    ]
    golden = rows_at(dataset, ends[0][:: max(1, len(ends[0]) // _GOLDEN_WINDOWS)][:_GOLDEN_WINDOWS], spec.window)
    return {
        "format": {"kind": "torchscript", "version": format_version(spec.to_mapping())},
        "channels": list(dataset.channels),
        "targets": [dataset.channels[c] for c in dataset.targets],
        "context": [name for c, name in enumerate(dataset.channels) if c not in dataset.targets],
        "network": spec.to_mapping(),
        "features": [f"{kind}:{dataset.channels[c] if c >= 0 else '-'}" for kind, c in spec.features()],
        "period_s": dataset.period_s,
        "gap_max_s": dataset.gap_max_s,
        "warmup_rows": warmup_rows,
        "streams": {name: one.to_mapping() for name, one in zip(dataset.names, own, strict=True)},
        "calibration": calibration.to_mapping(),
        "golden": {"windows": golden.tolist(), "errors": runner.errors(golden).tolist()},
        "training": {
            "seed": seed,
            "rows": {name: int(n) for name, n in zip(dataset.names, np.diff(dataset.bounds), strict=True)},
            "windows": windows,
            "calibrated_windows": int(sum(len(e) for e in errors)),
            "dropped_channels": dict(dataset.dropped),
            "refused_rows": dict(dataset.refused_rows),
            "period_rows": dataset.period_rows,
            "recipe": asdict(config.recipe),
            "losses": [list(pair) for pair in fitted.losses],
            "best_step": fitted.best_step,
        },
        "versions": {"streamae": streamae.__version__, "torch": torch.__version__, "numpy": np.__version__},
    }


def _errors(runner: TorchReconstructor, dataset: Dataset, ends: I64, window: int) -> F32:
    """Errors [n, E], in portions that bound the memory of the windows."""
    parts = np.array_split(ends, max(1, len(ends) // 4096))
    errors: F32 = np.concatenate([runner.errors(rows_at(dataset, part, window)) for part in parts])
    return errors


def _say_found(console: Console, dataset: Dataset) -> None:
    rows = int(dataset.bounds[-1])
    console.print(f"{len(dataset.names)} streams, {rows} rows, a row every {dataset.period_s:g} s", highlight=False)
    console.print(f"targets: {', '.join(dataset.channels[c] for c in dataset.targets)}", highlight=False)
    context = [name for c, name in enumerate(dataset.channels) if c not in dataset.targets]
    if context:
        console.print(f"not explained (context, or few values): {', '.join(context)}", highlight=False)
    for name, why in dataset.dropped.items():
        console.print(f"dropped channel {name}: {why}", highlight=False)
    for why, count in dataset.refused_rows.items():
        if count:
            console.print(f"left out {count} rows: {why.replace('_', ' ')}", highlight=False)
    found = f"period: {dataset.period_rows} rows" if dataset.period_rows else "period: none found"
    console.print(found, highlight=False)


def _say_trained(console: Console, out: Path, digest: str, manifest: dict[str, Any]) -> None:
    spec, training = DetectorSpec.from_mapping(manifest["network"]), manifest["training"]
    net = spec.network
    parts = dict.fromkeys(kind for kind, _ in spec.features())
    for trial in (CovariateTrial(**kept) for kept in training["inputs"]):
        console.print(trial.said(), highlight=False)
    console.print(
        f"window {spec.window} rows: {', '.join(parts)}\n"
        f"{net.cell} {net.hidden} over {net.window} rows, forecasting the last {net.horizon}; {training['windows']} "
        f"windows trained on, {training['calibrated_windows']} calibrated on; step {training['best_step']} kept",
        highlight=False,
    )
    if training.get("unseen_passed"):
        more = 100 * np.expm1(training["unseen_passed"])
        console.print(f"threshold raised by {more:.0f} %: rows held back reached so far above it", highlight=False)
    calibration = manifest["calibration"]
    above = calibration["cold_zero"] - calibration["zero"]
    if above > FAR:
        console.print(
            f"warning: a machine that is not among these is judged {np.exp(above):.0f} times less sharply: taken for "
            "unknown, these differ so much. Train on it too, or name channels with few values as context",
            highlight=False,
        )
    console.print(f"trained in {training['duration_s']:g} s: {out}\nsha256: {digest}", highlight=False)
