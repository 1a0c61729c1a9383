"""The contract of `streamae.core.threshold`: false alarms keep to a budget, and a fault cannot make itself normal."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamae.core.threshold import Threshold
from tests.plants import calibration, known_stream
from tests.quick import examples

pytestmark = pytest.mark.quick

CALIBRATION = calibration(1, offset=0.9, cold_offset=1.1, half_life_windows=500.0)
OFFSET = 0.9
KNOWN = known_stream(offset=OFFSET)


def threshold(streams=1, *, rate=None, known=True):
    made = Threshold(CALIBRATION, rate)
    made.grow(streams)
    for s in range(streams):
        made.begin(s, KNOWN if known else None)
    return made


def run(made, score, *, start_s=0.0, step_s=1.0, stream=0):
    """Thresholds[n] that scores[n], a row every `step_s`, were held against."""
    s = np.array([stream], np.int32)
    times = start_s + step_s * np.arange(len(score))
    return np.array([made.step(s, np.array([t]), np.array([x]))[0] for t, x in zip(times, score, strict=True)])


def run_side_by_side(made, score, *, start_s=0.0, step_s=1.0):
    """Thresholds[n, S] that score[n, S] of S streams were held against."""
    s = np.arange(score.shape[1], dtype=np.int32)
    return np.array([made.step(s, np.full(len(s), start_s + step_s * n), row) for n, row in enumerate(score)])


def normal(n, seed=0, mean=-OFFSET, spread=0.2):
    """Scores of a stream as it was calibrated: log mean at -offset, so that 1.0 is far out."""
    return np.exp(np.random.default_rng(seed).normal(mean, spread, n))


def onsets(score, limit):
    above = score > limit
    return int(above[0].sum() + (above[1:] & ~above[:-1]).sum())


@pytest.mark.parametrize("known", [True, False])
def test_a_stream_starts_at_the_calibrated_threshold(known):
    """1.0 is what training calibrated, for a known stream and for a new one."""
    assert run(threshold(known=known), [0.3])[0] == 1.0


@pytest.mark.parametrize("silence_s", [86400.0, 30 * 86400.0])
def test_silence_counts_as_an_hour_without_alarm_at_most(silence_s):
    """Who was silent for a month has not shown for a month that it is well: what an alarm added stays."""
    after = {}
    for idle_s in (3600.0, silence_s):
        made = threshold()
        run(made, [0.4, 5.0])  # an onset
        after[idle_s] = run(made, [0.4, 0.4], start_s=1.0 + idle_s)[1]
    assert after[silence_s] == after[3600.0] > 1.0


@pytest.mark.full
def test_normal_is_left_in_peace():
    """Scores as calibrated stay below, and the threshold stays where it can see a fault."""
    score = normal(5000)
    limit = run(threshold(), score)
    assert onsets(score, limit) == 0
    assert limit.min() > 0.5
    assert limit.max() < 2


@pytest.mark.full
def test_slow_drift_of_normal_is_followed():
    """Normal that wanders to three times its level in 8,000 rows raises no alarm; against a fixed 1.0 it would."""
    score = normal(8000) * np.exp(np.linspace(0, np.log(3), 8000))
    limit = run(threshold(), score)
    assert onsets(score, limit) <= 1
    assert onsets(score, np.ones(8000)) > 50


def test_a_fault_cannot_make_itself_normal():
    """A large fault exceeds for hundreds of rows, and its size teaches nothing: 10 or 1e6 is the same."""
    quiet = normal(1000)
    limits = []
    for size in (10.0, 1e6):
        made = threshold()
        run(made, quiet)
        limits.append(run(made, np.full(400, size), start_s=1000.0))
        assert np.all(size > limits[-1])
    assert np.array_equal(*limits)
    assert limits[0].max() < 3, "the fault has pulled the threshold after it"


def test_a_fault_leaves_the_threshold_able_to_see_the_next():
    """After a day's fault of some hundred rows, the next fault of that size still exceeds."""
    made = threshold()
    run(made, normal(1000))
    run(made, np.full(300, 8.0), start_s=1000.0)
    run(made, normal(1000, seed=2), start_s=1300.0)
    assert np.all(run(made, np.full(50, 8.0), start_s=2300.0) < 8.0)


@pytest.mark.full
def test_a_lasting_change_of_level_does_not_alarm_for_ever():
    """A new level is taken for normal in the end, the later the higher it is; a short one is not."""
    sizes = np.array([2.0, 4.0, 8.0])
    made = threshold(3)
    run_side_by_side(made, normal(1000)[:, None].repeat(3, axis=1))
    above = sizes > run_side_by_side(made, np.tile(sizes, (15_000, 1)), start_s=1000.0)
    assert above[:100].all(), "a jump is an alarm first"
    assert not above[-1000:].any(), "a level still alarms after 14,000 rows"
    ends = [int(np.flatnonzero(column)[-1]) for column in above.T]
    assert ends == sorted(ends)


def test_a_score_that_dithers_is_one_alarm():
    """Once exceeded, the threshold steps back a little, so noise about it does not raise an alarm a row."""
    made = threshold()
    noisy = 1.0 * np.exp(np.random.default_rng(0).normal(0.1, 0.1, 200))
    limit = run(made, noisy)
    assert onsets(noisy, np.ones(200)) > 20
    assert onsets(noisy, limit) <= 3


