"""The tables, their versions, and the way from an old file to a new one.

`MIGRATIONS[v]` takes a file from version v to v + 1; each runs in one transaction together with its version number, so
a crash leaves the old version or the new one. The version stands in the header (`user_version`) and in `meta`: where
they disagree, the header was damaged, and a flipped bit is not mistaken for a newer release.

Whatever carries meaning (journal, snapshots, transitions) has a crc32 of its own: SQLite checks the shape of its pages,
never their content.
"""

import sqlite3
from contextlib import closing
from functools import cache
from itertools import chain
from pathlib import Path

from streamae.errors import StoreError

__all__ = ["APPLICATION_ID", "MIGRATIONS", "DamagedError", "check_header", "migrate", "verify"]

APPLICATION_ID = 0x5374_4165  # "StAe", at offset 68 of the file: `file(1)` can tell it
_HEADER_BYTES = 100
_MAGIC = b"SQLite format 3\x00"

MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        "CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID",
        # One row is one batch; `size` is what it counts against journal_max.
        """CREATE TABLE journal (
            seq INTEGER PRIMARY KEY, now_s REAL NOT NULL, messages INTEGER NOT NULL, crc INTEGER NOT NULL,
            body BLOB NOT NULL) STRICT""",
        """CREATE TABLE snapshot (
            id INTEGER PRIMARY KEY AUTOINCREMENT, covers INTEGER NOT NULL, now_s REAL NOT NULL, crc INTEGER NOT NULL,
            body BLOB NOT NULL) STRICT""",
        # `body` is the transition; the other columns are there to be searched.
        """CREATE TABLE transition (
            seq INTEGER PRIMARY KEY AUTOINCREMENT, key TEXT NOT NULL UNIQUE, alert TEXT NOT NULL,
            sequence INTEGER NOT NULL, state TEXT NOT NULL, committed_s REAL NOT NULL, crc INTEGER NOT NULL,
            body BLOB NOT NULL) STRICT""",
        # The present state of each alert, and what people said about it. `last` and `first` are transitions.
        """CREATE TABLE alert (
            id TEXT PRIMARY KEY, grp TEXT NOT NULL, stream TEXT NOT NULL, rule TEXT NOT NULL, state TEXT NOT NULL,
            sequence INTEGER NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL, opened_s REAL NOT NULL,
            closed_s REAL, acknowledged_s REAL, acknowledged_by TEXT, note TEXT, feedback TEXT)
            STRICT, WITHOUT ROWID""",
        "CREATE INDEX alert_by_last ON alert (last)",
        "CREATE INDEX alert_open ON alert (last) WHERE state <> 'resolved'",
        # What each sink is still to be notified of; a row goes when it was delivered, or stays as a dead letter.
        """CREATE TABLE outbox (
            sink TEXT NOT NULL, seq INTEGER NOT NULL, alert TEXT NOT NULL, dead INTEGER NOT NULL DEFAULT 0,
            attempts INTEGER NOT NULL DEFAULT 0, retry_at_s REAL NOT NULL DEFAULT 0, error TEXT,
            PRIMARY KEY (sink, seq)) STRICT, WITHOUT ROWID""",
        "CREATE INDEX outbox_due ON outbox (sink, dead, attempts, seq)",
        "CREATE INDEX outbox_alert ON outbox (sink, alert, seq)",
        "CREATE INDEX outbox_transition ON outbox (seq)",
    ),
    (
        # The body is the silence. `alert.silence` is the one that an alert is under: its rows are withheld then.
        "CREATE TABLE silence (id INTEGER PRIMARY KEY, crc INTEGER NOT NULL, body BLOB NOT NULL) STRICT",
        "ALTER TABLE alert ADD COLUMN silence INTEGER",
        # `outbox.dead` is from here on: 0 waits, 1 dead letter, 2 withheld. `repeat` counts notices that say again
        # what fires still; `told` says when a sink was last notified of an alert.
        "ALTER TABLE outbox ADD COLUMN repeat INTEGER NOT NULL DEFAULT 0",
        "CREATE INDEX outbox_withheld ON outbox (alert) WHERE dead = 2",
        """CREATE TABLE told (
            alert TEXT NOT NULL, sink TEXT NOT NULL, told_s REAL NOT NULL, repeats INTEGER NOT NULL DEFAULT 0,
            PRIMARY KEY (alert, sink)) STRICT, WITHOUT ROWID""",
        # What alerts turned out to be, with the time they speak of; it outlives them.
        """CREATE TABLE feedback (
            alert TEXT PRIMARY KEY, grp TEXT NOT NULL, stream TEXT NOT NULL, rule TEXT NOT NULL, verdict TEXT NOT NULL,
            from_s REAL NOT NULL, to_s REAL, note TEXT, said_s REAL NOT NULL) STRICT, WITHOUT ROWID""",
    ),
    (
        # Messages that ended the process over and over; `payload` is the beginning of it, `bytes` its whole length.
        """CREATE TABLE poison (
            digest INTEGER PRIMARY KEY, topic BLOB NOT NULL, payload BLOB NOT NULL, bytes INTEGER NOT NULL,
            found_s REAL NOT NULL, times INTEGER NOT NULL, origin TEXT NOT NULL) STRICT""",
    ),
)


