"""Errors of the training windows -> the `core.calibration` that `core.score` and `core.threshold` read.

Each feature is put in units of its own normal per stream: a channel's error by its mean (mixed with the mean over
channels, so that a channel that fits perfectly does not rule), and a kind's sum by its 98 % quantile. The score's
logarithm, smoothed as it will be in operation (by `core.score` itself), gives the stream's `zero` and `offset`: as far
above its mean as normal reached in any stream of the group, or three deviations (of a sensor that rests, whose scores
have two humps, as its tail says), and a margin for what is rarer: half
as much again, further with the number of streams, and less the more budgeted false alarms the training rows would have
had time for. The averages that `core.threshold` watches get their limits from the same scores.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from streamae.core.calibration import Calibration, StreamCalibration
from streamae.core.score import Scoring, excess
from streamae.core.sensors.state import KINDS_MIN, MOVES_MIN
from streamae.core.types import F32, F64, I32, I64
from streamae.training.limits import Limit, spot_limit, widest

__all__ = ["DEFAULT_BUDGET_PER_S", "VOUCHED", "calibrate", "feature_groups", "log_scores", "longest_runs"]

DEFAULT_BUDGET_PER_S = 1.0 / 604_800.0  # one a week and stream
_QUANTILE = 0.98
_MIX = 0.05  # of the mean over channels in the unit of each
_MARGIN = float(np.log(1.5))
_PER_LOG_STREAM = 0.17
_SETTLING = 0.2  # of the training rows, before scores count
_SMOOTHING = 0.5
_HALF_LIFE_WINDOWS = 500.0  # of the mean that the threshold follows, at least
_FOLLOW = 0.25  # of the training rows: slower variation than they show is not theirs to explain
_AVERAGES = (8, 56, 392)  # half-lives in windows
_AVERAGED_MIN = 64  # half-lives in each stream's training rows, for an average to have a limit
VOUCHED = 0.1  # budgeted false alarms in the time of all training rows: a shorter time cannot vouch for a week
_AVERAGE_MARGIN = 1.3
_HUMPS = float(np.log(2.0))  # three deviations so far above all scores: these have two humps
_TAIL = 0.98  # quantile where their tail begins
_LEVEL_FLOOR = 1.0
_TINY = 1e-6  # squared scales: a thousandth of a scale is nothing, however still a stream was


def feature_groups(kinds: Sequence[str], several: bool) -> tuple[I32, F64]:
    """Return the group of each feature, and its part in it (0: not used).

    Several target channels hang together, and what breaks that is seen best by residuals, which are averaged. One
    channel has no relations to break: its shape, size and course are groups of their own.
    """
    if several and any(kind.startswith("residual") for kind in kinds):
        used = [kind if kind.startswith(("residual", "reconstruction")) else "" for kind in kinds]
        names = dict.fromkeys(used, 0)
    else:
        used = list(kinds)
        apart = {kind for kind in kinds if kind.startswith(("energy", "prototypes"))}
        together = {kind: 0 for kind in kinds if kind not in apart}
        first = 1 if together else 0
        names = together | {k: first + i for i, k in enumerate(dict.fromkeys(k for k in kinds if k in apart))}
    members = {g: len({k for k in used if k and names[k] == g}) for g in names.values()}
    group = np.array([names[kind] for kind in used], np.int32)
    return group, np.array([1.0 / members[names[k]] if k else 0.0 for k in used])


def stream_weight(errors: F64, kinds: Sequence[str], part: F64) -> F64:
    """Errors [n, E] of one stream -> weight [E] that puts them in units of its normal."""
    weight = np.zeros(errors.shape[1])
    for kind in dict.fromkeys(kinds):
        own = np.flatnonzero([k == kind for k in kinds])
        mean = errors[:, own].mean(axis=0)
        unit = mean + _MIX * mean.mean() + _TINY
        value = (errors[:, own] / unit).mean(axis=1)
        top = np.quantile(value, _QUANTILE) + 1e-3 * value.mean() + _TINY
        weight[own] = part[own] / (len(own) * unit * top)
    return weight


def log_scores(
    calibration: Calibration, errors: Sequence[F32], known: Sequence[StreamCalibration | None], channels: int
) -> list[F64]:
    """Logarithms [n] of the scores of each stream's errors [n, E], as in operation; NaN while it learns."""
    scoring = Scoring(calibration, channels)
    scoring.grow(len(errors))
    for s, own in enumerate(known):
        scoring.begin(s, own)
    length = np.array([len(e) for e in errors])
    found = [np.full(n, np.nan) for n in length]
    for t in range(int(length.max(initial=0))):
        at = np.flatnonzero(length > t).astype(np.int32)
        score, _ = scoring.step(at, np.stack([errors[s][t] for s in at.tolist()]))
        for s, value in zip(at.tolist(), score.tolist(), strict=True):
            found[s][t] = value
    return [np.log(x) for x in found]


