"""The contract of `streamae.training`: what it learns from, what it refuses, and the recipe that leaves the plateau."""

import io
from dataclasses import replace

import numpy as np
import pytest
import torch
from rich.console import Console
from torch import nn

from streamae.core.types import F32
from streamae.errors import ConfigError, SeriesError
from streamae.evaluation.own import detector
from streamae.evaluation.protocol import read_labelled
from streamae.history.series import read_series, write_series
from streamae.model.artifact import read_manifest
from streamae.model.network import EncoderDecoder
from streamae.model.spec import NetworkSpec
from streamae.training.dataset import build, load, window_ends
from streamae.training.fit import Recipe, fit
from streamae.training.plan import ends_of, flat_windows
from streamae.training.settings import read_config
from streamae.training.train import train, train_dataset
from tests.models import pump_rows, quick, quiet, write_pumps


def write(path, values, channels=None, *, time_s=None, label=None):
    """A series with one row a second; values[N] or [N, C]."""
    values = np.asarray(values, float).reshape(len(values), -1)
    channels = channels or [f"c{i}" for i in range(values.shape[1])]
    time_s = np.arange(len(values)) if time_s is None else time_s
    write_series(path, channels, [repr(float(t)) for t in time_s], values, label)
    return path


def waves(rows=300, channels=2, seed=0):
    t = np.arange(rows)[:, None]
    noise = np.random.default_rng(seed).normal(size=(rows, channels))
    return 10 + np.sin(2 * np.pi * t / 25 + np.arange(channels)) + 0.05 * noise


def made(tmp_path, paths, *, steps=20, seed=0, rows=None, console=None, **changes):
    """Train for a moment; -> manifest."""
    out = tmp_path / "model.pt"
    train(paths, out, rows, seed, quick(steps, **changes), now=lambda: 0.0, console=console or quiet())
    return read_manifest(out)


def learnt(manifest):
    """All that a model knows, without where and when it was made."""
    return {k: manifest[k] for k in ("channels", "network", "streams", "calibration", "golden", "training")}


# ---- what it is a function of


def test_the_same_seed_gives_the_same_model(tmp_path):
    """Calibration, golden output and losses are equal to the bit; another seed gives another model."""
    path = write(tmp_path / "a.csv", waves())
    first, again, other = (learnt(made(tmp_path, [path], seed=s)) for s in (3, 3, 4))
    assert first == again
    assert first["golden"]["errors"] != other["golden"]["errors"]


def test_the_label_is_never_read(tmp_path):
    """A labelled series trains the same model as the same rows without their labels."""
    values = waves()
    plain = made(tmp_path, [write(tmp_path / "a.csv", values)])
    labelled = made(tmp_path, [write(tmp_path / "a.csv", values, label=[n % 2 for n in range(300)])])
    assert learnt(plain) == learnt(labelled)
    assert "label" not in labelled["channels"]


def test_only_the_rows_asked_for_are_learnt_from(tmp_path):
    """`rows` cuts before anything is looked at: what stands behind changes nothing."""
    values = waves()
    other = values.copy()
    other[200:] = 1e6
    found = [learnt(made(tmp_path, [write(tmp_path / "a.csv", v)], rows=200)) for v in (values, other)]
    assert found[0] == found[1]
    assert found[0]["training"]["rows"] == {"a": 200}


# ---- held-out rows


@pytest.mark.parametrize("window", [8, 31])
@pytest.mark.parametrize("holdout", [0.2, 0.4])
def test_held_out_rows_are_not_trained_on(tmp_path, window, holdout):
    """With a holdout, no window to fit on shares a row with one to calibrate on, in any stream, gaps or not."""
    gaps = np.arange(400) + 500.0 * (np.arange(400) > 150)
    paths = [write(tmp_path / "a.csv", waves(400), time_s=gaps), write(tmp_path / "b.csv", waves(300, seed=1))]
    dataset = build(load(paths, None))
    rows = np.arange(1 - window, 1)
    fitted, held = ends_of(dataset, window, holdout)
    for s, (a, b) in enumerate(zip(fitted, held, strict=True)):
        own = dataset.rows_of(s)
        used, kept = set((a[:, None] + rows).ravel().tolist()), set((b[:, None] + rows).ravel().tolist())
        assert used
        assert kept
        assert not used & kept
        assert used | kept <= set(range(own.start, own.stop))
        assert max(used) < min(kept)
        assert min(kept) >= own.stop - max(holdout * (own.stop - own.start) + 1, 2 * window)


