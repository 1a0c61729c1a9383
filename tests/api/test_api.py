"""The contract of `import streamae`: scores of the daemon to the bit, its checks of a model file, clear errors."""

import csv
import json
import math
import re
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

import streamae
from streamae.cli import main
from streamae.core.alert import AlertRule
from streamae.core.decode import PayloadSpec
from streamae.core.groups import Groups
from streamae.core.topics import Template
from streamae.core.types import Batch
from streamae.daemon.page.detail import overlay
from streamae.model.artifact import open_artifact
from streamae.training.backtest import offline_group, score_series
from streamae.training.train import TrainConfig
from tests.models import FAULT_ROWS, TRAIN_ROWS, quick

ROWS = slice(940, 1120)  # the fault and what follows it, after a window of what is normal
NEW = "a-pump-never-met"


@pytest.fixture(scope="module")
def artifact(trained):
    return open_artifact(trained.path, None, trained.registry)


@pytest.fixture(scope="module")
def opened(trained):
    return streamae.load(trained.path, registry=trained.registry, for_s=3.0, keep_firing_for_s=20.0)


@pytest.fixture
def detector(opened):
    opened.reset()
    return opened


@pytest.fixture(scope="module")
def pump(trained):
    """The first pump's name, times and values where the fault is, with a value missing here and there."""
    series = streamae.Series.read(trained.series[0])
    values = series.values[ROWS].copy()
    values[[3, 90, 91], [0, 1, 2]] = np.nan
    values[120, 3] = np.inf
    return series.name, series.time_s[ROWS], values


def columns(scores):
    return {name: getattr(scores, name) for name in ("time_s", "score", "threshold", "state", "share")}


def same(one, other):
    for name, column in columns(one).items():
        equal_nan = column.dtype.kind == "f"
        assert np.array_equal(column, getattr(other, name), equal_nan=equal_nan), name


def key(transition):
    return transition.stream, transition.sequence, transition.state, transition.severity, transition.onset_s, (
        transition.time_s, transition.score, transition.threshold, transition.shares, transition.peak_score
    )  # fmt: skip


@pytest.fixture(scope="module")
def whole(opened, pump):
    opened.reset()
    name, time_s, values = pump
    scores = opened.score(values, time_s, name)
    assert {"learning", "inactive", "pending", "firing"} == set(scores.state.tolist())
    assert [t.state for t in scores.transitions][:1] == ["firing"]
    return scores


@settings(max_examples=25)
@given(cuts=st.sets(st.integers(1, ROWS.stop - ROWS.start - 1), max_size=12))
def test_portions_of_any_size_give_the_same_scores(opened, whole, pump, cuts):
    """Rows in one call or in many are scored the same to the bit: times, scores, thresholds, states, shares, alerts."""
    name, time_s, values = pump
    opened.reset()
    ends = [0, *sorted(cuts), len(time_s)]
    parts = [opened.score(values[a:b], time_s[a:b], name) for a, b in zip(ends, ends[1:], strict=False)]
    for column in columns(whole):
        joined, wanted = np.concatenate([getattr(part, column) for part in parts]), getattr(whole, column)
        assert np.array_equal(joined, wanted, equal_nan=joined.dtype.kind == "f"), column
    assert [t for part in parts for t in part.transitions] == list(whole.transitions)


def test_long_series_are_scored_in_steps(detector, whole, pump, monkeypatch):
    """The steps that bound the memory of a long call cannot be seen: lines and alerts are those of one step."""
    monkeypatch.setattr("streamae.training.backtest._ROWS_PER_STEP", 16)
    name, time_s, values = pump
    scores = detector.score(values, time_s, name)
    same(scores, whole)
    assert scores.transitions == whole.transitions


