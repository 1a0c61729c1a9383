"""The contract of core.window: a window is T contiguous rows of one stream."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamae.core.arrays import rounds
from streamae.core.window import Rings
from tests import naive

pytestmark = pytest.mark.quick

ROWS = st.lists(st.tuples(st.integers(0, 3), st.sampled_from([0.5, 1.0, 2.0, 9.0, -1.0])), max_size=60)


def timed(steps):
    """Rows (stream, time, values) from (stream, step in time) pairs, each value unique."""
    clock, rows = {}, []
    for n, (stream, step_s) in enumerate(steps):
        clock[stream] = clock.get(stream, 100.0) + step_s
        rows.append((stream, clock[stream], [float(n), -float(n)]))
    return rows


def push(rings, rows):
    if not rows:
        return []
    rings.grow(4)
    stream, time_s, values = zip(*rows, strict=True)
    found, row, _ = rings.push(np.array(stream, np.int32), np.array(time_s), np.array(values, np.float32))
    return list(zip(row.tolist(), found.start_s.tolist(), found.values.tolist(), strict=True))


@given(ROWS, st.integers(1, 5), st.integers(1, 3), st.integers(0, 60))
def test_rings_equal_the_naive_oracle_in_any_batches(steps, window, stride, cut):
    """The due windows, their start and their rows are those of the slow oracle; two batches are as good as one."""
    rows = timed(steps)
    expected = [(i, s, w.tolist()) for i, s, w in naive.windows(rows, window=window, gap_max_s=2.0, stride=stride)]
    rings = Rings(window, 2, gap_max_s=2.0, stride=stride)
    first = push(rings, rows[:cut])
    second = [(i + min(cut, len(rows)), s, w) for i, s, w in push(rings, rows[cut:])]
    assert first + second == expected


@given(ROWS, st.integers(1, 5), st.integers(1, 3), st.sampled_from([1, 2, 4]))
def test_thinned_windows_are_some_of_the_due_ones_and_the_rest_is_counted(steps, window, stride, thinning):
    """Thinning leaves windows out, changes none, takes the turns of the longer stride, and counts what it left out."""
    rows = timed(steps)
    every = push(Rings(window, 2, gap_max_s=2.0, stride=stride), rows)
    rings = Rings(window, 2, gap_max_s=2.0, stride=stride)
    rings.grow(4)
    stream, time_s, values = zip(*rows, strict=True) if rows else ((), (), np.zeros((0, 2)))
    arrays = np.array(stream, np.int32), np.array(time_s), np.array(values, np.float32)
    found, row, skipped = rings.push(*arrays, thinning=thinning)
    left = list(zip(row.tolist(), found.start_s.tolist(), found.values.tolist(), strict=True))
    expected = naive.windows(rows, window=window, gap_max_s=2.0, stride=stride * thinning)
    assert left == [(i, s, w.tolist()) for i, s, w in expected]
    assert [line for line in every if line in left] == left
    assert skipped == len(every) - len(left)


@given(ROWS, ROWS, st.sets(st.integers(0, 3)))
def test_no_window_of_an_interrupted_stream_spans_the_interruption(before, after, broken):
    """Interrupted streams yield what they would if their rows before had never been; the others go on."""
    rows = timed(before + after)
    old, new = rows[: len(before)], rows[len(before) :]
    rings = Rings(3, 2, gap_max_s=2.0)
    push(rings, old)
    rings.grow(4)
    held = rings.fill(4)
    assert rings.interrupt(np.array(sorted(broken), np.int32)) == sum(held[s] > 0 for s in broken)
    kept = [row for row in old if row[0] not in broken]
    expected = naive.windows(kept + new, window=3, gap_max_s=2.0, stride=1)
    expected = [(i - len(kept), s, w.tolist()) for i, s, w in expected if i >= len(kept)]
    assert push(rings, new) == expected


@given(ROWS, st.sampled_from(["times", "ticks"]))
def test_snapshots_of_former_releases_are_read(steps, kept):
    """Format 1 kept each row's time in seconds, 2 in ticks modulo 2^32; windows and their starts go on from either."""
    rows = timed(steps)
    first, second = Rings(3, 2, gap_max_s=2.0), Rings(3, 2, gap_max_s=2.0)
    push(first, rows)
    first.grow(4)
    state = first.state(4)
    times = np.zeros((4, 3))
    for s in range(4):
        mine, _ = first.latest(s)
        place = np.arange(state["count"][s] - len(mine), state["count"][s]) % 3
        times[s, place] = mine
    del state["steps"]
    tick_s = 2.0**-20
    ticks = np.mod(np.floor(times / tick_s), 2**32).astype(np.uint32)
    old = {"times": times} if kept == "times" else {"ticks": ticks, "tick_s": np.array(tick_s)}
    second.restore({**{k: v for k, v in state.items() if k != "tick_s"}, **old})
    more = [(s, 500.0 + n, [0.0, 0.0]) for n in range(4) for s in range(4)]
    more = [
        (s, state["last_s"][s] + 1 + n, v) if len(first.latest(s)[0]) else (s, t, v) for n, (s, t, v) in enumerate(more)
    ]
    assert push(second, more) == push(first, more)


