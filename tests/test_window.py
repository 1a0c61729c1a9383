"""The contract of core.window: a window is T contiguous rows of one stream."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from streamae.core.types import rounds
from streamae.core.window import Rings
from tests import naive

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
    found, row = rings.push(np.array(stream, np.int32), np.array(time_s), np.array(values, np.float32))
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


def test_windows_are_copies():
    """A window that was handed out does not change when its stream goes on."""
    rings = Rings(2, 1, gap_max_s=5.0)
    rings.grow(1)
    one = np.zeros(2, np.int32)
    windows, _ = rings.push(one, np.array([1.0, 2.0]), np.array([[1.0], [2.0]], np.float32))
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
