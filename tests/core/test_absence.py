"""What was held over the daemon's own absence is no row: nobody knows what the values were then."""

import json

import numpy as np
import pytest

from streamae.core.align_rule import GridAlign
from streamae.core.decode import PayloadSpec
from streamae.core.groups import Groups
from streamae.core.pipeline import Pipeline
from streamae.core.types import Batch
from tests.plants import group

pytestmark = pytest.mark.quick

START_S = 1_000_000.0
GRID = GridAlign(1.0, lateness_s=1.0, gap_max_s=600.0)


def plant():
    topics = {"template": "plant/{pump}/{channel}", "payload": PayloadSpec("json", time="t", value="v")}
    return Pipeline("here", group(align=GRID, **topics))


def batch(times_s, *, arrival_s=None, resumed=False, channels="ab"):
    said = [(t, c) for t in times_s for c in channels]
    payloads = [json.dumps({"t": t, "v": 1.0 + (t % 7) / 10}).encode() for t, _ in said]
    arrivals = np.array([t for t, _ in said]) if arrival_s is None else np.full(len(said), arrival_s)
    return Batch([f"plant/p1/{c}".encode() for _, c in said], payloads, arrivals, resumed=resumed)


def restarted(pipeline):
    again = plant()
    again.restore(list(pipeline.streams.names), pipeline.state())
    return again


def play(pipeline, *, resumed, away_s=60, until=None):
    """Rows of ten seconds, an absence, then of `until` seconds more: their times after the start."""
    until, found = 10 if until is None else until, []
    reports = [pipeline.step(batch(START_S + np.arange(10.0)), START_S + 9)]
    pipeline = restarted(pipeline)
    back_s = START_S + 10 + away_s
    reports.append(pipeline.step(batch(back_s + np.arange(until), resumed=resumed), back_s))
    for report in reports:
        found += [report.rows]
    return found


@pytest.mark.parametrize("away_s", [30, 300])
def test_no_row_is_held_over_the_absence(away_s):
    """Of the time in which nobody listened, shorter than the longest gap, a stream that said nothing has no row."""
    assert play(plant(), resumed=False, away_s=away_s)[1] >= away_s, "the control: held rows are there"
    assert play(plant(), resumed=True, away_s=away_s)[1] <= 12


def test_what_the_broker_kept_for_us_is_judged():
    """Samples of the absence that come afterwards are rows as ever, and hold until the next of them."""
    pipeline = plant()
    pipeline.step(batch(START_S + np.arange(10.0)), START_S + 9)
    pipeline = restarted(pipeline)
    kept = START_S + 10 + np.arange(0, 100, 5.0)
    report = pipeline.step(batch(kept, arrival_s=START_S + 110, resumed=True), START_S + 110)
    assert report.rows >= 90


def test_a_slow_stream_is_held_where_the_broker_kept_what_others_sent():
    """Samples of the absence show that nothing was lost: a stream that had nothing to say is held as ever."""
    pipeline = plant()
    pipeline.step(batch(START_S + np.arange(10.0)), START_S + 9)
    pipeline.step(
        Batch([b"plant/p2/a", b"plant/p2/b"], [b'{"t": 1000008, "v": 1}'] * 2, np.full(2, START_S + 9)), START_S + 9
    )
    kept = batch(START_S + 10 + np.arange(0, 100.0), arrival_s=START_S + 110, resumed=True)
    late = Batch([b"plant/p2/a", b"plant/p2/b"], [b'{"t": 1000112, "v": 1}'] * 2, np.full(2, START_S + 112))
    rows = pipeline.step(kept, START_S + 110).rows + pipeline.step(late, START_S + 112).rows
    assert rows >= 190


def test_an_absence_within_a_period_costs_nothing():
    """A restart that takes less than a row's time leaves the rows as they would have been."""
    assert play(plant(), resumed=True, away_s=0.5)[1] == play(plant(), resumed=False, away_s=0.5)[1]


def test_the_absence_is_part_of_the_snapshot():
    """A second restart, before the rows of the absence are closed, does not bring them back."""
    pipeline = plant()
    pipeline.step(batch(START_S + np.arange(10.0)), START_S + 9)
    pipeline = restarted(pipeline)
    first = pipeline.step(batch([START_S + 70.0], channels="a", resumed=True), START_S + 70)
    pipeline = restarted(pipeline)
    second = pipeline.step(batch(START_S + 71 + np.arange(5.0)), START_S + 72)
    assert first.rows + second.rows <= 8


@pytest.mark.parametrize("cut", [0, 1, 2])
def test_the_same_batches_at_the_same_times_give_the_same_state(cut):
    """To the bit, over a restart too: a fold of the journal has each row's own time, and no clock besides."""
    back_s = START_S + 40
    said = [
        (batch(START_S + np.arange(10.0)), START_S + 9.123456789),
        (batch([], resumed=True), back_s - 0.1),
        (batch(back_s + np.arange(5.0), resumed=True), back_s + 4.1),
        (batch([]), back_s + 64.0),
    ]
    live, again = Groups("here", [plant().group]), Groups("here", [plant().group])
    for n, (one, now_s) in enumerate(said):
        live.step(one, now_s)
        again.step(one, now_s)
        if n == cut:
            snapshot, again = again.snapshot(), Groups("here", [plant().group])
            assert again.restore(snapshot) == []
    state, same = live.pipelines["pumps"].state(), again.pipelines["pumps"].state()
    assert {name: array.tobytes() for name, array in state.items()} == {n: a.tobytes() for n, a in same.items()}
    assert float(state["pipeline.heard_s"]) == back_s + 4.1
