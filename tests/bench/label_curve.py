"""What is a trained encoder worth to a classifier? The label-efficiency curve on simulated incidents, as one command.

    python -m tests.bench.label_curve --seeds 3

Pumps with four incidents each, of three kinds in turn, labelled by kind; the rest is "normal". The encoder learns from
all rows and no label, by the settings of `streamae train`;
then each classifier (`training.classify.classifiers`) is taught with 1, 5, 10 and 100 % of the labels outside of the
held-out incidents, and names the windows inside.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from streamae.history.series import Series
from streamae.marked import replace_block
from streamae.model.artifact import profile_of
from streamae.tools.simulate.faults import Fault
from streamae.tools.simulate.plants import Pumps
from streamae.training.classify.classifiers import Curve, learning_curve
from streamae.training.classify.encoder import train_encoder
from streamae.training.classify.labels import label_windows
from streamae.training.plan import TrainConfig

__all__ = ["FRACTIONS", "KINDS", "curve", "incidents", "main"]

KINDS = ("oscillation", "leak", "mode_mixup")
FRACTIONS = (0.01, 0.05, 0.1, 1.0)
_FIRST, _EVERY, _LATER = 150, 300, 100  # rows: the first incident, from one to the next, and how much later it may be


def incidents(pumps: int, rows: int, lasting: int, magnitude: float = 2.0) -> tuple[list[Series], list[list[str]]]:
    """Return a series of each pump at 1 Hz and the label of each of its rows; incidents last `lasting` rows."""
    plant, random = Pumps(pumps, 1, seed=0, day_s=600.0), np.random.default_rng(0)
    label = np.full((rows, pumps), "normal", object)
    for i, name in enumerate(plant.names):
        for j in range(4):
            start, kind = _FIRST + j * _EVERY + int(random.integers(0, _LATER)), KINDS[(i + j) % len(KINDS)]
            plant.inject(Fault(kind, name, start, lasting, magnitude=magnitude))
            label[start : start + lasting, i] = kind
    time_s, values, _ = plant.rows(rows)
    text = [repr(t) for t in time_s.tolist()]
    series = [Series(name, plant.channels, time_s, text, values[:, i]) for i, name in enumerate(plant.names)]
    return series, [label[:, i].tolist() for i in range(pumps)]


def curve(pumps: int, seeds: Sequence[int], config: TrainConfig | None = None) -> Curve:
    """Train the encoder without labels, and all contenders with growing parts of them."""
    series, labels = incidents(pumps, rows=1400, lasting=120)
    encoder = train_encoder(series, seeds[0], config or TrainConfig())
    profile = profile_of(encoder.manifest, "")
    labelled = label_windows(series, labels, profile, stride=max(1, profile.window // 8))
    return learning_curve(encoder, labelled, FRACTIONS, seeds)


def main(argv: Sequence[str] | None = None, say: Callable[[str], Any] = sys.stdout.write) -> int:
    """Print the curve as a Markdown table."""
    summary = (__doc__ or "").splitlines()[0]
    parser = argparse.ArgumentParser(prog="python -m tests.bench.label_curve", description=summary)
    parser.add_argument("--pumps", type=int, default=12)
    parser.add_argument("--seeds", type=int, default=3, help="runs of each contender")
    parser.add_argument(
        "--update", "--readme", type=Path, help="replace the tables between the markers `labels` of this file"
    )
    given = parser.parse_args(argv)
    table = curve(given.pumps, range(given.seeds)).markdown()
    say(table + "\n")
    if given.update is not None:
        replace_block(given.update, "labels", table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
