"""The contract of core.blind: which streams are not judged as they should be, and why."""

from dataclasses import replace

import numpy as np
import pytest

from streamae.core.blind import BLIND_FROM, blind, unfit
from streamae.core.pipeline import Pipeline
from streamae.core.types import AlertState, Rows
from tests import plants

pytestmark = pytest.mark.quick


def pipeline(streams=("a",), **calibration):
    profile = plants.profile()
    known = {"known": plants.known_stream([0.0, 0.0], [1.0, 1.0], weight=[0.5, 0.5], zero=1.0)}
    changed = replace(profile.calibration, **calibration)
    made = Pipeline("i", plants.group(profile=replace(profile, calibration=changed, streams=known)))
    for name in streams:
        made.streams.add(name)
    made.begin()
    return made


@pytest.mark.parametrize(
    ("threshold", "is_blind"), [(826.0, True), (31.0, True), (1e300, True), (3.35, False), (np.nan, False)]
)
def test_a_threshold_beyond_plausible_scores_blinds(threshold, is_blind):
    """However it came there; one that has followed what is normal a little, or is not known, does not."""
    one = pipeline()
    one.latest.threshold[0] = threshold
    assert blind(one).tolist() == [0] * is_blind
    assert [words for _, words in unfit(one)] == [f"blind: threshold {threshold:.3g}"] * is_blind


def test_while_its_alert_fires_no_stream_is_blind():
    """It has been seen."""
    one = pipeline()
    one.latest.threshold[0] = 826.0
    one.alerts.hold(0, "warning", 0, (0.0, 0.0), 900.0)
    assert one.alerts.standing(1).tolist() == [AlertState.FIRING]
    assert blind(one).tolist() == []


@pytest.mark.parametrize("above", [np.log(60_000), np.log(2.0)])
def test_a_model_that_blinds_strangers_is_seen(above):
    """What is 1.0 for a stream that the model does not know may be thousands of times what it is for its own."""
    one = pipeline(["a", "known"], cold_zero=float(np.log(4.0) + above))
    one.latest.threshold[:2] = 0.88
    assert blind(one).tolist() == ([0] if 0.88 * np.exp(above) > BLIND_FROM else [])


def test_a_stream_that_rests_says_what_it_waits_for():
    """The channel that stands still, though it always moved in the training."""
    one = pipeline(calm=np.array([2.0, 2.0]), runs=np.array([2, 2]))
    one.step_rows(["a"], Rows(np.zeros(30, np.int32), np.arange(30.0), np.tile((5.0, 1.0), (30, 1))))
    assert list(unfit(one)) == [(0, "rests: a")]
