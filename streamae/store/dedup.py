"""Which messages were committed already, so that a redelivered one is only acknowledged.

MQTT redelivers with DUP=1 under the packet id it had. A packet id is free again once the broker has the
acknowledgement, so the newest content under each id decides: one table of 65,536 hashes, filled from what is committed.
Only what is committed and not yet acknowledged can come again, and that is at most what the broker may have in flight:
older entries are out of play, or a steady sensor's new message, redelivered after a crash under an id that carried the
same bytes long ago, would be taken for the old one and lost.
It costs the store nothing, since the journal holds the same messages: after a start it is read back from there, as far
as ids can still be in flight. When the broker has forgotten the session, no id of it will come again: clear it.
"""

import sqlite3
from collections import deque
from hashlib import blake2b

import numpy as np

from streamae.core.types import Batch, Bool
from streamae.store.journal import read_rows

__all__ = ["CommittedMessages", "digest_of"]

_IDS = 1 << 16
_FREE = 0


class CommittedMessages:
    """Hash of topic and payload of the last committed message of each packet id."""

    def __init__(self, in_flight_max: int = _IDS - 1) -> None:
        self._in_flight_max = in_flight_max
        self._hash = np.zeros(_IDS, np.int64)
        self._at = np.zeros(_IDS, np.int64)  # how many messages with an id were committed up to this one
        self._committed = 0
        self._recent: deque[tuple[int, int]] = deque()  # (journal row, messages with an id), for `needed_from`
        self._messages = 0

    @property
    def needed_from(self) -> int | None:
        """The first journal row that may hold a message still in flight; None when there is none."""
        return self._recent[0][0] if self._recent else None

    def seen(self, batch: Batch) -> Bool:
        """[N], true where a message is a redelivery of one that was committed (or stands earlier in the batch)."""
        seen = np.zeros(len(batch), np.bool_)
        if not batch.dup.any() or not len(batch.mid):
            return seen
        earlier: dict[int, int] = {}
        fresh = 0  # messages of this batch that came before, and will be committed with it
        for n in np.flatnonzero(batch.mid > 0).tolist():
            mid, digest = int(batch.mid[n]), _key(batch, n)
            seen[n] = bool(batch.dup[n]) and earlier.get(mid, self._last(mid, fresh)) == digest
            earlier[mid] = digest
            fresh += not seen[n]
        return seen

    def _last(self, mid: int, later: int) -> int:
        """Return the hash under an id, if its message can still be in flight after `later` more were taken."""
        recent = self._committed + later - int(self._at[mid % _IDS]) < self._in_flight_max
        return int(self._hash[mid % _IDS]) if recent else _FREE

    def record(self, row: int, batch: Batch) -> None:
        """Remember a committed batch; `row` is its place in the journal."""
        with_id = np.flatnonzero(batch.mid > 0)
        if not len(with_id):
            return
        digests = np.array([_key(batch, n) for n in with_id.tolist()], np.int64)
        ids = batch.mid[with_id] % _IDS
        self._hash[ids] = digests
        self._at[ids] = self._committed + 1 + np.arange(len(digests))
        self._committed += len(digests)
        self._recent.append((row, len(digests)))
        self._messages += len(digests)
        while self._messages - self._recent[0][1] >= _IDS:
            self._messages -= self._recent.popleft()[1]

    def clear(self) -> None:
        """Forget all: the broker has."""
        self._hash[:] = _FREE
        self._recent.clear()
        self._messages = 0

    def restore(self, connection: sqlite3.Connection, session_from: int) -> None:
        """Read back the newest journal rows past `session_from`, as far as their messages can be in flight."""
        messages, first = 0, session_from
        for seq, count in connection.execute(
            "SELECT seq, messages FROM journal WHERE seq > ? ORDER BY seq DESC", (session_from,)
        ):
            messages += count
            if messages >= _IDS:
                first = seq - 1
                break
        for seq, batch, _ in read_rows(connection, first):
            if isinstance(batch, Batch):
                self.record(seq, batch)


def digest_of(batch: Batch, n: int) -> int:
    """The hash of topic and payload of a message: 64 bits, the same in every process."""
    digest = blake2b(batch.topics[n], digest_size=8)
    digest.update(b"\0")  # no topic holds one, so topic and payload cannot trade bytes
    digest.update(batch.payloads[n])
    return int.from_bytes(digest.digest(), "little") | 1


def _key(batch: Batch, n: int) -> int:
    """Hash a message by the key of this process, as Python does all bytes: cheap, not to be stored, and never 0."""
    return hash((batch.topics[n], batch.payloads[n])) | 1  # zero marks a free id
