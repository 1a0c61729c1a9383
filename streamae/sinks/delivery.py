"""The delivery: takes what waits in the outbox to one sink, in order, again and again until it is taken.

When the sink cannot take something, the whole sink rests (1 s, doubled up to 300 s, with jitter, or as long as the
receiver asks for), and what failed goes behind what was tried less often: a single alert on which a receiver chokes
delays the others by one attempt. When the sink refuses several at once, they are sent one by one, so that only the
poison among them becomes a dead letter; when it fails by itself, too, so that one alert does not stop the others.

What begins in many streams at once is gathered (`gathering.py`). In a storm the pace holds requests back, too, and what
comes meanwhile travels together, up to the sink's `batch_max`. A sink that wants to be reminded is notified again, each
`renotify_s`, of what fires still and nobody has acknowledged or silenced. `condition` says whether the sink takes
anything, and why not.

At least once: a transition is marked as sent only after the sink took it, so an end of the process in between sends
it twice, under the same key.
"""

import logging
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from streamae.condition import Condition
from streamae.core.report import Transition
from streamae.core.types import BACKOFF_MAX_S
from streamae.errors import StreamaeError
from streamae.sinks.gathering import Gathering
from streamae.sinks.sink import (
    Sink,
    SinkFailedError,
    SinkQueue,
    SinkRefusedError,
    SinkUnavailableError,
    WatchfulSink,
    guarded,
)

__all__ = ["Delivery", "DeliveryPace"]

_log = logging.getLogger(__name__)
BACKOFF_MIN_S = 1.0
_OPEN_MAX = 10_000
_LOOK_S = 15.0  # how often it is asked whether a reminder is due


@dataclass(frozen=True, slots=True)
class DeliveryPace:
    """How fast a sink may be notified: `burst` requests at once, then `per_s` of them a second."""

    per_s: float = 1.0
    burst: int = 10


