"""Maintenance: streams are judged and shown, no sink is notified, nothing is learnt; a replay judges the same."""

import json
from dataclasses import replace
from datetime import UTC, datetime, time, timedelta
from itertools import islice
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamae.config.check import check
from streamae.config.maintenance import DAYS, OneOff, Recurring, gap_days, next_window, occurrences, planned
from streamae.core.alert import AlertRule
from streamae.core.groups import Groups
from streamae.core.sensors.stage import SensorRule
from streamae.core.standing import standing_rules, stream_marks
from streamae.core.types import Batch, Maintenance
from streamae.daemon.loop import Loop
from streamae.daemon.recover import recover
from streamae.store.past import open_past
from streamae.store.silences import Silence
from streamae.store.store import Store
from tests import plants
from tests.daemon.test_loop import Metrics, Source
from tests.store_world import crash, opened, report, transition

NOW = 1_700_000_000.0
KNOWN = plants.known_stream(zero=float(np.log(4.0)), offset=float(np.log(5.0)))
MODEL = {"profile": plants.profile(("a",), window=1, streams={"p": KNOWN})}


def recurring(**keys: object) -> Recurring:
    return Recurring(**({"name": "w", "start": "22:00", "duration": "8h"} | keys))  # type: ignore[arg-type]


def one_off(start_s: float, end_s: float, **keys: object) -> OneOff:
    texts = (datetime.fromtimestamp(at_s, UTC).isoformat() for at_s in (start_s, end_s))
    return OneOff(**({"name": "once"} | dict(zip(("from", "until"), texts, strict=True)) | keys))  # type: ignore[arg-type]


# When: recurring windows, against a slow oracle that looks at every minute.


def starts_by_the_minute(window: Recurring, first: datetime, days: int) -> list[float]:
    """Walk through all minutes: a date's window begins at the first that shows its time of day on that zone's clock.

    On a date whose clock skips that time, it begins at the minute that the clock before the skip would have shown it.
    """
    zone, found = ZoneInfo(window.time_zone), {}
    minutes = [first + timedelta(minutes=n) for n in range(days * 1440)]
    for minute in minutes:
        local = minute.astimezone(zone)
        if local.time() == window.start and local.date() not in found:
            found[local.date()] = minute
    for minute in minutes:
        before = (minute - timedelta(hours=6)).astimezone(zone).utcoffset()
        local = (minute + before).replace(tzinfo=None)
        if local.time() == window.start and local.date() not in found:
            found[local.date()] = minute
    return sorted(found[date].timestamp() for date in found if DAYS[date.weekday()] in window.days)


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu"]),
    st.sampled_from(["2026-03-08", "2026-03-29", "2026-04-05", "2026-10-04", "2026-10-25", "2026-11-01", "2026-06-15"]),
    st.times(time(0, 0), time(23, 59)).map(lambda t: t.replace(second=0, microsecond=0)) | st.just(time(2, 30)),
    st.sets(st.sampled_from(DAYS), min_size=1),
)
def test_a_recurring_window_begins_at_its_time_of_day_by_the_zone_s_own_clock(zone, date, start, days):
    """Around every change to and from summer time: the same starts as a walk through all minutes finds."""
    window = recurring(start=start.isoformat("minutes"), days=sorted(days), time_zone=zone, duration="30m")
    first = datetime.fromisoformat(f"{date}T00:00:00+00:00") - timedelta(days=2)
    expected = starts_by_the_minute(window, first, 5)
    inner = [
        s for s in expected if (first + timedelta(days=1)).timestamp() < s < (first + timedelta(days=4)).timestamp()
    ]
    found = [start_s for start_s, _ in islice(occurrences(window, first.timestamp()), 8)]
    assert [s for s in found if inner and inner[0] <= s <= inner[-1]] == inner


