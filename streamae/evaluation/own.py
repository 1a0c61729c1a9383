"""Our own detector as the protocol takes it: trained by `train`, scored by the daemon's core, row by row."""

import numpy as np

from streamae.backtest import offline_group, score_series
from streamae.core.alert import AlertRule
from streamae.core.types import F64
from streamae.evaluation.protocol import Detector, LabelledSeries
from streamae.model.artifact import profile_of
from streamae.model.runtime import TorchReconstructor
from streamae.model.spec import DetectorSpec
from streamae.sources.recording import Series
from streamae.training.dataset import Stream, build
from streamae.training.train import TrainConfig, train_dataset

__all__ = ["detector"]


def detector(config: TrainConfig) -> Detector:
    """Return `detect(series, train_rows, seed) -> (score[N], threshold[N])` under these training settings.

    Rows that the daemon would not judge (no full window yet, or behind a gap) keep the judgement before them.
    """

    def run(series: LabelledSeries, train_rows: int, seed: int) -> tuple[F64, F64]:
        learnt = Stream(series.name, series.channels, series.time_s[:train_rows], series.values[:train_rows])
        trained = train_dataset(build([learnt], config.context), seed, config)
        spec = DetectorSpec.from_mapping(trained.manifest["network"])
        model = TorchReconstructor(trained.scripted, spec)
        rows = Series(series.name, series.channels, series.time_s, [str(t) for t in series.time_s], series.values)
        scored = score_series(rows, offline_group(profile_of(trained.manifest, ""), model, AlertRule()))
        return _held(scored.score), _held(scored.threshold)

    return run


def _held(column: F64) -> F64:
    """Repeat the last known value over NaN; the first one before it."""
    known = np.flatnonzero(np.isfinite(column))
    if len(known) == 0:
        return np.zeros_like(column)
    last = known[np.maximum(np.searchsorted(known, np.arange(len(column)), side="right") - 1, 0)]
    held: F64 = column[last]
    return held
