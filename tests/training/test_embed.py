"""The contract of `streamae.training.classify.embed`: a window's vector depends on the window, and on nothing else."""

import csv
from dataclasses import replace

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from streamae.cli import main
from streamae.errors import SeriesError
from streamae.history.recordings import Series, read_series, write_series
from streamae.model.artifact import open_artifact
from streamae.model.spec import DetectorSpec
from streamae.training.classify.embed import code_names, embed_series


@pytest.fixture(scope="module")
def opened(trained):
    return open_artifact(trained.path, None, trained.registry), read_series(trained.series[0])


def part(series, rows):
    return Series(series.name, series.channels, series.time_s[rows], series.time_text[rows], series.values[rows])


def test_the_same_window_has_the_same_vector_in_any_batch(opened):
    """Stride, where the file begins and how many windows share a batch change no bit of a window's vector."""
    artifact, series = opened
    whole = embed_series(series, artifact.profile, artifact.reconstructor)
    T = artifact.profile.window
    assert whole.row.tolist() == list(range(T - 1, len(series)))
    strided = embed_series(series, artifact.profile, artifact.reconstructor, stride=7)
    assert strided.row.tolist() == whole.row[::7].tolist()
    assert np.array_equal(strided.vectors, whole.vectors[::7])
    for rows in (slice(300, 300 + T), slice(300, 300 + T + 2), slice(3, 600)):
        some = embed_series(part(series, rows), artifact.profile, artifact.reconstructor)
        assert np.array_equal(some.vectors, whole.vectors[rows.start : rows.stop - T + 1])
    assert len({vector.tobytes() for vector in whole.vectors}) == len(whole.vectors)


def test_a_vector_is_the_state_of_the_encoder(opened):
    """Z is the top layer's h and c after the last row that the network's encoder reads, as the columns are named."""
    artifact, series = opened
    spec = DetectorSpec.from_mapping(artifact.manifest["network"]).network
    found = embed_series(series, artifact.profile, artifact.reconstructor, stride=50)
    names = code_names(artifact.manifest["network"])
    assert names == [f"{kind}{i}" for kind in "hc" for i in range(spec.hidden)]
    assert found.vectors.shape == (len(found.row), spec.code_size)
    assert found.vectors.dtype == np.float32
    h, c = found.vectors[:, : spec.hidden], found.vectors[:, spec.hidden :]
    assert (np.abs(h) < np.tanh(np.abs(c)) + 1e-6).all()  # h = gate · tanh(c), the gate within 0..1
    assert torch.isfinite(torch.from_numpy(found.vectors)).all()


def test_names_follow_cell_and_linear_path():
    """A GRU has no cell; a linear path of the network's own adds its coordinates."""
    network = {"recurrent": {"hidden": 2, "cell": "gru", "linear_rank": 1}}
    assert code_names(network) == ["h0", "h1", "p0"]


def test_no_window_spans_a_gap(opened):
    """Behind a gap, or a row without all values, the next vector waits until a window is full of rows in a row."""
    artifact, series = opened
    T = artifact.profile.window
    late = np.r_[series.time_s[:100], series.time_s[100:] + 10 * artifact.profile.gap_max_s]
    found = embed_series(replace(series, time_s=late), artifact.profile, artifact.reconstructor)
    assert not set(range(100, 100 + T - 1)) & set(found.row.tolist())
    assert {99, 100 + T - 1} <= set(found.row.tolist())


def test_the_verb_writes_csv_and_npy_alike(trained, opened, tmp_path):
    """CSV carries the time of each window's last row and every digit; .npy the bare [n, Z] array."""
    runner = CliRunner()
    for out in ("z.csv", "z.csv.gz", "z.npy"):
        words = ["embed", trained.path, trained.series[0], "-o", tmp_path / out, "--stride", 100]
        words += ["--registry", trained.registry]
        done = runner.invoke(main, [str(word) for word in words])
        assert done.exit_code == 0, done.output
    artifact, series = opened
    expected = embed_series(series, artifact.profile, artifact.reconstructor, stride=100)
    with (tmp_path / "z.csv").open() as lines:
        header, *rows = csv.reader(lines)
    assert header == ["timestamp", *code_names(artifact.manifest["network"])]
    assert [row[0] for row in rows] == [series.time_text[i] for i in expected.row.tolist()]
    assert np.array_equal(np.array([row[1:] for row in rows], np.float32), expected.vectors)
    assert np.array_equal(np.load(tmp_path / "z.npy"), expected.vectors)


def test_what_cannot_be_embedded_is_said(trained, opened, tmp_path):
    """A missing channel, too few rows and an unknown format are each refused, before anything is written."""
    artifact, series = opened
    with pytest.raises(SeriesError, match="lacks the model's channel"):
        embed_series(replace(series, channels=("a", "b", "c", "d")), artifact.profile, artifact.reconstructor)
    few = tmp_path / f"{series.name}.csv"
    write_series(few, series.channels, series.time_text[:5], series.values[:5])
    for path, out, word in [(few, "z.csv", "no full window"), (trained.series[0], "z.txt", ".npy")]:
        words = ["embed", trained.path, path, "-o", tmp_path / out, "--registry", trained.registry]
        done = CliRunner().invoke(main, [str(word) for word in words])
        assert done.exit_code == 65
        assert word in done.output
        assert not (tmp_path / out).exists()
