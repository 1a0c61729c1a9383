"""What `train` prints: what was found in the series, and what was made of them."""

from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from streamae.model.spec import DetectorSpec
from streamae.training.cold_start import FAR
from streamae.training.covariates import CovariateTrial
from streamae.training.dataset import Dataset

__all__ = ["say_found", "say_trained"]


def say_found(console: Console, dataset: Dataset) -> None:
    """Print what there is to learn from."""
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


def say_trained(console: Console, out: Path, digest: str, manifest: dict[str, Any]) -> None:
    """Print what was made of it, and where it is."""
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
