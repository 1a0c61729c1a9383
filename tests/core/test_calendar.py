"""The contract of `core.calendar` and `training.zone`: what the clock said at a row, the same in any batch."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamae.core.calendar import Calendar
from streamae.errors import ConfigError
from streamae.training.zone import clock_offsets

pytestmark = pytest.mark.quick

FROM_S = datetime(2023, 5, 1, tzinfo=UTC).timestamp()
ZONES = {zone: clock_offsets(zone, FROM_S, FROM_S + 86_400) for zone in ("UTC", "Europe/Berlin", "+05:30", "-03:30")}
BY_HAND = {"+05:30": "Asia/Kolkata", "-03:30": "Etc/GMT+3"}
TIMES = st.floats(FROM_S, FROM_S + 10 * 366 * 86_400)


@given(st.integers(int(FROM_S), int(FROM_S) + 10 * 366 * 86_400), st.sampled_from(["UTC", "Europe/Berlin", "+05:30"]))
def test_angles_are_those_of_the_local_clock(time_s, zone):
    """Against the zone's own clock for ten years: minutes since midnight for the day, since Thursday for the week."""
    local = datetime.fromtimestamp(time_s, ZoneInfo(BY_HAND.get(zone, zone)))
    minutes = 60 * local.hour + local.minute
    days = (local.weekday() - 3) % 7  # 1970 began on a Thursday
    day, week = 2 * np.pi * minutes / 1440, 2 * np.pi * (minutes + 1440 * days) / 10_080
    found = Calendar(("day", "week"), ZONES[zone]).columns(np.array([float(time_s)]))[0]
    np.testing.assert_allclose(found, [np.sin(day), np.cos(day), np.sin(week), np.cos(week)], atol=1e-6)


@given(st.lists(TIMES, min_size=1, max_size=50), st.integers(0, 50))
def test_a_row_has_the_same_bits_in_any_batch_and_after_the_artifact(times, cut):
    """Columns of a batch are those of its parts; what the manifest keeps gives them again, rows before it too."""
    calendar, time_s = Calendar(("week",), ZONES["Europe/Berlin"]), np.array(times)
    whole = calendar.columns(time_s)
    assert np.array_equal(whole, np.concatenate([calendar.columns(time_s[:cut]), calendar.columns(time_s[cut:])]))
    again = Calendar.of(calendar.to_mapping())
    assert np.array_equal(again.columns(time_s), whole)
    assert np.array_equal(again.columns(np.array([0.0])), calendar.columns(np.array([0.0])))


def test_without_angles_rows_stay_as_they_are():
    """A model that reads no clock reads the very array of its rows; old artifacts have none."""
    rows = np.zeros((3, 2), np.float32)
    assert Calendar.of(None).beside(rows, np.zeros(3)) is rows
    assert len(Calendar.of(None)) == 0
    assert Calendar(("day",), ZONES["UTC"]).beside(rows, np.zeros(3)).shape == (3, 4)


@pytest.mark.parametrize("zone", ["Europe/Berlin", "-03:30"])
def test_each_change_of_the_clock_is_known(zone):
    """Summer time by the second, twice a year for twenty years; a fixed offset never changes."""
    changes = ZONES[zone]
    assert len(changes) == (41 if zone == "Europe/Berlin" else 1)
    if len(changes) == 1:
        assert changes[0][1] == -3.5 * 3600
    for since_s, offset_s in changes[1:]:
        local = datetime.fromtimestamp(since_s, ZoneInfo(zone)).utcoffset()
        before = datetime.fromtimestamp(since_s - 1, ZoneInfo(zone)).utcoffset()
        assert local.total_seconds() == offset_s != before.total_seconds()


@pytest.mark.full
def test_an_unknown_zone_is_refused_with_what_may_stand_there(tmp_path):
    """A mistaken zone is answered with file, value and an example of one that is right."""
    from streamae.training.settings import read_config  # imports torch

    path = tmp_path / "train.yaml"
    path.write_text("zone: Mars/Olympus\n")
    with pytest.raises(ConfigError, match=r"train\.yaml.*Mars/Olympus.*Europe/Berlin"):
        read_config(path)
    path.write_text("zone: Europe/Berlin\ncalendar: on\ncontext_inputs: off\n")
    read = read_config(path)
    assert (read.zone, read.calendar, read.context_inputs) == ("Europe/Berlin", "on", "off"), "booleans of YAML"
