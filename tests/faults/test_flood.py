"""Ever new topics fill the streams that there may be, and after that nothing: what was known before goes on."""

from pathlib import Path

import pytest

from tests import brokers
from tests.faults import flood, plant
from tests.faults.processes import Zygote

WANTED = "mosquitto is not installed: apt-get install mosquitto"
pytestmark = pytest.mark.skipif(brokers.MOSQUITTO is None, reason=WANTED)
MILLION = pytest.param(1_000_000, 10_000, marks=[pytest.mark.long, pytest.mark.timeout(1800)])


@pytest.mark.parametrize(("topics", "cap"), [(10_000, 200), MILLION])
def test_a_topic_explosion_leaves_the_known_streams_and_the_memory_alone(
    tmp_path: Path, model: plant.Model, zygote: Zygote, topics: int, cap: int
) -> None:
    """Beyond `max_streams` each topic is refused and counted; known streams are judged, memory stays within a tenth."""
    seen = flood.play(tmp_path, model, zygote, topics=topics, cap=cap)
    print(f"\n{seen}")
    assert seen.streams == cap
    assert seen.refused == topics
    assert seen.known_missing == 0
    assert seen.alerts_expected
    assert seen.alerts_wrong == 0
    assert seen.growth <= 0.1


def test_without_the_bound_every_topic_is_a_stream_and_memory_grows(
    tmp_path: Path, model: plant.Model, zygote: Zygote
) -> None:
    """The control: the same flood, and room for all of it."""
    seen = flood.play(tmp_path, model, zygote, topics=10_000, cap=200, max_streams=20_000)
    print(f"\n{seen}")
    assert (seen.streams, seen.refused) == (10_200, 0)
    assert seen.growth > 0.2
