"""From settings and series to what is to be built: the parts of the detector, their windows, and the linear bases.

Several target channels: residual subspaces of 5, 10, 20 and 40 rows, and the network on what the longest of them
leaves. One channel: subspaces, T² and prototypes of 32 to 96 rows, and the network on the channel itself. No window
is longer than a fifth of the shortest series.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from streamae.core.types import F32, F64, I64
from streamae.errors import SeriesError
from streamae.history.prepared import CounterChoice, Screening
from streamae.model.spec import DetectorSpec, NetworkSpec
from streamae.training.dataset import Dataset, window_ends
from streamae.training.features import components, sample_windows
from streamae.training.fit import Recipe, linear_rank
from streamae.training.limits import Limit
from streamae.training.zone import zone_of

__all__ = ["Plan", "TrainConfig", "ends_of", "flat_windows", "make_plan", "rows_at"]

_RESIDUALS_MULTI = (5, 10, 20, 40)
_RESIDUAL_SINGLE, _ENERGY_SINGLE, _PROTOTYPES_SINGLE = 64, 32, (32, 96)
_CENTERS = 16
_VARIANCES = (0.7, 0.9)
_HOLDS_RATIO = 1.2
_TRIAL_WINDOW = 10
_LINEAR_WINDOWS = 4000
_WINDOW_MIN = 4
_HELD_OUT = 0.2


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """What may be chosen; None and "auto" mean: from the series.

    `range`, `counters` and `sentinels` say what is a measurement, and how totals are read (`history.screening`).
    `banks: false` gives a bare network of the literature on all channels, `score: mahalanobis` the distance of its
    errors (EncDec-AD), `threshold` says how the threshold is placed, and `holdout` is the trailing part of each series
    that it is not trained on (None: none, or a fifth where the score is the distance, whose mean and covariance belong
    to rows that were not fitted). `context` names the channels that are not explained; `context_inputs` and `calendar`
    whether the network reads them and the clock of `zone` (see `training.covariates`).
    """

    window: int | None = None
    horizon: int | None = None
    task: str = "composite"
    cell: str = "lstm"
    hidden: int = 16
    layers: int = 1
    decoder: str = "unconditional"
    reversed: bool = True
    banks: bool = True
    linear: Literal["auto", "on", "off"] = "auto"
    linear_variance: float | None = None
    code_distance: bool = False
    score: Literal["groups", "mahalanobis"] = "groups"
    range: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    counters: Mapping[str, CounterChoice] | Literal["auto", "off"] = "auto"
    sentinels: Literal["auto", "off"] = "auto"
    context: tuple[str, ...] | None = None
    context_inputs: Literal["auto", "on", "off"] = "auto"
    calendar: Literal["auto", "on", "off"] = "auto"
    zone: str = "UTC"
    holdout: float | None = None
    warmup_rows: int | None = None
    learn_windows: int | None = None
    threshold: Limit = field(default_factory=Limit)
    recipe: Recipe = field(default_factory=lambda: Recipe(steps=400, batch=32))
    device: str = "auto"

    def __post_init__(self) -> None:
        """Refuse an unknown time zone."""
        zone_of(self.zone)

    @property
    def screening(self) -> Screening:
        """What is said of the values; the rest is to be found."""
        said = {} if isinstance(self.counters, str) else self.counters
        return Screening(self.range, said, self.counters != "off", self.sentinels == "auto")

    @property
    def held_out(self) -> float:
        """The part of each stream's rows that is held out."""
        if self.holdout is None:
            return _HELD_OUT if self.score == "mahalanobis" else 0.0
        return self.holdout


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """The parts to be built, and the mean and axes of each subspace by its window."""

    spec: DetectorSpec
    bases: dict[int, tuple[F64, F64]]


def ends_of(dataset: Dataset, window: int, holdout: float = 0.0) -> tuple[list[I64], list[I64]]:
    """Per stream, the last rows of the windows to fit on, and of those that lie wholly in its held-out rows."""
    learn, held = [], []
    for s, name in enumerate(dataset.names):
        n = int(dataset.bounds[s + 1] - dataset.bounds[s])
        cut = n - max(int(holdout * n), 2 * window) if holdout > 0 else n
        learn.append(window_ends(dataset, window, s, 0, max(cut, 0)))
        held.append(window_ends(dataset, window, s, cut, n) if holdout > 0 else learn[-1][:0])
        if len(learn[-1]) == 0 or (holdout > 0 and len(held[-1]) == 0):
            raise SeriesError(
                f"{name}: {n} rows, with its gaps, leave no windows of {window} rows to train on and calibrate "
                "with; record for longer, or choose a shorter window"
            )
    return learn, held


def rows_at(dataset: Dataset, ends: I64, window: int) -> F32:
    """Windows [n, T, C + F] that end at these rows, as a model reads them."""
    rows = ends[:, None] + np.arange(1 - window, 1)
    windows: F32 = dataset.calendar.beside(dataset.values[rows], dataset.time_s[rows])
    return windows


def flat_windows(dataset: Dataset, holdout: float) -> Callable[[int], F64]:
    """Return `flat(W) -> [n, W*Q]`: windows of the targets to fit on, spread evenly where there are too many."""
    cache: dict[int, F64] = {}

    def flat(window: int) -> F64:
        if window not in cache:
            ends = np.concatenate(ends_of(dataset, window, holdout)[0])
            keep = sample_windows(len(ends), window * len(dataset.targets))
            ends = ends[np.linspace(0, len(ends) - 1, keep).astype(np.int64)]
            windows = rows_at(dataset, ends, window)[:, :, list(dataset.targets)]
            cache[window] = windows.reshape(len(ends), -1).astype(np.float64)
        return cache[window]

    return flat