def test_row_by_row_is_the_same_as_in_bulk(detector, whole, pump):
    """One row a call, as a plain list, gives each row's own line of the bulk: values, state, shares."""
    name, time_s, values = pump
    for n, (row, now_s) in enumerate(zip(values.tolist(), time_s.tolist(), strict=True)):
        (found,) = detector.score(row, now_s, name)
        wanted = whole[n]
        assert (found.time_s, found.state, found.shares) == (wanted.time_s, wanted.state, wanted.shares)
        assert np.array_equal([found.score, found.threshold], [wanted.score, wanted.threshold], equal_nan=True)
    assert math.isclose(sum(whole[-1].shares.values()), 1.0, abs_tol=1e-5)
    assert whole[0].shares == {}


@pytest.mark.parametrize("name", ["pump", NEW])
def test_scores_are_those_of_the_verb(trained, tmp_path, name):
    """A whole file scores as `streamae score` writes it, letter by letter, for a known stream and for a new one."""
    file = trained.series[0]
    if name == NEW:
        (tmp_path / f"{NEW}.csv").write_bytes(file.read_bytes())
        file = tmp_path / f"{NEW}.csv"
    out = tmp_path / "scores.csv"
    arguments = ["score", trained.path, file, "-o", out, "--registry", trained.registry]
    assert CliRunner().invoke(main, [str(a) for a in arguments]).exit_code == 0
    scores = streamae.load(trained.path, registry=trained.registry).score(streamae.Series.read(file))
    with out.open() as opened:
        lines = list(csv.DictReader(opened))
    assert len(lines) == len(scores)
    shown = [["" if math.isnan(x) else repr(x) for x in (row.score, row.threshold)] + [row.state] for row in scores]
    assert shown == [[line["score"], line["threshold"], line["state"]] for line in lines]
    assert any(state == "inactive" for *_, state in shown)


def test_scores_are_those_of_a_backtest(detector, artifact, pump):
    """Columns and transitions are those of `training.backtest`, alert ids too; another alert rule would be seen."""
    name, time_s, values = pump
    series = streamae.Series.of(name, artifact.profile.channels, time_s, values)
    wanted = score_series(series, offline_group(artifact.profile, artifact.reconstructor, AlertRule(3.0, 20.0)))
    found = detector.score(values, time_s, name)
    assert np.array_equal(found.score, wanted.score, equal_nan=True)
    assert list(found.transitions) == list(wanted.transitions)
    other = score_series(series, offline_group(artifact.profile, artifact.reconstructor, AlertRule()))
    assert [t.time_s for t in other.transitions] != [t.time_s for t in found.transitions]


@settings(max_examples=10)
@given(cuts=st.sets(st.integers(1, 2 * (ROWS.stop - ROWS.start) - 1), max_size=6))
def test_scores_are_those_of_the_daemon(trained, opened, artifact, cuts):
    """Two streams as MQTT messages, in any batches, through the daemon's core: each verdict is the detector's line."""
    series = [streamae.Series.read(path) for path in trained.series[:2]]
    rows = [
        (one.name, now_s, row)
        for now_s, *both in zip(series[0].time_s[ROWS], *(s.values[ROWS].tolist() for s in series), strict=True)
        for one, row in zip(series, both, strict=True)
    ]
    rows[100] = (*rows[100][:2], [*rows[100][2][:3], None])
    said = [json.dumps({"t": t, **dict(zip(artifact.profile.channels, row, strict=True))}) for _, t, row in rows]
    offline = offline_group(artifact.profile, artifact.reconstructor, AlertRule(3.0, 20.0))
    group = replace(offline, templates=[Template.parse("plant/{stream}")], payloads=[PayloadSpec("json", time="t")])
    daemon, ends, verdicts, expected = Groups("plant", [group]), [0, *sorted(cuts), len(rows)], {}, []
    for a, b in zip(ends, ends[1:], strict=False):
        arrival_s = np.array([t for _, t, _ in rows[a:b]])
        topics, payloads = [f"plant/{n}".encode() for n, _, _ in rows[a:b]], [x.encode() for x in said[a:b]]
        report = daemon.step(Batch(topics, payloads, arrival_s), float(arrival_s[-1]))
        v, names = report.groups["series"].verdicts, daemon.pipelines["series"].streams.names
        lines = zip(v.stream.tolist(), v.time_s.tolist(), v.score.tolist(), v.threshold.tolist(), v.share, strict=True)
        verdicts |= {(names[s], t): (score, limit, share.tolist()) for s, t, score, limit, share in lines}
        expected += [t for t in report.transitions if t.rule == "anomaly"]
    opened.reset()
    found, mine = {}, []
    for name, now_s, row in rows:
        scores = opened.score([math.nan if x is None else x for x in row], now_s, name)
        mine += scores.transitions
        if not math.isnan(scores.score[0]):
            found[name, now_s] = scores[0].score, scores[0].threshold, scores.share[0].tolist()
    assert found == verdicts
    assert len(found) > 200
    assert list(map(key, mine)) == list(map(key, expected))
    assert mine


