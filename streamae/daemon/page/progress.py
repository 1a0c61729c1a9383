"""When a stream that nobody can judge yet will be judged, from how far apart its rows come."""

import numpy as np

from streamae.core.arrays import grown
from streamae.core.pipeline import Pipeline
from streamae.core.takeover import Progress
from streamae.core.types import F64, I64

__all__ = ["Cadence"]


class Cadence:
    """How far apart the rows of a group's streams come, in seconds of event time, as somebody looks now and then."""

    def __init__(self) -> None:
        self._rows: I64 = np.zeros(0, np.int64)  # when a stream's progress was looked at first
        self._row_s: F64 = np.zeros(0)
        self._seen: I64 = np.zeros(0, np.int64)  # and last

    def eta_s(self, pipeline: Pipeline, progress: Progress) -> F64:
        """Return in how many seconds each stream has its rows, `[S]`: NaN where that is unknown, or behind it.

        A stream that has not shown yet how often it sends is taken for one like most of its group.
        """
        eta_s = np.full(len(progress.state), np.nan)
        open_ = np.flatnonzero(progress.state < 0)
        if not len(open_):
            return eta_s
        own_s = self._observed(progress.rows, pipeline.latest.row_s[: len(eta_s)])
        apart_s = np.where(np.isnan(own_s[open_]), pipeline.rings.spacing_s(open_), own_s[open_])
        known = apart_s[np.isfinite(apart_s)]
        usual_s = float(np.median(known)) if len(known) else np.nan
        left = np.maximum(progress.needed[open_] - progress.rows[open_], 1)
        eta_s[open_] = left * np.where(np.isnan(apart_s), usual_s, apart_s)
        return eta_s

    def _observed(self, rows: I64, row_s: F64) -> F64:
        """Return the seconds between two rows of each stream since it was looked at first, NaN where none came.

        With fewer rows than before, a stream started over: another window, or the first one after its warm-up.
        """
        self._seen = grown(self._seen, len(rows), 0)
        fewer = rows < self._seen[: len(rows)]
        self._seen[: len(rows)] = rows
        self._rows, self._row_s = grown(self._rows, len(rows), 0), grown(self._row_s, len(rows), np.nan)
        first, first_s = self._rows[: len(rows)], self._row_s[: len(rows)]
        begins = np.isnan(first_s) | fewer
        first[begins], first_s[begins] = rows[begins], row_s[begins]
        came = rows - first
        return np.where(came > 0, (row_s - first_s) / np.maximum(came, 1), np.nan)
