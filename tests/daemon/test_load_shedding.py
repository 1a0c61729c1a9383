"""The contract of daemon.load_shedding: thin before anything is dropped, and go back without swinging."""

import pytest

from streamae.daemon.load_shedding import LoadShedding


def play(pace, seconds, *, linger_s=0.05, rate=0.0, room=1_000_000, cost_s=0.0, fixed_s=0.0, begin=(0.0, 0.0)):
    """A loop over an inbox in virtual time: each message costs `fixed_s`, and `cost_s` over the thinning.

    A take waits `linger_s` where it finds less than a full batch. Returns [(time, thinning)] of each change, and
    (time, messages waiting) at the end.
    """
    now, waiting = begin
    changes, end = [], now + seconds
    while now < end:
        waited = 0.0 if waiting >= 1000 else linger_s
        now += waited
        waiting += rate * waited
        before = pace.thinning
        thinning = pace.next(min(waiting / room, 1.0), waited, now)
        if thinning != before:
            changes.append((round(now, 1), thinning))
        batch = min(waiting, 1000.0)
        spent = 0.002 + batch * (fixed_s + cost_s / thinning)
        now += spent
        waiting = max(waiting - batch + rate * spent, 0.0)
    return changes, (now, waiting)


def test_a_load_that_is_carried_is_never_thinned():
    """A loop that waits for messages now and then scores every window, however long."""
    assert play(LoadShedding(8), 300, rate=1000, cost_s=0.0007)[0] == []


def test_an_overload_is_thinned_until_the_backlog_is_worked_off():
    """Three times the work that there is time for: the thinning doubles until the inbox is empty again."""
    pace = LoadShedding(8)
    changes, (_, waiting) = play(pace, 60, rate=1000, cost_s=0.003, fixed_s=0.0001)
    assert [thinning for _, thinning in changes][:2] == [2, 4]
    assert waiting < 2000


def test_after_the_overload_every_window_is_scored_again():
    """Within a minute of the load's end the thinning is back at 1, step by step."""
    pace = LoadShedding(8)
    _, after = play(pace, 40, rate=1000, cost_s=0.006)
    assert (pace.thinning, pace.why) == (8, "messages leave no pause")
    changes, _ = play(pace, 60, rate=10, cost_s=0.006, begin=after)
    assert [thinning for _, thinning in changes] == [4, 2, 1]
    assert pace.why == "there is time again"


def test_a_load_near_the_limit_does_not_swing():
    """Where the lower thinning would be saturated, it is tried at most once a minute."""
    pace = LoadShedding(8)
    changes, _ = play(pace, 600, rate=1000, cost_s=0.0012, fixed_s=0.0001)
    assert 1 <= len(changes) <= 2 * 10 + 1


@pytest.mark.parametrize(("fill", "thinning"), [(0.3, 1), (0.4, 2), (0.65, 4), (0.9, 8)])
def test_an_inbox_that_fills_up_fast_is_answered_at_once(fill, thinning):
    """The fuller the inbox, the thinner, before the loop's idle time tells anything."""
    pace = LoadShedding(8)
    assert pace.next(fill, 0.0, 0.0) == thinning
    assert pace.why == (f"the inbox is {100 * fill:.0f} % full" if thinning > 1 else "")


def test_thinning_max_bounds_it_and_1_switches_it_off():
    """No sign of a backlog thins beyond the maximum."""
    for most in (1, 2):
        pace = LoadShedding(most)
        play(pace, 30, rate=1000, cost_s=0.05, room=1000)
        assert pace.thinning == most
