"""The contract of the distance that training fits (EncDec-AD): an inverse, of a shrunk correlation, with floors."""

import numpy as np
import pytest

from streamae.training.calibrate import calibrate

FEATURES = [("reconstruction", c) for c in range(4)]


def errors(rows=4000, seed=0):
    """Errors of four channels that hang together in pairs."""
    rng = np.random.default_rng(seed)
    common = rng.normal(size=(rows, 2))
    logs = np.repeat(common, 2, axis=1) * 0.3 + 0.15 * rng.normal(size=(rows, 4))
    return np.exp(logs).astype(np.float32)


def fitted(values):
    made, known = calibrate([values], FEATURES, 4, learn_windows=4, distance=True)
    units = values * known[0].weight
    z = (units - made.center) / made.spread
    return z, made.precision


def test_the_fitted_distance_has_the_dimension_for_its_mean():
    """Over the rows that it was fitted on z' P z is about C, which it is with the inverse alone, and P is symmetric."""
    z, precision = fitted(errors())
    square = np.einsum("ne,ef,nf->n", z, precision, z)
    assert square.mean() == pytest.approx(4, rel=0.15)
    sigma = np.cov(z.T)
    assert np.einsum("ne,ef,nf->n", z, sigma, z).mean() > 1.5 * 4, "with Sigma itself it would not be"
    np.testing.assert_allclose(precision, precision.T, rtol=1e-9)


def test_a_channel_that_was_fitted_without_an_error_can_still_alarm():
    """No spread is zero: the distance is finite where a channel was always right, and rises when it is not."""
    values = errors()
    values[:, 2] = 0.0
    z, precision = fitted(values)
    assert np.isfinite(z).all()
    assert np.isfinite(precision).all()
    made, known = calibrate([values], FEATURES, 4, learn_windows=4, distance=True)
    assert min(made.spread) > 0
    away = (0.01 * known[0].weight[2] - made.center[2]) / made.spread[2]
    assert away > 10


def test_few_rows_are_shrunk_further():
    """A correlation of few independent windows is believed less: its inverse comes closer to the identity."""
    away = [np.abs(fitted(errors(rows))[1] - np.eye(4)).max() for rows in (200, 4000)]
    assert away[0] < away[1]