@given(ROWS, st.sampled_from([2.5, 1e6]))
def test_a_longer_gap_in_the_configuration_keeps_the_windows(steps, gap_max_s):
    """A snapshot taken under another `gap_max_s`, and so with ticks of another length, keeps the starts of windows."""
    rows = timed(steps)
    first, second = Rings(3, 2, gap_max_s=2.0), Rings(3, 2, gap_max_s=gap_max_s)
    push(first, rows)
    first.grow(4)
    state = first.state(4)
    second.restore(state)
    more = [(s, float(state["last_s"][s]) + 1 + n, [0.0, 0.0]) for n in range(2) for s in range(4) if state["count"][s]]
    found, expected = push(second, more), push(first, more)
    assert [(i, w) for i, _, w in found] == [(i, w) for i, _, w in expected]
    assert all(abs(a[1] - b[1]) <= gap_max_s / 32_000 for a, b in zip(found, expected, strict=True))


@pytest.mark.parametrize("step_s", [86400.0, 1e-4])
def test_a_start_is_known_to_a_tick_whatever_the_pace(step_s):
    """Starts, and the times of the rows of a close-up, are right to a 32,000th of the longest gap; the end is exact."""
    rings, jitter = Rings(64, 2, gap_max_s=3 * step_s), np.random.default_rng(0)
    times = 1.7e9 + np.cumsum(jitter.uniform(0.5, 2.5, 300)) * step_s
    found = push(rings, [(0, t, [0.0, 0.0]) for t in times.tolist()])
    assert len(found) == 300 - 63
    assert all(abs(start_s - times[i - 63]) <= 3 * step_s / 32_000 + 2e-6 for i, start_s, _ in found)
    latest, _ = rings.latest(0)
    assert latest[-1] == times[-1]
    assert np.abs(latest - times[-64:]).max() <= 3 * step_s / 32_000 + 2e-6


def test_windows_are_copies():
    """A window that was handed out does not change when its stream goes on."""
    rings = Rings(2, 1, gap_max_s=5.0)
    rings.grow(1)
    one = np.zeros(2, np.int32)
    windows, *_ = rings.push(one, np.array([1.0, 2.0]), np.array([[1.0], [2.0]], np.float32))
    rings.push(one, np.array([3.0, 4.0]), np.array([[3.0], [4.0]], np.float32))
    assert windows.values.tolist() == [[[1.0], [2.0]]]


@given(ROWS, ROWS)
def test_a_snapshot_carries_the_rings_over(before, after):
    """Restored rings yield what the first ones would have yielded."""
    rows = timed(before + after)
    first = Rings(3, 2, gap_max_s=2.0)
    push(first, rows[: len(before)])
    second = Rings(3, 2, gap_max_s=2.0)
    first.grow(4)
    second.restore(first.state(4))
    assert push(first, rows[len(before) :]) == push(second, rows[len(before) :])


@given(st.lists(st.integers(0, 4), max_size=40))
def test_rounds_keep_each_streams_order_and_name_it_once(streams):
    """Every position comes once; a round names a stream once; rounds keep the order of each stream."""
    found = [r.tolist() for r in rounds(np.array(streams, np.int32))]
    flat = [i for r in found for i in r]
    assert sorted(flat) == list(range(len(streams)))
    for r in found:
        assert len({streams[i] for i in r}) == len(r)
    for s in set(streams):
        mine = [i for i in flat if streams[i] == s]
        assert mine == sorted(mine)


def test_latest_returns_what_the_stream_holds_oldest_first():
    """`latest` gives at most T rows, oldest first."""
    rings = Rings(3, 1, gap_max_s=2.0)
    rings.grow(1)
    for n in range(1, 6):
        rings.push(np.zeros(1, np.int32), np.array([float(n)]), np.array([[n * 10.0]], np.float32))
        times, values = rings.latest(0)
        assert times.tolist() == [float(t) for t in range(max(1, n - 2), n + 1)]
        assert values[:, 0].tolist() == [t * 10.0 for t in range(max(1, n - 2), n + 1)]
