"""Finds in recorded values what is no measurement: the sentinels that electronics send where there is none.

A sentinel is one value, to the last digit, that stands alone: nothing else comes near it, the channel jumps there and
back within a sample, far beyond its usual steps, comes back to where it was, and its other samples lie elsewhere. What
belongs to the process differs in one of these: peaks have different heights, a start ends on another level, a stop
lasts, a cycle is regular, and the machine's other channels move as well. So all of that must hold, and only for values
that are known sentinels (of DS18B20s, of registers of 8 to 32 bits, of nines) a single sample is enough, and a long run
no objection. Zero is taken for one only where it never lasts: machines stop.

Values a thousand times beyond everything else, and rare, are left out in any case: no process does that.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from streamae.core.impossible import Sentinels
from streamae.core.types import F64, I64, Bool

__all__ = ["KNOWN_SENTINELS", "Found", "combined", "find_sentinels"]

KNOWN_SENTINELS = frozenset(
    [-127.0, 85.0, -40.0, -45.0, -99.0, -100.0, 125.0, 127.0, 128.0, -128.0, -273.15, 999.9, -99.9, 1e9, -1e9, 1e10]
    + [2.0**bits - 1.0 for bits in (8, 9, 10, 11, 12, 13, 14, 15, 16, 24, 31, 32)]
    + [-(2.0**bits) for bits in (15, 31)]
    + [sign * (10.0**digits - 1.0) for digits in range(3, 10) for sign in (1, -1)]
    + [6553.5, 655.35, 65.535, 3276.7, -3276.8, 327.67, -327.68]
)
_ROWS_MIN = 50
_REPEATED = 3
_SHARE_MAX, _KNOWN_SHARE_MAX = 0.1, 0.2
_RUN_MAX, _OVERLAP_MAX, _ZERO_RUN_MAX = 5, 12, 2  # the usual run, the longest, and of zeros
_CANDIDATES_MAX = 8
_STEPS = 5.0  # times the usual step
_RETURNS = 0.1  # of the jump
_NEAR = 0.25  # of the way back
_REGULAR = 0.2
_ABSURD = 1000.0


@dataclass(frozen=True, slots=True)
class Found:
    """One channel of one series: `values` and `counts` of its sentinels, their longest run, range of all others."""

    values: tuple[float, ...]
    counts: tuple[int, ...]
    longest: int
    low: float
    high: float


def find_sentinels(values: F64) -> list[Found]:
    """Return what is found in each channel of `values[N, C]`, in order of time; NaN is missing."""
    return [_channel(values, c) for c in range(values.shape[1])]


def combined(found: Sequence[Found]) -> Sentinels | None:
    """Return the sentinels of a channel of several series: without values that one of them has as measurements."""
    known = [x for x in found if np.isfinite(x.low)]
    if not known:
        return None
    values = dict.fromkeys(v for x in known for v in x.values)
    apart = sorted(v for v in values if not any(x.low <= v <= x.high for x in known))
    if not apart:
        return None
    low, high = min(x.low for x in known), max(x.high for x in known)
    return Sentinels(tuple(apart), low, high, max(x.longest for x in known))


def _channel(values: F64, c: int) -> Found:
    at = np.flatnonzero(np.isfinite(values[:, c]))
    x = values[at, c]
    if len(x) == 0:
        return Found((), (), 0, np.nan, np.nan)
    accepted: list[float] = []
    if len(x) >= _ROWS_MIN:
        absurd = _absurd(x)
        accepted = np.unique(x[absurd]).tolist()
        candidates = _candidates(x[~absurd])
        alone = [v for v in candidates if _alone(x[~absurd], v)]
        accepted += [v for v in alone if _is_sentinel(x, v, np.isin(x, alone) | absurd, values[at], c)]
    bad = np.isin(x, accepted)
    rest = x[~bad] if not bad.all() else x
    kinds, counts = np.unique(x[bad], return_counts=True)
    kept = np.argsort(-counts, kind="stable")[:_CANDIDATES_MAX]
    runs = _runs(bad)
    longest = int((runs[:, 1] - runs[:, 0]).max(initial=0))
    low, high = float(rest.min()), float(rest.max())
    return Found(tuple(kinds[kept].tolist()), tuple(counts[kept].tolist()), longest, low, high)


def _absurd(x: F64) -> Bool:
    """Return which of x[N] lie a thousand times farther out than all others, where that are few."""
    middle = float(np.median(x))
    away = np.abs(x - middle)
    size = np.maximum(np.sort(away), abs(middle))
    first = len(x) - int(_SHARE_MAX * len(x))
    leaps = np.flatnonzero((size[first:] > _ABSURD * size[first - 1 : -1]) & (size[first - 1 : -1] > 0))
    return away >= size[first + leaps[0]] if len(leaps) else np.zeros(len(x), np.bool_)


def _candidates(x: F64) -> list[float]:
    """Return the values that stand most alone: such as are repeated, and known sentinels."""
    kinds, counts = np.unique(x, return_counts=True)
    if len(kinds) < _REPEATED:
        return []
    gaps = np.diff(kinds)
    alone = np.minimum(np.r_[np.inf, gaps], np.r_[gaps, np.inf])
    known = np.isin(kinds, list(KNOWN_SENTINELS))
    low, high = np.quantile(x, (0.2, 0.8))
    outside = (kinds < low) | (kinds > high)
    rare = counts <= np.where(known, _KNOWN_SHARE_MAX, _SHARE_MAX) * len(x)
    able = np.flatnonzero(outside & rare & (known | (counts >= _REPEATED)))
    most = able[np.argsort(-alone[able], kind="stable")]
    return [float(kinds[i]) for i in most[:_CANDIDATES_MAX]]


def _is_sentinel(x: F64, v: float, suspect: Bool, rows: F64, c: int) -> bool:
    """Whether `v`, which stands alone, is no measurement of x[N], channel `c` of rows[N, C]; `suspect` is all such."""
    known, mine = v in KNOWN_SENTINELS, x == v
    rest = x[~suspect]
    if len(rest) < _ROWS_MIN // 2:
        return False
    steps = np.abs(np.diff(rest))
    usual = float(np.quantile(steps, 0.98 if known else 0.995)) or float(steps.max())
    runs = _runs(mine)
    before, after = _neighbours(x, runs, suspect)
    jumps = np.fmin(np.abs(v - before), np.abs(v - after))
    if usual <= 0 or not np.nanmin(jumps) >= _STEPS * usual:
        return False
    moved = np.abs(after - before)
    if np.isfinite(moved).any() and np.nanmedian(moved) > _RETURNS * np.nanmedian(jumps):
        return False
    lengths = runs[:, 1] - runs[:, 0]
    if not known and len(runs) < _REPEATED:
        return False
    most = _ZERO_RUN_MAX if v == 0.0 else _OVERLAP_MAX
    if not known and (np.median(lengths) > _RUN_MAX or lengths.max() > most or _regular(runs)):
        return False
    return not _shared(rows, c, runs)


def _alone(x: F64, v: float) -> bool:
    """Whether no other of x[N] comes near `v`, compared with how far it lies from the middle of the others."""
    others = x[x != v]
    low, high = np.quantile(others, (0.2, 0.8))
    away = max(low - v, v - high)
    return bool(away > 0 and np.abs(others - v).min() > _NEAR * away)


def _runs(flag: Bool) -> I64:
    """Return where runs of true begin and end, `[n, 2]`."""
    edges = np.flatnonzero(np.diff(np.r_[False, flag, False].astype(np.int8)))
    return edges.reshape(-1, 2)


def _neighbours(x: F64, runs: I64, skipped: Bool) -> tuple[F64, F64]:
    """Return the last measurement before each run and the first after it; NaN where there is none."""
    places = np.flatnonzero(~skipped)
    last = np.searchsorted(places, runs[:, 0]) - 1
    following = np.searchsorted(places, runs[:, 1])
    before = np.where(last >= 0, x[places[np.maximum(last, 0)]], np.nan)
    after = np.where(following < len(places), x[places[np.minimum(following, len(places) - 1)]], np.nan)
    return before, after


def _regular(runs: I64) -> bool:
    every = np.diff(runs[:, 0])
    return len(every) >= _RUN_MAX and bool(every.std() < _REGULAR * every.mean())


def _shared(rows: F64, c: int, runs: I64) -> bool:
    """Whether another channel moves where `c` does: an event of the machine, not of the sensor."""
    begins = runs[runs[:, 0] > 0, 0]
    if len(begins) < _REPEATED:
        return False
    for other in range(rows.shape[1]):
        if other == c:
            continue
        steps = np.abs(np.diff(rows[:, other]))
        here, all_steps = steps[begins - 1], steps[np.isfinite(steps)]
        here = here[np.isfinite(here)]
        if len(here) < _REPEATED or not len(all_steps):
            continue
        if len(np.unique(rows[begins, other])) == 1:  # it shows a sentinel of its own there
            continue
        if float(np.median(here)) > float(np.quantile(all_steps, 0.95)) > 0:
            return True
    return False
