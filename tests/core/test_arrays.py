"""The contract of core.arrays: state grows in place, and keeps what it held."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamae.core.arrays import firsts, grown

pytestmark = pytest.mark.quick


@given(st.lists(st.integers(1, 40), min_size=1, max_size=12))
def test_growing_keeps_what_was_there_and_fills_the_rest(steps):
    """In any steps, state is what one array of the last length would be; what was written stays."""
    array, expected = np.zeros((0, 2)), np.zeros((0, 2))
    for n, more in enumerate(steps):
        fill, streams = np.array([n, -n]), len(array) + more
        array = grown(array, streams, fill)
        expected = np.concatenate([expected, np.tile(fill, (more, 1))])
        array[:: more + 1] += 0.5
        expected[:: more + 1] += 0.5
        assert array.shape == (streams, 2)
        assert np.array_equal(array, expected)


@pytest.mark.parametrize("width", [1, 100_000])
def test_growing_within_the_room_moves_nothing_and_never_into_what_is_another_s(width):
    """A second call within the room is of the same memory; a front of other rows, or of another kind, is copied."""
    first = grown(np.ones((9, width), np.int8), 10, 1)
    more = grown(first, 15, 2)
    assert np.shares_memory(more, first)
    assert not np.shares_memory(grown(more, 1000, 2), first)
    assert more.sum(axis=1).tolist() == [width] * 10 + [2 * width] * 5
    whole = np.arange(10.0)
    for part in (whole[2:4], whole[:4:2], whole[:4].view(np.int64)):
        assert not np.shares_memory(grown(part, 5, 0), whole)
    assert whole.tolist() == list(range(10))


@given(st.lists(st.integers(0, 2), max_size=20))
def test_runs_begin_where_a_value_differs_from_the_one_before(values):
    """`firsts` marks the first entry and each that differs from the one before it, in any of its columns."""
    column = np.array(values, np.int32)
    expected = [i == 0 or values[i] != values[i - 1] for i in range(len(values))]
    assert firsts(column).tolist() == firsts(np.zeros_like(column), column).tolist() == expected
