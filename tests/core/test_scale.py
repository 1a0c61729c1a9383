"""The contract of core.scale: each stream in units of its own, learnt in its warm-up."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamae.core.scale import SCALED_MAX, GroupScale, Scale, estimate
from streamae.core.types import Rows
from tests.plants import calibration, known_stream

pytestmark = pytest.mark.quick


def rows(streams, values):
    return Rows(
        np.array(streams, np.int32), np.arange(len(streams), dtype=float), np.array(values, float).reshape(-1, 1)
    )


def test_a_known_stream_is_scaled_at_once_and_a_new_one_after_its_warm_up():
    """Streams of the artifact bring their scale; others yield nothing until they have had warmup_rows rows."""
    scale = Scale(1, warmup_rows=5)
    scale.grow(2)
    scale.begin(0, known_stream([10.0], [2.0]))
    scale.begin(1, None)
    kept, values = scale.step(rows([0, 1, 1, 1, 1], [14, 1, 2, 3, 4]))
    assert kept.tolist() == [0]
    assert values.tolist() == [[2.0]]
    assert scale.seen(2).tolist() == [5, 4]
    kept, values = scale.step(rows([1, 1], [5, 3]))
    assert kept.tolist() == [1]
    assert values[0, 0] == 0.0


@given(st.integers(1, 7), st.integers(1, 30))
def test_the_warm_up_is_the_same_in_any_batches(step, seed):
    """However the rows are cut, the same rows are scaled, with the same numbers."""
    rng = np.random.default_rng(seed)
    streams, values = rng.integers(0, 3, 40), rng.normal(5, 2, 40)

    def run(size):
        scale = Scale(1, warmup_rows=6)
        scale.grow(3)
        for s in range(3):
            scale.begin(s, None)
        out = []
        for a in range(0, 40, size):
            kept, scaled = scale.step(rows(streams[a : a + size], values[a : a + size]))
            out += [(a + int(k), float(v[0])) for k, v in zip(kept, scaled, strict=True)]
        return out, scale

    (whole, a), (parts, b) = run(40), run(step)
    assert whole == parts
    assert np.array_equal(a._scale, b._scale)


def test_a_snapshot_keeps_a_half_done_warm_up():
    """A stream goes on learning where the snapshot was taken."""
    first = Scale(1, warmup_rows=4)
    first.grow(2)
    first.begin(0, None)
    first.begin(1, None)
    first.step(rows([0, 1, 0], [1, 100, 3]))
    second = Scale(1, warmup_rows=4)
    second.restore(first.state(2))
    for scale in (first, second):
        scale.step(rows([0, 0, 1, 1, 1], [2, 2, 101, 102, 103]))
    assert np.array_equal(first._location[:2], second._location[:2])
    assert np.array_equal(first._scale[:2], second._scale[:2])


@pytest.mark.parametrize("level", [0.0, 1e-3, 5.0, 1e9])
def test_a_constant_channel_has_a_scale(level):
    """A constant stream must be able to alarm, not at the first noise: its scale is 1 % of its level, never 0."""
    location, scale = estimate(np.full((50, 1), level))
    assert location[0] == pytest.approx(level, rel=1e-12)
    assert scale[0] == pytest.approx(0.01 * level if level else 1.0, rel=1e-9)


def test_a_few_bad_rows_do_not_move_the_scale():
    """Two of forty rows a thousand times too high change neither location nor scale by much."""
    good = np.random.default_rng(0).normal(20, 1, (40, 1))
    bad = good.copy()
    bad[5], bad[6] = 20_000, -20_000
    (l0, s0), (l1, s1) = estimate(good), estimate(bad)
    assert abs(l1 - l0) < s0
    assert s0 * 0.9 < s1 < s0 * 5  # a thousand times without the bound


def test_scaled_values_are_finite_in_float32():
    """Even the largest number that decode lets through stays finite when it is squared."""
    scale = Scale(1, warmup_rows=1)
    scale.grow(1)
    scale.begin(0, known_stream([0.0], [1e-6]))
    _, values = scale.step(rows([0], [3.4e38]))
    assert values[0, 0] == SCALED_MAX
    assert np.isfinite(values**2).all()


def test_what_strays_is_not_clipped_to_what_is_usual():
    """Nothing that a plant could send is bounded: a hundred thousand scales out count as a hundred thousand."""
    scale = Scale(1, warmup_rows=1)
    scale.grow(1)
    scale.begin(0, known_stream([10.0], [2.0]))
    _, values = scale.step(rows([0, 0, 0], [10 + 2 * 7, 10 - 2 * 1e3, 10 + 2 * 1e5]))
    assert values[:, 0].tolist() == [7.0, -1e3, 1e5]


@pytest.mark.parametrize("length", [3, 5, 8])
def test_a_warm_up_of_a_new_length_goes_on_with_its_rows(length):
    """Shorter, as long, or longer: what is learnt stays, what is being learnt goes on, to the same estimate."""
    before = Scale(1, warmup_rows=5)
    before.grow(3)
    before.begin(0, known_stream([10.0], [2.0]))
    for stream in (1, 2):
        before.begin(stream, None)
    before.step(rows([1, 1, 1, 1, 1, 2, 2, 2, 2], [1, 2, 3, 4, 5, 7, 9, 8, 6]))
    after, fresh = Scale(1, warmup_rows=length), Scale(1, warmup_rows=length)
    after.restore(before.state(3))
    assert after.seen(3).tolist() == [length, length, min(4, length)]
    assert [after.raw(s, np.zeros((1, 1), np.float32))[0, 0] for s in (0, 1)] == [10.0, 3.0]
    fresh.grow(3)
    fresh.begin(2, None)
    fresh.step(rows([2, 2, 2, 2], [7, 9, 8, 6]))
    more = rows([2, 2, 2, 2, 2, 2], [5, 8, 7, 4, 6, 9])
    for one, other in zip(after.step(more), fresh.step(more), strict=True):
        assert one.tolist() == other.tolist()


# A machine that rests.


def knowing(*, warmup_rows=40, calm=(0.6, 0.6), spread=(10.0, 4.0), runs=(3, 3)):
    """A scale that knows how far the channels of its group go, and move from row to row."""
    group = GroupScale(np.array(calm), np.array(spread), np.array(runs), warmup_rows)
    scale = Scale(len(spread), warmup_rows, group)
    scale.grow(1)
    scale.begin(0, None)
    return scale


def feed(scale, values):
    n = len(values)
    kept, _ = scale.step(Rows(np.zeros(n, np.int32), np.arange(n, dtype=float), np.array(values, float)))
    return len(kept)


def working(n, seed=0, level=(100.0, 20.0)):
    return np.random.default_rng(seed).normal(level, (10.0, 4.0), (n, 2))


def resting(n, noise=0.0, seed=1):
    if noise == 0.0:
        return np.tile((0.0, 5.0), (n, 1))
    return np.random.default_rng(seed).normal((0.0, 5.0), noise, (n, 2))


@pytest.mark.parametrize("noise", [0.0, 0.01, (0.9, 0.36)])
@pytest.mark.parametrize("rest", [1000, 117])
def test_a_machine_that_rests_teaches_nothing(noise, rest):
    """Its warm-up goes on, and says which channel it waits for; then it learns from the rows of its work alone."""
    scale = knowing()
    assert feed(scale, resting(rest, noise)) == 0
    assert scale.waits(1).tolist() == [0]
    assert feed(scale, working(79)) >= 0
    feed(scale, working(40, seed=2))
    assert scale.waits(1).tolist() == [-1]
    location, size = scale.of(0)
    assert location == pytest.approx([100, 20], abs=6)
    assert size == pytest.approx([10, 4], rel=0.5)


def test_a_part_of_a_machine_may_rest_for_long():
    """Where one channel rests and another moves, the warm-up ends after ten; the scale is not far below usual."""
    scale = knowing()
    half = working(40 * 12)
    half[:, 1] = 5.0
    assert feed(scale, half[: 40 * 11 - 1]) == 0
    assert scale.waits(1).tolist() == [1]
    assert feed(scale, half[40 * 11 - 1 :]) > 0
    assert scale.of(0)[1][1] == pytest.approx(0.1 * 4.0)
    assert scale.waits(1).tolist() == [-1]


@pytest.mark.parametrize(("runs", "least"), [((0, 3), 10.0), ((3, 3), 1.0)])
def test_a_scale_has_a_floor_from_the_group(runs, least):
    """A mode that stands still has the scale that it has in the group, a channel that moves at least a tenth of it."""
    scale = knowing(runs=runs)
    calmer = working(40)
    calmer[:, 0] = 2.0 if runs[0] == 0 else np.random.default_rng(3).normal(100, 0.7, 40)
    assert feed(scale, calmer) == 0
    assert scale.seen(1).tolist() == [40]
    assert scale.of(0)[1][0] == pytest.approx(max(least, 0.6 * np.quantile(np.abs(np.diff(calmer[:, 0])), 0.75)))


def test_what_rests_in_the_training_too_is_not_waited_for():
    """A tap, a mode, a constant: a channel that stood still there for as long as a warm-up may stand still here."""
    for runs in ((0, 3), (500, 3)):
        scale = knowing(runs=runs)
        rows_ = working(40)
        rows_[:, 0] = 0.0
        feed(scale, rows_)
        assert scale.seen(1).tolist() == [40]
        assert scale.waits(1).tolist() == [-1]


@given(st.integers(1, 50), st.integers(0, 8))
def test_a_rest_is_the_same_in_any_batches_and_over_a_snapshot(step, seed):
    """However rows are cut, and restored between any two cuts, the same rows teach."""
    values = np.concatenate([resting(100, 0.01 * (seed % 2), seed), working(150, seed), resting(30)])
    whole = knowing()
    feed(whole, values)
    parts = knowing()
    for a in range(0, len(values), step):
        feed(parts, values[a : a + step])
        again = knowing()
        again.restore(parts.state(1))
        parts = again
    assert {k: v.tolist() for k, v in whole.state(1).items()} == {k: v.tolist() for k, v in parts.state(1).items()}


def test_a_warm_up_of_a_single_row_ends():
    """There is no difference between rows then, and still there is a scale."""
    scale = Scale(1, warmup_rows=1)
    scale.grow(1)
    scale.begin(0, None)
    scale.step(rows([0], [5]))
    assert scale.of(0)[1][0] == pytest.approx(0.05)


@pytest.mark.parametrize(("scales", "spread"), [((1.0, 2.0, 3.0), 2.0), ((0.001, 2.0, 5000.0), 0.0), ((), 0.0)])
def test_of_streams_that_are_unlike_nothing_is_known(scales, spread):
    """The scale of one says nothing of that of another where they lie decades apart: no floor, and nothing rests."""
    known = {str(scale): known_stream(scale=(scale,)) for scale in scales}
    group = GroupScale.of(calibration(1), known, 1, 20)
    assert group.spread.tolist() == [spread]
