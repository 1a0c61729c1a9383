"""Would normal rows that a model has not seen stay below its threshold? Tested where training covers a short time.

What a model scored on the rows that it was fitted to says little of others, least of all where they cover so short a
time that the margin above them is a guess. There a second model is trained as the first was, on the first part of each
stream, and the rest is scored as the daemon would. What passes its threshold is a false alarm known beforehand, and the
first model's threshold is raised by as much, to twice itself at most: what passes it further is something new, a mode
or a fault, which the second model cannot know and the first has learnt. The first model keeps all rows: training
on them is worth more than a test on them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from streamae.core.alert import AlertRule
from streamae.core.profile import Reconstructor
from streamae.history.series import Series
from streamae.training.backtest import offline_group, score_series
from streamae.training.calibrate import DEFAULT_BUDGET_PER_S, VOUCHED
from streamae.training.dataset import Stream
from streamae.training.preparing import rows_profile

__all__ = ["first_part", "is_short", "passed"]

_PASSED_MAX = float(np.log(2.0))


def is_short(manifest: Mapping[str, Any]) -> bool:
    """Whether the training rows cover too short a time to vouch for the budget of false alarms."""
    rows = sum(manifest["training"]["rows"].values())
    return bool(rows * manifest["period_s"] * DEFAULT_BUDGET_PER_S < VOUCHED)


def first_part(streams: Sequence[Stream], unseen: float) -> list[Stream]:
    """Return the streams without the last part `unseen` of their rows."""
    seen = [len(stream.time_s) - int(unseen * len(stream.time_s)) for stream in streams]
    return [replace(x, time_s=x.time_s[:n], values=x.values[:n]) for x, n in zip(streams, seen, strict=True)]


def passed(manifest: Mapping[str, Any], model: Reconstructor, streams: Sequence[Stream], unseen: float) -> float:
    """How far scores of the last part of the streams pass the threshold of a model of the first: ln, 0 to ln 2.

    The threshold is the calibrated one, 1, not what it has adapted to.
    """
    group, highest = offline_group(rows_profile(manifest), model, AlertRule()), 0.0
    for stream in streams:
        text = [repr(t) for t in stream.time_s.tolist()]
        score = score_series(Series(stream.name, stream.channels, stream.time_s, text, stream.values), group).score
        late = score[len(score) - int(unseen * len(score)) :]
        highest = max(highest, float(np.log(late[np.isfinite(late)]).max(initial=0.0)))
    return min(highest, _PASSED_MAX)
