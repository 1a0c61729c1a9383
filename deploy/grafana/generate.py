"""Writes the dashboards in dashboards/ from the few lines here: `python deploy/grafana/generate.py`.

A test holds the files against this text, and runs every expression on a real Prometheus that scrapes a real daemon.
"""

import json
from pathlib import Path
from typing import Any

from classic import GREEN, GROUP, RED, STREAM, WHO, Panel, dashboard, stat

__all__ = ["dashboards", "main"]

FOLDER = Path(__file__).parent / "dashboards"
Rows = list[tuple[str, list[Panel]]]
_STATES = (
    (-3, "unjudged", RED), (-2, "filling", "blue"), (-1, "learning", "blue"), (0, "ok", GREEN), (1, "pending", "#e0b400"), (2, "firing", RED),
)  # fmt: skip
_TAKEN_OVER = "config_last_reload_success_timestamp_seconds"
_YES_NO = ((0, "no", RED), (1, "yes", GREEN))


def own(name: str, labels: str = WHO) -> str:
    """Return the selector of one of our metrics."""
    return f"streamae_{name}{{{labels}}}"


def rate(name: str, by: str = "") -> str:
    """Return the sum of a counter's rates."""
    return f"sum{f' by ({by}) ' if by else ''}(rate({own(name)}[$__rate_interval]))"


def growth(name: str, span: str, labels: str = WHO) -> str:
    """Return how much a counter grew."""
    return f"increase({own(name, labels)}[{span}])"


def quantiles(name: str) -> list[tuple[str, str]]:
    """Return the queries of a histogram's median and slowest hundredth."""
    return [(f"histogram_quantile({q}, {rate(f'{name}_bucket', 'le')})", f"{100 * q:g} %") for q in (0.5, 0.99)]


def fleet() -> Rows:
    """All streams of all groups: what fires, what is worst, what learns."""
    firing = f"sum(streamae_alerts_firing{{{GROUP}}})"
    unjudged = f'{GROUP},state=~"learning|filling|unjudged"'
    return [
        (
            "Now",
            [
                stat("Alerts firing", firing, steps=((0, GREEN), (1, RED))),
                stat("Streams", f"sum(streamae_streams{{{GROUP}}})"),
                stat(
                    "Not judged yet",
                    f"sum(streamae_streams{{{unjudged}}})",
                    help="Learning, filling a window, or unjudged: see the page for why.",
                ),
                stat("Highest score", f"max(streamae_score_max{{{GROUP}}})", steps=((0, GREEN), (1, RED))),
                stat("Windows scored", rate("windows_scored_total"), unit="cps"),
                stat("Alerts today", f"sum({growth('alerts_total', '24h', GROUP)})", help="That began to fire."),
            ],
        ),
        (
            "Streams",
            [
                Panel(
                    "Most anomalous streams",
                    [(f"topk(20, streamae_anomaly_score{{{GROUP}}})", "")],
                    kind="table",
                    width=12,
                    steps=((0, GREEN), (1, RED)),
                    help="Score of the last window; above 1 is anomalous. Needs metrics.per_stream.",
                ),
                Panel(
                    "Streams by state",
                    [(f"sum by (state) (streamae_streams{{{GROUP}}})", "{{state}}")],
                    width=12,
                    stacked=True,
                ),
                Panel(
                    "State of each stream",
                    [(own("alert_state", GROUP), "{{group}}/{{stream}}")],
                    kind="state-timeline",
                    width=24,
                    texts=_STATES,
                    help="Needs metrics.per_stream.",
                ),
            ],
        ),
        (
            "Groups",
            [
                Panel(
                    "Highest score",
                    [(f"max by (group) (streamae_score_max{{{GROUP}}})", "{{group}}")],
                    steps=((0, GREEN), (1, RED)),
                ),
                Panel(
                    "Alerts firing",
                    [
                        (f"sum by (group) (streamae_alerts_firing{{{GROUP}}})", "{{group}}"),
                        (f"sum by (group) (streamae_alerts_firing_critical{{{GROUP}}})", "{{group}}, critical"),
                    ],
                ),
                Panel(
                    "Alerts per hour",
                    [
                        (f"sum by (group, severity) ({growth('alerts_total', '1h', GROUP)})", "{{group}} {{severity}}"),
                        (f"sum by (group) ({growth('alerts_resolved_total', '1h', GROUP)})", "{{group}} resolved"),
                    ],
                ),
                Panel(
                    "Models",
                    [
                        (
                            f"{own('model_window_rows', GROUP)} * on (job, instance, group) group_right () "
                            f"{own('model_info', GROUP)}",
                            "",
                        )
                    ],
                    kind="table",
                    width=24,
                    help="The value is the window's length in rows.",
                ),
            ],
        ),
    ]