def test_streams_know_nothing_of_each_other(detector, whole, pump):
    """A second stream between the rows of the first changes nothing for it; each has its own time and threshold."""
    name, time_s, values = pump
    parts = []
    for n in range(0, len(time_s), 30):
        parts.append(detector.score(values[n : n + 30], time_s[n : n + 30], name))
        detector.score(values[n : n + 30] + 1.0, stream=NEW)
    assert np.array_equal(np.concatenate([p.score for p in parts]), whole.score, equal_nan=True)
    assert detector.threshold(name) == whole.threshold[-1]
    assert math.isnan(detector.threshold(NEW))


def test_a_new_stream_learns_first_and_says_so(detector, trained):
    """A stream that training did not see is `learning` for the warm-up, a window and its level; then it is judged."""
    series = streamae.Series.read(trained.series[1])
    scores = detector.score(series.values, series.time_s, NEW)
    first = int(np.flatnonzero(np.isfinite(scores.score))[0])
    assert first >= detector.warmup_rows + detector.window - 1
    assert set(scores.state[:first].tolist()) == {"learning"}
    assert np.isnan(scores.threshold[:first]).all()
    assert np.array_equal(np.isnan(scores.share).any(axis=1), np.isnan(scores.score))
    detector.reset()
    detector.score(series.values[:first], series.time_s[:first], NEW)  # its windows teach its level, and have no score
    assert math.isnan(detector.threshold(NEW))
    assert scores.state[first] == "inactive"
    assert series.name in detector.streams
    assert NEW not in detector.streams


def test_without_times_rows_lie_a_period_apart(detector, pump):
    """`time_s=None`: the first row is at 0 s, each further one a period later, in any calls, also after times."""
    name, time_s, values = pump
    scores = detector.score(values[:5], stream=name)
    assert scores.time_s.tolist() == [n * detector.period_s for n in range(5)]
    assert detector.score(values[5], stream=name).time_s.tolist() == [5 * detector.period_s]
    detector.score(values[6], time_s[6], name)
    assert detector.score(values[7], stream=name).time_s.tolist() == [time_s[6] + detector.period_s]


def test_a_model_that_reads_the_clock_wants_times(trained, tmp_path):
    """A model with the time of day among its inputs refuses rows without times, in place of inventing an hour."""
    series = streamae.Series.read(trained.series[0])
    config = quick(20, calendar="on", context_inputs="on")
    detector = streamae.train(series, rows=400, config=config)
    assert detector._artifact.profile.calendar is not None
    with pytest.raises(streamae.SeriesError, match=r"time_s: got None.*time of day.*seconds since 1970"):
        detector.score(series.values[0])
    assert detector.score(series.values[0], 0.0).time_s.tolist() == [0.0]


