"""The outbox: what each sink still has to be told, at least once each, in the order of each alert.

A transition gets one row per sink in the transaction that stores it. A row goes when the sink took it. It waits for
`retry_at_s` when the sink could not, and is due again after those that were tried less often, so that one bad row holds
up nobody but the later transitions of its own alert. It stays as a dead letter when the sink refused it for good.
"""

import sqlite3
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from streamae.core.types import Transition
from streamae.store.alerts import decode_transition, decoded
from streamae.store.database import Database

__all__ = ["Outbox", "OutboxLimits", "SinkStats"]

RETRY_MAX_S = 600.0  # twice the longest back-off: a retry further off means that the clock stepped back
_ERROR_MAX = 500


@dataclass(frozen=True, slots=True)
class OutboxLimits:
    """How many transitions may wait for a sink, and how many dead letters are kept for it."""

    pending_max: int = 100_000
    dead_max: int = 1_000


@dataclass(frozen=True, slots=True)
class SinkStats:
    """Counts of one sink: rows in the outbox now, and what happened to rows since the start of the process."""

    pending: int = 0
    dead: int = 0
    oldest_s: float | None = None
    sent: int = 0
    failed: int = 0
    refused: int = 0
    evicted: int = 0


@dataclass
class _Happened:
    sent: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    evicted: Counter[str] = field(default_factory=Counter)