def test_held_out_rows_do_not_move_what_is_fitted(tmp_path):
    """Values in the held-out rows change neither the linear windows nor one step of training."""
    dataset = build(load([write(tmp_path / "a.csv", waves(400))], None))
    spoilt = replace(dataset, values=dataset.values.copy())
    spoilt.values[330:] += 5
    clean, other = (flat_windows(d, 0.2)(10) for d in (dataset, spoilt))
    assert np.array_equal(clean, other)
    assert not np.array_equal(flat_windows(dataset, 0.0)(10), flat_windows(spoilt, 0.0)(10)), "nothing was spoilt"
    weights = []
    for d in (dataset, spoilt):
        torch.manual_seed(0)
        network = EncoderDecoder(NetworkSpec(channels=2, targets=(0, 1), window=10, hidden=4))
        learn, held = (x[0] for x in ends_of(d, 10, 0.2))
        fit(network, torch.from_numpy(d.values), learn, held, recipe=Recipe(steps=1, batch=8, checks=1), seed=0)
        weights.append(network.state_dict())
    assert all(torch.equal(weights[0][k], weights[1][k]) for k in weights[0])


def test_windows_never_span_a_gap(tmp_path):
    """Window ends are exactly those whose T rows follow one another; against a loop."""
    time_s = np.cumsum(np.random.default_rng(0).choice([1.0, 1.0, 1.0, 60.0], 300, p=[0.4, 0.3, 0.27, 0.03]))
    dataset = build(load([write(tmp_path / "a.csv", waves(), time_s=time_s)], None))
    dataset = replace(dataset, gap_max_s=10.0)
    naive = [n for n in range(7, 300) if np.diff(time_s[n - 7 : n + 1]).max() <= 10]
    assert window_ends(dataset, 8, 0, 0, 300).tolist() == naive
    assert 0 < len(naive) < 293


# ---- refusals


def refuse_short(folder):
    return [write(folder / "a.csv", waves(99))]


def refuse_empty(folder):
    return [write(folder / "a.csv", np.full((300, 2), np.nan))]


def refuse_unsorted(folder):
    return [write(folder / "a.csv", waves(), time_s=np.random.default_rng(0).permutation(300))]


def refuse_other_channels(folder):
    return [write(folder / "a.csv", waves()), write(folder / "b.csv", waves(), ["x", "y"])]


def refuse_same_name(folder):
    (folder / "sub").mkdir()
    return [write(folder / "a.csv", waves()), write(folder / "sub" / "a.csv", waves())]


@pytest.mark.parametrize(
    ("plant", "words"),
    [
        (refuse_short, ["a: has 99 usable rows", "100", "record for longer"]),
        (refuse_empty, ["a: no channel has values", "resample"]),
        (refuse_unsorted, ["a: time does not increase", "sort the rows"]),
        (refuse_other_channels, ["b: has the channels x, y", "a has c0, c1"]),
        (refuse_same_name, ["stream name a", "rename"]),
    ],
)
def test_what_cannot_be_learnt_from_is_refused_with_the_reason(tmp_path, plant, words):
    """SeriesError names the stream, what is wrong with it and what to do; no model file appears."""
    with pytest.raises(SeriesError) as refused:
        made(tmp_path, plant(tmp_path))
    assert all(word in str(refused.value) for word in words), str(refused.value)
    assert not (tmp_path / "model.pt").exists()


def test_no_file_and_an_unknown_context_channel_are_refused(tmp_path):
    with pytest.raises(SeriesError, match="nothing to train on"):
        build([])
    with pytest.raises(SeriesError, match="context channel modus"):
        made(tmp_path, [write(tmp_path / "a.csv", waves())], context=("modus",))


