"""When a stream that nobody can judge yet will be judged: from its rows, or from those of streams like it."""

import json

import numpy as np

from streamae.core.groups import Groups
from streamae.core.takeover import progress
from streamae.core.types import AlertState
from streamae.daemon.page.progress import Cadence
from streamae.daemon.page.tables import tables
from tests import plants

T0 = 1_700_000_000
KNOWN = plants.known_stream(location=(0, 0), scale=(1, 1), weight=(0.5, 0.5), zero=1.0, offset=1.0)


def plant(window=10, streams=("known",), **options):
    profile = plants.profile(window=window, gap_max_s=1000.0, streams=dict.fromkeys(streams, KNOWN), **options)
    return Groups("i", [plants.group(profile=profile)])


def row(name, time_s):
    return (f"plant/{name}".encode(), json.dumps({"t": time_s, "a": 0.1, "b": 0.2}).encode(), time_s)


def eta(groups, cadence):
    pipeline = groups.pipelines["pumps"]
    return dict(zip(pipeline.streams.names, cadence.eta_s(pipeline, progress(pipeline)).tolist(), strict=True))


def test_a_stream_tells_by_its_own_rows_when_it_will_be_judged():
    """Unknown with the first row, then rows that lack times their distance; behind it once it is judged."""
    groups, cadence = plant(), Cadence()
    seen = []
    for n in range(12):
        groups.step(plants.batch([row("known", T0 + 60.0 * n)]), 0.0)
        seen.append(eta(groups, cadence)["known"])
    assert np.isnan(seen[0])
    assert np.allclose(seen[1:9], [60.0 * n for n in range(8, 0, -1)])
    assert np.isnan(seen[9:]).all()


def test_a_stream_that_learns_tells_it_too():
    """Its warm-up is not in any window; the rows that come are watched."""
    groups, cadence = plant(warmup_rows=20), Cadence()
    groups.step(plants.batch([row("new", T0)]), 0.0)
    assert np.isnan(eta(groups, cadence)["new"])
    groups.step(plants.batch([row("new", T0 + 30.0 * n) for n in range(1, 5)]), 0.0)
    assert eta(groups, cadence)["new"] == (30 - 5) * 30.0


def test_a_stream_without_two_rows_is_taken_for_one_like_the_others():
    """The middle of those that show it; where none does, nobody knows."""
    groups, cadence = plant(streams=("p", "q", "r", "s")), Cadence()
    groups.step(plants.batch([row("s", T0)]), 0.0)
    assert np.isnan(eta(groups, cadence)["s"])
    rows = [row(name, T0 + apart_s * n) for n in range(3) for name, apart_s in (("p", 10.0), ("q", 20.0), ("r", 400.0))]
    groups.step(plants.batch(sorted(rows, key=lambda m: m[2])), 0.0)
    assert eta(groups, cadence)["s"] == 9 * 20.0


def test_it_is_known_at_once_after_a_restart():
    """The rows of a window that was filling tell how far apart they came."""
    before, after = plant(), plant()
    before.step(plants.batch([row("known", T0 + 480.0 * n) for n in range(4)]), 0.0)
    after.restore(before.snapshot())
    assert abs(eta(after, Cadence())["known"] - 6 * 480.0) < 1.0


def test_a_window_that_begins_anew_counts_anew():
    """After a gap the rows of before say nothing of how far the stream is."""
    groups, cadence = plant(), Cadence()
    for n in range(6):
        groups.step(plants.batch([row("known", T0 + 10.0 * n)]), 0.0)
        eta(groups, cadence)
    for n in range(3):
        groups.step(plants.batch([row("known", T0 + 5000.0 + 100.0 * n)]), 0.0)
        last = eta(groups, cadence)["known"]
    assert last == 7 * 100.0


def test_an_alert_that_nobody_can_judge_says_what_it_waits_for():
    """It fires under a model that does not know its stream yet, and cannot end: a mark says why, until it is judged."""
    groups, shown = plant(window=3, warmup_rows=4), []
    groups.step(plants.batch([row("known", T0), row("new", T0)]), 0.0)
    pipeline = groups.pipelines["pumps"]
    for stream in (0, 1):
        pipeline.alerts.hold(stream, "warning", 0, (T0, T0), 9.0)
    for n in range(1, 8):
        table = tables(groups)["pumps"]
        assert all(table.state[stream] == AlertState.FIRING for stream in table.marks)
        shown.append([table.marks.get(stream, []) for stream in (0, 1)])
        groups.step(plants.batch([row("known", T0 + n), row("new", T0 + n)]), 0.0)
    assert shown[0] == [["filling"], ["learning"]]
    assert [marks for marks, _ in shown] == [["filling"]] * 2 + [[]] * 5
    assert [marks for _, marks in shown] == [["learning"]] * 3 + [["filling"]] * 3 + [[]]


def test_the_page_lists_what_the_core_says():
    """State, rows, rows needed: of each stream as it stands, in arrays of their own."""
    groups = plant(streams=("known",), warmup_rows=20)
    groups.step(plants.batch([row("known", T0), row("new", T0), row("known", T0 + 1.0)]), 0.0)
    table = tables(groups)["pumps"]
    assert table.state.tolist() == [-2, -1]
    assert (table.rows.tolist(), table.needed.tolist()) == ([2, 1], [10, 30])
    groups.step(plants.batch([row("known", T0 + 2.0)]), 0.0)
    assert table.rows.tolist() == [2, 1]


def test_a_stream_that_is_heard_and_not_judged_is_in_the_table():
    """Its state, since when and why: rows that lack a channel are no rows, however many come."""
    groups = plant()
    groups.step(plants.batch([row("known", T0 + n) for n in range(20)]), 0.0)
    assert not tables(groups)["pumps"].unjudged
    lacking = [(topic, json.dumps({"t": time_s, "a": 0.1}).encode(), time_s) for topic, _, time_s in
               (row("known", T0 + 20.0 + n) for n in range(12))]  # fmt: skip
    groups.step(plants.batch(lacking), 0.0)
    shown = tables(groups)["pumps"]
    assert shown.state.tolist() == [AlertState.UNJUDGED]
    (why,) = shown.unjudged.values()
    assert (why["since_s"], why["reason"]) == (T0 + 19.0, "missing_channel")
    assert why["words"].startswith("b ")
    assert not shown.limits


def test_an_alarm_says_in_the_table_which_limit_holds_it():
    """Here the score itself, for as long as it is high and `keep_firing_for` after that."""
    groups = plant()
    groups.step(plants.batch([row("known", T0 + n) for n in range(20)]), 0.0)
    high = [(b"plant/known", json.dumps({"t": T0 + 20.0 + n, "a": 900.0, "b": 900.0}).encode(), T0) for n in range(10)]
    groups.step(plants.batch(high), 0.0)
    (limit,) = tables(groups)["pumps"].limits.values()
    assert limit["windows"] == 0
    assert limit["over"] > 1
    assert limit["since_s"] >= T0 + 20
    assert limit["ends_s"] == groups.pipelines["pumps"].group.alert.keep_firing_for_s
