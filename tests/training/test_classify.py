"""The contract of `train --classify`: incidents are held out whole, and the encoder is worth it."""

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from streamae.cli import main
from streamae.errors import ArtifactError, SeriesError
from streamae.history.recordings import read_series
from streamae.history.series import write_series
from streamae.model.artifact import open_artifact, profile_of
from streamae.training.classify import classifiers as k
from streamae.training.classify.encoder import train_encoder
from streamae.training.classify.labels import draw, hold_out, label_windows, read_labels
from streamae.training.classify.train import load_classifier
from streamae.training.fit import Recipe
from streamae.training.plan import TrainConfig
from tests.bench import label_curve
from tests.bench.label_curve import KINDS
from tests.bench.label_curve import incidents as simulated_incidents

FEW = (0.05, 0.1)


def write_incidents(folder: Path):
    """Six pumps with four incidents each, of three kinds in turn, labelled by kind, in files."""
    paths = []
    for series, label in zip(*simulated_incidents(6, rows=1400, lasting=60), strict=True):
        paths.append(folder / f"{series.name.replace('/', '_')}.csv")
        write_series(paths[-1], series.channels, series.time_text, series.values, label)
    return paths


@pytest.fixture(scope="module")
def incidents(tmp_path_factory):
    return write_incidents(tmp_path_factory.mktemp("incidents"))


@pytest.fixture(scope="module")
def encoder(incidents):
    """An encoder of 24 rows, trained without labels."""
    config = TrainConfig(recipe=Recipe(steps=600, batch=32), window=24, hidden=24)
    return train_encoder([read_series(path) for path in incidents], 0, config)


@pytest.fixture(scope="module")
def labelled(incidents, encoder):
    series, labels = [read_series(path) for path in incidents], [read_labels(path) for path in incidents]
    return label_windows(series, labels, profile_of(encoder.manifest, ""), stride=3)


def test_few_labels_go_further_from_the_encoder(encoder, labelled):
    """With 5 and 10 % of the labels, starting from the encoder names held-out incidents better than from scratch."""
    curve = k.learning_curve(encoder, labelled, FEW, seeds=(0, 1, 2))
    mean = {name: np.mean([curve.mean(name, f) for f in FEW]) for name in k.CLASSIFIERS}
    assert mean["from the encoder"] >= mean["from scratch"], curve.markdown()
    assert min(mean["from the encoder"], mean["frozen code"]) > 0.5, "guessing gives .25"
    assert curve.labels[0.05] < curve.labels[0.1] < len(labelled) / 5


def test_the_curve_is_one_command(tmp_path, monkeypatch):
    """`python -m tests.bench.label_curve` prints the table and puts it between the text's markers."""
    small = TrainConfig(recipe=Recipe(steps=3, batch=8), window=24, hidden=4)
    monkeypatch.setattr(label_curve, "TrainConfig", lambda: small)
    monkeypatch.setattr(k, "_STEPS", 4)
    monkeypatch.setattr(k, "_READOUT_STEPS", 2)
    page, said = tmp_path / "quality.md", []
    page.write_text("<!-- begin labels -->\n<!-- end labels -->\n")
    assert label_curve.main(["--pumps", "3", "--seeds", "1", "--update", str(page)], said.append) == 0
    assert [line.split(" %")[0] for line in said[0].splitlines()[2:6]] == ["| 1", "| 5", "| 10", "| 100"]
    assert said[0].strip() in page.read_text()


def test_an_incident_is_never_on_both_sides(labelled):
    """Whole incidents are held out, some of each class; parts of the labels hold every class and are nested by size."""
    for seed in range(5):
        pool, test = hold_out(labelled, seed)
        assert not set(labelled.segment[pool]) & set(labelled.segment[test])
        assert len(pool) + len(test) == len(labelled)
        for rows in (pool, test):
            assert set(labelled.y[rows]) == set(range(len(labelled.classes)))
        few, more = (draw(labelled.y, pool, f, np.random.default_rng(seed)) for f in (0.01, 0.2))
        assert set(few) <= set(more) <= set(pool)
        assert set(labelled.y[few]) == set(range(len(labelled.classes)))


def test_a_window_has_the_label_of_all_its_rows(incidents, encoder, labelled):
    """Windows of two labels, or with an unlabelled row, belong to no class; normal is the most common label."""
    assert labelled.classes == ("normal", *sorted(KINDS))
    series, labels = read_series(incidents[0]), read_labels(incidents[0])
    profile = profile_of(encoder.manifest, "")
    T, y = profile.window, np.array(labels)
    runs = np.r_[0, np.cumsum(y[1:] != y[:-1])]
    pure = sum(runs[t - T + 1] == runs[t] for t in range(T - 1, len(y)))
    one = label_windows([series, series], [labels, labels], profile, stride=1)
    assert 2 * pure >= len(one) >= 2 * (pure - 3 * T), "only windows across a cut between incidents are lost"
    gone = ["" if 0 < i < 100 else label for i, label in enumerate(labels)]
    less = label_windows([series, series], [gone, gone], profile, stride=1)
    assert len(one) - len(less) == 2 * 100, "windows that begin at rows 0 to 99 touch an unlabelled one"


def test_labels_that_teach_nothing_are_refused(incidents, encoder, tmp_path):
    """One class, a class seen in one incident only, and no label column are each said with what to do."""
    series, profile = [read_series(incidents[0])], profile_of(encoder.manifest, "")
    with pytest.raises(SeriesError, match="at least two are needed"):
        label_windows(series, [["0"] * len(series[0])], profile, stride=1)
    once = ["1" if 300 <= i < 400 else "0" for i in range(len(series[0]))]
    with pytest.raises(SeriesError, match="label more incidents"):
        label_windows(series, [once], profile, stride=1)
    bare = tmp_path / "bare.csv"
    write_series(bare, ("a",), ["1", "2"], np.zeros((2, 1)))
    with pytest.raises(SeriesError, match="no column `label`"):
        read_labels(bare)


