"""What is no measurement, and what is a counter, from training to the daemon's verdicts."""

import io
import json
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from streamae.config import load as load_config
from streamae.config.check import fits
from streamae.core.alert import AlertRule
from streamae.core.align_rule import GridAlign
from streamae.history.series import Series, write_series
from streamae.model.artifact import open_artifact, read_manifest
from streamae.training.backtest import offline_group, score_file, score_series
from streamae.training.settings import read_config
from streamae.training.train import train
from tests.models import quick


def room(rows, seed=0):
    """`[rows, 2]`: temperature and humidity of a room, a row a minute."""
    rng, t = np.random.default_rng(seed), np.arange(rows)
    temperature = 21 + 2 * np.sin(t / 120) + rng.normal(0, 0.1, rows)
    humidity = 50 - 3 * np.sin(t / 120) + rng.normal(0, 0.5, rows)
    return np.round(np.column_stack([temperature, humidity]), 2)


def series_of(values, channels=("temperature", "humidity"), name="room", every_s=60.0):
    return Series.of(name, channels, every_s * np.arange(len(values)), values)


def trained(tmp_path, series, **changes):
    """Train for a moment; -> (artifact, manifest, what was said)."""
    out, registry, said = tmp_path / "model.pt", tmp_path / "models.json", io.StringIO()
    grid = changes.pop("grid", None)
    console = Console(file=said, width=400)
    config = quick(40, **changes)
    train([], out, None, 0, config, fetched=series, grid=grid, now=lambda: 0.0, registry=registry, console=console)
    return open_artifact(out, None, registry), read_manifest(out), said.getvalue()


def scored(artifact, series):
    return score_series(series, offline_group(artifact.profile, artifact.reconstructor, AlertRule()))


def with_fault(values, first, by=3.0):
    faulty = values.copy()
    faulty[first:, 0] += by
    return faulty


@pytest.mark.parametrize(("value", "share", "burst"), [(-127.0, 0.005, 1), (85.0, 0.02, 3), (65_535.0, 0.001, 1)])
def test_sentinels_in_training_do_not_blind_the_model(tmp_path, value, share, burst):
    """A fault of 3 degrees scores as with clean rows; what was left out is said, kept, and ruins no window later."""
    clean = room(3000)
    dirty = clean.copy()
    rng = np.random.default_rng(5)
    for n in rng.integers(50, 2900, max(3, int(share * 3000 / burst))):
        dirty[n : n + burst, 0] = value
    artifact, manifest, said = trained(tmp_path, [series_of(dirty)])
    assert manifest["sentinels"]["temperature"]["values"] == [value]
    assert f"temperature: left out {int((dirty[:, 0] == value).sum())} times {value:g}" in said
    later = room(600, seed=9)
    later[200, 0] = value
    assert np.nanmax(scored(artifact, series_of(later)).score) < 1.0
    fault = scored(artifact, series_of(with_fault(later, 400)))
    assert np.nanmax(fault.score[400:]) > 3.0


def test_learnt_as_they_are_sentinels_blind_the_model(tmp_path):
    """The control: half a percent of -127, learnt, hides the same fault."""
    dirty = room(3000)
    dirty[np.random.default_rng(5).integers(50, 2900, 15), 0] = -127.0
    artifact, manifest, _ = trained(tmp_path, [series_of(dirty)], sentinels="off")
    assert "sentinels" not in manifest
    assert np.nanmax(scored(artifact, series_of(with_fault(room(600, seed=9), 400))).score[400:]) < 1.0


def test_the_declared_range_holds_in_training_too(tmp_path):
    """What lies beyond it is left out, whatever it looks like."""
    dirty = room(1000)
    dirty[::97, 0] = 40.0 + np.arange(len(dirty[::97])) % 7
    _, manifest, _ = trained(tmp_path, [series_of(dirty)], range={"temperature": (-10.0, 39.0)})
    assert manifest["training"]["refused_rows"]["incomplete"] == len(dirty[::97])


def meter(rows, seed=0, start=5000.0):
    """`[rows, 2]`: power in W and a meter of kWh with two decimals, a row a minute."""
    rng, t = np.random.default_rng(seed), np.arange(rows)
    power = 800 + 300 * np.sin(t / 60) + rng.normal(0, 10, rows)
    return np.column_stack([np.round(power), np.floor(100 * (start + np.cumsum(power) / 60_000)) / 100])


def test_a_counter_is_learnt_as_its_rate(tmp_path):
    """Rows after training, a restart and a rollover of the meter are normal; a meter that stands still is not."""
    artifact, manifest, said = trained(tmp_path, [series_of(meter(3000), ("power", "energy"))])
    assert manifest["counters"] == {"energy": "rate_per_hour"}
    assert "energy: is a counter" in said
    on, rolled, restarted = (meter(600, seed=3, start=start) for start in (5040.0, 9_998.0, 5040.0))
    rolled[:, 1] %= 10_000
    restarted[200:, 1] -= restarted[200, 1]
    for later in (on, rolled, restarted):
        found = scored(artifact, series_of(later, ("power", "energy")))
        known = np.isfinite(found.score)
        assert known.sum() > 550
        assert (found.score[known] > found.threshold[known]).mean() < 0.01
    stopped = meter(600, seed=3, start=5040.0)
    stopped[300:, 1] = stopped[300, 1]
    assert np.nanmax(scored(artifact, series_of(stopped, ("power", "energy"))).score[300:]) > 1.0