def make_plan(dataset: Dataset, config: TrainConfig, flat: Callable[[int], F64]) -> Plan:
    """Choose parts and windows, and fit the linear bases, whose ranks are part of the design."""
    if not config.banks:
        return Plan(_bare(dataset, config), {})
    shortest = int(np.diff(dataset.bounds).min())
    cap = config.window or max(shortest // 5, _WINDOW_MIN)
    several = len(dataset.targets) > 1
    longest = config.window or min(cap, 40 if several else 96)
    at_most = [min(w, cap) for w in (_RESIDUALS_MULTI[:-1] if several else (_RESIDUAL_SINGLE,))]
    residuals = list(dict.fromkeys([*at_most, longest] if several else at_most))
    energies = [] if several else [min(_ENERGY_SINGLE, cap)]
    prototypes = [] if several else list(dict.fromkeys([min(_PROTOTYPES_SINGLE[0], cap), longest]))
    window = longest if several else min(_RESIDUAL_SINGLE, cap)
    network = _network(dataset, config, channels=len(dataset.targets), window=window)
    variance = config.linear_variance or (_variance(dataset) if several else _VARIANCES[0])
    bases = {w: components(flat(w), variance) for w in {*residuals, *energies}}
    spec = DetectorSpec(
        channels=len(dataset.channels),
        targets=dataset.targets,
        network=network,
        residuals=tuple((w, len(bases[w][1])) for w in residuals),
        energies=tuple((w, len(bases[w][1])) for w in energies),
        prototypes=tuple((w, _CENTERS) for w in prototypes),
        whiten=several,
    )
    return Plan(spec, bases)


def _variance(dataset: Dataset) -> float:
    """Return how much variance the subspaces keep: as much as holds on rows that they were not fitted on.

    More components make broken relations stand out more (tenfold where the channels hang together tightly), but
    where normal drifts within the training rows they follow what will not come again. So each stream's last quarter
    is held back: a larger share is kept only while what it leaves there is about what it leaves in the rows before.
    """
    window = min(_TRIAL_WINDOW, max(int(np.diff(dataset.bounds).min()) // 5, _WINDOW_MIN))
    before, after = [], []
    for ends in ends_of(dataset, window)[0]:
        cut = 3 * len(ends) // 4
        before.append(ends[:cut])
        after.append(ends[cut + window :])
    fitted, held = (_spread_flat(dataset, np.concatenate(part), window) for part in (before, after))
    if len(fitted) == 0 or len(held) == 0:
        return _VARIANCES[0]
    kept = [v for v in _VARIANCES if _left(fitted, held, v) <= _HOLDS_RATIO]
    return max(kept, default=_VARIANCES[0])


def _left(fitted: F64, held: F64, variance: float) -> float:
    """Return the ratio of the mean square that a subspace leaves of held-out windows to that of fitted ones."""
    mean, axes = components(fitted, variance)
    residuals = (flat - mean - (flat - mean) @ axes.T @ axes for flat in (held, fitted))
    out, own = (float((x * x).mean()) for x in residuals)
    return out / max(own, 1e-12)


def _spread_flat(dataset: Dataset, ends: I64, window: int) -> F64:
    keep = min(len(ends), _LINEAR_WINDOWS)
    ends = ends[np.linspace(0, len(ends) - 1, keep).astype(np.int64)] if keep else ends
    windows = rows_at(dataset, ends, window)[:, :, list(dataset.targets)]
    return windows.reshape(len(ends), -1).astype(np.float64)


def _bare(dataset: Dataset, config: TrainConfig) -> DetectorSpec:
    """A network on all channels, window from the period, with the linear path of the family where it helps."""
    shortest = int(np.diff(dataset.bounds).min())
    several = len(dataset.targets) > 1
    wanted = 16 if several else int(np.clip(dataset.period_rows or 32, 16, 128))
    window = config.window or int(max(8, min(wanted, shortest // 8)))
    network = _network(dataset, config, channels=len(dataset.channels), window=window)
    if config.linear == "on" or (config.linear == "auto" and several):
        ends = np.concatenate(ends_of(dataset, window, config.held_out)[0])
        sample = rows_at(dataset, ends[:: max(1, len(ends) // _LINEAR_WINDOWS)], window)
        rank = linear_rank(sample, dataset.targets, network.history, config.linear_variance or _VARIANCES[0])
        network = NetworkSpec.from_mapping(network.to_mapping() | {"linear_rank": rank})
    return DetectorSpec(channels=len(dataset.channels), targets=dataset.targets, network=network)


def _network(dataset: Dataset, config: TrainConfig, *, channels: int, window: int) -> NetworkSpec:
    horizon = min(8, window // 4) if config.horizon is None else config.horizon
    return NetworkSpec(
        channels=channels,
        targets=dataset.targets if channels == len(dataset.channels) else tuple(range(channels)),
        window=window,
        horizon=horizon if config.task != "reconstruction" else 0,
        task=config.task,
        cell=config.cell,
        hidden=config.hidden,
        layers=config.layers,
        decoder=config.decoder,
        reversed=config.reversed,
        code_distance=config.code_distance,
    )
