"""Finds counters in recorded values: totals, which only rise, and begin again from zero or roll over."""

from collections.abc import Sequence

import numpy as np

from streamae.core.counters import Counters
from streamae.core.types import F64

__all__ = ["fell", "is_counter"]

_RISES_MIN = 20
_FALLS_MAX = 0.05  # of all changes
_KINDS_MIN = 50  # different values, where it falls: a mode or a program of steps has fewer
_NEAR_ZERO = 0.05  # of what it fell from


def is_counter(columns: Sequence[F64]) -> bool:
    """Whether a channel is a counter in all series, `[n]` each, in which it rises at all; NaN is missing."""
    found = [_counts(column[np.isfinite(column)]) for column in columns]
    return any(x is True for x in found) and all(x is not False for x in found)


def fell(columns: Sequence[F64]) -> int:
    """Return how often the channel fell in all series."""
    return sum(int((np.diff(column[np.isfinite(column)]) < 0).sum()) for column in columns)


def _counts(x: F64) -> bool | None:
    """Whether x[n] are totals; None where they hardly change."""
    steps = np.diff(x)
    rises, falls = steps > 0, steps < 0
    changes = int(rises.sum() + falls.sum())
    if changes < _RISES_MIN:
        return None if not falls.any() else False
    if x.min() < 0 or falls.sum() > _FALLS_MAX * changes:
        return False
    if not falls.any():
        return True
    if len(np.unique(x)) < _KINDS_MIN:
        return False
    at = np.flatnonzero(falls)
    last, total = x[at], x[at + 1]
    usual = float(np.quantile(steps[rises], 0.99))
    low = (total <= _NEAR_ZERO * last) | (total <= 3 * usual)
    return bool((low | _rolled(last, total, usual)).all())


def _rolled(last: F64, total: F64, usual: float) -> "np.ndarray":
    """Return which falls are rollovers, by a step of three usual ones at most."""
    counters = Counters(["delta"])
    n = len(last)
    counters.grow(n)
    stream, channel = np.arange(n, dtype=np.int32), np.zeros(n, np.int32)
    # Let each rise by a usual step in a second first: what is plausible is twice that, here for 1.5 s.
    for time_s, value in ((0.0, last - usual), (1.0, last)):
        counters.step(stream, channel, np.full(n, time_s), value)
    return ~np.isnan(counters.step(stream, channel, np.full(n, 2.5), total))
