"""kill -9, again and again, while 1,000 messages a second come in and the webhook misbehaves."""

from pathlib import Path

import pytest

from tests.brokers import Mosquitto
from tests.faults import plant
from tests.faults.kill import torment
from tests.faults.processes import Zygote


@pytest.mark.parametrize(
    "cycles", [pytest.param(25), pytest.param(300, marks=[pytest.mark.long, pytest.mark.timeout(3600)])]
)
def test_kill_9_under_load_loses_doubles_and_invents_no_alert(
    tmp_path: Path, mosquitto: Mosquitto, model: plant.Model, zygote: Zygote, cycles: int
) -> None:
    """However often the daemon is killed, each alert arrives, once after dedup by key, in order, and no other."""
    outcome = torment(tmp_path / "plant", mosquitto, model, zygote, cycles=cycles, seed=1)
    print(f"\n{outcome}")
    assert outcome.clean, outcome
    assert outcome.expected > cycles
    assert outcome.answers["503"]
    assert outcome.answers["hung up"]


def test_acknowledging_before_the_commit_loses_alerts_in_the_same_harness(
    tmp_path: Path, mosquitto: Mosquitto, model: plant.Model, zygote: Zygote
) -> None:
    """The control: a daemon that acknowledges what it has not committed yet loses messages, and alerts with them."""
    outcome = torment(tmp_path / "plant", mosquitto, model, zygote, cycles=10, seed=1, variant="hasty", patience_s=3)
    print(f"\n{outcome}")
    assert outcome.messages_lost
    assert outcome.lost + outcome.spurious


def test_a_daemon_blind_to_redelivery_is_caught_by_the_same_harness(
    tmp_path: Path, mosquitto: Mosquitto, model: plant.Model, zygote: Zygote
) -> None:
    """The control: taking redelivered messages for new ones puts them into the journal twice."""
    outcome = torment(tmp_path / "plant", mosquitto, model, zygote, cycles=8, seed=1, variant="blind", patience_s=3)
    assert outcome.messages_doubled