@pytest.mark.parametrize(
    ("start", "date", "begins", "ends"),
    [
        ("22:00", "2026-03-28", "2026-03-28T21:00:00Z", "2026-03-29T05:00:00Z"),  # to summer time: ends at 07:00
        ("22:00", "2026-10-24", "2026-10-24T20:00:00Z", "2026-10-25T04:00:00Z"),  # from summer time: ends at 05:00
        ("02:30", "2026-03-29", "2026-03-29T01:30:00Z", "2026-03-29T09:30:00Z"),  # is skipped: 03:30 by the new clock
        ("02:30", "2026-10-25", "2026-10-25T00:30:00Z", "2026-10-25T08:30:00Z"),  # comes twice: the first
    ],
)
def test_through_a_change_of_the_clock_a_window_lasts_as_long_as_it_says(start, date, begins, ends):
    """Eight hours are eight hours, even where the local clock changes meanwhile."""
    window = recurring(start=start, time_zone="Europe/Berlin")
    midnight_s = datetime.fromisoformat(f"{date}T00:00:00").replace(tzinfo=ZoneInfo("Europe/Berlin")).timestamp()
    wanted = tuple(datetime.fromisoformat(text).timestamp() for text in (begins, ends))
    assert wanted in list(islice(occurrences(window, midnight_s), 3))


def test_what_is_next_is_said():
    """`check` says of each window when it is next, that it is now, or over; in its own zone."""
    window, at = recurring(days=["sat"], time_zone="Europe/Berlin"), datetime(2026, 11, 26, tzinfo=UTC).timestamp()
    assert next_window(window, at) == "next Sat 2026-11-28 22:00 CET to Sun 2026-11-29 06:00 CET"
    assert next_window(window, at + 3.5 * 86400) == "next Sat 2026-12-05 22:00 CET to Sun 2026-12-06 06:00 CET"
    assert next_window(window, at + 3 * 86400) == "now, until Sun 2026-11-29 06:00 CET"
    once = one_off(at, at + 60)
    assert [next_window(once, t)[:5] for t in (at - 1, at, at + 60)] == ["next ", "now, ", "over"]
    assert [gap_days(recurring(days=days)) for days in (DAYS, ("sat",), ("mon", "sat"), ("fri", "fri"))] == [1, 7, 2, 7]


def test_check_names_each_window(tmp_path: Path):
    """One line a window: name, whom, when."""
    (tmp_path / "streamae.yaml").write_text(
        'streams: {pumps: {topics: [{topic: "plant/{pump}"}], model: {path: pumps.pt}, warmup_rows: 5}}\n'
        'maintenance: [{name: clean, stream: "l1/*", days: [sat], start: 22:00, duration: 8h}]\n'
    )
    lines = check(tmp_path / "streamae.yaml", now_s=datetime(2026, 11, 28, 23, tzinfo=UTC).timestamp())
    assert "maintenance clean: group *, streams l1/*: now, until Sun 2026-11-29 06:00 UTC" in lines


# Notifications: the silences of the plan.


def due(store: Store, now_s: float = NOW) -> list[str]:
    return [found.key for found, _ in store.outbox.due("a", now_s, 100)]


def states(store: Store, now_s: float) -> list[tuple[str, float, float]]:
    return [(s.state(now_s), s.starts_s - NOW, s.ends_s - NOW) for s in store.silences.all()]


def test_the_plan_becomes_silences_once(tmp_path: Path):
    """What happens once is there at once, over or not; of what recurs the last day's, the present, the next."""
    store = opened(tmp_path, sinks=["a"])
    day_s, daily = NOW // 86400 * 86400, recurring(start="21:00", duration="2h")  # NOW is 22:13:20 UTC
    plan = [one_off(NOW - 900_000, NOW - 899_000), one_off(NOW + 99, NOW + 199, name="soon"), daily]
    assert store.silences.follow(planned(plan, NOW), NOW)
    assert store.silences.counts(NOW, planned=True) == {"pending": 2, "active": 1, "expired": 2}
    assert store.silences.counts(NOW) == {"pending": 0, "active": 0, "expired": 0}
    assert not store.silences.follow(planned(plan, NOW + 5), NOW + 5), "once is enough"
    crash(store)
    store = opened(tmp_path, sinks=["a"])
    assert not store.silences.follow(planned(plan, NOW + 9), NOW + 9), "and a restart makes none twice"
    assert store.silences.follow(planned(plan, NOW + 86400), NOW + 86400), "a day later there is a next one"
    nights = [one.start_s for one in store.silences.maintenance(NOW) if one.end_s - one.start_s == 7200]
    assert nights == [day_s + 75600 + n * 86400 for n in (-1, 0, 1, 2)]
    store.close()