BAD = {
    "too few values": (([1.0, 2.0], 0.0, NEW), r"values: got the shape \[2\]; give one row \[4\].*pressure, flow"),
    "too many dimensions": ((np.zeros((1, 1, 4)), 0.0, NEW), r"values: got the shape \[1, 1, 4\]"),
    "ragged rows": (([[1.0, 2.0], [1.0]], [0.0, 1.0], NEW), "values: got rows of different lengths"),
    "None for NaN": (([1.0, 2.0, 3.0, None], 0.0, NEW), r"values: got \[1.0, .* of type object; give numbers, NaN"),
    "text": ((["1", "2", "3", "4"], 0.0, NEW), r"values: got .*of type <U1; give numbers"),
    "truth values": ((np.ones((1, 4), np.bool_), 0.0, NEW), "values: got .*of type bool; give numbers"),
    "too few times": ((np.zeros((3, 4)), [0.0, 1.0], NEW), r"time_s: got the shape \[2\]; give a time for each row.*3"),
    "time as text": ((np.zeros(4), "2024-05-01", NEW), "time_s: got '2024-05-01', of type <U10; give numbers"),
    "time is NaN": ((np.zeros(4), math.nan, NEW), "time_s: got nan in row 0; give finite seconds"),
    "milliseconds": ((np.zeros(4), 1.7e12, NEW), r"time_s: got 1700000000000.0 in row 0.*divide milliseconds by 1000"),
    "back within": ((np.zeros((3, 4)), [0.0, 2.0, 1.0], NEW), f"time_s: got 1.0 in row 2, after 2.0 of {NEW}.*sort"),
    "twice": ((np.zeros((2, 4)), [0.0, 0.0], NEW), f"time_s: got 0.0 in row 1, after 0.0 of {NEW}"),
    "no stream": ((np.zeros(4), 0.0, None), r"stream: got None; the model was trained on 3 streams \(.*name one"),
    "stream is empty": ((np.zeros(4), 0.0, ""), "stream: got ''"),
}  # fmt: skip


@pytest.mark.parametrize("what", BAD)
def test_what_is_no_row_of_the_model_is_refused_whole(detector, what):
    """The error is of streamae's tree, names key and value and says what to do; no row of the call was taken."""
    arguments, words = BAD[what]
    with pytest.raises(streamae.SeriesError, match=words):
        detector.score(*arguments)
    with pytest.raises(streamae.SeriesError, match=f"stream: got '{NEW}', of which there was no complete row"):
        detector.threshold(NEW)
    assert len(detector.score(np.zeros((2, 4)), [-2.0, -1.0], NEW)) == 2


def test_time_goes_forward_from_call_to_call(detector, pump):
    """A row at or before the newest of its stream is refused, also where that one lacked a value; `reset` forgets."""
    name, time_s, values = pump
    detector.score(values[:4], time_s[:4], name)  # the last one has a NaN
    with pytest.raises(streamae.SeriesError, match=r"in row 0, after .*leave out what was given before, or reset\(\)"):
        detector.score(values[3], time_s[3], name)
    detector.score(values[4], time_s[4], name)
    detector.reset()
    detector.score(values[3], time_s[3], name)


def test_one_channel_wants_a_column(trained):
    """Several values for a model of one channel may be meant as rows: the error says how to write that."""
    first = streamae.Series.read(trained.series[0])
    series = streamae.Series.of("flow", ["flow"], first.time_s, first.values[:, 1:2])
    detector = streamae.train(series, rows=300, config=quick(5))
    assert (detector.channels, detector.streams) == (("flow",), ("flow",))
    with pytest.raises(streamae.SeriesError, match=r"values: got the shape \[5\].*5 rows as \[5, 1\]: flow"):
        detector.score(series.values[:5, 0])
    assert len(detector.score(series.values[:5])) == 5


def test_a_series_finds_its_columns_by_name(detector, trained):
    """Columns in another order, or more of them, change nothing; one that is missing is named."""
    series = streamae.Series.read(trained.series[0])
    wanted = detector.score(series)
    detector.reset()
    turned = np.column_stack([np.zeros(len(series)), series.values[:, ::-1]])
    same(
        detector.score(streamae.Series.of(series.name, ["other", *series.channels[::-1]], series.time_s, turned)),
        wanted,
    )
    less = streamae.Series.of(series.name, series.channels[1:], series.time_s, series.values[:, 1:])
    with pytest.raises(streamae.SeriesError, match="lacks the model's channel pressure"):
        detector.score(less)


