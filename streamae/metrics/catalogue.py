"""The catalogue: every metric that /metrics may carry, with its kind, help, labels and buckets."""

from typing import NamedTuple

from streamae.condition import Kind

__all__ = ["CATALOGUE", "PER_STREAM", "Metric", "Trouble"]

_STEP_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_LATENCY_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
_LAG_S = (0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 3600.0, 86400.0)


class Trouble(NamedTuple):
    """Where the page shows what a metric says of trouble: `key` of the status or of a stream; `kind` of a condition."""

    key: str
    kind: Kind | None = None


class Metric(NamedTuple):
    """One line of the catalogue; `name` is the family's, without `_total` or `_bucket`.

    One with a `trouble` has a rule in deploy/prometheus and a panel in deploy/grafana, too; a test demands them.
    """

    name: str
    kind: str
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    trouble: Trouble | None = None


def _condition(kind: Kind) -> Trouble:
    return Trouble("conditions", kind)


CATALOGUE: tuple[Metric, ...] = (
    Metric("messages_received", "counter", "Messages taken from the inbox, refused ones included."),
    Metric(
        "messages_dropped",
        "counter",
        "Messages, samples and rows that were refused, by reason.",
        ("reason",),
        trouble=Trouble("dropped"),
    ),
    Metric(
        "messages_lost",
        "counter",
        "Messages that are known to be lost before they reached us.",
        ("cause",),
        trouble=Trouble("interrupted"),
    ),
    Metric("rows", "counter", "Rows built from samples."),
    Metric("windows_scored", "counter", "Windows that the models scored."),
    Metric("windows_skipped", "counter", "Windows left unscored to catch up with a backlog."),
    Metric(
        "thinning",
        "gauge",
        "One in so many of the windows that are due is scored; above 1 under a backlog.",
        trouble=Trouble("thinning"),
    ),
    Metric("streams_interrupted", "counter", "Windows started again because messages of the stream were lost."),
    Metric("alerts", "counter", "Alerts that began to fire, by the severity they began with.", ("group", "severity")),
    Metric("alerts_resolved", "counter", "Alerts that resolved.", ("group",)),
    Metric("alerts_firing", "gauge", "Alerts that fire now.", ("group",), trouble=Trouble("firing")),
    Metric(
        "alerts_firing_critical",
        "gauge",
        "Those of them that are critical.",
        ("group",),
        trouble=Trouble("firing"),
    ),
    Metric("streams", "gauge", "Streams by the state of their alert.", ("group", "state"), trouble=Trouble("learning")),
    Metric("health_verdicts", "counter", "Verdicts on sensors that began, by rule.", ("group", "rule")),
    Metric(
        "health_verdicts_firing",
        "gauge",
        "Verdicts on sensors that stand now, by rule.",
        ("group", "rule"),
        trouble=Trouble("marks"),
    ),
    Metric(
        "streams_unjudged",
        "gauge",
        "Streams that are heard and yet not judged, by reason.",
        ("group", "reason"),
        trouble=Trouble("unjudged"),
    ),
    Metric(
        "streams_quarantined",
        "gauge",
        "Streams that the model fails on, and that are not judged.",
        ("group",),
        trouble=Trouble("marks"),
    ),
    Metric(
        "streams_blind",
        "gauge",
        "Streams whose threshold lies where no plausible score reaches it.",
        ("group",),
        trouble=Trouble("marks"),
    ),
    Metric(
        "streams_resting",
        "gauge",
        "Streams that learn nothing since a channel stands still that always moved in the training.",
        ("group",),
    ),
    Metric("streams_forgotten", "counter", "Streams that gave their place to new ones, long silent.", ("group",)),
    Metric(
        "model_broken",
        "gauge",
        "1 while the model of the group can judge nothing at all.",
        ("group",),
        trouble=_condition("model"),
    ),
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
        trouble=Trouble("lag_s"),
    ),
    Metric(
        "event_to_score_seconds", "histogram", "From the event time of a window's last row to its score.", (), _LAG_S
    ),
    Metric("batch_messages_last", "gauge", "Messages of the last batch."),
    Metric("inbox_messages", "gauge", "Messages that wait in the inbox.", trouble=Trouble("lag_s")),
    Metric("inbox_capacity_messages", "gauge", "Messages that the inbox can hold."),
    Metric("source_connected", "gauge", "1 while connected to the broker.", trouble=_condition("broker")),
    Metric(
        "source_subscribed", "gauge", "1 while the broker has granted every subscription.", trouble=_condition("broker")
    ),
    Metric("source_connections", "counter", "Connections made to the broker since the start."),
    Metric(
        "source_last_message_age_seconds",
        "gauge",
        "Time since the last message arrived; since the start before the first.",
        trouble=Trouble("reasons"),
    ),
    Metric(
        "source_window_limited",
        "gauge",
        "1 while the receive maximum holds the broker back.",
        trouble=_condition("receive_window"),
    ),
    Metric("journal_bytes", "gauge", "Size of the batches that the journal keeps."),
    Metric(
        "snapshot_age_seconds",
        "gauge",
        "Time since the last snapshot; since the start before the first.",
        trouble=_condition("snapshot"),
    ),
    Metric("store_writable", "gauge", "0 while commits fail and intake is paused.", trouble=_condition("store")),
    Metric("store_commit_failures", "counter", "Commits that failed and were tried again."),
    Metric("outbox_pending", "gauge", "Transitions not yet delivered.", ("sink",)),
    Metric(
        "outbox_oldest_age_seconds",
        "gauge",
        "Age of the oldest transition not yet delivered.",
        ("sink",),
        trouble=Trouble("sinks"),
    ),
    Metric(
        "outbox_dead",
        "gauge",
        "Transitions that a sink refused for good.",
        ("sink",),
        trouble=_condition("dead_letters"),
    ),
    Metric("outbox_withheld", "gauge", "Transitions held back while their alert is silenced.", ("sink",)),
    Metric(
        "notifications_silenced",
        "counter",
        "Transitions that were not delivered because their alert ended while it was silenced.",
        ("sink",),
    ),
    Metric("silences", "gauge", "Silences that people made: pending, active or expired.", ("state",)),
    Metric("maintenance_windows", "gauge", "Windows of the plan of maintenance, by state.", ("state",)),
    Metric("streams_in_maintenance", "gauge", "Streams in a window of maintenance now.", ("group",)),
    Metric("alerts_in_maintenance", "gauge", "Alerts that fire now, of streams in maintenance.", ("group",)),
    Metric("silences_capacity", "gauge", "Silences that may be pending or active at once."),
    Metric(
        "poison_messages",
        "gauge",
        "Messages kept that ended the process repeatedly and were left out.",
        trouble=_condition("poison"),
    ),
    Metric("poison_capacity", "gauge", "Messages of that kind that are kept; the oldest go first."),
    Metric("feedback_entries", "gauge", "Alerts of which people said what they turned out to be."),
    Metric("feedback_capacity", "gauge", "Entries of feedback that are kept; the oldest go first."),
    Metric(
        "outbox_evicted",
        "counter",
        "Transitions dropped because the outbox was full.",
        ("sink",),
        trouble=_condition("outbox"),
    ),
    Metric(
        "sink_deliveries", "counter", "Attempts to deliver, by outcome: sent, failed or refused.", ("sink", "outcome")
    ),
    Metric(
        "condition_failing",
        "gauge",
        "1 while something fails that needs a person, by its kind (sink, store …) and its name.",
        ("kind", "name"),
        trouble=Trouble("conditions"),
    ),
    Metric("home_assistant_devices", "gauge", "Streams that are devices in Home Assistant."),
    Metric(
        "home_assistant_streams_left_out",
        "gauge",
        "Streams that are not, because home_assistant.max_devices is reached.",
        trouble=_condition("home_assistant"),
    ),
    Metric("home_assistant_messages", "counter", "Messages for Home Assistant that the broker acknowledged."),
    Metric(
        "config_last_reload_successful",
        "gauge",
        "1 when the last reload was taken over.",
        trouble=_condition("configuration"),
    ),
    Metric("config_last_reload_success_timestamp_seconds", "gauge", "When the configuration was last taken over."),
    Metric("model_info", "gauge", "1 for the model of each group.", ("group", "digest")),
    Metric("model_window_rows", "gauge", "Window length of the model, in rows.", ("group",)),
    Metric("build_info", "gauge", "1, with the versions that run.", ("version", "python", "torch")),
    Metric("start_time_seconds", "gauge", "When the daemon started."),
    Metric(
        "metrics_render_errors",
        "counter",
        "Collectors that failed while /metrics was rendered.",
        trouble=_condition("metrics"),
    ),
    Metric(
        "metrics_streams_left_out",
        "gauge",
        "Streams without series of their own because metrics.per_stream_max is reached.",
        trouble=_condition("metrics"),
    ),
)

PER_STREAM: tuple[Metric, ...] = (
    Metric(
        "anomaly_score", "gauge", "Score of the last window; above its threshold is anomalous.", ("group", "stream")
    ),
    Metric(
        "anomaly_threshold",
        "gauge",
        "Threshold of the score; an average of it may be beyond a limit of its own.",
        ("group", "stream"),
    ),
    Metric(
        "alert_state",
        "gauge",
        "-3 unjudged, -2 filling, -1 learning, 0 inactive (ok), 1 pending, 2 firing.",
        ("group", "stream"),
    ),
    Metric("last_sample_age_seconds", "gauge", "Time since the stream's last window was scored.", ("group", "stream")),
    Metric(
        "in_maintenance",
        "gauge",
        "1 while the stream is in maintenance: sinks are not notified of its alerts.",
        ("group", "stream"),
    ),
    Metric(
        "alert_severity", "gauge", "Of the alert that fires: 1 warning, 2 critical; 0 for none.", ("group", "stream")
    ),
)
