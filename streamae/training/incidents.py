"""Labelled incidents -> rows to learn without, and a threshold by F_beta (Malhotra et al. 2016: EncDec-AD).

A file of `stream,start,end`, times as in a series; a stream is a name or a pattern of names (`*`, `?`). The model
learns from the rows outside of all incidents. Then it scores all rows as the daemon would, and the threshold goes
where F_beta against the incidents is greatest; beta below 1 weighs a false alarm more than a row that is missed.
"""

import csv
from collections.abc import Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np

from streamae.core.alert import AlertRule
from streamae.core.profile import Reconstructor
from streamae.core.types import F64, Bool
from streamae.errors import SeriesError
from streamae.history.series import Series, open_text, times_of
from streamae.store.past import Spell
from streamae.training.backtest import offline_group, score_series
from streamae.training.dataset import Stream
from streamae.training.limits import OFFSET_MIN, fbeta_limit, move_threshold
from streamae.training.preparing import rows_profile

__all__ = ["inside", "place_threshold", "read_incidents", "without"]

_HEADER = ["stream", "start", "end"]


def read_incidents(path: Path, streams: Sequence[Stream]) -> list[Spell]:
    """Read the incidents of these streams. Raises SeriesError naming the line, or where no row lies in any of them."""
    with open_text(path) as file:
        reader = csv.reader(file)
        header = [cell.strip().lower() for cell in next(reader, [])]
        if header != _HEADER:
            raise SeriesError(f"{path}:1: the columns are {','.join(header) or 'none'}; write stream,start,end")
        rows = [(reader.line_num, [cell.strip() for cell in row]) for row in reader if row]
    if not rows:
        raise SeriesError(f"{path}: names no incident; write a line of stream,start,end for each")
    lines = [line for line, _ in rows]
    short = next((line for line, row in rows if len(row) != len(_HEADER)), None)
    if short is not None:
        raise SeriesError(f"{path}:{short}: an incident has a stream, a start and an end; repair this line")
    start_s, end_s = (times_of(path, [row[i] for _, row in rows], lines) for i in (1, 2))
    names = [stream.name for stream in streams]
    found = []
    for (line, row), start, end in zip(rows, start_s.tolist(), end_s.tolist(), strict=True):
        if not any(fnmatchcase(name, row[0]) for name in names):
            raise SeriesError(f"{path}:{line}: stream {row[0]!r} is not among {', '.join(names)}; correct its name")
        if end < start:
            raise SeriesError(f"{path}:{line}: ends ({row[2]}) before it starts ({row[1]}); correct the times")
        found.append(Spell(row[0], start, end))
    if not any(inside(stream.name, stream.time_s, found).any() for stream in streams):
        raise SeriesError(
            f"{path}: no row that is trained on lies in any of its {len(found)} incidents; check their times, or leave "
            "`threshold.method` at budget, which needs none"
        )
    return found


def inside(name: str, time_s: F64, incidents: Sequence[Spell]) -> Bool:
    """Return which rows `[N]` of a stream lie in incidents, both ends included."""
    found = np.zeros(len(time_s), np.bool_)
    for one in incidents:
        if fnmatchcase(name, one.stream):
            found |= (time_s >= one.start_s) & (time_s <= one.end_s)
    return found


def without(streams: Sequence[Stream], incidents: Sequence[Spell]) -> list[Stream]:
    """Return the streams without the rows of incidents."""
    kept = [~inside(stream.name, stream.time_s, incidents) for stream in streams]
    return [replace(x, time_s=x.time_s[own], values=x.values[own]) for x, own in zip(streams, kept, strict=True)]


def place_threshold(
    manifest: dict[str, Any],
    model: Reconstructor,
    streams: Sequence[Stream],
    incidents: Sequence[Spell],
    beta: float,
) -> float:
    """Move the thresholds of a manifest, in place, to the greatest F_beta over all streams; return the new `offset`.

    All streams of a group have one offset above their own mean, so all scores count together.
    """
    profile = rows_profile(manifest)
    group = offline_group(profile, model, AlertRule())
    scores, hits = [], []
    for stream in streams:
        text = [repr(t) for t in stream.time_s.tolist()]
        score = score_series(Series(stream.name, stream.channels, stream.time_s, text, stream.values), group).score
        known = np.isfinite(score)
        scores.append(np.log(score[known]))
        hits.append(inside(stream.name, stream.time_s, incidents)[known])
    old = profile.calibration.offset
    offset = max(OFFSET_MIN, old + fbeta_limit(np.concatenate(scores), np.concatenate(hits), beta))
    move_threshold(manifest, offset - old)
    return offset