def test_during_maintenance_no_sink_is_notified_and_afterwards_of_what_still_fires(tmp_path: Path):
    """As with a silence; the alert names the window. Another stream is notified as ever."""
    store = opened(tmp_path, sinks=["a"])
    store.silences.follow(planned([one_off(NOW - 5, NOW + 60, stream="north/p[12]")], NOW), NOW)
    ended = [transition(1, 0), transition(1, 1, "resolved")]
    store.publish([*ended, transition(2, 0), transition(3, 0)], NOW)
    assert due(store) == [transition(3, 0).key]
    number = store.alerts.get(transition(2).id).silence
    assert [s.maintenance for s in store.silences.all() if s.id == number] == ["once"]
    assert store.silences.apply(NOW + 60)
    assert due(store) == [transition(2, 0).key, transition(3, 0).key]
    store.close()


def test_a_plan_that_changes_ends_what_it_no_longer_wants(tmp_path: Path):
    """Out of the file: notified at once. Back in it: withheld again. Other times: only the new ones count."""
    store = opened(tmp_path, sinks=["a"])
    store.publish([transition(1, 0)], NOW)
    window = one_off(NOW - 5, NOW + 60)
    for plan, notified in (([window], 0), ([], 1), ([window], 0), ([one_off(NOW - 5, NOW + 9)], 0), ([], 1)):
        store.silences.follow(planned(plan, NOW), NOW)
        assert len(due(store)) == notified, plan
    later = one_off(NOW + 5, NOW + 60)
    store.silences.follow(planned([later], NOW), NOW)
    store.silences.follow([], NOW)
    assert not store.silences.apply(NOW + 6) or len(due(store)) == 1, "one that never began does not begin"
    assert [s for s in store.silences.maintenance(NOW) if s.end_s > NOW] == []
    store.close()


def test_what_somebody_ends_early_stays_ended(tmp_path: Path):
    """The plan does not begin it again, for alerts nor for learning; not after a restart either."""
    store = opened(tmp_path, sinks=["a"])
    plan = planned([one_off(NOW - 5, NOW + 60)], NOW)
    store.silences.follow(plan, NOW)
    store.publish([transition(1, 0)], NOW)
    assert store.silences.expire(1, NOW + 1)
    for _ in range(2):
        assert not store.silences.follow(plan, NOW + 2)
        assert due(store) == [transition(1, 0).key]
        assert store.silences.maintenance(NOW + 2) == (Maintenance("*", "*", NOW - 5, NOW + 1),)
        crash(store)
        store = opened(tmp_path, sinks=["a"])
    store.close()


def test_a_clock_that_jumps_ten_years_and_back_leaves_the_plan_as_it_was(tmp_path: Path):
    """The silences of that time go, those of now are active; notification of an alert is as if nothing had happened."""
    store = opened(tmp_path, sinks=["a"])
    window = recurring(start="21:00", duration="2h")
    store.silences.follow(planned([window], NOW), NOW)
    before = store.silences.maintenance(NOW)
    ahead_s = NOW + 3653 * 86400 + 7000
    store.silences.follow(planned([window], ahead_s), ahead_s)
    store.silences.follow(planned([window], NOW), NOW)
    assert store.silences.maintenance(NOW) == before
    assert store.silences.counts(NOW, planned=True)["active"] == 1
    store.close()


def test_the_plan_takes_no_room_from_people_s_silences(tmp_path: Path):
    """What is planned counts in a gauge of its own, not against the number that people may make."""
    from streamae.store.silences import SilenceLimits
    from streamae.store.store import StoreLimits

    store = opened(tmp_path, sinks=["a"], limits=StoreLimits(silences=SilenceLimits(current_max=1)))
    plan = [one_off(NOW, NOW + 60, name=f"w{n}") for n in range(5)]
    store.silences.follow(planned(plan, NOW), NOW)
    store.silences.create(Silence(NOW, NOW + 60), NOW)
    assert store.silences.counts(NOW)["active"] == 1
    store.close()