class DamagedError(Exception):
    """The file cannot be trusted as a whole; the store sets it aside and starts cold."""


def check_header(path: Path) -> None:
    """Refuse a header whose damage SQLite would report as something else, such as a read-only database."""
    header = path.open("rb").read(_HEADER_BYTES) if path.exists() else b""
    if not header:
        return
    if len(header) < _HEADER_BYTES or not header.startswith(_MAGIC):
        raise DamagedError("it is not a SQLite file")
    if not {header[18], header[19]} <= {1, 2} or not int.from_bytes(header[44:48], "big") <= 4:
        raise DamagedError("its header holds impossible versions")


def migrate(connection: sqlite3.Connection) -> None:
    """Bring the file to this version; StoreError for a newer release's, DamagedError where header and tables differ."""
    version, newest = _version(connection), len(MIGRATIONS)
    if version > newest:
        raise StoreError(
            f"the state was written by a newer streamae (schema {version}, this one knows {newest}); "
            "upgrade, or point state.dir elsewhere"
        )
    for number in range(version, newest):
        connection.execute("BEGIN IMMEDIATE")
        try:
            for statement in MIGRATIONS[number]:
                connection.execute(statement)
            connection.execute("INSERT OR REPLACE INTO meta VALUES ('schema', ?)", (str(number + 1),))
            connection.execute(f"PRAGMA user_version = {number + 1}")
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise


def verify(connection: sqlite3.Connection) -> None:
    """Check every page, index and constraint, and that the tables are exactly ours; DamagedError otherwise.

    Reads the whole file once: about a second for a full journal of 512 MB on a disk.
    """
    (finding,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
    if finding != "ok":
        raise DamagedError(str(finding).splitlines()[0])
    if _tables(connection) != _wanted(MIGRATIONS):
        raise DamagedError("its tables are not those of this version")


def _version(connection: sqlite3.Connection) -> int:
    (header,) = connection.execute("PRAGMA user_version").fetchone()
    (tables,) = connection.execute("SELECT COUNT(*) FROM sqlite_schema").fetchone()
    if not tables and not header:
        return 0
    row = connection.execute("SELECT value FROM meta WHERE key = 'schema'").fetchone()
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    if row is None or row[0] != str(header) or application != APPLICATION_ID:
        raise DamagedError("its header and its tables name different versions")
    return int(header)


@cache
def _wanted(migrations: tuple[tuple[str, ...], ...]) -> frozenset[tuple[str, str]]:
    """What a fresh file of this version holds."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as blank:
        for statement in chain.from_iterable(migrations):
            blank.execute(statement)
        return _tables(blank)


def _tables(connection: sqlite3.Connection) -> frozenset[tuple[str, str]]:
    return frozenset(
        connection.execute("SELECT name, COALESCE(sql, '') FROM sqlite_schema WHERE name NOT LIKE 'sqlite_stat%'")
    )