def test_the_encoders_weights_are_where_it_starts(encoder, labelled, monkeypatch):
    """Before its first step the classifier's LSTM is the encoder's, bit by bit; the encoder itself is left alone."""
    monkeypatch.setattr(k, "_STEPS", 0)
    monkeypatch.setattr(k, "_READOUT_STEPS", 0)
    own = encoder.detector.network.encoder.state_dict()
    before = {name: weight.clone() for name, weight in own.items()}
    x, y = encoder.read(labelled.windows[:8]), torch.from_numpy(labelled.y[:8])
    start = k.tagger(encoder, x, y, 4).encoder.state_dict()
    assert all(torch.equal(start[name], weight) for name, weight in before.items())
    fresh = k.tagger(encoder, x, y, 4, fresh=True).encoder.state_dict()
    assert not torch.equal(fresh["rnn.weight_hh_l0"], before["rnn.weight_hh_l0"])
    monkeypatch.setattr(k, "_STEPS", 3)
    k.tagger(encoder, x, y, 4)
    assert all(torch.equal(own[name], weight) for name, weight in before.items())


def test_probabilities_are_averaged_over_the_steps(encoder, labelled):
    """The classifier gives the mean over all steps of the softmax, not the softmax of the mean."""
    torch.manual_seed(0)
    network = k.Tagger(encoder.detector.network.encoder, encoder.spec.hidden, 4)
    torch.nn.init.normal_(network.readout.weight)
    read = encoder.read(labelled.windows[:5])
    with torch.no_grad():
        out, _ = network.encoder(read, network.encoder.start(read))
        expected = torch.softmax(network.readout(out), dim=2).mean(dim=1)
        assert torch.allclose(network(read).exp(), expected, atol=1e-6)


def test_balanced_accuracy_counts_classes_alike():
    """Nine of ten normal rows named rightly and none of the faults are worth .45, not .81."""
    true, said = np.array([0] * 9 + [0, 1]), np.array([0] * 9 + [1, 0])
    assert k.balanced_accuracy(said, true) == pytest.approx(0.45)


def test_the_verb_writes_a_classifier_that_stands_alone(trained, incidents, tmp_path):
    """From a detector's file: the curve is printed, the file gives its golden probabilities, no daemon loads it."""
    out = tmp_path / "classifier.pt"
    words = ["train", "--classify", *incidents, "-o", out, "--encoder", trained.path, "--registry", trained.registry]
    done = CliRunner().invoke(main, [*map(str, words), "--fraction", "0.05", "--seeds", "1"])
    assert done.exit_code == 0, done.output
    assert "| 5 % (" in done.output
    network, manifest = load_classifier(out, None, trained.registry)
    golden = manifest["golden"]
    with torch.no_grad():
        found = network(torch.tensor(golden["windows"]))
    assert torch.allclose(found, torch.tensor(golden["probabilities"]), atol=1e-5)
    assert torch.allclose(found.sum(dim=1), torch.ones(len(found)), atol=1e-5)
    assert manifest["classes"] == ["normal", *sorted(KINDS)]
    with pytest.raises(ArtifactError):
        open_artifact(out, None, trained.registry)
    assert manifest["contender"] in k.CLASSIFIERS
    named = tmp_path / "named.csv"
    words_classify = ["classify", out, incidents[0], "-o", named, "--stride", "7", "--registry", trained.registry]
    said = CliRunner().invoke(main, [*map(str, words_classify)])
    assert said.exit_code == 0, said.output
    with named.open() as file:
        lines = list(csv.DictReader(file))
    assert lines
    for line in lines:
        each = {c: float(line[c]) for c in manifest["classes"]}
        assert sum(each.values()) == pytest.approx(1, abs=1e-4)
        assert line["label"] == max(each, key=each.__getitem__)
    wrong = CliRunner().invoke(main, [*map(str, words), "--fraction", "5"])
    assert wrong.exit_code == 2
    assert "--fraction" in wrong.output


def test_each_contender_can_be_written(encoder, labelled):
    """Scripted and eager, every classifier gives the same probabilities, and its own bits in any batch."""
    read, y = encoder.read(labelled.windows[:40]), torch.from_numpy(labelled.y[:40])
    for name in k.CLASSIFIERS:
        network = k.classifier(name, encoder, read, y, 4, 0, unlabelled=read)
        scripted = torch.jit.script(network)
        with torch.no_grad():
            assert torch.allclose(scripted(read), network(read), atol=1e-6), name
            assert torch.equal(scripted(read[:3]), scripted(read)[:3]), name


def test_the_best_contender_is_the_one_with_all_labels():
    """The file holds the classifier that named most with the most labels, not with the fewest."""
    low, high = (0.9, 0.9), (0.5, 0.6)
    accuracy = {("from the encoder", 0.1): low, ("from the encoder", 1.0): high}
    accuracy |= {("from scratch", 0.1): high, ("from scratch", 1.0): (0.55, 0.56)}
    accuracy |= {("frozen code", 0.1): high, ("frozen code", 1.0): (0.6, 0.7)}
    assert k.Curve((0.1, 1.0), {0.1: 5, 1.0: 50}, accuracy, ("a", "b")).best() == "frozen code"
