"""The store: one transaction a loop, recovery from every end, and files that were damaged."""

import errno
import os
import random
import resource
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from streamae.core.report import Report
from streamae.core.types import Batch, Drop, Drops
from streamae.errors import StoreError
from streamae.store.alerts import AlertLimits
from streamae.store.journal import JournalLimits
from streamae.store.store import Store, StoreLimits
from tests.store_world import batch, crash, folded, numbered, opened, report, text_of, timeline, transition

NOW = 1_700_000_000.0
NOTHING = Report(0, 0, 0, Drops(), {}, ())


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = opened(tmp_path, sinks=["a"])
    yield store
    store.close()


# ---- commit and recover


def test_a_start_finds_the_snapshot_and_every_batch_after_it(tmp_path: Path) -> None:
    """The snapshot, then the batches committed after it, in order, at their times; after a crash as well."""
    store = opened(tmp_path)
    for n in range(6):
        store.commit(numbered(n), report(), NOW + n, b"state 3" if n == 3 else None)
    crash(store)
    store = opened(tmp_path)
    assert store.unclean
    assert folded(store) == (b"state 3", [(text_of(numbered(n)), NOW + n) for n in (4, 5)])
    store.close()
    store = opened(tmp_path)
    assert not store.unclean
    assert store.notes == []
    assert store.recover().covers == 4
    store.close()


def test_an_idle_step_writes_nothing(store: Store) -> None:
    """Nothing in and nothing out makes no row; a loss, or a row that time brought about, does."""
    empty = batch([])
    store.commit(empty, NOTHING, NOW)
    assert store.stats().commits == 0
    store.commit(Batch([], [], np.zeros(0), lost=Drops({Drop.OVERFLOW: 3})), NOTHING, NOW)
    store.commit(empty, report(rows=1), NOW)
    assert (store.stats().commits, store.stats().journal_rows_last) == (2, 2)


def test_without_durability_only_alerts_and_snapshots_are_kept(tmp_path: Path) -> None:
    """`none` keeps no journal: a start finds the snapshot of the last stop, and every alert."""
    store = opened(tmp_path, "none", sinks=["a"])
    store.commit(numbered(1), report(), NOW)
    assert store.stats().commits == 0
    store.commit(numbered(2), report(transition(1)), NOW)
    store.commit(numbered(3), NOTHING, NOW, b"stop")
    crash(store)
    store = opened(tmp_path, "none", sinks=["a"])
    assert folded(store) == (b"stop", [])
    assert store.alerts.open()[0].transition == transition(1)
    store.close()


@pytest.mark.parametrize("durability", ["process", "power"])
def test_a_failed_commit_leaves_nothing_and_the_next_one_works(tmp_path: Path, durability: str) -> None:
    """While the disk is full commits raise StoreError; nothing of them is there; when space returns they work again."""
    store = opened(tmp_path, durability, sinks=["a"])
    store.commit(numbered(0), report(transition(0)), NOW, b"0")
    noise = random.Random(5).randbytes(400_000)
    big = Batch([b"t"], [noise], np.zeros(1))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, hard))
    try:
        for _ in range(3):
            with pytest.raises(StoreError, match=r"disk"):
                store.commit(big, report(transition(1)), NOW, b"1")
        assert len(store.alerts.open()) == 1
        assert store.stats().commits == 1
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    store.commit(big, report(transition(1)), NOW + 1)
    crash(store)
    store = opened(tmp_path, durability, sinks=["a"])
    assert folded(store) == (b"0", [(text_of(big), NOW + 1)])
    assert [found.key for found, _ in store.outbox.due("a", NOW, 9)] == [transition(0).key, transition(1).key]
    store.close()


