"""What the page looks back on: rings that keep the newest, overlays that lie where they belong, questions in order."""

import threading
from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamae.core.arrays import rounds
from streamae.daemon.page.detail import overlay
from streamae.daemon.page.mailbox import Mailbox
from streamae.daemon.page.memory import GroupHistory, Traces
from streamae.errors import UnavailableError

ENTRY_BYTES = 12  # a time and a number


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(st.integers(0, 70), min_size=1, max_size=40), max_size=30),
    st.integers(ENTRY_BYTES * 16 * 40, ENTRY_BYTES * 64 * 200),
)
def test_traces_keep_the_newest_entries_of_each_stream(batches, budget_bytes):
    """Whatever comes and however streams grow, a stream's entries are the last `depth` of a plain list of them all."""
    traces, naive, clock = Traces({"time_s": (), "value": ()}, budget_bytes), defaultdict(list), 0
    for batch in batches:
        stream = np.array(batch, np.int32)
        traces.grow(int(stream.max()) + 1)
        time_s = np.arange(clock, clock + len(stream), dtype=np.float64)
        clock += len(stream)
        for index in rounds(stream):
            traces.push(stream[index], time_s=time_s[index], value=time_s[index] + 0.5)
        for s, t in zip(batch, time_s.tolist(), strict=True):
            naive[s].append(t)
    for s, wanted in naive.items():
        found = traces.read(s, 10_000)
        assert found["time_s"].tolist() == wanted[-traces.depth :]
        assert found["value"].tolist() == [t + 0.5 for t in wanted[-traces.depth :]]
        assert traces.read(s, 3)["time_s"].tolist() == wanted[-3:]
        assert traces.count(s) == len(wanted)


@pytest.mark.parametrize("streams", [10, 1_000, 20_000])
def test_traces_stay_within_their_budget(streams):
    """Depth gives way as streams appear, down to a floor of 32 entries."""
    traces = Traces({"time_s": (), "values": (4,)}, 8 << 20)
    traces.grow(streams)
    assert traces.depth >= 32
    assert traces.nbytes <= 8 << 20 or traces.depth == 32
    assert traces.depth == 2048 or streams > 10


def test_streams_that_come_one_by_one_move_the_columns_seldom():
    """Every move copies all that is kept, so a thousand streams that appear singly cost no more than ten of them."""
    traces, moves, before = Traces({"time_s": ()}, 1 << 20), 0, None
    for streams in range(1, 1001):
        traces.grow(streams)
        moves += traces._columns["time_s"] is not before
        before = traces._columns["time_s"]
    assert moves <= 10


def test_a_time_that_steps_back_cuts_what_is_read():
    """A chart needs ascending times: what lies before a step back is not shown."""
    traces = Traces({"time_s": ()})
    traces.grow(1)
    for t in (5.0, 6.0, 2.0, 3.0):
        traces.push(np.array([0]), time_s=np.array([t]))
    assert traces.read(0, 10)["time_s"].tolist() == [2.0, 3.0]


class Echo:
    """A model that rebuilds the L rows before the horizon as they are, and foresees the last K rows plus 1."""

    def __init__(self, length: int, ahead: int) -> None:
        self.length, self.ahead = length, ahead

    def reconstruct(self, windows):
        end = windows.shape[1] - self.ahead
        return windows[:, end - self.length : end, :2]

    def forecast(self, windows):
        return windows[:, windows.shape[1] - self.ahead :, :2] + 1


@settings(max_examples=80, deadline=None)
@given(st.integers(1, 90), st.integers(2, 12), st.integers(0, 4), st.integers(0, 500), st.data())
def test_an_overlay_lies_on_the_rows_that_it_rebuilds(n, length, ahead, seen, data):
    """Held against a model that echoes: every overlaid number is that of its own row, and gaps have none."""
    window = length + ahead + data.draw(st.integers(0, 5))
    values = np.arange(3 * n, dtype=np.float32).reshape(n, 3)
    steps = np.ones(n)
    gaps = data.draw(st.lists(st.integers(0, n - 1), max_size=2))
    steps[gaps] = 100.0
    time_s = np.cumsum(steps)
    shown, foreseen = overlay(Echo(length, ahead), time_s, values, window, 5.0, seen)
    if n < window:
        assert shown.shape == (n, 0)
        return
    there = ~np.isnan(shown[:, 0])
    assert np.array_equal(shown[there], values[there, :2])
    late = ~np.isnan(foreseen[:, 0])
    assert np.array_equal(foreseen[late], values[late, :2] + 1)
    assert late.sum() in (0, ahead)
    if not any(g > 0 for g in gaps):
        first = n - 1 - ahead
        assert there[max(window, first - length + 1) : first + 1].all(), "the newest window is shown"
        assert there[window - 1 + length : first + 1].all(), "windows follow each other without a hole"


