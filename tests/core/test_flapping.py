"""The contract of core.flapping: an alert that comes and goes is reported once, then held back until it settles."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamae.core.alert import AlertRule
from streamae.core.flapping import Flapping, FlapRule
from streamae.core.groups import Groups
from streamae.core.report import Transition
from streamae.core.standing import firing_ids, stream_marks
from tests import plants
from tests.core.test_pipeline import T0, play
from tests.quick import examples

pytestmark = pytest.mark.quick

RULE = FlapRule(times=3, within_s=100.0)


def alert(n, state, time_s, sequence=0, rule="anomaly"):
    return Transition(
        id=f"a{n}", sequence=sequence, instance="i", group="g", stream="p", labels={}, rule=rule, state=state,
        severity="warning", onset_s=time_s, time_s=time_s, window_start_s=time_s, score=2.0, threshold=1.0,
        shares={"x": 1.0}, model_digest="0",
    )  # fmt: skip


def toggled(times):
    """Alerts that begin at these times and end five seconds later each."""
    out = []
    for n, at_s in enumerate(times):
        out += [alert(n, "firing", at_s), replace(alert(n, "resolved", at_s + 5, 1), onset_s=at_s)]
    return out


def reported(stage, transitions, now_s=float("nan")):
    return [(t.rule, t.id, t.state, t.time_s) for t in stage.step(transitions, lambda _: now_s)]


def test_few_alerts_are_reported_as_they_are():
    """Up to `times` beginnings within the time pass unchanged, and so does any number that is spread out."""
    for times in ([0, 20, 40], range(0, 2000, 60)):
        given_ = toggled(times)
        assert Flapping(RULE).step(given_, lambda _: float("nan")) == given_


def test_without_a_rule_or_with_none_of_its_times_all_is_reported():
    """`times: 0` turns it off: any number of beginnings passes."""
    given_ = toggled(range(0, 200, 10))
    for rule in (None, FlapRule(times=0)):
        assert Flapping(rule).step(given_, lambda _: float("nan")) == given_
    assert Flapping(RULE).step(given_, lambda _: float("nan")) != given_


def test_what_flaps_is_reported_once_and_held_back_until_it_settles():
    """The beginning that is too many is one verdict, the rest is silent, it ends `within_s` after the last."""
    stage = Flapping(RULE)
    said = reported(stage, toggled([0, 20, 40, 60, 80, 100]))
    assert [s[0] for s in said] == ["anomaly"] * 6 + ["flapping"]
    assert said[-1][2:] == ("firing", 60)
    (stands,) = stage.open()
    assert reported(stage, [], 199.0) == []
    assert reported(stage, [], 200.0) == [("flapping", stands.id, "resolved", 200.0)]
    assert stage.open() == []
    assert reported(stage, toggled([300])) == [("anomaly", "a0", "firing", 300), ("anomaly", "a0", "resolved", 305)]


def test_what_still_fires_when_it_settles_is_reported_then():
    """An alert that was held back and still fires when the flapping ends is reported, and its end afterwards too."""
    stage = Flapping(RULE)
    reported(stage, [*toggled([0, 20, 40, 60]), alert(9, "firing", 80.0)])
    assert [s[:3] for s in reported(stage, [], 180.0)][1:] == [("anomaly", "a9", "firing")]
    end = alert(9, "resolved", 190.0, 1)
    assert stage.step([end], lambda _: 190.0) == [end]


def test_what_grew_critical_while_it_was_held_back_begins_as_critical():
    """No sink knows of it: its first transition is its beginning, number 0, with the severity that it has by now."""
    stage = Flapping(RULE)
    grown = replace(alert(9, "firing", 85.0, 1), severity="critical")
    reported(stage, [*toggled([0, 20, 40, 60]), alert(9, "firing", 80.0), grown])
    (said,) = stage.step([], lambda _: 180.0)[1:]
    assert (said.id, said.state, said.sequence, said.severity) == ("a9", "firing", 0, "critical")


def test_an_alert_that_was_reported_ends_also_while_it_flaps():
    """No reported alert fires for ever: the end of each is reported."""
    stage = Flapping(RULE)
    said = reported(stage, toggled(range(0, 400, 10)))
    fired = {s[1] for s in said if s[2] == "firing" and s[0] == "anomaly"}
    assert fired == {s[1] for s in said if s[2] == "resolved" and s[0] == "anomaly"} == {"a0", "a1", "a2"}


@settings(max_examples=examples(100))
@given(st.lists(st.integers(1, 60), max_size=30), st.lists(st.integers(0, 60), max_size=8), st.integers(0, 60))
def test_it_depends_neither_on_the_steps_nor_on_a_restart(steps, edges, cut):
    """The same transitions in other steps, and a snapshot between any two, give the same account."""
    transitions = toggled(np.cumsum([6 + s for s in steps]).tolist())
    whole = reported(Flapping(RULE), transitions, transitions[-1].time_s if transitions else 0.0)
    stage, parts = Flapping(RULE), []
    cuts = sorted({0, len(transitions), *(e % (len(transitions) + 1) for e in edges)})
    for a, b in zip(cuts, cuts[1:], strict=False):
        parts += reported(stage, transitions[a:b], transitions[b - 1].time_s)
        if a <= cut < b:
            kept, stage = stage.state(), Flapping(RULE)
            stage.restore(kept)
    assert parts == whole


def test_a_pump_that_alarms_again_and_again_flaps():
    """In the pipeline: the page has the mark, its id is among those that fire, and no alert is reported twice."""
    rng = np.random.default_rng(0)
    messages = []
    for t in range(250):
        jump = 60.0 if t >= 40 and t % 20 < 2 else 0.0
        document = {"a": rng.normal() + jump, "b": rng.normal() + jump, "t": T0 + t}
        messages.append((b"plant/p0", json.dumps(document).encode(), T0 + t))
    group = plants.group(alert=AlertRule(keep_firing_for_s=2, critical_ratio=1e9), flapping=FlapRule(4, 200.0))
    groups = Groups("i", [group])
    _, transitions, _ = play(groups, messages, range(0, 250, 7))
    assert [t.rule for t in transitions].count("flapping") == 1
    assert len([t for t in transitions if t.rule == "anomaly" and t.state == "firing"]) == 4
    pipeline = groups.pipelines["pumps"]
    assert stream_marks(pipeline) == {0: ["flapping"]}
    assert transitions[-1].id in firing_ids(pipeline)
    again = Groups("i", [group])
    again.restore(groups.snapshot())
    assert firing_ids(again.pipelines["pumps"]) == firing_ids(pipeline)
    plain = play(Groups("i", [plants.group(alert=group.alert)]), messages)[1]
    assert len([t for t in plain if t.state == "firing"]) > 5
