"""The verb `classify`: name each window of a series by the classifier that `train --classify` wrote.

Rows take the same stages as in the daemon (scale, rings), so a window exists where the daemon would have one, and its
name depends on its rows alone. The line of a window is that of its last row.
"""

import csv
from pathlib import Path

import numpy as np

from streamae.core.types import F32, I64
from streamae.errors import SeriesError
from streamae.history.recordings import read_series
from streamae.history.series import open_text
from streamae.training.classify.embed import windows_of

__all__ = ["classify_file"]


def classify_file(model: Path, path: Path, out: Path, stride: int, sha256: str | None, registry: Path | None) -> str:
    """Write `timestamp,label,<class…>`: the likeliest class, and the probability of each; returns a line on it.

    Raises ArtifactError where the model cannot be trusted or is no classifier, SeriesError where the series has no
    full window.
    """
    from streamae.model.artifact import profile_of
    from streamae.model.save import default_registry
    from streamae.training.classify.train import load_classifier, probabilities

    series = read_series(path)
    network, manifest = load_classifier(model, sha256, registry or default_registry())
    profile, classes = profile_of(manifest, ""), manifest["classes"]
    rows: list[I64] = [np.zeros(0, np.int64)]
    found: list[F32] = [np.zeros((0, len(classes)), np.float32)]
    for ended, windows in windows_of(series, profile, stride):
        if len(windows):
            found.append(probabilities(network, windows))
        rows.append(ended)
    row, probability = np.concatenate(rows), np.concatenate(found)
    if not len(row):
        raise SeriesError(f"{path}: has no full window of {profile.window} rows without a gap; record for longer")
    named = [classes[i] for i in probability.argmax(axis=1).tolist()]
    with open_text(out, "w") as file:
        lines = csv.writer(file, lineterminator="\n")
        lines.writerow(["timestamp", "label", *classes])
        for i, name, each in zip(row.tolist(), named, probability, strict=True):
            lines.writerow([series.time_text[i], name, *(f"{p:.6g}" for p in each.tolist())])
    counts = ", ".join(f"{name} {named.count(name)}" for name in classes)
    return f"{path}: {len(row)} windows of {profile.window} rows: {counts}; written to {out}"