def test_training_from_the_journal_leaves_maintenance_out(tmp_path: Path):
    """Also what was over before the file named it."""
    store = opened(tmp_path, sinks=["a"])
    store.silences.follow(planned([one_off(NOW - 500, NOW - 400, stream="north/*")], NOW), NOW)
    store.close()
    with open_past(tmp_path) as past:
        assert [(s.stream, s.start_s, s.end_s) for s in past.silences("pumps")] == [("north/*", NOW - 500, NOW - 400)]


# What is learnt, in columns of time: one message a second, the wall clock is event time.


class Plant:
    """A daemon's loop over one stream, with a store, a plan and a sink that takes what is due."""

    def __init__(self, folder: Path, plan: list[OneOff], **changes: object) -> None:
        self.folder, self.plan, self.now_s = folder, plan, NOW
        self.group = plants.group(**(MODEL | {"alert": AlertRule(keep_firing_for_s=0)} | changes))  # type: ignore[arg-type]
        self.start()

    def start(self) -> None:
        self.store = opened(self.folder, sinks=["a"])
        self.groups = Groups("i", [self.group])
        recover(self.store, self.groups)
        self.pipeline.streams.add("p")
        self.pipeline.begin()
        self.source = Source()
        self.loop = Loop(
            self.source, self.groups, self.store, Metrics(),  # type: ignore[arg-type]
            now=lambda: self.now_s, arrived=lambda: self.now_s, monotonic=lambda: self.now_s, sleep=lambda _: None,
            snapshot_every_s=1e9,
        )  # fmt: skip

    @property
    def pipeline(self):
        return self.groups.pipelines["pumps"]

    def turn(self, value: float, topic: str = "plant/p") -> None:
        self.store.silences.follow(planned(self.plan, self.now_s), self.now_s)
        self.store.silences.apply(self.now_s)
        payload = json.dumps({"t": self.now_s, "a": value})
        self.source.batches.append(plants.batch([(topic, payload.encode(), self.now_s)]))
        self.source.batches[-1] = replace(self.source.batches[-1], topics=[topic.encode()])
        self.loop.turn(0.0)
        self.now_s += 1

    def notified(self) -> str:
        taken = [one for one, _ in self.store.outbox.due("a", self.now_s, 100)]
        self.store.outbox.sent("a", [one.key for one in taken])
        return "".join(one.state[0] for one in taken) or "."

    def columns(self, values: list[float]) -> dict[str, str]:
        """Play values; returns by second the state of the alert, what the sink gets, and whether the mean moved."""
        made: dict[str, list[str]] = {"alert": [], "notified": [], "learns": []}
        for value in values:
            before = self.pipeline.threshold.state()
            self.turn(value)
            after = self.pipeline.threshold.state()
            moved = any(not np.array_equal(before[name], after[name], equal_nan=True) for name in _LEARNT)
            made["alert"].append(".pF"[self.pipeline.alerts.standing(1)[0]])
            made["notified"].append(self.notified())
            made["learns"].append("x" if moved else ".")
        return {name: " ".join(column) for name, column in made.items()}


_LEARNT = ("mean", "theta", "average", "seen", "offset")


@pytest.mark.parametrize(
    ("plan", "alert", "notified", "learns"),
    [
        #            1 1 9 9 1 1 9 9 9 1
        (True,  ". . F F . . F F F .", ". . . . . . . f . r", "x x . . . . . x x x"),
        (False, ". . F F . . F F F .", ". . f . r . f . . r", "x x x x x x x x x x"),
    ],
)  # fmt: skip
def test_an_alert_in_maintenance_is_shown_without_notification_or_learning(tmp_path, plan, alert, notified, learns):
    """From the 3rd second to the 7th: alerts are the same, the sink is not notified of one that comes and goes, and of
    one that lasts when the window ends; the threshold does not move. Without the window (the control) the sink is
    notified of all of them, and all is learnt.
    """
    plant = Plant(tmp_path, [one_off(NOW + 2, NOW + 7)] if plan else [])
    assert plant.columns([1, 1, 9, 9, 1, 1, 9, 9, 9, 1]) == {"alert": alert, "notified": notified, "learns": learns}
    plant.store.close()


