"""The contract of streamae.metrics: a clean, bounded catalogue that no single fault can take down."""

import re
import shutil
import subprocess
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from streamae.core.report import GroupReport, Report, Transition
from streamae.core.types import AlertState, Drop, Drops, ScaledRows, Verdicts
from streamae.metrics import CATALOGUE, PER_STREAM, Metrics


class Clock:
    def __init__(self, now_s: float = 1_000_000.0) -> None:
        self.now_s = now_s

    def __call__(self) -> float:
        return self.now_s


def verdicts(stream, score, time_s=999_999.0, threshold=1.0, state=AlertState.INACTIVE) -> Verdicts:
    n = len(stream)
    return Verdicts(
        np.array(stream, np.int32),
        np.full(n, time_s - 10),
        np.full(n, time_s),
        np.array(score, float),
        np.full(n, threshold),
        np.ones((n, 1), np.float32),
        np.full(n, state, np.int8),
    )


def transition(state="firing", severity="warning", sequence=0) -> Transition:
    return Transition(
        id="a", sequence=sequence, instance="i", group="pumps", stream="p", labels={}, rule="anomaly", state=state,
        severity=severity, onset_s=0.0, time_s=0.0, window_start_s=0.0, score=2.0, threshold=1.0, shares={"x": 1.0},
        model_digest="d",
    )  # fmt: skip


def report(**parts) -> Report:
    whole = {"messages": 5, "rows": 4, "windows": 3, "drops": Drops({Drop.LATE: 2}), "groups": {}, "transitions": []}
    return Report(**(whole | parts))


