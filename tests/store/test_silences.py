"""Silences: stored and shown; sinks are notified at their end where that still matters; no end before a beginning."""

import sqlite3
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from streamae.core.report import Transition
from streamae.errors import UnavailableError
from streamae.sinks.delivery import Delivery
from streamae.sinks.sink import SinkUnavailableError
from streamae.store.schema import MIGRATIONS
from streamae.store.silences import Silence, SilenceLimits
from streamae.store.store import Store, StoreLimits
from tests.store_world import Clock, crash, numbered, opened, report, timeline, transition

NOW = 1_700_000_000.0


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = opened(tmp_path, sinks=["a", "b"])
    yield store
    store.close()


def silence(seconds: float = 3600, start_s: float = NOW, **whom: object) -> Silence:
    return Silence(start_s, start_s + seconds, **whom)  # type: ignore[arg-type]


def due(store: Store, sink: str = "a", now_s: float = NOW) -> list[str]:
    return [found.key for found, _ in store.outbox.due(sink, now_s, 1000)]


def tell(store: Store, sink: str = "a", now_s: float = NOW) -> list[str]:
    """Let the sink take what is due."""
    taken = due(store, sink, now_s)
    store.outbox.sent(sink, taken)
    return taken


def fires(number: int = 1, **changes: object) -> Transition:
    return transition(number, 0, **changes)  # type: ignore[arg-type]


def ends(number: int = 1, sequence: int = 1) -> Transition:
    return transition(number, sequence, "resolved")


@pytest.mark.parametrize(
    ("whom", "named"),
    [
        ({}, True), ({"stream": "north/p1"}, True), ({"stream": "north/*"}, True), ({"stream": "north/p[0-9]"}, True),
        ({"stream": "north/p?"}, True), ({"stream": "north/p"}, False), ({"stream": "NORTH/p1"}, False),
        ({"group": "pumps"}, True), ({"group": "fans"}, False), ({"rule": "mod*"}, True), ({"rule": "stale"}, False),
        ({"labels": {"line": "north"}}, True), ({"labels": {"line": "north", "pump": "p2"}}, False),
        ({"labels": {"missing": ""}}, False), ({"group": "pumps", "stream": "*", "labels": {"pump": "p1"}}, True),
    ],
)  # fmt: skip
def test_a_silence_names_alerts_by_patterns_and_labels(store: Store, whom: dict, named: bool) -> None:
    """Globs on group, stream and rule, equality on labels; all of them must fit. A stream is silenced by any rule."""
    store.silences.create(silence(**whom), NOW)
    store.publish([fires()], NOW)
    assert (due(store) == []) == named
    labels = {"line": "north", "pump": "p1"}
    of_stream = {k: v for k, v in whom.items() if k != "rule"}
    assert bool(store.silences.matching("pumps", "north/p1", "model", labels, NOW)) == named
    if of_stream == whom:
        assert bool(store.silences.matching("pumps", "north/p1", None, labels, NOW)) == named


def test_what_a_name_holds_of_pattern_signs_can_be_named(store: Store) -> None:
    """A stream with * and [ in its name is silenced by the escaped name, and no other is."""
    store.silences.create(silence(stream="a[*][[]x]"), NOW)
    store.publish([fires(1, stream="a*[x]"), fires(2, stream="ab[x]")], NOW)
    assert due(store) == [fires(2).key]


def test_a_silenced_alert_is_stored_and_shown_and_not_notified(store: Store) -> None:
    """Firing, critical, resolved: all in the history, under the silence; no sink hears of any; the counts say so."""
    made = store.silences.create(silence(stream="north/p1", comment="bearing"), NOW)
    steps = [fires(), transition(1, 1, severity="critical"), ends(1, 2)]
    store.publish(steps[:2], NOW)
    store.publish([fires(2)], NOW)
    assert due(store) == due(store, "b") == [fires(2).key]
    assert store.alerts.get(steps[0].id).silence == made.id
    assert store.outbox.stats()["a"].withheld == 2
    store.publish(steps[2:], NOW)
    assert timeline(store, steps[0].id) == steps
    assert store.alerts.get(steps[0].id).silence == made.id, "what ended under a silence is marked for good"
    stats = store.outbox.stats()["a"]
    assert (stats.withheld, stats.silenced, stats.pending) == (0, 3, 1)
    assert store.silences.apply(NOW + 3601)
    assert due(store) == [fires(2).key], "what came and went under a silence is never notified"


