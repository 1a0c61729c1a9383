"""The bench of simulated plants: figures that a naive count confirms, the same core as the daemon, runs that resume."""

import json

import numpy as np
import pytest

from streamae.evaluation import budgets
from streamae.evaluation.metrics import DAY_S
from streamae.training.fit import Recipe
from tests.bench import plant as bench
from tests.bench.plant_table import growth, rank_correlation, tables

SMALL = bench.Bench(
    streams=2, train_days=1.0, normal_days=0.5, period_s=10.0, day_s=7200.0, recipe=Recipe(steps=5, batch=8)
)


@pytest.fixture(scope="module")
def trained():
    plant = SMALL.plant("pumps", 0)
    profile, model = bench.train_plant(plant, SMALL, 0)
    time_s, values, _ = plant.rows(150)
    score, limit = bench.score_streams(profile, model, plant.names, time_s, list(values.swapaxes(0, 1)))
    return plant, profile, time_s, score, limit, model


def test_thresholds_at_another_budget_are_those_of_the_core(trained):
    """Run again over the scores at the model's own budget, the thresholds are those that the core gave, to the bit."""
    plant, profile, time_s, score, limit, _ = trained
    own = profile.calibration.budget_per_s
    judged = np.isfinite(score)
    assert judged.sum() == judged.size - 2 * (profile.window - 1)
    again = budgets.thresholds(profile, plant.names, time_s, score, own)
    assert np.array_equal(again[judged], limit[judged])
    eager = budgets.thresholds(profile, plant.names, time_s, score, 1.0)
    assert (eager[-1] < again[-1]).all(), "a budget of one a second must lower the threshold"


def test_trials_differ_from_their_control_in_the_fault_only():
    """Each trial is its control outside of the fault, and another inside; every kind is there for every stream."""
    plant = SMALL.plant("pumps", 1)
    _, made = bench.trials(plant, SMALL, 1)
    control = {(t.kind, t.stream): t for t in made if t.magnitude == 0}
    assert len(control) == len(bench.LASTS_S) * SMALL.streams
    for trial in made:
        own = control[trial.kind, trial.stream]
        changed = (trial.values != own.values).any(axis=1)
        assert not changed[trial.label == 0].any()
        assert changed.any() == (trial.magnitude > 0)


@pytest.mark.parametrize("seed", range(3))
def test_rank_correlation_is_spearmans(seed):
    """Equal to scipy's definition by hand: Pearson's of ranks, with ties in the middle."""
    rng = np.random.default_rng(seed)
    x, y = rng.integers(0, 5, 12).astype(float), rng.normal(size=12)

    def ranks(v):
        return [float(np.mean([i + 1 for i, w in enumerate(sorted(v)) if w == one])) for one in v]

    assert rank_correlation(x, y) == pytest.approx(np.corrcoef(ranks(x), ranks(y))[0, 1])
    assert rank_correlation([1, 2, 3], [1, 4, 9]) == pytest.approx(1.0)
    assert rank_correlation([1, 2, 3], [9, 4, 1]) == pytest.approx(-1.0)


def test_a_run_is_resumed_and_tabulated(tmp_path, monkeypatch):
    """What is in the results is not run again, a torn line is; tables count what the runs say."""
    monkeypatch.setattr(bench, "Bench", lambda **kept: SMALL)
    results, printed = tmp_path / "runs.jsonl", []
    words = ["--plants", "sensors", "--seeds", "0", "--results", str(results)]
    assert bench.main([*words, "--markdown"], printed.append) == 0
    first = results.read_text()
    results.write_text(first + '{"torn')
    assert bench.main([*words, "--markdown"], printed.append) == 0
    assert results.read_text() == first
    assert printed[0] == printed[1]
    (run,) = (json.loads(line) for line in first.splitlines())
    assert all("sensor_s" in trial for trial in run["trials"] if trial["kind"] == "stuck")
    assert "| stuck: verdict on the sensor |" in printed[0]
    assert run["normal"]["stream_days"] == pytest.approx(2 * 0.5 * 7200 / DAY_S)
    assert run["normal"]["budgets"]["4/day"]["asked"] == pytest.approx(4 * run["normal"]["stream_days"])


def test_tables_count_faults_by_kind_and_size():
    """Recall is the share of trials with an alarm, delay their median; rank correlation is taken stream by stream."""

    def trial(stream, magnitude, delay_s, peak):
        return {
            "kind": "leak",
            "stream": stream,
            "magnitude": magnitude,
            "delay_s": delay_s,
            "peak": peak,
            "rise": -peak,
        }

    trials = [trial(s, m, 60.0 * m if m > 1 else None, m + s) for s in (0, 1) for m in (0.0, 1.0, 2.0)]
    budgets = {"1/day": {"asked": 4.0, "raised": 6}}
    run = {"plant": "p", "seed": 0, "trials": trials, "normal": {"stream_days": 4.0, "budgets": budgets}}
    text = tables([run])
    assert "| leak | 0.00 | 0.00 | 1.00 (2 min) | -1.000 | 0.000 | 1.000 |" in text
    assert "| 1/day | 4.0 | 1–8 | 6 | 1.50 |" in text


def test_the_score_grows_with_a_fault_and_one_that_runs_backwards_or_saturates_is_notified(trained, monkeypatch):
    """By rank correlation and share of steps on the bench's own trials; the controls are the same score, spoilt."""
    plant, profile, *_, model = trained
    score_streams, cached = bench.score_streams, []
    spoilt = {
        "true": lambda score: score,
        "backwards": lambda score: 1 / score,
        "saturates": lambda score: np.minimum(score, np.nanquantile(score, 0.2)),
    }
    found = {}
    for name, spoil in spoilt.items():
        monkeypatch.setattr(plant, "_rng", np.random.default_rng(5))

        def spoilt_scores(*given, spoil=spoil):
            cached[:] = cached or score_streams(*given)
            return spoil(cached[0]), cached[1]

        monkeypatch.setattr(bench, "score_streams", spoilt_scores)
        trials = [t | {"seed": 0} for t in bench.fault_run(plant, profile, model, SMALL, 0)["trials"]]
        found[name] = [growth([t for t in trials if t["kind"] == kind]) for kind in ("drift", "leak")]
    assert all(rank >= 0.95 and steps >= 0.8 for rank, steps, _ in found["true"])
    assert all(rank < 0.6 for rank, _, _ in found["backwards"])
    assert all(steps < 0.7 for _, steps, _ in found["saturates"])


def test_the_sensor_verdict_is_that_of_the_core(trained):
    """A value that stands still is found by the core's sensor check, and one that moves is not."""
    _, profile, *_ = trained
    rng = np.random.default_rng(0)
    values, label = rng.normal(size=(600, 4)), np.zeros(600, np.int8)
    label[300:] = 1
    moving = bench.FaultTrial(0, "stuck", 0.0, values, label)
    stood = values.copy()
    stood[300:, 1] = stood[300, 1]
    assert bench.sensor_delay_s(profile, moving, np.ones(4, np.int64), 10.0) is None
    delay_s = bench.sensor_delay_s(profile, bench.FaultTrial(0, "stuck", 8.0, stood, label), np.ones(4, np.int64), 10.0)
    assert delay_s is not None and 0 < delay_s <= 3000
