"""How good is a score? Measures of one scored series against its labels; a high score means anomalous.

Theory of operation. `vus` is the volume under the surface of Paparrizos et al. (VLDB 2022), the number that TSB-AD
ranks by: labels get sloping shoulders of up to half a window, so that a detection slightly early or late earns a part
of the credit, and the area under the curve is averaged over all window lengths 0..W. The published code recounts every
row for every threshold and window; here each row is sorted once into the first of the thresholds that it passes, and
what all thresholds count is one cumulative sum over those bins. The result is the same number (to rounding).

`alarms` judges the detector at its own threshold: what an operator sees. Point-adjusted F1 is deliberately absent:
random scores reach .95 of it.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["Alarms", "Quality", "alarms", "auc_pr", "auc_roc", "measure", "runs", "vus", "vus_window"]

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
Bool = npt.NDArray[np.bool_]

THRESHOLDS = 250  # TSB-AD's `thre`
DEFAULT_WINDOW = 125  # TSB-AD's answer where the autocorrelation shows no period
DAY_S = 86400.0


@dataclass(frozen=True, slots=True)
class Alarms:
    """What the alarms `score > threshold` were worth.

    `events` labelled events, `detected` of them with at least one alarm inside; `delay_rows` from the start of an event
    to its first alarm, mean over the detected ones; `false_events` alarms (runs of rows above the threshold) that start
    on a normal row; `normal_share` the part of the normal rows spent in alarm.
    """

    events: int
    detected: int
    delay_rows: float
    false_events: int
    normal_rows: int
    normal_share: float
    normal_days: float

    @property
    def recall(self) -> float:
        """Share of the labelled events that raised an alarm; NaN without events."""
        return self.detected / self.events if self.events else float("nan")

    @property
    def false_per_1000(self) -> float:
        """False-alarm events per 1,000 normal rows."""
        return 1000.0 * self.false_events / self.normal_rows if self.normal_rows else float("nan")

    @property
    def false_per_day(self) -> float:
        """False-alarm events per stream-day of normal operation; NaN where the rows carry no time."""
        return self.false_events / self.normal_days if self.normal_days > 0 else float("nan")


@dataclass(frozen=True, slots=True)
class Quality:
    """All measures of one scored series; NaN where the labels do not define one (no event, or no normal row)."""

    vus_pr: float
    vus_roc: float
    auc_pr: float
    auc_roc: float
    alarms: Alarms

    def as_dict(self) -> dict[str, float]:
        """Flatten to plain numbers, for a JSON line."""
        flat = asdict(self)
        flat.update(flat.pop("alarms"))
        a = self.alarms
        return flat | {
            "recall": a.recall,
            "false_per_1000": a.false_per_1000,
            "false_per_day": a.false_per_day,
        }


def measure(label: Bool, score: F64, threshold: F64, *, window: int, row_s: float = 0.0) -> Quality:
    """Measure `score[N]` and its `threshold[N]` against `label[N]`.

    `window` is the VUS window in rows (`vus_window`), `row_s` the typical spacing of rows in seconds (0: unknown).
    """
    if label.any() and not label.all():
        roc, pr = vus(label, score, window)
        areas = (pr, roc, auc_pr(label, score), auc_roc(label, score))
    else:
        areas = (float("nan"),) * 4
    return Quality(*areas, alarms(label, score > threshold, row_s=row_s))


def runs(mask: Bool) -> list[tuple[int, int]]:
    """Return the maximal runs of True in `mask[N]` as (first, last), both inclusive."""
    edge = np.flatnonzero(np.diff(np.r_[False, mask, False].astype(np.int8)))
    return [(int(a), int(b) - 1) for a, b in zip(edge[::2], edge[1::2], strict=True)]


def alarms(label: Bool, above: Bool, *, row_s: float = 0.0) -> Alarms:
    """Judge the alarms `above[N]` against the events in `label[N]`; see `Alarms` for the definitions."""
    events = runs(label)
    delays = [int(np.argmax(above[a : b + 1])) for a, b in events if above[a : b + 1].any()]
    false = sum(not label[a] for a, _ in runs(above))
    normal = int(np.sum(~label))
    return Alarms(
        events=len(events),
        detected=len(delays),
        delay_rows=float(np.mean(delays)) if delays else float("nan"),
        false_events=false,
        normal_rows=normal,
        normal_share=float(np.mean(above[~label])) if normal else float("nan"),
        normal_days=normal * row_s / DAY_S,
    )


def auc_roc(label: Bool, score: F64) -> float:
    """Area under the ROC curve: the chance that an anomalous row outranks a normal one, ties counting half."""
    _, inverse, count = np.unique(score, return_inverse=True, return_counts=True)
    last = np.cumsum(count)
    rank = (last - (count - 1) / 2.0)[inverse]  # mean rank of each group of ties, 1-based
    positive = int(label.sum())
    return float((rank[label].sum() - positive * (positive + 1) / 2.0) / (positive * (len(label) - positive)))


def auc_pr(label: Bool, score: F64) -> float:
    """Average precision: precision at each distinct score, weighted by the recall it adds (no interpolation)."""
    order = np.argsort(-score, kind="stable")
    hit, ranked = label[order], score[order]
    last = np.flatnonzero(np.r_[ranked[1:] != ranked[:-1], True])
    tp = np.cumsum(hit)[last].astype(np.float64)
    return float(np.sum(np.diff(np.r_[0.0, tp]) * tp / (last + 1.0)) / tp[-1])


def vus(label: Bool, score: F64, window: int, thresholds: int = THRESHOLDS) -> tuple[float, float]:
    """Volume under the ROC and the PR surface (VUS-ROC, VUS-PR) over windows 0..`window`; equal to TSB-AD 1.5's.

    `label[N]` must hold both an anomalous and a normal row.
    """
    n, positives, events = len(label), float(label.sum()), runs(label)
    cut = -np.sort(-score)[np.linspace(0, n - 1, thresholds).astype(np.int64)]  # descending
    first = np.searchsorted(-cut, -score, side="left")  # the first threshold that a row passes
    predicted = np.cumsum(np.bincount(first, minlength=thresholds)[:thresholds]).astype(np.float64)
    inside = np.cumsum(np.bincount(first[label], minlength=thresholds)[:thresholds]).astype(np.float64)
    near = _shoulder(events, n, window)
    roc = pr = 0.0
    for w in range(window + 1):
        credit = _credit(events, near, n, w)
        slope = np.cumsum(np.bincount(first[near], weights=credit, minlength=thresholds)[:thresholds])
        tp = inside + slope
        weight = (2.0 * positives + slope) / 2.0  # labels, half of them with their shoulders
        found = _found(events, first, n, w, thresholds)
        tpr = np.r_[0.0, np.minimum(tp / weight, 1.0) * found]
        fpr = np.r_[0.0, (predicted - tp) / (n - weight), 1.0]
        pr += float(np.dot(np.diff(tpr), tp / predicted))
        full = np.r_[tpr, 1.0]
        roc += float(np.dot(np.diff(fpr), (full[1:] + full[:-1]) / 2.0))
    return roc / (window + 1), pr / (window + 1)


def _shoulder(events: Sequence[tuple[int, int]], n: int, window: int) -> I64:
    """Return the normal rows within half of the largest window of an event."""
    reach, half = np.zeros(n, np.bool_), window // 2
    for a, b in events:
        reach[max(a - half, 0) : b + half + 1] = True
    for a, b in events:
        reach[a : b + 1] = False
    return np.flatnonzero(reach)


def _credit(events: Sequence[tuple[int, int]], near: I64, n: int, w: int) -> F64:
    """Return the sloping label of the rows `near` at window `w`: sqrt(1 - d/w), summed over events, at most 1."""
    credit, half = np.zeros(n), w // 2
    for a, b in events:
        after = np.arange(b + 1, min(b + half + 1, n))
        credit[after] += np.sqrt(1.0 - (after - b) / max(w, 1))
        before = np.arange(max(a - half, 0), a)
        credit[before] += np.sqrt(1.0 - (a - before) / max(w, 1))
    return np.minimum(credit[near], 1.0)


def _found(events: Sequence[tuple[int, int]], first: I64, n: int, w: int, thresholds: int) -> F64:
    """Return, for each threshold, the share of the events (merged where their shoulders meet) with an alarm inside."""
    half = w // 2
    spans: list[list[int]] = []
    for a, b in events:
        if spans and spans[-1][1] >= a - half:
            spans[-1][1] = b + half
        else:
            spans.append([max(a - half, 0), b + half])
    earliest = [int(first[a : min(b, n - 1) + 1].min()) for a, b in spans]
    return np.cumsum(np.bincount(earliest, minlength=thresholds)[:thresholds]) / len(spans)


def vus_window(values: F64) -> int:
    """Return the period of one channel `values[N]` in rows: the highest local maximum of its autocorrelation.

    TSB-AD's `find_length_rank(x, 1)`: lags 3..400 of the first 20,000 rows; 125 where there is none, or none in 6..303.
    """
    x = values[:20000] - np.mean(values[:20000])
    n, base = len(x), 3
    spectrum = np.fft.rfft(x, 1 << (2 * n - 1).bit_length())
    lags = np.fft.irfft(np.abs(spectrum) ** 2)[: min(401, n)]
    if not lags[0] > 0:
        return DEFAULT_WINDOW
    tail = (lags / lags[0])[base:]
    peaks = np.flatnonzero((tail[1:-1] > tail[:-2]) & (tail[1:-1] > tail[2:])) + 1
    if len(peaks) == 0:
        return DEFAULT_WINDOW
    best = int(peaks[np.argmax(tail[peaks])])
    return best + base if base <= best <= 300 else DEFAULT_WINDOW
