"""The store when the directory, the file or the process fails: owners, versions, damage, crashes."""

import os
import random
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from streamae.core.types import Batch
from streamae.errors import StoreError
from streamae.store import schema
from streamae.store.journal import JournalLimits
from streamae.store.lock import StateLock
from streamae.store.outbox import Outbox
from streamae.store.store import StoreLimits
from tests.store_world import crash, folded, numbered, opened, report, text_of, transition

NOW = 1_700_000_000.0


# ---- the directory and its versions


def test_a_second_process_is_refused_by_name(tmp_path: Path) -> None:
    """The state directory has one owner; the other one learns its pid, and may have it afterwards."""
    store = opened(tmp_path)
    with pytest.raises(StoreError, match=f"pid {os.getpid()}"):
        opened(tmp_path)
    store.close()
    opened(tmp_path).close()


def test_a_directory_that_cannot_be_made_is_an_error_of_the_operator(tmp_path: Path) -> None:
    """A file where the directory should be, or a lock that cannot be written, is named."""
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be made"):
        opened(tmp_path / "file" / "state")
    (tmp_path / "lock").mkdir()
    with pytest.raises(StoreError, match="cannot be written"):
        opened(tmp_path)


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o722])
def test_a_directory_that_others_can_change_is_said(tmp_path: Path, mode: int) -> None:
    """With what to do; one that others may only read is no word."""
    (tmp_path / "state").mkdir()
    (tmp_path / "state").chmod(mode)
    store = opened(tmp_path / "state")
    assert [note for note in store.notes if "can be changed by other users" in note and f"{mode:o}" in note]
    store.close()
    (tmp_path / "state").chmod(0o755)
    store = opened(tmp_path / "state")
    assert not [note for note in store.notes if "other users" in note]
    store.close()


def test_a_state_that_lies_elsewhere_is_said(tmp_path: Path) -> None:
    """A link in the place of the file: whoever copies or removes the directory would not have the state."""
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "state.db").symlink_to(tmp_path / "elsewhere.db")
    store = opened(tmp_path / "state")
    assert [note for note in store.notes if f"is a link: the state is kept in {tmp_path / 'elsewhere.db'}" in note]
    store.close()


def test_the_state_is_its_users_own(tmp_path: Path) -> None:
    """Nobody else may read what sensors said."""
    opened(tmp_path / "state").close()
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "state" / "state.db").stat().st_mode & 0o777 == 0o600


def test_a_newer_file_is_refused_and_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a newer release wrote is neither read nor set aside; an older file is brought up to date."""
    opened(tmp_path).close()
    newer = (*schema.MIGRATIONS, ("CREATE TABLE future (x INTEGER) STRICT",))
    with monkeypatch.context() as patch:
        patch.setattr(schema, "MIGRATIONS", newer)
        store = opened(tmp_path)
        assert store.notes == []
        store.close()
    with pytest.raises(StoreError, match="newer streamae"):
        opened(tmp_path)
    assert [path.name for path in tmp_path.iterdir() if "damaged" in path.name] == []


@pytest.mark.parametrize("before", ["CREATE TABLE future (x INTEGER) STRICT", "ROLLBACK"])
def test_a_migration_that_fails_leaves_the_old_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: str
) -> None:
    """All of a migration happens, or nothing."""
    store = opened(tmp_path)
    store.commit(numbered(1), report(), NOW)
    store.close()
    path = tmp_path / "state.db"
    bad = (*schema.MIGRATIONS, (before, "CREATE TABLE journal (x INTEGER)"))
    monkeypatch.setattr(schema, "MIGRATIONS", bad)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection, pytest.raises(sqlite3.OperationalError):
        schema.migrate(connection)
    monkeypatch.undo()
    store = opened(tmp_path)
    assert len(folded(store)[1]) == 1
    store.close()


def test_a_file_system_without_a_wal_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where SQLite cannot keep its WAL (some network mounts), the operator learns of it; nothing is set aside."""

    class NoWal(sqlite3.Connection):
        def execute(self, sql: str, *values: object) -> sqlite3.Cursor:
            return super().execute("SELECT 'delete'" if sql == "PRAGMA journal_mode = WAL" else sql, *values)

    connect = sqlite3.connect
    with monkeypatch.context() as patch:
        patch.setattr(sqlite3, "connect", lambda *a, **k: connect(*a, **k, factory=NoWal))
        with pytest.raises(StoreError, match="local disk"):
            opened(tmp_path)
    store = opened(tmp_path)
    assert store.notes == []
    store.close()


