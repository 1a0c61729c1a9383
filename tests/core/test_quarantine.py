"""The contract of core.quarantine: a model that fails on some windows costs only their streams verdicts."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamae.core.groups import Groups
from streamae.core.quarantine import Quarantine, judged
from streamae.core.standing import stream_marks
from streamae.core.types import Drop
from tests import plants
from tests.core.test_pipeline import T0, plant, play
from tests.quick import examples

pytestmark = pytest.mark.quick

POISON = 7777.0  # a value that the model cannot take


class Moody(plants.LevelModel):
    """Raises, or returns what is not finite, for a call with a window whose last row is far out."""

    def __init__(self, how, poison=50.0):
        self.how, self.poison, self.calls = how, poison, 0

    def errors(self, windows):
        self.calls += 1
        bad = np.abs(windows[:, -1]).max(axis=1) > self.poison
        found = super().errors(windows)
        if bad.any() and self.how == "raises":
            raise RuntimeError("Traceback of TorchScript\ncould not create a primitive")
        found[bad] = {"nan": np.nan, "inf": np.inf}.get(self.how, 0.0)
        return found


class Dead(plants.LevelModel):
    """Raises on every call, from `after` calls on."""

    def __init__(self, after=0):
        self.after = after

    def errors(self, windows):
        self.after -= 1
        if self.after < 0:
            raise MemoryError
        return super().errors(windows)


def with_model(model, **changes):
    group = plants.group(**changes)
    object.__setattr__(group, "reconstructor", model)
    return group


def poisoned(seconds=90, pump=1, first=40, last=60):
    """A plant of three pumps, one of which sends values far out for some seconds."""
    out = []
    for topic, payload, arrival_s in plant(seconds):
        document = json.loads(payload)
        if topic == b"plant/p%d" % pump and T0 + first <= document["t"] < T0 + last:
            document["a"] = POISON
        out.append((topic, json.dumps(document).encode(), arrival_s))
    return out


@pytest.mark.parametrize("how", ["nan", pytest.param("inf", marks=pytest.mark.full), "raises"])
def test_the_others_are_judged_as_if_the_guilty_stream_had_not_failed(how):
    """Verdicts and transitions of every other stream are those of a model that never fails, to the last digit."""
    sound, _, _ = play(Groups("i", [plants.group()]), poisoned(), range(0, 270, 7))
    groups = Groups("i", [with_model(Moody(how))])
    lines, transitions, drops = play(groups, poisoned(), range(0, 270, 7))
    for stream in (0, 2):
        assert lines["pumps", stream] == sound["pumps", stream]
    assert {t.stream for t in transitions} <= {"p1"}
    assert drops[Drop.INFERENCE] == 2, "tried twice while it lasted"
    assert drops[Drop.QUARANTINED] == 16 + 32 - (40 + 1 + 16 + 1 + 32 - 90)
    assert len(lines["pumps", 1]) + drops[Drop.INFERENCE] + drops[Drop.QUARANTINED] == len(lines["pumps", 0])


@pytest.mark.parametrize("how", [pytest.param("nan", marks=pytest.mark.full), "raises"])
def test_a_stream_is_logged_and_shown_when_it_goes_in_and_comes_out(how):
    """A notice names group, stream and reason once, the mark stands while it lasts, and a notice says when it ends."""
    groups = Groups("i", [with_model(Moody(how))])
    pipeline, notices, marks = groups.pipelines["pumps"], [], []
    for message in poisoned(140):
        notices += groups.step(plants.batch([message]), 0.0).notices
        marks.append(stream_marks(pipeline).get(1))
    reason = "could not create a primitive" if how == "raises" else "not finite"
    assert len(notices) == 2
    assert notices[0].startswith("group pumps: p1: in quarantine") and reason in notices[0]
    assert notices[1] == "group pumps: p1: judged again"
    assert marks.count(["quarantined"]) == 3 * (16 + 1 + 32 + 1)
    assert marks[-1] is None
    assert pipeline.broken == ""


@settings(max_examples=examples(25))
@given(st.lists(st.integers(0, 300), max_size=10), st.sampled_from(["nan", "raises"]), st.integers(0, 270))
def test_quarantine_depends_neither_on_the_batches_nor_on_a_restart(edges, how, cut):
    """Any partition of the messages, and a snapshot at any place, give the same verdicts and drops."""
    messages = poisoned()
    whole = play(Groups("i", [with_model(Moody(how))]), messages)
    assert play(Groups("i", [with_model(Moody(how))]), messages, edges) == whole
    first, second = (Groups("i", [with_model(Moody(how))]) for _ in range(2))
    lines, _, drops = play(first, messages[:cut])
    second.restore(first.snapshot())
    more, _, later = play(second, messages[cut:])
    assert {k: lines.get(k, []) + more.get(k, []) for k in whole[0]} == whole[0]
    assert {k: drops.get(k, 0) + later.get(k, 0) for k in whole[2]} == whole[2]


def test_a_model_that_judges_nothing_is_called_broken_and_rows_go_on():
    """Where every window fails, nothing is searched for: the pipeline says what was raised, and still takes rows."""
    model = Dead(after=30)
    groups = Groups("i", [with_model(model)])
    pipeline = groups.pipelines["pumps"]
    rows = 0
    for message in plant(60):
        rows += groups.step(plants.batch([message]), 0.0).rows
    assert pipeline.broken == "MemoryError: no words"
    assert rows == 180
    assert sorted(stream_marks(pipeline)) == [0, 1, 2]
    object.__setattr__(pipeline.group, "reconstructor", plants.LevelModel())
    play(groups, [m for m in plant(140) if m[2] > T0 + 60])
    assert (pipeline.broken, stream_marks(pipeline)) == ("", {})


@given(st.lists(st.booleans(), min_size=1, max_size=64))
def test_the_guilty_windows_of_a_batch_are_found_with_few_calls(guilty):
    """`judged` marks exactly the windows that raise, in at most two calls a guilty window and level of the halving."""
    windows = np.ones((len(guilty), 4, 2), np.float32)
    windows[np.array(guilty)] = POISON
    model = Moody("raises")
    answer = judged(model, windows, 2)
    assert answer.failed.tolist() == guilty
    assert (answer.errors[~answer.failed] == 1.0).all()
    assert model.calls <= 2 + 2 * sum(guilty) * int(np.ceil(np.log2(len(guilty))) + 1)


def test_a_model_of_another_shape_does_not_get_through():
    """Errors that are not [B, E] count as a failure, not as errors."""

    class Odd:
        def errors(self, windows):
            return np.zeros((len(windows), 3), np.float32)

    assert judged(Odd(), np.zeros((2, 4, 2), np.float32), 2).failed.all()


@given(st.lists(st.booleans(), max_size=400))
def test_the_wait_is_that_of_a_plain_count(failures):
    """After the k-th failure in a row 16·2^(k-1) windows pass by, at most 4096, and the next one is tried."""
    quarantine = Quarantine()
    quarantine.grow(1)
    left = misses = 0
    for failed in failures:
        judged_, passed, _, _ = quarantine.step(np.zeros(1, np.int32), np.array([failed]))
        assert passed[0] == (left > 0)
        if left:
            left -= 1
        elif failed:
            misses += 1
            left = min(16 * 2 ** (misses - 1), 4096)
        else:
            misses = 0
            assert judged_[0]
        assert list(quarantine.held(1)) == [0] * (misses > 0)
