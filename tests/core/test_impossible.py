"""The contract of core.impossible: what is no measurement ruins no window, and never passes for normal."""

import json
from dataclasses import replace

import numpy as np
import pytest

from streamae.core.align_rule import GridAlign, RowAlign
from streamae.core.groups import Groups
from streamae.core.impossible import ImpossibleValues, Sentinels
from streamae.core.sensors.stage import SensorRule
from streamae.core.types import AlertState, Drop
from streamae.errors import ArtifactError
from tests import plants

pytestmark = pytest.mark.quick

T0 = 1_700_000_000.0
FOUND = {"a": Sentinels((-127.0, 85.0), low=-4.0, high=4.0, longest=2)}


def play(values, *, sentinels=None, rule=None, align=None, parts=1, counters=None):
    """Rows of channels a and b, a second apart, through a group; -> groups, drops, states, sensor transitions."""
    known = {"p0": plants.known_stream([0.0, 0.0], [1.0, 1.0], weight=[0.5, 0.5], zero=1.4, offset=1.6)}
    profile = replace(plants.profile(streams=known), sentinels=sentinels or {}, counters=counters or {})
    group = plants.group(profile=profile, health=rule or SensorRule(), align=align or RowAlign())
    groups, drops, states, transitions = Groups("i", [group]), {}, [], []
    messages = [
        (b"plant/p0", json.dumps({"a": a, "b": b, "t": T0 + n}).encode(), T0 + n) for n, (a, b) in enumerate(values)
    ]
    for part in np.array_split(np.arange(len(messages)), parts):
        report = groups.step(plants.batch([messages[i] for i in part]), T0 + int(part[-1]))
        states += report.groups["pumps"].verdicts.state.tolist()
        transitions += report.transitions
        for reason, count in report.drops.items():
            drops[reason] = drops.get(reason, 0) + count
    return groups, drops, states, transitions


def normal(rows=60, seed=0):
    return np.random.default_rng(seed).normal(0, 0.5, (rows, 2)).round(3).tolist()


@pytest.mark.parametrize("value", [-127.0, 85.0])
@pytest.mark.parametrize("align", [RowAlign(), GridAlign(1.0, lateness_s=0.5, gap_max_s=5.0)])
def test_a_sentinel_of_training_is_missing(value, align):
    """Single sentinels are counted and left out: no alert, no verdict, and the windows go on."""
    values = normal()
    for n in (20, 30, 31, 45):
        values[n][0] = value
    _, drops, states, transitions = play(values, sentinels=FOUND, align=align)
    assert drops[Drop.IMPOSSIBLE] == 4
    assert set(states) == {AlertState.INACTIVE}
    assert len(states) >= 60 - 3 - 4
    assert transitions == []


def test_without_what_training_found_the_same_values_alarm():
    """The control: a model that knows no sentinel judges them, and each is an alarm."""
    values = normal()
    values[30][0] = -127.0
    _, drops, states, transitions = play(values)
    assert Drop.IMPOSSIBLE not in drops
    assert AlertState.FIRING in states
    assert [t.rule for t in transitions] == ["anomaly"] * len(transitions) != []


@pytest.mark.parametrize("parts", [1, 7, 60])
def test_a_sentinel_that_lasts_is_a_verdict_of_its_own(parts):
    """A sensor that sends nothing but its sentinel is out of range after twice the longest run of training."""
    values = normal()
    for n in range(30, 45):
        values[n][0] = -127.0
    groups, _, _, transitions = play(values, sentinels=FOUND, parts=parts)
    fired = transitions[0]
    assert (fired.rule, fired.state, fired.time_s) == ("out_of_range", "firing", T0 + 30 + 4)  # patience: 4 rows
    assert (fired.score, fired.threshold) == (-127.0, -4.0)
    assert groups.pipelines["pumps"].marks() == {0: ["out of range: a"]}


@pytest.mark.parametrize("far", [-126.0, 60.0, 1e9])
def test_another_far_value_is_judged(far):
    """Only the very value is known: any other that is as far is an alarm of the model."""
    values = normal()
    for n in range(30, 40):
        values[n][0] = far
    _, _, states, transitions = play(values, sentinels=FOUND)
    assert AlertState.FIRING in states
    assert transitions[0].rule == "anomaly"


