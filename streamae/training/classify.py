"""The verb `train --classify`: an encoder that has read much without labels, taught to name faults from few.

The classifier of Srivastava et al. (2015): the encoder's LSTM, a softmax read-out at every step, probabilities averaged
over the window. It starts from the encoder's weights: the read-out learns first, alone, and then all of it (Kumar et
al. 2022: otherwise the first gradients of a random read-out spoil what was learnt). Beside it, on the same windows and
labels, stand the same LSTM from scratch and a logistic regression on the frozen code (h and c after the last row).

The label-efficiency curve says what the encoder was worth: balanced accuracy (mean recall over the classes) on windows
of held-out incidents, by the fraction of the windows whose label was known, for several seeds. Classes weigh alike in
every loss, for normal rows are many. What all three read is what the encoder reads, so a detector that whitens gives
them its residuals. Without a model file an encoder is trained first, on all rows and no label.
"""

import copy
import io
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
import torch
from rich.console import Console
from torch import Tensor, nn
from torch.nn import functional

from streamae.core.types import F32, I64
from streamae.errors import ArtifactError
from streamae.model import artifact
from streamae.model.detector import Detector
from streamae.model.export import MANIFEST_NAME, load_archive, script
from streamae.model.layers import affine
from streamae.model.network import EncoderDecoder
from streamae.model.runtime import prepare_torch
from streamae.model.spec import DetectorSpec, NetworkSpec
from streamae.sources.series import Series, read_series
from streamae.training.dataset import Stream, build
from streamae.training.design import TrainConfig
from streamae.training.labels import LabelledWindows, draw, hold_out, label_windows, read_labels
from streamae.training.train import train_dataset

__all__ = [
    "CONTENDERS",
    "KIND",
    "Curve",
    "Pretrained",
    "WindowClassifier",
    "balanced_accuracy",
    "classify",
    "learning_curve",
    "load_classifier",
    "load_encoder",
    "tagger",
    "train_encoder",
]

CONTENDERS = ("from the encoder", "from scratch", "frozen code")
KIND = "classifier"

_STEPS, _READOUT_STEPS, _BATCH = 300, 100, 32
_RATE, _READOUT_RATE = 5e-3, 2e-2
_GOLDEN = 4


@dataclass(frozen=True, slots=True)
class Curve:
    """Balanced accuracy by contender and fraction, one figure a seed, and the number of labels behind it."""

    fractions: tuple[float, ...]
    labels: Mapping[float, int]
    accuracy: Mapping[tuple[str, float], tuple[float, ...]]
    classes: tuple[str, ...]

    def mean(self, contender: str, fraction: float) -> float:
        """Return the mean over the seeds."""
        return float(np.mean(self.accuracy[contender, fraction]))

    def markdown(self) -> str:
        """Return the curve as a table: mean ± standard deviation over the seeds."""
        lines = [f"| labelled windows | {' | '.join(CONTENDERS)} |", "|---:" * (1 + len(CONTENDERS)) + "|"]
        for f in self.fractions:
            cells = " | ".join(f"{self.mean(n, f):.3f} ± {np.std(self.accuracy[n, f]):.3f}" for n in CONTENDERS)
            lines.append(f"| {100 * f:g} % ({self.labels[f]}) | {cells} |")
        seeds = len(self.accuracy[CONTENDERS[0], self.fractions[0]])
        guess = 1 / len(self.classes)
        return "\n".join([*lines, "", f"balanced accuracy, held-out incidents, {seeds} seeds; guessing: {guess:.3f}"])


@dataclass(frozen=True, slots=True, eq=False)
class Pretrained:
    """A trained detector, whose encoder is to be used again, and the manifest that it was trained under."""

    detector: Detector
    manifest: Mapping[str, Any]

    @property
    def spec(self) -> NetworkSpec:
        """Shape of the recurrent network."""
        return DetectorSpec.from_mapping(self.manifest["network"]).network

    def read(self, windows: F32) -> Tensor:
        """[n, T, C] -> [n, Tn, inputs], what the encoder reads of scaled windows."""
        with torch.no_grad():
            read: Tensor = self.detector.network_input(torch.from_numpy(windows)).contiguous()
        return read


