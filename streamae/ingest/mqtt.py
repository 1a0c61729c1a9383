"""Messages of an MQTT broker, acknowledged after the commit.

The session's thread only sorts what it gets (retained, oversized) and puts the rest in
the inbox. `take` remembers with each batch the packet ids that stand for it; `ack` sends them, in the order of
receipt, over the connection that they came from, and over no other.
"""

import logging
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Literal

from streamae.core.setting import INTERNAL, Setting
from streamae.core.types import Drop, Drops
from streamae.errors import UnavailableError
from streamae.ingest.inbox import STAMP_STEP_S, Chunk, Inbox
from streamae.ingest.receive_window import ReceiveWindow
from streamae.ingest.source import Accepted, SourceStatus
from streamae.mqtt import ConnectionOptions, Session, Subscription, topic_matches
from streamae.mqtt.options import ClientMaker

__all__ = ["MqttSource", "ReceiveLimits", "auto_batch_wait_s", "pauses_s"]

_RETAINED = 1
_WAIT_S, _WAIT_MAX_S = 0.05, 0.2
# Between reads: a part of what a message waits for its batch anyway, such that three reads, each a little late, go into
# one batch. Where a broker waits for acknowledgements, it waits for us as long, too.
_PAUSE_MAX_S, _PAUSE_ACKED_MAX_S = 0.02, 0.005
_log = logging.getLogger("streamae.mqtt")


@dataclass(frozen=True, slots=True)
class ReceiveLimits:
    """The bounded queue between the connection and the pipeline."""

    max_messages: Annotated[int, Setting(ge=1, le=10**7)] = 100_000
    """Messages kept waiting; what comes beyond is dropped and counted."""
    max_payload_bytes: Annotated[int, Setting(ge=1, le=268435455)] = 65536
    """Longest payload; a longer one is dropped and counted."""
    batch_max: Annotated[int, Setting(ge=1, le=10**6)] = 4096
    """Messages of one step of the pipeline, at most."""
    batch_wait_s: Literal["auto"] | Annotated[float, Setting(ge=0, le=10)] = "auto"
    """Longest wait to fill a batch; a larger one costs latency and saves work. `auto`: 50ms where any group scores
    every row, else 50ms times the smallest stride, 200ms at most."""
    thinning_max: Literal[1, 2, 4, 8, 16] = 8
    """Under a backlog, score only every 2nd, 4th, 8th… window of each stream, at most this; 1 scores all, always."""
    max_bytes: Annotated[int, INTERNAL] = 256 * 1024 * 1024
    """Of all messages kept waiting, with their topics."""

    def wait_s(self, stride: int = 1) -> float:
        """Return how long a batch may fill where each stream's every `stride`-th row is scored, at the least."""
        return auto_batch_wait_s(stride) if self.batch_wait_s == "auto" else self.batch_wait_s


def auto_batch_wait_s(stride: int) -> float:
    """How long a batch may fill where each stream's every `stride`-th row is scored: they can wait longer."""
    return min(_WAIT_S * stride, _WAIT_MAX_S)


def pauses_s(subscriptions: Sequence[Subscription], batch_wait_s: float) -> tuple[float, float]:
    """Return how long the network thread pauses between reads, and how long a batch goes on filling after the first.

    A message may have waited before it was read, and then the loop must wake and work: a twentieth of the wait is left
    for that.
    """
    acked = any(one.qos > 0 for one in subscriptions)
    pause_s = min(_PAUSE_ACKED_MAX_S, batch_wait_s / 10) if acked else min(_PAUSE_MAX_S, 0.28 * batch_wait_s)
    return pause_s, 0.95 * batch_wait_s - pause_s


