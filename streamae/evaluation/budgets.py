"""Budgets of false alarms: what a score raises under each of four, against what was asked for.

The thresholds of `core.threshold` depend on the scores and the budget alone, so scores that were made once are judged
under every budget. Counted are alarms (runs of rows above the threshold) that begin on normal rows, against the budget
times the normal time. `by chance` is the range that such a count falls into, 19 times of 20, where alarms come singly
and exactly as often as asked for (Poisson): no threshold can be distinguished from a right one within it.

A budget of more than one alarm in some seventy rows is not reached: an alarm is a run of rows, and the threshold never
sinks into the normal score. On NAB four a day are raised half as often as asked where rows are 5 minutes apart, and
hardly at all where they are an hour apart (one alarm in six rows).
"""

import math
from collections.abc import Mapping, Sequence
from itertools import accumulate, count

import numpy as np

from streamae.core.profile import Profile
from streamae.core.threshold import Threshold
from streamae.core.types import F64
from streamae.evaluation.metrics import DAY_S

__all__ = ["BUDGETS", "Counts", "by_chance", "long_enough", "table", "thresholds"]

BUDGETS = {"4/day": 4 / DAY_S, "1/day": 1 / DAY_S, "1/week": 1 / (7 * DAY_S), "1/month": 1 / (30 * DAY_S)}
_TAIL = 0.025
_TELLING = 1.0  # false alarms asked for, at least, for a ratio to mean anything

Counts = Mapping[str, Mapping[str, float]]
"""budget -> `raised` and `asked`."""


def thresholds(profile: Profile, names: Sequence[str], time_s: F64, score: F64, rate_per_s: float) -> F64:
    """The core's thresholds `[N, S]` for scores `[N, S]` that it gave to streams of the training, at another budget."""
    made, stream = Threshold(profile.calibration, rate_per_s), np.arange(len(names), dtype=np.int32)
    made.grow(len(names))
    for s, name in enumerate(names):
        made.begin(s, profile.streams[name])
    return np.array([made.step(stream, np.full(len(names), t), row) for t, row in zip(time_s, score, strict=True)])


def by_chance(asked: float) -> tuple[int, int]:
    """Range of counts of a Poisson law with this mean that leaves at most 2.5 % outside at either end."""
    # By logarithms: e^-asked itself is zero from 745 on, and would never grow.
    logs = (n * math.log(asked) - asked - math.lgamma(n + 1) for n in count())
    up_to = accumulate(math.exp(x) for x in logs)
    low, below = next((n, p) for n, p in enumerate(up_to) if p >= _TAIL)
    if below >= 1 - _TAIL:
        return low, low
    return low, next(n for n, p in enumerate(up_to, low + 1) if p >= 1 - _TAIL)


def long_enough(runs: Sequence[tuple[int, Counts]]) -> bool:
    """Whether the runs (seed, counts) last long enough for one false alarm a week."""
    return _total([counts for _, counts in runs], "1/week")[0] >= _TELLING


def table(runs: Sequence[tuple[int, Counts]]) -> list[str]:
    """Return Markdown lines, one a budget: asked and raised over all runs (seed, counts), and their ratio by seed."""
    seeds = sorted({seed for seed, _ in runs})
    apart = [f"seed {seed}" for seed in seeds] if len(seeds) > 1 else []
    head = ["false alarms asked for, per stream", "asked in all", "by chance", "raised", "raised / asked", *apart]
    lines = [_row(head), _row(["---", *["---:"] * (len(head) - 1)])]
    for budget in _shared(runs):
        asked, raised = _total([counts for _, counts in runs], budget)
        low, high = by_chance(asked)
        each = [_ratio(*_total([c for s, c in runs if s == seed], budget)) for seed in seeds] if apart else []
        cells = [budget, f"{asked:.1f}", f"{low}–{high}", f"{raised:.0f}", _ratio(asked, raised), *each]
        lines.append(_row(cells))
    return lines


def _shared(runs: Sequence[tuple[int, Counts]]) -> list[str]:
    """Return the budgets that every run was judged under; results of an older version know fewer."""
    return [budget for budget in runs[0][1] if all(budget in counts for _, counts in runs)]


def _total(counts: Sequence[Counts], budget: str) -> tuple[float, float]:
    return sum(c[budget]["asked"] for c in counts), sum(c[budget]["raised"] for c in counts)


def _ratio(asked: float, raised: float) -> str:
    return f"{raised / asked:.2f}" if asked >= _TELLING else "–"


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
