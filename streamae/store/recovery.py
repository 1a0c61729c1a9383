"""Snapshots, and what a start finds: a snapshot and the batches after it.

The two newest snapshots are kept, and the journal from the older one on: when the newest is damaged, or the pipeline
refuses it, the fold starts one earlier and arrives at the same state. Without any it starts where the journal starts.
"""

import sqlite3
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

from streamae.core.types import Batch
from streamae.store.database import Database
from streamae.store.journal import crc_of, read_rows

__all__ = ["Recovery", "drop_damaged", "plan_recovery", "save_snapshot", "snapshot_floor"]

SNAPSHOTS_KEPT = 2


@dataclass(eq=False)
class Recovery:
    """`snapshot` to restore, then `journal` to fold; `notes` and `skipped` grow while the journal is read.

    `covers` is the last journal row inside the snapshot; `skipped` counts damaged snapshots and rows, and rows that
    should be there and are not.
    """

    snapshot: bytes | None
    covers: int
    journal: Iterator[tuple[Batch, float]] = field(default_factory=lambda: iter(()))
    notes: list[str] = field(default_factory=list)
    skipped: int = 0


def save_snapshot(connection: sqlite3.Connection, covers: int, now_s: float, body: bytes) -> None:
    """Add a snapshot of the state after journal row `covers`; drop all but the newest few."""
    connection.execute(
        "INSERT INTO snapshot (covers, now_s, crc, body) VALUES (?, ?, ?, ?)",
        (covers, now_s, crc_of(covers, now_s, body), body),
    )
    connection.execute(
        "DELETE FROM snapshot WHERE id NOT IN (SELECT id FROM snapshot ORDER BY id DESC LIMIT ?)", (SNAPSHOTS_KEPT,)
    )


def snapshot_floor(connection: sqlite3.Connection) -> int:
    """The last journal row that no kept snapshot needs."""
    (floor,) = connection.execute("SELECT COALESCE(MIN(covers), 0) FROM snapshot").fetchone()
    return int(floor)


def plan_recovery(database: Database, *, journal: bool, skip_snapshots: int) -> Recovery:
    """Find the newest valid snapshot past the first `skip_snapshots` of them, and the rows after it."""
    recovery = Recovery(None, 0)
    with database.read() as connection:
        ids = [row[0] for row in connection.execute("SELECT id FROM snapshot ORDER BY id DESC")]
        for number in ids:
            try:
                covers, body = _load(connection, number)
            except ValueError as error:
                recovery.skipped += 1
                recovery.notes.append(f"snapshot {number} is damaged ({error}) and was passed over")
                continue
            if skip_snapshots:
                skip_snapshots -= 1
                continue
            recovery.snapshot, recovery.covers = body, covers
            break
    if journal:
        recovery.journal = _fold(database, recovery)
    return recovery


def _load(connection: sqlite3.Connection, number: int) -> tuple[int, bytes]:
    try:
        row = connection.execute("SELECT covers, now_s, crc, body FROM snapshot WHERE id = ?", (number,)).fetchone()
        covers, now_s, crc, body = row
        if crc_of(covers, now_s, body) == crc:
            return covers, body
    except (sqlite3.Error, TypeError, struct.error) as error:
        raise ValueError(str(error)) from error
    raise ValueError("its crc32 does not match")


def _fold(database: Database, recovery: Recovery) -> Iterator[tuple[Batch, float]]:
    expected = recovery.covers + 1
    with database.read() as connection:
        for seq, batch, now_s in read_rows(connection, recovery.covers):
            if seq != expected:
                recovery.skipped += seq - expected
                recovery.notes.append(f"journal rows {expected} to {seq - 1} are not there; the fold starts after them")
            expected = seq + 1
            if isinstance(batch, str):
                recovery.skipped += 1
                recovery.notes.append(f"journal row {seq} is damaged ({batch}) and was passed over")
            else:
                yield batch, now_s


def drop_damaged(connection: sqlite3.Connection) -> list[str]:
    """Delete damaged snapshots, and damaged rows at the journal's end, so that numbering goes on from a sound one."""
    notes = []
    for (number,) in connection.execute("SELECT id FROM snapshot").fetchall():
        try:
            _load(connection, number)
        except ValueError as error:
            connection.execute("DELETE FROM snapshot WHERE id = ?", (number,))
            notes.append(f"snapshot {number} is damaged ({error}) and was dropped")
    while (last := connection.execute("SELECT MAX(seq) FROM journal").fetchone()[0]) is not None:
        (_, batch, _) = next(read_rows(connection, last - 1))
        if isinstance(batch, Batch):
            break
        connection.execute("DELETE FROM journal WHERE seq = ?", (last,))
        notes.append(f"journal row {last} is damaged ({batch}) and was dropped")
    return notes
