"""What the network reads apart from the channels that it explains: commands, modes and the clock, where they help it.

Judged by the error on held-out rows: the first part of each stream's training rows is fitted on, the last is not. Each
candidate (the context channels together, the time of day, the day of the week) is tried on top of what was kept
before. A ridge regression says at once whether it improves the forecast of the rows ahead over the targets' own past;
where it does, short trainings of the network, with and without it, must confirm that for every seed. What lowers
the error clearly is kept. The clock is a candidate only where the rows span some days, or some weeks: from less a
network memorises the dates.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import torch

from streamae.core.calendar import ANGLES, Calendar
from streamae.core.types import F64, I64
from streamae.model.detector import DetectorNetwork
from streamae.model.spec import DetectorSpec
from streamae.training.dataset import Dataset
from streamae.training.features import Flat, components, fit_features
from streamae.training.fit import Recipe, fit
from streamae.training.plan import Plan, TrainConfig, ends_of, rows_at
from streamae.training.zone import clock_offsets

__all__ = ["Chosen", "CovariateTrial", "choose", "fit_beside"]

_DAYS_MIN = {"day": 3.0, "week": 21.0}
_NAMES = {"day": "time of day", "week": "day of the week"}
_BETTER = 0.95  # of the error without: less is the luck of the draw
_ERROR_MIN = 1e-3  # squared scales: what is foreseen so well needs no help
_RECIPE = Recipe(steps=100, batch=32, checks=10, patience=10)
_SEEDS = (0, 1)
_HELD = 0.25  # of each stream's windows
_HELD_MIN = 4  # windows that share no row
_AHEAD = 8  # rows that the regression foresees, at most
_VARIANCE, _RANK = 0.95, 16  # of the past that it foresees them from
_RIDGE = 1e-2
_WINDOWS_MAX = 4000


@dataclass(frozen=True, slots=True)
class CovariateTrial:
    """One candidate, whether it was kept and why; errors on held-out rows without and with it: regression, network."""

    candidate: str
    kept: bool
    why: str
    regression: tuple[float, float] | None = None
    network: tuple[float, float] | None = None

    def said(self) -> str:
        """Return what was decided, and by which figures, as a line of the training's log."""
        pairs = [(name, pair) for name in ("regression", "network") if (pair := getattr(self, name)) is not None]
        figures = "".join(f"; {name} {pair[1]:.4g} with, {pair[0]:.4g} without" for name, pair in pairs)
        return f"{self.candidate}: {'read by the network' if self.kept else 'not read'}, {self.why}{figures}"


@dataclass(frozen=True, slots=True, eq=False)
class Chosen:
    """The design with the covariates of its network, the rows with their calendar, and the trials behind it."""

    plan: Plan
    dataset: Dataset
    trials: tuple[CovariateTrial, ...] = ()

    def record(self) -> list[dict[str, Any]]:
        """Return the trials as plain JSON values."""
        return [asdict(trial) for trial in self.trials]


def choose(dataset: Dataset, plan: Plan, config: TrainConfig, flat: Flat) -> Chosen:
    """Choose the covariates for the network of a design with banks; a bare network reads all channels."""
    if not plan.spec.banked:
        return Chosen(plan, dataset)
    C = len(dataset.channels)
    own = _varying(dataset)
    tries = _Tries(replace(dataset, calendar=_calendar(dataset, config, tuple(ANGLES))), plan, config, flat)
    trials = [tries.one("context channels", config.context_inputs, own, "" if own else "there are none that move")]
    for i, name in enumerate(ANGLES):
        trials.append(tries.one(_NAMES[name], config.calendar, (C + 2 * i, C + 2 * i + 1), _too_short(dataset, name)))
    angles = tuple(name for name, trial in zip(ANGLES, trials[1:], strict=True) if trial.kept)
    context = (*(c for c in tries.kept if c < C), *range(C, C + 2 * len(angles)))
    spec = _with(plan.spec, context, C + 2 * len(angles))
    calendar = _calendar(dataset, config, angles)
    return Chosen(replace(plan, spec=spec), replace(dataset, calendar=calendar), tuple(trials))


def fit_beside(detector: DetectorNetwork, dataset: Dataset) -> None:
    """Fill in the range of the detector's covariates, in place."""
    if detector.has_context:
        rows = dataset.read()[:, detector.context.channels.numpy()]
        low, high = rows.min(axis=0), rows.max(axis=0)
        detector.context.low.copy_(torch.from_numpy(low))
        detector.context.span.copy_(torch.from_numpy(np.maximum(high - low, 1e-6)))


