"""The store: one SQLite file in which state = fold(pipeline.step, journal) is made to last.

One transaction a loop holds the journal row, the alert transitions, the outbox rows and, at times, the snapshot. Only
after it stands may the batch be acknowledged: what the broker no longer has, the journal has. A commit that fails
leaves nothing behind, and the next one may succeed; the caller keeps the batch, does not acknowledge, and tries again.

A file that is damaged as a whole is set aside under a name that says when; the start is then a cold one, and `notes`
say so.
"""

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from streamae.core.report import Report, Transition
from streamae.core.types import Batch, Bool
from streamae.errors import StoreError
from streamae.store.alerts import AlertLimits, AlertStore, prune_history, record_transitions
from streamae.store.attempts import Attempts
from streamae.store.database import Database, Durability
from streamae.store.dedup import CommittedMessages
from streamae.store.journal import Entry, Journal, JournalLimits
from streamae.store.lock import StateLock, cautions
from streamae.store.outbox import Outbox, OutboxLimits, Queued
from streamae.store.past import Past
from streamae.store.poison import Poison, PoisonLimits
from streamae.store.recovery import Recovery, drop_damaged, plan_recovery, save_snapshot, snapshot_floor
from streamae.store.schema import DamagedError
from streamae.store.session import SessionFilters, session_from
from streamae.store.silences import SilenceLimits, Silences
from streamae.store.sink_counts import SinkStats

__all__ = ["Store", "StoreLimits", "StoreStats"]

_FILE = "state.db"
_SET_ASIDE_MAX = 3


@dataclass(frozen=True, slots=True)
class StoreLimits:
    """The bounds of everything in the store."""

    journal: JournalLimits = field(default_factory=JournalLimits)
    alerts: AlertLimits = field(default_factory=AlertLimits)
    outbox: OutboxLimits = field(default_factory=OutboxLimits)
    silences: SilenceLimits = field(default_factory=SilenceLimits)
    poison: PoisonLimits = field(default_factory=PoisonLimits)
    in_flight_max: int = 65_535
    """Messages that the broker may send before the first is acknowledged: what can be redelivered."""


@dataclass(frozen=True, slots=True)
class StoreStats:
    """What the metrics show: sizes now, and counts since the start of the process."""

    journal_rows_last: int
    journal_bytes: int
    uncovered_bytes: int
    commits: int
    pruned_bytes: int
    snapshots: int
    snapshot_s: float | None
    redelivered: int
    set_aside: int
    damaged: int
    sinks: dict[str, SinkStats]