def test_a_file_is_opened_after_the_checks_of_the_daemon(trained, tmp_path):
    """Pinned or registered files open; one of another digest, one that nobody vouches for and none at all do not."""
    nobody = tmp_path / "models.json"
    assert streamae.load(str(trained.path), trained.sha256, registry=nobody).digest == trained.sha256
    with pytest.raises(streamae.ArtifactError, match=f"its SHA-256 is {trained.sha256}, but 0000"):
        streamae.load(trained.path, "0" * 64, registry=trained.registry)
    with pytest.raises(streamae.ArtifactError, match="was not trained by this installation"):
        streamae.load(trained.path, registry=nobody)
    with pytest.raises(streamae.ArtifactError, match="there is no such model file"):
        streamae.load(tmp_path / "none.pt")


def test_alert_settings_are_those_of_a_group(trained, pump):
    """`for_s` delays an alert, `keep_firing_for_s` its end, a budget moves thresholds; nonsense is refused by name."""
    name, time_s, values = pump

    def play(**options):
        return streamae.load(trained.path, registry=trained.registry, **options).score(values, time_s, name)

    fired, later = (play(for_s=for_s).transitions[0] for for_s in (0.0, 5.0))
    assert (fired.state, later.state) == ("firing", "firing")
    assert later.time_s >= fired.time_s + 5.0
    short, long = (play(keep_firing_for_s=s).transitions for s in (0.0, 1000.0))
    assert "resolved" in {t.state for t in short}
    assert "resolved" not in {t.state for t in long}
    assert not np.array_equal(play(false_alarms_per_s=0.5).threshold, play().threshold, equal_nan=True)
    wrong = {"for_s": -1.0, "keep_firing_for_s": math.inf, "critical_ratio": 1.0, "false_alarms_per_s": 0.0}
    for setting, value in {**wrong, "for_s": "5s"}.items():
        with pytest.raises(streamae.ConfigError, match=f"^{setting}: got {value!r}; give a number"):
            streamae.load(trained.path, registry=trained.registry, **{setting: value})


def test_a_reconstruction_is_of_the_newest_window(detector, pump, trained):
    """It has the rows' own values at their times, and tells the drifting channel; it wants a full window."""
    name, time_s, values = pump
    with pytest.raises(streamae.SeriesError, match=r"stream: got '.*no complete row; there were rows of none"):
        detector.reconstruct(name)
    detector.score(values[:2], time_s[:2], name)
    with pytest.raises(streamae.SeriesError, match=f"holds 2 of {detector.window} rows; give more rows"):
        detector.reconstruct(name)
    until = FAULT_ROWS[1] - ROWS.start
    detector.score(values[2:until], time_s[2:until], name)
    found = detector.reconstruct(name)
    assert found.channels == detector.channels
    at = np.searchsorted(time_s, found.time_s)
    assert np.allclose(found.values, values[at], rtol=1e-5)
    assert np.all(np.abs(found.time_s - time_s[at]) < 0.01)
    rows_s, scaled = detector._pipeline.rings.latest(0)
    shown, _ = overlay(detector._group.reconstructor, rows_s, scaled, detector.window, detector.gap_max_s)
    laid = ~np.isnan(shown).any(axis=1)  # as the page lays it over the rows
    assert np.array_equal(found.time_s, rows_s[laid])
    assert np.array_equal(found.reconstruction, detector._pipeline.scale.raw(0, shown[laid]))
    apart = np.abs(found.values - found.reconstruction).mean(axis=0) / np.nanstd(values[:50], axis=0)
    assert found.channels[int(apart.argmax())] == "pressure"