@dataclass
class _Tries:
    """Candidates one after the other; `kept` are the columns of those that stayed."""

    dataset: Dataset  # with the whole calendar
    plan: Plan
    config: TrainConfig
    flat: Flat
    kept: tuple[int, ...] = ()
    parts: tuple[I64, I64] = field(init=False)

    def __post_init__(self) -> None:
        self.parts = _parts(self.dataset, self.plan.spec.network.window, self.config.held_out)

    def one(self, name: str, wanted: str, columns: tuple[int, ...], hindrance: str) -> CovariateTrial:
        """Try these columns of the rows in addition to those that were kept."""
        apart = len(self.parts[1]) / self.plan.spec.network.window
        if not hindrance and apart < _HELD_MIN:
            hindrance = f"{apart:.1f} windows that share no row could be held out, {_HELD_MIN} are needed"
        if wanted == "on" and columns:
            trial = CovariateTrial(name, kept=True, why="switched on")
        elif wanted == "off" or hindrance:
            trial = CovariateTrial(name, kept=False, why=hindrance or "switched off")
        else:
            trial = self._tried(name, (*self.kept, *columns))
        if trial.kept:
            self.kept += columns
        return trial

    def _tried(self, name: str, columns: tuple[int, ...]) -> CovariateTrial:
        foreseen = self._regression(self.kept), self._regression(columns)
        if foreseen[0] < _ERROR_MIN or foreseen[1] > _BETTER * foreseen[0]:
            return CovariateTrial(
                name, kept=False, why="held-out rows ahead are foreseen as well without", regression=foreseen
            )
        pairs = [(self._network(self.kept, seed), self._network(columns, seed)) for seed in _SEEDS]
        without, within = (float(np.mean(x)) for x in zip(*pairs, strict=True))
        kept = within <= _BETTER * without and all(b < a for a, b in pairs)
        why = f"{'lowers' if kept else 'does not lower'} the network's error on held-out rows clearly"
        return CovariateTrial(name, kept, why, foreseen, (without, within))

    def _network(self, context: tuple[int, ...], seed: int) -> float:
        """Loss of a short training on held-out windows."""
        spec = _with(self.plan.spec, context, len(self.dataset.channels) + len(self.dataset.calendar))
        torch.manual_seed(seed)
        detector = DetectorNetwork(
            replace(spec, energies=(), prototypes=(), residuals=spec.residuals if spec.whiten else ())
        )
        fit_features(detector, self.flat, self.plan.bases, seed)
        fit_beside(detector, self.dataset)
        rows, read = torch.from_numpy(self.dataset.read()), detector.network_input
        return fit(detector.network, rows, *self.parts, recipe=_RECIPE, seed=seed, prepare=read).best_loss

    def _regression(self, context: tuple[int, ...]) -> float:
        """Mean square error on held-out windows of a ridge regression of their last rows."""
        (x, y), (held_x, held_y) = (self._cut(ends, context) for ends in self.parts)
        past = x[0].shape[1]
        mean, axes = components(x[0], _VARIANCE)
        axes = axes[: min(_RANK, past)]
        fitted, held = (np.concatenate([(a - mean) @ axes.T, b], axis=1) for a, b in (x, held_x))
        center, spread = fitted.mean(axis=0), fitted.std(axis=0)
        spread = np.where(spread > 1e-6, spread, np.inf)  # what rested so far has taught nothing
        fitted, held = (fitted - center) / spread, (held - center) / spread
        gram = fitted.T @ fitted + _RIDGE * len(fitted) * np.eye(fitted.shape[1])
        weights = np.linalg.solve(gram, fitted.T @ (y - y.mean(axis=0)))
        return float(np.mean((held @ weights + y.mean(axis=0) - held_y) ** 2))

    def _cut(self, ends: I64, context: Sequence[int]) -> tuple[tuple[F64, F64], F64]:
        """Windows -> the targets' past [n, d] and what the context says in it [n, 2X]; the targets ahead [n, K*Q]."""
        window = self.plan.spec.network.window
        ahead = min(_AHEAD, window // 4)
        some = ends[np.linspace(0, len(ends) - 1, min(len(ends), _WINDOWS_MAX)).astype(np.int64)]
        rows = rows_at(self.dataset, some, window).astype(np.float64)
        targets, extra = rows[:, :, list(self.dataset.targets)], rows[:, : window - ahead, list(context)]
        past, future = (part.reshape(len(some), -1) for part in (targets[:, : window - ahead], targets[:, -ahead:]))
        return (past, np.concatenate([extra.mean(axis=1), extra[:, -1]], axis=1)), future


def _with(spec: DetectorSpec, context: tuple[int, ...], channels: int) -> DetectorSpec:
    """Return the spec with a network that reads these channels and the targets, out of so many in all."""
    Q = len(spec.targets)
    network = replace(spec.network, channels=Q + len(context), targets=tuple(range(Q)))
    return replace(spec, channels=channels, network=network, context=context)


def _parts(dataset: Dataset, window: int, holdout: float) -> tuple[I64, I64]:
    """Last rows of the windows to try on, and of those behind them, of all streams, that share no row with them."""
    learn, held = [], []
    for ends in ends_of(dataset, window, holdout)[0]:
        cut = int((1 - _HELD) * len(ends))
        learn.append(ends[:cut])
        held.append(ends[cut + window :])
    return np.concatenate(learn), np.concatenate(held)


def _varying(dataset: Dataset) -> tuple[int, ...]:
    """Channels, apart from the targets, that move within some stream: a constant one teaches nothing."""
    streams = [dataset.values[dataset.rows_of(s)] for s in range(len(dataset.names))]
    moves = np.any([np.ptp(rows, axis=0) > 0 for rows in streams], axis=0)
    return tuple(c for c in np.flatnonzero(moves).tolist() if c not in dataset.targets)


def _calendar(dataset: Dataset, config: TrainConfig, angles: tuple[str, ...]) -> Calendar:
    if not angles:
        return Calendar()
    return Calendar(angles, clock_offsets(config.zone, float(dataset.time_s.min()), float(dataset.time_s.max())))


def _too_short(dataset: Dataset, angle: str) -> str:
    """Why the clock is no candidate, or nothing: the longest stream decides."""
    first, last = dataset.bounds[:-1], dataset.bounds[1:] - 1
    days = float(np.max(dataset.time_s[last] - dataset.time_s[first])) / 86_400
    return "" if days >= _DAYS_MIN[angle] else f"training spans {days:.2g} days, {_DAYS_MIN[angle]:g} are needed"