def normal_range(y: F64, per_row: float) -> tuple[float, float]:
    """Mean of the settled part of ln scores [n], and how far above it normal reaches.

    That is the highest of them, or three deviations, in case the highest was not among them. Of a sensor that rests
    most of the time, the scores have two humps, and three deviations lie far above both: there the tail of the scores
    says how far normal may reach (`limits.spot_limit`, `per_row` false alarms for a row).
    """
    settled = y[int(_SETTLING * len(y)) :]
    mean = float(settled.mean())
    reached = max(float(settled.max()), 0.0) - mean
    spread = 3.0 * float(np.sqrt(settled.var() + 0.01))
    if spread > reached + _HUMPS and per_row > 0:
        spread = min(spread, spot_limit(settled, per_row, _TAIL) - mean)
    return mean, max(reached, spread)


def average_limits(scores: Sequence[F64], budgeted: float) -> tuple[list[int], list[float]]:
    """Half-lives of the averages of ln scores [n] that training saw enough of, and how far above the mean they belong.

    `budgeted` is how many false alarms the budget would allow in the time of all training rows.
    """
    shortest = min(len(y) for y in scores)
    enough = budgeted >= VOUCHED
    half_lives = [h for h in _AVERAGES if enough and shortest >= _AVERAGED_MIN * h]
    limits = [_AVERAGE_MARGIN * max(_strays(y, h) for y in scores) for h in half_lives]
    return half_lives, limits


def _strays(y: F64, half_life: float) -> float:
    """How far the exponential average of ln scores [n] rises above their mean: its maximum, or three deviations."""
    first = int(_SETTLING * len(y))
    mean, gain = float(y[first:].mean()), 1.0 - 0.5 ** (1.0 / half_life)
    average, found = mean, np.empty(len(y))
    for n, value in enumerate(y.tolist()):
        average += gain * (value - average)
        found[n] = average
    away = found[first:] - mean
    reached, spread = float(away.max()), 3.0 * float(away.std())
    return max(reached, spread if spread <= reached + _HUMPS else 0.0, 1e-3)


def calibrate(
    errors: Sequence[F32],
    features: Sequence[tuple[str, int]],
    channels: int,
    *,
    learn_windows: int,
    row_s: float = 0.0,
    distance: bool = False,
    limit: Limit | None = None,
) -> tuple[Calibration, list[StreamCalibration]]:
    """Errors [n, E] of each stream's training windows, in time order -> the group's calibration, and each stream's.

    `row_s` is the spacing of the rows in seconds, `limit` how the threshold is placed. With `distance` the score is
    the Mahalanobis distance of the errors (Malhotra et al. 2016). Each stream's location and scale are those of rows
    that are scaled already: 0 and 1.
    """
    kinds = [kind for kind, _ in features]
    several = len({c for _, c in features if c >= 0}) > 1
    group, part = feature_groups(kinds, several)
    wide = [e.astype(np.float64) for e in errors]
    weights = np.stack([stream_weight(e, kinds, part) for e in wide])
    level = np.exp(np.mean([np.log(np.maximum(e, 1e-12)).mean(axis=0) for e in wide], axis=0))
    unplaced = Calibration(
        kind="mahalanobis" if distance else "groups",
        features=tuple(kinds),
        channel=np.array([channel for _, channel in features], np.int64),
        group=group.astype(np.int64),
        weight=np.median(weights, axis=0),
        level=level,
        zero=0.0,
        cold_zero=0.0,
        learn_windows=learn_windows,
        level_floor=_LEVEL_FLOOR,
        smoothing=_SMOOTHING,
        budget_per_s=DEFAULT_BUDGET_PER_S,
        half_life_windows=max(_HALF_LIFE_WINDOWS, _FOLLOW * min(len(e) for e in errors)),
        offset=0.0,
        cold_offset=0.0,
    )
    if distance:
        unplaced = _with_distance(unplaced, np.concatenate([e * w for e, w in zip(wide, weights, strict=True)]))
    location, scale = np.zeros(channels), np.ones(channels)
    known = [StreamCalibration(location, scale, weight, 0.0, 0.0) for weight in weights]
    scores = log_scores(unplaced, errors, known, channels)
    return _placed(unplaced, known, scores, row_s, limit)


