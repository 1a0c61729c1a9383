"""The catalogue of metrics, and the only door to prometheus_client.

Names are `streamae_<noun>_<unit>[_total]`, units are seconds, bytes or ratios, labels are bounded by the configuration
(groups, sinks, drop reasons, states), never by topics. Everything is observed once a batch, from arrays. The one
exception is opt-in: series for single streams, rendered by hand, capped in number, and gone when a stream falls silent.

A scrape renders collector by collector: one that raises costs its own lines and counts in
`streamae_metrics_render_errors_total`, the rest is served.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector

from streamae.core.types import AlertState, Drop, Report

__all__ = ["CATALOGUE", "CONTENT_TYPE_LATEST", "Metric", "Metrics"]

disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for each counter that nobody reads

F64 = npt.NDArray[np.float64]

_STEP_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_LATENCY_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
_LAG_S = (0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 3600.0, 86400.0)


class Metric(NamedTuple):
    """One line of the catalogue; `name` is the family's, without `_total` or `_bucket`."""

    name: str
    kind: str
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


CATALOGUE: tuple[Metric, ...] = (
    Metric("messages_received", "counter", "Messages taken from the inbox, refused ones included."),
    Metric("messages_dropped", "counter", "Messages, samples and rows that were refused, by reason.", ("reason",)),
    Metric(
        "messages_lost", "counter", "Messages that the broker is known to have lost before they reached us.", ("cause",)
    ),
    Metric("rows", "counter", "Rows built from samples."),
    Metric("windows_scored", "counter", "Windows that the models scored."),
    Metric("alerts", "counter", "Alerts that began to fire, by the severity they began with.", ("group", "severity")),
    Metric("alerts_resolved", "counter", "Alerts that resolved.", ("group",)),
    Metric("alerts_firing", "gauge", "Alerts that fire now.", ("group",)),
    Metric("streams", "gauge", "Streams by the state of their alert.", ("group", "state")),
    Metric(
        "score_max",
        "gauge",
        "Highest score of the last batch that had windows of the group; 1 is the calibrated threshold.",
        ("group",),
    ),
    Metric("step_duration_seconds", "histogram", "Time that the pipeline took for a batch.", (), _STEP_S),
    Metric("commit_duration_seconds", "histogram", "Time that the store took to commit a batch.", (), _STEP_S),
    Metric(
        "arrival_to_commit_seconds",
        "histogram",
        "From a message's arrival to the commit of what it led to.",
        (),
        _LATENCY_S,
    ),
    Metric(
        "event_to_score_seconds", "histogram", "From the event time of a window's last row to its score.", (), _LAG_S
    ),
    Metric("batch_messages_last", "gauge", "Messages of the last batch."),
    Metric("inbox_messages", "gauge", "Messages that wait in the inbox."),
    Metric("inbox_capacity_messages", "gauge", "Messages that the inbox can hold."),
    Metric("source_connected", "gauge", "1 while connected to the broker."),
    Metric("source_subscribed", "gauge", "1 while the broker has granted every subscription."),
    Metric("source_connections", "counter", "Connections made to the broker since the start."),
    Metric(
        "source_last_message_age_seconds",
        "gauge",
        "Time since the last message arrived; since the start before the first.",
    ),
    Metric("source_window_limited", "gauge", "1 while the receive maximum holds the broker back."),
    Metric("journal_bytes", "gauge", "Size of the state file on disk."),
    Metric("journal_batches", "gauge", "Batches in the journal."),
    Metric("snapshot_age_seconds", "gauge", "Time since the last snapshot."),
    Metric("store_writable", "gauge", "0 while commits fail and intake is paused."),
    Metric("store_commit_failures", "counter", "Commits that failed and were tried again."),
    Metric("outbox_pending", "gauge", "Transitions not yet delivered.", ("sink",)),
    Metric("outbox_oldest_age_seconds", "gauge", "Age of the oldest transition not yet delivered.", ("sink",)),
    Metric("outbox_dead", "gauge", "Transitions that a sink refused for good.", ("sink",)),
    Metric("outbox_evicted", "counter", "Transitions dropped because the outbox was full.", ("sink",)),
    Metric(
        "sink_deliveries", "counter", "Attempts to deliver, by outcome: sent, failed or refused.", ("sink", "outcome")
    ),
    Metric("config_last_reload_successful", "gauge", "1 when the last reload was taken over."),
    Metric("config_last_reload_success_timestamp_seconds", "gauge", "When the configuration was last taken over."),
    Metric("model_info", "gauge", "1 for the model of each group.", ("group", "digest")),
    Metric("model_window_rows", "gauge", "Window length of the model, in rows.", ("group",)),
    Metric("build_info", "gauge", "1, with the versions that run.", ("version", "python", "torch")),
    Metric("start_time_seconds", "gauge", "When the daemon started."),
    Metric("metrics_render_errors", "counter", "Collectors that failed while /metrics was rendered."),
    Metric(
        "metrics_streams_left_out",
        "gauge",
        "Streams without series of their own because metrics.per_stream_max is reached.",
    ),
)

