"""Maintenance: periods of event time in which people work on streams, so that their values are not normal.

A window that touches such a period is judged and shown like any other, but nothing is learnt from it: neither
threshold nor warm-up moves. No verdict on a sensor begins there, and a stream in maintenance now is not missed.

The periods come with a batch (`Batch.maintenance`) and are journalled with it. So a replay judges as the first run
did, even if the configuration has changed since.
"""

import re
from collections.abc import Sequence
from fnmatch import fnmatchcase, translate

import numpy as np

from streamae.core.arrays import grown
from streamae.core.routes import Streams
from streamae.core.types import F64, I32, Bool, Maintenance

__all__ = ["MaintenancePlan"]


class MaintenancePlan:
    """The maintenance of one group's streams."""

    def __init__(self, group: str, streams: Streams) -> None:
        self._group, self._streams = group, streams
        self._named: dict[str, Bool] = {}  # pattern -> which of the streams checked so far it names
        self._seen: dict[str, int] = {}
        self.plan([])

    def plan(self, maintenance: Sequence[Maintenance]) -> None:
        """Replace the plan by this maintenance; entries for other groups are ignored."""
        self.planned = mine = [one for one in maintenance if fnmatchcase(self._group, one.group)]
        self._pattern = [one.stream for one in mine]
        self._start_s: F64 = np.array([one.start_s for one in mine], np.float64)
        self._end_s: F64 = np.array([one.end_s for one in mine], np.float64)
        self._named = {pattern: self._named.get(pattern, np.zeros(0, np.bool_)) for pattern in self._pattern}
        self._seen = {pattern: self._seen.get(pattern, 0) for pattern in self._pattern}

    def touches(self, stream: I32, start_s: F64, end_s: F64) -> Bool:
        """Return which of N periods `start_s[N]` to `end_s[N]` (inclusive) of these streams touch maintenance."""
        found = np.zeros(len(stream), np.bool_)
        if not len(stream) or not self.planned:
            return found
        for n in np.flatnonzero((self._start_s <= end_s.max()) & (self._end_s > start_s.min())):
            named = self._names(self._pattern[n])[stream]
            found |= named & (self._start_s[n] <= end_s) & (start_s < self._end_s[n])
        return found

    def renumber(self) -> None:
        """Look up again which streams the patterns name: their numbers have changed."""
        self._named = {pattern: named[:0] for pattern, named in self._named.items()}
        self._seen = dict.fromkeys(self._seen, 0)

    def now(self, now_s: float) -> Bool:
        """Return which of the S streams are in maintenance at `now_s`."""
        found = np.zeros(len(self._streams), np.bool_)
        for n in np.flatnonzero((self._start_s <= now_s) & (now_s < self._end_s)):
            found |= self._names(self._pattern[n])
        return found

    def _names(self, pattern: str) -> Bool:
        """Return which of the S streams a pattern names; each stream is checked once."""
        S, seen = len(self._streams), self._seen[pattern]
        if seen < S:
            self._named[pattern] = grown(self._named[pattern], S, fill=False)
            matches = re.compile(translate(pattern)).match
            self._named[pattern][seen:S] = [matches(name) is not None for name in self._streams.names[seen:S]]
            self._seen[pattern] = S
        return self._named[pattern][:S]