def test_train_is_the_verb(trained, tmp_path):
    """`train` with `out` writes the model that the verb writes of the same files, and this installation trusts it."""
    files, settings_file = trained.series[:2], tmp_path / "train.yaml"
    settings_file.write_text("hidden: 4\nrecipe: {steps: 10}\n")
    mine, registry = tmp_path / "api" / "pumps.pt", tmp_path / "models.json"
    mine.parent.mkdir()
    detector = streamae.train(files, mine, rows=300, seed=3, config=settings_file, registry=registry)
    verbs = tmp_path / "verb.pt"
    arguments = ["train", *files, "-o", verbs, "--rows", 300, "--seed", 3, "-c", settings_file, "--registry", registry]
    assert CliRunner().invoke(main, [str(a) for a in arguments]).exit_code == 0
    series = [streamae.Series.read(file) for file in files]
    config = {"hidden": 4, "recipe": {"steps": 10}}
    others = [
        streamae.load(mine, registry=registry),
        streamae.load(verbs, registry=registry),
        streamae.train([series[0], files[1]], rows=300, seed=3, config=config),  # not written anywhere
    ]
    wanted = detector.score(series[0])
    for other in others:
        assert other.streams == tuple(file.stem for file in files)
        same(other.score(series[0]), wanted)
    another = streamae.train(series, rows=300, seed=4, config=config).score(series[0])
    assert not np.array_equal(another.score, wanted.score, equal_nan=True)


def test_bad_trainings_say_why(trained, tmp_path):
    """What cannot be trained is an error of streamae's tree, before anything is written."""
    series, out = streamae.Series.read(trained.series[0]), tmp_path / "pumps.pt"
    for arguments, error, words in (
        ({"series": []}, streamae.SeriesError, "nothing to train on"),
        ({"series": tmp_path / "none.csv"}, streamae.SeriesError, "cannot be read"),
        ({"series": series, "rows": 0}, streamae.ConfigError, "rows: got 0; give at least 1"),
        ({"series": series, "config": {"hiden": 4}}, streamae.ConfigError, "hiden: got an unknown key"),
        ({"series": series, "config": {"hidden": "x"}}, streamae.ConfigError, "hidden: got 'x'"),
        ({"series": series, "config": {"sources": []}}, streamae.ConfigError, "sources: .*train.yaml"),
        ({"series": [series, series]}, streamae.SeriesError, "give the stream name"),
    ):
        with pytest.raises(error, match=words):
            streamae.train(out=out, **arguments)
    assert not out.exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("p", "flow", [0.0], [[1.0]]), "channels: got 'flow'; give each column.*in a list"),
        (("p", ["a", "a"], [0.0], [[1.0, 2.0]]), r"channels: got \['a', 'a'\]"),
        (("p", ["a", "b"], [0.0], [[1.0]]), r"values: got the shape \[1, 1\]; give \[N, 2\]"),
        (("p", ["a"], [0.0, 1.0], [[1.0]]), r"time_s: got the shape \[2\]; give a finite time for each of 1 rows"),
        (("p", ["a"], [math.nan], [[1.0]]), "time_s: .*finite time"),
        (("p", ["a"], [0.0], [["x"]]), r"values: got \[\['x'\]\], of type <U1; give numbers"),
    ],
)
def test_a_series_of_arrays_is_checked(arguments, words):
    """Arrays that do not make a series are refused with key, value and remedy."""
    with pytest.raises(streamae.SeriesError, match=words):
        streamae.Series.of(*arguments)


def test_a_series_of_arrays_is_that_of_a_file(trained):
    """`Series.of` with a file's numbers is what `Series.read` gives: infinities are missing values in both."""
    read = streamae.Series.read(trained.series[0])
    assert len(read) > TRAIN_ROWS
    values = read.values.copy()
    values[5, 1] = math.inf
    made = streamae.Series.of(read.name, list(read.channels), read.time_s.tolist(), values)
    assert (made.name, made.channels, made.time_text) == (read.name, read.channels, read.time_text)
    assert np.isnan(made.values[5, 1])
    made.values[5, 1] = read.values[5, 1]
    assert np.array_equal(made.values, read.values)
    assert np.isinf(values[5, 1])  # the caller's own array is left alone


