"""The contract of `streamae.core.score`, against formulas written out; constants come from the calibration given."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamae.core.score import Scoring, excess, mahalanobis
from streamae.core.types import round_score
from tests.plants import calibration, known_stream
from tests.quick import examples

pytestmark = pytest.mark.quick

E, C = 4, 3
CHANNEL = (0, 1, 0, -1)
CORRELATION = np.full((E, E), 0.6) + 0.4 * np.eye(E)


def rule(kind="groups", **changes):
    distance = {"center": [0.5, 0.6, 0.7, 0.8], "spread": [0.1, 0.2, 0.3, 0.4], "precision": np.linalg.inv(CORRELATION)}
    numbers = {
        "channel": CHANNEL,
        "group": [0, 0, 1, 2],
        "weight": [1.0, 2.0, 0.5, 1.5],
        "level": [0.8, 0.3, 1.7, 0.4],
        **(distance if kind == "mahalanobis" else {}),
    }
    arrays = {name: np.array(one) for name, one in numbers.items()}
    plain = {"kind": kind, "zero": 0.4, "cold_zero": 0.9, "learn_windows": 5, "level_floor": 0.5, "smoothing": 0.5}
    return calibration(E, **arrays | plain | changes)


KNOWN = known_stream(weight=[1.1, 0.9, 2.0, 0.7], zero=0.2, offset=0.5)


def scoring(streams, known=True, **changes):
    made = Scoring(rule(**changes), C)
    made.grow(streams)
    for s in range(streams):
        made.begin(s, KNOWN if known else None)
    return made


def run(made, stream, errors):
    """One window a call: -> score[n], share[n, C]."""
    found = [made.step(np.array([s], np.int32), e[None]) for s, e in zip(stream, errors, strict=True)]
    return np.array([f[0][0] for f in found]), np.array([f[1][0] for f in found])


def errors_of(n, seed=0):
    return np.random.default_rng(seed).lognormal(size=(n, E)).astype(np.float32)


def naive_scores(errors, known, rule):
    """The formulas of the docstring for one stream, float by float."""
    weight, zero = (known.weight, known.zero) if known else (rule.weight, rule.cold_zero)
    learnt, smooth, out = [], None, []
    for row in errors.astype(float):
        if not known and len(learnt) < rule.learn_windows:
            learnt.append([math.log(e / lv) for e, lv in zip(row, rule.level, strict=True)])
            if len(learnt) == rule.learn_windows:
                ratio = [math.exp(sum(column) / len(column)) for column in zip(*learnt, strict=True)]
                weight = [w / max(r, rule.level_floor) for w, r in zip(weight, ratio, strict=True)]
            out.append(math.nan)
            continue
        units = [w * e for w, e in zip(weight, row, strict=True)]
        if rule.kind == "groups":
            sums = [sum(u for u, g in zip(units, rule.group, strict=True) if g == k) for k in set(rule.group)]
            s = math.sqrt(sum(x * x for x in sums) / len(sums))
        else:
            z = [max(u - c, 0) / p for u, c, p in zip(units, rule.center, rule.spread, strict=True)]
            inverse = np.linalg.inv(CORRELATION)
            s = math.sqrt(sum(z[i] * inverse[i, j] * z[j] for i in range(E) for j in range(E)) / E)
        value = math.log(max(s, 1e-6))
        smooth = value if smooth is None else smooth + rule.smoothing * (value - smooth)
        out.append(float(f"{math.exp(smooth - zero):.5e}"))
    return out


@pytest.mark.parametrize("kind", ["groups", "mahalanobis"])
@pytest.mark.parametrize("known", [KNOWN, None])
def test_scores_follow_the_formula(kind, known):
    """Weighting, combination, smoothing, zero and the learning of a new stream, against plain floats."""
    errors = errors_of(40)
    got, _ = run(scoring(1, known is not None, kind=kind), [0] * 40, errors)
    np.testing.assert_allclose(got, naive_scores(errors, known, rule(kind)), rtol=2e-5)


def test_mahalanobis_uses_the_inverse_of_sigma():
    """On the rows that Sigma was fitted on, the squared distance is C on average, and with Sigma it is not."""
    rng = np.random.default_rng(0)
    z = rng.multivariate_normal(np.zeros(E), CORRELATION, 5000)
    sigma = np.cov(z.T, bias=True)
    z = z - z.mean(axis=0)
    right, _ = mahalanobis(z, np.linalg.inv(sigma))
    wrong, _ = mahalanobis(z, sigma)
    assert np.mean(right**2) * E == pytest.approx(E, rel=1e-6)
    assert np.mean(wrong**2) * E > 1.5 * E


def test_breaking_a_correlation_scores_higher_than_following_it():
    """Two errors of one length: the one that strays alone is the stranger; with Sigma it would be the other one."""
    alone, together = np.array([[2.0, 0, 0, 0]]), np.array([[1.0, 1, 1, 1]])
    inverse = np.linalg.inv(CORRELATION)
    assert mahalanobis(alone, inverse)[0] > mahalanobis(together, inverse)[0]
    assert mahalanobis(alone, CORRELATION)[0] < mahalanobis(together, CORRELATION)[0]


def test_an_unusually_good_fit_is_no_anomaly():
    """The distance is one-sided: errors below the center count as none."""
    center, spread = np.full(E, 1.0), np.full(E, 0.1)
    assert np.array_equal(excess(np.zeros((1, E)), center, spread), np.zeros((1, E)))
    score, _ = run(scoring(1, kind="mahalanobis"), [0, 0], np.array([[0.01] * E, [0.2] * E], np.float32))
    assert np.all(score < 1e-3)


@pytest.mark.parametrize("kind", ["groups", "mahalanobis"])
def test_more_error_is_never_a_lower_score(kind):
    """Raising all errors by one factor raises the score."""
    errors = errors_of(1, seed=5)
    scores = [run(scoring(1, kind=kind), [0], errors * np.float32(f))[0][0] for f in (0.5, 1, 2, 4, 8, 100)]
    assert scores == sorted(scores)
    assert scores[-1] > 5 * scores[1]


@pytest.mark.parametrize("kind", ["groups", "mahalanobis"])
def test_shares_sum_to_one_and_name_the_channel(kind):
    """Shares are >= 0 and sum to 1, also while learning and at a perfect fit; the faulty channel has the largest."""
    for known in (True, False):
        errors = np.vstack([errors_of(30), np.zeros((1, E), np.float32)]).astype(np.float32)
        _, share = run(scoring(1, known, kind=kind), [0] * 31, errors)
        np.testing.assert_allclose(share.sum(axis=1), 1, atol=1e-6)
        assert np.all(share >= 0)
        assert np.all(share[:, 2] == 0), "a channel without a feature has no share"
    for feature, channel in ((0, 0), (1, 1), (2, 0)):
        loud = np.full((1, E), 0.1, np.float32)
        loud[0, feature] = 50
        assert run(scoring(1, kind=kind), [0], loud)[1][0].argmax() == channel


def test_a_new_stream_learns_and_then_scores():
    """Scores are NaN for exactly the learning windows and finite from then on; `remaining` counts down to 0."""
    made, errors = scoring(1, known=False), errors_of(12)
    left, found = [], []
    for row in errors:
        left.append(int(made.remaining(np.zeros(1, np.int32))[0]))
        found.append(made.step(np.zeros(1, np.int32), row[None])[0][0])
    learn = rule().learn_windows
    assert left == [max(learn - n, 0) for n in range(12)]
    assert list(np.isnan(found)) == [n < learn for n in range(12)]


def test_a_stream_of_another_level_learns_to_be_normal():
    """Ten times the errors, once learnt, score as the group does; a quiet stream is not blown up past the floor."""
    errors = errors_of(60, seed=3)
    group, _ = run(scoring(1, known=False, level_floor=0.01), [0] * 60, errors)
    loud, _ = run(scoring(1, known=False, level_floor=0.01), [0] * 60, 10 * errors)
    quiet, _ = run(scoring(1, known=False), [0] * 60, errors / 1000)
    np.testing.assert_allclose(loud, group, rtol=2e-5)
    assert np.nanmax(quiet) < 0.1 * np.nanmin(group), "the floor of the level was ignored"


def grouped(stream, errors, cuts):
    """Score in calls cut anywhere, each call again in parts that name a stream once."""
    made, out = scoring(3, known=False), np.full(len(stream), np.nan)
    order = [list(part) for part in np.split(np.arange(len(stream)), sorted(cuts))]
    for whole in order:
        part = whole
        while part:
            first, rest = [], []
            for i in part:
                (rest if stream[i] in {stream[j] for j in first} else first).append(i)
            out[first] = made.step(stream[first], errors[first])[0]
            part = rest
    return out, made.state()


@settings(max_examples=examples(40))
@given(st.lists(st.integers(0, 2), min_size=1, max_size=60), st.sets(st.integers(0, 59)))
def test_scores_do_not_depend_on_how_windows_are_grouped(streams, cuts):
    """Any cut of one order into calls gives the same scores and state, to the bit."""
    stream, errors = np.array(streams, np.int32), errors_of(len(streams))
    one, kept = grouped(stream, errors, range(len(stream)))
    many, other = grouped(stream, errors, cuts)
    assert np.array_equal(one, many, equal_nan=True)
    assert all(np.array_equal(kept[name], other[name], equal_nan=True) for name in kept)


@pytest.mark.parametrize("cut", [0, 3, 5, 20])
def test_a_restored_state_goes_on_as_if_nothing_had_been(cut):
    """State taken in the middle of learning or after it continues to the same bits; the snapshot is a copy."""
    errors, stream = errors_of(40), [n % 2 for n in range(40)]
    whole, _ = run(scoring(2, known=False), stream, errors)
    first = scoring(2, known=False)
    head, _ = run(first, stream[:cut], errors[:cut])
    kept = first.state()
    run(first, stream[cut:], errors[cut:])
    second = scoring(2, known=False)
    second.restore(kept)
    tail, _ = run(second, stream[cut:], errors[cut:])
    assert np.array_equal(np.r_[head, tail], whole, equal_nan=True)


def test_growing_leaves_other_streams_alone_and_begin_starts_again():
    errors = errors_of(20)
    plain, _ = run(scoring(1), [0] * 20, errors)
    made = scoring(1)
    head, _ = run(made, [0] * 10, errors[:10])
    made.grow(50)
    made.begin(49, None)
    assert np.array_equal(np.r_[head, run(made, [0] * 10, errors[10:])[0]], plain)
    made.begin(0, KNOWN)
    assert np.array_equal(run(made, [0] * 20, errors)[0], plain)


@settings(max_examples=examples(200))
@given(st.floats(1e-200, 1e200))
def test_scores_have_six_digits(value):
    """Rounding keeps six significant digits and changes nothing that is rounded already; NaN stays NaN."""
    rounded = round_score(np.array([value, np.nan, 0.0]))
    assert rounded[0] == pytest.approx(float(f"{value:.5e}"), rel=1.1e-5)
    assert abs(rounded[0] - value) <= 0.51e-5 * value
    assert np.array_equal(round_score(rounded), rounded, equal_nan=True)
    assert np.isnan(rounded[1])
    assert rounded[2] == 0
