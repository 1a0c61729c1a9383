"""The alerts: every transition as it was, and the present state of each alert beside what people said about it.

A transition is stored once, under its key; when a replay brings it again, nothing changes and nobody is notified again.
Its body is JSON with exact floats (Python's `repr`), read back into an equal `Transition`.
"""

import json
import sqlite3
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, fields

from streamae.core.report import Transition
from streamae.store.database import Database

__all__ = [
    "AlertLimits",
    "AlertRecord",
    "AlertStore",
    "Feedback",
    "decode_transition",
    "decoded",
    "encode_transition",
    "prune_history",
    "record_transitions",
]


@dataclass(frozen=True, slots=True)
class AlertRecord:
    """One alert: its last transition, that which opened it (None: damaged), when it opened and closed (event time),
    and what people said about it.
    """

    transition: Transition
    first: Transition | None
    opened_s: float
    closed_s: float | None
    acknowledged_s: float | None
    acknowledged_by: str | None
    note: str | None
    feedback: str | None
    silence: int | None
    """The silence that it is under; of a resolved one, because of which its sinks were never notified."""


@dataclass(frozen=True, slots=True)
class AlertLimits:
    """How much of the past is kept; open alerts, and what a sink is yet to be notified of, always are."""

    transitions_max: int = 200_000
    age_max_s: float = 90 * 86400.0
    feedback_max: int = 10_000


@dataclass(frozen=True, slots=True)
class Feedback:
    """What an alert turned out to be (`false-alarm`), and the window of event time that this speaks of.

    `from_s` is the first row of the window that fired; `to_s` the end of the alert, None while it fires.
    """

    alert: str
    group: str
    stream: str
    rule: str
    verdict: str
    from_s: float
    to_s: float | None
    note: str | None
    said_s: float


_TRANSITION = tuple(field.name for field in fields(Transition))


def encode_transition(transition: Transition) -> bytes:
    """A transition as the bytes of one row."""
    said = {name: getattr(transition, name) for name in _TRANSITION}  # asdict would copy in depth
    return json.dumps(said, separators=(",", ":")).encode("ascii")


def decode_transition(body: bytes, crc: int) -> Transition:
    """The transition that `encode_transition` was given; ValueError for any other bytes."""
    try:
        if zlib.crc32(body) != crc:
            raise ValueError("its crc32 does not match")  # noqa: TRY301 (caught with the decoder's own)
        return Transition(**json.loads(body))
    except (TypeError, ValueError) as error:
        raise ValueError(f"a stored transition is damaged ({error})") from error


def record_transitions(
    connection: sqlite3.Connection, transitions: Sequence[Transition], now_s: float
) -> tuple[int, list[Transition]]:
    """Store those that are new and bring their alerts up to date; return the last row number before them, and them."""
    (before,) = connection.execute("SELECT COALESCE(MAX(seq), 0) FROM transition").fetchone()
    rows = []
    for transition in transitions:
        body = encode_transition(transition)
        rows.append(
            (transition.key, transition.id, transition.sequence, transition.state, now_s, zlib.crc32(body), body)
        )
    connection.executemany(
        "INSERT INTO transition (key, alert, sequence, state, committed_s, crc, body) VALUES (?, ?, ?, ?, ?, ?, ?) "
        "ON CONFLICT (key) DO NOTHING",
        rows,
    )
    fresh = connection.execute("SELECT key, seq FROM transition WHERE seq > ?", (before,))
    number = dict(fresh.fetchall())
    added = [transition for transition in transitions if transition.key in number]
    connection.executemany(
        """INSERT INTO alert (id, grp, stream, rule, state, sequence, first, last, opened_s, closed_s)
           VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
           ON CONFLICT (id) DO UPDATE SET state = excluded.state, sequence = excluded.sequence, last = excluded.last,
               closed_s = excluded.closed_s
           WHERE excluded.sequence > alert.sequence""",
        [_alert_row(transition, number[transition.key]) for transition in added],
    )
    ended = [(transition.time_s, transition.id) for transition in added if transition.state == "resolved"]
    connection.executemany("UPDATE feedback SET to_s = ? WHERE alert = ?", ended)
    connection.executemany("DELETE FROM told WHERE alert = ?", [(alert,) for _, alert in ended])
    return int(before), added


def prune_history(connection: sqlite3.Connection, limits: AlertLimits, now_s: float) -> int:
    """Forget closed alerts beyond the limits, oldest first, with their transitions; return how many alerts went."""
    (newest,) = connection.execute("SELECT COALESCE(MAX(seq), 0) FROM transition").fetchone()
    doomed = """SELECT id FROM alert WHERE state = 'resolved'
                AND last IN (SELECT seq FROM transition WHERE seq <= ? OR committed_s < ?)
                AND NOT EXISTS (SELECT 1 FROM outbox WHERE outbox.seq BETWEEN alert.first AND alert.last
                                AND outbox.alert = alert.id)"""
    ids = connection.execute(doomed, (newest - limits.transitions_max, now_s - limits.age_max_s)).fetchall()
    # An alert's transitions lie between its first and its last.
    connection.executemany(
        """DELETE FROM transition WHERE alert = ?1 AND seq BETWEEN (SELECT first FROM alert WHERE id = ?1)
           AND (SELECT last FROM alert WHERE id = ?1)""",
        ids,
    )
    connection.executemany("DELETE FROM alert WHERE id = ?", ids)
    return len(ids)


