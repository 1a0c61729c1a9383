"""The outbox: what each sink is still to be notified of, at least once each, in the order of each alert.

A transition gets one row per sink in the transaction that stores it. A row goes when the sink took it. It waits for
`retry_at_s` when the sink could not, and is due again after those that were tried less often, so that one bad row holds
up nobody but the later transitions of its own alert. It stays as a dead letter when the sink refused it for good. It is
withheld while its alert is under a silence (`store.silences`), and goes when that alert ends before its sink was
notified of any of it. A sink that wants to be reminded gets a row again for what fires still and nobody has
acknowledged.
"""

import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from streamae.core.report import Transition
from streamae.core.types import BACKOFF_MAX_S
from streamae.store.alerts import decode_transition, decoded
from streamae.store.database import Database
from streamae.store.sink_counts import SinkCounts, SinkStats

__all__ = ["Outbox", "OutboxLimits", "Queued"]

WAITS, DEAD, WITHHELD = 0, 1, 2  # what the column `dead` says
RETRY_MAX_S = 2 * BACKOFF_MAX_S  # a retry further off means that the clock stepped back
_ERROR_MAX = 500


@dataclass(frozen=True, slots=True)
class OutboxLimits:
    """How many transitions may wait for a sink or be withheld from it, and how many dead letters are kept for it."""

    pending_max: int = 100_000
    dead_max: int = 1_000


@dataclass(frozen=True, slots=True)
class Queued:
    """What enqueueing did in a transaction that is yet to stand, by sink: rows evicted, rows never to be sent."""

    evicted: Mapping[str, int] = field(default_factory=dict)
    silenced: Mapping[str, int] = field(default_factory=dict)


