"""Labelled series -> labelled windows, and an honest division into rows to learn from and rows to be tested on.

A label is any text in the column `label` (fault kinds, or 0 and 1); a row whose label is empty is not labelled. This
file is the only one of the package's training side that reads that column. A window has a label where all its rows
have it; others belong to no class.

The most common label counts as normal. Every stretch of another label forms one segment with the normal rows around it
(streams are cut half-way between two such stretches), a window lies wholly inside a segment, and whole segments are
held out: no test window shares a row, or an incident, with one that was learnt from.
"""

import csv
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from streamae.core.calendar import Calendar
from streamae.core.profile import Profile
from streamae.core.scale import Scale
from streamae.core.types import F32, I64, Rows
from streamae.core.window import Rings
from streamae.errors import SeriesError
from streamae.history.series import LABEL, Series, open_text

__all__ = ["LabelledWindows", "draw", "hold_out", "label_windows", "read_labels"]

_TEST_SHARE = 0.3


@dataclass(frozen=True, slots=True, eq=False)
class LabelledWindows:
    """Scaled windows `[n, T, C]`, the class `y[n]` of each as an index of `classes`, and its segment.

    `kind[s]` is the class that segment s is about: normal only where it holds nothing else.
    """

    classes: tuple[str, ...]
    windows: F32
    y: I64
    segment: I64
    kind: I64

    def __len__(self) -> int:
        """Return n."""
        return len(self.y)


def read_labels(path: Path) -> list[str]:
    """Read the label of each row, as text, in the order of `read_series`. Raises SeriesError where there is none."""
    with open_text(path) as file:
        first = file.readline()
        delimiter = ";" if ";" in first and "," not in first else ","
        header = [cell.strip().lower() for cell in next(csv.reader([first], delimiter=delimiter), [])]
        if LABEL not in header:
            raise SeriesError(f"{path}:1: no column `{LABEL}`; give each row its class there, or leave the cell empty")
        at = header.index(LABEL)
        return [row[at].strip() for row in csv.reader(file, delimiter=delimiter) if row]


def label_windows(
    series: Sequence[Series], labels: Sequence[Sequence[str]], profile: Profile, stride: int
) -> LabelledWindows:
    """Cut every `stride`-th window of the series, scaled as the daemon would scale them.

    Raises SeriesError where there are not two classes, or a class has fewer than two segments.
    """
    counts = Counter(label for rows in labels for label in rows if label)
    if len(counts) < 2:
        raise SeriesError(f"the labels know {len(counts)} class ({', '.join(counts)}); at least two are needed")
    normal = counts.most_common(1)[0][0]
    classes = (normal, *sorted(set(counts) - {normal}))
    code = {"": -1} | {name: i for i, name in enumerate(classes)}
    windows, y, segment = [], [], []
    kind: list[int] = []
    for one, rows in zip(series, labels, strict=True):
        own = np.array([code[label] for label in rows], np.int64)
        cut, kinds = _segments(own)
        found, first, last = _windows(one, profile, stride)
        stretch = np.r_[0, np.cumsum(np.diff(own) != 0)]
        keep = np.flatnonzero((cut[first] == cut[last]) & (stretch[first] == stretch[last]) & (own[last] >= 0))
        windows.append(found[keep])
        y.append(own[last[keep]])
        segment.append(cut[last[keep]] + len(kind))
        kind += kinds
    joined = LabelledWindows(
        classes, np.concatenate(windows), np.concatenate(y), np.concatenate(segment), np.array(kind, np.int64)
    )
    _check(joined)
    return joined


def hold_out(data_set: LabelledWindows, seed: int) -> tuple[I64, I64]:
    """Return which windows to learn from and which to test on: of each class three segments in ten, at least one."""
    random = np.random.default_rng(seed)
    held: list[int] = []
    present = np.unique(data_set.segment)
    for c in range(len(data_set.classes)):
        own = random.permutation(present[data_set.kind[present] == c])
        held += own[: max(1, round(_TEST_SHARE * len(own))) if len(own) > 1 else 0].tolist()
    is_held = np.isin(data_set.segment, held)
    return np.flatnonzero(~is_held), np.flatnonzero(is_held)


def draw(y: I64, pool: I64, fraction: float, random: np.random.Generator) -> I64:
    """Return that fraction of the windows `pool`, drawn class by class, at least one of each class."""
    chosen = []
    for c in np.unique(y[pool]):
        own = random.permutation(pool[y[pool] == c])
        chosen.append(own[: max(1, round(fraction * len(own)))])
    return np.sort(np.concatenate(chosen))


def _segments(label: I64) -> tuple[I64, list[int]]:
    """Codes [N] -> segment of each row [N], and the class that each segment is about."""
    if len(label) == 0:
        return label, []
    edge = np.flatnonzero(np.diff(label)) + 1
    starts, ends = np.r_[0, edge], np.r_[edge, len(label)]
    about = [(a, b, int(label[a])) for a, b in zip(starts.tolist(), ends.tolist(), strict=True) if label[a] > 0]
    if not about:
        return np.zeros(len(label), np.int64), [0]
    cuts = [(b + a) // 2 for (_, b, _), (a, _, _) in pairwise(about)]
    return np.searchsorted(np.array(cuts, np.int64), np.arange(len(label)), side="right"), [c for _, _, c in about]


def _windows(series: Series, profile: Profile, stride: int) -> tuple[F32, I64, I64]:
    """Windows [n, T, C] of one series, and the rows of the file that each begins and ends with."""
    missing = [c for c in profile.channels if c not in series.channels]
    if missing:
        raise SeriesError(f"{series.name}: lacks the encoder's channel {', '.join(missing)}; rename its columns")
    values = series.values[:, [series.channels.index(c) for c in profile.channels]]
    forward = np.r_[True, series.time_s[1:] > np.maximum.accumulate(series.time_s)[:-1]][: len(series)]
    usable = np.flatnonzero(np.isfinite(values).all(axis=1) & forward)
    C, calendar = len(profile.channels), Calendar.of(profile.calendar)
    scale = Scale(C, profile.warmup_rows)
    rings = Rings(profile.window, C + len(calendar), gap_max_s=profile.gap_max_s, stride=stride)
    scale.grow(1)
    rings.grow(1)
    scale.begin(0, profile.streams.get(series.name))
    stream = np.zeros(len(usable), np.int32)
    kept, scaled = scale.step(Rows(stream, series.time_s[usable], values[usable]))
    rows = usable[kept]
    windows, ended, _ = rings.push(stream[kept], series.time_s[rows], calendar.beside(scaled, series.time_s[rows]))
    return windows.values, rows[ended - profile.window + 1], rows[ended]


def _check(data_set: LabelledWindows) -> None:
    present = np.unique(data_set.segment)
    for c, name in enumerate(data_set.classes):
        own = int((data_set.kind[present] == c).sum())
        if own < 2 and c > 0:
            raise SeriesError(
                f"class {name} has {own} stretch of rows with full windows; at least two are needed, one to learn "
                "from and one to test on: label more incidents of it, or leave it out"
            )