@pytest.mark.parametrize("value", [-127.0, 65_535.0, 12.5])
def test_beyond_the_range_is_missing_and_reported(value):
    """What the operator calls impossible raises a verdict at once, and reaches no window."""
    values = normal()
    values[30][0] = value
    _, drops, states, transitions = play(values, rule=SensorRule(range={"a": (-10.0, 10.0)}))
    assert drops[Drop.IMPOSSIBLE] == 1
    assert drops[Drop.INCOMPLETE_ROW] == 1
    assert set(states) == {AlertState.INACTIVE}
    assert [(t.rule, t.state) for t in transitions] == [("out_of_range", "firing")]


def test_on_a_grid_the_last_value_holds_for_as_long_as_any_silence():
    """A glitch is bridged by the last value; where it lasts beyond the gap, rows end."""
    values = normal(80)
    for n in range(40, 60):
        values[n][0] = 85.0
    align = GridAlign(1.0, lateness_s=0.5, gap_max_s=5.0)
    _, drops, states, _ = play(values, sentinels=FOUND, align=align)
    assert drops[Drop.IMPOSSIBLE] == 20
    assert len(states) == (45 - 3) + (19 - 3)  # 40 rows and 5 that hold; then a new window; the last tick is open


def test_a_counter_and_a_sentinel_in_one_stream():
    """The sentinel goes before the total is counted, so that no increase spans it."""
    values = [[0.1 * (n % 3), 100.0 + 0.5 * n] for n in range(40)]
    values[20][1] = 65_535.0
    kept = {"b": Sentinels((65_535.0,), low=0.0, high=200.0, longest=1)}
    groups, _, states, transitions = play(values, sentinels=kept, counters={"b": "rate"})
    assert set(states) == {AlertState.INACTIVE}
    assert transitions == []
    assert groups.pipelines["pumps"].rings.latest(0)[1][-1].tolist() == pytest.approx([0.0, 0.5])


def test_a_snapshot_of_before_there_were_counters_is_read():
    """State without the stage `counters` restores, and counting begins with the next sample."""
    group = plants.group(profile=replace(plants.profile(), counters={"b": "delta"}))
    first, second = Groups("i", [group]), Groups("i", [group])
    message = (b"plant/p0", json.dumps({"a": 1.0, "b": 7.0, "t": T0}).encode(), T0)
    first.step(plants.batch([message]), T0)
    state = first.pipelines["pumps"].state()
    kept = {key: array for key, array in state.items() if not key.startswith("counters.")}
    assert len(kept) < len(state)
    second.pipelines["pumps"].restore(["p0"], kept)
    later = (b"plant/p0", json.dumps({"a": 1.0, "b": 9.0, "t": T0 + 1}).encode(), T0 + 1)
    assert second.step(plants.batch([later]), T0 + 1).drops == {Drop.INCOMPLETE_ROW: 1}


def test_values_are_compared_as_float32():
    """A sentinel that went through a file of float32 is the same."""
    impossible = ImpossibleValues(["a"], {}, {"a": Sentinels((-196.6,), 0.0, 1.0, 1)})
    values = np.array([-196.6, float(np.float32(-196.6)), -196.5, np.nan, 1e300])
    assert impossible.of(np.zeros(5, np.int32), values).tolist() == [True, True, False, False, False]


@pytest.mark.parametrize(
    "kept",
    [None, [], {"values": "x"}, {"values": [1], "low": 0, "high": None, "longest": 1}, {"values": [float("nan")]}],
)
def test_a_manifest_with_other_types_is_refused(kept):
    """What is not as training wrote it is an error of the file, with the key."""
    with pytest.raises(ArtifactError, match=r"sentinels\.a: got"):
        Sentinels.from_mapping(kept, "a")
    whole = FOUND["a"].to_mapping()
    assert Sentinels.from_mapping(json.loads(json.dumps(whole)), "a") == FOUND["a"]
