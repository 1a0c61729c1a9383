"""The contract of `threshold: {method: fbeta}`: labelled incidents place the threshold, and are not learnt from."""

from datetime import UTC, datetime

import numpy as np
import pytest

from streamae.core.alert import AlertRule
from streamae.errors import ConfigError, SeriesError
from streamae.evaluation.run import evaluate_series
from streamae.history.series import read_series
from streamae.model.artifact import open_artifact
from streamae.training.backtest import offline_group, score_series
from streamae.training.dataset import load
from streamae.training.incidents import inside, read_incidents, without
from streamae.training.limits import Limit
from streamae.training.plan import TrainConfig
from streamae.training.settings import read_config
from streamae.training.train import train
from tests.models import FAULT_ROWS, quick, quiet, write_pumps


@pytest.fixture(scope="module")
def pumps(tmp_path_factory):
    """Two pumps, the first with a drift, and a file that names it as an incident."""
    folder = tmp_path_factory.mktemp("incidents")
    plant, paths = write_pumps(folder, pumps=2)
    first, last = (plant.start_s + row for row in FAULT_ROWS)
    (folder / "incidents.csv").write_text(f"stream,start,end\n{paths[0].stem},{first!r},{last - 1!r}\n")
    return folder, paths


def trained(folder, paths, name="model.pt", limit=None):
    limit = limit or Limit("fbeta", incidents=folder / "incidents.csv")
    config = quick(40, threshold=limit)
    train(paths, folder / name, None, 0, config, now=lambda: 0.0, registry=folder / "models.json", console=quiet())
    return open_artifact(folder / name, None, folder / "models.json")


@pytest.fixture(scope="module")
def model(pumps):
    return trained(*pumps)


def f_beta(score, hit, limit, beta=0.1):
    found = score > limit
    true = (found & hit).sum()
    precision, recall = true / max(found.sum(), 1), true / hit.sum()
    return (1 + beta**2) * precision * recall / max(beta**2 * precision + recall, 1e-12)


def test_no_other_threshold_has_a_greater_f_beta(pumps, model):
    """Scored again by the daemon's core, F_beta at 1 is that of the best of all thresholds; the budget's is less."""
    folder, paths = pumps
    incidents = read_incidents(folder / "incidents.csv", load(paths, None))
    scores, hits = [], []
    for path in paths:
        one = read_series(path)
        score = score_series(one, offline_group(model.profile, model.reconstructor, AlertRule())).score
        known = np.isfinite(score)
        scores.append(score[known])
        hits.append(inside(one.name, one.time_s, incidents)[known])
    score, hit = np.concatenate(scores), np.concatenate(hits)
    assert hit.sum() == FAULT_ROWS[1] - FAULT_ROWS[0]
    best = max(f_beta(score, hit, limit) for limit in np.unique(score))
    assert f_beta(score, hit, 1.0) == pytest.approx(best)
    assert best > 0.5
    wrong = {name: f_beta(score, hit, limit) for name, limit in (("half", 0.5), ("thrice", 3.0 * score.max()))}
    assert all(value < best for value in wrong.values()), wrong


def test_incidents_are_not_learnt_from(pumps, model, tmp_path):
    """For any values in their rows, network, scales and levels come out the same; without the file they do not."""
    folder, paths = pumps
    rows = paths[0].read_text().splitlines()
    first, last = FAULT_ROWS
    spoilt = [",".join([row.split(",")[0], *["7.5"] * 4, "0"]) for row in rows[1 + first : 1 + last]]
    for path in paths:
        (tmp_path / path.name).write_text(path.read_text())
    (tmp_path / paths[0].name).write_text("\n".join([*rows[: 1 + first], *spoilt, *rows[1 + last :]]) + "\n")
    (tmp_path / "incidents.csv").write_text((folder / "incidents.csv").read_text())
    others = [tmp_path / path.name for path in paths]
    again = trained(tmp_path, others)
    for key in ("weight", "level"):
        assert again.manifest["calibration"][key] == model.manifest["calibration"][key]
    assert again.manifest["golden"] == model.manifest["golden"]
    assert again.manifest["training"]["incidents"] == 1
    plain = trained(tmp_path, others, "plain.pt", Limit())
    assert plain.manifest["golden"] != model.manifest["golden"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ["incidents.csv:1", "stream,start,end"]),
        ("stream,from,to\n", ["incidents.csv:1", "stream,from,to"]),
        ("stream,start,end\n", ["no incident"]),
        ("stream,start,end\nline1-pump01,5\n", ["incidents.csv:2", "repair"]),
        ("stream,start,end\npump99,1,2\n", ["incidents.csv:2", "pump99", "line1-pump01"]),
        ("stream,start,end\n*,20,10\n", ["incidents.csv:2", "before it starts"]),
        ("stream,start,end\n*,yesterday,today\n", ["incidents.csv:2", "yesterday", "ISO 8601"]),
        ("stream,start,end\n*,10,20\n", ["no row that is trained on", "budget"]),
    ],
)
def test_a_file_that_says_nothing_is_refused_by_its_line(pumps, tmp_path, text, words):
    path = tmp_path / "incidents.csv"
    path.write_text(text)
    with pytest.raises(SeriesError) as refused:
        read_incidents(path, load(pumps[1], None))
    assert all(word in str(refused.value) for word in words), str(refused.value)


def test_incidents_are_named_as_the_journal_names_spells(pumps):
    """Both ends count, patterns name several streams, and times may be ISO 8601."""
    folder, paths = pumps
    streams = load(paths, None)
    path = folder / "patterns.csv"
    first, last = (datetime.fromtimestamp(streams[0].time_s[row], UTC).isoformat() for row in (3, 5))
    path.write_text(f"stream,start,end\nline1-*,{first},{last}\n")
    incidents = read_incidents(path, streams)
    assert [np.flatnonzero(inside(x.name, x.time_s, incidents)).tolist() for x in streams] == [[3, 4, 5]] * 2
    assert [len(x.time_s) for x in without(streams, incidents)] == [len(x.time_s) - 3 for x in streams]


def test_the_settings_go_together(tmp_path):
    """F_beta needs incidents, next to train.yaml; beta must be above 0."""
    path = tmp_path / "train.yaml"
    path.write_text("threshold: {method: fbeta, incidents: known.csv, beta: 0.5}\n")
    assert read_config(path).threshold == Limit("fbeta", incidents=tmp_path / "known.csv", beta=0.5)
    for text, words in (("{method: fbeta}", "belong together"), ("{incidents: a.csv}", "belong together"),
                        ("{method: fbeta, incidents: a.csv, beta: 0}", "beta 0")):  # fmt: skip
        path.write_text(f"threshold: {text}\n")
        with pytest.raises(ConfigError, match=words):
            read_config(path)


def test_an_evaluation_shows_no_detector_an_incident(tmp_path):
    """The protocol gives no labels away: fbeta is refused there, before anything runs."""
    config = TrainConfig(threshold=Limit("fbeta", incidents=tmp_path / "incidents.csv"))
    with pytest.raises(ConfigError, match=r"threshold\.method: got fbeta"):
        evaluate_series([tmp_path], seeds=[0], config=config, with_baselines=False, results=None, report=None)
