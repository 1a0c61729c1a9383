"""The measures against naive oracles and TSB-AD's own numbers, the protocol's promises, the baselines' causality."""

import gzip
import json
import math
import sys
from itertools import pairwise

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from streamae.cli import main
from streamae.errors import SeriesError
from streamae.evaluation import baselines as peers
from streamae.evaluation import metrics, plot, protocol, report


def naive_vus(label, score, window, thresholds=250):
    """The definition, recounted for every window and threshold."""
    n, events = len(label), metrics.runs(label)
    cuts = [np.sort(score)[::-1][i] for i in np.linspace(0, n - 1, thresholds).astype(int)]
    roc, pr = [], []
    for w in range(window + 1):
        soft = label.astype(float)
        for i in range(n):
            for a, b in events:
                d = a - i if i < a else i - b
                if 0 < d <= w // 2:
                    soft[i] += math.sqrt(1 - d / w)
        soft = np.minimum(soft, 1)
        spans = [[max(events[0][0] - w // 2, 0), events[0][1] + w // 2]]
        for a, b in events[1:]:
            if spans[-1][1] < a - w // 2:
                spans.append([a - w // 2, b + w // 2])
            else:
                spans[-1][1] = b + w // 2
        points, area = [(0.0, 0.0)], 0.0
        for cut in cuts:
            hit = score >= cut
            tp = float((soft * hit).sum())
            positives = (label.sum() + np.where(label, 1.0, soft * hit).sum()) / 2
            found = np.mean([hit[a : b + 1].any() for a, b in spans])
            points.append((min(tp / positives, 1) * found, (hit.sum() - tp) / (n - positives)))
            area += (points[-1][0] - points[-2][0]) * tp / hit.sum()
        points.append((1.0, 1.0))
        pr.append(area)
        roc.append(sum((q[1] - p[1]) * (q[0] + p[0]) / 2 for p, q in pairwise(points)))
    return np.mean(roc), np.mean(pr)


@st.composite
def scored(draw):
    """Labels with up to four events, scores with ties, and a VUS window."""
    n = draw(st.integers(30, 90))
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    label = np.zeros(n, bool)
    for _ in range(draw(st.integers(1, 4))):
        a = int(rng.integers(0, n - 1))
        label[a : a + int(rng.integers(1, 9))] = True
    score = np.round(rng.normal(size=n) + label, draw(st.integers(0, 6)))
    return label, score, draw(st.integers(0, 24))


@settings(max_examples=30, deadline=None)
@given(scored())
def test_vus_is_its_definition(case):
    """The vectorised volumes equal the definition recounted row by row, ties and touching events included."""
    label, score, window = case
    assert metrics.vus(label, score, window) == pytest.approx(naive_vus(label, score, window), abs=1e-9)


# seed, rows, window, VUS-ROC, VUS-PR: printed by TSB-AD 1.5 (generate_curve, version "opt", thre 250)
GOLDEN = [
    (1, 400, 20, 0.847766338103382, 0.3883839349187891),
    (2, 300, 41, 0.8758361337602901, 0.5644983031062671),
    (3, 500, 0, 0.7744117232633508, 0.29396468352990157),
]


@pytest.mark.parametrize(("seed", "n", "window", "roc", "pr"), GOLDEN)
def test_vus_equals_tsb_ad(seed, n, window, roc, pr):
    """VUS-ROC and VUS-PR are TSB-AD's to 1e-9."""
    rng, label = np.random.default_rng(seed), np.zeros(n, bool)
    label[30:60] = label[75:80] = label[n - 12 :] = True
    score = np.round(rng.normal(size=n) + label, 2)
    assert metrics.vus(label, score, window) == pytest.approx((roc, pr), abs=1e-9)


@settings(max_examples=50, deadline=None)
@given(scored())
def test_areas_are_scikit_learns(case):
    """AUC-ROC and average precision agree with scikit-learn's, ties included."""
    sk = pytest.importorskip("sklearn.metrics")
    label, score, _ = case
    assert metrics.auc_roc(label, score) == pytest.approx(sk.roc_auc_score(label, score), abs=1e-12)
    assert metrics.auc_pr(label, score) == pytest.approx(sk.average_precision_score(label, score), abs=1e-12)


@settings(max_examples=30, deadline=None)
@given(scored())
def test_areas_see_ranks_only(case):
    """A strictly increasing map of the score changes no area."""
    label, score, window = case
    assert metrics.vus(label, score, window) == pytest.approx(metrics.vus(label, np.exp(score), window), abs=1e-12)


def test_alarms_count_what_an_operator_sees():
    """Recall counts events, delay runs from an event's first row, and an alarm is false where its onset is normal."""
    label = np.array([0, 0, 0, 1, 1, 1, 0, 0, 0, 0, 1, 1, 0, 0], bool)
    above = np.array([1, 0, 0, 0, 0, 1, 1, 0, 1, 1, 0, 0, 0, 0], bool)
    a = metrics.alarms(label, above, row_s=8640.0)
    assert (a.events, a.detected, a.delay_rows, a.false_events, a.normal_rows) == (2, 1, 2.0, 2, 9)
    assert a.recall == 0.5
    assert a.false_per_1000 == pytest.approx(2000 / 9)
    assert a.normal_share == pytest.approx(4 / 9)
    assert a.false_per_day == pytest.approx(2 / 0.9)


def test_an_alarm_that_never_ends_is_a_false_alarm():
    """A detector in alarm from the first row on finds every event, at the price of one false alarm and every row."""
    label = np.zeros(50, bool)
    label[20:30] = True
    a = metrics.alarms(label, np.ones(50, bool))
    assert (a.recall, a.false_events, a.normal_share) == (1.0, 1, 1.0)


@pytest.mark.parametrize("period", [12, 48, 100])
def test_vus_window_is_the_period(period):
    """The window is the period of the channel, and 125 where there is none."""
    rng = np.random.default_rng(0)
    x = np.sin(2 * np.pi * np.arange(2000) / period) + 0.05 * rng.normal(size=2000)
    assert abs(metrics.vus_window(x) - period) <= 1
    assert metrics.vus_window(np.ones(500)) == 125
    assert metrics.vus_window(np.arange(500.0)) == 125


def write_series(path, values, label, times=None, meta=None):
    """Write one labelled series, gzipped, with its meta file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    names = ",".join(f"c{i}" for i in range(values.shape[1]))
    times = times or [str(i) for i in range(len(values))]
    lines = [f"timestamp,{names},label"]
    lines += [
        f"{t},{','.join('' if np.isnan(v) else repr(float(v)) for v in row)},{int(y)}"
        for t, row, y in zip(times, values, label, strict=True)
    ]
    with gzip.open(path, "wt") as f:
        f.write("\n".join(lines) + "\n")
    if meta is not None:
        path.with_name(path.name.replace(".csv.gz", ".meta.json")).write_text(json.dumps(meta))
    return path


@pytest.fixture
def folder(tmp_path):
    """Two series of a plant, each with one event."""
    rng = np.random.default_rng(1)
    for k in range(2):
        values = np.sin(np.arange(300)[:, None] / [5.0, 9.0]) + 0.1 * rng.normal(size=(300, 2))
        label = np.zeros(300, bool)
        label[220:240] = True
        values[220:240] += 3
        write_series(tmp_path / "plant" / f"s{k}.csv.gz", values, label, meta={"train_rows": 150})
    return tmp_path


def test_training_rows_come_from_the_meta_file_or_30_percent(tmp_path):
    """The meta file says how many rows train; without it 30 %; the caller overrides both."""
    values, label = np.zeros((100, 2)), np.zeros(100, bool)
    a = write_series(tmp_path / "d" / "a.csv.gz", values, label, meta={"train_rows": 40})
    b = write_series(tmp_path / "d" / "b.csv.gz", values, label)
    assert protocol.read_labelled(a).train_rows == 40
    assert protocol.read_labelled(b).train_rows == 30
    assert protocol.read_labelled(a, 7).train_rows == 7


def test_times_and_missing_values_are_read(tmp_path):
    """ISO times become seconds, a missing value repeats the last of its channel, the first one fills before it."""
    values = np.array([[np.nan, 1.0], [2.0, np.nan], [np.nan, 3.0], [5.0, 4.0]])
    times = [f"2024-01-01 00:0{i}:00" for i in range(4)]
    s = protocol.read_labelled(write_series(tmp_path / "d" / "a.csv.gz", values, np.zeros(4, bool), times), 2)
    assert s.row_s == 60.0
    assert s.values.tolist() == [[2.0, 1.0], [2.0, 1.0], [2.0, 3.0], [5.0, 4.0]]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("timestamp,a\n0,1\n", "expected timestamp"),
        ("timestamp,a,label\n0,x,0\n", "must be a number"),
        ("timestamp,a,label\n0,1,0\n1,1,0\n", "--train-rows"),
    ],
)
def test_a_wrong_series_is_refused(tmp_path, text, says):
    """A file that is no labelled series is refused with its name and what is wrong."""
    path = tmp_path / "x.csv"
    path.write_text(text)
    with pytest.raises(SeriesError, match=says):
        protocol.read_labelled(path)


def test_a_detector_never_sees_a_label(folder):
    """The labels are blanked before a detector is called, and training rows are not measured."""
    seen = []

    def spy(series, train_rows, seed):
        seen.append(series.label.any())
        score = np.where(np.arange(len(series)) < train_rows, 1e9, np.arange(len(series)))
        return score, np.full(len(series), 1e8)

    r = protocol.score_once(protocol.read_labelled(protocol.find_series(folder)[0]), "spy", spy, 0)
    assert seen == [False]
    assert r["false_events"] == 0
    assert r["normal_rows"] == 130


def test_an_evaluation_resumes(folder, tmp_path):
    """Runs that the results file holds are not repeated; a torn last line is run again; figures stay the same."""
    calls, results = [], tmp_path / "runs.jsonl"

    def detect(series, train_rows, seed):
        calls.append((series.name, seed))
        score = np.abs(series.values).sum(axis=1) + seed
        return score, peers.train_max_threshold(score, train_rows)

    paths = protocol.find_series(folder)
    first = protocol.evaluate(paths, {"m": detect}, seeds=(0, 1), results=results)
    assert len(calls) == 4
    results.write_text(results.read_text()[:-20])
    again = protocol.evaluate(paths, {"m": detect}, seeds=(0, 1), results=results)
    assert len(calls) == 5
    assert [{**a, "wall_s": 0} for a in first] == [{**b, "wall_s": 0} for b in again]
    assert len(results.read_text().splitlines()) == 4


def test_the_report_holds_every_method_and_the_floor(folder, tmp_path):
    """Tables name every method and data set, JSON is valid, and the spread is that of the seeds' means."""
    chosen = {k: v for k, v in peers.baselines().items() if k in ("random", "raw |z|", "PCA residual")}
    runs = protocol.evaluate(protocol.find_series(folder), chosen, seeds=(0, 1), seeded=peers.SEEDED)
    assert len(runs) == 2 * (2 + 1 + 1)
    report.write_report(runs, tmp_path / "out", settings={"seeds": [0, 1]})
    text = (tmp_path / "out" / "report.md").read_text()
    assert all(m.replace("|", "\\|") in text for m in chosen)
    whole = json.loads((tmp_path / "out" / "report.json").read_text())
    figures = whole["summary"]["plant"]
    means = [np.mean([r["vus_pr"] for r in runs if r["method"] == "random" and r["seed"] == s]) for s in (0, 1)]
    assert figures["random"]["spread"] == pytest.approx(np.std(means))
    assert figures["PCA residual"]["vus_pr"] > figures["random"]["vus_pr"] + 0.3


def test_the_headline_says_how_far_ours_is_from_the_best_other(folder, tmp_path, monkeypatch):
    """The first method's margin, set by set and over all; `--update` puts these tables between the markers."""

    def run(dataset, method, seed, vus_pr):
        areas = dict.fromkeys(("vus_pr", "vus_roc", "auc_pr", "auc_roc"), vus_pr)
        counts = {"events": 4, "detected": 3, "false_events": 5, "normal_rows": 1000, "normal_days": 1.0}
        rest = {"delay_rows": 1.0, "normal_share": 0.1, "wall_s": 1.0}
        return {"dataset": dataset, "series": "s", "method": method, "seed": seed} | areas | counts | rest

    runs = [run("a", "ours", s, 0.5 + 0.1 * s) for s in (0, 1)] + [run("b", "ours", 0, 0.3)]
    runs += [run("a", "raw |z|", 0, 0.4), run("b", "raw |z|", 0, 0.2), run("a", "k", 0, 0.2), run("b", "k", 0, 0.7)]
    text = report.headline(runs)
    assert "| ours | 0.550 ±0.050 | 0.300 | 0.425 |" in text
    assert "| ours minus the best other | +0.150 | -0.400 | -0.025 |" in text
    assert "| raw \\|z\\| | 0.750 | 5.000 | 0.750 | 5.000 |" in text
    monkeypatch.setattr("streamae.evaluation.run.evaluate_series", lambda *paths, **options: ("all tables", runs))
    page = tmp_path / "quality.md"
    page.write_text("# T\n<!-- begin quality -->\n<!-- end quality -->\n")
    said = CliRunner().invoke(main, ["evaluate", str(folder), "--update", str(page)])
    assert said.exit_code == 0, said.output
    assert page.read_text() == f"# T\n<!-- begin quality -->\n{text.strip()}\n<!-- end quality -->\n"


def test_finished_tabulates_what_stands_and_runs_nothing(folder, tmp_path):
    """Of the series named, without a line that is still being written, which stays; nothing there is an error."""
    results = tmp_path / "runs.jsonl"
    protocol.evaluate(protocol.find_series(folder), {"raw |z|": peers.baselines()["raw |z|"]}, results=results)
    results.write_text(results.read_text() + '{"being wri')
    before = results.read_text()
    options = ["--results", str(results), "--finished", "--json", str(tmp_path / "runs.json")]
    said = CliRunner().invoke(main, ["evaluate", str(folder / "plant" / "s1.csv.gz"), *options])
    assert said.exit_code == 0, said.output
    assert [run["series"] for run in json.loads((tmp_path / "runs.json").read_text())] == ["s1"]
    assert results.read_text() == before
    results.unlink()
    said = CliRunner().invoke(main, ["evaluate", str(folder), *options])
    assert said.exit_code == 78
    assert "leave --finished out" in said.output


@pytest.mark.parametrize("method", [m for m in peers.baselines() if m != "random"])
def test_baselines_are_causal_and_repeatable(method, monkeypatch):
    """The score of row t does not change with later rows, the same seed gives the same score, and a jump is found."""
    monkeypatch.setattr(peers, "NETWORK_STEPS", 20)
    rng = np.random.default_rng(2)
    values = np.sin(np.arange(260)[:, None] / [4.0, 7.0]) + 0.05 * rng.normal(size=(260, 2))
    label, times = np.zeros(260, bool), np.arange(260.0)
    values[200:230] += 4

    def series(v):
        return protocol.LabelledSeries("s", "d", ("a", "b"), times[: len(v)], v, label[: len(v)], 150)

    detect = peers.baselines()[method]
    score, threshold, _ = detect(series(values), 150, 0)
    cut = detect(series(values[:215]), 150, 0).score
    np.testing.assert_allclose(cut, score[:215], rtol=1e-4, atol=1e-6)
    assert np.all(threshold == threshold[0])
    assert np.median(score[203:215]) > np.median(score[150:200])


def test_a_plot_is_drawn(folder, tmp_path):
    """A picture of a series, its score, threshold and labels is written as PNG, without a display."""
    pytest.importorskip("matplotlib")
    series = protocol.read_labelled(protocol.find_series(folder)[0])
    score, threshold, _ = peers.baselines()["raw |z|"](series, series.train_rows, 0)
    plot.plot_series(series, score, threshold, tmp_path / "a.png", reconstruction=series.values * 0.9)
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


def test_evaluate_draws_a_picture_of_each_of_our_runs(tmp_path, monkeypatch):
    """`--plots` writes a PNG for each series and seed, with the reconstruction in the series' own units."""
    pytest.importorskip("matplotlib")
    drawn = []

    def draw(*given, **named):
        drawn.append((given[0], named["reconstruction"]))
        plot.plot_series(*given, **named)

    monkeypatch.setattr("streamae.evaluation.run.plot_series", draw)
    t = np.arange(600)
    values = np.c_[1000 + 5 * np.sin(t / 4), np.sin(t / 7)] + 0.05 * np.random.default_rng(0).normal(size=(600, 2))
    label = (t >= 500) & (t < 520)
    values[label] += 20
    write_series(tmp_path / "set" / "a.csv.gz", values, label)
    (tmp_path / "train.yaml").write_text("hidden: 4\nrecipe: {steps: 30}\n")
    options = ["-c", str(tmp_path / "train.yaml"), "--no-baselines", "--plots", str(tmp_path / "plots")]
    said = CliRunner().invoke(main, ["evaluate", str(tmp_path / "set"), *options])
    assert said.exit_code == 0, said.output
    assert [path.name for path in (tmp_path / "plots").iterdir()] == ["set-a-seed0.png"]
    ((series, rebuilt),) = drawn
    assert series.label.sum() == 20  # the picture shows the labels, which the detector did not see
    known = np.isfinite(rebuilt).all(axis=1) & ~label
    assert known.mean() > 0.5
    assert np.all(np.median(np.abs(rebuilt - values)[known], axis=0) < 2 * values[~label].std(axis=0))


def test_plots_without_matplotlib_say_what_to_install(folder, tmp_path, monkeypatch):
    """And they say so before the first run, not after it."""
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    said = CliRunner().invoke(main, ["evaluate", str(folder), "--plots", str(tmp_path / "plots")])
    assert said.exit_code == 78
    assert "pip install 'streamae[evaluate]'" in said.output