def test_what_fires_still_at_the_end_of_a_silence_is_notified(store: Store) -> None:
    """By time, and each transition in its order; from then on as ever."""
    store.silences.create(silence(), NOW)
    store.publish([fires(), transition(1, 1, severity="critical")], NOW)
    store.silences.apply(NOW + 3599)
    assert due(store, now_s=NOW + 3599) == []
    assert store.silences.apply(NOW + 3600)
    assert not store.silences.apply(NOW + 3601), "once is enough"
    assert store.alerts.open()[0].silence is None
    assert tell(store) == [fires().key]
    assert tell(store) == [transition(1, 1).key]
    store.publish([ends(1, 2)], NOW + 3700)
    assert tell(store) == [ends(1, 2).key]


def test_a_sink_that_was_notified_of_the_beginning_learns_of_the_end(store: Store) -> None:
    """Notified before the silence, resolved under it: held back, then notified at its end; another sink is not."""
    store.publish([fires()], NOW)
    tell(store, "a")
    made = store.silences.create(silence(), NOW)
    assert due(store, "b") == []
    store.publish([ends()], NOW)
    assert (due(store, "a"), due(store, "b")) == ([], [])
    assert store.silences.expire(made.id, NOW + 1)
    assert (due(store, "a"), due(store, "b")) == ([ends().key], [])
    assert not store.silences.expire(made.id, NOW + 2)
    assert not store.silences.expire(99, NOW)


@pytest.mark.parametrize("how", ["in flight", "tried", "crash", "clean stop"])
def test_a_sink_that_may_have_been_notified_learns_of_the_end(tmp_path: Path, how: str) -> None:
    """Handed out and not marked, tried in vain, or unknown after a crash: it may know, so it gets the whole story.

    The control is a clean stop: what was never handed out is known never to have been sent.
    """
    store = opened(tmp_path, sinks=["a"])
    store.publish([fires()], NOW)
    if how in {"in flight", "tried"}:
        assert due(store) == [fires().key]
    if how == "tried":
        store.outbox.failed("a", [fires().key], "hung up after it took it", NOW)
        assert due(store, now_s=NOW - 100) == []
        store.outbox.due("a", NOW - 100, 10)
    if how == "crash":
        crash(store)
        store = opened(tmp_path, sinks=["a"])
    if how == "clean stop":
        store.close()
        store = opened(tmp_path, sinks=["a"])
    made = store.silences.create(silence(), NOW)
    store.publish([ends()], NOW)
    if how == "in flight":
        store.outbox.sent("a", [fires().key])
    store.silences.expire(made.id, NOW)
    story = []
    while found := tell(store):
        story += found
    assert story == {"in flight": [ends().key], "clean stop": []}.get(how, [fires().key, ends().key])
    store.close()


def test_a_silence_holds_back_what_waits_already_and_what_is_to_come(store: Store) -> None:
    """What a sink has not taken yet is held back at once; a pending silence begins by itself."""
    store.publish([fires(1)], NOW)
    store.silences.create(silence(start_s=NOW + 60), NOW)
    assert due(store) == [fires(1).key]
    assert store.silences.counts(NOW) == {"pending": 1, "active": 0, "expired": 0}
    store.silences.apply(NOW + 1)
    assert due(store) == [fires(1).key]
    assert store.silences.apply(NOW + 60)
    assert due(store) == []
    store.publish([fires(2)], NOW + 61)
    assert due(store) == []
    assert store.silences.apply(NOW - 86400), "a clock that steps back makes it pending again"
    assert due(store) == [fires(1).key, fires(2).key]


def test_a_silence_of_another_stream_changes_nothing(store: Store) -> None:
    """What is not named stays in line, before and after."""
    store.publish([fires(1)], NOW)
    store.silences.apply(NOW)
    store.silences._applied = frozenset({99})  # as after another silence ended
    store.silences.apply(NOW)
    assert due(store) == [fires(1).key]
    assert store.alerts.open()[0].silence is None


def test_silences_that_overlap_hold_until_the_last_ends(store: Store) -> None:
    """An alert is under the one that lasts longest; when one ends early, the other goes on."""
    short = store.silences.create(silence(60), NOW)
    long = store.silences.create(silence(600, stream="north/*"), NOW)
    store.publish([fires()], NOW)
    assert store.alerts.open()[0].silence == long.id
    store.silences.expire(long.id, NOW + 1)
    assert store.alerts.open()[0].silence == short.id
    assert due(store) == []
    store.silences.apply(NOW + 61)
    assert due(store) == [fires().key]


def test_silences_survive_a_crash_with_all_that_they_hold_back(tmp_path: Path) -> None:
    """After kill -9 the same is withheld, a silence that ended meanwhile has ended, and the numbers go on."""
    store = opened(tmp_path, sinks=["a"])
    first = store.silences.create(silence(60, stream="north/p1"), NOW)
    second = store.silences.create(silence(stream="north/p2", labels={"line": "north"}, comment="ö"), NOW)
    store.commit(numbered(1), report(fires(1), fires(2)), NOW)
    crash(store)
    store = opened(tmp_path, sinks=["a"])
    assert store.silences.all() == [first, second]
    assert due(store) == []
    store.silences.apply(NOW + 100)
    assert due(store) == [fires(1).key]
    assert store.silences.create(silence(), NOW).id == 3
    store.close()