def test_a_level_that_drifts_in_maintenance_does_not_move_the_threshold(tmp_path: Path):
    """Minutes of another level within a window leave the threshold where it was; the control moves it by far."""
    limits = {}
    for name, plan in (("with", [one_off(NOW + 5, NOW + 255)]), ("without", [])):
        plant = Plant(tmp_path / name, plan)
        for n in range(260):
            plant.turn(1.0 if n < 5 or n >= 255 else 3.0)
            if n == 4:
                before = float(plant.pipeline.latest.threshold[0])
        limits[name] = float(plant.pipeline.latest.threshold[0]) / before
        plant.store.close()
    assert limits["with"] == pytest.approx(1.0, abs=0.01)
    assert limits["without"] > 1.1


def test_a_new_stream_learns_nothing_from_maintenance(tmp_path: Path):
    """Its warm-up waits: the rows of the window are no part of it, and scale and level are those of the time around."""
    scales = {}
    for name, plan in (("with", [one_off(NOW + 5, NOW + 15)]), ("without", [])):
        plant = Plant(tmp_path / name, plan, profile=plants.profile(("a",), window=1, warmup_rows=10, learn_windows=5))
        values = (
            [float(n % 3) for n in range(5)] + [500.0 * (n % 2) for n in range(10)] + [float(n % 3) for n in range(60)]
        )
        seen = []
        for value in values:
            plant.turn(value)
            seen.append(int(plant.pipeline.scale.seen(1)[0]))
        scales[name] = seen[14], float(plant.pipeline.scale.state(1)["scale"][0, 0])
        plant.store.close()
    assert scales["with"][0] == 5
    assert scales["without"][0] == 10
    assert scales["with"][1] < 2
    assert scales["without"][1] > 100


def test_windows_that_began_in_maintenance_teach_nothing_either(tmp_path: Path):
    """A window of 4 rows that ends after it but touches it is not learnt from; the first that is clear of it is."""
    profile = replace(MODEL["profile"], window=4)
    plant = Plant(tmp_path, [one_off(NOW + 6, NOW + 8)], profile=profile)
    learns = plant.columns([1.0] * 14)["learns"]
    assert learns == ". . . x x x . . . . . x x x"
    plant.store.close()


@pytest.mark.parametrize("rule", [SensorRule(range={"a": (0, 10)}), SensorRule(stuck_after_s=5.0)])
def test_no_verdict_on_a_sensor_begins_in_maintenance(tmp_path: Path, rule: SensorRule):
    """Out of range, stuck: found in the control; what is still out of range is found when maintenance is over."""
    rules = {}
    for name, plan in (("with", [one_off(NOW + 300, NOW + 320)]), ("without", [])):
        plant = Plant(tmp_path / name, plan, health=rule)
        rng = np.random.default_rng(0)
        for n in range(330):
            plant.turn(20.0 if 305 <= n < 318 else float(rng.normal(5, 0.1)))
        found = plant.store.alerts.history(100)
        rules[name] = [one.transition.rule for one in found if one.transition.rule != "anomaly"]
        plant.store.close()
    assert rules["with"] == []
    assert rules["without"] in (["out_of_range"], ["stuck"])


def test_a_stream_in_maintenance_is_not_missed_and_later_is(tmp_path: Path):
    """Silent from the start of the window on: stale after it, not before; the control is stale meanwhile."""
    stale_at = {}
    for name, plan in (("with", [one_off(NOW + 30, NOW + 130, stream="p")]), ("without", [])):
        plant = Plant(tmp_path / name, plan, health=SensorRule(stale_after_s=60.0))
        rng = np.random.default_rng(0)
        for n in range(210):
            if n < 30:
                plant.turn(float(rng.normal()))
                plant.now_s -= 1
            plant.turn(float(rng.normal()), "plant/q")
            if "stale" in standing_rules(plant.pipeline) and name not in stale_at:
                stale_at[name] = n
        plant.store.close()
    assert 85 <= stale_at["without"] <= 95
    assert 185 <= stale_at["with"] <= 195


