"""A long quiet life under load grows nothing: a short one in the suite's long part, sizes as in the fault table."""

from pathlib import Path

import pytest

from tests import brokers
from tests.faults import plant, soak
from tests.faults.processes import Zygote


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_ten_minutes_of_load_grow_nothing(tmp_path: Path, model: plant.Model, zygote: Zygote) -> None:
    """Memory, threads, open files and the store stay as they were; every message is taken, every alert notified."""
    if brokers.MOSQUITTO is None:
        pytest.skip("mosquitto is not installed: apt-get install mosquitto")
    seen = soak.play(tmp_path, model, zygote, minutes=10, settle_s=150)
    print(f"\n{seen}")
    assert seen.lost == 0
    assert seen.alerts_wrong == 0
    assert seen.resident_mb.per_hour - 3 * seen.resident_mb.error_per_hour <= 0.1
    assert abs(seen.file_mb.last - seen.file_mb.first) < 0.5
    assert abs(seen.threads.last - seen.threads.first) < 1
    assert abs(seen.files.last - seen.files.first) < 1


def test_a_line_is_fitted_to_what_grows() -> None:
    """The control: a leak of one megabyte a minute is one of sixty an hour, and noise alone is none."""
    at_s = soak.np.arange(0, 600, 2.0)
    leaking = soak.growth(at_s, 400 + at_s / 60)
    assert leaking.per_hour == pytest.approx(60.0)
    still = soak.growth(at_s, 400 + soak.np.random.default_rng(0).normal(0, 0.01, len(at_s)))
    assert abs(still.per_hour) < 4 * still.error_per_hour
