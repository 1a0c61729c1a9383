"""Poison: messages that ended the process over and over (`store.attempts`), kept to be looked at.

The daemon leaves such a message out, acknowledges it and lives. For a day it leaves out the same bytes on the same
topic, too, since a device often says the same again; then they are tried once more, for the daemon may be another now.
"""

import sqlite3
from dataclasses import dataclass, replace

import numpy as np

from streamae.core.types import I64, Batch, Bool, Drop, Drops
from streamae.store.attempts import Attempts
from streamae.store.database import Database
from streamae.store.dedup import digest_of

__all__ = ["BROKER", "JOURNAL", "Poison", "PoisonLimits", "PoisonMessage"]

BROKER, JOURNAL = "broker", "journal"  # where a message came from
REMEMBERED_S = 86400.0


@dataclass(frozen=True, slots=True)
class PoisonLimits:
    """How many messages are kept, and how many bytes of each."""

    kept_max: int = 256
    payload_max: int = 4096


@dataclass(frozen=True, slots=True)
class PoisonMessage:
    """A message that was left out: the beginning of its payload, its whole length, when, how often, and from where."""

    topic: bytes
    payload: bytes
    bytes: int
    found_s: float
    times: int
    origin: str
    """`broker` or `journal`."""


class Poison:
    """The table of poison, its digests in memory; for the loop's thread, and `all` for any."""

    def __init__(self, database: Database, attempts: Attempts, limits: PoisonLimits) -> None:
        self._database, self._attempts, self._limits = database, attempts, limits
        self._known: dict[bytes, dict[int, tuple[float, str]]] = {}  # topic -> digest -> found_s, origin

    def load(self, connection: sqlite3.Connection) -> None:
        """Read which messages are known."""
        self._known = {}
        for digest, topic, found_s, origin in connection.execute("SELECT digest, topic, found_s, origin FROM poison"):
            self._known.setdefault(topic, {})[digest] = found_s, origin

    def without(self, batch: Batch, origin: str, now_s: float) -> tuple[Batch, list[bytes]]:
        """Return a batch without its poison, which is kept and counted as refused, and the topics of that."""
        poison = self._among(batch, origin, now_s)
        which = np.flatnonzero(poison)
        if not len(which):
            return batch, []
        self._bury(batch, which, origin, now_s)
        sound = batch.only(np.flatnonzero(~poison))
        return replace(sound, lost=batch.lost + Drops({Drop.POISON: len(which)})), [
            batch.topics[n] for n in which.tolist()
        ]

    def _among(self, batch: Batch, origin: str, now_s: float) -> Bool:
        """Return which messages of a batch are poison: `[N]`. What the journal has was taken once, and may be again."""
        found = np.zeros(len(batch), np.bool_)
        condemned = self._attempts.condemned if self._attempts.folding == (origin == JOURNAL) else 0
        if not condemned and not self._known:
            return found
        for n, topic in enumerate(batch.topics):
            known = self._known.get(topic)
            if not condemned and not known:
                continue
            digest = _signed(digest_of(batch, n))
            at_s, whence = (known or {}).get(digest, (-np.inf, origin))
            found[n] = digest == _signed(condemned) or (abs(now_s - at_s) < REMEMBERED_S and whence == origin)
        return found

    def _bury(self, batch: Batch, which: I64, origin: str, now_s: float) -> None:
        """Keep these messages of a batch; of those that are kept the oldest go."""
        with self._database.write() as connection:
            connection.executemany(
                """INSERT INTO poison VALUES (?, ?, ?, ?, ?, 1, ?) ON CONFLICT (digest) DO UPDATE SET times = times + 1,
                   found_s = CASE WHEN ABS(excluded.found_s - found_s) < ? THEN found_s ELSE excluded.found_s END""",
                [
                    (_signed(digest_of(batch, n)), batch.topics[n], batch.payloads[n][: self._limits.payload_max],
                     len(batch.payloads[n]), now_s, origin, REMEMBERED_S)
                    for n in which.tolist()
                ],
            )  # fmt: skip
            connection.execute(
                "DELETE FROM poison WHERE digest NOT IN (SELECT digest FROM poison ORDER BY found_s DESC LIMIT ?)",
                (self._limits.kept_max,),
            )
            self.load(connection)

    def all(self) -> list[PoisonMessage]:
        """Return what is kept, newest first."""
        with self._database.read() as connection:
            rows = connection.execute(
                "SELECT topic, payload, bytes, found_s, times, origin FROM poison ORDER BY found_s DESC"
            ).fetchall()
        return [PoisonMessage(*row) for row in rows]

    def fresh(self, now_s: float) -> int:
        """Return how many are left out now: those of the last day."""
        return sum(abs(now_s - at_s) < REMEMBERED_S for known in self._known.values() for at_s, _ in known.values())

    def __len__(self) -> int:
        """Return how many are kept."""
        return sum(map(len, self._known.values()))


def _signed(digest: int) -> int:
    """SQLite's integers have a sign."""
    return digest - (1 << 64) if digest >> 63 else digest