def test_a_model_that_judges_nothing_is_an_error(detector, pump, monkeypatch):
    """Where the model raises on every window, `score` raises too: rows without scores would look like a warm-up."""

    class Broken:
        def errors(self, windows):
            raise RuntimeError("out of order")

    name, time_s, values = pump
    monkeypatch.setattr(detector, "_group", replace(detector._group, reconstructor=Broken()))
    detector.reset()
    with pytest.raises(streamae.ArtifactError, match=r"judges nothing \(RuntimeError: out of order\)"):
        detector.score(values, time_s, name)


def test_rows_on_which_the_model_fails_are_notified(detector, pump, monkeypatch):
    """Where the model fails on some windows only, their rows have no score, and `notices` say why."""
    model = detector._group.reconstructor

    class Fails:
        def errors(self, windows):
            if windows.any():
                raise RuntimeError("out of order")
            return model.errors(windows)

    name, time_s, values = pump
    monkeypatch.setattr(detector, "_group", replace(detector._group, reconstructor=Fails()))
    detector.reset()
    scores = detector.score(values, time_s, name)
    assert np.isnan(scores.score).all()
    assert len(scores.notices) == 1
    assert re.search(rf"{name}: in quarantine.*out of order", scores.notices[0])


def test_a_detector_has_room_for_so_many_streams(detector, monkeypatch):
    """A stream beyond the group's bound is refused by name, and takes nobody's place; those that are there go on."""
    monkeypatch.setattr(detector, "_group", replace(detector._group, max_streams=2))
    detector.reset()
    for name in ("a", "b"):
        detector.score(np.ones(4), 0.0, name)
    with pytest.raises(streamae.SeriesError, match="stream: got 'c', one more than 2; load a second detector"):
        detector.score(np.ones(4), 0.0, "c")
    assert len(detector.score(np.ones(4), 1.0, "a")) == 1


def test_what_was_answered_is_the_callers(detector, pump):
    """A caller who goes on writing into the arrays that he gave changes neither answer nor windows."""
    name, time_s, values = pump
    given_s, given = time_s.copy(), values.copy()
    scores = detector.score(given, given_s, name)
    given_s[:], given[:] = 0.0, 0.0
    assert np.array_equal(scores.time_s, time_s)
    with pytest.raises(streamae.SeriesError, match=f"after {float(time_s[-1])!r} of {name}"):
        detector.score(values[-1], time_s[-1], name)


def test_the_public_names_are_these():
    """`streamae` offers exactly the API, and says no to others as any module does."""
    errors = {"ArtifactError", "ConfigError", "SeriesError", "StreamaeError", "UnavailableError"}
    assert set(streamae.__all__) == {"Detector", "Series", "__version__", "load", "train", *errors}
    assert set(streamae.__all__) <= set(dir(streamae))
    assert all(issubclass(getattr(streamae, name), streamae.StreamaeError) for name in errors)
    assert not hasattr(streamae, "scoer")
    assert TrainConfig.__name__ not in dir(streamae)


@pytest.mark.parametrize(
    ("more", "torch", "numpy"),
    [("", False, False), ("streamae.Series", False, True), ("streamae.train([])", True, True)],
)
def test_an_import_loads_what_is_asked_for(more, torch, numpy):
    """`import streamae` loads neither torch nor NumPy; a name loads its home, and work with models loads torch."""
    show = "print('torch' in sys.modules, 'numpy' in sys.modules)"
    script = f"import sys, streamae\ntry:\n    {more or 'pass'}\nexcept streamae.SeriesError: pass\n{show}"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(torch), str(numpy)]
