"""The contract of `tests.bench.systems`: one question, the same terms for every system, an honest table."""

import json
import math

import numpy as np
import pytest
import torch

from streamae.evaluation.protocol import read_labelled, score_once
from streamae.model.spec import NetworkSpec
from streamae.training.fit import Recipe
from tests.bench import systems as which

TRAIN, ROWS, EVENT = 400, 700, slice(560, 590)
QUICK = which.Budget(hidden=8, recipe=Recipe(steps=60, batch=32))


def write_waves(path, seed=0):
    """Two sinusoids of one period that hang together; in the event one of them beats at twice the rate."""
    random = np.random.default_rng(seed)
    turn = 2 * np.pi * np.arange(ROWS) / 20
    values = np.stack([np.sin(turn), np.cos(turn)], axis=1)
    values[EVENT, 1] = np.cos(2 * turn[EVENT] + 1.0)
    values += 0.05 * random.normal(size=values.shape)
    label = np.zeros(ROWS, int)
    label[EVENT] = 1
    lines = [f"{t},{a!r},{b!r},{y}" for t, (a, b), y in zip(range(ROWS), values.tolist(), label, strict=True)]
    path.write_text("timestamp,a,b,label\n" + "\n".join(lines) + "\n")
    path.with_suffix(".meta.json").write_text(json.dumps({"train_rows": TRAIN}))
    return path


@pytest.fixture(scope="module")
def waves(tmp_path_factory):
    return write_waves(tmp_path_factory.mktemp("waves") / "one.csv")


@pytest.mark.parametrize("name", [*which.SYSTEMS, *which.VARIANTS])
def test_every_system_finds_a_broken_rhythm(waves, name):
    """Each system, with few steps, ranks a broken rhythm far above what chance does."""
    detectors = which.systems(QUICK)
    series = read_labelled(waves)
    floor = score_once(series, "random", detectors["random"], 0)["vus_pr"]
    assert score_once(series, name, detectors[name], 0)["vus_pr"] > floor + 0.4


@pytest.mark.parametrize("name", [*which.SYSTEMS, *which.VARIANTS])
def test_a_score_knows_only_the_rows_before_it(waves, name):
    """Rows after t change nothing of the score up to t, and a seed gives the same score again."""
    detect = which.systems(which.Budget(hidden=4, recipe=Recipe(steps=3, batch=8)))[name]
    series = read_labelled(waves)
    whole = detect(series, TRAIN, 0).score
    series.values[600:] = 50.0
    cut = detect(series, TRAIN, 0).score
    assert np.allclose(whole[:600], cut[:600], rtol=1e-5)
    assert not np.allclose(whole[600:], cut[600:], rtol=0.1)


def test_the_predictor_has_not_seen_the_row_that_it_predicts():
    """Changing row t of a window changes the forecasts of later rows only, and of row t the error alone."""
    torch.manual_seed(0)
    network = which.NextRow(NetworkSpec(channels=2, targets=(0,), window=8, horizon=1, task="prediction", hidden=4))
    windows = torch.randn(3, 8, 2)
    other = windows.clone()
    other[:, 5] += 3.0
    with torch.no_grad():
        before, after = (w[:, 1:, :1] - network._misses(w) for w in (windows, other))
    assert torch.allclose(before[:, :5], after[:, :5], atol=1e-6)  # forecasts of rows 1..5
    assert not torch.allclose(before[:, 5:], after[:, 5:], atol=1e-3)


def test_runs_are_resumed_and_tabulated(waves, tmp_path):
    """A second call repeats no run; `--finished` tabulates what stands, without a series that is half done."""
    printed: list[str] = []
    results = tmp_path / "runs.jsonl"
    words = ["--seeds", "0", "1", "--steps", "2", "--hidden", "4", "--no-variants", "--results", str(results)]
    assert which.main([str(waves), *words, "--markdown"], printed.append) == 0
    lines = results.read_text().splitlines()
    assert len(lines) == 2 * (1 + len(which.SYSTEMS))
    assert which.main([str(waves), *words, "--markdown"], printed.append) == 0
    assert results.read_text().splitlines() == lines
    assert printed[0] == printed[1]
    half = json.loads(lines[0]) | {"series": "half done", "vus_pr": 0.0}
    results.write_text("\n".join([*lines, json.dumps(half), '{"torn']) + "")
    assert which.main(["--finished", "--steps", "2", "--hidden", "4", *words[-2:], "--markdown"], printed.append) == 0
    assert printed[2] == printed[0]
    assert all(f"| {name} |" in printed[0] for name in which.SYSTEMS)


def test_pairs_compare_the_same_series():
    """A difference is taken on series that both have, over the mean of their seeds, with its standard error."""

    def run(method, series, seed, figure):
        return {"dataset": "d", "series": series, "method": method, "seed": seed, "vus_pr": figure}

    base = "LSTM autoencoder"
    runs = [run(base, s, seed, f) for s, f in (("x", 0.5), ("y", 0.2), ("z", 0.9)) for seed in (0, 1)]
    runs += [run("composite", "x", 0, 0.6), run("composite", "x", 1, 0.8), run("composite", "y", 0, 0.1)]
    runs += [run("composite", "only here", 0, 1.0), run("composite", "z", 0, math.nan)]
    table = which.paired(runs)
    away = np.array([0.2, -0.1])
    expected = f"{away.mean():+.3f} ± {away.std(ddof=1) / math.sqrt(2):.3f} (1 better, 1 worse)"
    assert f"| composite | {expected} | {expected} |" in table