class Tagger(nn.Module):
    """An encoder's LSTM and a read-out at every step; `[B, T, inputs] -> [B, classes]`, the mean probability's log."""

    def __init__(self, encoder: Any, hidden: int, classes: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.readout = nn.Linear(hidden, classes)
        nn.init.zeros_(self.readout.weight)
        nn.init.zeros_(self.readout.bias)

    def forward(self, read: Tensor) -> Tensor:
        """Return log-probabilities; the average is of probabilities, not of their logarithms."""
        out = self.encoder(read, self.encoder.start(read))[0]
        flat = affine(out.reshape(-1, out.size(2)), self.readout.weight, self.readout.bias)
        each = torch.log_softmax(flat.view(out.size(0), out.size(1), flat.size(1)), dim=2)
        mean: Tensor = torch.logsumexp(each, dim=1) - torch.log(torch.tensor(float(out.size(1))))
        return mean


class WindowClassifier(nn.Module):
    """What is written: scaled windows `[B, T, C]` -> probabilities `[B, classes]`, in the order of the manifest."""

    def __init__(self, detector: Detector, tagger: Tagger) -> None:
        super().__init__()
        self.detector = detector
        self.tagger = tagger

    def forward(self, windows: Tensor) -> Tensor:
        """Read as the encoder reads, then name."""
        probabilities: Tensor = self.tagger(self.detector.network_input(windows)).exp()
        return probabilities


def load_encoder(path: Path, sha256: str | None, registry: Path | None) -> Pretrained:
    """Return the network of a model file, verified as for the daemon. Raises ArtifactError."""
    opened = artifact.open_artifact(path, sha256, registry)
    if opened.manifest["network"]["recurrent"]["linear_rank"]:
        raise ArtifactError(
            f"{path}: its encoder reads what a linear path of its own leaves, which a classifier cannot; train it "
            "with `banks: true` or `linear: off`"
        )
    content, _ = artifact.verified(path, opened.digest, None)
    detector = Detector(DetectorSpec.from_mapping(opened.manifest["network"]))
    detector.load_state_dict(load_archive(content, "cpu").state_dict())
    return Pretrained(detector.eval(), opened.manifest)


def load_classifier(
    path: Path, sha256: str | None, registry: Path | None
) -> tuple[torch.jit.ScriptModule, dict[str, Any]]:
    """Return what maps scaled windows [B, T, C] to probabilities [B, classes], verified, and its manifest.

    Raises ArtifactError where the file is not to be trusted, or holds no classifier.
    """
    content, _ = artifact.verified(path, sha256, registry)
    with ZipFile(io.BytesIO(content)) as file:
        (name,) = (n for n in file.namelist() if n.endswith(f"/extra/{MANIFEST_NAME}"))
        manifest: dict[str, Any] = json.loads(file.read(name))
    if manifest["format"]["kind"] != KIND:
        raise ArtifactError(f"{path}: is a {manifest['format']['kind']}; train one with `streamae train --classify`")
    return load_archive(content, "cpu"), manifest


def train_encoder(series: Sequence[Series], seed: int, config: TrainConfig) -> Pretrained:
    """Train an encoder-decoder on all rows of the series, without banks or linear path; no label is read."""
    streams = [Stream(x.name, x.channels, x.time_s, x.values) for x in series]
    trained = train_dataset(build(streams, config.context), seed, replace(config, banks=False, linear="off"))
    return Pretrained(trained.network, trained.manifest)


def learning_curve(
    encoder: Pretrained, labelled: LabelledWindows, fractions: Sequence[float], seeds: Sequence[int]
) -> Curve:
    """Train all contenders on growing parts of the labels; a function of its arguments."""
    prepare_torch()
    read, y = encoder.read(labelled.windows), torch.from_numpy(labelled.y)
    found: dict[tuple[str, float], list[float]] = {(name, f): [] for name in CONTENDERS for f in fractions}
    labels: dict[float, int] = {}
    for seed in seeds:
        pool, test = hold_out(labelled, seed)
        for fraction in fractions:
            known = draw(labelled.y, pool, fraction, np.random.default_rng(seed))
            labels[fraction] = len(known)
            x, wanted, classes = read[known], y[known], len(labelled.classes)
            predictors: tuple[Callable[[Tensor], Tensor], ...] = (
                tagger(encoder, x, wanted, classes, seed),
                tagger(encoder, x, wanted, classes, seed, fresh=True),
                _logistic(encoder, x, wanted, classes, unlabelled=read[pool]),
            )
            for name, predict in zip(CONTENDERS, predictors, strict=True):
                with torch.no_grad():
                    said = predict(read[test]).argmax(dim=1).numpy()
                found[name, fraction].append(balanced_accuracy(said, labelled.y[test]))
    return Curve(tuple(fractions), labels, {key: tuple(values) for key, values in found.items()}, labelled.classes)


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
    console.print(f"classifier, trained on all of these windows: {out}\nsha256: {digest}", highlight=False)
    return curve


def tagger(encoder: Pretrained, x: Tensor, y: Tensor, classes: int, seed: int = 0, *, fresh: bool = False) -> Tagger:
    """Train the classifier on what the encoder reads, x [n, Tn, inputs], and classes y [n].

    `fresh` starts from new weights instead of the encoder's, with as many steps.
    """
    random = np.random.default_rng(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        start = EncoderDecoder(encoder.spec).encoder if fresh else copy.deepcopy(encoder.detector.network.encoder)
        network = Tagger(start, encoder.spec.hidden, classes)
    readout = [{"params": network.readout.parameters(), "lr": _READOUT_RATE}]
    body = {"params": network.encoder.parameters(), "lr": _RATE}
    alone = 0 if fresh else _READOUT_STEPS
    evenly = (1.0 / np.bincount(y)[y]) / len(np.unique(y))  # every class as often
    for groups, steps in ((readout, alone), ([*readout, body], _STEPS - alone)):
        optimiser = torch.optim.Adam(groups)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, max(steps, 1))
        for _ in range(steps):
            batch = torch.from_numpy(random.choice(len(y), _BATCH, p=evenly))
            optimiser.zero_grad()
            functional.nll_loss(network(x[batch]), y[batch]).backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimiser.step()
            schedule.step()
    return network.eval()


def _class_weight(y: Tensor, classes: int) -> Tensor:
    """Weights [classes] under which the classes that occur count alike."""
    count = torch.bincount(y, minlength=classes).float()
    return torch.where(count > 0, len(y) / count.clamp_min(1.0), torch.zeros(classes))


def _logistic(
    encoder: Pretrained, x: Tensor, y: Tensor, classes: int, *, unlabelled: Tensor
) -> Callable[[Tensor], Tensor]:
    """Multinomial logistic regression with an L2 penalty on the standardised code, solved by L-BFGS."""

    def code(read: Tensor) -> Tensor:
        with torch.no_grad():
            rnn = encoder.detector.network.encoder
            state = rnn(read, rnn.start(read))[1][:, -1]
        return torch.cat(list(state), dim=1)

    known = code(unlabelled)
    center, spread = known.mean(dim=0), known.std(dim=0).clamp_min(1e-6)
    z, sample = (code(x) - center) / spread, _class_weight(y, classes)[y]
    weight = torch.zeros(classes, z.size(1) + 1, requires_grad=True)
    solver = torch.optim.LBFGS([weight], max_iter=200, line_search_fn="strong_wolfe")

    def penalised() -> float:
        solver.zero_grad()
        miss = functional.cross_entropy(functional.linear(z, weight[:, 1:], weight[:, 0]), y, reduction="none")
        loss = (sample * miss).sum() / sample.sum() + 0.5 * weight[:, 1:].square().sum() / len(y)
        loss.backward()  # type: ignore[no-untyped-call]
        return float(loss.detach())

    solver.step(penalised)  # type: ignore[no-untyped-call]
    fitted = weight.detach()
    return lambda read: functional.linear((code(read) - center) / spread, fitted[:, 1:], fitted[:, 0])


def balanced_accuracy(said: I64, true: I64) -> float:
    """Return the mean over the classes that occur of the share of their windows [n] that were named rightly."""
    return float(np.mean([np.mean(said[true == c] == c) for c in np.unique(true)]))


def _write(
    out: Path, encoder: Pretrained, labelled: LabelledWindows, curve: Curve, seed: int, registry: Path | None
) -> str:
    """Train on all labelled windows and write the file; returns its SHA-256."""
    read, y = encoder.read(labelled.windows), torch.from_numpy(labelled.y)
    network = WindowClassifier(encoder.detector, tagger(encoder, read, y, len(labelled.classes), seed))
    golden = torch.from_numpy(labelled.windows[:: max(1, len(labelled) // _GOLDEN)][:_GOLDEN])
    scripted = script(network)
    with torch.no_grad():
        probabilities = scripted(golden)
    kept = ("channels", "targets", "context", "network", "period_s", "gap_max_s", "warmup_rows", "streams")
    manifest = {key: encoder.manifest[key] for key in kept} | {
        "format": {"kind": KIND, "version": artifact.FORMAT_VERSION},
        "classes": list(labelled.classes),
        "windows": len(labelled),
        "curve": [[name, f, list(x)] for (name, f), x in curve.accuracy.items()],
        "golden": {"windows": golden.tolist(), "probabilities": probabilities.tolist()},
        "calibration": {},
        "versions": encoder.manifest["versions"],
    }
    return artifact.save(out, scripted, manifest, registry)