def _placed(
    unplaced: Calibration,
    known: Sequence[StreamCalibration],
    scores: Sequence[F64],
    row_s: float,
    limit: Limit | None,
) -> tuple[Calibration, list[StreamCalibration]]:
    """Put the thresholds where ln scores [n] that are counted from 0 say they belong."""
    budgeted = sum(len(y) for y in scores) * row_s * DEFAULT_BUDGET_PER_S
    averages, average_offsets = average_limits(scores, budgeted)
    ranges = [normal_range(y, row_s * DEFAULT_BUDGET_PER_S) for y in scores]
    # What is rare in one stream has been seen in another, and with more streams something rarer will be.
    margin = _MARGIN + _PER_LOG_STREAM * float(np.log(len(ranges)))
    reached = max(offset for _, offset in ranges) + margin / (1.0 + budgeted)
    if limit is not None and limit.method in {"quantile", "spot"}:
        reached = widest(limit, [y[int(_SETTLING * len(y)) :] for y in scores], row_s * DEFAULT_BUDGET_PER_S)
    placed = [replace(own, zero=mean + reached, offset=reached) for own, (mean, _) in zip(known, ranges, strict=True)]
    zero = max(own.zero for own in placed)
    calibration = replace(
        unplaced,
        averages=np.array(averages, np.int64),
        average_offsets=np.array(average_offsets, np.float64),
        zero=zero,
        cold_zero=zero,
        offset=reached,
        cold_offset=reached,
    )
    return calibration, placed


def _with_distance(calibration: Calibration, units: F64) -> Calibration:
    """Add center, spread and inverse of the correlation of units [n, E], shrunk as few independent windows demand."""
    center = units.mean(axis=0)
    spread = np.maximum(units.std(axis=0), 0.1 * center + _TINY)
    centred = (units - center) / spread
    features = units.shape[1]
    correlation = centred.T @ centred / len(units)
    np.fill_diagonal(correlation, 1.0)
    shrink = float(np.clip(features / (features + len(units) / 16), 0.1, 0.9))
    inverse: F64 = np.linalg.inv((1 - shrink) * correlation + shrink * np.eye(features))
    assert np.isfinite(excess(units, center, spread)).all()
    return replace(calibration, center=center, spread=spread, precision=inverse)


def longest_runs(rows: npt.NDArray[np.floating[Any]]) -> I64:
    """Rows [n, C] of one stream -> the longest run of equal values of each channel; 0 where it cannot be stuck.

    That is a channel with fewer than five values, or one that is constant most of the time (see `core.sensors.stage`).
    """
    longest = np.zeros(rows.shape[1], np.int64)
    for c, column in enumerate(rows.T):
        begins = np.flatnonzero(np.r_[True, column[1:] != column[:-1]])
        if len(np.unique(column[begins])) >= KINDS_MIN and len(begins) * MOVES_MIN >= len(column):
            longest[c] = np.diff(np.r_[begins, len(column)]).max()
    return longest