def test_a_damaged_silence_is_dropped_and_what_it_held_back_is_notified(tmp_path: Path) -> None:
    """A silence of changed meaning would keep silent about the wrong alert: rather none."""
    store = opened(tmp_path, sinks=["a"])
    store.silences.create(silence(stream="north/p1"), NOW)
    store.publish([fires()], NOW)
    with store._database.write() as connection:
        connection.execute("UPDATE silence SET body = CAST(replace(body, 'p1', 'p2') AS BLOB)")
    store.close()
    store = opened(tmp_path, sinks=["a"])
    assert "silence 1 is damaged" in store.notes[0]
    assert store.silences.all() == []
    assert store.silences.apply(NOW)
    assert due(store) == [fires().key]
    with store._database.write() as connection:
        connection.execute("INSERT INTO silence VALUES (5, ?, ?)", (zlib.crc32(b"{}"), b"{}"))
    store.close()
    store = opened(tmp_path, sinks=["a"])
    assert store.silences.all() == []
    store.close()


def test_a_damaged_transition_is_not_held_back_for_ever(store: Store) -> None:
    """Nobody can say whether a silence names it: its rows go on, to become a dead letter."""
    store.silences.create(silence(), NOW)
    store.publish([fires()], NOW)
    with store._database.write() as connection:
        connection.execute("UPDATE transition SET crc = 0")
    store.silences.apply(NOW)
    assert due(store) == []
    assert store.outbox.stats()["a"].dead == 1


def test_silences_are_bounded_and_those_that_are_over_are_kept_for_a_while(tmp_path: Path) -> None:
    """Too many at once are refused in words; of those that are over the oldest go."""
    store = opened(tmp_path, limits=StoreLimits(silences=SilenceLimits(current_max=3, past_max=2)), sinks=["a"])
    for _ in range(3):
        store.silences.create(silence(60), NOW)
    with pytest.raises(UnavailableError, match="3 silences are active"):
        store.silences.create(silence(60), NOW)
    for n in range(3):
        store.silences.create(silence(60, start_s=NOW + 100 * (n + 1)), NOW + 100 * (n + 1))
    assert [s.id for s in store.silences.all()] == [4, 5, 6]
    store.close()


def test_what_is_withheld_is_bounded(tmp_path: Path) -> None:
    """Beyond the outbox's bound the oldest withheld rows go, and are counted as evicted."""
    from streamae.store.outbox import OutboxLimits

    store = opened(tmp_path, limits=StoreLimits(outbox=OutboxLimits(pending_max=3)), sinks=["a"])
    made = store.silences.create(silence(), NOW)
    store.publish([fires(n) for n in range(5)], NOW)
    stats = store.outbox.stats()["a"]
    assert (stats.withheld, stats.evicted) == (3, 2)
    store.silences.expire(made.id, NOW)
    assert due(store) == [fires(n).key for n in (2, 3, 4)]
    store.close()


def test_a_sink_that_forgets_is_not_reminded_of_what_is_silenced(store: Store) -> None:
    """Alertmanager lets a silenced alert go by itself; when the silence ends, it gets again what fires."""
    store.publish([fires(1), fires(2)], NOW)
    tell(store)
    made = store.silences.create(silence(stream="north/p1"), NOW)
    assert store.outbox.open_transitions("a", 9) == [fires(2)]
    store.silences.expire(made.id, NOW)
    assert store.outbox.open_transitions("a", 9) == [fires(1), fires(2)]


def test_a_state_of_the_release_before_is_taken_over(tmp_path: Path) -> None:
    """Its alerts, and what waits for sinks, are there; silences work on them."""
    store = opened(tmp_path, sinks=["a"])
    store.publish([fires(1), fires(2)], NOW)
    store.close()
    with closing(sqlite3.connect(tmp_path / "state.db", isolation_level=None)) as connection:
        for statement in (
            "DROP TABLE poison",
            "DROP TABLE silence", "DROP TABLE told", "DROP TABLE feedback", "DROP INDEX outbox_withheld",
            "ALTER TABLE alert DROP COLUMN silence", "ALTER TABLE outbox DROP COLUMN repeat",
            "PRAGMA user_version = 1", "UPDATE meta SET value = '1' WHERE key = 'schema'",
        ):  # fmt: skip
            connection.execute(statement)
        tables = set(connection.execute("SELECT name, sql FROM sqlite_schema WHERE sql IS NOT NULL"))
    with closing(sqlite3.connect(":memory:")) as blank:
        for statement in MIGRATIONS[0]:
            blank.execute(statement)
        before = set(blank.execute("SELECT name, sql FROM sqlite_schema WHERE sql IS NOT NULL"))
    assert {name for name, _ in tables} == {name for name, _ in before}
    store = opened(tmp_path, sinks=["a"])
    assert store.stats().set_aside == 0, store.notes
    assert due(store) == [fires(1).key, fires(2).key]
    store.silences.create(silence(stream="north/p1"), NOW)
    assert due(store) == [fires(2).key]
    store.close()


