"""The catalogue of metrics, and the only door to prometheus_client.

Names are `streamae_<noun>_<unit>[_total]`, units are seconds, bytes or ratios, labels are bounded by the configuration
(groups, sinks, drop reasons, states), never by topics. Everything is observed once a batch, from arrays. The one
exception is opt-in: series for single streams, rendered by hand, capped in number, and gone when a stream falls silent.

A scrape renders collector by collector: one that raises costs its own lines and counts in
`streamae_metrics_render_errors_total`, the others are served.
"""

import logging
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any

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
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.metrics_core import Metric as Family

from streamae.condition import Condition
from streamae.core.alert import SEVERITIES
from streamae.core.report import Report, Transition
from streamae.core.sensors.stage import HEALTH_RULES
from streamae.core.transitions import ANOMALY
from streamae.core.types import AlertState, Drop
from streamae.core.unjudged import REASONS
from streamae.metrics.catalogue import CATALOGUE, Metric
from streamae.metrics.series import Histogram, StreamSeries
from streamae.pacing import paced

__all__ = ["CONTENT_TYPE_LATEST", "Metrics"]

log = logging.getLogger(__name__)
disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for each counter that no one reads

F64 = npt.NDArray[np.float64]
_OUTBOX = ("outbox_pending", "outbox_oldest_age_seconds", "outbox_dead", "outbox_withheld")


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

    def __init__(self, now: Callable[[], float], per_stream_max: int = 0, stale_after_s: float | None = None) -> None:
        self._now = now
        self.rendering = Condition("metrics", "render", "/metrics lacks a part", now, log)
        self._left_out = Condition("metrics", "per_stream", "some streams have no series of their own", now, log)
        self.conditions = (self.rendering, self._left_out)
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
        self._watched: set[tuple[str, str]] = set()
        self._lock = threading.Lock()
        self._series = StreamSeries(per_stream_max, stale_after_s) if per_stream_max else None
        for reason in Drop:
            self._collectors["messages_dropped"].labels(reason.value)
        self._started_s = now()
        self.gauge("start_time_seconds", self._started_s)
        self.gauge("thinning", 1)
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
        for name in ("alerts_resolved", "streams_forgotten"):
            self._collectors[name].labels(group)
        for name in (
            "alerts_firing", "alerts_firing_critical", "streams_quarantined", "streams_blind", "streams_resting",
            "model_broken",
        ):  # fmt: skip
            self.gauge(name, 0.0, group)
        for name in ("streams_in_maintenance", "alerts_in_maintenance"):
            self.gauge(name, 0.0, group)
        for reason in REASONS:
            self.gauge("streams_unjudged", 0.0, group, reason)
        for rule in HEALTH_RULES:
            self._collectors["health_verdicts"].labels(group, rule)
            self.gauge("health_verdicts_firing", 0.0, group, rule)
        for state in AlertState:
            self.gauge("streams", 0.0, group, state.name.lower())
        if self._digests.get(group, digest) != digest:
            self._collectors["model_info"].remove(group, self._digests[group])
        self._digests[group] = digest
        self.gauge("model_info", 1.0, group, digest)
        self.gauge("model_window_rows", window, group)

    def observe_conditions(self, conditions: Iterable[Condition]) -> None:
        """Set what fails now; those that are no longer watched have no series any more. For any thread."""
        watched = {(one.kind, one.name): one.failing is not None for one in conditions}
        with self._lock:
            for gone in self._watched - watched.keys():
                self._collectors["condition_failing"].remove(*gone)
            for labels, failing in watched.items():
                self.gauge("condition_failing", failing, *labels)
            self._watched = set(watched)

    def drop_sink(self, sink: str) -> None:
        """Remove the gauges of a sink that has been removed: its last values would stay for ever."""
        for name in _OUTBOX:
            self._collectors[name].remove(sink)

    def declare_sink(self, sink: str) -> None:
        """Start a sink's series at zero."""
        for outcome in ("sent", "failed", "refused"):
            self._collectors["sink_deliveries"].labels(sink, outcome)
        for name in ("outbox_evicted", "notifications_silenced"):
            self._collectors[name].labels(sink)
        for name in _OUTBOX:
            self.gauge(name, 0.0, sink)

    def observe(self, report: Report, arrival_s: F64, step_s: float, commit_s: float) -> None:
        """Count one batch: its report, its arrival times, duration of step and commit."""
        now_s = self._now()
        self.count("messages_received", report.messages)
        self.count("rows", report.rows)
        self.count("windows_scored", report.windows)
        self.count("messages_lost", report.missing, "sequence")
        self.count("windows_skipped", report.skipped)
        self.count("streams_interrupted", report.interrupted)
        self.gauge("batch_messages_last", report.messages)
        for reason, number in report.drops.items():
            self.count("messages_dropped", number, reason.value)
        for transition in report.transitions:
            self._count_transition(transition)
        for group, news in report.groups.items():
            verdicts = news.verdicts
            self.count("streams_forgotten", news.forgotten, group)
            self.time("event_to_score_seconds", now_s - verdicts.time_s)
            scores = verdicts.score[np.isfinite(verdicts.score)]
            if len(scores):
                self.gauge("score_max", float(scores.max()), group)
        self.time("step_duration_seconds", step_s)
        self.time("commit_duration_seconds", commit_s)
        self.time("arrival_to_commit_seconds", now_s - arrival_s)
        if self._series is not None:
            self._series.expire(now_s)
            self._series.observe(report, now_s)
            left_out = self._series.left_out
            self.gauge("metrics_streams_left_out", left_out)
            self._left_out.observe("metrics.per_stream_max is reached" if left_out else "", left_out)

    def _count_transition(self, t: Transition) -> None:
        if t.rule != ANOMALY:
            self.count("health_verdicts", t.state == "firing", t.group, t.rule)
        elif t.state == "resolved":
            self.count("alerts_resolved", 1, t.group)
        elif t.sequence == 0:
            self.count("alerts", 1, t.group, t.severity)

    def observe_health(self, group: str, rules: Sequence[str]) -> None:
        """Set how many verdicts on sensors stand, from the rule of each."""
        for rule in HEALTH_RULES:
            self.gauge("health_verdicts_firing", sum(one == rule for one in rules), group, rule)

    def observe_unjudged(self, group: str, reasons: npt.NDArray[np.int8]) -> None:
        """Set how many streams are heard and not judged, from the number of each one's reason, -1 for none: `[S]`."""
        for number, reason in enumerate(REASONS):
            self.gauge("streams_unjudged", int(np.count_nonzero(reasons == number)), group, reason)

    def observe_streams(
        self,
        group: str,
        states: npt.NDArray[np.int8],
        maintenance: npt.NDArray[np.bool_] | None = None,
        severity: npt.NDArray[np.int8] | None = None,
    ) -> None:
        """Set how many streams are in each state, and how many alerts fire, from `states[S]` and the others `[S]`."""
        for state in AlertState:
            self.gauge("streams", int(np.count_nonzero(states == state)), group, state.name.lower())
        firing = states == AlertState.FIRING
        self.gauge("alerts_firing", int(np.count_nonzero(firing)), group)
        maintenance = np.zeros(len(states), np.bool_) if maintenance is None else maintenance
        severity = firing.astype(np.int8) if severity is None else severity
        critical = firing & (severity == SEVERITIES.index("critical"))
        self.gauge("alerts_firing_critical", int(np.count_nonzero(critical)), group)
        self.gauge("streams_in_maintenance", int(np.count_nonzero(maintenance)), group)
        self.gauge("alerts_in_maintenance", int(np.count_nonzero(maintenance & firing)), group)
        if self._series is not None:
            self._series.mark(group, states, maintenance, np.where(firing, severity, 0).astype(np.int8))

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
        parts, wrong = [], []
        for collector in paced((*self._collectors.values(), *self._platform)):
            try:
                parts.append(generate_latest(_One(collector)))
            except Exception as error:  # if a collector raises (ours or /proc's), the others are still served
                self.count("metrics_render_errors")
                wrong.append(f"{type(collector).__name__}: {type(error).__name__}: {error}")
        self.rendering.observe("; ".join(wrong), len(wrong))
        if self._series is not None:
            parts.append(self._series.render(self._now()))
        return b"".join(parts)


def _collector(metric: Metric) -> Any:
    name = f"streamae_{metric.name}"
    if metric.kind == "histogram":
        return Histogram(metric)
    kind = Counter if metric.kind == "counter" else Gauge
    return kind(name, metric.help, metric.labels, registry=None)
