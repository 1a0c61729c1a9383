"""The averages that `core.threshold` watches: they catch slow faults that no single row shows; normal is left alone."""

from dataclasses import replace

import numpy as np
import pytest

from streamae.core.threshold import Threshold
from streamae.training.calibrate import average_limits, calibrate
from tests.plants import calibration, known_stream

pytestmark = pytest.mark.quick

OFFSET, SPREAD = 3.0, 0.4
PLAIN = calibration(1, offset=OFFSET, cold_offset=OFFSET, half_life_windows=3000.0)
WATCHED = replace(PLAIN, averages=np.array([8, 64]), average_offsets=np.array([1.2, 0.5]))


def made(rule, streams=1, *, known=True):
    threshold = Threshold(rule)
    threshold.grow(streams)
    for s in range(streams):
        threshold.begin(s, known_stream(offset=OFFSET) if known else None)
    return threshold


def run(threshold, score, start=0):
    s = np.arange(score.shape[1], dtype=np.int32)
    return np.array([threshold.step(s, np.full(len(s), 10.0 * (start + n)), row) for n, row in enumerate(score)])


def normal(n, streams=1, seed=0):
    """Scores whose logarithm is white about -OFFSET, but for rare short moments far above."""
    rng = np.random.default_rng(seed)
    y = rng.normal(-OFFSET, SPREAD, (n, streams))
    y[rng.random((n, streams)) < 0.002] += 1.2
    return np.exp(y)


def naive(score, rule):
    """Row by row and scalar by scalar, as the module's text says it: thresholds[n] of one known stream."""
    mean, offset, theta, on = -OFFSET, OFFSET, 0.0, False
    averages = [-OFFSET] * len(rule.averages)
    weight = 1 - 0.5 ** (1 / rule.half_life_windows)
    out = []
    for n, x in enumerate(score):
        y = np.log(x)
        margin = theta + (np.log(0.7) if on else 0.0)
        limit = mean + offset + margin
        for h, half_life in enumerate(rule.averages):
            own = mean + rule.average_offsets[h] * (1 + margin / offset)
            taken = min(y, own) if y > mean + offset + margin else y
            averages[h] += (1 - 0.5 ** (1 / half_life)) * (taken - averages[h])
            if averages[h] > own:
                limit = min(limit, y - (averages[h] - own))
        out.append(float(f"{np.exp(limit):.6g}"))
        above = x > out[-1]
        if above and not on:
            theta += 0.35
        if not above:
            theta = max(theta - 1.5 * 0.35 * rule.budget_per_s * (10.0 if n else 0.0), 0.2 - offset)
        mean += weight * ((min(y, limit) if above else y) - mean)
        on = above
    return np.array(out)


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.full) for seed in (1, 2))])
def test_the_arrays_do_what_the_text_says(seed):
    """Equal to a scalar reading of the definition, over normal, a slow rise and what comes after."""
    score = np.r_[normal(800, seed=seed), 4 * normal(500, seed=seed + 10), normal(700, seed=seed + 20)]
    found = run(made(WATCHED), score)[:, 0]
    np.testing.assert_allclose(found, naive(score[:, 0], WATCHED), rtol=2e-5)
    assert (score[:, 0] > found)[800:1300].mean() > 0.8


@pytest.mark.full
def test_a_lasting_small_rise_is_caught_and_normal_is_not():
    """A rise to 2.5 times the score, far under the threshold of single rows, alarms; without averages it never does."""
    plain, raised = normal(4000, 20), normal(600, 20, seed=1) * 2.5
    for rule, caught in ((WATCHED, True), (PLAIN, False)):
        threshold = made(rule, 20)
        assert (plain > run(threshold, plain)).any(axis=0).sum() <= 1
        assert (raised > run(threshold, raised, 4000)).any(axis=0).all() == caught


@pytest.mark.parametrize(("size", "rows"), [(50.0, 300), (1e4, 2000)])
def test_a_long_true_alarm_leaves_no_average_behind(size, rows):
    """When the score is normal again, nothing holds the alarm on, however high and long it was."""
    score = np.r_[normal(800), np.full((rows, 1), size), normal(300, seed=1)]
    threshold = made(WATCHED)
    limit = run(threshold, score)[:, 0]
    assert (score[800 : 800 + rows, 0] > limit[800 : 800 + rows]).all()
    assert not (score[800 + rows :, 0] > limit[800 + rows :]).any()
    assert limit[800 + rows :].min() > 0.3
    assert threshold.holding(0) is None


def test_what_holds_an_alarm_is_said():
    """The score itself, or which average, how far beyond, since when, and for how many windows more."""
    threshold, s = made(WATCHED), np.zeros(1, np.int32)
    plain = normal(800)
    run(threshold, plain)
    assert threshold.holding(0) is None
    threshold.step(s, np.array([8000.0]), np.array([50.0]))
    held = threshold.holding(0)
    assert (held.windows, held.since_s, held.left) == (0, 8000.0, 0.0)
    assert held.over == pytest.approx(50 / threshold.own(s)[0], rel=1e-4)
    threshold = made(WATCHED)
    raised = np.r_[plain, 4 * normal(400, seed=1)]
    limit = run(threshold, raised)[:, 0]
    above = raised[:, 0] > limit
    held, own = threshold.holding(0), threshold.own(s)[0]
    assert held.windows in WATCHED.averages
    assert 800 * 10 < held.since_s < 1200 * 10
    assert above[int(held.since_s / 10) :].all()
    assert held.over > 1
    assert own > raised[-1, 0] > limit[-1], "the threshold that people see is that of the score"
    usual = np.full((200, 1), np.exp(threshold.state()["mean"][0]))
    still = np.flatnonzero((usual > run(threshold, usual, 1200))[:, 0])
    assert abs((still[-1] + 1 if len(still) else 0) - held.left) <= 0.3 * held.left + 8