class Store:
    """The state directory of one daemon; open it with `Store.open`."""

    def __init__(self, directory: Path, durability: Durability, now_s: float, limits: StoreLimits) -> None:
        self.damage: list[str] = []  # what was lost, of `notes`
        self.unclean = False
        self._durability: Durability = durability
        self._limits = limits
        self._counts = {"commits": 0, "pruned": 0, "snapshots": 0, "redelivered": 0, "set_aside": 0, "damaged": 0}
        self._uncovered = 0
        self._snapshot_s: float | None = None
        self._lock = _locked(directory)
        self.notes = cautions(directory, directory / _FILE)
        try:
            self.attempts = Attempts(directory)
            self._open_or_set_aside(directory / _FILE, now_s)
        except BaseException:
            self._lock.release()
            raise

    @classmethod
    def open(
        cls,
        directory: str | Path,
        durability: Durability,
        now: Callable[[], float],
        limits: StoreLimits | None = None,
        sinks: Sequence[str] = (),
    ) -> Self:
        """Lock the directory, then open, verify and migrate its file.

        `now` (wall clock, s) names a file that is set aside; `sinks` are the names the outbox has rows for. StoreError
        when another process has the directory, when it cannot be written, or when a newer release wrote it.
        """
        store = cls(Path(directory).absolute(), durability, now(), limits or StoreLimits())
        try:
            store.outbox.register(sinks)
        except BaseException:
            store._abandon()
            raise
        return store

    def commit(self, batch: Batch, report: Report, now_s: float, snapshot: bytes | None = None) -> None:
        """Make one step last, all of it or (StoreError) nothing; `snapshot` is the state after this batch.

        A step in which nothing came in and nothing came out is not written, unless it was a tick.
        """
        idle = not len(batch) and not batch.lost and not batch.broken and not report.rows and not report.windows
        to_keep = report.ticked or batch.maintenance is not None or len(batch.changes) > 0
        journalled = (not idle or to_keep) and self._durability != "none"
        if not journalled and not report.transitions and snapshot is None:
            self._taken.record(self._journal.last, batch)
            return
        with self._database.write() as connection:
            appended = self._journal.append(connection, batch, now_s) if journalled else 0
            row = self._journal.last + (1 if journalled else 0)
            queued = self._record(connection, report.transitions, now_s) if report.transitions else Queued()
            if snapshot is not None:
                save_snapshot(connection, row, now_s, snapshot)
                prune_history(connection, self._limits.alerts, now_s)
            floor = min(snapshot_floor(connection), (self._taken.needed_from or row) - 1)
            entry = self._journal.prune(connection, floor, now_s, appended) if journalled else Entry()
        self._committed(batch, row, entry, now_s if snapshot is not None else None)
        self.outbox.committed(queued)

    def publish(self, transitions: Sequence[Transition], now_s: float) -> None:
        """Store transitions that no batch brought about, and put them in the outbox; those known are left alone."""
        with self._database.write() as connection:
            queued = self._record(connection, transitions, now_s)
        self.outbox.committed(queued)

    def _record(self, connection: sqlite3.Connection, transitions: Sequence[Transition], now_s: float) -> Queued:
        before, added = record_transitions(connection, transitions, now_s)
        self.silences.mark(connection, added, now_s)
        return self.outbox.enqueue(connection, before)

    def seen(self, batch: Batch) -> Bool:
        """[N], true where a message was committed before and is only to be acknowledged."""
        seen = self._taken.seen(batch)
        self._counts["redelivered"] += int(seen.sum())
        return seen

    def forget_session(self) -> None:
        """The broker has forgotten the session: no packet id of it will be redelivered."""
        with self._database.write() as connection:
            connection.execute("INSERT OR REPLACE INTO meta VALUES ('session_from', ?)", (str(self._journal.last),))
        self._taken.clear()

    def recover(self, skip_snapshots: int = 0) -> Recovery:
        """What to restore and what to fold after it; `skip_snapshots` goes further back when one does not fit.

        Call it before the first commit. Past the last snapshot it is None, and the fold starts where the journal does.
        """
        return plan_recovery(self._database, journal=self._durability != "none", skip_snapshots=skip_snapshots)

    @contextmanager
    def past(self) -> Iterator[Past]:
        """What the file remembers, read beside the writer, by a connection of its own, for the block."""
        with self._database.read() as connection:
            yield Past(connection)

    @property
    def wants_snapshot(self) -> bool:
        """Whether half of the journal's room is taken by what no snapshot covers: take one early."""
        return self._uncovered * 2 > self._limits.journal.max_bytes

    def stats(self) -> StoreStats:
        """Sizes and counts for the metrics."""
        return StoreStats(
            journal_rows_last=self._journal.last,
            journal_bytes=self._journal.bytes,
            uncovered_bytes=self._uncovered,
            commits=self._counts["commits"],
            pruned_bytes=self._counts["pruned"],
            snapshots=self._counts["snapshots"],
            snapshot_s=self._snapshot_s,
            redelivered=self._counts["redelivered"],
            set_aside=self._counts["set_aside"],
            damaged=self._counts["damaged"],
            sinks=self.outbox.stats(),
        )

    def close(self) -> None:
        """Say that the stop was a clean one, close the file, release the lock."""
        try:
            with self._database.write() as connection:
                connection.execute("INSERT OR REPLACE INTO meta VALUES ('clean', '1')")
        finally:
            self._abandon()

    def _abandon(self) -> None:
        try:
            self._database.close()
        finally:
            self.attempts.close()
            self._lock.release()

    def _open_or_set_aside(self, path: Path, now_s: float) -> None:
        try:
            self._load(path)
        except DamagedError as error:
            kept = _set_aside(path, now_s)
            self._counts["set_aside"] += 1
            self.damage = [f"{path} is damaged ({error}): set aside as {kept.name}, starting cold"]
            self.notes += self.damage
            self._load(path)

    def _load(self, path: Path) -> None:
        self._database = Database(path, self._durability)
        try:
            self._read_in()
            self._database.trust()
        except BaseException:
            self._database.close()
            raise

    def _read_in(self) -> None:
        self.alerts = AlertStore(self._database, self._limits.alerts)
        self.silences = Silences(self._database, self._limits.silences)
        self.outbox = Outbox(self._database, self._limits.outbox)
        self.poison = Poison(self._database, self.attempts, self._limits.poison)
        self._taken = CommittedMessages(self._limits.in_flight_max)
        with self._database.write() as connection:
            damaged = drop_damaged(connection) + self.silences.load(connection)
            self.poison.load(connection)
            self._journal = Journal(connection, self._limits.journal)
            meta = dict(connection.execute("SELECT key, value FROM meta"))
            self._taken.restore(connection, session_from(meta.get("session_from", "0")))
            self.session_filters = SessionFilters(self._database, meta)
            (self._snapshot_s, covered) = connection.execute(
                "SELECT MAX(now_s), COALESCE(MAX(covers), 0) FROM snapshot"
            ).fetchone()
            (self._uncovered,) = connection.execute(
                "SELECT COALESCE(SUM(LENGTH(body)), 0) FROM journal WHERE seq > ?", (covered,)
            ).fetchone()
            self.unclean = meta.get("clean") == "0"
            if self.unclean:
                self.outbox.distrust(connection)
            connection.execute("INSERT OR REPLACE INTO meta VALUES ('clean', '0')")
        self._counts["damaged"] += len(damaged)
        self.notes += damaged
        self.damage += damaged
        if self.unclean:
            self.notes.append("the last run did not stop cleanly; the state is folded from the journal")

    def _committed(self, batch: Batch, row: int, entry: Entry, snapshot_s: float | None) -> None:
        self._journal.committed(entry)
        self._taken.record(row, batch)
        self._uncovered += entry.appended
        self._counts["commits"] += 1
        self._counts["pruned"] += entry.pruned
        if snapshot_s is not None:
            self._snapshot_s, self._uncovered = snapshot_s, 0
            self._counts["snapshots"] += 1


def _locked(directory: Path) -> StateLock:
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"{directory}: cannot be made ({error.strerror}); make it, or set state.dir") from error
    return StateLock(directory)


def _set_aside(path: Path, now_s: float) -> Path:
    """Rename the file and its WAL; the oldest of those set aside before make room."""
    stamp = datetime.fromtimestamp(now_s, UTC).strftime("%Y%m%dT%H%M%SZ")
    kept, number = path.with_name(f"{path.name}.damaged-{stamp}"), 1
    while kept.exists():
        number += 1
        kept = path.with_name(f"{path.name}.damaged-{stamp}-{number}")
    # The WAL first: one left behind would be folded into the new file.
    for suffix in ("-wal", "-shm", ""):
        part = path.with_name(path.name + suffix)
        if part.exists():
            part.rename(kept.with_name(kept.name + suffix))
    earlier = sorted(
        (p for p in path.parent.glob(f"{path.name}.damaged-*") if not p.name.endswith(("-wal", "-shm"))),
        key=lambda p: p.stat().st_mtime_ns,
    )
    for old in earlier[:-_SET_ASIDE_MAX]:
        for suffix in ("-wal", "-shm", ""):
            old.with_name(old.name + suffix).unlink(missing_ok=True)
    return kept
