"""The contract of history.sentinels and history.totals: what is no measurement, and what is a counter."""

import numpy as np
import pytest

from streamae.history.prepared import Screening
from streamae.history.screening import screen_rows
from streamae.history.sentinels import find_sentinels
from streamae.history.totals import is_counter
from tests.quick import examples

pytestmark = pytest.mark.quick
N = 4000


def temperature(seed=0, rows=N):
    rng = np.random.default_rng(seed)
    wander = np.cumsum(rng.normal(0, 0.01, rows))
    return np.round(21 + 3 * np.sin(np.arange(rows) / 300) + wander + rng.normal(0, 0.1, rows), 2)


def scattered(share, burst, seed=1, rows=N):
    """Rows of bursts of so many, at random places, that make up the share."""
    starts = np.random.default_rng(seed).integers(5, rows - burst - 5, max(1, int(share * rows / burst)))
    return np.unique(starts[:, None] + np.arange(burst))


def found(*columns):
    return [one.values for one in find_sentinels(np.column_stack(columns))]


@pytest.mark.parametrize("value", [-127.0, 85.0, 65_535.0, 1e9, -40.0, 3276.7, -9999.0])
@pytest.mark.parametrize("share", [0.001, 0.005, 0.02, 0.05])
@pytest.mark.parametrize("burst", [1, 3, 30])
def test_known_sentinels_are_found_at_any_share(value, share, burst):
    """A known sentinel is found, alone or in bursts, in its channel only."""
    column, other = temperature(), 50 + np.random.default_rng(2).normal(0, 1, N)
    at = scattered(share, burst)
    column[at] = value
    one, beside = find_sentinels(np.column_stack([column, other]))
    assert (one.values, one.counts, beside.values) == ((value,), (len(at),), ())
    assert -10 < one.low < one.high < 40


@pytest.mark.parametrize("value", [-33.7, 812.25, 0.0])
@pytest.mark.parametrize("share", [0.002, 0.005, 0.02])
def test_another_value_that_stands_alone_is_found_where_it_repeats(value, share):
    """What a device sends for no measurement need not be known: repeated to the digit, single, and always back."""
    column = temperature()
    column[scattered(share, 1)] = value
    assert found(column) == [(value,)]


def test_two_sentinels_and_single_samples_of_them():
    """-127 and 85 of the same sensor, the latter once."""
    column = temperature()
    column[scattered(0.005, 1)] = -127.0
    column[2222] = 85.0
    assert sorted(found(column)[0]) == [-127.0, 85.0]


def peaks(kind, rng):  # noqa: PLR0912  (a table of cases)
    base, at = 8 + rng.normal(0, 0.2, N), rng.choice(N - 40, 40, replace=False) + 5
    if kind == "heights":
        base[at] = rng.uniform(40, 60, 40)
    if kind == "whole heights":
        base = np.round(base)
        base[at] = np.round(rng.uniform(40, 60, 40))
    if kind == "one height, regular":
        base[::50] = 50.0
    if kind == "a tap":
        base[:] = 0.0
        for n in at:
            base[n : n + 4] = 8.0
    if kind == "a noisy tap":
        base = rng.normal(0, 0.01, N)
        for n in at:
            base[n : n + 30] = 8 + rng.normal(0, 0.1, 30)
    if kind == "stops":
        for n in at[:10]:
            base[n : n + 20] = 0.0
    if kind == "starts that clip":
        on = np.cumsum(rng.integers(60, 300, 40))
        for n, off in zip(on[::2], on[1::2], strict=True):
            base[n:off] = 0.0
            base[off : off + 1] = 50.0
    if kind == "heavy tail":
        base = np.round(rng.exponential(1, N) ** 3)
    if kind == "mode":
        base = rng.integers(0, 3, N).astype(float)
    if kind == "setpoint":
        base = np.where(np.arange(N) < 3900, 19.5, 85.0)
    return base


PEAKS = ("heights", "whole heights", "one height, regular", "a tap", "a noisy tap", "stops", "starts that clip")


@pytest.mark.parametrize("kind", [*PEAKS, "heavy tail", "mode", "setpoint"])
def test_what_belongs_to_the_process_stays(kind):
    """Peaks, stops, starts, cycles, steps: no value of them is taken for a sentinel."""
    for seed in range(examples(5)):
        assert found(peaks(kind, np.random.default_rng(seed))) == [()]


def test_what_other_channels_feel_is_an_event_of_the_machine():
    """The same peaks of one height are an event where vibration rises with them, and else no measurement."""
    rng = np.random.default_rng(0)
    current, vibration = 8 + rng.normal(0, 0.2, N), 1 + rng.normal(0, 0.1, N)
    at = rng.choice(N - 40, 40, replace=False) + 5
    current[at] = 50.0
    assert found(current, vibration) == [(50.0,), ()]
    vibration[at] += 3.0
    assert found(current, vibration) == [(), ()]


def test_a_value_that_another_machine_measures_is_left_out_of_its_own_series_only():
    """85 is no measurement of a cold room, and one of a boiler: the model may not drop it for both."""
    room, boiler = temperature(0), temperature(1) + 64.0
    room[scattered(0.005, 1)] = 85.0
    values = [room[:, None], boiler[:, None]]
    screened = screen_rows(values, ["t"], Screening())
    assert screened.prepared.sentinels == {}
    kept = [screened.possible(x, s, ["t"], Screening()) for s, x in enumerate(values)]
    assert int(np.isnan(kept[0]).sum()) == 20
    assert not np.isnan(kept[1]).any()


def energy(kind, rng):  # noqa: PLR0911  (a table of cases)
    total = np.cumsum(np.abs(rng.normal(0.5, 0.2, N))) + 1234.5
    if kind == "hundredths":
        return np.floor(total * 100) / 100
    if kind == "slow pulses":
        return np.floor(total / 50)
    if kind == "daily":
        return np.concatenate([np.cumsum(np.abs(rng.normal(0.5, 0.2, 500))) for _ in range(8)])
    if kind == "16 bits":
        return (total * 60) % 65_536
    if kind == "five digits":
        return np.floor(total * 100) % 100_000
    if kind == "restarted":
        return np.r_[total[:2500], total[2500:] - total[2500]]
    return total


@pytest.mark.parametrize("kind", ["plain", "hundredths", "slow pulses", "daily", "16 bits", "five digits", "restarted"])
def test_counters_are_recognised(kind):
    """Totals that only rise, that begin again, or that roll over."""
    assert is_counter([energy(kind, np.random.default_rng(0))])


@pytest.mark.parametrize("kind", ["mode", "setpoint", "heights", "a tap", "stops", "heavy tail"])
def test_what_falls_otherwise_is_no_counter(kind):
    """Measurements, modes and setpoints fall by themselves, or hardly rise."""
    assert not is_counter([peaks(kind, np.random.default_rng(0))])
    assert not is_counter([temperature()])
    assert not is_counter([energy("plain", np.random.default_rng(0)), temperature()])
    assert not is_counter([np.repeat(np.arange(3.0), 500)])