@pytest.mark.parametrize("when", ["during", "after"])
def test_an_alarm_that_is_confirmed_has_taught_nothing(when):
    """Mean and theta are as before it; the control, of which nobody said anything, has moved; a later one teaches."""
    found = {}
    for confirmed in (False, True):
        threshold = made(WATCHED)
        run(threshold, normal(800))
        before = threshold.state()
        alarm = np.full((500, 1), 30.0)
        if when == "during":
            run(threshold, alarm[:100], 800)
            if confirmed:
                threshold.confirm(0)
            run(threshold, alarm[100:], 900)
        else:
            run(threshold, alarm, 800)
        run(threshold, normal(10, seed=1), 1300)
        if when == "after" and confirmed:
            threshold.confirm(0)
        now = threshold.state()
        found[confirmed] = abs(now["mean"][0] - before["mean"][0]) + abs(now["theta"][0] - before["theta"][0])
    assert found[True] < 0.02
    assert found[False] > 0.3
    run(threshold, alarm, 1400)
    assert threshold.state()["theta"][0] > before["theta"][0] + 0.3


@pytest.mark.full
def test_a_lasting_level_is_normal_in_the_end():
    """The alarm of an average ends too, once the mean has followed: after some half-lives, not for ever."""
    score = np.r_[normal(500), normal(30_000, seed=1) * 3.0]
    above = (score > run(made(WATCHED), score))[:, 0]
    assert above[700:2000].mean() > 0.9
    assert not above[-1000:].any()


@pytest.mark.full
def test_a_new_stream_gets_its_averages_when_it_has_run_long_enough():
    """A stream that training did not see is judged by an average after 64 half-lives of it, about its own mean."""
    own_level = 1.6  # it lives higher than the group, by more than the limit of the averages
    plain = normal(5000, 10) * own_level
    threshold = made(WATCHED, 10, known=False)
    assert not (plain > run(threshold, plain)).any(axis=0).sum() > 1
    raised = plain[:600] * 2.5
    assert (raised > run(threshold, raised, 5000)).any(axis=0).all()
    early = made(WATCHED, 10, known=False)
    run(early, plain[:300])
    assert (plain[:100] * 2.5 < run(early, plain[:100] * 2.5, 300)).mean() > 0.99, "not one average has settled"


@pytest.mark.parametrize("cut", [100, *(pytest.param(cut, marks=pytest.mark.full) for cut in (900, 1100))])
def test_a_restored_state_goes_on_with_its_averages(cut):
    """A snapshot taken before, in or after a slow alarm continues to the same bits."""
    score = np.r_[normal(800), 3 * normal(200, seed=1), normal(300, seed=2)]
    whole, first, second = run(made(WATCHED), score), made(WATCHED), made(WATCHED)
    head = run(first, score[:cut])
    second.restore(first.state())
    assert np.array_equal(np.r_[head, run(second, score[cut:], cut)], whole)


def test_a_state_of_an_older_version_is_taken_over():
    """A snapshot without averages goes on: they begin at the stream's mean and are silent until they have settled."""
    threshold = made(WATCHED)
    run(threshold, normal(300))
    old = {k: v for k, v in threshold.state().items() if k not in ("average", "seen")}
    threshold.restore(old)
    score = normal(600, seed=3)
    assert not (score > run(threshold, score, 300)).any()
    assert np.array_equal(threshold.state()["seen"], [600.0])


def test_only_what_training_saw_often_enough_has_a_limit():
    """A short recording gives no average, a longer one gives more; limits lie above all that training showed."""
    rng = np.random.default_rng(0)
    for rows, expected in ((400, []), (600, [8]), (4000, [8, 56]), (26_000, [8, 56, 392])):
        scores = [rng.normal(-1, 0.3, rows) for _ in range(2)]
        averages, offsets = average_limits(scores, budgeted=1.0)
        assert averages == expected
        assert offsets == sorted(offsets, reverse=True)
        for y in scores:
            for h, limit in zip(averages, offsets, strict=True):
                kernel = 0.5 ** (np.arange(10 * h) / h)
                smooth = np.convolve(y - y[rows // 5 :].mean(), kernel / kernel.sum(), "full")[rows // 5 : rows]
                assert smooth.max() < limit


def test_a_short_time_gives_no_limits():
    """Rows whose time the budget hardly counts vouch for no week: fifty minutes of seconds have no averages."""
    scores = [np.random.default_rng(s).normal(0.0, 0.1, 60_000) for s in range(2)]
    assert average_limits(scores, budgeted=0.02) == ([], [])
    assert average_limits(scores, budgeted=0.2)[0] == [8, 56, 392]


@pytest.mark.parametrize(("rows", "half_life"), [(300, 500.0), (4000, 1000.0)])
def test_the_mean_follows_over_a_quarter_of_the_shortest_stream(rows, half_life):
    """At least over 500 windows: slower variation than training showed is not for the threshold to explain."""
    errors = [np.random.default_rng(s).lognormal(size=(n, 1)).astype(np.float32) for s, n in enumerate((rows, 5000))]
    made, _ = calibrate(errors, [("residual-4", 0)], 1, learn_windows=4)
    assert made.half_life_windows == half_life
