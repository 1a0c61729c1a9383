"""A storm: every stream goes bad at once, the real sink threads tell real receivers (`python -m tests.bench.storm`)."""

from pathlib import Path

import pytest

from tests import brokers
from tests.bench.storm import storm


@pytest.mark.skipif(brokers.MOSQUITTO is None, reason="mosquitto is not installed: apt-get install mosquitto")
@pytest.mark.parametrize("streams", [2000, pytest.param(10_000, marks=[pytest.mark.long, pytest.mark.timeout(1200)])])
def test_a_storm_is_stored_whole_and_notified_in_few_notifications(tmp_path: Path, streams: int) -> None:
    """Every alert is in the store, every sink is notified of each beginning and each end, by the hundred, in order."""
    outcome = storm(tmp_path, streams, calm_s=1, storm_s=3)
    print("\n" + "\n".join(outcome.lines()))
    assert outcome.wrong == []
    assert outcome.stored == streams
    assert sum(outcome.requests["/webhook"]) == 2 * streams
