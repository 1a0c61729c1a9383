"""The contract of machines that the model has never seen: what stands beside their sensors does not blind."""

import numpy as np
import pytest

from streamae.core.alert import AlertRule
from streamae.history.series import Series
from streamae.model.artifact import profile_of
from streamae.model.runtime import TorchReconstructor
from streamae.model.spec import DetectorSpec
from streamae.training.backtest import offline_group, score_series
from streamae.training.cold_start import FAR, _above
from streamae.training.dataset import Stream, build
from streamae.training.fit import Recipe
from streamae.training.limits import Limit
from streamae.training.train import TrainConfig, train_dataset

MINUTES = 1440
RECIPE = Recipe(steps=40, batch=32, checks=4, patience=4)


def machine(seed, days):
    """A row a minute: what two sensors measure, and what may stand beside them."""
    rng, n = np.random.default_rng(seed), days * MINUTES
    t = np.arange(n) * 60.0
    changes = rng.random(n) < 1 / 240
    beside = {
        "mode": rng.integers(0, 3, n)[np.maximum.accumulate(np.where(changes, np.arange(n), 0))],
        "setpoint": 15.0 + 0.5 * rng.integers(0, 7, n)[np.maximum.accumulate(np.where(changes, np.arange(n), 0))],
        "kwh": np.round(np.cumsum(rng.uniform(0, 0.1, n)), 1) + 1000 * seed,
        "const": np.full(n, 50.0),
        "zero": np.zeros(n),
    }
    wave = np.sin(2 * np.pi * t / 7200 + rng.uniform(0, 6))
    day = np.sin(2 * np.pi * t / 86400 + rng.uniform(0, 6))
    power, temp = 100 + 30 * wave + rng.normal(0, 5, n), 20 + 5 * day + rng.normal(0, 0.3, n)
    return 1.7e9 + t, {"power": power, "temp": temp} | beside


def streams(channels, machines=3, days=3):
    found = [machine(seed, days) for seed in range(machines)]
    return [
        Stream(f"m{seed}", tuple(channels), t, np.stack([v[c] for c in channels], axis=1))
        for seed, (t, v) in enumerate(found)
    ]


@pytest.mark.parametrize("beside", [("mode",), ("setpoint",), ("zero", "mode", "setpoint")])
def test_modes_and_setpoints_are_context(beside):
    """They are inputs that need no explanation; a counter is a measurement."""
    dataset = build(streams(("power", *beside, "temp", "kwh"), days=1))
    assert [dataset.channels[c] for c in dataset.targets] == ["power", "temp", "kwh"]


def test_without_anything_else_few_values_are_explained():
    """A group of modes alone is what it is."""
    assert build(streams(("mode", "zero"), days=1)).targets == (0,)
    assert build(streams(("mode", "power"), days=1), context=()).targets == (0, 1)


@pytest.mark.parametrize("odd", [1, 3])
def test_a_few_odd_pieces_do_not_blind(odd):
    """The threshold of new streams stands near what nearly all of the pieces reached, and never beyond a bound."""
    rng = np.random.default_rng(0)
    pieces = [rng.normal(0.0, 0.2, 100) for _ in range(80)]
    usual, _ = _above(pieces, 0.0, 0.5)
    assert max(y.max() for y in pieces) < usual < FAR
    for y in pieces[:odd]:
        y[50:] = 14.0
    blinded, offset = _above(pieces, 0.0, 0.5)
    assert blinded <= 0.5 + np.log(20.0) + 1e-9
    assert offset <= blinded + 1.0


@pytest.mark.parametrize("beside", [(), ("mode", "const"), ("setpoint", "kwh", "zero")], ids=str)
def test_faults_of_a_new_machine_are_found_whatever_stands_beside(beside):
    """Power twice as high and a temperature 5 degrees off are found within minutes; a normal day raises nothing."""
    channels = ("power", "temp", *beside)
    config = TrainConfig(recipe=RECIPE, threshold=Limit(unseen=0.0))
    trained = train_dataset(build(streams(channels)), 0, config)
    model = TorchReconstructor(trained.scripted, DetectorSpec.from_mapping(trained.manifest["network"]))
    group = offline_group(profile_of(trained.manifest, ""), model, AlertRule())
    calibration = trained.manifest["calibration"]
    assert calibration["cold_zero"] - calibration["zero"] < FAR
    for fault, by in ((None, 0), ("power", 100), ("temp", 5)):
        t, values = machine(77, 1)
        if fault is not None:
            values[fault][600:] += by
        rows = np.stack([values[c] for c in channels], axis=1)
        scored = score_series(Series("new", channels, t, [repr(s) for s in t.tolist()], rows), group)
        high = np.flatnonzero(scored.score > scored.threshold)
        assert (len(high) > 0 and 600 <= high[0] < 610) if fault else len(high) == 0, (fault, high[:3])
