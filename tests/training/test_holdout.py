"""Rows that no model saw place the threshold where training covers a short time."""

from dataclasses import replace

import numpy as np
import pytest

from streamae.core.alert import AlertRule
from streamae.errors import ConfigError
from streamae.history.series import Series
from streamae.model.artifact import profile_of
from streamae.model.runtime import TorchReconstructor
from streamae.model.spec import DetectorSpec
from streamae.training.backtest import offline_group, score_series
from streamae.training.dataset import Stream
from streamae.training.holdout import first_part, is_short
from streamae.training.limits import Limit
from streamae.training.settings import read_config
from streamae.training.train import train_streams
from tests.models import quick

ROWS = 400


def wave(period_s: float = 1.0, late: float = 1.0) -> Stream:
    """Two channels of waves and noise, whose noise is `late` times as large in the last quarter."""
    rng, t = np.random.default_rng(3), np.arange(ROWS)
    noise = 0.2 * rng.normal(size=(ROWS, 2)) * np.where(t >= 3 * ROWS // 4, late, 1.0)[:, None]
    return Stream("s", ("a", "b"), t * period_s, np.sin(t[:, None] / np.array([5.0, 7.0])) + noise)


def config(unseen: float):
    return quick(20, window=16, threshold=Limit(unseen=unseen))


def highest(trained, stream: Stream, first: int) -> float:
    """The highest ln score of the rows from `first` on, as the daemon would score them."""
    model = TorchReconstructor(trained.scripted, DetectorSpec.from_mapping(trained.manifest["network"]))
    series = Series(stream.name, stream.channels, stream.time_s, [str(t) for t in stream.time_s], stream.values)
    score = score_series(series, offline_group(profile_of(trained.manifest, ""), model, AlertRule())).score
    return float(np.nanmax(np.log(score[first:])))


def test_the_threshold_rises_by_what_unseen_rows_pass_it_by():
    """By as much, for known and for new streams, and nothing else of the model changes; without asking it stands."""
    stream = wave(late=2.0)
    asked, not_asked = train_streams([stream], 0, config(0.25)), train_streams([stream], 0, config(0.0))
    first = train_streams(first_part([stream], 0.25), 0, config(0.0))
    by = highest(first, stream, 3 * ROWS // 4)
    assert 0.1 < by < np.log(2)
    assert asked.manifest["training"]["unseen_passed"] == pytest.approx(by)
    assert "unseen_passed" not in not_asked.manifest["training"]
    for key in ("zero", "offset", "cold_zero", "cold_offset"):
        moved = asked.manifest["calibration"][key] - not_asked.manifest["calibration"][key]
        assert moved == pytest.approx(by), key
    for key in ("zero", "offset"):
        assert asked.manifest["streams"]["s"][key] - not_asked.manifest["streams"]["s"][key] == pytest.approx(by)
    assert asked.manifest["golden"] == not_asked.manifest["golden"]


def test_something_new_at_the_end_makes_no_model_blind():
    """What the first part could not teach is no noise: the threshold is doubled at most, however far it is passed."""
    trained = train_streams([wave(late=50.0)], 0, config(0.25))
    assert trained.manifest["training"]["unseen_passed"] == pytest.approx(np.log(2))


def test_rows_that_stay_below_move_nothing():
    """A quiet end lowers no threshold."""
    trained = train_streams([wave(late=0.2)], 0, config(0.25))
    assert trained.manifest["training"]["unseen_passed"] == 0.0


def test_a_long_time_vouches_for_itself():
    """Rows of three days are asked about no further; nor is a threshold that is placed another way."""
    long = train_streams([wave(period_s=648.0, late=3.0)], 0, config(0.25))
    assert not is_short(long.manifest)
    assert "unseen_passed" not in long.manifest["training"]
    other = replace(config(0.25), threshold=Limit("quantile"))
    assert "unseen_passed" not in train_streams([wave(late=3.0)], 0, other).manifest["training"]


def test_a_stream_that_is_too_short_for_less_is_trained_on_whole():
    """There the first part alone would be refused; the model proper is not."""
    whole = wave()
    short = replace(whole, time_s=whole.time_s[:110], values=whole.values[:110])
    trained = train_streams([short], 0, config(0.25))
    assert "unseen_passed" not in trained.manifest["training"]


def test_half_of_the_rows_at_most_is_held_back(tmp_path):
    """More is refused with the key, the value and what may stand there."""
    (tmp_path / "train.yaml").write_text("threshold: {unseen: 0.9}\n")
    with pytest.raises(ConfigError, match=r"unseen 0\.9 must lie between 0 \(do not ask\) and 0\.5"):
        read_config(tmp_path / "train.yaml")