def test_a_start_or_stop_on_a_full_disk_lets_go_of_the_directory(tmp_path: Path) -> None:
    """What cannot be written is said, and the next start may have the directory."""
    store = opened(tmp_path, sinks=["a"])
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def on_a_full_disk(step: Callable[[], object]) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
        try:
            with pytest.raises(StoreError, match="disk"):
                step()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    on_a_full_disk(store.close)
    on_a_full_disk(lambda: opened(tmp_path, sinks=["a"]))
    store = opened(tmp_path, sinks=["a"])
    assert store.unclean
    store.close()


def test_a_start_that_ends_in_the_middle_lets_go_of_the_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever happens while sinks are registered, the lock does not outlive it; a second release is harmless."""
    with monkeypatch.context() as patch:
        patch.setattr(Outbox, "register", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            opened(tmp_path)
    store = opened(tmp_path)
    store.close()
    store._lock.release()


def test_a_lock_on_a_full_disk_still_locks(tmp_path: Path) -> None:
    """The pid in the lock file is a courtesy; without it the holder is unknown, and it holds."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        lock = StateLock(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    with pytest.raises(StoreError, match="pid unknown"):
        StateLock(tmp_path)
    lock.release()


# ---- damage


def test_the_earlier_snapshot_serves_when_the_latest_is_damaged(tmp_path: Path) -> None:
    """The fold then starts one snapshot earlier, and the note says why."""
    store = opened(tmp_path)
    for n in range(6):
        store.commit(numbered(n), report(), NOW + n, {2: b"two", 4: b"four"}.get(n))
    with store._database.write() as connection:
        connection.execute("UPDATE snapshot SET body = x'00' WHERE covers = 5")
    recovery = store.recover()
    assert (recovery.snapshot, recovery.skipped) == (b"two", 1)
    crash(store)
    store = opened(tmp_path)
    assert "snapshot 2 is damaged" in store.notes[0]
    assert store.stats().damaged == 1
    assert folded(store) == (b"two", [(text_of(numbered(n)), NOW + n) for n in (3, 4, 5)])
    assert folded(store, 1)[0] is None
    store.close()


def test_a_value_of_a_foreign_type_is_damage(tmp_path: Path) -> None:
    """A snapshot row that cannot even be taken apart is passed over like one whose crc32 is wrong."""
    store = opened(tmp_path)
    store.commit(numbered(1), report(), NOW, b"one")
    reader = store.recover()
    assert reader.snapshot == b"one"
    with closing(sqlite3.connect(tmp_path / "state.db", isolation_level=None)) as connection:
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute("UPDATE sqlite_schema SET sql = replace(sql, 'STRICT', '') WHERE name = 'snapshot'")
    with closing(sqlite3.connect(tmp_path / "state.db", isolation_level=None)) as connection:
        connection.execute("UPDATE snapshot SET body = 'text'")
    assert store.recover().snapshot is None
    store.close()


def test_ids_are_read_back_as_far_as_they_can_be_in_flight(tmp_path: Path) -> None:
    """Only the rows of the newest 65,536 ids are read at the start; a damaged one costs its own ids."""
    store = opened(tmp_path)
    for n in range(12):
        store.commit(numbered(n, 8000, first_mid=1 + 8000 * (n % 8)), report(), NOW + n)
    with store._database.write() as connection:
        connection.execute("UPDATE journal SET crc = crc + 1 WHERE seq = 10")
    crash(store)
    store = opened(tmp_path)

    def again(n: int) -> Batch:
        b = numbered(n, 8000, first_mid=1 + 8000 * (n % 8))
        return Batch(b.topics, b.payloads, b.arrival_s, b.mid, np.ones(8000, np.bool_))

    assert [bool(store.seen(again(n)).all()) for n in range(12)] == [False] * 4 + [True] * 4 + [True, False, True, True]
    store.close()