def test_a_full_file_system_is_survived() -> None:
    """The same on a file system of 2 MB that is filled to the last byte."""
    with tempfile.TemporaryDirectory() as folder:
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", folder], check=False)
        if mounted.returncode:
            pytest.skip("mounting a tmpfs needs root")
        try:
            store = opened(Path(folder))
            store.commit(numbered(0), report(), NOW)
            ballast = Path(folder, "ballast")
            with ballast.open("wb", buffering=0) as file, pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
                while True:
                    file.write(bytes(4096))
            committed, refused = 1, 0
            for n in range(1, 400):
                try:
                    store.commit(numbered(n, 200), report(), NOW + n)
                    committed += 1
                except StoreError as error:
                    assert "disk" in str(error)
                    refused += 1
            assert refused
            ballast.unlink()
            store.commit(numbered(1000), report(), NOW)
            crash(store)
            store = opened(Path(folder))
            _, rows = folded(store)
            assert len(rows) == committed + 1
            assert rows[-1][0] == text_of(numbered(1000))
            crash(store)
        finally:
            subprocess.run(["umount", "-l", folder], check=True)


def test_what_a_sink_took_is_marked_without_an_fsync(tmp_path: Path) -> None:
    """With `power` every commit is synced, but marks of the outbox are not: losing one means telling twice."""
    store = opened(tmp_path, "power", sinks=["a"])

    def level() -> int:
        return store._database._writer.execute("PRAGMA synchronous").fetchone()[0]

    store.commit(numbered(1), report(transition(1)), NOW)
    assert level() == 2
    store.outbox.sent("a", [transition(1).key])
    assert level() == 1
    store.commit(numbered(2), report(), NOW)
    assert level() == 2
    store.close()


# ---- redelivery


def test_a_redelivered_message_is_recognised_by_id_and_content(store: Store) -> None:
    """Only DUP=1 with an id and content that were committed is a redelivery."""
    first = numbered(1, first_mid=10)
    again = Batch(first.topics, first.payloads, first.arrival_s, first.mid, np.ones(3, np.bool_))
    assert store.seen(again).tolist() == [False] * 3
    store.commit(first, report(), NOW)
    assert store.seen(again).tolist() == [True] * 3
    assert store.seen(first).tolist() == [False] * 3, "a new message under a free id"
    other = numbered(2, first_mid=10)
    reused = Batch(other.topics, other.payloads, other.arrival_s, other.mid, np.ones(3, np.bool_))
    assert store.seen(reused).tolist() == [False] * 3
    store.commit(other, report(), NOW)
    assert store.seen(again).tolist() == [False] * 3, "the newest content of an id decides"
    without_ids = Batch(first.topics, first.payloads, first.arrival_s, np.zeros(3, np.int32), np.ones(3, np.bool_))
    assert not store.seen(without_ids).any()
    assert store.stats().redelivered == 3


def test_both_copies_in_one_batch_are_recognised(store: Store) -> None:
    """A message and its redelivery in the same batch: the second is seen."""
    both = Batch([b"t", b"t"], [b"1", b"1"], np.zeros(2), np.array([7, 7], np.int32), np.array([False, True]))
    assert store.seen(both).tolist() == [False, True]


def test_redelivery_is_recognised_after_a_crash_until_the_session_is_lost(tmp_path: Path) -> None:
    """The ids come back from the journal, past snapshots and prunings; a lost session forgets them for good."""
    limits = StoreLimits(journal=JournalLimits(max_bytes=1))
    store = opened(tmp_path, limits=limits)
    batches = [numbered(n, first_mid=1 + 3 * n) for n in range(40)]
    for n, one in enumerate(batches):
        store.commit(one, report(), NOW + n, b"snapshot")
    crash(store)
    store = opened(tmp_path, limits=limits)
    again = [Batch(b.topics, b.payloads, b.arrival_s, b.mid, np.ones(3, np.bool_)) for b in batches]
    assert all(store.seen(b).all() for b in again)
    store.forget_session()
    assert not any(store.seen(b).any() for b in again)
    store.commit(numbered(99, first_mid=200), report(), NOW)
    crash(store)
    store = opened(tmp_path, limits=limits)
    assert not any(store.seen(b).any() for b in again)
    last = numbered(99, first_mid=200)
    assert store.seen(Batch(last.topics, last.payloads, last.arrival_s, last.mid, np.ones(3, np.bool_))).all()
    store.close()