PER_STREAM: tuple[Metric, ...] = (
    Metric(
        "anomaly_score", "gauge", "Score of the last window; above its threshold is anomalous.", ("group", "stream")
    ),
    Metric("anomaly_threshold", "gauge", "Threshold that the score was held against.", ("group", "stream")),
    Metric("alert_state", "gauge", "-1 learning, 0 inactive, 1 pending, 2 firing.", ("group", "stream")),
    Metric("last_sample_age_seconds", "gauge", "Time since the stream's last window was scored.", ("group", "stream")),
)


class _Histogram(Collector):
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
        family = HistogramMetricFamily(f"streamae_{self._metric.name}", self._metric.help)
        cumulative = np.cumsum(self._counts)
        bounds = [*(f"{bound:g}" for bound in self._bounds), "+Inf"]
        family.add_metric([], [(b, float(c)) for b, c in zip(bounds, cumulative, strict=True)], self._sum)
        yield family


class _StreamSeries:
    """Last score, threshold, state and time of up to `limit` streams; slots of silent streams are given back."""

    def __init__(self, limit: int, stale_after_s: float) -> None:
        self._limit = limit
        self._stale_after_s = stale_after_s
        self._slots: dict[tuple[str, int], int] = {}
        self._names: list[str] = [""] * limit
        self._free = list(range(limit - 1, -1, -1))
        self._last = np.zeros((4, limit))  # score, threshold, state, seen_s
        self.left_out = 0

    def observe(self, report: Report, names: Mapping[str, Sequence[str]], now_s: float) -> None:
        left_out = 0
        for group, verdicts in report.verdicts.items():
            slots = np.fromiter((self._slot(group, int(s), names) for s in verdicts.stream), np.int64, len(verdicts))
            kept = slots >= 0
            left_out += len(set(verdicts.stream[~kept].tolist()))
            lines: tuple[npt.NDArray[Any], ...] = (
                verdicts.score,
                verdicts.threshold,
                verdicts.state,
                np.full(len(verdicts), now_s),
            )
            for row, values in zip(self._last, lines, strict=True):
                row[slots[kept]] = values[kept]
        self.left_out = left_out

    def _slot(self, group: str, stream: int, names: Mapping[str, Sequence[str]]) -> int:
        slot = self._slots.get((group, stream), -1)
        if slot < 0 and self._free:
            slot = self._slots[group, stream] = self._free.pop()
            self._names[slot] = f'group="{_escaped(group)}",stream="{_escaped(names[group][stream])}"'
        return slot

    def expire(self, now_s: float) -> None:
        """Give back the slots of streams that have been silent for longer than allowed."""
        for key, slot in list(self._slots.items()):
            if now_s - self._last[3, slot] > self._stale_after_s:
                del self._slots[key]
                self._free.append(slot)

    def render(self, now_s: float) -> bytes:
        """Return the exposition text of the streams that are not stale."""
        slots = [slot for slot in list(self._slots.values()) if now_s - self._last[3, slot] <= self._stale_after_s]
        lines: list[str] = []
        for metric, row in zip(PER_STREAM, self._last, strict=True):
            name = f"streamae_{metric.name}"
            lines += [f"# HELP {name} {metric.help}", f"# TYPE {name} gauge"]
            values = now_s - row if metric.name == "last_sample_age_seconds" else row
            lines += [f"{name}{{{self._names[slot]}}} {_value(float(values[slot]))}" for slot in slots]
        return ("\n".join(lines) + "\n").encode() if slots else b""


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def _value(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    return repr(value) if math.isfinite(value) else ("+Inf" if value > 0 else "-Inf")


class _One:
    """A registry of one collector, for `generate_latest`."""

    def __init__(self, collector: Any) -> None:
        self._collector = collector

    def collect(self) -> Iterable[Family]:
        return list(self._collector.collect())


class Metrics:
    """All metrics of one process; `observe` in the pipeline's thread, `render` in any other.

    `now` gives seconds since 1970. `per_stream_max` = 0 leaves the series of single streams out.
    """

    def __init__(self, now: Callable[[], float], per_stream_max: int = 0, stale_after_s: float = 300.0) -> None:
        self._now = now
        self._collectors: dict[str, Any] = {}
        for metric in CATALOGUE:
            self._collectors[metric.name] = _collector(metric)
        registry = CollectorRegistry()
        self._platform = [
            ProcessCollector(registry=None),
            PlatformCollector(registry=None),
            GCCollector(registry=registry),
        ]
        self._digests: dict[str, str] = {}
        self._series = _StreamSeries(per_stream_max, stale_after_s) if per_stream_max else None
        for reason in Drop:
            self._collectors["messages_dropped"].labels(reason.value)
        self._started_s = now()
        self.gauge("start_time_seconds", self._started_s)
        self.gauge("config_last_reload_successful", 1.0)
        self.gauge("config_last_reload_success_timestamp_seconds", self._started_s)

    def count(self, name: str, by: float = 1.0, *labels: str) -> None:
        """Raise a counter of the catalogue; unknown names raise KeyError."""
        counter = self._collectors[name]
        (counter.labels(*labels) if labels else counter).inc(by)

    def gauge(self, name: str, value: float, *labels: str) -> None:
        """Set a gauge of the catalogue."""
        gauge = self._collectors[name]
        (gauge.labels(*labels) if labels else gauge).set(value)

    def time(self, name: str, values: F64 | float) -> None:
        """Observe seconds, one or an array, in a histogram of the catalogue."""
        self._collectors[name].observe(np.atleast_1d(np.asarray(values, np.float64)))

    def declare_group(self, group: str, digest: str, window: int) -> None:
        """Start a group's series at zero, so that `rate()` sees the first alert; call again after a model's change."""
        for severity in ("warning", "critical"):
            self._collectors["alerts"].labels(group, severity)
        self._collectors["alerts_resolved"].labels(group)
        self.gauge("alerts_firing", 0.0, group)
        for state in AlertState:
            self.gauge("streams", 0.0, group, state.name.lower())
        if self._digests.get(group, digest) != digest:
            self._collectors["model_info"].remove(group, self._digests[group])
        self._digests[group] = digest
        self.gauge("model_info", 1.0, group, digest)
        self.gauge("model_window_rows", window, group)

    def declare_sink(self, sink: str) -> None:
        """Start a sink's series at zero."""
        for outcome in ("sent", "failed", "refused"):
            self._collectors["sink_deliveries"].labels(sink, outcome)
        self._collectors["outbox_evicted"].labels(sink)
        for name in ("outbox_pending", "outbox_oldest_age_seconds", "outbox_dead"):
            self.gauge(name, 0.0, sink)

    def observe(
        self, report: Report, names: Mapping[str, Sequence[str]], arrival_s: F64, step_s: float, commit_s: float
    ) -> None:
        """Count one batch: its report, `names[group][stream]`, its arrival times, duration of step and commit."""
        now_s = self._now()
        self.count("messages_received", report.messages)
        self.count("rows", report.rows)
        self.count("windows_scored", report.windows)
        self.gauge("batch_messages_last", report.messages)
        for reason, number in report.drops.items():
            self.count("messages_dropped", number, reason.value)
        for transition in report.transitions:
            self._count_transition(transition.group, transition.state, transition.severity, transition.sequence)
        for group, verdicts in report.verdicts.items():
            self.time("event_to_score_seconds", now_s - verdicts.time_s)
            scores = verdicts.score[np.isfinite(verdicts.score)]
            if len(scores):
                self.gauge("score_max", float(scores.max()), group)
        self.time("step_duration_seconds", step_s)
        self.time("commit_duration_seconds", commit_s)
        self.time("arrival_to_commit_seconds", now_s - arrival_s)
        if self._series is not None:
            self._series.expire(now_s)
            self._series.observe(report, names, now_s)
            self.gauge("metrics_streams_left_out", self._series.left_out)

    def _count_transition(self, group: str, state: str, severity: str, sequence: int) -> None:
        if state == "resolved":
            self.count("alerts_resolved", 1, group)
        elif sequence == 0:
            self.count("alerts", 1, group, severity)

    def observe_streams(self, group: str, states: npt.NDArray[np.int8]) -> None:
        """Set the number of streams in each state, and of alerts firing, from `states[S]`."""
        for state in AlertState:
            self.gauge("streams", int(np.count_nonzero(states == state)), group, state.name.lower())
        self.gauge("alerts_firing", int(np.count_nonzero(states == AlertState.FIRING)), group)

    def observe_source(self, connected: bool, subscribed: bool, last_message_age_s: float | None, waiting: int) -> None:
        """Set what is known of the source; an age of None counts from the start."""
        age_s = self._now() - self._started_s if last_message_age_s is None else last_message_age_s
        self.gauge("source_connected", connected)
        self.gauge("source_subscribed", subscribed)
        self.gauge("source_last_message_age_seconds", age_s)
        self.gauge("inbox_messages", waiting)

    def observe_reload(self, successful: bool) -> None:
        """Set the outcome of a reload."""
        self.gauge("config_last_reload_successful", successful)
        if successful:
            self.gauge("config_last_reload_success_timestamp_seconds", self._now())

    def render(self) -> bytes:
        """Return the text of /metrics; never raises for a collector that fails."""
        parts = []
        for collector in (*self._collectors.values(), *self._platform):
            try:
                parts.append(generate_latest(_One(collector)))
            except Exception:  # whatever one collector raises (ours or /proc's), the others must still be served
                self.count("metrics_render_errors")
        if self._series is not None:
            parts.append(self._series.render(self._now()))
        return b"".join(parts)


def _collector(metric: Metric) -> Any:
    name = f"streamae_{metric.name}"
    if metric.kind == "histogram":
        return _Histogram(metric)
    kind = Counter if metric.kind == "counter" else Gauge
    return kind(name, metric.help, metric.labels, registry=None)