def test_a_model_that_cannot_rebuild_has_no_overlay():
    shown, foreseen = overlay(object(), np.arange(50.0), np.zeros((50, 3), np.float32), 10, 5.0)
    assert shown.shape == foreseen.shape == (50, 0)


def test_history_follows_a_lane(pipeline_of_two):
    """Rows and verdicts of a pipeline, whatever the batches, are what went through it; a slot holds the highest."""
    pipeline, feed = pipeline_of_two
    history = GroupHistory(pipeline, 0.0)
    scores = defaultdict(list)
    for _ in range(6):
        news = feed(20).groups[pipeline.group.name]
        history.note(news)
        verdicts = news.verdicts
        for s, score in zip(verdicts.stream.tolist(), verdicts.score.tolist(), strict=True):
            scores[s].append(score)
    assert sum(map(len, scores.values())) > 50
    for s, wanted in scores.items():
        assert history.verdicts.read(s, 10_000)["score"].tolist() == pytest.approx(wanted, rel=1e-6, nan_ok=True)
        times, values = pipeline.rings.latest(s)
        kept = history.rows.read(s, len(times))
        assert kept["time_s"].tolist() == times.tolist()
        assert np.array_equal(kept["values"], values)
    newest = history.spark(0.5)[:, -1]
    for s, wanted in scores.items():
        assert newest[s] >= np.nanmax(wanted) * 0.2 or np.isnan(wanted).all()
    assert np.isnan(history.spark(10.0)[:, :-1]).all()
    assert np.isnan(history.spark(10.1)[:, -1]).all(), "a new slot begins empty"


@pytest.fixture
def pipeline_of_two(trained):
    """A pipeline of the trained pumps and a function that feeds it the next rows of two of them."""
    from streamae.core.pipeline import Group, Pipeline
    from streamae.core.types import Rows
    from streamae.model.artifact import open_artifact
    from tests.models import pump_rows

    artifact = open_artifact(trained.path, trained.sha256, None)
    pipeline = Pipeline("test", Group("pumps", [], [], "{s}", artifact.profile, artifact.reconstructor))
    _, time_s, values, _ = pump_rows(200)
    names, at = [f"pump{i}" for i in range(2)], iter(range(0, 10_000, 20))
    names = sorted(artifact.profile.streams)[:2]

    def feed(rows):
        first = next(at)
        part = slice(first, first + rows)
        stream = np.tile(np.array([0, 1], np.int32), rows)
        return pipeline.step_rows(names, Rows(stream, np.repeat(time_s[part], 2), values[part, :2].reshape(-1, 4)))

    return pipeline, feed


def test_a_question_is_answered_by_the_loop_and_its_mistake_is_the_askers():
    """The asker gets the answer or the error; the loop that answers never sees either."""
    mailbox, answers = Mailbox(patience_s=20), []

    def ask(question):
        try:
            answers.append(mailbox.ask(question))
        except ZeroDivisionError as error:
            answers.append(error)

    askers = [threading.Thread(target=ask, args=(q,)) for q in (threading.get_ident, lambda: 1 // 0)]
    for asker in askers:
        asker.start()
    while any(asker.is_alive() for asker in askers):
        mailbox.answer()
    assert threading.get_ident() in answers, "not answered in the loop's thread"
    assert any(isinstance(answer, ZeroDivisionError) for answer in answers)


def test_a_loop_without_time_is_an_error_within_bounds():
    """Nobody waits for ever, and no more than a bounded number wait at all."""
    mailbox = Mailbox(patience_s=0.01)
    called = []
    for _ in range(64):
        with pytest.raises(UnavailableError, match="busy"):
            mailbox.ask(lambda: called.append(1))
    with pytest.raises(UnavailableError, match="too many"):
        mailbox.ask(lambda: called.append(1))
    for _ in range(10):
        mailbox.answer()
    assert called == [], "an answer that nobody waits for any more was made"