class Outbox:
    """The rows of the outbox table, for the sinks named in `register`."""

    def __init__(self, database: Database, limits: OutboxLimits) -> None:
        self._database = database
        self._limits = limits
        self._counts = SinkCounts()
        self._sinks: tuple[str, ...] = ()
        self._handed: dict[str, frozenset[str]] = {}  # the alerts of which each sink may be hearing now

    def register(self, sinks: Sequence[str]) -> None:
        """Say which sinks there are; what waits for any other is dropped and counted as evicted."""
        with self._database.write() as connection:
            known = {row[0] for row in connection.execute("SELECT DISTINCT sink FROM outbox")}
            gone = {
                sink: connection.execute("DELETE FROM outbox WHERE sink = ?", (sink,)).rowcount
                for sink in known - set(sinks)
            }
            connection.executemany("DELETE FROM told WHERE sink = ?", [(sink,) for sink in gone])
        self._sinks = tuple(dict.fromkeys(sinks))
        self._counts.add(self._counts.evicted, gone)

    @property
    def sinks(self) -> tuple[str, ...]:
        """The names that there are rows for."""
        return self._sinks

    def enqueue(self, connection: sqlite3.Connection, after: int) -> Queued:
        """Inside the caller's transaction: one row per sink for each transition past `after`, withheld if silenced."""
        evicted, silenced = {}, {}
        for sink in self._sinks:
            connection.execute(
                """INSERT INTO outbox (sink, seq, alert, dead)
                   SELECT ?, t.seq, t.alert, CASE WHEN a.silence IS NULL THEN 0 ELSE 2 END
                   FROM transition t JOIN alert a ON a.id = t.alert WHERE t.seq > ?""",
                (sink, after),
            )
            connection.execute(
                """DELETE FROM outbox WHERE sink = ? AND repeat > 0
                   AND alert IN (SELECT alert FROM transition WHERE seq > ?)""",
                (sink, after),
            )
            if dropped := self._withhold(connection, sink, after):
                silenced[sink] = dropped
            if dropped := sum(_trim(connection, sink, kind, self._limits.pending_max) for kind in (WAITS, WITHHELD)):
                evicted[sink] = dropped
        return Queued(evicted, silenced)

    def _withhold(self, connection: sqlite3.Connection, sink: str, after: int) -> int:
        """Withhold what waits of alerts that are silenced now; drop those that have ended and `sink` never heard of."""
        rows = connection.execute(
            """SELECT a.id, a.state, f.attempts FROM alert a
               LEFT JOIN outbox f ON f.sink = ?1 AND f.seq = a.first AND f.dead <> 1
               WHERE a.silence IS NOT NULL AND a.id IN (SELECT alert FROM transition WHERE seq > ?2)""",
            (sink, after),
        ).fetchall()
        connection.executemany(
            "UPDATE outbox SET dead = 2 WHERE sink = ? AND alert = ? AND dead = 0", [(sink, row[0]) for row in rows]
        )
        handed = self._handed.get(sink, frozenset())
        never = [(sink, a) for a, state, tried in rows if state == "resolved" and tried == 0 and a not in handed]
        return connection.executemany("DELETE FROM outbox WHERE sink = ? AND alert = ? AND dead = 2", never).rowcount

    def committed(self, queued: Queued) -> None:
        """Count what a transaction that stands did."""
        self._counts.add(self._counts.evicted, queued.evicted)
        self._counts.add(self._counts.silenced, queued.silenced)

    def distrust(self, connection: sqlite3.Connection) -> None:
        """After an end that was not clean: any row may have been sent without being marked."""
        connection.execute("UPDATE outbox SET attempts = 1 WHERE attempts = 0 AND dead <> 1")

    def due(self, sink: str, now_s: float, limit: int) -> list[tuple[Transition, int]]:
        """At most `limit` transitions to send to `sink` now, with the times each was tried; one per alert."""
        found, damaged = [], []
        # Within the lock: a commit must know of what a sink may be hearing already.
        with self._database.quiet(), self._database.read() as connection:
            rows = connection.execute(
                """SELECT o.seq, o.repeat, t.body, t.crc, o.attempts
                   FROM outbox o LEFT JOIN transition t ON t.seq = o.seq
                   WHERE o.sink = ?1 AND o.dead = 0 AND NOT (o.retry_at_s > ?2 AND o.retry_at_s <= ?2 + ?3)
                   AND NOT EXISTS (SELECT 1 FROM outbox e WHERE e.sink = ?1 AND e.alert = o.alert AND e.dead <> 1
                                   AND e.seq < o.seq)
                   ORDER BY o.attempts, o.seq LIMIT ?4""",
                (sink, now_s, RETRY_MAX_S, limit),
            ).fetchall()
            for seq, repeat, body, crc, attempts in rows:
                try:
                    transition = decode_transition(body, crc)
                except ValueError as error:
                    damaged.append((seq, str(error)))
                    continue
                found.append((replace(transition, repeat=repeat) if repeat else transition, attempts))
            self._handed[sink] = frozenset(transition.id for transition, _ in found)
        for seq, why in damaged:
            self._bury(sink, [seq], why)
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
                   WHERE a.state <> 'resolved' AND a.silence IS NULL
                   AND NOT EXISTS (SELECT 1 FROM outbox o WHERE o.sink = ? AND o.alert = a.id)
                   ORDER BY a.last LIMIT ?""",
                (sink, limit),
            ).fetchall()
        return [transition for row in rows if (transition := decoded(*row))]

    def standing(self, sink: str, limit: int) -> list[tuple[Transition, bool]]:
        """The last transition of each alert, and whether `sink` is not, or not yet, notified of it: open ones first."""
        with self._database.read() as connection:
            rows = connection.execute(
                """SELECT t.body, t.crc, a.silence IS NOT NULL
                   OR EXISTS (SELECT 1 FROM outbox o WHERE o.sink = ? AND o.alert = a.id)
                   FROM alert a JOIN transition t ON t.seq = a.last
                   ORDER BY a.state = 'resolved', a.last DESC LIMIT ?""",
                (sink, limit),
            ).fetchall()
        return [(one, bool(waits)) for body, crc, waits in rows if (one := decoded(body, crc))]

    def repeat(self, sink: str, now_s: float, every_s: float, limit: int) -> int:
        """Put what fires still, `every_s` after `sink` heard of it last, in line once more; return how many.

        Not what is acknowledged, silenced, or in line already.
        """
        with self._database.write(lazy=True) as connection:
            rows = connection.execute(
                """SELECT ?1, a.last, a.id, COALESCE(r.repeats, 0) + 1
                   FROM alert a JOIN transition t ON t.seq = a.last LEFT JOIN told r ON r.alert = a.id AND r.sink = ?1
                   WHERE a.state <> 'resolved' AND a.silence IS NULL AND a.acknowledged_s IS NULL
                   AND ABS(?2 - COALESCE(r.told_s, t.committed_s)) >= ?3
                   AND NOT EXISTS (SELECT 1 FROM outbox o WHERE o.sink = ?1 AND o.alert = a.id)
                   ORDER BY a.last LIMIT ?4""",
                (sink, now_s, every_s, limit),
            ).fetchall()
            connection.executemany("INSERT INTO outbox (sink, seq, alert, repeat) VALUES (?, ?, ?, ?)", rows)
            connection.executemany(
                """INSERT INTO told (alert, sink, told_s, repeats) VALUES (?, ?, ?, ?)
                   ON CONFLICT DO UPDATE SET told_s = excluded.told_s, repeats = excluded.repeats""",
                [(alert, sink, now_s, number) for sink, _, alert, number in rows],
            )
        return len(rows)

    def sent(self, sink: str, keys: Sequence[str], notified_s: float | None = None) -> None:
        """The sink took these, at `notified_s` where it wants to be reminded.

        Written without an fsync: a power cut can only make us send them again.
        """
        with self._database.write(lazy=True) as connection:
            if notified_s is not None:
                connection.executemany(
                    """INSERT INTO told (alert, sink, told_s) SELECT a.id, ?, ? FROM transition t
                       JOIN alert a ON a.id = t.alert WHERE t.key = ? AND a.state <> 'resolved'
                       ON CONFLICT DO UPDATE SET told_s = excluded.told_s""",
                    [(sink, notified_s, key) for key in keys],
                )
            connection.executemany(
                "DELETE FROM outbox WHERE sink = ? AND dead <> 1 AND seq = (SELECT seq FROM transition WHERE key = ?)",
                [(sink, key) for key in keys],
            )
        self._counts.add(self._counts.sent, {sink: len(keys)})

    def failed(self, sink: str, keys: Sequence[str], error: str, retry_at_s: float) -> None:
        """The sink could not take these now; they are due again at `retry_at_s`."""
        with self._database.write(lazy=True) as connection:
            connection.executemany(
                "UPDATE outbox SET attempts = attempts + 1, retry_at_s = ?, error = ? "
                "WHERE sink = ? AND seq = (SELECT seq FROM transition WHERE key = ?)",
                [(retry_at_s, _clipped(error), sink, key) for key in keys],
            )
        self._counts.add(self._counts.failed, {sink: len(keys)})

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
        """Try the dead letters of `sink` once more (its operator repaired it); return how many there are."""
        with self._database.write() as connection:
            return connection.execute(
                "UPDATE outbox SET dead = 0, attempts = 0, retry_at_s = 0 WHERE sink = ? AND dead = 1", (sink,)
            ).rowcount

    def stats(self) -> dict[str, SinkStats]:
        """Counts per registered sink."""
        with self._database.read() as connection:
            rows = connection.execute(
                """WITH waiting AS (SELECT sink, SUM(dead = 0) AS pending, SUM(dead = 1) AS dead,
                                    SUM(dead = 2) AS withheld, MIN(CASE dead WHEN 0 THEN seq END) AS oldest
                                    FROM outbox GROUP BY sink)
                   SELECT sink, pending, dead, withheld, (SELECT committed_s FROM transition WHERE seq = oldest)
                   FROM waiting"""
            ).fetchall()
        now = {sink: (pending, dead, oldest_s, withheld) for sink, pending, dead, withheld, oldest_s in rows}
        return self._counts.stats({sink: now.get(sink, (0, 0, None, 0)) for sink in self._sinks})

    def _bury(self, sink: str, rows: Sequence[int], error: str) -> None:
        with self._database.write() as connection:
            connection.executemany(
                "UPDATE outbox SET dead = 1, error = ? WHERE sink = ? AND seq = ?",
                [(_clipped(error), sink, seq) for seq in rows],
            )
            evicted = _trim(connection, sink, DEAD, self._limits.dead_max)
        self._counts.add(self._counts.refused, {sink: len(rows)})
        self._counts.add(self._counts.evicted, {sink: evicted})


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
