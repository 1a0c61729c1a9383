"""The verb `train`: series of a group in, one model file out, and a record of everything that was found and done.

The window comes from the series' own period; the linear path and the network are fitted on the leading rows of every
stream, and the checkpoint and the calibration come from the trailing rows, which are never trained on.
"""

import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

import streamae
from streamae.core.types import F32, I64
from streamae.errors import SeriesError
from streamae.model import artifact
from streamae.model.export import script
from streamae.model.network import EncoderDecoder
from streamae.model.runtime import TorchReconstructor, choose_device, prepare_torch
from streamae.model.spec import NetworkSpec
from streamae.training.calibrate import calibrate
from streamae.training.dataset import Dataset, build, load, window_ends
from streamae.training.fit import Fitted, Recipe, fit, fit_linear, linear_rank, windows_at

__all__ = ["TrainConfig", "Trained", "train", "train_dataset"]

_GOLDEN_WINDOWS = 4
_LINEAR_WINDOWS = 4000


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """What may be chosen; None and "auto" mean: from the series."""

    window: int | None = None
    horizon: int = 2
    task: str = "composite"
    cell: str = "lstm"
    hidden: int = 16
    layers: int = 1
    decoder: str = "unconditional"
    reversed: bool = True
    linear: str = "auto"
    linear_variance: float = 0.7
    code_distance: bool = False
    context: tuple[str, ...] | None = None
    holdout: float = 0.25
    warmup_rows: int | None = None
    recipe: Recipe = field(default_factory=Recipe)
    device: str = "auto"


@dataclass(frozen=True, slots=True, eq=False)
class Trained:
    """A trained model, before or after it was written."""

    network: EncoderDecoder
    manifest: dict[str, Any]
    digest: str = ""


