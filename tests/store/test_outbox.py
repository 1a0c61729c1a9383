"""The outbox against the contract that sink threads rely on, and against a naive one."""

import dataclasses
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from streamae.store.outbox import OutboxLimits
from streamae.store.store import Store, StoreLimits
from tests.store_world import Clock, numbered, report, transition

NOW = 1_700_000_000.0


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store.open(tmp_path, "process", Clock(), sinks=["a", "b"])
    yield store
    store.close()


def keys(store: Store, sink: str = "a", now_s: float = NOW, limit: int = 100) -> list[str]:
    return [found.key for found, _ in store.outbox.due(sink, now_s, limit)]


def test_each_sink_is_notified_once_of_each_transition(store: Store) -> None:
    """A sink has a row of its own; what one took still waits for the other; a known transition makes no new row."""
    one = transition(1, shares={"p": 0.1 + 0.2}, labels={"line": "nörd\ud800"})
    store.commit(numbered(1), report(one), NOW)
    store.commit(numbered(2), report(one), NOW)
    assert store.outbox.due("a", NOW, 10) == [(one, 0)] == store.outbox.due("b", NOW, 10)
    store.outbox.sent("a", [one.key])
    store.publish([one], NOW)
    assert (keys(store, "a"), keys(store, "b")) == ([], [one.key])
    assert store.outbox.next_due_s("a", NOW) is None


def test_resolved_waits_for_firing(store: Store) -> None:
    """Of one alert only the earliest is due, even while it is being retried; a dead letter lets the next pass."""
    first, last = transition(1), transition(1, 2, "resolved")
    other = transition(2)
    store.publish([first, last, other], NOW)
    assert keys(store) == [first.key, other.key]
    store.outbox.failed("a", [first.key], "503", NOW + 100)
    assert keys(store) == [other.key]
    assert keys(store, now_s=NOW + 101) == [other.key, first.key], "tried less often comes first"
    store.outbox.dead("a", [first.key], "400")
    assert keys(store) == [last.key, other.key]
    assert store.outbox.dead_letters("a") == [(first.key, "400")]
    assert store.outbox.revive("a") == 1
    assert keys(store) == [first.key, other.key]


def test_a_clock_that_steps_back_delays_no_retry(store: Store) -> None:
    """A retry further off than the longest back-off is due now."""
    one = transition(1)
    store.publish([one], NOW)
    store.outbox.failed("a", [one.key], "503", NOW + 200)
    assert keys(store) == []
    assert store.outbox.next_due_s("a", NOW) == NOW + 200
    assert keys(store, now_s=NOW - 86400) == [one.key]
    assert keys(store, now_s=NOW + 3e8) == [one.key]


def test_the_outbox_is_bounded_and_counts_what_it_evicts(tmp_path: Path) -> None:
    """Beyond its bounds the oldest go, pending and dead letters alike, and the counter says how many."""
    limits = StoreLimits(outbox=OutboxLimits(pending_max=3, dead_max=2))
    store = Store.open(tmp_path, "process", Clock(), limits, ["a"])
    store.commit(numbered(1), report(*map(transition, range(5))), NOW)
    assert keys(store) == [transition(n).key for n in (2, 3, 4)]
    store.outbox.dead("a", keys(store), "no")
    assert [key for key, _ in store.outbox.dead_letters("a")] == [transition(n).key for n in (4, 3)]
    stats = store.outbox.stats()["a"]
    assert (stats.pending, stats.dead, stats.evicted, stats.refused, stats.oldest_s) == (0, 2, 3, 3, None)
    assert len(store.alerts.open()) == 5, "the alerts themselves are all there"
    store.close()


def test_a_sink_that_is_gone_leaves_nothing_behind(tmp_path: Path) -> None:
    """Rows of a sink that is no longer configured are dropped at the start."""
    store = Store.open(tmp_path, "process", Clock(), sinks=["a", "b"])
    store.publish([transition(1)], NOW)
    store.close()
    store = Store.open(tmp_path, "process", Clock(), sinks=["b"])
    assert (keys(store, "a"), keys(store, "b")) == ([], [transition(1).key])
    assert set(store.outbox.stats()) == {"b"}
    store.close()


def test_standing_is_the_last_of_each_alert_and_whether_it_waits(store: Store) -> None:
    """Open ones first, then the newest; what waits, is withheld or refused is no state that a receiver has."""
    store.outbox.register(["a", "b"])
    store.publish([transition(1), transition(2), transition(2, 2, "resolved"), transition(3)], 0.0)
    store.outbox.sent("a", [transition(1).key, transition(2).key, transition(2, 2).key])
    assert store.outbox.standing("a", 10) == [
        (transition(3), True), (transition(1), False), (transition(2, 2, "resolved"), False),
    ]  # fmt: skip
    assert store.outbox.standing("a", 1) == [(transition(3), True)]
    assert {waits for _, waits in store.outbox.standing("b", 10)} == {True}