def test_the_memory_of_ids_is_bounded(store: Store) -> None:
    """Journal rows whose ids have all been used again since are no longer held back from pruning."""
    for n in range(20):
        store.commit(numbered(n, 8000, first_mid=1 + 8000 * (n % 8)), report(), NOW + n)
    assert store._taken.needed_from == 12


# ---- bounds


def test_the_journal_is_pruned_by_size_but_never_past_the_older_snapshot(tmp_path: Path) -> None:
    """Beyond journal_max the oldest rows go, as far as two snapshots allow; `wants_snapshot` asks for one in time."""
    store = opened(tmp_path, limits=StoreLimits(journal=JournalLimits(max_bytes=5_000)))
    for n in range(30):
        store.commit(numbered(n, 20), report(), NOW + n)
    assert store.wants_snapshot
    assert store.stats().pruned_bytes == 0
    assert store.stats().journal_bytes > 5_000
    store.commit(numbered(30, 20), report(), NOW + 30, b"A")
    assert not store.wants_snapshot
    store.commit(numbered(31, 20), report(), NOW + 31)
    assert store.stats().journal_bytes <= 5_000
    for n in range(32, 40):
        store.commit(numbered(n, 20), report(), NOW + n, b"B" if n == 35 else None)
    with store._database.read() as connection:
        assert (
            store.stats().journal_bytes
            == connection.execute("SELECT SUM(LENGTH(body) + 32) FROM journal").fetchone()[0]
        )
    assert [rows[0] for rows in folded(store)[1]] == [text_of(numbered(n, 20)) for n in range(36, 40)]
    snapshot, rows = folded(store, 1)
    assert snapshot == b"A"
    assert [row[0] for row in rows] == [text_of(numbered(n, 20)) for n in range(31, 40)]
    store.close()


def test_the_journal_is_pruned_by_age(tmp_path: Path) -> None:
    """Rows older than journal_age go, many of them over several commits, and a day's step of the clock loses none."""
    store = opened(tmp_path, limits=StoreLimits(journal=JournalLimits(max_age_s=1000)))
    for n in range(600):
        store.commit(numbered(n, 1), report(), NOW + n, b"s" if n in (500, 599) else None)
    for n in range(600, 604):
        store.commit(numbered(n, 1), report(), NOW + 5000 + n)
    with store._database.read() as connection:
        assert connection.execute("SELECT MIN(seq) FROM journal").fetchone()[0] == 502
    store.commit(numbered(604, 1), report(), NOW - 86400)
    assert len(folded(store)[1]) == 5
    store.close()


def test_closed_alerts_are_forgotten_oldest_first(tmp_path: Path) -> None:
    """History has a bound; what is open, or still waits for a sink, is kept."""
    store = opened(tmp_path, limits=StoreLimits(alerts=AlertLimits(transitions_max=6)), sinks=["a"])
    for n in range(10):
        closing_too = [] if n == 0 else [transition(n, 2, "resolved")]
        store.publish([transition(n), *closing_too], NOW)
    waits = [transition(1).key, transition(1, 2).key]
    store.outbox.sent("a", [f"{n:016x}:{s}" for n in range(10) for s in (1, 2) if f"{n:016x}:{s}" not in waits])
    store.commit(numbered(1), report(), NOW, b"s")
    kept = {int(alert.transition.id, 16) for alert in store.alerts.history()}
    assert kept == {0, 1, 7, 8, 9}
    assert timeline(store, transition(2).id) == []
    store.close()


# ---- alerts


