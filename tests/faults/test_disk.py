"""A full disk and an orderly stop: nothing is acknowledged that is not stored, nothing is lost."""

from pathlib import Path

import pytest

from tests.brokers import Mosquitto
from tests.faults import disk, plant
from tests.faults.kill import torment
from tests.faults.processes import Zygote


@pytest.mark.parametrize("full_s", [pytest.param(3), pytest.param(60, marks=pytest.mark.long)])
def test_a_full_disk_under_load_stops_the_intake_and_nothing_else(
    tmp_path: Path, mosquitto: Mosquitto, model: plant.Model, zygote: Zygote, full_s: int
) -> None:
    """While the disk is full nothing is acknowledged; it goes on by itself, even if killed, and loses nothing."""
    how, outcome = disk.play(tmp_path / "plant", mosquitto, model, zygote, full_s)
    print(f"\n{how}, full for {full_s} s twice: {outcome}")
    assert outcome.clean, outcome
    assert outcome.expected


def test_sigterm_under_load_drains_and_exits_0(
    tmp_path: Path, mosquitto: Mosquitto, model: plant.Model, zygote: Zygote
) -> None:
    """An orderly stop in the middle of 1,000 messages a second loses nothing, doubles nothing and ends with 0."""
    outcome = torment(tmp_path / "plant", mosquitto, model, zygote, cycles=3, seed=3, tidy=True)
    print(f"\n{outcome}")
    assert outcome.clean, outcome