def test_a_window_longer_than_the_gaps_allow_is_refused(tmp_path):
    """Where no full window is left, the reason is the gaps, and the remedy is said."""
    time_s = np.arange(300.0) + 100.0 * (np.arange(300) // 20)
    dataset = replace(build(load([write(tmp_path / "a.csv", waves(), time_s=time_s)], None)), gap_max_s=10.0)
    with pytest.raises(SeriesError, match=r"a: 300 rows, with its gaps.*shorter window"):
        ends_of(dataset, 25)


def test_a_channel_that_never_moves_has_a_scale(tmp_path):
    """A constant is scaled so that leaving it shows, neither by zero nor so finely that its noise would."""
    steady = np.column_stack([np.full(300, 50.0), np.zeros(300), waves(300, 1)])
    dataset = build(load([write(tmp_path / "a.csv", steady)], None))
    assert np.isfinite(dataset.values).all()
    assert np.array_equal(dataset.values[:, :2], np.zeros((300, 2)))
    assert 0.01 <= dataset.scale[0, 0] <= 5
    assert dataset.scale[0, 1] > 0
    assert dataset.targets == (0, 2)


def test_a_sensor_that_rests_alarms_when_it_leaves(tmp_path):
    """A channel that stood at one value in training is explained like any other: leaving it passes the threshold."""
    steady = np.column_stack([np.full(400, 50.0), waves(400, 2)])
    left = steady.copy()
    left[350:360, 0] = 53.0
    for rows, alarms in ((steady, False), (left, True)):
        series = read_labelled(write(tmp_path / "a.csv", rows, label=np.zeros(400, int)), train_rows=300)
        score, threshold, _ = detector(quick())(series, 300, 0)
        assert (score[350:360] > threshold[350:360]).any() == alarms


# ---- what is left out is said


def test_what_is_left_out_is_recorded_and_said(tmp_path):
    """A dropped channel with its reason, rows that lack a value and rows that step back, in manifest and on screen."""
    values, time_s = waves(300, 3), np.arange(300.0)
    values[:200, 1] = np.nan
    values[[10, 20, 30], 0] = np.nan
    time_s[50] = 40.0
    screen = io.StringIO()
    manifest = made(
        tmp_path, [write(tmp_path / "a.csv", values, time_s=time_s)], console=Console(file=screen, width=200)
    )
    assert manifest["channels"] == ["c0", "c2"]
    assert "missing" in manifest["training"]["dropped_channels"]["c1"]
    assert manifest["training"]["refused_rows"] == {"incomplete": 3, "not_increasing": 1}
    assert manifest["training"]["rows"] == {"a": 296}
    printed = screen.getvalue()
    for words in ("dropped channel c1", "left out 3 rows", "targets: c0, c2", "sha256", "training"):
        assert words in printed


def test_commands_are_inputs_and_not_targets(tmp_path):
    """A channel of zeros and ones is a command: the model reads it or leaves it, but does not explain it."""
    values = np.column_stack([waves(300, 2), (np.arange(300) // 40) % 2])
    manifest = made(tmp_path, [write(tmp_path / "a.csv", values, ["p", "f", "valve"])])
    assert manifest["targets"] == ["p", "f"]
    assert manifest["context"] == ["valve"]
    assert not [name for name in manifest["features"] if name.endswith(":valve")]


def test_streams_of_a_group_are_pooled_each_in_its_own_units(tmp_path):
    """One model of several streams; each brings its own location and scale, so levels a thousand times apart match."""
    paths = [write(tmp_path / "a.csv", waves()), write(tmp_path / "b.csv", 1000 * waves(250, seed=1))]
    manifest = made(tmp_path, paths)
    a, b = manifest["streams"]["a"], manifest["streams"]["b"]
    np.testing.assert_allclose(b["location"], 1000 * np.array(a["location"]), rtol=0.02)
    np.testing.assert_allclose(b["scale"], 1000 * np.array(a["scale"]), rtol=0.1)
    assert manifest["training"]["rows"] == {"a": 300, "b": 250}
    both = build(load(paths, None))
    for s in range(2):
        assert abs(both.values[both.rows_of(s)].std() - 1) < 0.2


def test_progress_goes_to_the_end():
    """Progress is reported in order and ends at the last step, with finite losses."""
    values = pump_rows(200, pumps=1)[2]
    rows = torch.from_numpy(((values[:, 0] - values[:, 0].mean(0)) / values[:, 0].std(0)).astype(np.float32))
    network = EncoderDecoder(NetworkSpec(channels=4, targets=(0, 1), window=10, hidden=4))
    calls = []
    ends = np.arange(9, 150)
    recipe = Recipe(steps=30, batch=8, checks=5, patience=100)
    fitted = fit(network, rows, ends, ends[-20:] + 40, recipe=recipe, seed=0, progress=lambda *x: calls.append(x))
    steps = [at for at, _, _ in calls]
    assert steps == sorted(set(steps))
    assert steps[-1] == 30
    assert {of for _, of, _ in calls} == {30}
    assert np.isfinite([loss for _, _, loss in calls]).all()
    assert fitted.best_loss == min(loss for _, loss in fitted.losses)
    assert dict(fitted.losses)[fitted.best_step] == fitted.best_loss


# ---- settings


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("hiden: 4", ["hiden", "hidden"]),
        ("recipe: {step: 4}", ["recipe.step", "steps"]),
        ("hidden: many", ["hidden", "'many'"]),
        ("recipe: 5", ["recipe", "5"]),
        ("- hidden", ["keys and values"]),
        ("hidden: [", ["YAML"]),
        ("linear: maybe", ["linear", "'maybe'"]),
    ],
)
def test_a_mistake_in_the_settings_is_named(tmp_path, text, words):
    """One line that names file, key, value or what is known there."""
    path = tmp_path / "train.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as refused:
        read_config(path)
    assert all(word in str(refused.value) for word in [*words, str(path)]), str(refused.value)


def test_settings_are_read_and_absent_ones_stay_default(tmp_path):
    path = tmp_path / "train.yaml"
    path.write_text("hidden: 7\ncontext: [valve]\nrecipe: {steps: 9}\n")
    read = read_config(path)
    default = read_config(None)
    assert read == replace(default, hidden=7, context=("valve",), recipe=replace(default.recipe, steps=9))
    path.write_text("")
    assert read_config(path) == default
    with pytest.raises(ConfigError, match=r"none\.yaml"):
        read_config(tmp_path / "none.yaml")


def test_settings_that_mean_nothing_together_say_so(tmp_path):
    """A network that cannot be is refused by the name of the setting, not by torch."""
    dataset = build(load([write(tmp_path / "a.csv", waves())], None))
    for changes, word in (({"cell": "relu"}, "cell"), ({"hidden": 0}, "hidden"), ({"task": "x"}, "task")):
        with pytest.raises((ValueError, ConfigError), match=word):
            train_dataset(dataset, 0, quick(5, **changes))


def test_a_real_plant_trains_through_files(tmp_path):
    """Series as the simulator writes them, labels and all: what was found stands in the manifest."""
    _, paths = write_pumps(tmp_path, rows=400, pumps=2)
    manifest = made(tmp_path, paths, rows=300)
    assert set(manifest["streams"]) == {p.stem for p in paths}
    assert manifest["channels"] == list(read_series(paths[0]).channels)
    assert manifest["period_s"] == 1.0
    assert manifest["training"]["seed"] == 0
    assert manifest["versions"]["torch"] == torch.__version__


# ---- the recipe

LENGTH, HIDDEN, STEPS = 48, 32, 1500


def sinusoids(count: int, seed: int) -> F32:
    """Noisy sinusoids of random frequency and phase, [n, 48, 1]; noise floor .005 of their variance."""
    rng = np.random.default_rng(seed)
    cycles, phase = rng.uniform(1, 4, (count, 1)), rng.uniform(0, 2 * np.pi, (count, 1))
    x = np.sin(2 * np.pi * cycles * np.arange(LENGTH) / LENGTH + phase) + rng.normal(0, 0.05, (count, LENGTH))
    return x.astype(np.float32)[:, :, None]


def quality(reconstruct, seed=99):
    """-> NMSE on unseen windows (1 = predicts the mean), and the AUC of windows with a spike against those without."""
    clean = sinusoids(500, seed)
    spiked, rng = sinusoids(500, seed + 1), np.random.default_rng(seed)
    spiked[np.arange(500), rng.integers(0, LENGTH, 500), 0] += rng.choice([-0.8, 0.8], 500)
    with torch.inference_mode():
        errors = [((reconstruct(torch.from_numpy(x)).numpy() - x) ** 2).mean(axis=(1, 2)) for x in (clean, spiked)]
    return errors[0].mean() / clean.var(), float((errors[1][:, None] > errors[0]).mean())


class Naive(nn.Module):
    """The tutorial's shape: repeat h, forward order, library initialisation."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.LSTM(1, HIDDEN, batch_first=True)
        self.decoder = nn.LSTM(HIDDEN, HIDDEN, batch_first=True)
        self.readout = nn.Linear(HIDDEN, 1)

    def forward(self, x):
        code = self.encoder(x)[1][0][-1]
        return self.readout(self.decoder(code[:, None].expand(-1, LENGTH, -1))[0])


def test_the_recipe_leaves_the_plateau():
    """In 1,500 steps NMSE <= .02 and spike AUC >= .9; the naive recipe, as many steps on the same rows, stays > .06."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    windows = sinusoids(4000, 0)
    rows, ends = torch.from_numpy(windows.reshape(-1, 1)), LENGTH * np.arange(1, 4001) - 1
    spec = NetworkSpec(channels=1, targets=(0,), window=LENGTH, hidden=HIDDEN)
    network = EncoderDecoder(spec)
    recipe = Recipe(steps=STEPS, batch=32, patience=100)
    fit(network, rows, ends[:3700], ends[3700:], recipe=recipe, seed=0)
    nmse, auc = quality(network.eval().reconstruct)
    print(f"recipe: NMSE {nmse:.4f}, spike AUC {auc:.3f}")
    assert nmse <= 0.02
    assert auc >= 0.9
    naive, random = Naive(), np.random.default_rng(0)
    optimiser = torch.optim.Adam(naive.parameters(), lr=1e-3)
    for _ in range(STEPS):
        x = torch.from_numpy(windows[random.integers(0, 3700, 32)])
        optimiser.zero_grad()
        nn.functional.mse_loss(naive(x), x).backward()
        optimiser.step()
    nmse, auc = quality(naive)
    print(f"naive: NMSE {nmse:.4f}, spike AUC {auc:.3f}")
    assert nmse > 0.06
