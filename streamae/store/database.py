"""The connections: exactly one that writes, behind a lock, and short-lived ones that read.

WAL mode lets readers go on while the one writer commits. `synchronous` decides what a commit survives: NORMAL the end
of the process, FULL the end of the power too (one fsync a commit). Marks that may be lost without harm (a transition
sent to a sink would only be sent twice) are written lazily, without that fsync.
"""

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Literal

from streamae.errors import StoreError
from streamae.store.schema import DamagedError, check_header, migrate, verify

__all__ = ["Database", "Durability"]

Durability = Literal["process", "power", "none"]

_FAMILY = 0xFF  # SQLite's extended result codes carry their family in the low byte
_SURROUNDINGS = {  # codes that speak of the machine, not of the file
    sqlite3.SQLITE_FULL: "the disk is full; free space, writing goes on by itself",
    sqlite3.SQLITE_READONLY: "the file system is read-only; remount it, writing goes on by itself",
    sqlite3.SQLITE_IOERR: "the disk fails or is full; see the kernel log, writing goes on by itself",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened; give this user the directory, and look for too many open files",
    sqlite3.SQLITE_PERM: "permission denied; give this user the directory",
    sqlite3.SQLITE_BUSY: "another program holds it locked; close that program",
    sqlite3.SQLITE_LOCKED: "another program holds it locked; close that program",
    sqlite3.SQLITE_NOMEM: "out of memory",
}


class Database:
    """The SQLite file at `path`: verified, migrated, ready; DamagedError when it must be set aside."""

    def __init__(self, path: Path, durability: Durability) -> None:
        self.path = path
        self._lock = threading.RLock()
        self._durable = "FULL" if durability == "power" else "NORMAL"
        self._synchronous = self._durable
        self._trusted = False
        path.touch(mode=0o600)
        check_header(path)
        with self._explained():
            self._writer = sqlite3.connect(path, timeout=5.0, isolation_level=None, check_same_thread=False)
            try:
                self._prepare()
            except BaseException:
                self._writer.close()
                raise

    def trust(self) -> None:
        """End the opening: from now on a statement that fails is a defect of ours, not damage."""
        self._trusted = True

    @contextmanager
    def write(self, *, lazy: bool = False) -> Iterator[sqlite3.Connection]:
        """One transaction: all of the block or nothing of it; StoreError when it could not be kept."""
        with self._lock, self._explained():
            self._set_synchronous("NORMAL" if lazy else self._durable)
            self._writer.execute("BEGIN IMMEDIATE")
            try:
                yield self._writer
                self._writer.execute("COMMIT")
            except BaseException:
                if self._writer.in_transaction:
                    self._writer.execute("ROLLBACK")
                raise

    @contextmanager
    def quiet(self) -> Iterator[None]:
        """Nobody writes while the block runs."""
        with self._lock:
            yield

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """A read-only connection of the caller's own, for the block."""
        with self._explained(), closing(sqlite3.connect(f"{self.path.as_uri()}?mode=ro", uri=True)) as connection:
            connection.isolation_level = None
            yield connection

    def close(self) -> None:
        """Fold the WAL into the file and close; a second call does nothing."""
        with self._lock:
            self._writer.close()

    def _prepare(self) -> None:
        self._writer.execute("PRAGMA cell_size_check = ON")
        (mode,) = self._writer.execute("PRAGMA journal_mode = WAL").fetchone()
        if mode != "wal":
            raise StoreError(f"{self.path}: this file system cannot hold a WAL; put state.dir on a local disk")
        self._writer.execute(f"PRAGMA synchronous = {self._durable}")
        # After a burst the WAL shrinks again to this.
        self._writer.execute(f"PRAGMA journal_size_limit = {64 << 20}")
        migrate(self._writer)
        verify(self._writer)

    def _set_synchronous(self, level: str) -> None:
        if level != self._synchronous:
            self._writer.execute(f"PRAGMA synchronous = {level}")
            self._synchronous = level

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn what SQLite raises into whose fault it is."""
        try:
            yield
        except sqlite3.Error as error:
            family = getattr(error, "sqlite_errorcode", 0) & _FAMILY
            if reason := _SURROUNDINGS.get(family):
                raise StoreError(f"{self.path}: {reason} ({error})") from error
            if not self._trusted:
                raise DamagedError(str(error)) from error
            if family in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}:
                raise StoreError(f"{self.path}: damaged; restart, which sets it aside ({error})") from error
            raise
