"""The contract of training.plan: parts and sizes are chosen by the training rows alone."""

import numpy as np
import pytest

from streamae.history.series import Series
from streamae.training.dataset import build
from streamae.training.fit import Recipe
from streamae.training.plan import TrainConfig, flat_windows, make_plan
from streamae.training.train import train_dataset


def dataset(values):
    n, channels = values.shape
    time_s = np.arange(n, dtype=float)
    names = tuple(f"c{i}" for i in range(channels))
    return build([Series("s", names, time_s, [str(t) for t in time_s], values)])


def machine(*, drift, rows=1000, seed=0):
    """Six channels of two common causes and noise; with drift, the mixing turns slowly within the rows."""
    rng = np.random.default_rng(seed)
    causes = np.cumsum(rng.normal(size=(rows, 2)), axis=0)
    causes -= np.linspace(0, 1, rows)[:, None] * causes[-1]
    mixing = rng.normal(size=(2, 6))
    turned = rng.normal(size=(2, 6))
    share = (np.linspace(0, 1, rows) ** 2 if drift else np.zeros(rows))[:, None]
    return (causes @ mixing) * (1 - share) + (causes @ turned) * share + rng.normal(size=(rows, 6))


@pytest.mark.parametrize(("drift", "kept"), [(False, 0.9), (True, 0.7)])
def test_components_are_kept_as_far_as_they_hold_on_later_rows(drift, kept):
    """A plant that stays as it is gets tight subspaces; one that drifts within its training rows gets loose ones."""
    rows = dataset(machine(drift=drift))
    flat = flat_windows(rows, 0.0)
    chosen = make_plan(rows, TrainConfig(), flat)
    forced = make_plan(rows, TrainConfig(linear_variance=kept), flat)
    assert chosen.spec.residuals == forced.spec.residuals
    assert chosen.spec.residuals != make_plan(rows, TrainConfig(linear_variance=1.6 - kept), flat).spec.residuals


def test_the_distance_is_calibrated_on_rows_that_were_not_fitted():
    """EncDec-AD's mean and covariance want held-out rows (Malhotra et al. 2016): a fifth, by default."""
    assert TrainConfig(score="mahalanobis").held_out == 0.2
    assert TrainConfig().held_out == 0.0
    assert TrainConfig(score="mahalanobis", holdout=0.0).held_out == 0.0
    assert TrainConfig(holdout=0.3).held_out == 0.3
    rows = dataset(machine(drift=False))
    config = TrainConfig(score="mahalanobis", banks=False, recipe=Recipe(steps=2, batch=8, checks=1))
    manifest = train_dataset(rows, 0, config).manifest
    window = manifest["network"]["window"]
    assert manifest["training"]["calibrated_windows"] == 200 - window + 1
    assert manifest["training"]["windows"] == 800 - window + 1
