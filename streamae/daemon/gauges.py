"""What is measured about once a second, not once a batch: the connection, store, groups, and the versions that run.

Counts that a room keeps since its own start become counters here by their growth: a source that a reload replaced
starts over at zero, and the counter goes on.
"""

import platform
from collections.abc import Callable, Mapping
from importlib.metadata import version

from streamae import __version__
from streamae.core.blind import blind
from streamae.core.pipeline import Pipeline
from streamae.core.takeover import states
from streamae.core.unjudged import unjudged_reasons
from streamae.ingest.source import SourceStatus
from streamae.metrics import Metrics
from streamae.store.alerts import AlertLimits
from streamae.store.poison import PoisonLimits
from streamae.store.silences import SilenceLimits
from streamae.store.store import Store, StoreStats

__all__ = ["Gauges"]


class Gauges:
    """Brings the metrics of source and store up to date; `now` gives seconds since 1970."""

    def __init__(self, metrics: Metrics, now: Callable[[], float], inbox_max: int) -> None:
        self._metrics, self._now = metrics, now
        self._started_s = now()
        self._connects = self._window_limited = 0
        self._broker_dropped: int | None = None
        metrics.gauge("inbox_capacity_messages", inbox_max)
        metrics.gauge("store_writable", 1)
        metrics.gauge("silences_capacity", SilenceLimits().current_max)
        metrics.gauge("feedback_capacity", AlertLimits().feedback_max)
        metrics.gauge("poison_capacity", PoisonLimits().kept_max)
        metrics.gauge("build_info", 1, __version__, platform.python_version(), version("torch"))
        for cause in ("session", "any_client"):
            metrics.count("messages_lost", 0, cause)

    def observe(self, source: SourceStatus, store: StoreStats) -> None:
        """Set what is known now; called by the loop's thread."""
        self._metrics.count("source_connections", _growth(self._connects, source.connects))
        self._metrics.gauge("source_window_limited", source.window_limited > self._window_limited)
        self._connects, self._window_limited = source.connects, source.window_limited
        if source.broker_dropped is not None:
            # The broker counts for all its clients together, and what it dropped before we came is not ours to count.
            if self._broker_dropped is not None:
                self._metrics.count("messages_lost", _growth(self._broker_dropped, source.broker_dropped), "any_client")
            self._broker_dropped = source.broker_dropped
        self._metrics.gauge("journal_bytes", store.journal_bytes)
        since_s = self._started_s if store.snapshot_s is None else store.snapshot_s
        self._metrics.gauge("snapshot_age_seconds", max(0.0, self._now() - since_s))

    def observe_groups(self, pipelines: Mapping[str, Pipeline]) -> None:
        """Set how the streams of each group are doing, and its model."""
        for name, pipeline in pipelines.items():
            streams = len(pipeline.streams)
            maintenance, severity = pipeline.maintenance.now(self._now()), pipeline.alerts.severities(streams)
            self._metrics.observe_streams(name, states(pipeline), maintenance, severity)
            self._metrics.observe_unjudged(name, unjudged_reasons(pipeline))
            self._metrics.gauge("streams_quarantined", len(pipeline.quarantine.held(streams)), name)
            self._metrics.gauge("streams_blind", len(blind(pipeline)), name)
            self._metrics.gauge("streams_resting", int((pipeline.scale.waits(streams) >= 0).sum()), name)
            self._metrics.observe_health(name, pipeline.verdicts())
            self._metrics.gauge("model_broken", bool(pipeline.broken), name)

    def observe_people(self, store: Store, now_s: float) -> None:
        """Set what people asked for and said: silences and maintenance by state, entries of feedback."""
        for name, plan in (("silences", False), ("maintenance_windows", True)):
            for state, number in store.silences.counts(now_s, planned=plan).items():
                self._metrics.gauge(name, number, state)
        self._metrics.gauge("feedback_entries", store.alerts.feedback_count())
        self._metrics.gauge("poison_messages", len(store.poison))


def _growth(before: int, now: int) -> int:
    return now - before if now >= before else now