class SilenceMachine(RuleBasedStateMachine):
    """Any sequence of alerts, silences, deliveries, mishaps and crashes keeps the promises to the sink."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.clock = Clock(NOW)
        self.notified: list[Transition] = []
        self.mood = "takes"
        self.open: dict[int, int] = {}  # stream -> its alert that fires
        self.last: dict[int, Transition] = {}
        self.number = 0
        self.start()

    def start(self) -> None:
        self.store = Store.open(self.folder.name, "process", self.clock, sinks=["ear"])
        self.delivery = Delivery(self, self.store.outbox, self.clock, jitter=lambda: 0.0)  # type: ignore[arg-type]

    name, batch_max, refresh_s = "ear", 3, None

    def send(self, transitions: list[Transition]) -> None:
        for one in transitions:
            if self.silenced(one) and self.mood != "late":
                raise AssertionError(f"notified though silenced: {one.key}")
        if self.mood == "refuses":
            raise SinkUnavailableError("503")
        self.notified += transitions
        if self.mood == "hangs up":
            raise SinkUnavailableError("hung up")
        if self.mood == "dies":
            raise KeyboardInterrupt

    def silenced(self, one: Transition) -> bool:
        now_s = self.clock()
        return any(s.state(now_s) == "active" and s.stream in ("*", one.stream) for s in self.store.silences.all())

    @rule(stream=st.integers(0, 2))
    def fire_or_resolve(self, stream: int) -> None:
        if stream in self.open:
            before = self.last[self.open.pop(stream)]
            after = replace(before, sequence=before.sequence + 1, state="resolved")
        else:
            self.number += 1
            self.open[stream] = self.number
            after = transition(self.number, 0, stream=f"s{stream}")
        self.last[int(after.id, 16)] = after
        self.store.commit(numbered(1), report(after), self.clock())

    @rule(stream=st.sampled_from(["s0", "s1", "*"]), starts_s=st.integers(0, 20), lasts_s=st.integers(1, 60))
    def silence(self, stream: str, starts_s: int, lasts_s: int) -> None:
        self.store.silences.create(silence(lasts_s, self.clock() + starts_s, stream=stream), self.clock())

    @rule(choice=st.integers(0, 9))
    def end(self, choice: int) -> None:
        if known := self.store.silences.all():
            self.store.silences.expire(known[choice % len(known)].id, self.clock())

    @rule(mood=st.sampled_from(["takes", "refuses", "hangs up", "dies"]))
    def deliver(self, mood: str) -> None:
        self.mood = mood
        self.store.silences.apply(self.clock())
        try:
            self.delivery.deliver_due()
        except KeyboardInterrupt:
            crash(self.store)
            self.start()

    @rule(seconds=st.integers(1, 40))
    def wait(self, seconds: int) -> None:
        self.clock.now_s += seconds

    @rule(clean=st.booleans())
    def restart(self, clean: bool) -> None:
        self.store.close() if clean else crash(self.store)
        self.start()

    @invariant()
    def no_end_before_its_beginning(self) -> None:
        begun = set()
        for one in self.notified:
            assert one.sequence == 0 or one.id in begun, f"notified of the end first: {one.key}"
            begun.add(one.id)

    def teardown(self) -> None:
        """The trouble and all silences are over: the sink knows what fires, and the end of all that it heard of."""
        self.mood = "takes"
        self.clock.now_s += 10_000
        self.store.silences.apply(self.clock())
        for _ in range(60):
            self.clock.now_s += self.delivery.deliver_due() + 0.001
        knows = {one.id: one.state for one in self.notified}
        ahead = {one.id for one in self.notified if one.state == "resolved"}
        for number, last in self.last.items():
            if last.id in knows:
                assert last.state == ("resolved" if last.id in ahead else knows[last.id]), (
                    f"left with a wrong end: {number}"
                )
            else:
                assert last.state == "resolved", f"never notified of what fires: {number}"
        stats = self.store.outbox.stats()["ear"]
        assert (stats.pending, stats.withheld, stats.dead) == (0, 0, 0)
        self.store.close()
        self.folder.cleanup()


SilenceMachine.TestCase.settings = settings(max_examples=25, stateful_step_count=30, deadline=None)
TestSilenceMachine = SilenceMachine.TestCase
