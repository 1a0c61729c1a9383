"""The bounded room between the network thread and the daemon's loop.

The network thread puts chunks in, the loop takes batches out. Two bounds hold, messages and bytes; what does not fit
is counted, never silent. A refused QoS 1 message leaves its packet id behind in the order of receipt, for the broker
has to hear of it too, when its turn comes. What overflowed leaves a hole in that order, with the topics that it was
of: a batch ends before a hole, and the next one says which topics' samples no longer follow on each other. A batch
never spans two connections.

Brokers send in clumps, so messages of one stream may come in one read. They get stamps a microsecond apart, in their
order: two samples of one time would be taken for one that came twice.
"""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from streamae.core.types import Batch, Drop, Drops
from streamae.ingest.source import Accepted

__all__ = ["STAMP_STEP_S", "Chunk", "Inbox"]

STAMP_STEP_S = 1e-6
_DUP = 8
_HOLE_TOPICS_MAX = 10_000  # beyond this many topics a hole is one of all topics


class Chunk(NamedTuple):
    """Messages of one read, of one connection: the first arrived at `arrival_s`, each next one `STAMP_STEP_S` later.

    `flags` are the low nibbles of the PUBLISH headers, `mids` the packet ids (0 at QoS 0). A refused message is a chunk
    without topics that has its packet id.
    """

    epoch: int
    arrival_s: float
    topics: Sequence[bytes]
    payloads: Sequence[bytes]
    flags: Sequence[int]
    mids: Sequence[int]

    def split(self, at: int) -> "tuple[Chunk, Chunk]":
        """Return the first `at` messages, and the rest."""
        head = (self.topics[:at], self.payloads[:at], self.flags[:at], self.mids[:at])
        tail = (self.topics[at:], self.payloads[at:], self.flags[at:], self.mids[at:])
        return Chunk(self.epoch, self.arrival_s, *head), Chunk(self.epoch, self.arrival_s + at * STAMP_STEP_S, *tail)


@dataclass(slots=True)
class _Hole:
    """A place where messages were refused: their topics (None: too many to name) and packet ids."""

    epoch: int
    topics: set[bytes] | None = field(default_factory=set)
    mids: list[int] = field(default_factory=list)

    def add(self, topics: Sequence[bytes] | set[bytes] | None) -> None:
        if self.topics is None or topics is None:
            self.topics = None
            return
        self.topics.update(topics)
        if len(self.topics) > _HOLE_TOPICS_MAX:
            self.topics = None