def test_a_damaged_row_is_passed_over_and_counted(tmp_path: Path) -> None:
    """Rows that fail their crc32, or are missing, cost themselves only; new ones are numbered after the sound ones."""
    store = opened(tmp_path)
    for n in range(8):
        store.commit(numbered(n), report(), NOW + n)
    with store._database.write() as connection:
        connection.execute("UPDATE journal SET now_s = now_s + 1 WHERE seq = 2")
        connection.execute("DELETE FROM journal WHERE seq IN (4, 5)")
        connection.execute("UPDATE journal SET body = x'0102' WHERE seq = 8")
    crash(store)
    store = opened(tmp_path)
    recovery = store.recover()
    assert [text_of(b) for b, _ in recovery.journal] == [text_of(numbered(n)) for n in (0, 2, 5, 6)]
    assert recovery.skipped == 3
    assert [note[:14] for note in recovery.notes] == ["journal row 2 ", "journal rows 4"]
    assert store.stats().damaged == 1
    assert store.stats().journal_rows_last == 7
    store.close()


def test_a_damaged_file_is_set_aside_and_the_start_is_cold(tmp_path: Path) -> None:
    """The file keeps its bytes under a name with the time; few such files are kept."""
    for n in range(5):
        store = opened(tmp_path)
        if n:
            assert "set aside as state.db.damaged-20231114T221320Z" in store.notes[0]
            assert store.stats().set_aside == 1
        assert folded(store) == (None, [])
        store.commit(numbered(n), report(), NOW)
        crash(store)
        (tmp_path / "state.db").write_bytes(b"not a database, whatever its length " * 300)
    assert len(list(tmp_path.glob("state.db.damaged-*"))) == 3


def test_a_foreign_database_is_not_taken_for_state(tmp_path: Path) -> None:
    """A SQLite file with other tables, or one whose session mark is nonsense, is set aside."""
    with closing(sqlite3.connect(tmp_path / "state.db")) as connection:
        connection.execute("CREATE TABLE cats (name TEXT)")
        connection.execute("PRAGMA user_version = 1")
        connection.commit()
    store = opened(tmp_path)
    assert "set aside" in store.notes[0]
    with store._database.write() as connection:
        connection.execute("INSERT INTO meta VALUES ('session_from', '²')")
    crash(store)
    store = opened(tmp_path)
    assert "not a number" in store.notes[0]
    with store._database.write() as connection:
        connection.execute("CREATE TABLE cats (name TEXT)")
    crash(store)
    store = opened(tmp_path)
    assert "tables are not those" in store.notes[0]
    store.close()


def test_damage_in_the_header_or_of_a_page_sets_the_file_aside(tmp_path: Path) -> None:
    """Versions that cannot be, a page that integrity_check finds, a version that the tables do not have."""
    store = opened(tmp_path)
    for n in range(40):
        store.commit(numbered(n, 30), report(), NOW, b"s")
    store.close()
    sound, path = (tmp_path / "state.db").read_bytes(), tmp_path / "state.db"

    def spoil(at: int, body: bytes) -> bytes:
        return sound[:at] + body + sound[at + len(body) :]

    page = int.from_bytes(sound[16:18], "big")
    cases = {
        "impossible versions": spoil(18, b"\x07"),
        "different versions": spoil(60, (7).to_bytes(4, "big")),
        "damaged": spoil(page + 8, b"\xff" * 64),
    }
    for said, body in cases.items():
        path.write_bytes(body)
        store = opened(tmp_path)
        assert "set aside" in store.notes[0], said
        assert said in store.notes[0]
        store.close()
    path.write_bytes(sound)
    store = opened(tmp_path, sinks=["a"])
    store.publish([transition(1)], NOW)
    store.close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute("UPDATE sqlite_schema SET sql = replace(sql, 'error TEXT', 'error TEXT NOT NULL')")
        connection.commit()
    store = opened(tmp_path, sinks=["a"])
    assert "NULL value in outbox.error" in store.notes[0]
    store.close()


