"""The contract of the verbs train, score and inspect: causal, one line a row, and what the daemon's core would say."""

import csv
import json
import random

import numpy as np
import pytest
from click.testing import CliRunner

from streamae.cli import main
from streamae.core.alert import AlertRule
from streamae.core.types import AlertState
from streamae.errors import SeriesError
from streamae.history.series import Series, read_series
from streamae.model.artifact import open_artifact
from streamae.training.backtest import offline_group, score_series
from tests.models import FAULT_ROWS, write_pumps

SETTINGS = "hidden: 4\nrecipe: {steps: 20}\n"


@pytest.fixture(scope="module")
def model(trained):
    return open_artifact(trained.path, None, trained.registry)


def scored(model, series, **options):
    return score_series(series, offline_group(model.profile, model.reconstructor, AlertRule(), **options))


def part(series, rows, name=None):
    return Series(
        name or series.name, series.channels, series.time_s[rows], list(np.array(series.time_text)[rows]),
        series.values[rows],
    )  # fmt: skip


@pytest.mark.parametrize("name", [None, "a-pump-never-met"])
def test_the_score_of_a_row_knows_nothing_of_the_rows_behind_it(trained, model, name):
    """A file cut after row t scores as the first t rows of the whole, to the bit, at 20 random cuts; alerts too."""
    series = part(read_series(trained.series[0]), slice(600, None), name)
    whole, rng = scored(model, series), random.Random(0)
    for cut in sorted(rng.sample(range(1, len(series)), 20)):
        head = scored(model, part(series, slice(cut), name))
        for column in ("score", "threshold", "state"):
            assert np.array_equal(getattr(head, column), getattr(whole, column)[:cut], equal_nan=True), (column, cut)
        last = series.time_s[cut - 1]
        assert [t.key for t in head.transitions] == [t.key for t in whole.transitions if t.time_s <= last]


def test_an_acausal_score_would_be_caught(trained, model):
    """The check above is no formality: scores in units of the file's own mean fail it."""
    series = read_series(trained.series[0])
    whole = scored(model, series).score
    head = scored(model, part(series, slice(700))).score
    assert not np.array_equal(head / np.nanmean(head), (whole / np.nanmean(whole))[:700], equal_nan=True)


def test_every_input_row_has_its_line(trained, model):
    """Rows that cannot be scored, for a gap, a missing value, a step back in time, are lines without a score."""
    series = read_series(trained.series[1])
    window = model.profile.window
    values, time_s = series.values.copy(), series.time_s.copy()
    values[300, 2] = np.nan
    time_s[500] = time_s[400]
    time_s[700:] += 100 * model.profile.gap_max_s
    found = scored(model, Series(series.name, series.channels, time_s, series.time_text, values))
    assert len(found.score) == len(found.state) == len(series)
    assert np.isnan(found.score[: window - 1]).all()
    assert np.isfinite(found.score[window - 1 : 300]).all()
    assert np.isnan(found.score[[300, 500]]).all()
    assert np.isnan(found.score[700 : 700 + window - 1]).all()
    assert np.isfinite(found.score[700 + window - 1 :]).all()
    assert np.array_equal(np.isnan(found.score), found.state == AlertState.LEARNING)


def test_a_fault_of_the_recording_is_found_where_it_is(trained, model):
    """The drift in the first pump scores highest within its rows, and only there does the series alarm."""
    found = scored(model, read_series(trained.series[0]))
    first, last = FAULT_ROWS
    assert first <= np.nanargmax(found.score) < last + model.profile.window
    firing = [t for t in found.transitions if t.state == "firing"]
    assert firing
    assert firing[0].worst_channel == "pressure"
    start_s = trained.plant.start_s
    assert all(first <= t.onset_s - start_s < last + model.profile.window for t in firing)


def test_channels_are_found_by_name(trained, model):
    """Another order of columns, or more of them, changes nothing; a missing one is named with the remedy."""
    series = read_series(trained.series[1])
    turned = Series(
        series.name, ("other", *series.channels[::-1]), series.time_s, series.time_text,
        np.column_stack([np.zeros(len(series)), series.values[:, ::-1]]),
    )  # fmt: skip
    assert np.array_equal(scored(model, turned).score, scored(model, series).score, equal_nan=True)
    less = Series(series.name, series.channels[1:], series.time_s, series.time_text, series.values[:, 1:])
    with pytest.raises(SeriesError, match=r"lacks the model's channel pressure.*rename"):
        scored(model, less)


def verb(*arguments, code=0):
    result = CliRunner().invoke(main, [str(a) for a in arguments])
    assert result.exit_code == code, (result.output, result.exception)
    return result


def test_train_score_and_inspect_go_together(tmp_path):
    """The verbs as an operator types them: a model, a CSV of scores and a description; the registry vouches."""
    _, paths = write_pumps(tmp_path, rows=300, pumps=2)
    settings, model, registry = tmp_path / "train.yaml", tmp_path / "pumps.pt", tmp_path / "state" / "models.json"
    settings.write_text(SETTINGS)
    done = verb("train", *paths, "-o", model, "--rows", 250, "-c", settings, "--registry", registry)
    inspected = json.loads(verb("inspect", model).output)
    assert inspected["sha256"] in done.output
    assert inspected["training"]["rows"] == {p.stem: 250 for p in paths}
    out = tmp_path / "scores.csv"
    said = verb("score", model, paths[0], "-o", out, "--registry", registry).output
    rows = list(csv.DictReader(out.open()))
    assert list(rows[0]) == ["timestamp", "score", "threshold", "state"]
    assert [r["timestamp"] for r in rows] == read_series(paths[0]).time_text
    assert {r["state"] for r in rows} <= {s.name.lower() for s in AlertState}
    known = [r for r in rows if r["score"]]
    assert f"{len(known)} of 300 rows scored" in said
    model_of = open_artifact(model, None, registry)
    wanted = scored(model_of, read_series(paths[0])).score
    assert [float(r["score"]) for r in known] == wanted[np.isfinite(wanted)].tolist()
    refused = verb("score", model, paths[0], "-o", out, "--registry", tmp_path / "other.json", code=78)
    assert inspected["sha256"] in refused.output
    verb("score", model, paths[0], "-o", tmp_path / "scores.csv.gz", "--sha256", inspected["sha256"])
    assert read_lines(tmp_path / "scores.csv.gz") == out.read_text()


def read_lines(path):
    import gzip

    return gzip.open(path, "rt").read()


def test_mistakes_end_with_their_exit_code_and_one_line(tmp_path, trained):
    """Unreadable series 65, unusable model or settings 78; no trace on the screen."""
    _, paths = write_pumps(tmp_path, rows=50, pumps=1)
    bad = tmp_path / "train.yaml"
    bad.write_text("hiden: 4\n")
    for arguments, code, word in (
        (["train", paths[0], "-o", tmp_path / "m.pt"], 65, "usable rows"),
        (["train", tmp_path / "none.csv", "-o", tmp_path / "m.pt"], 65, "none.csv"),
        (["train", paths[0], "-o", tmp_path / "m.pt", "-c", bad], 78, "hiden"),
        (["score", paths[0], paths[0], "-o", tmp_path / "s.csv"], 78, "not trained by this installation"),
        (["score", trained.path, tmp_path / "none.csv", "-o", tmp_path / "s.csv"], 65, "none.csv"),
        (["inspect", paths[0]], 78, "no streamae model"),
    ):
        result = verb(*arguments, code=code)
        assert word in result.output
        assert "Traceback" not in result.output
    assert not (tmp_path / "m.pt").exists()
