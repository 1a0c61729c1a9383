"""The contract of core.unjudged: a stream that is heard and not judged says so, since when, and why."""

import json

import numpy as np
import pytest

from streamae.core.alert import AlertRule
from streamae.core.align_rule import GridAlign, RowAlign
from streamae.core.decode import PayloadSpec
from streamae.core.pipeline import Pipeline
from streamae.core.takeover import progress, states
from streamae.core.types import AlertState, Batch
from streamae.core.unjudged import REASONS, unjudged_reasons, unjudged_streams
from tests.plants import LevelModel, group, known_stream, profile

pytestmark = pytest.mark.quick

START_S = 1_000_000.0
WINDOW = 4
KNOWN = {"p1": known_stream((0.0, 0.0), (1.0, 1.0), weight=(0.5, 0.5), zero=1.0)}


def made(*, align=None, known=True, model=None, **changes):
    changes.setdefault("profile", profile(window=WINDOW, streams=KNOWN if known else {}))
    if align is None:
        topics = {"payload": PayloadSpec("json", time="t", values={"a": "a", "b": "b"})}
    else:
        topics = {
            "template": "plant/{pump}/{channel}",
            "payload": PayloadSpec("json", time="t", value="v"),
            "align": align,
        }
    one = group(**topics, **changes)
    if model is not None:
        object.__setattr__(one, "reconstructor", model)
    return Pipeline("here", one)


def rows(event_s, arrival_s=None, *, channels="ab", value=0.1):
    """A message a row of p1."""
    event_s = np.asarray(event_s, float)
    arrival_s = event_s if arrival_s is None else np.asarray(arrival_s, float)
    payloads = [json.dumps({"t": t, **dict.fromkeys(channels, value + (t % 5) / 50)}).encode() for t in event_s]
    return Batch([b"plant/p1"] * len(payloads), payloads, arrival_s)


def apart(event_s, channels="ab"):
    """Each channel in a message of its own."""
    said = [(t, c) for t in event_s for c in channels]
    payloads = [json.dumps({"t": t, "v": 0.1 + (t % 5) / 50}).encode() for t, _ in said]
    return Batch([f"plant/p1/{c}".encode() for _, c in said], payloads, np.array([t for t, _ in said]))


def reason(pipeline):
    (number,) = unjudged_reasons(pipeline)
    return "" if number < 0 else REASONS[number]


def judged(pipeline, batch=None):
    """Give it some good rows; it is judged then."""
    pipeline.step(rows(START_S + np.arange(20.0)) if batch is None else batch, START_S + 20)
    assert not reason(pipeline)
    assert states(pipeline)[0] == AlertState.INACTIVE
    return pipeline


GRID = GridAlign(1.0, lateness_s=1.0, gap_max_s=3.0)
T = START_S + 20
TROUBLES = {
    "late": (None, rows(T - 500 - np.arange(12.0), T + np.arange(12.0))),
    "late, by days and in disorder": (None, rows(T - 1e6 + np.array([5, 3, 9, 1] * 5), T + np.arange(20.0))),
    "clock_stands": (None, rows(np.full(15, T - 1), T + np.arange(15.0))),
    "missing_channel": (None, rows(T + np.arange(15.0), channels="a")),
    "missing_channel, on a grid": (GRID, apart(T + np.arange(40.0), "b")),
    "gaps": (None, rows(T + 10 + 10 * np.arange(12.0))),
    "gaps, every second row lost, on a grid": (
        GridAlign(1.0, lateness_s=1.0, gap_max_s=0.5), apart(T + 10 + 2 * np.arange(12.0))),
    "gaps, three rows and a hole": (None, rows(T + 50 + np.concatenate([20.0 * n + np.arange(3) for n in range(5)]))),
}  # fmt: skip


@pytest.mark.parametrize("case", TROUBLES)
def test_each_trouble_is_named_and_ends(case):
    """It is in the state, with the time of the last judged window; a snapshot carries it; good rows end it."""
    align, trouble = TROUBLES[case]
    pipeline = judged(made(align=align), apart(START_S + np.arange(20.0)) if align else None)
    since_s = pipeline.threshold.judged_s(1)[0]
    pipeline.step(trouble, T + 30)
    again = made(align=align)
    again.restore(list(pipeline.streams.names), pipeline.state())
    for one in (pipeline, again):
        assert reason(one) == case.split(",")[0]
        assert states(one)[0] == AlertState.UNJUDGED
        found = unjudged_streams(one)[0]
        assert since_s <= found.since_s <= since_s + 5
        assert len(found.words) > 10
        good_s = T + 1000 + np.arange(30.0)
        one.step(apart(good_s) if align else rows(good_s), T + 1030)
        assert not reason(one)
        assert states(one)[0] == AlertState.INACTIVE