def damaged_copies(seed: int, files: dict[str, bytes]) -> dict[str, bytes]:
    """The files with some bytes changed, a stretch of them blanked, or the end cut off."""
    random_ = random.Random(seed)
    name = random_.choice(sorted(files))
    body = bytearray(files[name])
    kind = random_.randrange(4)
    if kind == 0:
        for _ in range(random_.choice([1, 1, 8])):
            body[random_.randrange(len(body))] ^= 1 << random_.randrange(8)
    elif kind == 1:
        at = random_.randrange(len(body))
        body[at : at + 512] = bytes(len(body[at : at + 512]))
    elif kind == 2:
        del body[random_.randrange(len(body)) :]
    else:
        body[random_.randrange(min(100, len(body)))] ^= 1 << random_.randrange(8)
    return files | {name: bytes(body)}


DAMAGED = 300


@pytest.mark.parametrize("first_seed", range(0, DAMAGED, 50))
def test_no_damaged_state_is_loaded_with_another_meaning(tmp_path: Path, first_seed: int) -> None:
    """300 damaged files: each start succeeds, and finds only what was written, in order."""
    source = tmp_path / "source"
    store = opened(source, sinks=["a"])
    written = []
    for n in range(60):
        written.append(numbered(n, 30, first_mid=1 + 30 * n))
        alerts = [transition(n)] if n % 5 == 0 else []
        store.commit(written[-1], report(*alerts), NOW + n, f"state {n}".encode() if n % 25 == 24 else None)
        if n == 40:
            with store._database._lock:
                store._database._writer.execute("PRAGMA wal_checkpoint")
    files = {path.name: path.read_bytes() for path in source.iterdir() if path.name != "lock"}
    store.close()
    number = {text_of(b): n for n, b in enumerate(written)}
    aside = 0
    for seed in range(first_seed, first_seed + 50):
        folder = tmp_path / str(seed)
        folder.mkdir()
        for name, body in damaged_copies(seed, files).items():
            (folder / name).write_bytes(body)
        store = opened(folder, sinks=["a"])
        aside += store.stats().set_aside
        recovery = store.recover()
        start = -1 if recovery.snapshot is None else int(recovery.snapshot.split()[1])
        rows = [(number[text_of(b)], now_s) for b, now_s in recovery.journal]
        assert all(now_s == NOW + n for n, now_s in rows)
        assert [n for n, _ in rows] == sorted({n for n, _ in rows if n > start})
        for alert in store.alerts.history():
            assert alert.transition == transition(int(alert.transition.id, 16))
        for found, _ in store.outbox.due("a", NOW, 100):
            assert found == transition(int(found.id, 16))
        store.commit(numbered(999), report(transition(999)), NOW + 999, b"state 999")
        crash(store)
        store = opened(folder, sinks=["a"])
        assert folded(store) == (b"state 999", [])
        crash(store)
        shutil.rmtree(folder)
    assert 0 < aside < 50, "some are set aside and some are not"


def test_damage_while_running_asks_for_a_restart(tmp_path: Path) -> None:
    """A page that goes bad under us is said to be that; a defect of our own is not hidden behind such words."""
    store = opened(tmp_path)
    store.commit(numbered(1), report(), NOW)
    error = sqlite3.DatabaseError("database disk image is malformed")
    error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
    with pytest.raises(StoreError, match="damaged; restart"), store._database.write():
        raise error
    with pytest.raises(sqlite3.OperationalError, match="no such table"), store._database.write() as connection:
        connection.execute("SELECT * FROM cats")
    store.commit(numbered(2), report(), NOW)
    store.close()


# ---- crashes

WRITER = """
import sys
from tests.store_world import numbered, report, transition, Clock
from streamae.store.lock import StateLock
from streamae.store.outbox import Outbox
from streamae.store.store import Store, StoreLimits
from streamae.store.journal import JournalLimits
store = Store.open(sys.argv[1], sys.argv[2], Clock(), StoreLimits(journal=JournalLimits(max_bytes=20_000)), ["a"])
n = store._journal.last
print("open", n, flush=True)
while True:
    n += 1
    store.commit(numbered(n, 20, first_mid=1 + 20 * (n % 3000)), report(transition(n)), float(n),
                 b"state %d" % n if n % 7 == 0 else None)
    print(n, flush=True)
"""


