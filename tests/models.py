"""A small trained model of simulated pumps, for every test that wants a real artifact and does not care which."""

import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from rich.console import Console

from streamae.core.types import F64, I8
from streamae.history.series import write_series
from streamae.tools.simulate.faults import Fault
from streamae.tools.simulate.plants import Pumps
from streamae.training.limits import Limit
from streamae.training.train import TrainConfig, train

PUMPS = 3
TRAIN_ROWS = 800
FAULT_ROWS = (1000, 1060)  # of the first pump


@dataclass(frozen=True, slots=True)
class TrainedPumps:
    """The model file, the registry that trusts it, and for each pump its series: `<stream>.csv`, labelled.

    The model was trained on the first `TRAIN_ROWS` rows; pressure of the first pump is wrong in `FAULT_ROWS`.
    """

    path: Path
    registry: Path
    series: Sequence[Path]
    plant: Pumps
    sha256: str


def quiet() -> Console:
    return Console(file=io.StringIO())


def quick(steps: int = 150, **changes: object) -> TrainConfig:
    """The default settings, trained for too short a time to be good."""
    config = TrainConfig(recipe=replace(TrainConfig().recipe, steps=steps), threshold=Limit(unseen=0.0))
    return replace(config, **changes)


def pump_rows(rows: int, *, seed: int = 0, pumps: int = PUMPS) -> tuple[Pumps, F64, F64, I8]:
    """A plant and its `time_s[n]`, `values[n, S, 4]`, `label[n, S]`, with a fault in the first pump."""
    plant = Pumps(pumps, 1, seed=seed, day_s=600.0)
    first, last = FAULT_ROWS
    plant.inject(Fault("drift", plant.names[0], first, last - first, magnitude=8.0, channel="pressure"))
    return plant, *plant.rows(rows)


def write_pumps(folder: Path, rows: int = 1200, **options: int) -> tuple[Pumps, list[Path]]:
    """Write `<line>-<pump>.csv` for each pump: the stream template is then `{line}-{pump}`."""
    plant, time_s, values, label = pump_rows(rows, **options)
    paths = [folder / f"{name.replace('/', '-')}.csv" for name in plant.names]
    text = [repr(float(t)) for t in time_s]
    for s, path in enumerate(paths):
        write_series(path, plant.channels, text, values[:, s], np.asarray(label[:, s]).tolist())
    return plant, paths


def train_pumps(folder: Path) -> TrainedPumps:
    plant, paths = write_pumps(folder)
    model, registry = folder / "pumps.pt", folder / "models.json"
    done = train(paths, model, TRAIN_ROWS, 0, quick(), now=lambda: 0.0, registry=registry, console=quiet())
    return TrainedPumps(model, registry, paths, plant, done.digest)