def test_open_transitions_are_the_last_notified_of_open_alerts(store: Store) -> None:
    """A sink that forgets is notified again of what is open and was notified before."""
    sent, waiting, over = transition(1), transition(2), transition(3)
    store.publish([sent, waiting, over, transition(3, 2, "resolved")], NOW)
    store.outbox.sent("a", [sent.key, over.key])
    assert store.outbox.open_transitions("a", 10) == [sent]


def test_a_damaged_transition_becomes_a_dead_letter(store: Store) -> None:
    """What cannot be read back is never sent, and holds up nobody."""
    store.publish([transition(1), transition(2)], NOW)
    with store._database.write() as connection:
        connection.execute("UPDATE transition SET body = CAST(replace(body, 'north', 'south') AS BLOB) WHERE seq = 1")
    assert keys(store) == [transition(2).key]
    assert store.outbox.stats()["a"].dead == 1
    assert [alert.transition for alert in store.alerts.open()] == [transition(2)]
    assert store.outbox.open_transitions("b", 10) == []


def test_statistics_say_how_long_the_oldest_waits(store: Store) -> None:
    """Counts since the start, and when the oldest pending row was written."""
    store.publish([transition(1)], NOW)
    store.publish([transition(2)], NOW + 5)
    store.outbox.failed("a", [transition(1).key], "503", NOW)
    store.outbox.sent("a", [transition(1).key])
    stats = store.outbox.stats()
    assert dataclasses.astuple(stats["a"]) == (1, 0, NOW + 5, 1, 1, 0, 0, 0, 0)
    assert dataclasses.astuple(stats["b"]) == (2, 0, NOW, 0, 0, 0, 0, 0, 0)


class OutboxMachine(RuleBasedStateMachine):
    """Any sequence of steps leaves the outbox as a list of rows in memory would be left."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.store = Store.open(self.folder.name, "process", Clock(), sinks=["a"])
        self.rows: list[dict] = []
        self.sequences: dict[int, int] = {}
        self.now_s = NOW

    @rule(numbers=st.lists(st.integers(0, 3), max_size=4))
    def publish(self, numbers: list[int]) -> None:
        fresh = []
        for number in numbers:
            self.sequences[number] = self.sequences.get(number, 0) + 1
            fresh.append(transition(number, self.sequences[number]))
        self.rows += [{"t": t, "attempts": 0, "retry": 0.0, "dead": False} for t in fresh]
        self.store.publish(fresh + [row["t"] for row in self.rows[:2]], self.now_s)

    @rule(choice=st.integers(0, 9), outcome=st.sampled_from(["sent", "failed", "dead"]), later_s=st.integers(0, 300))
    def tell(self, choice: int, outcome: str, later_s: int) -> None:
        due = self.expected()
        if not due:
            return
        row = due[choice % len(due)]
        key = [row["t"].key]
        if outcome == "sent":
            self.store.outbox.sent("a", key)
            self.rows.remove(row)
        elif outcome == "failed":
            self.store.outbox.failed("a", key, "503", self.now_s + later_s)
            row["attempts"] += 1
            row["retry"] = self.now_s + later_s
        else:
            self.store.outbox.dead("a", key, "400")
            row["dead"] = True

    @rule(seconds=st.integers(0, 400))
    def wait(self, seconds: int) -> None:
        self.now_s += seconds

    @rule()
    def restart(self) -> None:
        self.store.close()
        self.store = Store.open(self.folder.name, "process", Clock(), sinks=["a"])

    def expected(self) -> list[dict]:
        pending = [row for row in self.rows if not row["dead"]]
        first: dict[str, dict] = {}
        for row in pending:
            first.setdefault(row["t"].id, row)
        due = [row for row in first.values() if row["retry"] <= self.now_s]
        return sorted(due, key=lambda row: (row["attempts"], self.rows.index(row)))

    @invariant()
    def same(self) -> None:
        found = self.store.outbox.due("a", self.now_s, 100)
        assert found == [(row["t"], row["attempts"]) for row in self.expected()]

    def teardown(self) -> None:
        self.store.close()
        self.folder.cleanup()


OutboxMachine.TestCase.settings = settings(max_examples=30, stateful_step_count=25, deadline=None)
TestOutboxMachine = OutboxMachine.TestCase
