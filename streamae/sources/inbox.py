"""The bounded room between the network thread and the daemon's loop.

The network thread puts chunks in, the loop takes batches out. Two bounds hold, messages and bytes; what does not fit
is counted, never silent. A refused QoS 1 message leaves its packet id behind in the order of receipt, for the broker
has to hear of it too, when its turn comes. A batch never spans two connections.
"""

import threading
from collections import deque
from collections.abc import Callable, Sequence

import numpy as np

from streamae.core.types import Batch, Drop, Drops

__all__ = ["Chunk", "Inbox"]

# epoch, arrival_s, topics, payloads, flags, packet ids; a refusal has no topics and one packet id
Chunk = tuple[int, float, Sequence[bytes], Sequence[bytes], Sequence[int], Sequence[int]]
_DUP = 8


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
        self._chunks: deque[Chunk] = deque()
        self._monotonic = monotonic
        self._changed = threading.Condition()
        self._wanted = 0  # messages that the waiting taker wants before it is woken; 0: nobody waits

    def put(self, chunk: Chunk) -> None:
        """Append a chunk, or as many of its messages as there is room for."""
        epoch, arrival_s, topics, payloads, flags, mids = chunk
        size = sum(map(len, payloads)) + sum(map(len, topics))
        with self._changed:
            if self.messages + len(topics) <= self.max_messages and self.bytes + size <= self.max_bytes:
                self._chunks.append(chunk)
                self.messages += len(topics)
                self.bytes += size
            elif len(topics) == 1:
                self._refuse(epoch, Drop.OVERFLOW, mids[0])
            else:
                for i in range(len(topics)):
                    self._put_one(
                        (epoch, arrival_s, topics[i : i + 1], payloads[i : i + 1], flags[i : i + 1], mids[i : i + 1])
                    )
            if self._wanted and self.messages >= self._wanted:
                self._changed.notify()

    def _put_one(self, chunk: Chunk) -> None:
        size = len(chunk[2][0]) + len(chunk[3][0])
        if self.messages < self.max_messages and self.bytes + size <= self.max_bytes:
            self._chunks.append(chunk)
            self.messages += 1
            self.bytes += size
        else:
            self._refuse(chunk[0], Drop.OVERFLOW, chunk[5][0])

    def refuse(self, epoch: int, reason: Drop, mid: int) -> None:
        """Count a message that was not put in; its packet id, where it has one, keeps its place in the order."""
        with self._changed:
            self._refuse(epoch, reason, mid)

    def _refuse(self, epoch: int, reason: Drop, mid: int) -> None:
        self._lost[reason] += 1
        self.lost_total[reason] += 1
        if mid:
            self._chunks.append((epoch, 0.0, (), (), (), (mid,)))

    def take(self, limit: int, timeout_s: float) -> tuple[Batch, list[int]]:
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

    def _collect(self, limit: int) -> tuple[Batch, list[int]]:
        topics: list[bytes] = []
        payloads: list[bytes] = []
        arrivals: list[float] = []
        counts: list[int] = []
        flags: list[int] = []
        mids: list[int] = []
        acks: list[int] = []
        epoch = self._chunks[0][0] if self._chunks else 0
        while self._chunks and self._chunks[0][0] == epoch:
            room = limit - len(topics)
            if not room and self._chunks[0][2]:
                break
            chunk = self._chunks.popleft()
            if len(chunk[2]) > room:
                chunk, rest = _split(chunk, room)
                self._chunks.appendleft(rest)
            if chunk[2]:
                topics += chunk[2]
                payloads += chunk[3]
                flags += chunk[4]
                mids += chunk[5]
                arrivals.append(chunk[1])
                counts.append(len(chunk[2]))
            acks += [mid for mid in chunk[5] if mid]
        self.messages -= len(topics)
        self.bytes -= sum(map(len, payloads)) + sum(map(len, topics))
        lost, self._lost = self._lost, Drops()
        batch = Batch(
            topics=topics,
            payloads=payloads,
            arrival_s=np.repeat(np.asarray(arrivals, np.float64), counts),
            mid=np.asarray(mids, np.int32),
            dup=(np.asarray(flags, np.int8) & _DUP) != 0,
            epoch=epoch,
            lost=lost,
        )
        return batch, acks


def _split(chunk: Chunk, at: int) -> tuple[Chunk, Chunk]:
    epoch, arrival_s, topics, payloads, flags, mids = chunk
    head = (epoch, arrival_s, topics[:at], payloads[:at], flags[:at], mids[:at])
    tail = (epoch, arrival_s, topics[at:], payloads[at:], flags[at:], mids[at:])
    return head, tail