@pytest.mark.parametrize(("durability", "cycles"), [("process", 12), ("power", 4)])
def test_kill_9_loses_nothing_that_was_committed(tmp_path: Path, durability: str, cycles: int) -> None:
    """Whenever the writer is killed, what it reported as committed is there once, in order, and nothing half."""
    random_ = random.Random(11)
    for _ in range(cycles):
        command = [sys.executable, "-c", textwrap.dedent(WRITER), str(tmp_path), durability]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2])
        assert process.stdout
        committed = 0
        for _ in range(random_.randrange(1, 60)):
            committed = int(process.stdout.readline().split()[-1])
        process.send_signal(signal.SIGKILL)
        committed = max(
            [committed, *(int(line.split()[-1]) for line in process.stdout if line.strip().split()[-1].isdigit())]
        )
        process.wait(30)
        store = opened(tmp_path, durability, sinks=["a"])
        assert store.stats().set_aside == 0
        recovery = store.recover()
        covers = recovery.covers
        assert recovery.snapshot == (b"state %d" % covers if covers else None)
        rows = [(text_of(b), now_s) for b, now_s in recovery.journal]
        last = covers + len(rows)
        assert last >= committed
        assert rows == [(text_of(numbered(n, 20)), float(n)) for n in range(covers + 1, last + 1)], (
            "each batch once, in order"
        )
        assert store.stats().journal_rows_last == last
        assert {alert.transition.id for alert in store.alerts.history(100_000)} == {
            transition(n).id for n in range(1, last + 1)
        }
        assert store.outbox.stats()["a"].pending == last
        crash(store)


class StoreMachine(RuleBasedStateMachine):
    """Any sequence of commits, crashes, restarts and lost snapshots recovers what a list in memory has."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.limits = StoreLimits(journal=JournalLimits(max_bytes=600, max_age_s=50))
        self.store = opened(Path(self.folder.name), limits=self.limits)
        self.batches: list[tuple] = []
        self.snapshots: list[tuple[bytes, int]] = []
        self.now_s = NOW

    @rule(n=st.integers(1, 4), snapshot=st.booleans(), later_s=st.integers(-100, 100))
    def commit(self, n: int, snapshot: bool, later_s: int) -> None:
        self.now_s += later_s
        one = numbered(len(self.batches), n)
        self.batches.append((text_of(one), self.now_s))
        body = b"after %d" % len(self.batches) if snapshot else None
        self.store.commit(one, report(), self.now_s, body)
        if body:
            self.snapshots = [*self.snapshots[-1:], (body, len(self.batches))]

    @rule(clean=st.booleans())
    def restart(self, clean: bool) -> None:
        self.store.close() if clean else crash(self.store)
        self.store = opened(Path(self.folder.name), limits=self.limits)
        assert self.store.unclean is not clean
        self.check()

    @rule()
    def lose_the_last_snapshot(self) -> None:
        if len(self.snapshots) == 2:
            with self.store._database.write() as connection:
                connection.execute("UPDATE snapshot SET crc = crc + 1 WHERE id = (SELECT MAX(id) FROM snapshot)")
            self.snapshots.pop()
            crash(self.store)
            self.store = opened(Path(self.folder.name), limits=self.limits)
            self.check()

    def check(self) -> None:
        body, covers = self.snapshots[-1] if self.snapshots else (None, 0)
        recovery = self.store.recover()
        assert (recovery.snapshot, recovery.covers) == (body, covers)
        assert [(text_of(b), now_s) for b, now_s in recovery.journal] == self.batches[covers:]
        assert recovery.skipped == 0

    def teardown(self) -> None:
        self.store.close()
        self.folder.cleanup()


StoreMachine.TestCase.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)
TestStoreMachine = StoreMachine.TestCase