def test_the_missing_channel_is_named():
    """A person reads which one it is."""
    for align, batch in ((None, TROUBLES["missing_channel"][1]), (GRID, TROUBLES["missing_channel, on a grid"][1])):
        pipeline = judged(made(align=align), apart(START_S + np.arange(20.0)) if align else None)
        pipeline.step(batch, T + 30)
        name = "b" if align is None else "a"
        assert unjudged_streams(pipeline)[0].words.startswith(f"{name} does not come")


def test_a_stream_that_only_fills_or_learns_is_none_of_these():
    """A stream in its warm-up, after one gap, or silent, waits for what will come."""
    learning = made(known=False)
    for n in range(30):
        learning.step(rows([START_S + n]), START_S + n)
        assert not reason(learning)
    pipeline = judged(made())
    pipeline.step(rows([T + 100.0]), T + 100)
    assert states(pipeline)[0] == AlertState.FILLING
    pipeline.step(Batch([], [], np.zeros(0)), T + 10_000)
    assert not reason(pipeline)


class FailingModel(LevelModel):
    def errors(self, windows):
        return np.full((len(windows), windows.shape[2]), np.nan, np.float32)


def test_a_model_that_judges_nothing_leaves_nothing_ok():
    """Where the model of the group fails on every window, no stream is called well."""
    pipeline = made(model=FailingModel())
    pipeline.step(rows(START_S + np.arange(30.0)), START_S + 30)
    assert reason(pipeline) in {"model_broken", "quarantined"}
    assert states(pipeline)[0] == AlertState.UNJUDGED


def test_a_clock_that_falls_back_is_judged_again_and_its_alert_ends():
    """The stream is judged by the clock as it is now; an alert of before ends as the rows say, not days later."""
    pipeline = judged(made(alert=AlertRule(keep_firing_for_s=5.0)))
    pipeline.step(rows(T + np.arange(10.0), value=50.0), T + 10)
    assert states(pipeline)[0] == AlertState.FIRING
    report = pipeline.step(rows(T + 10 - 1e6 + np.arange(60.0), T + 10 + np.arange(60.0)), T + 70)
    assert [t.state for t in report.transitions] == ["resolved"]
    assert states(pipeline)[0] == AlertState.INACTIVE
    report = pipeline.step(rows(T + 70 - 1e6 + np.arange(10.0), T + 70 + np.arange(10.0), value=50.0), T + 80)
    assert [t.state for t in report.transitions if t.sequence == 0] == ["firing"]


@pytest.mark.parametrize("back_s", [3600.0, 1e6])
@pytest.mark.parametrize("others", [True, False])
def test_a_stale_stream_is_not_missed_since_before_its_clock_fell(back_s, others):
    """The onset is when it was heard last, by the clock that it had at first; of the whole group as of one stream."""
    pipeline = judged(made(align=RowAlign()) if False else made())
    n = 400
    pipeline.step(rows(T - back_s + np.arange(n), T + np.arange(n)), T + n)
    last_s, found = T + n - 1, []
    for minute in range(60):
        at_s = T + n + 60 * minute
        if others:
            batch = rows(at_s + np.arange(0, 60, 1.0))
            batch = Batch([b"plant/p2"] * len(batch), batch.payloads, batch.arrival_s)
            found += pipeline.step(batch, at_s + 60).transitions
        else:
            for tick in range(6):
                found += pipeline.step(Batch([], [], np.zeros(0)), at_s + 10 * tick).transitions
    stale = [t for t in found if t.rule == "stale" and t.stream in {"p1", "*"}]
    assert stale
    assert abs(stale[0].onset_s - last_s) < 30


def test_how_far_a_stream_is_stays_known():
    """Progress of a stream that is not judged is that of its window."""
    pipeline = judged(made())
    pipeline.step(TROUBLES["gaps"][1], T + 30)
    now = progress(pipeline)
    assert now.needed.tolist() == [WINDOW]
    assert now.rows[0] < WINDOW