class Inbox:
    """Chunks in, batches out; `put` and `refuse` for one thread, `take` for another.

    `linger_s` is how long `take` goes on collecting after the first message, so that a slow trickle is not committed
    message by message; it ends early when `limit` messages are there, or `enough` of them (the broker's window, which
    would otherwise stand still until the commit).
    """

    def __init__(
        self, *, max_messages: int, max_bytes: int, linger_s: float, enough: int, monotonic: Callable[[], float]
    ) -> None:
        self.max_messages = max_messages
        self.max_bytes = max_bytes
        self.linger_s = linger_s
        self.enough = enough
        self.messages = 0
        self.bytes = 0
        self.lost_total = Drops()
        self._lost = Drops()  # since the last take
        self._chunks: deque[Chunk | _Hole] = deque()
        self._monotonic = monotonic
        self._changed = threading.Condition()
        self._wanted = 0  # messages that the waiting taker wants before it is woken; 0: no one waits

    def put(self, chunk: Chunk) -> None:
        """Append a chunk, or as many of its messages as there is room for."""
        topics, payloads = chunk.topics, chunk.payloads
        size = sum(map(len, payloads)) + sum(map(len, topics))
        with self._changed:
            if self.messages + len(topics) <= self.max_messages and self.bytes + size <= self.max_bytes:
                self._chunks.append(chunk)
                self.messages += len(topics)
                self.bytes += size
            else:
                self._put_what_fits(chunk)
            if self._wanted and self.messages >= self._wanted:
                self._changed.notify()

    def _put_what_fits(self, chunk: Chunk) -> None:
        """Take the first messages of a chunk, as far as there is room; the rest is lost, and is a hole."""
        room, topics, payloads = self.max_messages - self.messages, chunk.topics, chunk.payloads
        fits = size = 0
        while fits < min(room, len(topics)):
            more = len(topics[fits]) + len(payloads[fits])
            if self.bytes + size + more > self.max_bytes:
                break
            fits, size = fits + 1, size + more
        if fits:
            self._chunks.append(chunk.split(fits)[0])
            self.messages += fits
            self.bytes += size
        refused = chunk.split(fits)[1]
        self._lost[Drop.OVERFLOW] += len(refused.topics)
        self.lost_total[Drop.OVERFLOW] += len(refused.topics)
        last = self._chunks[-1] if self._chunks else None
        if not isinstance(last, _Hole) or last.epoch != chunk.epoch:
            last = _Hole(chunk.epoch)
            self._chunks.append(last)
        last.add(refused.topics)
        last.mids += [mid for mid in refused.mids if mid]

    @property
    def fill(self) -> float:
        """How full it is, 0 to 1, by the bound that is nearer."""
        return max(self.messages / self.max_messages, self.bytes / self.max_bytes)

    def refuse(self, epoch: int, reason: Drop, mid: int) -> None:
        """Count a message that was not put in; its packet id, where it has one, keeps its place in the order."""
        with self._changed:
            self._lost[reason] += 1
            self.lost_total[reason] += 1
            last = self._chunks[-1] if self._chunks else None
            if mid and isinstance(last, _Hole) and last.epoch == epoch:
                last.mids.append(mid)
            elif mid:
                self._chunks.append(Chunk(epoch, 0.0, (), (), (), (mid,)))

    def take(self, limit: int, timeout_s: float) -> Accepted:
        """Return up to `limit` messages of one epoch, and the packet ids to acknowledge for them, in order."""
        with self._changed:
            if not self.messages:
                self._wait(1, timeout_s)
            if 0 < self.messages < min(limit, self.enough) and self.linger_s:
                self._wait(min(limit, self.enough), self.linger_s)
            return self._collect(limit)

    def _wait(self, wanted: int, timeout_s: float) -> None:
        self._wanted = wanted
        self._changed.wait_for(lambda: self.messages >= wanted, timeout_s)
        self._wanted = 0

    def wake(self) -> None:
        """Let a waiting `take` look again at once: the source is ending."""
        with self._changed:
            self._changed.notify_all()

    def _collect(self, limit: int) -> Accepted:
        topics: list[bytes] = []
        payloads: list[bytes] = []
        arrivals: list[float] = []
        counts: list[int] = []
        flags: list[int] = []
        mids: list[int] = []
        acks: list[int] = []
        epoch = self._chunks[0].epoch if self._chunks else 0
        hole = _Hole(epoch)
        while self._chunks and self._chunks[0].epoch == epoch:
            room, chunk = limit - len(topics), self._chunks[0]
            if isinstance(chunk, _Hole):
                if topics:
                    break
                hole.add(chunk.topics)
                acks += chunk.mids
                self._chunks.popleft()
                continue
            if not room and chunk.topics:
                break
            self._chunks.popleft()
            if len(chunk.topics) > room:
                chunk, rest = chunk.split(room)
                self._chunks.appendleft(rest)
            if chunk.topics:
                topics += chunk.topics
                payloads += chunk.payloads
                flags += chunk.flags
                mids += chunk.mids
                arrivals.append(chunk.arrival_s)
                counts.append(len(chunk.topics))
            acks += filter(None, chunk.mids)
        self.messages -= len(topics)
        self.bytes -= sum(map(len, payloads)) + sum(map(len, topics))
        lost, self._lost = self._lost, Drops()
        place = np.arange(len(topics)) - np.repeat(np.cumsum(counts) - counts, counts)
        batch = Batch(
            topics=topics,
            payloads=payloads,
            arrival_s=np.repeat(np.asarray(arrivals, np.float64), counts) + STAMP_STEP_S * place,
            mid=np.asarray(mids, np.int32),
            dup=(np.asarray(flags, np.int8) & _DUP) != 0,
            epoch=epoch,
            lost=lost,
            holes=None if hole.topics is None else sorted(hole.topics),
        )
        return Accepted(batch, acks)
