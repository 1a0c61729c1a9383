"""Collectors that take arrays: histograms, and the opt-in series of single streams."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector

from streamae.core.report import Report
from streamae.core.silence import patience_s
from streamae.metrics.catalogue import PER_STREAM, Metric
from streamae.pacing import paced

__all__ = ["Histogram", "StreamSeries"]

F64 = npt.NDArray[np.float64]
_LEFT_OUT_S = 300.0


class Histogram(Collector):
    """A histogram that takes an array at once; prometheus_client's own takes a lock for every value."""

    def __init__(self, metric: Metric) -> None:
        self._metric = metric
        self._bounds = np.array(metric.buckets)
        self._counts = np.zeros(len(metric.buckets) + 1, np.int64)
        self._sum = 0.0

    def observe(self, values: F64) -> None:
        """Count `values[N]`; those that are not finite are left out, negative ones (clock steps) count as zero."""
        values = np.maximum(values[np.isfinite(values)], 0.0)
        places = np.searchsorted(self._bounds, values, side="left")
        # One rebind of a new array: a scrape in another thread sees the old or the new counts, never half of them.
        self._counts, self._sum = (
            self._counts + np.bincount(places, minlength=len(self._counts)),
            self._sum + float(values.sum()),
        )

    def collect(self) -> Iterator[Family]:
        """Yield the family, as a registry asks for it."""
        family = HistogramMetricFamily(f"streamae_{self._metric.name}", self._metric.help)
        cumulative = np.cumsum(self._counts)
        bounds = [*(f"{bound:g}" for bound in self._bounds), "+Inf"]
        family.add_metric([], [(b, float(c)) for b, c in zip(bounds, cumulative, strict=True)], self._sum)
        yield family


class StreamSeries:
    """Last score, threshold, state, time, maintenance and severity of up to `limit` streams.

    Those of silent ones are freed.
    """

    def __init__(self, limit: int, stale_after_s: float | None) -> None:
        self._limit = limit
        self._stale_after_s = stale_after_s
        self._slots: dict[tuple[str, int], int] = {}
        self._names: list[str] = [""] * limit
        self._free = list(range(limit - 1, -1, -1))
        self._last = np.zeros((6, limit))  # score, threshold, state, seen_s, in maintenance, severity
        self._silence = np.zeros((2, limit))  # the longest so far, how many there were
        self.left_out = 0  # the most of any batch of late: not every batch has all streams
        self._left_out_s = -np.inf

    def observe(self, report: Report, now_s: float) -> None:
        """Take over the verdicts of a batch."""
        left_out = 0
        for group, news in report.groups.items():
            names, verdicts = news.names, news.verdicts
            if news.removed or news.renamed:
                self._end_renamed(group, names)
            slots = np.fromiter((self._slot(group, int(s), names) for s in verdicts.stream), np.int64, len(verdicts))
            kept = slots >= 0
            left_out += len(set(verdicts.stream[~kept].tolist()))
            lines: tuple[npt.NDArray[Any], ...] = (
                verdicts.score,
                verdicts.own,
                verdicts.state,
                np.full(len(verdicts), now_s),
            )
            self._learn(slots[kept], now_s)
            for row, values in zip(self._last, lines, strict=False):
                row[slots[kept]] = values[kept]
        if left_out >= self.left_out or now_s - self._left_out_s > (self._stale_after_s or _LEFT_OUT_S):
            self.left_out, self._left_out_s = left_out, now_s

    def _learn(self, slots: npt.NDArray[np.int64], now_s: float) -> None:
        """Note how long the streams of these slots were silent; of a new one nothing is known yet."""
        slots = slots[self._last[3, slots] > 0]
        silent_s = np.minimum(now_s - self._last[3, slots], self._patience_s(slots))
        self._silence[0, slots] = np.maximum(self._silence[0, slots], silent_s)
        self._silence[1, slots] += 1

    def _patience_s(self, slots: npt.NDArray[np.int64]) -> F64:
        if self._stale_after_s is not None:
            return np.full(len(slots), self._stale_after_s)
        return patience_s(self._silence[0, slots], self._silence[1, slots])

    def _slot(self, group: str, stream: int, names: Sequence[str]) -> int:
        slot = self._slots.get((group, stream), -1)
        if slot < 0 and self._free:
            slot = self._slots[group, stream] = self._free.pop()
            self._last[3:, slot] = 0.0
            self._silence[:, slot] = 0.0
            self._names[slot] = _labels(group, names[stream])
        return slot

    def _end_renamed(self, group: str, names: Sequence[str]) -> None:
        """Give back the slots of a group's streams that are gone, or whose number or name is another now."""
        for key, slot in list(self._slots.items()):
            if key[0] == group and (key[1] >= len(names) or self._names[slot] != _labels(group, names[key[1]])):
                del self._slots[key]
                self._free.append(slot)

    def mark(
        self,
        group: str,
        states: npt.NDArray[np.int8],
        maintenance: npt.NDArray[np.bool_],
        severity: npt.NDArray[np.int8],
    ) -> None:
        """Set what a group's streams are between verdicts: state, in maintenance or not, severity; all `[S]`."""
        for (of_group, stream), slot in self._slots.items():
            if of_group == group:
                self._last[4, slot] = stream < len(maintenance) and maintenance[stream]
                self._last[5, slot] = severity[stream] if stream < len(severity) else 0
                self._last[2, slot] = states[stream] if stream < len(states) else self._last[2, slot]

    def expire(self, now_s: float) -> None:
        """Give back the slots of streams that have been silent for longer than allowed."""
        slots = np.fromiter(self._slots.values(), np.int64, len(self._slots))
        silent = now_s - self._last[3, slots] > self._patience_s(slots)
        for key, slot, stale in zip(list(self._slots), slots.tolist(), silent.tolist(), strict=True):
            if stale:
                del self._slots[key]
                self._free.append(slot)

    def render(self, now_s: float) -> bytes:
        """Return the exposition text of the streams that are not stale."""
        known = np.array(list(self._slots.values()), np.int64)
        slots = known[now_s - self._last[3, known] <= self._patience_s(known)].tolist()
        lines: list[str] = []
        for metric, row in zip(PER_STREAM, self._last, strict=True):
            name = f"streamae_{metric.name}"
            lines += [f"# HELP {name} {metric.help}", f"# TYPE {name} gauge"]
            values = now_s - row if metric.name == "last_sample_age_seconds" else row
            lines += [f"{name}{{{self._names[slot]}}} {_value(float(values[slot]))}" for slot in paced(slots)]
        return ("\n".join(lines) + "\n").encode() if slots else b""


def _labels(group: str, stream: str) -> str:
    return f'group="{_escaped(group)}",stream="{_escaped(stream)}"'


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def _value(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    return repr(value) if math.isfinite(value) else ("+Inf" if value > 0 else "-Inf")
