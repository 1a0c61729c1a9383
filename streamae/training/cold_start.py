"""The margin for streams that the model never saw, measured by treating training streams as unknown.

A new stream takes its scale from a short warm-up and its error level from some windows after it, so its normal
varies more than that of a stream of the training. Pieces of the training streams, each with its own warm-up, go through
the core's own scaling and scoring; the threshold of new streams lies above nearly all of their scores. A few pieces
may be higher: a maximum of many trials has no bound, and one odd piece would blind every new stream.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from streamae.core.calibration import Calibration
from streamae.core.scale import GroupScale, early_estimate, roughness
from streamae.core.types import F32, F64, I64
from streamae.model.spec import DetectorSpec
from streamae.training.calibrate import log_scores
from streamae.training.dataset import Dataset

__all__ = ["FAR", "calibrate_cold_start", "group_calm"]

_TRIALS_MAX = 80
_JUDGED_ROWS = 200  # of each piece, behind what it learns from
_MARGIN = float(np.log(1.5))
_UNTRIED = float(np.log(3.0))  # where the series are too short to try
_REACHED = 0.95  # of the pieces whose highest score lies below the threshold
_ABOVE_MAX = float(np.log(20.0))  # of the limit of the training's own streams: what lies higher finds nothing
FAR = float(np.log(5.0))  # from where on a person should know that new streams are judged less sharply


def group_calm(dataset: Dataset) -> F64:
    """Scale over roughness of each channel [C], the median over streams; 0 where rows mostly repeat the last one."""
    found = []
    for s in range(len(dataset.names)):
        rows = dataset.values[dataset.rows_of(s)].astype(np.float64)
        rough = roughness(rows)
        found.append(np.where(rough > 1e-6, rows.std(axis=0) / np.maximum(rough, 1e-6), 0.0))
    calm: F64 = np.median(found, axis=0)
    return calm


def calibrate_cold_start(
    calibration: Calibration,
    dataset: Dataset,
    spec: DetectorSpec,
    errors: Callable[[F32], F32],
    warmup_rows: int,
    runs: I64,
) -> Calibration:
    """Return the calibration with `calm`[C], `cold_zero` and `cold_offset`, for streams that training did not see.

    `runs[C]` are the longest runs of equal values in the training, see `core.scale.GroupScale`.
    """
    calm, learn = group_calm(dataset), calibration.learn_windows
    spread = np.median(dataset.scale, axis=0)
    pieces = _pieces(dataset, warmup_rows, warmup_rows + spec.window + learn)
    tried = []
    for s, piece in pieces:
        values = dataset.values[piece].astype(np.float64)
        group = GroupScale(calm, spread / dataset.scale[s], runs, warmup_rows)  # in the units of the stream
        if group.resting(values[:warmup_rows]).any():
            continue  # in operation the warm-up would not end here
        location, scale = early_estimate(values[:warmup_rows], group)
        scaled = ((values[warmup_rows:] - location) / scale).astype(np.float32)
        read = dataset.calendar.beside(scaled, dataset.time_s[piece][warmup_rows:])
        windows = np.lib.stride_tricks.sliding_window_view(read, spec.window, axis=0).transpose(0, 2, 1)
        tried.append(errors(np.ascontiguousarray(windows)))
    zero, offset = calibration.zero, calibration.offset
    if not tried:
        return replace(calibration, calm=calm, cold_zero=zero + _UNTRIED, cold_offset=offset + _UNTRIED)
    scores = log_scores(calibration, tried, [None] * len(tried), spec.channels)
    cold_zero, cold_offset = _above(scores, calibration.cold_zero, zero)
    return replace(calibration, calm=calm, cold_zero=cold_zero, cold_offset=cold_offset)


def _above(scores: list[F64], counted_from: float, zero: float) -> tuple[float, float]:
    """Place the threshold above nearly all ln scores, the further the more they differ: `cold_zero`, `cold_offset`."""
    highest = np.array([np.nanmax(y) for y in scores]) + counted_from
    middle = float(np.median([np.nanmean(y) for y in scores])) + counted_from
    cold = float(np.quantile(highest, _REACHED)) + 0.5 * float(highest.std()) + _MARGIN
    cold = min(max(cold, zero), zero + _ABOVE_MAX)
    return cold, max(cold - middle, _MARGIN)


def _pieces(dataset: Dataset, warmup_rows: int, learning_rows: int) -> list[tuple[int, slice]]:
    """Streams and stretches of their rows, spread over them, each long enough to be judged for a while."""
    least, most = learning_rows + 50, learning_rows + _JUDGED_ROWS
    each = max(1, _TRIALS_MAX // len(dataset.names))
    found: list[tuple[int, slice]] = []
    for s in range(len(dataset.names)):
        rows = dataset.rows_of(s)
        n = rows.stop - rows.start
        if n < least:
            continue
        count = min(each, 1 + (n - least) // max(warmup_rows, 16))
        for start in np.linspace(0, max(n - most, 0), count).astype(int):
            at = slice(rows.start + int(start), min(rows.start + int(start) + most, rows.stop))
            if np.diff(dataset.time_s[at]).max() <= dataset.gap_max_s:
                found.append((s, at))
        if len(found) >= _TRIALS_MAX:
            break
    return found