class Delivery:
    """Serves one sink; call `deliver_due` from one thread, again after the time that it returns."""

    def __init__(
        self,
        sink: Sink,
        outbox: SinkQueue,
        now: Callable[[], float],
        *,
        pace: DeliveryPace | None = None,
        idle_s: float = 60.0,
        renotify_s: float | None = None,
        group_wait_s: float = 0.0,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._sink = sink
        self._outbox = outbox
        self._now = now
        self._bucket = _Bucket(pace, now()) if pace else None
        self._gathering = Gathering(group_wait_s)
        self._idle_s = idle_s
        self._renotify_s = renotify_s
        self._looked_s = self._watched_s = float("-inf")
        self._jitter = jitter
        self._failures, self._watch_failed = 0, False
        self._resting_until_s = float("-inf")
        self._refreshed_s = now()
        self._unmarked: list[str] = []  # taken by the sink, not yet marked
        self.condition = Condition("sink", sink.name, f"sink {sink.name} delivers nothing", now, _log)

    @property
    def sink(self) -> str:
        """The sink's name."""
        return self._sink.name

    def deliver_due(self, *, paced: bool = True) -> float:
        """Make at most one delivery; return the seconds until the next call is worth it, 0 when more is due.

        Not `paced`, as at a stop, it does not wait for its turn.
        StoreError when the outbox cannot be read or written: call again in a while.
        """
        now_s = self._now()
        # A clock that stepped back must not prolong a rest beyond the longest there is.
        rest_s = self._resting_until_s - now_s
        if 0 < rest_s <= BACKOFF_MAX_S:
            return rest_s
        if paced and self._bucket and (wait_s := self._bucket.wait_s(now_s)) > 0:
            return wait_s
        if self._unmarked:
            self._mark()
        due = self._outbox.due(self.sink, now_s, self._sink.batch_max)
        due, gather_s = self._gathering.ready(due, now_s, self._sink.batch_max if paced else 0)
        if due:
            self._deliver([transition for transition, _ in due], max(attempts for _, attempts in due))
            return max(0.0, self._resting_until_s - now_s) if self._failures else 0.0
        refresh_in_s = min(self._refresh(now_s), self._look_after(now_s))
        if (remind_in_s := self._remind(now_s)) <= 0:
            return 0.0
        next_s = self._outbox.next_due_s(self.sink, now_s)
        # What is due already is being gathered.
        next_in_s = self._idle_s if next_s is None else next_s - now_s if next_s > now_s else gather_s
        return max(0.0, min(self._idle_s, refresh_in_s, remind_in_s, next_in_s))

    def close(self) -> None:
        """Close the sink; one that cannot even do that is left to itself."""
        try:
            guarded(self.sink, self._sink.close)
        except StreamaeError as error:
            _log.warning("sink %s could not be closed: %s", self.sink, error)

    def _deliver(self, transitions: Sequence[Transition], attempts: int) -> None:
        try:
            self._send(transitions)
        except (SinkRefusedError, SinkFailedError) as error:
            if len(transitions) == 1:
                self._given_up(transitions[0], error, attempts)
                return
            for transition in transitions:
                self._deliver([transition], attempts)
                if self._failures:
                    return
        except SinkUnavailableError as error:
            self._put_off(transitions, error, attempts)
        else:
            self._unmarked += [t.key for t in transitions]
            self._recovered()
            self._mark()

    def _given_up(self, transition: Transition, error: SinkRefusedError | SinkFailedError, attempts: int) -> None:
        """What is refused is a dead letter; what the sink fails on waits, for that is the sink's own fault."""
        if isinstance(error, SinkFailedError):
            self._put_off([transition], error, attempts)
            return
        self._recovered()
        self._outbox.dead(self.sink, [transition.key], str(error))

    def _put_off(self, transitions: Sequence[Transition], error: SinkUnavailableError, attempts: int) -> None:
        self._rest(error)
        retry_at_s = self._now() + self._backoff_s(attempts + 1)
        self._outbox.failed(self.sink, [t.key for t in transitions], str(error), retry_at_s)

    def _mark(self) -> None:
        """Mark what was sent; while the store cannot (a full disk), StoreError, and nothing is sent again."""
        self._outbox.sent(self.sink, self._unmarked, None if self._renotify_s is None else self._now())
        self._unmarked = []

    def _send(self, transitions: Sequence[Transition]) -> None:
        if self._bucket:
            self._bucket.take()
        guarded(self.sink, lambda: self._sink.send(transitions))

    def _refresh(self, now_s: float) -> float:
        """Remind a sink that forgets of what is open, when it is time; return the seconds until the next time."""
        every_s = self._sink.refresh_s
        if every_s is None:
            return self._idle_s
        passed_s = abs(now_s - self._refreshed_s)
        if passed_s < every_s:
            return every_s - passed_s
        self._refreshed_s = now_s
        still_open = self._outbox.open_transitions(self.sink, _OPEN_MAX)
        try:
            for first in range(0, len(still_open), self._sink.batch_max):
                part = still_open[first : first + self._sink.batch_max]
                guarded(self.sink, partial(self._sink.send, part))
        except SinkUnavailableError as error:
            self._rest(error)
        except SinkRefusedError as error:
            self.condition.failed(str(error))
        else:
            if still_open:
                self._recovered()
        return every_s

    def _look_after(self, now_s: float) -> float:
        """Let a sink repair what its receiver keeps, when it is time; return the seconds until the next time."""
        sink = self._sink
        if not isinstance(sink, WatchfulSink) or not sink.watch_s:
            return self._idle_s
        passed_s = abs(now_s - self._watched_s)
        if passed_s < sink.watch_s:
            return sink.watch_s - passed_s
        self._watched_s = now_s
        try:
            guarded(self.sink, lambda: sink.look_after(lambda: self._outbox.standing(self.sink, _OPEN_MAX)))
        except SinkUnavailableError as error:
            self._watch_failed = True
            self._rest(error)
        else:
            if self._watch_failed:  # not where it is alerts that the receiver does not take
                self._watch_failed = False
                self._recovered()
        return sink.watch_s

    def _remind(self, now_s: float) -> float:
        """Put in line again what fires still, where it is time; return the seconds until the next look, 0: found."""
        if self._renotify_s is None:
            return self._idle_s
        every_s = min(_LOOK_S, self._renotify_s / 4)
        passed_s = abs(now_s - self._looked_s)
        if passed_s < every_s:
            return every_s - passed_s
        self._looked_s = now_s
        return 0.0 if self._outbox.repeat(self.sink, now_s, self._renotify_s, _OPEN_MAX) else every_s

    def _rest(self, error: SinkUnavailableError) -> None:
        self._failures += 1
        self.condition.failed(str(error))
        self._resting_until_s = self._now() + max(error.retry_after_s, self._backoff_s(self._failures))

    def _recovered(self) -> None:
        """The sink answers again, be it that it refuses an alert: that is the dead letters' trouble."""
        self._failures = 0
        self._resting_until_s = float("-inf")
        self.condition.works()

    def _backoff_s(self, failures: int) -> float:
        """Seconds to wait after this many failures in a row: half of it fixed, half of it by chance."""
        longest_s = min(BACKOFF_MAX_S, BACKOFF_MIN_S * 2.0 ** min(failures - 1, 30))
        return longest_s * (0.5 + 0.5 * self._jitter())


class _Bucket:
    """A token bucket; a clock that steps back refills it at most once."""

    def __init__(self, pace: DeliveryPace, now_s: float) -> None:
        self._pace = pace
        self._tokens = float(pace.burst)
        self._at_s = now_s

    def wait_s(self, now_s: float) -> float:
        passed_s = abs(now_s - self._at_s)
        self._at_s = now_s
        self._tokens = min(self._pace.burst, self._tokens + passed_s * self._pace.per_s)
        return max(0.0, (1.0 - self._tokens) / self._pace.per_s)

    def take(self) -> None:
        self._tokens -= 1.0