def test_alerts_show_their_present_state_and_their_past(store: Store) -> None:
    """Open ones, all of them, one stream's, one alert's transitions; what people say stays beside them."""
    store.publish([transition(1), transition(2), transition(1, 2, severity="critical")], NOW)
    store.publish([transition(2, 2, "resolved"), transition(3, stream="evil\ud800\0")], NOW)
    assert [alert.transition.key for alert in store.alerts.open()] == [transition(3).key, transition(1, 2).key]
    assert [alert.transition.stream for alert in store.alerts.history(stream="evil\ud800\0")] == ["evil\ud800\0"]
    assert len(store.alerts.history(group="pumps")) == 3
    assert store.alerts.history(group="fans") == []
    (closed,) = store.alerts.history(stream="north/p2")
    assert (closed.opened_s, closed.closed_s) == (transition(2).onset_s, transition(2, 2).time_s)
    assert [t.sequence for t in timeline(store, transition(1).id)] == [1, 2]
    assert store.alerts.acknowledge(transition(1).id, "ada", NOW, "on my way")
    assert store.alerts.give_feedback(transition(1).id, "true_alarm", NOW)
    alert = store.alerts.get(transition(1).id)
    assert alert
    assert (alert.acknowledged_by, alert.acknowledged_s, alert.note, alert.feedback) == (
        "ada",
        NOW,
        "on my way",
        "true_alarm",
    )
    store.publish([transition(1, 3, "resolved")], NOW)
    again = store.alerts.get(transition(1).id)
    assert again
    assert (again.transition.state, again.note) == ("resolved", "on my way")
    assert not store.alerts.acknowledge("nobody", "ada", NOW)
    assert store.alerts.get("nobody") is None


def test_feedback_is_kept_with_its_window_and_outlives_its_alert(tmp_path: Path) -> None:
    """From the first row of the window that fired to the end; open until then; it can be taken back; it is bounded."""
    store = opened(tmp_path, limits=StoreLimits(alerts=AlertLimits(transitions_max=0, feedback_max=2)))
    for n in range(4):
        store.publish([transition(n, 0)], NOW)
    assert store.alerts.give_feedback(transition(1).id, "false-alarm", NOW + 1, "cleaning \ud800")
    (said,) = store.alerts.feedback()
    assert (said.alert, said.group, said.stream, said.rule, said.verdict, said.said_s) == (
        transition(1).id, "pumps", "north/p1", "model", "false-alarm", NOW + 1,
    )  # fmt: skip
    assert (said.from_s, said.to_s, said.note) == (transition(1).window_start_s, None, "cleaning ?")
    store.publish([transition(1, 1, "resolved")], NOW + 2)
    assert store.alerts.feedback()[0].to_s == transition(1, 1).time_s
    store.commit(numbered(1), report(), NOW, b"s")
    assert store.alerts.get(transition(1).id) is None
    assert [one.alert for one in store.alerts.feedback()] == [transition(1).id]
    assert store.alerts.give_feedback(transition(2).id, "false-alarm", NOW + 3)
    assert store.alerts.give_feedback(transition(2).id, None, NOW + 4)
    assert store.alerts.get(transition(2).id).feedback is None
    assert store.alerts.feedback_count() == 1
    assert not store.alerts.give_feedback("nobody", "false-alarm", NOW)
    for n in (2, 3):
        assert store.alerts.give_feedback(transition(n).id, "false-alarm", NOW + 5 + n)
    assert [one.alert for one in store.alerts.feedback()] == [transition(3).id, transition(2).id]
    store.close()


def test_feedback_on_a_damaged_alert_is_marked_and_has_no_window(store: Store) -> None:
    """Nobody knows of which time it speaks: the mark stays on the alert, and no window is made up."""
    store.publish([transition(1, 0), transition(1, 1)], NOW)
    with store._database.write() as connection:
        connection.execute("UPDATE transition SET crc = 0 WHERE sequence = 0")
    assert store.alerts.give_feedback(transition(1).id, "false-alarm", NOW)
    assert store.alerts.get(transition(1).id).feedback == "false-alarm"
    assert store.alerts.feedback() == []