class Outbox:
    """The rows of the outbox table, for the sinks named in `register`."""

    def __init__(self, database: Database, limits: OutboxLimits) -> None:
        self._database = database
        self._limits = limits
        self._lock = threading.Lock()
        self._happened = _Happened()
        self._sinks: tuple[str, ...] = ()

    def register(self, sinks: Sequence[str]) -> None:
        """Say which sinks there are; what waits for any other is dropped and counted as evicted."""
        with self._database.write() as connection:
            known = {row[0] for row in connection.execute("SELECT DISTINCT sink FROM outbox")}
            gone = {
                sink: connection.execute("DELETE FROM outbox WHERE sink = ?", (sink,)).rowcount
                for sink in known - set(sinks)
            }
        self._sinks = tuple(dict.fromkeys(sinks))
        self._count(self._happened.evicted, gone)

    def enqueue(self, connection: sqlite3.Connection, after: int) -> Mapping[str, int]:
        """Inside the caller's transaction: one row per sink for each transition past `after`; return the evictions."""
        evicted: dict[str, int] = {}
        for sink in self._sinks:
            connection.execute(
                "INSERT INTO outbox (sink, seq, alert) SELECT ?, seq, alert FROM transition WHERE seq > ?",
                (sink, after),
            )
            if dropped := _trim(connection, sink, 0, self._limits.pending_max):
                evicted[sink] = dropped
        return evicted

    def committed(self, evicted: Mapping[str, int]) -> None:
        """Count the evictions of a transaction that stands."""
        self._count(self._happened.evicted, evicted)

    def due(self, sink: str, now_s: float, limit: int) -> list[tuple[Transition, int]]:
        """At most `limit` transitions to tell `sink` now, with the times each was tried; one per alert."""
        with self._database.read() as connection:
            rows = connection.execute(
                """SELECT o.seq, t.key, t.body, t.crc, o.attempts FROM outbox o LEFT JOIN transition t ON t.seq = o.seq
                   WHERE o.sink = ?1 AND o.dead = 0 AND NOT (o.retry_at_s > ?2 AND o.retry_at_s <= ?2 + ?3)
                   AND NOT EXISTS (SELECT 1 FROM outbox e WHERE e.sink = ?1 AND e.alert = o.alert AND e.dead = 0
                                   AND e.seq < o.seq)
                   ORDER BY o.attempts, o.seq LIMIT ?4""",
                (sink, now_s, RETRY_MAX_S, limit),
            ).fetchall()
        found = []
        for seq, _, body, crc, attempts in rows:
            try:
                found.append((decode_transition(body, crc), attempts))
            except ValueError as error:
                self._bury(sink, [seq], str(error))
        return found

    def next_due_s(self, sink: str, now_s: float) -> float | None:
        """When the next transition for `sink` is due (now or later); None when nothing waits."""
        with self._database.read() as connection:
            (at_s,) = connection.execute(
                "SELECT MIN(retry_at_s) FROM outbox WHERE sink = ? AND dead = 0", (sink,)
            ).fetchone()
        return None if at_s is None else max(now_s, min(at_s, now_s + RETRY_MAX_S))

    def open_transitions(self, sink: str, limit: int) -> list[Transition]:
        """The last transition of each alert that is open and of which nothing waits for `sink`, oldest first."""
        with self._database.read() as connection:
            rows = connection.execute(
                """SELECT t.body, t.crc FROM alert a JOIN transition t ON t.seq = a.last
                   WHERE a.state <> 'resolved'
                   AND NOT EXISTS (SELECT 1 FROM outbox o WHERE o.sink = ? AND o.alert = a.id)
                   ORDER BY a.last LIMIT ?""",
                (sink, limit),
            ).fetchall()
        return [transition for row in rows if (transition := decoded(*row))]

    def sent(self, sink: str, keys: Sequence[str]) -> None:
        """The sink took these. Written without an fsync: a power cut can only make us tell them again."""
        with self._database.write(lazy=True) as connection:
            connection.executemany(
                "DELETE FROM outbox WHERE sink = ? AND dead = 0 AND seq = (SELECT seq FROM transition WHERE key = ?)",
                [(sink, key) for key in keys],
            )
        self._count(self._happened.sent, {sink: len(keys)})

    def failed(self, sink: str, keys: Sequence[str], error: str, retry_at_s: float) -> None:
        """The sink could not take these now; they are due again at `retry_at_s`."""
        with self._database.write(lazy=True) as connection:
            connection.executemany(
                "UPDATE outbox SET attempts = attempts + 1, retry_at_s = ?, error = ? "
                "WHERE sink = ? AND seq = (SELECT seq FROM transition WHERE key = ?)",
                [(retry_at_s, _clipped(error), sink, key) for key in keys],
            )
        self._count(self._happened.failed, {sink: len(keys)})

    def dead(self, sink: str, keys: Sequence[str], error: str) -> None:
        """The sink will never take these: keep them as dead letters."""
        with self._database.read() as connection:
            found = [connection.execute("SELECT seq FROM transition WHERE key = ?", (key,)).fetchone() for key in keys]
        self._bury(sink, [row[0] for row in found if row], error)

    def dead_letters(self, sink: str, limit: int = 100) -> list[tuple[str, str]]:
        """Keys and errors of what `sink` refused, newest first."""
        with self._database.read() as connection:
            return connection.execute(
                """SELECT t.key, o.error FROM outbox o JOIN transition t ON t.seq = o.seq
                   WHERE o.sink = ? AND o.dead = 1 ORDER BY o.seq DESC LIMIT ?""",
                (sink, limit),
            ).fetchall()

    def revive(self, sink: str) -> int:
        """Try the dead letters of `sink` once more (its operator mended it); return how many there are."""
        with self._database.write() as connection:
            return connection.execute(
                "UPDATE outbox SET dead = 0, attempts = 0, retry_at_s = 0 WHERE sink = ? AND dead = 1", (sink,)
            ).rowcount

    def stats(self) -> dict[str, SinkStats]:
        """Counts per registered sink."""
        with self._database.read() as connection:
            rows = connection.execute(
                """WITH waiting AS (SELECT sink, SUM(dead = 0) AS pending, SUM(dead = 1) AS dead,
                                    MIN(CASE dead WHEN 0 THEN seq END) AS oldest FROM outbox GROUP BY sink)
                   SELECT sink, pending, dead, (SELECT committed_s FROM transition WHERE seq = oldest) FROM waiting"""
            ).fetchall()
        now = {sink: (pending, dead, oldest_s) for sink, pending, dead, oldest_s in rows}
        with self._lock:
            happened = self._happened
            return {
                sink: SinkStats(
                    *now.get(sink, (0, 0, None)),
                    happened.sent[sink],
                    happened.failed[sink],
                    happened.refused[sink],
                    happened.evicted[sink],
                )
                for sink in self._sinks
            }

    def _bury(self, sink: str, rows: Sequence[int], error: str) -> None:
        with self._database.write() as connection:
            connection.executemany(
                "UPDATE outbox SET dead = 1, error = ? WHERE sink = ? AND seq = ?",
                [(_clipped(error), sink, seq) for seq in rows],
            )
            _trim(connection, sink, 1, self._limits.dead_max)
        self._count(self._happened.refused, {sink: len(rows)})

    def _count(self, counter: Counter[str], counts: Mapping[str, int]) -> None:
        with self._lock:
            counter.update(counts)


def _trim(connection: sqlite3.Connection, sink: str, dead: int, most: int) -> int:
    """Delete the oldest rows beyond `most`; return how many."""
    (count,) = connection.execute("SELECT COUNT(*) FROM outbox WHERE sink = ? AND dead = ?", (sink, dead)).fetchone()
    if count <= most:
        return 0
    return connection.execute(
        """DELETE FROM outbox WHERE sink = ?1 AND dead = ?2 AND seq IN (
               SELECT seq FROM outbox WHERE sink = ?1 AND dead = ?2 ORDER BY seq LIMIT ?3)""",
        (sink, dead, count - most),
    ).rowcount


def _clipped(error: str) -> str:
    return error.encode("utf-8", "replace").decode("utf-8")[:_ERROR_MAX]