class MqttSource:
    """A `Source` over one MQTT session. Constructor arguments are those of `Session`, and the inbox's `limits`.

    :raises ConfigError: from the constructor, when a TLS file cannot be used.
    """

    def __init__(
        self,
        connection: ConnectionOptions,
        subscriptions: Sequence[Subscription],
        limits: ReceiveLimits,
        *,
        now: Callable[[], float],
        monotonic: Callable[[], float],
        jitter: Callable[[], float],
        status_topic: str | None = None,
        stale: Sequence[str] = (),
        expect_session: bool = False,
        client_kind: ClientMaker | None = None,
        beat: Callable[[float], object] = lambda busy_s: None,
    ) -> None:
        self._limits = limits
        self._now = now
        self._monotonic = monotonic
        self._lossy = any(one.qos == 0 for one in subscriptions)
        self._retained = tuple(one.filter for one in subscriptions if one.retained)
        rest_s, linger_s = pauses_s(subscriptions, limits.wait_s())
        self._inbox = Inbox(
            max_messages=limits.max_messages,
            max_bytes=limits.max_bytes,
            linger_s=linger_s,
            enough=max(1, connection.receive_maximum // 2),
            monotonic=monotonic,
        )
        self._session = Session(
            connection,
            subscriptions,
            self._deliver,
            monotonic=monotonic,
            jitter=jitter,
            status_topic=status_topic,
            stale=stale,
            expect_session=expect_session,
            client_kind=client_kind,
            beat=beat,
            rest_s=rest_s,
        )
        self._taken: deque[Accepted] = deque()  # not acknowledged yet
        self._accepting = True
        self._taken_epoch = 0
        self._stamp_s = float("-inf")  # of the next message, at least
        self._last_message_s: float | None = None
        self._window_epoch = self._receive_window_epoch = 0
        self._receive_window = ReceiveWindow(connection.receive_maximum, linger_s)
        self._acked_s = 0.0
        self._answered_s: float | None = float("inf")  # when the first message came after the last acknowledgement
        self._window_received = 0  # QoS 1 messages of the window's epoch: written by the network thread,
        self._window_acked = 0  # and acknowledged: written by the loop
        self._window_limited = 0

    def start(self) -> None:
        """Start connecting; see `status`."""
        self._session.start()

    def take(self, limit: int, timeout_s: float) -> Accepted:
        """Return up to `limit` messages of one connection, in receive order; empty after `timeout_s`.

        :raises UnavailableError: another process took the session over, or the network thread is dead.
        """
        began_s = self._monotonic()
        accepted = self._inbox.take(limit, timeout_s)
        self._note_receive_window(len(accepted), self._monotonic() - began_s)
        accepted = self._with_gap(accepted)
        if len(accepted) or accepted.batch.broken:
            self._taken.append(accepted)
            return accepted
        if accepted.acknowledgements:  # of refusals alone: nothing to commit, but the broker must hear of them,
            if self._taken:  # behind the batches before them
                self._taken[-1].acknowledgements.extend(accepted.acknowledgements)
            else:
                self._acknowledge(accepted)
        if self._session.state.fatal:
            raise UnavailableError(self._session.state.fatal)
        return accepted

    def _note_receive_window(self, messages: int, waited_s: float) -> None:
        """Learn the broker's window from the rhythm of the takes, and end them accordingly."""
        unacknowledged = self._unacknowledged()
        if self._window_epoch != self._receive_window_epoch:
            self._receive_window_epoch = self._window_epoch
            self._receive_window.begin()
        answered_s = None if self._answered_s is None else self._answered_s - self._acked_s
        if messages and self._receive_window.note(unacknowledged, waited_s, answered_s):
            _log.warning(
                "the broker sends %d messages and then waits for their acknowledgement, so each commit carries no "
                "more; raise its in-flight window (mosquitto: max_inflight_messages), or speak MQTT 5",
                self._receive_window.limit,
            )
        self._inbox.enough = self._receive_window.enough
        if unacknowledged >= self._receive_window.limit:
            self._window_limited += 1

    def _with_gap(self, accepted: Accepted) -> Accepted:
        """Say that there is a hole before the first batch of a connection that cannot follow on the one before.

        That is so where the broker had no session for us, and always at QoS 0, which no broker need queue. Where it had
        one, it need not have queued what was published at QoS 0 while we were away: it is said that we were.
        """
        epoch = accepted.batch.epoch
        if not len(accepted) or epoch == self._taken_epoch:
            return accepted
        begun, self._taken_epoch = self._taken_epoch, epoch
        fresh = any(begun < one <= epoch for one in self._session.state.fresh_epochs)
        if fresh or self._lossy:
            return replace(accepted, batch=replace(accepted.batch, holes=None))
        return replace(accepted, batch=replace(accepted.batch, resumed=True))

    def ack(self, accepted: Accepted) -> None:
        """Acknowledge this and, since acknowledgements go in order, everything taken before it."""
        if not any(one is accepted for one in self._taken):
            return
        taken = None
        while taken is not accepted:
            taken = self._taken.popleft()
            self._acknowledge(taken)

    def _acknowledge(self, accepted: Accepted) -> None:
        if accepted.batch.epoch == self._window_epoch:
            self._window_acked += len(accepted.acknowledgements)
        self._acked_s, self._answered_s = self._monotonic(), None
        self._session.acknowledge(accepted.batch.epoch, accepted.acknowledgements)

    def stop_intake(self) -> None:
        """Take in nothing more; what the broker still sends stays unacknowledged and comes again to the next run."""
        self._accepting = False
        self._inbox.wake()

    def close(self, timeout_s: float = 5.0) -> None:
        """Send the acknowledgements that are queued, say offline, disconnect; at most `timeout_s`."""
        self._accepting = False
        self._session.close(timeout_s)

    def status(self) -> SourceStatus:
        """Return how the connection and the inbox are doing."""
        state = self._session.state
        last_s = self._last_message_s
        fatal = state.fatal or ("" if self._session.alive or not self._accepting else "the network thread is dead")
        return SourceStatus.of(
            replace(state, fatal=fatal),
            last_message_age_s=None if last_s is None else max(0.0, self._monotonic() - last_s),
            lost=Drops(self._inbox.lost_total),
            waiting=self._inbox.messages,
            fill=self._inbox.fill,
            unacknowledged=self._unacknowledged(),
            window_limited=self._window_limited,
            window=self._receive_window.limit,
        )

    def _unacknowledged(self) -> int:
        return self._window_received - self._window_acked

    # In the network thread: only sort and enqueue.

    def _deliver(
        self,
        epoch: int,
        topics: Sequence[bytes],
        payloads: Sequence[bytes],
        flags: Sequence[int],
        mids: Sequence[int],
    ) -> None:
        if not self._accepting:
            return
        if epoch != self._window_epoch:
            self._window_epoch, self._window_received, self._window_acked = epoch, 0, 0
        self._window_received += len(mids) - mids.count(0)
        self._last_message_s = self._monotonic()
        if self._answered_s is None:
            self._answered_s = self._last_message_s
        plain = max(map(len, payloads)) <= self._limits.max_payload_bytes and not any(
            flag & _RETAINED for flag in set(flags)
        )
        arrival_s = max(self._now(), self._stamp_s)
        self._stamp_s = arrival_s + len(topics) * STAMP_STEP_S
        if plain:
            self._inbox.put(Chunk(epoch, arrival_s, topics, payloads, flags, mids))
            return
        for i, (topic, payload, flag, mid) in enumerate(zip(topics, payloads, flags, mids, strict=True)):
            if len(payload) > self._limits.max_payload_bytes:
                self._inbox.refuse(epoch, Drop.TOO_LARGE, mid)
            elif flag & _RETAINED and not self._wants_retained(topic):
                self._inbox.refuse(epoch, Drop.RETAINED, mid)
            else:
                at_s = arrival_s + i * STAMP_STEP_S
                self._inbox.put(Chunk(epoch, at_s, (topic,), (payload,), (flag,), (mid,)))

    def _wants_retained(self, topic: bytes) -> bool:
        text = topic.decode(errors="replace")
        return any(topic_matches(one, text) for one in self._retained)
