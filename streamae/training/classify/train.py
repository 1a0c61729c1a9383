"""The verb `train --classify`: an encoder that has read much without labels, taught to name faults from few.

Prints the label-efficiency curve of three classifiers (`training.classify.classifiers`), then trains the one that did
best with all labels on all labelled windows, and writes it. What all three read is what the encoder reads, so a
detector that whitens gives them its residuals. Without a model file an encoder is trained first, on all rows and no
label.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from torch import Tensor, nn

from streamae.core.types import F32
from streamae.history.series import read_series
from streamae.model import artifact
from streamae.model.detector import DetectorNetwork
from streamae.model.export import load_archive, script
from streamae.model.manifest import CLASSIFIER
from streamae.model.save import format_version, save
from streamae.training.classify.classifiers import Curve, FrozenCode, Tagger, classifier, learning_curve
from streamae.training.classify.encoder import Pretrained, load_encoder, train_encoder
from streamae.training.classify.labels import LabelledWindows, label_windows, read_labels
from streamae.training.plan import TrainConfig

__all__ = ["WindowClassifier", "classify", "load_classifier", "probabilities"]

_GOLDEN = 4


class WindowClassifier(nn.Module):
    """What is written: scaled windows `[B, T, C]` -> probabilities `[B, classes]`, in the order of the manifest."""

    def __init__(self, detector: DetectorNetwork, tagger: Tagger | FrozenCode) -> None:
        super().__init__()
        self.detector = detector
        self.tagger = tagger

    def forward(self, windows: Tensor) -> Tensor:
        """Read as the encoder reads, then name."""
        probabilities: Tensor = self.tagger(self.detector.network_input(windows)).exp()
        return probabilities


def load_classifier(
    path: Path, sha256: str | None, registry: Path | None
) -> tuple[torch.jit.ScriptModule, dict[str, Any]]:
    """Return what maps scaled windows [B, T, C] to probabilities [B, classes], verified, and its manifest.

    Raises ArtifactError where the file is not to be trusted, or holds no classifier.
    """
    content, _ = artifact.verified(path, sha256, registry)
    manifest = artifact.manifest_of(path, content, CLASSIFIER)
    return load_archive(content, "cpu"), manifest


def probabilities(network: torch.jit.ScriptModule, windows: F32) -> F32:
    """Return the probability of each class: scaled windows [B, T, C] -> [B, classes]; B at least 1."""
    with torch.inference_mode():
        found: F32 = network(torch.from_numpy(windows)).numpy()
    return found


def classify(
    paths: Sequence[Path],
    out: Path,
    *,
    encoder: Path | None,
    fractions: Sequence[float],
    seeds: Sequence[int],
    config: TrainConfig,
    sha256: str | None = None,
    registry: Path | None = None,
    console: Console | None = None,
) -> Curve:
    """Print the label-efficiency curve, then train on all labelled windows and write the classifier `out`.

    Raises SeriesError on labels that nothing can be learnt from, ArtifactError on an encoder that cannot be used.
    """
    console = console or Console(file=sys.stderr)
    series, labels = [read_series(path) for path in paths], [read_labels(path) for path in paths]
    if encoder is not None:
        pretrained = load_encoder(encoder, sha256, registry)
        console.print(f"encoder: {encoder}", highlight=False)
    else:
        pretrained = train_encoder(series, seeds[0], config)
        rows = sum(len(x) for x in series)
        console.print(f"encoder: none given; trained one on all {rows} rows, without their labels", highlight=False)
    profile = artifact.profile_of(pretrained.manifest, "")
    labelled = label_windows(series, labels, profile, stride=max(1, profile.window // 8))
    counts = np.bincount(labelled.y, minlength=len(labelled.classes)).tolist()
    named = ", ".join(f"{name} {n}" for name, n in zip(labelled.classes, counts, strict=True))
    console.print(f"{len(labelled)} windows of {profile.window} rows: {named}", highlight=False)
    curve = learning_curve(pretrained, labelled, fractions, seeds)
    digest = _write(out, pretrained, labelled, curve, seeds[0], registry)
    console.print(f"classifier ({curve.best()}), trained on all of these windows: {out}", highlight=False)
    console.print(f"sha256: {digest}", highlight=False)
    return curve


def _write(
    out: Path, encoder: Pretrained, labelled: LabelledWindows, curve: Curve, seed: int, registry: Path | None
) -> str:
    """Train on all labelled windows and write the file; returns its SHA-256."""
    read, y = encoder.read(labelled.windows), torch.from_numpy(labelled.y)
    best = classifier(curve.best(), encoder, read, y, len(labelled.classes), seed, unlabelled=read)
    network = WindowClassifier(encoder.detector, best)
    golden = torch.from_numpy(labelled.windows[:: max(1, len(labelled) // _GOLDEN)][:_GOLDEN])
    scripted = script(network)
    with torch.no_grad():
        probabilities = scripted(golden)
    kept = ("channels", "targets", "context", "network", "period_s", "gap_max_s", "warmup_rows", "streams")
    manifest = {key: encoder.manifest[key] for key in (*kept, "calendar") if key in encoder.manifest} | {
        "format": {"kind": CLASSIFIER, "version": format_version(encoder.manifest["network"])},
        "classes": list(labelled.classes),
        "windows": len(labelled),
        "contender": curve.best(),
        "curve": [[name, f, list(x)] for (name, f), x in curve.accuracy.items()],
        "golden": {"windows": golden.tolist(), "probabilities": probabilities.tolist()},
        "calibration": {},
        "versions": encoder.manifest["versions"],
    }
    return save(out, scripted, manifest, registry)