@pytest.mark.full
@pytest.mark.parametrize("tail", ["normal", "heavy"])
def test_false_alarms_keep_to_the_budget_for_every_distribution(tail):
    """On endless normal whose tail was not foreseen, onsets come to at most about the rate that was asked for."""
    rng = np.random.default_rng(0)
    streams, days, rows = 10, 40, 144  # a row each ten minutes
    shape = (days * rows, streams)
    noise = rng.normal(size=shape) if tail == "normal" else rng.standard_t(3, size=shape)
    score = np.exp(-OFFSET + 0.6 * noise)
    limit = run_side_by_side(threshold(streams, rate=1 / 86_400), score, step_s=600.0)  # one a day
    late = slice(len(score) // 4, None)  # after it has learnt the tail
    asked = 0.75 * days * streams
    # Real false alarms come in bursts; noise without memory, as here, reaches twice the budget.
    assert 0.5 * asked <= onsets(score[late], limit[late]) <= 2.5 * asked
    assert onsets(score[late], np.ones(shape)[late]) > 4 * asked, "the tail was no challenge"


@pytest.mark.full
def test_a_larger_budget_never_alarms_less():
    """The knob turns the right way: more false alarms allowed, a lower threshold, more onsets."""
    score = np.exp(-OFFSET + 0.3 * np.random.default_rng(1).standard_t(4, size=(2000, 20)))
    found, means = [], []
    for per_week in (0.1, 1, 10, 100, 1000):
        limit = run_side_by_side(threshold(20, rate=per_week / 604_800), score, step_s=600.0)
        found.append(onsets(score, limit))
        means.append(limit[1000:].mean())
    assert found == sorted(found)
    assert found[0] < found[-1]
    assert means == sorted(means, reverse=True)


@pytest.mark.full
def test_the_threshold_never_sinks_into_the_normal_score():
    """However long nothing happens, at any budget, the threshold stays above the mean score."""
    score = normal(3000, spread=0.01)
    limit = run(threshold(rate=1.0), score, step_s=600.0)
    assert np.all(limit > score)


def test_nan_teaches_nothing():
    """While a stream learns its level its scores are NaN: the threshold waits."""
    made, plain = threshold(), threshold()
    score = normal(50)
    run(made, score), run(plain, score)
    before = made.state()
    assert np.isfinite(run(made, [np.nan] * 10, start_s=50.0)).all()
    assert all(np.array_equal(before[k], made.state()[k], equal_nan=True) for k in before)
    assert np.array_equal(run(made, score, start_s=60.0), run(plain, score, start_s=60.0))


@settings(max_examples=examples(40))
@given(st.lists(st.tuples(st.integers(0, 2), st.sampled_from([0.2, 0.5, 3.0, np.nan])), min_size=1, max_size=60))
def test_streams_do_not_touch_each_other_and_grouping_means_nothing(events):
    """Windows of different streams in one call or in many calls give the same thresholds, to the bit."""
    one, many = threshold(3), threshold(3)
    single, grouped, waiting = [], [], []

    def flush():
        if waiting:
            s, t, x = (np.array(column) for column in zip(*waiting, strict=True))
            grouped.extend(many.step(s.astype(np.int32), t.astype(float), x.astype(float)))
            waiting.clear()

    for n, (stream, score) in enumerate(events):
        single.append(one.step(np.array([stream], np.int32), np.array([float(n)]), np.array([score]))[0])
        if stream in {s for s, _, _ in waiting}:
            flush()
        waiting.append((stream, n, score))
    flush()
    assert np.array_equal(single, grouped)
    assert all(np.array_equal(one.state()[k], many.state()[k], equal_nan=True) for k in one.state())


@pytest.mark.parametrize("cut", [1, 60, 150, 250])
def test_a_restored_state_goes_on_as_if_nothing_had_been(cut):
    """A snapshot taken before, in or after an alarm continues to the same bits; growing changes nothing."""
    score = np.r_[normal(100), np.full(100, 5.0), normal(100, seed=1)]
    whole = run(threshold(), score)
    first = threshold()
    head = run(first, score[:cut])
    kept = first.state()
    run(first, score[cut:], start_s=float(cut))
    second = threshold()
    second.restore(kept)
    second.grow(40)
    assert np.array_equal(np.r_[head, run(second, score[cut:], start_s=float(cut))], whole)


@pytest.mark.full
@pytest.mark.parametrize("rows", [2, 8])
def test_thinned_scores_keep_to_the_same_budget_of_time(rows):
    """With fewer windows scored, the long-run rate of onsets is still that of time, not of scored windows."""
    rate, n, streams = 1 / 1000, 16_000, 16
    score = np.exp(np.random.default_rng(3).normal(-OFFSET, 0.8, (n, streams)))
    whole, thinned = threshold(streams, rate=rate), threshold(streams, rate=rate)
    s = np.arange(streams, dtype=np.int32)
    limit = run_side_by_side(whole, score)
    some = np.arange(0, n, rows)
    fewer = np.array([thinned.step(s, np.full(streams, float(t)), score[t], rows) for t in some])
    per_stream = [onsets(score[n // 2 :, k], limit[n // 2 :, k]) for k in range(streams)]
    half = len(some) // 2
    of_thinned = [onsets(score[some][half:, k], fewer[half:, k]) for k in range(streams)]
    assert np.mean(of_thinned) <= 1.1 * np.mean(per_stream) <= 1.1 * 2 * rate * n / 2


@pytest.mark.full
def test_the_mean_follows_time_under_thinning():
    """A drift is followed as closely with every 8th window scored as with all of them."""
    score = normal(8000) * np.exp(np.linspace(0, np.log(3), 8000))
    made, s = threshold(), np.zeros(1, np.int32)
    thinned = [made.step(s, np.array([float(t)]), score[t : t + 1], 8)[0] for t in range(0, 8000, 8)]
    assert thinned[-1] == pytest.approx(run(threshold(), score)[-1], rel=0.1)
