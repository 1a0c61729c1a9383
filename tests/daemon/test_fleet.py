"""A fleet through a real broker into the real daemon: one model of a few sensors watches all of them."""

import pytest

from tests import brokers
from tests.bench.fleet import Trial, report, run

pytestmark = pytest.mark.skipif(
    brokers.MOSQUITTO is None, reason="mosquitto is not installed: apt-get install mosquitto"
)


def test_a_small_fleet(tmp_path):
    """Sensors that no model knows are watched: nothing dropped, memory flat, every fault caught, no other alarm."""
    trial = Trial(streams=200, rows=280, rate=14.0, train_rows=600, faulty=5)
    outcome = run(trial, tmp_path)
    assert not outcome.problems, report(trial, outcome)


@pytest.mark.long
def test_the_whole_fleet(tmp_path):
    """The same with 10,000 sensors at 1 Hz for five minutes, by their times of arrival."""
    outcome = run(Trial(), tmp_path)
    assert not outcome.problems, report(Trial(), outcome)
