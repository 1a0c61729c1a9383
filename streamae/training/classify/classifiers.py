"""The classifiers of the label-efficiency curve, and the curve: what is a trained encoder worth to a classifier?

The classifier of Srivastava et al. (2015): the encoder's LSTM, a softmax read-out at every step, probabilities averaged
over the window. It starts from the encoder's weights: the read-out learns first, alone, and then all of it (Kumar et
al. 2022: otherwise the first gradients of a random read-out spoil what was learnt). It is compared, on the same windows
and labels, with the same LSTM from scratch and a logistic regression on the frozen code (h and c after the last row).

The figure is balanced accuracy (mean recall over the classes) on windows of held-out incidents, by the fraction of the
windows whose label was known, for several seeds. Classes weigh alike in every loss, for normal rows are many.
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from streamae.core.types import I64
from streamae.model.layers import affine
from streamae.model.network import EncoderDecoder
from streamae.model.runtime import prepare_torch
from streamae.training.classify.encoder import Pretrained
from streamae.training.classify.labels import LabelledWindows, draw, hold_out

__all__ = [
    "CLASSIFIERS",
    "Curve",
    "FrozenCode",
    "Tagger",
    "balanced_accuracy",
    "classifier",
    "learning_curve",
    "tagger",
]

CLASSIFIERS = ("from the encoder", "from scratch", "frozen code")

_STEPS, _READOUT_STEPS, _BATCH = 300, 150, 32
_RATE, _FINE_RATE, _READOUT_RATE = 5e-3, 1e-3, 2e-2  # what is learnt already is moved with care


@dataclass(frozen=True, slots=True)
class Curve:
    """Balanced accuracy by contender and fraction, one figure a seed, and the number of labels behind it."""

    fractions: tuple[float, ...]
    labels: Mapping[float, int]
    accuracy: Mapping[tuple[str, float], tuple[float, ...]]
    classes: tuple[str, ...]

    def mean(self, classifier: str, fraction: float) -> float:
        """Return the mean over the seeds."""
        return float(np.mean(self.accuracy[classifier, fraction]))

    def best(self) -> str:
        """Return the contender with the highest mean where the most labels were known; of equals the first."""
        most = max(self.fractions)
        return max(CLASSIFIERS, key=lambda name: self.mean(name, most))

    def markdown(self) -> str:
        """Return the curve as a table: mean ± standard deviation over the seeds."""
        lines = [f"| labelled windows | {' | '.join(CLASSIFIERS)} |", "|---:" * (1 + len(CLASSIFIERS)) + "|"]
        for f in self.fractions:
            cells = " | ".join(f"{self.mean(n, f):.3f} ± {np.std(self.accuracy[n, f]):.3f}" for n in CLASSIFIERS)
            lines.append(f"| {100 * f:g} % ({self.labels[f]}) | {cells} |")
        seeds = len(self.accuracy[CLASSIFIERS[0], self.fractions[0]])
        guess = 1 / len(self.classes)
        return "\n".join([*lines, "", f"balanced accuracy, held-out incidents, {seeds} seeds; guessing: {guess:.3f}"])


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


class FrozenCode(nn.Module):
    """Multinomial logistic regression on the encoder's state (h and c) after the last row of what it reads."""

    center: Tensor
    spread: Tensor
    weight: Tensor
    bias: Tensor

    def __init__(self, encoder: Any, unlabelled: Tensor, classes: int) -> None:
        super().__init__()
        self.encoder = encoder
        with torch.no_grad():
            known = self.code(unlabelled)
        self.register_buffer("center", known.mean(dim=0))
        self.register_buffer("spread", known.std(dim=0).clamp_min(1e-6))
        self.register_buffer("weight", torch.zeros(classes, known.size(1)))
        self.register_buffer("bias", torch.zeros(classes))

    def code(self, read: Tensor) -> Tensor:
        """[B, T, inputs] -> [B, Z]."""
        top = self.encoder(read, self.encoder.start(read))[1][:, -1]
        code: Tensor = top.permute(1, 0, 2).reshape(read.size(0), -1)
        return code

    def forward(self, read: Tensor) -> Tensor:
        """[B, T, inputs] -> log-probabilities [B, classes]."""
        z = (self.code(read) - self.center) / self.spread
        return torch.log_softmax(affine(z, self.weight, self.bias), dim=1)


def learning_curve(
    encoder: Pretrained, labelled: LabelledWindows, fractions: Sequence[float], seeds: Sequence[int]
) -> Curve:
    """Train all classifiers on growing parts of the labels; a function of its arguments."""
    prepare_torch()
    read, y = encoder.read(labelled.windows), torch.from_numpy(labelled.y)
    found: dict[tuple[str, float], list[float]] = {(name, f): [] for name in CLASSIFIERS for f in fractions}
    labels: dict[float, int] = {}
    for seed in seeds:
        pool, test = hold_out(labelled, seed)
        for fraction in fractions:
            known = draw(labelled.y, pool, fraction, np.random.default_rng(seed))
            labels[fraction] = len(known)
            x, wanted, classes = read[known], y[known], len(labelled.classes)
            for name in CLASSIFIERS:
                network = classifier(name, encoder, x, wanted, classes, seed, unlabelled=read[pool])
                with torch.no_grad():
                    said = network(read[test]).argmax(dim=1).numpy()
                found[name, fraction].append(balanced_accuracy(said, labelled.y[test]))
    return Curve(tuple(fractions), labels, {key: tuple(values) for key, values in found.items()}, labelled.classes)


def classifier(
    name: str, encoder: Pretrained, x: Tensor, y: Tensor, classes: int, seed: int, *, unlabelled: Tensor
) -> Tagger | FrozenCode:
    """Train one of CONTENDERS on what the encoder reads, x [n, Tn, inputs], and classes y [n]."""
    if name == "frozen code":
        return _logistic(encoder, x, y, classes, unlabelled=unlabelled)
    return tagger(encoder, x, y, classes, seed, fresh=name == "from scratch")


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
    body = {"params": network.encoder.parameters(), "lr": _RATE if fresh else _FINE_RATE}
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


def _logistic(encoder: Pretrained, x: Tensor, y: Tensor, classes: int, *, unlabelled: Tensor) -> FrozenCode:
    """Fit by L-BFGS with an L2 penalty; the code is standardised by windows that need no label."""
    network = FrozenCode(copy.deepcopy(encoder.detector.network.encoder), unlabelled, classes)
    with torch.no_grad():
        z = (network.code(x) - network.center) / network.spread
    sample = _class_weight(y, classes)[y]
    weight = torch.zeros(classes, z.size(1) + 1, requires_grad=True)
    solver = torch.optim.LBFGS([weight], max_iter=200, line_search_fn="strong_wolfe")

    def penalised() -> float:
        solver.zero_grad()
        miss = functional.cross_entropy(functional.linear(z, weight[:, 1:], weight[:, 0]), y, reduction="none")
        loss = (sample * miss).sum() / sample.sum() + 0.5 * weight[:, 1:].square().sum() / len(y)
        loss.backward()  # type: ignore[no-untyped-call]
        return float(loss.detach())

    solver.step(penalised)  # type: ignore[no-untyped-call]
    network.weight, network.bias = weight.detach()[:, 1:].contiguous(), weight.detach()[:, 0].contiguous()
    return network.eval()


def balanced_accuracy(said: I64, true: I64) -> float:
    """Return the mean over the classes that occur of the share of their windows [n] that were named rightly."""
    return float(np.mean([np.mean(said[true == c] == c) for c in np.unique(true)]))
