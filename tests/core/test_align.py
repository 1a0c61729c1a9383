"""The contract of core.align: the same rows for every order and every batching of the samples."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamae.core.align import align_stage
from streamae.core.align_rule import GridAlign, RowAlign
from streamae.core.types import Drop, Drops, Readings
from tests import naive
from tests.quick import examples

pytestmark = pytest.mark.quick


def readings(samples):
    s, c, t, v = (list(x) for x in zip(*samples, strict=True)) if samples else ([], [], [], [])
    return Readings(
        np.array(s, np.int32),
        np.array(c, np.int32),
        np.array(t, float),
        np.array(v, float),
        np.arange(len(s), dtype=np.int32),
    )


def run(stage, parts):
    rows, drops = [], Drops()
    stage.grow(4)
    for part in parts:
        out, refused = stage.step(readings(part))
        rows += zip(out.stream.tolist(), out.time_s.tolist(), out.values.tolist(), strict=True)
        drops += refused
    return rows, drops


def by_stream(rows):
    return sorted(rows, key=lambda row: (row[0], row[1]))


SAMPLES = st.lists(
    st.tuples(
        st.integers(0, 2),
        st.integers(0, 1),
        st.integers(0, 60).map(lambda n: n * 0.5),
        st.integers(-9, 9).map(float),
    ),
    max_size=60,
)
GRIDS = st.builds(
    GridAlign,
    every_s=st.sampled_from([1.0, 2.0]),
    method=st.sampled_from(["hold", "mean"]),
    lateness_s=st.sampled_from([0.0, 1.0, 3.5]),
    gap_max_s=st.sampled_from([0.0, 2.0, 6.0]),
)


def cut(items, cuts):
    edges = sorted({0, len(items), *(c % (len(items) + 1) for c in cuts)})
    return [items[a:b] for a, b in zip(edges, edges[1:], strict=False)]


@settings(max_examples=examples(300))
@given(SAMPLES, GRIDS, st.lists(st.integers(0, 99), max_size=6))
def test_grid_equals_the_naive_oracle_in_any_batches(samples, grid, cuts):
    """Rows, late and duplicate samples are those of the slow oracle, however the samples are cut into batches."""
    expected, late, duplicates = (
        naive.grid_rows(
            samples, 2, every_s=grid.every_s, method=grid.method, lateness_s=grid.lateness_s, gap_max_s=grid.gap_max_s
        )
        if samples
        else ([], 0, 0)
    )
    rows, drops = run(align_stage(grid, 2), cut(samples, cuts))
    assert by_stream(rows) == by_stream(expected)
    assert (drops[Drop.LATE], drops[Drop.DUPLICATE]) == (late, duplicates)


@given(st.permutations(range(12)))
def test_disorder_within_the_lateness_changes_nothing(order):
    """Samples out of order by no more than the lateness give the rows of the ordered ones."""
    samples = [(0, n % 2, n * 0.25, float(n)) for n in range(12)]
    closing = [(0, 0, 20.0, 0.0)]
    grid = GridAlign(every_s=1.0, lateness_s=3.0, gap_max_s=2.0)
    ordered, _ = run(align_stage(grid, 2), [samples + closing])
    shuffled, drops = run(align_stage(grid, 2), [[samples[i] for i in order], closing])
    assert ordered == shuffled
    assert not drops


@pytest.mark.parametrize(
    ("own_s", "model_s", "bridged_s"), [(7.0, 20.0, 7.0), (None, 20.0, 20.0), (None, 0.5, 2.0), (None, 0.0, 20.0)]
)
def test_a_gap_that_is_not_configured_is_the_models_own(own_s, model_s, bridged_s):
    """The operator's word, else the model's, else ten periods; of these two never less than a period."""
    assert GridAlign(every_s=2.0, gap_max_s=own_s).bridged_s(model_s) == bridged_s


def test_a_value_is_held_no_longer_than_the_gap():
    """A slow channel keeps its last value for gap_max_s; then the row does not exist until it speaks again."""
    #            t: 1    2    3    4    5    6    7
    # channel 0     1    2    3    4    5    6    7
    # channel 1     9    .    .    .    .    8    .
    # row           x    x    x    -    -    x    x          gap_max 2 s
    fast = [(0, 0, float(t), float(t)) for t in range(1, 10)]
    slow = [(0, 1, 1.0, 9.0), (0, 1, 6.0, 8.0)]
    rows, _ = run(
        align_stage(GridAlign(1.0, lateness_s=2.0, gap_max_s=2.0), 2), [sorted(fast + slow, key=lambda s: s[2])]
    )
    assert [row[1] for row in rows] == [1.0, 2.0, 3.0, 6.0, 7.0]
    assert [row[2] for row in rows] == [[1, 9], [2, 9], [3, 9], [6, 8], [7, 8]]


@pytest.mark.parametrize(("values", "mean"), [([20.0, 22.0, 27.0], 23.0), ([5.0, 5.0, 8.0], 6.5)])
def test_a_mean_is_of_all_samples_of_one_time_that_differ(values, mean):
    """A clock of whole seconds stamps several samples alike; the same value again counts as sent again."""
    samples = [(0, 0, 1.0, value) for value in values]
    grid = GridAlign(1.0, method="mean", lateness_s=1.0, gap_max_s=1.0)
    for parts in ([[*samples, (0, 0, 5.0, 0.0)]], [[one] for one in [*reversed(samples), (0, 0, 5.0, 0.0)]]):
        rows, drops = run(align_stage(grid, 1), parts)
        assert rows[0] == (0, 1.0, [mean])
        assert drops[Drop.DUPLICATE] == len(values) - len(set(values))
    rows, _ = run(align_stage(GridAlign(1.0, lateness_s=1.0, gap_max_s=1.0), 1), [[*samples, (0, 0, 5.0, 0.0)]])
    assert rows[0] == (0, 1.0, [values[0]])


def test_a_stream_that_comes_back_after_a_year_is_cheap():
    """A long silence builds no rows, however many ticks it spans."""
    stage = align_stage(GridAlign(0.001, lateness_s=0.0, gap_max_s=0.01), 1)
    rows, _ = run(stage, [[(0, 0, 1.0, 1.0)], [(0, 0, 31_536_000.0, 2.0), (0, 0, 31_536_001.0, 2.0)]])
    assert len(rows) < 40


def test_pending_samples_are_bounded_and_counted():
    """Samples that wait for their tick are at most pending_max; what does not fit is counted."""
    stage = align_stage(GridAlign(1.0, lateness_s=1e6, gap_max_s=2.0, pending_max=10), 1)
    _, drops = run(stage, [[(0, 0, float(t), 0.0) for t in range(25)]])
    assert drops == {Drop.PENDING_FULL: 15}


def test_rows_move_forward_only():
    """`align: row` takes whole messages whose time is newer than all before; it names what it refuses."""
    stage = align_stage(RowAlign(), 2)
    stage.grow(1)
    #        message    0       0       1       2       2       3       3       4       4
    part = Readings(
        np.zeros(9, np.int32),
        np.array([0, 1, 0, 0, 1, 0, 1, 0, 1], np.int32),
        np.array([1, 1, 2, 1, 1, 0, 0, 3, 3], float),
        np.arange(9, dtype=float),
        np.array([0, 0, 1, 2, 2, 3, 3, 4, 4], np.int32),
    )
    rows, drops = stage.step(part)
    assert rows.time_s.tolist() == [1, 3]
    assert rows.values.tolist() == [[0, 1], [7, 8]]
    assert drops == {Drop.INCOMPLETE_ROW: 1, Drop.DUPLICATE: 1, Drop.LATE: 1}


@pytest.mark.parametrize("setting", [RowAlign(), GridAlign(1.0, lateness_s=2.0, gap_max_s=3.0)])
def test_a_snapshot_carries_the_stage_over(setting):
    """What a restored stage yields is what the first one would have yielded."""
    samples = [(n % 2, 0, n * 0.5, float(n)) for n in range(40)]
    whole, _ = run(align_stage(setting, 1), [samples[:20], samples[20:]])
    first = align_stage(setting, 1)
    early, _ = run(first, [samples[:20]])
    second = align_stage(setting, 1)
    second.restore(first.state(2))
    late, _ = run(second, [samples[20:]])
    assert early + late == whole


def test_streams_of_one_step_do_not_see_each_other_s_values_at_any_times():
    """Of two streams that close their ticks together each has its own values, at times about zero and before it too."""
    for start in (-40.0, 0.0, 1.7e9):
        samples = [(s, 0, start + t, 100.0 * s + t) for t in range(1, 6) for s in range(2)]
        rows, _ = run(align_stage(GridAlign(1.0, lateness_s=0.0, gap_max_s=5.0), 1), [samples])
        assert by_stream(rows) == [(s, start + t, [100.0 * s + t]) for s in range(2) for t in range(1, 6)]


@pytest.mark.parametrize("streams", [4, 9])
def test_many_streams_that_are_new_in_one_step_have_no_rows_of_before(streams):
    """However many streams are heard for the first time together, each has the rows of its samples, no others."""
    stage = align_stage(GridAlign(60.0, lateness_s=1.0, gap_max_s=600.0), 2)
    stage.grow(streams)
    samples = [(s, c, 60.0 * t, float(s)) for t in range(1, 6) for s in range(streams) for c in (0, 1)]
    rows, _ = stage.step(readings(samples))
    assert np.bincount(rows.stream, minlength=streams).tolist() == [4] * streams
    assert set(rows.time_s.tolist()) == {60.0, 120.0, 180.0, 240.0}
