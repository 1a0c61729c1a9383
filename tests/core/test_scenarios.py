"""Plays every file of tests/scenarios, columns of time by stage; and what holds of the life of any alert."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamae.core.alert import AlertRule, Alerts
from tests import naive
from tests.columns import FOLDER, STAGES, STATES, AlertColumns, Scenario

pytestmark = pytest.mark.quick

PATHS = sorted(FOLDER.glob("*/*.toml"))
SCENARIOS_MIN = 4  # of each stage


def name(path):
    return f"{path.parent.name}-{path.stem}"


@pytest.mark.parametrize("path", PATHS, ids=name)
def test_scenario(path):
    """What is to be seen of each stream after each column is what the file says, also with a restart at any column."""
    scenario = Scenario(path.parent.name, path.read_text())
    for restart_at in (None, *range(scenario.length)):
        shown = scenario.play(restart_at)
        for s, expected in enumerate(scenario.expected):
            for row, cells in expected.items():
                when = "" if restart_at is None else f" (with a restart before column {restart_at})"
                assert " ".join(shown[s][row]) == " ".join(cells), f"{scenario.why} Stream {s}, {row}{when}"


def test_each_stage_has_its_scenarios_and_each_is_a_sentence():
    """No stage is left out, and a reader finds in each file why it is so."""
    count = {stage: sum(path.parent.name == stage for path in PATHS) for stage in STAGES}
    assert {path.parent.name for path in PATHS} == set(STAGES)
    assert min(count.values()) >= SCENARIOS_MIN, count
    for path in PATHS:
        why = Scenario(path.parent.name, path.read_text()).why
        assert why[0].isupper(), path
        assert why.endswith("."), path
        assert len(why.split()) >= 8, path


def play(settings, scores):
    """Feed scores[S][t]; returns the columns alert, transition and severity of each stream."""
    stage = AlertColumns(settings, [{}] * len(scores))
    columns = [{"alert": [], "transition": [], "severity": []} for _ in scores]
    for t, now in enumerate(zip(*scores, strict=True)):
        seen = stage.step([float(t)] * len(now), [{"input": str(score)} for score in now])
        for column, one in zip(columns, seen, strict=True):
            for row, cells in column.items():
                cells.append(one[row])
    return columns


@given(
    st.lists(st.sampled_from([0.0, 0.9, 1.0, 2.0, float("nan")]), max_size=40),
    st.integers(0, 4),
    st.integers(0, 4),
    st.integers(0, 40),
)
def test_life_equals_the_naive_oracle_and_survives_a_snapshot(scores, for_s, keep, cut):
    """State by state the life is that of the slow oracle, also when it is carried over a restart in the middle."""
    rule = AlertRule(for_s=for_s, keep_firing_for_s=keep)
    alerts = Alerts(rule)
    alerts.grow(1)
    got = []
    for t, score in enumerate(scores):
        if t == cut:
            state, alerts = alerts.state(1), Alerts(rule)
            alerts.restore(state)
        now, _ = alerts.step(np.zeros(1, np.int32), np.array([float(t)]), np.array([score]), np.ones(1))
        got.append(STATES[int(now[0])])
    expected = naive.alert_states(list(enumerate(scores)), for_s=for_s, keep_firing_for_s=keep)
    assert got == expected


@given(st.lists(st.sampled_from([0.0, 2.0, 9.0]), max_size=40), st.integers(0, 3), st.integers(0, 3))
def test_transitions_of_an_alert_are_numbered_and_end_with_its_resolution(scores, for_s, keep):
    """Every alert is reported as 0, 1, …; the first is firing, at most one grows critical, the last resolves."""
    (column,) = play({"for_s": for_s, "keep_firing_for_s": keep, "critical_ratio": 5}, [scores])
    numbers = [int(x) for x in column["transition"] if x != "."]
    for a, b in zip(numbers, numbers[1:], strict=False):
        assert b in (a + 1, 0)
    assert all(n <= 2 for n in numbers)
    assert numbers[:1] in ([], [0])


@given(st.lists(st.sampled_from([0.0, 0.9, 1.0, 2.0, 3.0, np.nan]), max_size=40), st.integers(0, 3), st.integers(0, 40))
def test_the_peak_is_the_highest_score_since_the_onset(scores, keep, cut):
    """At every change, and between them, over a restart; a snapshot without peaks starts them again."""
    rule = AlertRule(keep_firing_for_s=keep)
    alerts, onset = Alerts(rule), 0
    alerts.grow(1)
    before = "."
    for t, score in enumerate(scores):
        if t == cut:
            state, alerts = alerts.state(1), Alerts(rule)
            alerts.restore(state)
        now, changes = alerts.step(np.zeros(1, np.int32), np.array([float(t)]), np.array([score]), np.ones(1))
        if STATES[int(now[0])] == "F" and before != "F":
            onset = t
        before = "F" if len(alerts.firing(1)) else "."
        if before == "F" or len(changes.position):
            assert alerts.peaks(1)[0] == np.nanmax(scores[onset : t + 1])
        for peak in changes.peak:
            assert peak == alerts.peaks(1)[0]
    old = {name: array for name, array in alerts.state(1).items() if name != "peak"}
    again = Alerts(rule)
    again.restore(old)
    assert np.isnan(again.peaks(1)[0])


_SCORES = st.sampled_from((np.nan, 0.2, 0.9, 1.1, 2.5))


@given(rows=st.lists(st.tuples(_SCORES, _SCORES, _SCORES), max_size=40), for_s=st.sampled_from((0.0, 2.0)))
def test_the_life_of_an_alert_does_not_depend_on_the_other_streams_of_a_call(rows, for_s):
    """Several streams in one call end in the same state, to the bit, as each in a call of its own."""
    rule = AlertRule(for_s=for_s, keep_firing_for_s=2.0)
    together, alone = Alerts(rule), Alerts(rule)
    together.grow(3)
    alone.grow(3)
    for t, scores in enumerate(rows):
        streams, time_s, limit = np.arange(3, dtype=np.int32), np.full(3, float(t)), np.ones(3)
        shown, changes = together.step(streams, time_s, np.array(scores), limit)
        each = [alone.step(streams[[s]], time_s[[s]], np.array([scores[s]]), limit[[s]]) for s in range(3)]
        assert shown.tolist() == [one[0][0] for one in each]
        assert changes.position.tolist() == [s for s in range(3) if len(each[s][1].position)]
        for name, array in together.state(3).items():
            np.testing.assert_array_equal(array, alone.state(3)[name])