def stream() -> Rows:
    """One stream from near; needs metrics.per_stream."""
    score, threshold = own("anomaly_score", STREAM), own("anomaly_threshold", STREAM)
    return [
        (
            "Now",
            [
                stat("State", f"max(streamae_alert_state{{{STREAM}}})", texts=_STATES),
                stat("Score", f"max({score})", steps=((0, GREEN), (1, RED))),
                stat("Score over threshold", f"max({score} / {threshold})", steps=((0, GREEN), (1, RED))),
                stat("Last window", f"max(streamae_last_sample_age_seconds{{{STREAM}}})", unit="s"),
            ],
        ),
        (
            "Score",
            [
                Panel(
                    "Score against threshold",
                    [(score, "{{stream}}"), (threshold, "{{stream}} threshold")],
                    width=24,
                    height=10,
                ),
                Panel(
                    "State",
                    [(own("alert_state", STREAM), "{{stream}}")],
                    kind="state-timeline",
                    width=24,
                    texts=_STATES,
                ),
                Panel(
                    "Share of the time above the threshold",
                    [(f"avg_over_time(({score} > bool {threshold})[1h:1m])", "{{stream}}")],
                    unit="percentunit",
                    width=12,
                ),
                Panel(
                    "Time since the last window",
                    [(own("last_sample_age_seconds", STREAM), "{{stream}}")],
                    unit="s",
                    width=12,
                ),
            ],
        ),
    ]