def train(
    paths: Sequence[Path],
    out: Path,
    rows: int | None = None,
    seed: int = 0,
    config: TrainConfig | None = None,
    *,
    now: Callable[[], float],
    registry: Path | None = None,
    console: Console | None = None,
) -> Trained:
    """Train on the first `rows` rows of each file (all, if None), write the model file `out`, and say what was found.

    `now` is a clock in seconds. `registry` records the digest, so that this installation may load the file without a
    pin. Raises SeriesError on series that nothing can be learnt from, ArtifactError where `out` cannot be written.
    """
    console = console or Console(file=sys.stderr)
    config = config or TrainConfig()
    began_s = now()
    dataset = build(load(paths, rows), config.context)
    _say_found(console, dataset)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("loss {task.fields[loss]:.4f}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("training", total=config.recipe.steps, loss=float("nan"))
        trained = train_dataset(
            dataset, seed, config, lambda step, _, loss: bar.update(task, completed=step, loss=loss)
        )
        bar.update(task, completed=config.recipe.steps)
    trained.manifest["training"]["duration_s"] = round(now() - began_s, 2)
    digest = artifact.save(out, script(trained.network), trained.manifest, registry)
    _say_trained(console, out, digest, trained.manifest)
    return Trained(trained.network, trained.manifest, digest)


def train_dataset(
    dataset: Dataset, seed: int, config: TrainConfig, progress: Callable[[int, int, float], None] | None = None
) -> Trained:
    """Train and calibrate in memory; a function of its arguments (and of machine and library versions)."""
    prepare_torch()
    torch.manual_seed(seed)
    device = choose_device(config.device)
    window = config.window or _window(dataset)
    train_ends, held_ends = _split(dataset, window, config.holdout)
    rows = torch.from_numpy(dataset.values)
    spread_out = train_ends[:: max(1, len(train_ends) // _LINEAR_WINDOWS)]
    sample = windows_at(rows, torch.from_numpy(spread_out), window)
    spec = _spec(dataset, window, sample.numpy(), config)
    network = EncoderDecoder(spec)
    fit_linear(network, sample, spec.linear_rank)
    network.to(device)
    fitted = fit(
        network,
        rows.to(device),
        train_ends,
        np.concatenate(held_ends),
        recipe=config.recipe,
        seed=seed,
        progress=progress,
    )
    network.cpu().eval()
    if spec.code_distance:
        _fit_code(network, sample)
    return Trained(
        network,
        _record(
            dataset,
            spec,
            network,
            fitted=fitted,
            held_ends=held_ends,
            windows=len(train_ends),
            seed=seed,
            config=config,
        ),
    )


def _window(dataset: Dataset) -> int:
    """Window length T: the period where there is one, within bounds that a streaming detector can afford."""
    shortest = int(np.diff(dataset.bounds).min())
    several = len(dataset.targets) > 1
    wanted = 16 if several else int(np.clip(dataset.period_rows or 32, 16, 128))
    return int(max(8, min(wanted, shortest // 8)))


def _spec(dataset: Dataset, window: int, sample: F32, config: TrainConfig) -> NetworkSpec:
    horizon = config.horizon if config.task != "reconstruction" else 0
    wants_linear = config.linear == "on" or (config.linear == "auto" and len(dataset.targets) > 1)
    rank = linear_rank(sample, dataset.targets, window - horizon, config.linear_variance) if wants_linear else 0
    return NetworkSpec(
        channels=len(dataset.channels),
        targets=dataset.targets,
        window=window,
        horizon=horizon,
        task=config.task,
        cell=config.cell,
        hidden=config.hidden,
        layers=config.layers,
        decoder=config.decoder,
        reversed=config.reversed,
        linear_rank=rank,
        code_distance=config.code_distance,
    )


def _split(dataset: Dataset, window: int, holdout: float) -> tuple[I64, list[I64]]:
    """Window ends to train on, and per stream those whose windows lie wholly in its trailing rows."""
    learn, held = [], []
    for s, name in enumerate(dataset.names):
        n = int(dataset.bounds[s + 1] - dataset.bounds[s])
        cut = n - max(int(holdout * n), 2 * window)
        learn.append(window_ends(dataset, window, s, 0, max(cut, 0)))
        held.append(window_ends(dataset, window, s, cut, n))
        if len(learn[-1]) == 0 or len(held[-1]) == 0:
            raise SeriesError(
                f"{name}: {n} rows, with its gaps, leave no windows of {window} rows to train on and calibrate "
                "with; record for longer, or choose a shorter window"
            )
    return np.concatenate(learn), held


def _fit_code(network: EncoderDecoder, sample: torch.Tensor) -> None:
    with torch.no_grad():
        code = network.encode(sample)
    network.code_center.copy_(code.mean(dim=0))
    network.code_spread.copy_(code.std(dim=0).clamp_min(1e-3))


def _record(
    dataset: Dataset,
    spec: NetworkSpec,
    network: EncoderDecoder,
    *,
    fitted: Fitted,
    held_ends: Sequence[I64],
    windows: int,
    seed: int,
    config: TrainConfig,
) -> dict[str, Any]:
    runner = TorchReconstructor(script(network), spec)
    held = [_at(dataset, ends, spec.window) for ends in held_ends]
    errors = [runner.errors(w) for w in held]
    calibration, level = calibrate(errors, spec.features(), spec.channels, spec.window, period_s=dataset.period_s)
    golden = held[0][:: max(1, len(held[0]) // _GOLDEN_WINDOWS)][:_GOLDEN_WINDOWS]
    return {
        "format": {"kind": "torchscript", "version": artifact.FORMAT_VERSION},
        "channels": list(dataset.channels),
        "targets": [dataset.channels[c] for c in dataset.targets],
        "context": [name for c, name in enumerate(dataset.channels) if c not in dataset.targets],
        "network": spec.to_mapping(),
        "features": [f"{kind}:{dataset.channels[c] if c >= 0 else '-'}" for kind, c in spec.features()],
        "period_s": dataset.period_s,
        "gap_max_s": dataset.gap_max_s,
        "warmup_rows": config.warmup_rows or max(4 * spec.window, 64),
        "streams": {
            name: {
                "location": dataset.location[s].tolist(),
                "scale": dataset.scale[s].tolist(),
                "level": level[s].tolist(),
            }
            for s, name in enumerate(dataset.names)
        },
        "calibration": calibration,
        "golden": {"windows": golden.tolist(), "errors": runner.errors(golden).tolist()},
        "training": {
            "seed": seed,
            "rows": {name: int(n) for name, n in zip(dataset.names, np.diff(dataset.bounds), strict=True)},
            "windows": windows,
            "held_out_windows": int(sum(len(e) for e in held_ends)),
            "dropped_channels": dict(dataset.dropped),
            "refused_rows": dict(dataset.refused_rows),
            "period_rows": dataset.period_rows,
            "recipe": asdict(config.recipe),
            "losses": [list(pair) for pair in fitted.losses],
            "best_step": fitted.best_step,
        },
        "versions": {"streamae": streamae.__version__, "torch": torch.__version__, "numpy": np.__version__},
    }


def _at(dataset: Dataset, ends: I64, window: int) -> F32:
    windows: F32 = dataset.values[ends[:, None] + np.arange(1 - window, 1)]
    return windows


def _say_found(console: Console, dataset: Dataset) -> None:
    rows = int(dataset.bounds[-1])
    console.print(f"{len(dataset.names)} streams, {rows} rows, a row every {dataset.period_s:g} s", highlight=False)
    console.print(f"targets: {', '.join(dataset.channels[c] for c in dataset.targets)}", highlight=False)
    context = [name for c, name in enumerate(dataset.channels) if c not in dataset.targets]
    if context:
        console.print(f"context (inputs only): {', '.join(context)}", highlight=False)
    for name, why in dataset.dropped.items():
        console.print(f"dropped channel {name}: {why}", highlight=False)
    for why, count in dataset.refused_rows.items():
        if count:
            console.print(f"left out {count} rows: {why.replace('_', ' ')}", highlight=False)
    found = f"period: {dataset.period_rows} rows" if dataset.period_rows else "period: none found"
    console.print(found, highlight=False)


def _say_trained(console: Console, out: Path, digest: str, manifest: dict[str, Any]) -> None:
    network, training = manifest["network"], manifest["training"]
    console.print(
        f"window {network['window']} rows (forecasting the last {network['horizon']}), {network['cell']} "
        f"{network['hidden']}, linear rank {network['linear_rank']}; {training['windows']} windows trained on, "
        f"{training['held_out_windows']} held out; best checkpoint at step {training['best_step']}",
        highlight=False,
    )
    console.print(f"trained in {training['duration_s']:g} s: {out}\nsha256: {digest}", highlight=False)
