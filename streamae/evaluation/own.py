"""Our own detector as the protocol takes it: trained by `train`, scored by the daemon's core, row by row."""

from collections.abc import Callable, Sequence

import numpy as np

from streamae.core.alert import AlertRule
from streamae.core.calendar import Calendar
from streamae.core.profile import Profile
from streamae.core.scale import SCALED_MAX
from streamae.core.types import F64
from streamae.daemon.page.detail import overlay
from streamae.evaluation.budgets import BUDGETS, thresholds
from streamae.evaluation.protocol import Detector, Judged, LabelledSeries
from streamae.history.recordings import Series
from streamae.model.artifact import profile_of
from streamae.model.runtime import TorchReconstructor
from streamae.model.spec import DetectorSpec
from streamae.training.backtest import offline_group, score_series, usable_rows
from streamae.training.dataset import Stream
from streamae.training.train import TrainConfig, train_streams

__all__ = ["detector"]


def detector(config: TrainConfig, rebuilt: Callable[[F64], object] | None = None) -> Detector:
    """Return our detector under these training settings, with its thresholds at each of `budgets.BUDGETS`.

    `rebuilt` gets the network's reconstruction of each series, `[N, C]`, NaN where there is none (costs a run of it).
    Rows that the daemon would not judge (no full window yet, or behind a gap) keep the judgement before them.
    """

    def run(series: LabelledSeries, train_rows: int, seed: int) -> Judged:
        learnt = Stream(series.name, series.channels, series.time_s[:train_rows], series.values[:train_rows])
        trained = train_streams([learnt], seed, config)
        spec = DetectorSpec.from_mapping(trained.manifest["network"])
        model = TorchReconstructor(trained.scripted, spec)
        rows = Series(series.name, series.channels, series.time_s, [str(t) for t in series.time_s], series.values)
        profile = profile_of(trained.manifest, "")
        scored = score_series(rows, offline_group(profile, model, AlertRule()))
        if rebuilt is not None:
            rebuilt(_rebuilt(rows, profile, model, trained.manifest["targets"]))
        return Judged(_held(scored.score), _held(scored.threshold), _at_budgets(rows, profile, scored.score))

    return run


def _at_budgets(series: Series, profile: Profile, score: F64) -> dict[str, F64]:
    """Thresholds [N] that these scores [N] would have met at each budget."""
    judged, found = np.isfinite(score), {}
    for name, rate in BUDGETS.items():
        limit = np.full(len(score), np.nan)
        limit[judged] = thresholds(profile, [series.name], series.time_s[judged], score[judged, None], rate)[:, 0]
        found[name] = _held(limit)
    return found


def _rebuilt(series: Series, profile: Profile, model: TorchReconstructor, targets: Sequence[str]) -> F64:
    """The network's reconstruction in the series' own units, laid over by windows that follow each other."""
    shown = np.full((len(series), len(series.channels)), np.nan)
    usable, values = usable_rows(series, profile)
    known = profile.streams[series.name]
    location, scale = known.location, known.scale
    scaled = np.clip((values[usable] - location) / scale, -SCALED_MAX, SCALED_MAX).astype(np.float32)
    read = Calendar.of(profile.calendar).beside(scaled, series.time_s[usable])
    laid, _ = overlay(model, series.time_s[usable], read, profile.window, profile.gap_max_s)
    for q, name in enumerate(list(targets)[: laid.shape[1]]):
        c = profile.channels.index(name)
        shown[usable, series.channels.index(name)] = laid[:, q] * scale[c] + location[c]
    return shown


def _held(column: F64) -> F64:
    """Repeat the last known value over NaN; the first one before it."""
    known = np.flatnonzero(np.isfinite(column))
    if len(known) == 0:
        return np.zeros_like(column)
    last = known[np.maximum(np.searchsorted(known, np.arange(len(column)), side="right") - 1, 0)]
    held: F64 = column[last]
    return held