def test_the_page_marks_who_is_in_maintenance_now(tmp_path: Path):
    """By the wall clock, and only the streams that the window names."""
    plant = Plant(tmp_path, [one_off(NOW, NOW + 50, stream="p")])
    plant.turn(1.0)
    plant.turn(1.0, "plant/q")
    assert stream_marks(plant.pipeline, NOW + 10) == {0: ["maintenance"]}
    assert stream_marks(plant.pipeline, NOW + 50) == {}
    plant.store.close()


# A replay judges the same.


def test_a_restart_without_the_plan_folds_to_the_same_state(tmp_path: Path):
    """The journal knows what was maintenance: kill -9 in the middle, the file edited meanwhile, and the fold is exact.

    The control folds the same rows with their maintenance taken out, and arrives elsewhere.
    """
    plant = Plant(tmp_path, [one_off(NOW + 5, NOW + 40)])
    for n in range(30):
        plant.turn(1.0 + n % 4)
    state, journal = plant.groups.snapshot(), plant.store.stats().journal_rows_last
    crash(plant.store)
    plant.plan = []
    plant.start()
    assert plant.groups.snapshot() == state
    plans = [b.maintenance for b, _ in plant.store.recover().journal]
    assert (len(plans), sum(one is not None for one in plans)) == (journal, 1), "it is journalled where it changes only"
    other = Groups("i", [plant.group])
    for batch, now_s in plant.store.recover().journal:
        other.step(replace(batch, maintenance=None), now_s)
    assert other.snapshot() != state
    plant.turn(1.0)
    assert [one.end_s for one in plant.groups.maintenance] == [NOW + 30], "the plan as it is now counts from now on"
    plant.store.close()


def test_a_change_of_the_plan_without_messages_is_journalled(tmp_path: Path):
    """A commit that carries nothing else than other maintenance is written; one that carries nothing is not."""
    store = opened(tmp_path)
    empty = Batch([], [], np.zeros(0))
    store.commit(empty, report(rows=0), NOW)
    assert store.stats().journal_rows_last == 0
    store.commit(replace(empty, maintenance=()), report(rows=0), NOW)
    assert store.stats().journal_rows_last == 1
    store.close()


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.sampled_from([0.5, 1.0, 3.0, 9.0]), min_size=1, max_size=40),
    st.lists(st.integers(1, 7), min_size=1),
    st.tuples(st.integers(0, 30), st.integers(1, 20)),
    st.integers(0, 40),
)
def test_maintenance_means_the_same_in_any_batches_and_over_a_snapshot(values, sizes, spell, cut):
    """However the messages are grouped, and wherever the state is carried over a restart: the same state at the end."""
    plan = [Maintenance("pump*", "p", float(spell[0]), float(spell[0] + spell[1]))]
    messages = [("plant/p", json.dumps({"t": t, "a": value}).encode(), float(t)) for t, value in enumerate(values)]

    def play(batches: list[list[tuple[str, bytes, float]]]) -> bytes:
        groups = Groups("i", [plants.group(**MODEL)])  # type: ignore[arg-type]
        groups.step(replace(Batch([], [], np.zeros(0)), maintenance=plan), 0.0)
        for n, some in enumerate(batches):
            if n == cut:
                kept, groups = groups.snapshot(), Groups("i", [plants.group(**MODEL)])  # type: ignore[arg-type]
                groups.restore(kept)
            made = plants.batch(some)
            groups.step(replace(made, topics=[t.encode() for t, _, _ in some]), 1000.0)
        assert groups.maintenance == tuple(plan)
        return groups.snapshot()

    ends = np.cumsum([0, *(sizes[n % len(sizes)] for n in range(len(messages)))]).tolist()
    grouped = [messages[a:b] for a, b in zip(ends, ends[1:], strict=False) if messages[a:b]]
    assert play(grouped) == play([[one] for one in messages])
