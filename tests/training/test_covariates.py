"""The contract of `training.covariates`: context and clock are read where they lower held-out error, only."""

import json
from dataclasses import replace

import numpy as np
import pytest

from streamae.core.alert import AlertRule
from streamae.core.calendar import Calendar
from streamae.core.decode import PayloadSpec
from streamae.core.groups import Groups
from streamae.daemon.page.detail import overlay
from streamae.history.series import Series
from streamae.model import native
from streamae.model.artifact import describe, open_artifact
from streamae.model.executor_options import ExecutorOptions
from streamae.model.save import format_version
from streamae.model.spec import DetectorSpec
from streamae.training.backtest import offline_group, score_series
from streamae.training.classify.embed import embed_series
from streamae.training.covariates import choose
from streamae.training.dataset import build
from streamae.training.plan import TrainConfig, flat_windows, make_plan
from streamae.training.train import train
from tests.models import quick, quiet
from tests.plants import batch

T0 = 1_700_000_000.0
WINDOW = 12


def series(values, channels, *, period_s=1.0, name="s"):
    time_s = T0 + period_s * np.arange(len(values))
    return Series(name, tuple(channels), time_s, [repr(float(t)) for t in time_s], np.asarray(values, float))


def commanded(*, obeyed, rows=1500, seed=0):
    """A level that follows a valve, thrown at random, ten rows later; where it is not obeyed, another valve's."""
    rng = np.random.default_rng(seed)
    valve, other = (np.repeat(rng.integers(0, 2, rows // 15 + 1), 15)[:rows] for _ in range(2))
    level = np.roll(valve if obeyed else other, 10) + 0.05 * rng.normal(size=rows)
    return series(np.column_stack([level, valve]), ["level", "valve"])


def daily(*, days, rhythm=1.0, seed=0):
    """Load by the hour of the day and noise, a row every half hour: a window of six hours does not show the phase."""
    rng, n = np.random.default_rng(seed), int(days * 48)
    hour = (T0 / 3600 + np.arange(n) / 2) % 24
    busy = (np.abs(hour - 13) < 4) * rhythm
    return series((busy + 0.1 * rng.normal(size=n))[:, None], ["load"], period_s=1800.0)


def chosen(one, **changes):
    dataset, config = build([one]), replace(TrainConfig(window=WINDOW, hidden=8), **changes)
    flat = flat_windows(dataset, 0.0)
    plan = make_plan(dataset, config, flat)
    return plan, choose(dataset, plan, config, flat)


@pytest.mark.parametrize("obeyed", [True, False])
def test_a_command_is_read_where_the_target_obeys_it(obeyed):
    """The valve that moves the level is an input; the same valve with a level that it does not move is not."""
    _, found = chosen(commanded(obeyed=obeyed))
    trial = found.trials[0]
    assert trial.kept is obeyed, trial.said()
    assert found.plan.spec.context == ((1,) if obeyed else ())
    assert trial.regression[1] < 0.5 * trial.regression[0] if obeyed else trial.network is None


@pytest.mark.parametrize(("days", "rhythm", "kept"), [(12, 1.0, True), (12, 0.0, False), (2.9, 1.0, False)])
def test_the_clock_is_read_where_days_repeat_and_there_are_some(days, rhythm, kept):
    """A daily rhythm over twelve days is learnt from the clock; noise is not, and of two days nothing is tried."""
    _, found = chosen(daily(days=days, rhythm=rhythm))
    day, week = found.trials[1:]
    assert day.kept is kept, day.said()
    assert found.dataset.calendar.angles == (("day",) if kept else ())
    assert ("days, 3 are needed" in day.why) is (days < 3)
    assert "21 are needed" in week.why


def test_what_is_not_chosen_changes_nothing():
    """The design, its rows and its seed are as without the question; nor is a network without banks asked."""
    plan, found = chosen(commanded(obeyed=False))
    assert found.plan.spec == plan.spec
    assert np.array_equal(found.dataset.read(), found.dataset.values)
    assert format_version(plan.spec.to_mapping()) == 1, "older releases read it"
    assert chosen(commanded(obeyed=True), context_inputs="off")[1].plan.spec.context == ()
    assert chosen(commanded(obeyed=True), banks=False)[1].trials == ()


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A model of two targets that reads a command and the hour of Berlin, and the series that it was trained on."""
    rng = np.random.default_rng(3)
    valve = np.repeat(rng.integers(0, 2, 60), 10)
    level = np.roll(valve, 4) + 0.1 * rng.normal(size=600)
    one = series(np.column_stack([level, valve, level**2]), ["level", "valve", "flow"], period_s=600.0)
    path, registry = (tmp_path_factory.mktemp("context") / name for name in ("model.pt", "models.json"))
    config = quick(30, window=WINDOW, context_inputs="on", calendar="on", zone="Europe/Berlin", code_distance=True)
    train([], path, None, 0, config, fetched=[one], now=lambda: 0.0, registry=registry, console=quiet())
    return one, open_artifact(path, None, registry), path, registry


def test_the_artifact_owns_what_is_read(model):
    """Zone, angles and trials stand in the manifest and in `inspect`; the format says that older releases cannot."""
    _, opened, path, _ = model
    said = describe(path)
    assert said["calendar"]["zone"] == "Europe/Berlin"
    assert said["calendar"]["angles"] == ["day", "week"]
    assert [trial["why"] for trial in said["training"]["inputs"]] == ["switched on"] * 3
    assert said["format"]["version"] == 2
    spec = DetectorSpec.from_mapping(said["network"])
    assert (spec.channels, spec.targets, spec.context) == (7, (0, 2), (1, 3, 4, 5, 6))
    assert {channel for _, channel in spec.features()} == {0, 2, -1}, "context has no error of its own"
    assert opened.profile.calendar is not None


def test_the_daemon_scores_as_the_verb_over_any_batches_and_restarts(model):
    """Messages in random batches, with a restart from a snapshot between, give the scores of `score` to the bit."""
    one, opened, *_ = model
    group = offline_group(opened.profile, opened.reconstructor, AlertRule())
    wanted = score_series(one, group).score
    group = replace(group, payloads=[PayloadSpec("json", time="t")])
    rows = [dict(zip(one.channels, row, strict=True)) | {"t": t} for t, row in zip(one.time_s, one.values, strict=True)]
    messages = [(b"series/s", json.dumps(row).encode(), row["t"]) for row in rows]
    groups, rng, found, at = Groups("test", [group]), np.random.default_rng(0), {}, 0
    while at < len(messages):
        size = int(rng.integers(1, 40))
        verdicts = groups.step(batch(messages[at : at + size]), T0 + 1e9).groups["series"].verdicts
        found |= dict(zip(verdicts.time_s.tolist(), verdicts.score.tolist(), strict=True))
        at += size
        fresh = Groups("test", [group])
        assert fresh.restore(groups.snapshot()) == []
        groups = fresh
    np.testing.assert_array_equal([found.get(t, np.nan) for t in one.time_s], wanted)


WAYS = ["module", "loop", *(["native"] if native.best_level() else [])]


@pytest.mark.parametrize("way", WAYS)
def test_every_executor_reads_context(model, way):
    """All agree with the module, and a window has its own bits in any batch."""
    one, opened, path, registry = model
    rows = Calendar.of(opened.profile.calendar).beside(one.values.astype(np.float32), one.time_s)
    windows = np.lib.stride_tricks.sliding_window_view(rows, WINDOW, axis=0).transpose(0, 2, 1)[:200].copy()
    runner = open_artifact(path, None, registry, means=ExecutorOptions(way)).reconstructor
    assert runner.executor == way
    whole, module = (
        runner.errors(windows),
        open_artifact(path, None, registry, means=ExecutorOptions("module")).reconstructor,
    )
    np.testing.assert_allclose(whole, module.errors(windows), rtol=1e-4, atol=1e-5)
    for size in (1, 7, 33):
        parts = np.concatenate([runner.errors(windows[i : i + size]) for i in range(0, 200, size)])
        assert np.array_equal(parts, whole)


def test_context_counts_within_what_training_saw(model):
    """A command a thousand times further than ever reads as the furthest; a target is never held to its range."""
    _, opened, *_ = model
    windows = np.asarray(opened.manifest["golden"]["windows"], np.float32)
    furthest, beyond, strayed = (windows.copy() for _ in range(3))
    furthest[:, :, 1] = windows[:, :, 1].max() + 10
    beyond[:, :, 1] = 1e4
    strayed[:, :, 0] += 1e3
    errors = opened.reconstructor.errors
    assert np.array_equal(errors(furthest), errors(beyond))
    assert not np.array_equal(errors(windows), errors(beyond)), "the command is read"
    assert errors(strayed).max() > 1e4


def test_close_up_and_embedding_read_it_too(model):
    """The page's overlay and `embed` run the model on the same rows as the daemon."""
    one, opened, *_ = model
    profile = opened.profile
    known = profile.streams["s"]
    scaled = ((one.values - known.location) / known.scale).astype(np.float32)
    read = Calendar.of(profile.calendar).beside(scaled, one.time_s)
    shown, foreseen = overlay(opened.reconstructor, one.time_s, read, profile.window, profile.gap_max_s)
    assert shown.shape == foreseen.shape == (len(one), 2)
    assert np.nanmean((shown - scaled[:, [0, 2]]) ** 2) < 1.0
    embedded = embed_series(one, profile, opened.reconstructor)
    assert np.array_equal(embedded.vectors[5], opened.reconstructor.encode(read[None, 5 : 5 + WINDOW])[0])
