"""False alarms under each budget: counted as a naive reader counts them, and beside what chance alone would give."""

import json
import math

import numpy as np
import pytest
from click.testing import CliRunner

from streamae.cli import main
from streamae.evaluation import budgets, protocol, report
from streamae.evaluation.metrics import DAY_S
from tests.evaluation.test_evaluation import write_series


def poisson(mean, n):
    """The law, by its formula."""
    return math.exp(n * math.log(mean) - mean - math.lgamma(n + 1))


@pytest.mark.parametrize("asked", [0.01, 0.5, 3.7, 24.0, 168.0, 4530.0])
def test_the_range_by_chance_is_poissons(asked):
    """At either end at most 2.5 % lie outside, and one count more inside would be too many."""
    low, high = budgets.by_chance(asked)
    below, above = (sum(poisson(asked, n) for n in part) for part in (range(low), range(high + 1, high + 900)))
    assert below <= 0.025 < below + poisson(asked, low)
    assert above <= 0.025 < above + poisson(asked, high)


def test_evaluate_counts_what_is_raised_at_each_budget(tmp_path):
    """Ours is judged under every budget from one run; its own, one a week, is the count of the headline."""
    t = np.arange(1500)
    rng = np.random.default_rng(0)
    values = np.c_[np.sin(t / 4), np.sin(t / 7)] + 0.2 * rng.standard_t(3, size=(1500, 2))
    label = (t >= 1200) & (t < 1220)
    values[label] += 20
    write_series(tmp_path / "set" / "a.csv.gz", values, label, times=[str(600 * i) for i in t])
    (tmp_path / "train.yaml").write_text("hidden: 4\nrecipe: {steps: 5}\n")
    options = ["-c", str(tmp_path / "train.yaml"), "--no-baselines", "--json", str(tmp_path / "runs.json")]
    said = CliRunner().invoke(main, ["evaluate", str(tmp_path / "set"), *options])
    assert said.exit_code == 0, said.output
    (run,) = json.loads((tmp_path / "runs.json").read_text())
    raised = {name: found["raised"] for name, found in run["budgets"].items()}
    assert raised["1/week"] == run["false_events"]
    assert raised["4/day"] > raised["1/week"], "a larger budget must raise more on noise that often strays"
    days = run["normal_rows"] * 600 / DAY_S
    assert run["budgets"]["4/day"]["asked"] == pytest.approx(4 * days)
    assert f"| 4/day | {4 * days:.1f} |" in said.output


def test_tables_give_each_seed_its_ratio_and_no_ratio_where_too_little_was_asked():
    """Sums over series, seed by seed; less than one alarm asked for says nothing."""

    def run(seed, raised):
        counts = {"1/day": {"raised": raised, "asked": 4.0}, "1/week": {"raised": 0, "asked": 0.2}}
        return seed, counts

    lines = budgets.table([run(0, 2), run(0, 4), run(1, 8), run(1, 10)])
    assert lines[0].endswith("| seed 0 | seed 1 |")
    assert lines[2] == "| 1/day | 16.0 | 9–24 | 24 | 1.50 | 0.75 | 2.25 |"
    assert lines[3] == "| 1/week | 0.8 | 0–3 | 0 | – | – | – |"
    older = (1, {"1/day": {"raised": 1, "asked": 4.0}})
    assert len(budgets.table([run(0, 2), older])) == 3, "a budget that some run was not judged under is left out"


def test_a_detector_without_budgets_has_no_such_table(tmp_path):
    """Peers ship one threshold; their report is silent about budgets."""
    path = write_series(tmp_path / "set" / "a.csv.gz", np.arange(200.0)[:, None] % 7, np.arange(200) == 150)
    runs = protocol.evaluate([path], {"m": lambda s, rows, seed: (s.values[:, 0], np.full(len(s), 5.0))})
    assert runs[0]["budgets"] == {}
    assert "budgets" not in report.markdown(runs)
