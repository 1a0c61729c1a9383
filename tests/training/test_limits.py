"""Where training puts the threshold: each method against a slow reading of its definition."""

import numpy as np
import pytest

from streamae.errors import ConfigError
from streamae.training.calibrate import calibrate, normal_range
from streamae.training.limits import Limit, fbeta_limit, gpd_fit, limit_above, spot_limit, widest
from streamae.training.settings import read_config

PER_ROW = 60.0 / 604_800.0  # one a week, a row a minute


def pareto(rng, shape, scale, n):
    u = rng.random(n)
    return scale * (-np.log(u) if shape == 0 else (u**-shape - 1) / shape)


def likelihood(x, shape, scale):
    if (1 + shape * x / scale <= 0).any():
        return -np.inf
    return -len(x) * np.log(scale) - (1 + 1 / shape) * np.log(1 + shape * x / scale).sum()


@pytest.mark.parametrize("shape", [-0.3, 0.0, 0.2, 0.5])
def test_the_tail_is_the_most_likely_one(shape):
    """No pair of shape and scale on a fine grid is more likely; the law that made the data is found."""
    x = pareto(np.random.default_rng(int(10 * shape) + 5), shape, 0.7, 3000)
    found = gpd_fit(x)
    grid = [(g + 1e-7, s) for g in np.linspace(-0.45, 0.95, 57) for s in np.linspace(0.4, 1.2, 41)]
    assert likelihood(x, found[0] + 1e-9, found[1]) >= max(likelihood(x, g, s) for g, s in grid) - 1e-6
    assert found == pytest.approx((shape, 0.7), abs=0.1)


@pytest.mark.parametrize("draw", ["normal", "exponential", "uniform"])
def test_spot_finds_the_level_that_is_passed_so_rarely(draw):
    """From 5,000 scores, the level passed with probability 1e-4, near that of two million scores of the same law."""
    rng = np.random.default_rng(1)
    make = {"normal": rng.normal, "exponential": rng.standard_exponential, "uniform": rng.uniform}[draw]
    truth = np.quantile(make(size=2_000_000), 1 - 1e-4)
    found = np.median([spot_limit(make(size=5000), 1e-4, 0.98) for _ in range(15)])
    assert found == pytest.approx(truth, rel=0.12)


def test_spot_says_the_maximum_of_few_and_never_sinks_below_its_start():
    """Too few excesses carry no law; a budget above the share in excess asks for the start itself."""
    few = np.random.default_rng(0).normal(size=100)
    assert spot_limit(few, 1e-6, 0.98) == few.max()
    many = np.random.default_rng(0).normal(size=5000)
    assert spot_limit(many, 0.5, 0.98) == np.quantile(many, 0.98)
    assert spot_limit(many, 1e-6, 0.98) > spot_limit(many, 1e-4, 0.98) > spot_limit(many, 1e-2, 0.98)
    assert spot_limit(np.zeros(5000), 1e-4, 0.98) == 0.0


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("beta", [0.1, 1.0])
def test_fbeta_is_the_best_of_all_thresholds(seed, beta):
    """Trying each threshold in turn, with precision and recall counted by hand, none has a greater F."""
    rng = np.random.default_rng(seed)
    incident = rng.random(200) < 0.2
    score = np.round(rng.normal(size=200) + incident, 1)  # with ties

    def f(limit):
        found = score > limit
        true = (found & incident).sum()
        precision, recall = true / max(found.sum(), 1), true / incident.sum()
        return (1 + beta**2) * precision * recall / max(beta**2 * precision + recall, 1e-12)

    assert f(fbeta_limit(score, incident, beta)) == pytest.approx(max(f(x - 0.05) for x in np.unique(score)))


def test_each_method_places_the_threshold_of_the_calibration():
    """The offset is that of the method over the streams' scores, the widest of them; zero lies there above the mean."""
    rng = np.random.default_rng(2)
    errors = [np.exp(rng.normal(0, s, (4000, 1))).astype(np.float32) for s in (0.3, 0.5)]
    offsets = {}
    for method in ("budget", "quantile", "spot"):
        made, known = calibrate(
            errors, [("residual-4", 0)], 1, learn_windows=4, row_s=60.0, limit=Limit(method, quantile=0.99)
        )
        assert made.offset == known[0].offset == known[1].offset
        offsets[method] = made.offset
    assert offsets["quantile"] < offsets["spot"] < 3 * offsets["budget"]
    assert offsets["quantile"] < offsets["budget"]
    y = rng.normal(size=1000)
    assert limit_above(Limit("quantile", quantile=0.9), y, 0.0) == pytest.approx(np.quantile(y, 0.9) - y.mean())
    assert widest(Limit("quantile"), [np.zeros(10)], 0.0) == 0.5, "never into the mean itself"


def test_train_yaml_chooses_the_method_and_names_mistakes(tmp_path):
    """`threshold: {method: spot}` is read; an unknown key, method or share is refused by name."""
    path = tmp_path / "train.yaml"
    path.write_text("threshold: {method: spot, level: 0.95}\n")
    assert read_config(path).threshold == Limit("spot", level=0.95)
    for text, said in (
        ("{method: sopt}", "sopt"),
        ("{methods: spot}", "threshold.methods: got an unknown key"),
        ("{quantile: 99}", "between 0 and 1"),
    ):
        path.write_text(f"threshold: {text}\n")
        with pytest.raises(ConfigError, match=said):
            read_config(path)


@pytest.mark.parametrize(("busy", "apart"), [(0.35, 5.0), (0.2, 7.0), (0.5, 4.0)])
def test_a_sensor_that_rests_has_its_threshold_above_its_scores_and_not_far_above(busy, apart):
    """Scores of rest and of work are two humps: the limit lies over the higher, not three deviations over both."""
    rng = np.random.default_rng(0)
    y = np.where(rng.random(6000) < busy, rng.normal(0, 0.3, 6000), rng.normal(-apart, 0.4, 6000))
    mean, offset = normal_range(y, PER_ROW)
    highest = y[1200:].max()  # of the settled part
    assert highest - 1e-9 <= mean + offset <= highest + np.log(2)
    assert 3 * y.std() > offset + np.log(2), "the control: by deviations it would be twice as high at least"


@pytest.mark.parametrize("rows", [100, 400, 6000])
def test_a_sensor_that_moves_keeps_its_three_deviations(rows):
    """Of scores with one hump nothing changes, however few they are."""
    y = np.random.default_rng(1).normal(-1, 0.4, rows)
    settled = y[rows // 5 :]
    mean, offset = normal_range(y, PER_ROW)
    assert mean == settled.mean()
    assert offset == max(max(settled.max(), 0) - mean, 3 * np.sqrt(settled.var() + 0.01))