def _alert_row(transition: Transition, seq: int) -> tuple[object, ...]:
    return (
        transition.id,
        _text(transition.group),
        _text(transition.stream),
        _text(transition.rule),
        transition.state,
        transition.sequence,
        seq,
        seq,
        transition.onset_s,
        transition.time_s if transition.state == "resolved" else None,
    )


def _text(name: str) -> str:
    """A name as SQLite can hold it; the exact one stands in the transition."""
    return name.encode("utf-8", "replace").decode("utf-8")


_SELECT = """SELECT t.body, t.crc, f.body, f.crc, a.opened_s, a.closed_s, a.acknowledged_s, a.acknowledged_by,
             a.note, a.feedback, a.silence FROM alert a JOIN transition t ON t.seq = a.last
             LEFT JOIN transition f ON f.seq = a.first """


class AlertStore:
    """Questions about alerts, and people's answers to them."""

    def __init__(self, database: Database, limits: AlertLimits) -> None:
        self._database, self._limits = database, limits

    def open(self, limit: int = 1000) -> list[AlertRecord]:
        """Alerts that fire, newest first."""
        return self._select("WHERE a.state <> 'resolved' ORDER BY a.last DESC LIMIT ?", limit)

    def history(self, limit: int = 100, *, group: str | None = None, stream: str | None = None) -> list[AlertRecord]:
        """Alerts, open or closed, the most recently changed first."""
        return self._select(
            "WHERE a.grp = COALESCE(?, a.grp) AND a.stream = COALESCE(?, a.stream) ORDER BY a.last DESC LIMIT ?",
            group if group is None else _text(group),
            stream if stream is None else _text(stream),
            limit,
        )

    def get(self, alert_id: str) -> AlertRecord | None:
        """One alert, or None."""
        found = self._select("WHERE a.id = ?", alert_id)
        return found[0] if found else None

    def acknowledge(self, alert_id: str, by: str, now_s: float, note: str | None = None) -> bool:
        """Someone takes care of it: no sink is reminded of it; False when there is no such alert."""
        with self._database.write() as connection:
            connection.execute("DELETE FROM outbox WHERE alert = ? AND repeat > 0", (alert_id,))
            return _changed(
                connection,
                "UPDATE alert SET acknowledged_s = ?, acknowledged_by = ?, note = COALESCE(?, note) WHERE id = ?",
                (now_s, _text(by), note if note is None else _text(note), alert_id),
            )

    def give_feedback(self, alert_id: str, verdict: str | None, now_s: float, note: str | None = None) -> bool:
        """What it turned out to be (`false-alarm`), None takes it back; False when there is no such alert."""
        said = verdict if verdict is None else _text(verdict)
        with self._database.write() as connection:
            row = connection.execute(
                """SELECT a.id, a.grp, a.stream, a.rule, a.closed_s, t.body, t.crc FROM alert a
                   JOIN transition t ON t.seq = a.first WHERE a.id = ?""",
                (alert_id,),
            ).fetchone()
            if row is None:
                return False
            *names, closed_s, body, crc = row
            connection.execute("UPDATE alert SET feedback = ? WHERE id = ?", (said, alert_id))
            connection.execute("DELETE FROM feedback WHERE alert = ?", (alert_id,))
            first = decoded(body, crc)
            if said is not None and first is not None:
                kept = (*names, said, first.window_start_s, closed_s, note if note is None else _text(note), now_s)
                connection.execute("INSERT INTO feedback VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", kept)
            connection.execute(
                """DELETE FROM feedback WHERE alert IN
                   (SELECT alert FROM feedback ORDER BY said_s DESC LIMIT -1 OFFSET ?)""",
                (self._limits.feedback_max,),
            )
        return True

    def feedback(self, limit: int = 1000) -> list[Feedback]:
        """What was said of alerts, newest first; it outlives them, up to `feedback_max`."""
        with self._database.read() as connection:
            rows = connection.execute("SELECT * FROM feedback ORDER BY said_s DESC LIMIT ?", (limit,)).fetchall()
        return [Feedback(*row) for row in rows]

    def feedback_count(self) -> int:
        """How many entries of feedback are kept."""
        with self._database.read() as connection:
            (count,) = connection.execute("SELECT COUNT(*) FROM feedback").fetchone()
        return int(count)

    def _select(self, where: str, *values: object) -> list[AlertRecord]:
        with self._database.read() as connection:
            rows = connection.execute(_SELECT + where, values).fetchall()
        return [
            AlertRecord(transition, None if opened is None else decoded(opened, opened_crc), *said)
            for body, crc, opened, opened_crc, *said in rows
            if (transition := decoded(body, crc))
        ]


def _changed(connection: sqlite3.Connection, statement: str, values: Sequence[object]) -> bool:
    return connection.execute(statement, values).rowcount > 0


def decoded(body: bytes, crc: int) -> Transition | None:
    """The transition, or None where it is damaged."""
    try:
        return decode_transition(body, crc)
    except ValueError:
        return None
