"""What a state directory remembers, for reading only: the journal's batches, and when alerts fired.

The daemon may be running: it is the one that writes, and does not notice. Nothing is locked, repaired or set aside.
"""

import json
import sqlite3
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np

from streamae.core.types import Batch
from streamae.errors import StoreError
from streamae.store.alerts import decoded
from streamae.store.dedup import digest_of
from streamae.store.journal import read_rows
from streamae.store.schema import APPLICATION_ID, MIGRATIONS
from streamae.store.silences import Silence

__all__ = ["Past", "Spell", "open_past"]

_FILE = "state.db"
_FALSE_ALARM = "false-alarm"


@dataclass(frozen=True, slots=True)
class Spell:
    """A stretch of event time in which streams were not as usual; `end_s` is infinite while it lasts.

    `stream` is a name, or a pattern of names (`*`, `?`, `[…]`).
    """

    stream: str
    start_s: float
    end_s: float


class Past:
    """An open state file; see `open_past`."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self.damaged = 0  # journal rows that could not be read

    def span(self) -> tuple[int, int] | None:
        """Return the numbers of the journal's first and last row; None where it is empty."""
        first, last = self._connection.execute("SELECT MIN(seq), MAX(seq) FROM journal").fetchone()
        return None if first is None else (first, last)

    def row(self, number: int) -> tuple[float, int] | None:
        """Return when a row, or the next that is there, was written (wall clock) and how many messages it holds."""
        return self._connection.execute(  # type: ignore[no-any-return]
            "SELECT now_s, messages FROM journal WHERE seq >= ? ORDER BY seq LIMIT 1", (number,)
        ).fetchone()

    def row_at(self, time_s: float) -> int:
        """Return the number of the first row that was written at this time or later, else of the one after the last.

        By halving: where the wall clock stepped back, one of the places that fit.
        """
        first, last = self.span() or (1, 0)
        while first <= last:
            middle = (first + last) // 2
            found = self.row(middle)
            if found is not None and found[0] < time_s:
                first = middle + 1
            else:
                last = middle - 1
        return first

    def back(self, messages: int) -> int:
        """Return the number of the newest row from which on the journal holds at least so many messages."""
        rows = self._connection.execute("SELECT seq, messages FROM journal ORDER BY seq DESC")
        number, held = 1, 0
        while held < messages and (row := rows.fetchone()) is not None:
            number, held = row[0], held + row[1]
        return int(number)

    def rows(
        self, first: int, wanted: Callable[[bytes], bool] | None = None, stop: int | None = None
    ) -> Iterator[tuple[int, Batch, float]]:
        """Yield rows first … stop - 1 as (number, batch, wall clock); damaged ones are counted and left out.

        Of a batch only the messages of `wanted` topics are unpacked, if that is given, and never what is poison: it
        would end this process as it did the daemon.
        """
        poison = self._poison()
        for number, batch, now_s in read_rows(self._connection, first - 1, wanted):
            if isinstance(batch, str):
                self.damaged += 1
            else:
                yield number, _without(batch, poison), now_s
            if number + 1 == stop:
                return

    def _poison(self) -> dict[bytes, set[int]]:
        """Return the digests of what is kept as poison, by topic."""
        found: defaultdict[bytes, set[int]] = defaultdict(set)
        if self._has("poison"):
            for topic, digest in self._connection.execute("SELECT topic, digest FROM poison"):
                found[topic].add(digest % (1 << 64))  # SQLite's integers have a sign
        return found

    def _has(self, table: str) -> bool:
        """Whether the file has this table: former releases had fewer."""
        known = self._connection.execute("SELECT 1 FROM sqlite_schema WHERE name = ?", (table,))
        return known.fetchone() is not None

    def batches(self, since_s: float) -> Iterator[Batch]:
        """Yield what was taken in since then (arrival, wall clock), in order; damaged rows are counted and left out."""
        return (batch for _, batch, _ in self.rows(self.row_at(since_s)))

    def alerts(self, group: str) -> list[Spell]:
        """Return when alerts of a group fired, from the start of their first window; false alarms are left out."""
        rows = self._connection.execute(
            """SELECT f.body, f.crc, a.closed_s FROM alert a JOIN transition f ON f.seq = a.first
               WHERE a.grp = ? AND COALESCE(a.feedback, '') <> ?""",
            (group, _FALSE_ALARM),
        ).fetchall()
        first = [(decoded(body, crc), closed_s) for body, crc, closed_s in rows]
        return [
            Spell(one.stream, one.window_start_s, float("inf") if closed_s is None else float(closed_s))
            for one, closed_s in first
            if one is not None
        ]

    def silences(self, group: str) -> list[Spell]:
        """Return when streams of a group were silenced: maintenance. Those that name labels are left out."""
        if not self._has("silence"):
            return []
        rows = self._connection.execute("SELECT body, crc FROM silence").fetchall()
        found = [Silence(**json.loads(body)) for body, crc in rows if zlib.crc32(body) == crc]
        mine = [one for one in found if fnmatchcase(group, one.group) and one.rule == "*" and not one.labels]
        return [Spell(one.stream, one.starts_s, one.ends_s) for one in mine]


def _without(batch: Batch, poison: Mapping[bytes, set[int]]) -> Batch:
    """Return a batch without the messages of these topics and digests."""
    deadly = [topic in poison and digest_of(batch, n) in poison[topic] for n, topic in enumerate(batch.topics)]
    return batch.only(np.flatnonzero(~np.array(deadly))) if any(deadly) else batch


@contextmanager
def open_past(directory: Path) -> Iterator[Past]:
    """Open the file of a state directory for the block. Raises StoreError where it is none of ours, or not readable."""
    path = directory.absolute() / _FILE
    if not path.exists():
        raise StoreError(f"{directory}: has no {_FILE}; name the directory that state.dir of the daemon names")
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as connection:
            connection.isolation_level = None
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            (application,) = connection.execute("PRAGMA application_id").fetchone()
            if application != APPLICATION_ID or version > len(MIGRATIONS):
                raise StoreError(f"{path}: not a state file of this release; use the release that wrote it")
            yield Past(connection)
    except sqlite3.Error as error:
        raise StoreError(f"{path}: cannot be read ({error}); give this user the directory, or copy it first") from error