def test_a_counter_as_it_is_alarms_for_ever(tmp_path):
    """The control: `counters: off` learns the total, and normal rows after training fire."""
    artifact, manifest, _ = trained(tmp_path, [series_of(meter(3000), ("power", "energy"))], counters="off")
    assert "counters" not in manifest
    found = scored(artifact, series_of(meter(600, seed=3, start=7000.0), ("power", "energy")))
    known = np.isfinite(found.score)
    assert (found.score[known] > 1.0).mean() > 0.9


CONFIG = """
instance: home
streams:
  rooms:
    topics: [{topic: "home/{room}", payload: json, values: {power: p, energy: e}}]
    model: {path: model.pt}
    %s
"""


SAID = {
    "": None,
    "counters: {energy: rate_per_hour}": None,
    "counters: {energy: delta}": "energy: got delta",
    "counters: {energy: off}": "energy: got off",
    "counters: {flow: rate}": "flow: got rate",
}


@pytest.mark.parametrize(("said", "refused"), SAID.items())
def test_the_configuration_may_not_contradict_the_model(tmp_path, said, refused):
    """`counters` of a group is what `train` reads; a daemon follows the model, and refuses another word."""
    artifact, _, _ = trained(tmp_path, [series_of(meter(400), ("power", "energy"))])
    path = tmp_path / "streamae.yaml"
    path.write_text(CONFIG % said)
    lines = fits("rooms", load_config(path).streams["rooms"], artifact.profile)
    assert ([] if refused is None else [True]) == [refused in line for line in lines]


def test_train_yaml_says_it_for_files(tmp_path):
    """`counters`, `range` and `sentinels` of train.yaml; off as YAML reads it."""
    path = tmp_path / "train.yaml"
    path.write_text("counters: {energy: delta, total: off}\nrange: {power: [0, 5000]}\nsentinels: off\n")
    wish = read_config(path).screening
    assert (wish.counters, wish.range) == ({"energy": "delta", "total": "off"}, {"power": (0.0, 5000.0)})
    assert (wish.find_counters, wish.find_sentinels) == (True, False)
    path.write_text("counters: off\n")
    assert read_config(path).screening.find_counters is False


def on_change(rows, seed=0):
    """Cells of two sensors that send on change, minutes apart; a row has one of them."""
    rng, full = np.random.default_rng(seed), room(rows, seed)
    at = np.sort(rng.choice(rows, rows // 3, replace=False))
    values = full[at]
    values[np.arange(len(at)), rng.integers(0, 2, len(at))] = np.nan
    return Series.of("room", ("temperature", "humidity"), 60.0 * at, values)


def test_sensors_that_send_on_change_are_put_on_a_grid(tmp_path):
    """Rows of one value each become rows of the grid, in training and in `score`, as the daemon builds them."""
    series = on_change(3000)
    artifact, manifest, _ = trained(tmp_path, [series], grid=GridAlign(60.0))
    assert manifest["grid"]["every_s"] == 60.0
    assert manifest["period_s"] == 60.0
    assert manifest["gap_max_s"] >= manifest["grid"]["gap_max_s"] >= 600.0
    assert manifest["training"]["rows"]["room"] > 2500
    path, out = tmp_path / "room.csv", tmp_path / "scores.csv"
    later = on_change(600, seed=4)
    write_series(path, later.channels, later.time_text, later.values)
    said = score_file(tmp_path / "model.pt", path, out, artifact.digest, None)
    assert "rows of the model's grid scored" in said
    assert len(out.read_text().splitlines()) > 500


def test_rows_that_look_like_samples_on_change_are_a_warning(tmp_path):
    """Without a grid, irregular times are said with what to write."""
    full = room(400)
    time_s = np.cumsum(np.random.default_rng(0).exponential(300, 400))
    _, _, said = trained(tmp_path, [Series.of("room", ("temperature", "humidity"), time_s, full)])
    assert "`streamae train --every 1m`" in said
    _, _, said = trained(tmp_path, [series_of(full)])
    assert "--every" not in said


def test_a_recording_on_a_grid_is_screened_sample_by_sample(tmp_path):
    """A sentinel that a grid would hold for many rows is found among the samples, and totals become rates there."""
    from streamae.history.messages import from_recordings

    path, recording = tmp_path / "streamae.yaml", tmp_path / "home.jsonl"
    grid = "align: {every: 1m, gap_max: 30m}\n    counters: {energy: rate}"
    path.write_text((CONFIG % grid).replace("values: {power: p, energy: e}", "time: t, values: {power: p, energy: e}"))
    lines, rng = [], np.random.default_rng(0)
    for n in range(900):
        document = {"p": -127.0 if n % 90 == 7 else round(800 + rng.normal(0, 10), 1), "e": 5000 + n, "t": 300.0 * n}
        record = {"time_s": 300.0 * n, "topic": "home/a", "payload": json.dumps(document)}
        lines.append(json.dumps(record))
    recording.write_text("\n".join(lines))
    found = from_recordings(path, None, [recording])
    (series,) = found.series
    assert series.prepared.counters == {"energy": "rate"}
    assert series.prepared.sentinels["power"].values == (-127.0,)
    assert series.values[:, 0].min() > 700
    np.testing.assert_allclose(series.values[:, 1], 1 / 300)
    assert any("power: left out 10 times -127" in note for note in found.notes)
    artifact, manifest, _ = trained(tmp_path, found.series)
    assert manifest["grid"]["every_s"] == 60.0
    assert replace(artifact.profile.grid, lateness_s=2.0).bridged_s() == 1800.0