def daemon() -> Rows:
    """The process: does everything reach it, does it keep up, does what it finds get out."""
    return [
        (
            "Now",
            [
                stat("Connected", f"min(streamae_source_connected{{{WHO}}})", texts=_YES_NO),
                stat("Subscribed", f"min(streamae_source_subscribed{{{WHO}}})", texts=_YES_NO),
                stat("State writable", f"min(streamae_store_writable{{{WHO}}})", texts=_YES_NO),
                stat("Last reload taken over", f"min(streamae_config_last_reload_successful{{{WHO}}})", texts=_YES_NO),
                stat("Last message", f"max(streamae_source_last_message_age_seconds{{{WHO}}})", unit="s"),
                stat("Up since", f"max(streamae_start_time_seconds{{{WHO}}}) * 1000", unit="dateTimeFromNow"),
            ],
        ),
        (
            "Intake",
            [
                Panel(
                    "Messages",
                    [
                        (rate("messages_received_total"), "received"),
                        (rate("rows_total"), "rows"),
                        (rate("windows_scored_total"), "windows scored"),
                    ],
                    unit="cps",
                ),
                Panel(
                    "Refused, by reason",
                    [(rate("messages_dropped_total", "reason"), "{{reason}}")],
                    unit="cps",
                    stacked=True,
                ),
                Panel(
                    "Lost before they reached us",
                    [(f"sum by (cause) ({growth('messages_lost_total', '1h')})", "{{cause}}")],
                    help="session: the broker forgot ours. any_client: messages that it dropped for us or for others.",
                ),
                Panel(
                    "Inbox",
                    [
                        (own("inbox_messages"), "waiting"),
                        (own("inbox_capacity_messages"), "capacity"),
                        (own("batch_messages_last"), "last batch"),
                    ],
                ),
                Panel(
                    "Connection",
                    [
                        (own("source_connected"), "connected"),
                        (own("source_window_limited"), "held back by receive_maximum"),
                        (growth("source_connections_total", "15m"), "connections in 15 min"),
                    ],
                ),
                Panel("Age of the last message", [(own("source_last_message_age_seconds"), "{{instance}}")], unit="s"),
            ],
        ),
        (
            "Judgement",
            [
                Panel(
                    "Sensors",
                    [
                        (f"sum by (group, rule) ({own('health_verdicts_firing')})", "{{group}} {{rule}}"),
                        (f"sum by (rule) ({growth('health_verdicts_total', '1h')})", "{{rule}}, new in an hour"),
                    ],
                    width=12,
                    help="Sensors that are stale, stuck or out of range, and alerts that flap.",
                ),
                Panel(
                    "Windows left out to catch up",
                    [
                        (own("thinning"), "one window in so many is scored"),
                        (growth("windows_skipped_total", "15m"), "left out in 15 min"),
                    ],
                    width=12,
                ),
            ],
        ),
        (
            "Time",
            [
                Panel("Arrival to commit", quantiles("arrival_to_commit_seconds"), unit="s", width=6),
                Panel(
                    "Event time to score",
                    quantiles("event_to_score_seconds"),
                    unit="s",
                    width=6,
                    help="The sensors' own clocks.",
                ),
                Panel("Step of the pipeline", quantiles("step_duration_seconds"), unit="s", width=6),
                Panel("Commit", quantiles("commit_duration_seconds"), unit="s", width=6),
            ],
        ),
        (
            "What needs a person",
            [
                Panel(
                    "Conditions that fail",
                    [(own("condition_failing"), "{{kind}} {{name}}")],
                    steps=((0, GREEN), (1, RED)),
                    width=12,
                    help="The log, the page and /api/v1/status say why.",
                ),
                Panel(
                    "Models and messages put aside",
                    [
                        (own("model_broken"), "{{group}}: model judges nothing"),
                        (own("streams_quarantined"), "{{group}}: streams in quarantine"),
                        (own("streams_unjudged"), "{{group}}: not judged, {{reason}}"),
                        (own("streams_blind"), "{{group}}: streams that are blind"),
                        (own("streams_resting"), "{{group}}: streams that rest and do not learn"),
                        (own("poison_messages"), "messages kept as poison"),
                        (own("home_assistant_streams_left_out"), "streams left out of Home Assistant"),
                    ],
                    width=12,
                ),
            ],
        ),
        (
            "State and delivery",
            [
                Panel("Journal", [(own("journal_bytes"), "{{instance}}")], unit="bytes"),
                Panel("Age of the last snapshot", [(own("snapshot_age_seconds"), "{{instance}}")], unit="s"),
                Panel(
                    "Failed commits", [(rate("store_commit_failures_total", "instance"), "{{instance}}")], unit="cps"
                ),
                Panel(
                    "Waiting in the outbox",
                    [(own("outbox_pending"), "{{sink}}"), (own("outbox_dead"), "{{sink}} dead")],
                ),
                Panel("Oldest in the outbox", [(own("outbox_oldest_age_seconds"), "{{sink}}")], unit="s"),
                Panel(
                    "Deliveries",
                    [
                        (rate("sink_deliveries_total", by="sink, outcome"), "{{sink}} {{outcome}}"),
                        (rate("outbox_evicted_total", by="sink"), "{{sink}} evicted"),
                    ],
                    unit="cps",
                ),
            ],
        ),
        (
            "Process",
            [
                Panel("Memory", [(f"process_resident_memory_bytes{{{WHO}}}", "{{instance}}")], unit="bytes", width=6),
                Panel(
                    "CPU",
                    [(f"rate(process_cpu_seconds_total{{{WHO}}}[$__rate_interval])", "{{instance}}")],
                    unit="percentunit",
                    width=6,
                    help="1 is one core.",
                ),
                Panel("Open files", [(f"process_open_fds{{{WHO}}}", "{{instance}}")], width=6),
                Panel(
                    "Metrics",
                    [
                        (own("metrics_streams_left_out"), "streams without series"),
                        (growth("metrics_render_errors_total", "15m"), "render errors"),
                    ],
                    width=6,
                ),
                Panel(
                    "Versions",
                    [(f"{own('build_info')} * on (job, instance) group_left () {own(_TAKEN_OVER)} * 1000", "")],
                    kind="table",
                    width=24,
                    height=5,
                    help="The value is the time at which the configuration was last taken over.",
                ),
            ],
        ),
    ]


def dashboards() -> dict[str, dict[str, Any]]:
    """Return file name -> dashboard."""
    return {
        "fleet.json": dashboard("streamae-fleet", "streamae: fleet", fleet(), group=True, stream=False),
        "stream.json": dashboard("streamae-stream", "streamae: stream", stream(), group=True, stream=True),
        "daemon.json": dashboard("streamae-daemon", "streamae: daemon", daemon(), group=False, stream=False),
    }


def main() -> None:
    """Write all dashboards."""
    for name, content in dashboards().items():
        (FOLDER / name).write_text(json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    main()