def values(metrics: Metrics) -> dict[str, float]:
    """`name{label="value"}` -> value of everything that /metrics shows, read by the reference parser."""
    found = {}
    for family in text_string_to_metric_families(metrics.render().decode()):
        for sample in family.samples:
            labels = ",".join(f'{k}="{v}"' for k, v in sorted(sample.labels.items()))
            found[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return found


def observe(metrics: Metrics, what: Report, arrival_s=(999_999.5,)) -> None:
    metrics.observe(what, np.array(arrival_s), 0.004, 0.002)


def judged(group: str, names: list[str], found: Verdicts) -> dict[str, GroupReport]:
    """What a step says of a group with streams of these names."""
    nothing = np.zeros(0)
    return {
        group: GroupReport(names, ScaledRows(nothing.astype(np.int32), nothing, np.zeros((0, 1), np.float32)), found)
    }


def full() -> Metrics:
    metrics = Metrics(Clock(), per_stream_max=10)
    metrics.declare_group("pumps", "d" * 12, 32)
    metrics.declare_sink("log")
    metrics.gauge("build_info", 1, "0.1.0", "3.11", "2.13")
    metrics.count("messages_lost", 1, "broker")
    metrics.observe_source(connected=True, subscribed=True, last_message_age_s=None, waiting=3)
    observe(metrics, report(groups=judged("pumps", ["a", 'b"\\\n'], verdicts([0, 1], [0.5, 2.0]))))
    return metrics


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed: apt-get install prometheus")
def test_promtool_finds_nothing_to_say():
    done = subprocess.run(["promtool", "check", "metrics"], input=full().render(), capture_output=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, b"")


def test_every_name_of_the_catalogue_is_served_once_with_help_and_follows_the_rules():
    text = full().render().decode()
    for metric in (*CATALOGUE, *PER_STREAM):
        name = f"streamae_{metric.name}" + ("_total" if metric.kind == "counter" else "")
        assert text.count(f"# TYPE {name} {metric.kind}\n") == 1, name
        assert metric.help.endswith("."), name
        assert re.fullmatch(r"[a-z]+(_[a-z0-9]+)*", metric.name)
        assert not metric.name.endswith(("_ms", "_total", "_milliseconds", "_kb"))
    counts = Counter(metric.name for metric in (*CATALOGUE, *PER_STREAM))
    assert max(counts.values()) == 1


def test_no_label_of_the_catalogue_grows_with_streams_or_topics():
    bounded = {
        "reason",
        "rule",
        "cause",
        "group",
        "severity",
        "state",
        "sink",
        "outcome",
        "digest",
        "version",
        "python",
        "torch",
        "kind",
        "name",
    }
    assert {label for metric in CATALOGUE for label in metric.labels} <= bounded


def test_a_report_is_counted():
    metrics = Metrics(Clock())
    metrics.declare_group("pumps", "d", 32)
    observe(metrics, report(transitions=[transition(), transition(severity="critical", sequence=1)]))
    observe(metrics, report(transitions=[transition(state="resolved", sequence=2)]))
    found = values(metrics)
    assert found["streamae_messages_received_total"] == 10
    assert found["streamae_rows_total"] == 8
    assert found["streamae_windows_scored_total"] == 6
    assert found['streamae_messages_dropped_total{reason="late"}'] == 4
    assert found['streamae_alerts_total{group="pumps",severity="warning"}'] == 1
    assert found['streamae_alerts_total{group="pumps",severity="critical"}'] == 0, "a rise is not a second alert"
    assert found['streamae_alerts_resolved_total{group="pumps"}'] == 1


def test_every_drop_reason_stands_at_zero_from_the_start():
    found = values(Metrics(Clock()))
    for reason in Drop:
        assert found[f'streamae_messages_dropped_total{{reason="{reason.value}"}}'] == 0


def test_streams_are_counted_by_state():
    metrics = Metrics(Clock())
    metrics.observe_streams("g", np.array([-1, 0, 0, 1, 2, 2, 2, -2, -2, -2, -2], np.int8))
    found = values(metrics)
    names = ("filling", "learning", "inactive", "pending", "firing")
    states = {s: found[f'streamae_streams{{group="g",state="{s}"}}'] for s in names}
    assert states == {"filling": 4, "learning": 1, "inactive": 2, "pending": 1, "firing": 3}
    assert found['streamae_alerts_firing{group="g"}'] == 3


def test_what_is_critical_is_counted_and_has_its_series():
    """Of a group, how many of the alerts that fire; of a stream, 1 a warning, 2 critical, and 0 once it is over."""
    metrics = full()
    found = values(metrics)
    ours = [name for name in found if name.startswith("streamae_alert_severity{")]
    assert ours
    group = re.search(r'group="([^"]+)"', ours[0])[1]
    assert found[f'streamae_alerts_firing_critical{{group="{group}"}}'] == 0
    for state, severity, marked in ((2, 1, 1), (2, 2, 2), (0, 2, 0), (0, 0, 0)):
        states, severities = np.full(9, state, np.int8), np.full(9, severity, np.int8)
        metrics.observe_streams(group, states, None, severities)
        found = values(metrics)
        assert {found[name] for name in ours} == {marked}
        assert found[f'streamae_alerts_firing_critical{{group="{group}"}}'] == (9 if marked == 2 else 0)


def test_who_is_in_maintenance_is_counted_and_marked():
    """How many streams, how many of their alerts fire, and each stream's own series; all of it ends again."""
    metrics = full()
    metrics.observe_streams("g", np.array([0, 2, 2], np.int8), np.array([True, True, False]))
    found = values(metrics)
    assert found['streamae_streams_in_maintenance{group="g"}'] == 2
    assert found['streamae_alerts_in_maintenance{group="g"}'] == 1
    ours = [name for name in found if name.startswith("streamae_in_maintenance{")]
    group = re.search(r'group="([^"]+)"', ours[0])[1]
    for maintenance, marked in ((np.ones(9, np.bool_), 1), (np.zeros(0, np.bool_), 0)):
        metrics.observe_streams(group, np.zeros(len(maintenance), np.int8), maintenance)
        found = values(metrics)
        assert {found[name] for name in ours} == {marked}


def test_a_stream_that_is_not_judged_any_more_does_not_stay_inactive():
    """Its own series has the state between verdicts, too: after a gap it fills its window again."""
    metrics = full()
    ours = [name for name in values(metrics) if name.startswith("streamae_alert_state{")]
    group = re.search(r'group="([^"]+)"', ours[0])[1]
    metrics.observe_streams(group, np.full(9, -2, np.int8), np.zeros(9, np.bool_))
    assert {values(metrics)[name] for name in ours} == {-2}


@hypothesis_settings(deadline=None, max_examples=50)
@given(
    st.lists(st.floats(allow_nan=True, allow_infinity=True) | st.sampled_from([0.001, 0.01, 0.25, 10.0]), max_size=30)
)
def test_a_histogram_counts_as_a_naive_one_does(seconds):
    metrics = Metrics(Clock())
    metrics.time("step_duration_seconds", np.array(seconds))
    found = values(metrics)
    kept = [max(s, 0.0) for s in seconds if np.isfinite(s)]
    assert found["streamae_step_duration_seconds_count"] == len(kept)
    assert found["streamae_step_duration_seconds_sum"] == pytest.approx(sum(kept))
    for name, value in found.items():
        bound = re.fullmatch(r'streamae_step_duration_seconds_bucket\{le="(.+)"\}', name)
        if bound:
            assert value == sum(s <= float(bound[1]) for s in kept)


def test_latency_is_from_arrival_to_now():
    metrics = Metrics(Clock(1000.0))
    observe(metrics, report(), arrival_s=(999.99, 990.0))
    found = values(metrics)
    assert found["streamae_arrival_to_commit_seconds_count"] == 2
    assert found["streamae_arrival_to_commit_seconds_sum"] == pytest.approx(10.01)


def test_one_collector_that_raises_costs_only_its_own_lines():
    metrics = full()

    class Broken:
        def collect(self):
            raise OSError("no /proc here")

    metrics._platform.append(Broken())
    metrics._collectors["rows"] = Broken()
    found = values(metrics)
    assert "streamae_rows_total" not in found
    assert found["streamae_messages_received_total"] == 5
    assert values(metrics)["streamae_metrics_render_errors_total"] >= 2


def test_the_process_itself_is_measured():
    found = values(Metrics(Clock()))
    assert found["process_resident_memory_bytes"] > 1e6
    assert any(name.startswith("python_info") for name in found)


def test_a_deaf_subscriber_shows_in_the_age_of_the_last_message_even_before_the_first():
    clock = Clock()
    metrics = Metrics(clock)
    clock.now_s += 300
    metrics.observe_source(connected=True, subscribed=True, last_message_age_s=None, waiting=0)
    assert values(metrics)["streamae_source_last_message_age_seconds"] == 300


def test_a_new_model_replaces_the_info_of_the_old_one():
    metrics = Metrics(Clock())
    metrics.declare_group("g", "old", 32)
    metrics.declare_group("g", "new", 64)
    info = [name for name in values(metrics) if name.startswith("streamae_model_info")]
    assert info == ['streamae_model_info{digest="new",group="g"}']


def test_series_of_single_streams_are_off_unless_asked_for():
    metrics = Metrics(Clock())
    observe(metrics, report(groups=judged("g", ["a"], verdicts([0], [1.0]))))
    assert "streamae_anomaly_score" not in metrics.render().decode()


def failing(metrics):
    return [found for one in metrics.conditions if (found := one.failing) is not None]


def test_series_of_single_streams_are_escaped_capped_and_gone_when_stale():
    clock = Clock()
    metrics = Metrics(clock, per_stream_max=3, stale_after_s=60)
    names = {"g": ['x"\\\n<img>', "b", "c", "d", "e"]}
    observe(metrics, report(groups=judged("g", names["g"], verdicts([0, 1, 2, 3, 4], [3.0, 1, 2, 9, 9]))))
    parsed = {
        sample.labels["stream"]: sample.value
        for family in text_string_to_metric_families(metrics.render().decode())
        for sample in family.samples
        if sample.name == "streamae_anomaly_score"
    }
    assert parsed == {'x"\\\n<img>': 3.0, "b": 1.0, "c": 2.0}
    assert values(metrics)["streamae_metrics_streams_left_out"] == 2
    observe(metrics, report(groups=judged("g", names["g"], verdicts([0], [3.0]))))
    assert values(metrics)["streamae_metrics_streams_left_out"] == 2, "a batch without them says nothing"
    assert [(one.kind, one.name) for one in failing(metrics)] == [("metrics", "per_stream")]
    clock.now_s += 61
    assert "anomaly_score" not in metrics.render().decode()
    observe(metrics, report(groups=judged("g", names["g"], verdicts([3], [7.0]))))
    assert values(metrics)['streamae_anomaly_score{group="g",stream="d"}'] == 7.0
    assert values(metrics)["streamae_metrics_streams_left_out"] == 0
    assert failing(metrics) == []


def test_a_stream_that_learns_shows_nan_and_its_state():
    metrics = Metrics(Clock(), per_stream_max=2)
    observe(metrics, report(groups=judged("g", ["a"], verdicts([0], [np.nan], state=AlertState.LEARNING))))
    found = values(metrics)
    assert np.isnan(found['streamae_anomaly_score{group="g",stream="a"}'])
    assert found['streamae_alert_state{group="g",stream="a"}'] == -1


def test_twenty_thousand_streams_cost_no_more_than_the_cap():
    metrics = Metrics(Clock(), per_stream_max=100)
    names = {"g": [f"s{i}" for i in range(20_000)]}
    observe(metrics, report(groups=judged("g", names["g"], verdicts(list(range(20_000)), [1.0] * 20_000))))
    assert metrics.render().count(b"streamae_anomaly_score{") == 100


def test_names_outside_the_catalogue_are_refused():
    with pytest.raises(KeyError):
        Metrics(Clock()).count("invented")


@pytest.mark.parametrize("every_s", [10.0, 1800.0])
def test_series_follow_the_silences_of_their_stream(every_s):
    """Without `stale_after`, a stream keeps its series for five of its longest silences, and five minutes at least."""
    clock = Clock()
    metrics = Metrics(clock, per_stream_max=3)
    for _ in range(5):
        observe(metrics, report(groups=judged("g", ["a"], verdicts([0], [1.0]))))
        clock.now_s += every_s
        assert "anomaly_score" in metrics.render().decode()
    clock.now_s += max(290.0, 4.9 * every_s) - every_s
    assert "anomaly_score" in metrics.render().decode()
    clock.now_s += max(20.0, 0.2 * every_s)
    assert "anomaly_score" not in metrics.render().decode()


@pytest.mark.parametrize(
    ("before", "after", "removed", "renamed"),
    [(["a", "b", "c"], ["c", "b"], [(0, 2)], []), (["a", "b"], ["a"], [(1, 1)], []), (["a", "b"], ["x", "b"], [], [0])],
)
def test_the_series_of_a_stream_that_is_gone_end(before, after, removed, renamed):
    """Also where another stream has its number then, or it has another name; those of the others go on."""
    metrics = Metrics(Clock(), per_stream_max=10)
    S = len(before)
    observe(metrics, report(groups=judged("g", before, verdicts(list(range(S)), [1.0] * S))))
    (name, news), *_ = judged("g", after, verdicts([], [])).items()
    observe(metrics, report(groups={name: replace(news, removed=removed, renamed=renamed, forgotten=len(removed))}))
    shown = {name for name in "abcx" if f'streamae_anomaly_score{{group="g",stream="{name}"}}' in values(metrics)}
    assert shown == {name for s, name in enumerate(after) if s < len(before) and before[s] == name}
    observe(metrics, report(groups=judged("g", after, verdicts(list(range(len(after))), [2.0] * len(after)))))
    assert {
        name for name in "abcx" if f'streamae_anomaly_score{{group="g",stream="{name}"}}' in values(metrics)
    } == set(after)
    assert values(metrics).get('streamae_streams_forgotten_total{group="g"}', 0) == len(removed)
