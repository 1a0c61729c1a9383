"""One thread a sink: each carries what waits in the outbox to its sink, and sleeps until more is due or it is woken.

What goes wrong on the way has a condition each: the sink takes nothing, it has refused alerts for good, its outbox is
full, its thread waits for the store.
"""

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from streamae.condition import Condition, Failing
from streamae.config import Settings
from streamae.core.report import Transition
from streamae.daemon.clock import Clock
from streamae.daemon.heartbeat import Heartbeat
from streamae.daemon.sinks import make_sink
from streamae.errors import StoreError
from streamae.metrics import Metrics
from streamae.sinks.delivery import Delivery, DeliveryPace
from streamae.sinks.sink import Sink, WatchfulSink
from streamae.store.outbox import Outbox
from streamae.store.sink_counts import SinkStats

__all__ = ["SinkThreads"]

log = logging.getLogger(__name__)
_STORE_RETRY_S = 1.0
_BEAT_S = 2.0


class SinkThreads:
    """The sink threads of all sinks of a configuration; `counted` is what those before them have counted already."""

    def __init__(
        self, settings: Settings, outbox: Outbox, clock: Clock, counted: Mapping[str, SinkStats] | None = None
    ) -> None:
        self._outbox, self._clock = outbox, clock
        self._heartbeats = [Heartbeat(f"sink-{sink.name}", clock.monotonic) for sink in settings.sinks]
        self._sink_threads = [
            Delivery(
                _Watched(make_sink(settings, sink, clock), heartbeat, sink.blocks_s),
                outbox,
                clock.now,
                pace=DeliveryPace(),
                renotify_s=sink.reminded_s,
                group_wait_s=sink.gathered_s,
                jitter=clock.jitter,
            )
            for sink, heartbeat in zip(settings.sinks, self._heartbeats, strict=True)
        ]
        self._stopping = threading.Event()
        self._wakes = [threading.Event() for _ in self._sink_threads]
        self._threads = [
            threading.Thread(target=self._serve, args=each, name=each[2].name, daemon=True)
            for each in zip(self._sink_threads, self._wakes, self._heartbeats, strict=True)
        ]
        self.counted = dict(counted or {})  # the counts of the outbox as the metrics have them
        self._troubles = {delivery.sink: _Troubles(delivery, clock.now) for delivery in self._sink_threads}

    @property
    def conditions(self) -> list[Condition]:
        """What may be wrong with the sinks."""
        return [condition for troubles in self._troubles.values() for condition in troubles.all]

    def state(self) -> list[Mapping[str, Any]]:
        """Return how each sink is doing, as JSON values, as of the last `observe`."""
        return [_line(c.sink, c.condition.failing, self.counted.get(c.sink, SinkStats())) for c in self._sink_threads]

    def start(self) -> None:
        """Start all threads."""
        for thread in self._threads:
            thread.start()

    def wake(self) -> None:
        """Say that there may be something new."""
        for wake in self._wakes:
            wake.set()

    def faults(self) -> list[str]:
        """Return, in words, which threads ended without being asked to, and which hang."""
        if self._stopping.is_set():
            return []
        dead = [f"thread {t.name} is dead" for t in self._threads if not t.is_alive()]
        return dead or [fault for heartbeat in self._heartbeats for fault in heartbeat.faults()]

    def stop(self, timeout_s: float) -> None:
        """Let each deliver what is due, for at most `timeout_s` in all, then end."""
        self._stopping.set()
        self.wake()
        deadline_s = self._clock.monotonic() + timeout_s
        for thread in self._threads:
            thread.join(max(0.0, deadline_s - self._clock.monotonic()))
        for delivery in self._sink_threads:
            delivery.close()

    def observe(self, metrics: Metrics) -> None:
        """Bring the metrics of the sinks up to date."""
        for sink, now in self._outbox.stats().items():
            before = self.counted.get(sink, SinkStats())
            self.counted[sink] = now
            if sink in self._troubles:
                self._troubles[sink].observe(before, now, lambda name=sink: self._outbox.dead_letters(name, 1))  # type: ignore[misc]
            oldest_s = 0.0 if now.oldest_s is None else max(0.0, self._clock.now() - now.oldest_s)
            metrics.gauge("outbox_pending", now.pending, sink)
            metrics.gauge("outbox_dead", now.dead, sink)
            metrics.gauge("outbox_withheld", now.withheld, sink)
            metrics.gauge("outbox_oldest_age_seconds", oldest_s, sink)
            metrics.count("outbox_evicted", max(0, now.evicted - before.evicted), sink)
            metrics.count("notifications_silenced", max(0, now.silenced - before.silenced), sink)
            for outcome in ("sent", "failed", "refused"):
                grown = getattr(now, outcome) - getattr(before, outcome)
                metrics.count("sink_deliveries", max(0, grown), sink, outcome)

    def _serve(self, delivery: Delivery, wake: threading.Event, heartbeat: Heartbeat) -> None:
        store = self._troubles[delivery.sink].store
        while True:
            heartbeat.beat()
            try:
                wait_s = delivery.deliver_due(paced=not self._stopping.is_set())
                store.works()
            except StoreError as error:
                store.failed(str(error))
                wait_s = _STORE_RETRY_S
            if self._stopping.is_set():
                if wait_s > 0:  # nothing is due now: what is left waits for the next start
                    return
                continue
            self._wait(wake, min(wait_s, 60.0), heartbeat)
            wake.clear()

    def _wait(self, wake: threading.Event, wait_s: float, heartbeat: Heartbeat) -> None:
        until_s = self._clock.monotonic() + wait_s
        while (left_s := until_s - self._clock.monotonic()) > 0 and not wake.wait(min(left_s, _BEAT_S)):
            heartbeat.beat()


class _Troubles:
    """What may be wrong with one sink."""

    def __init__(self, delivery: Delivery, now: Callable[[], float]) -> None:
        sink = delivery.sink
        self.store = Condition("store", f"sink {sink}", f"sink {sink} waits for the store", now, log)
        self._refused = Condition("dead_letters", sink, f"sink {sink} refused alerts for good", now, log)
        self._full = Condition("outbox", sink, f"the outbox of sink {sink} is full, the oldest go", now, log)
        self.all = (delivery.condition, self.store, self._refused, self._full)

    def observe(self, before: SinkStats, now: SinkStats, newest: Callable[[], Sequence[tuple[str, str]]]) -> None:
        """Judge by the counts of the outbox; `newest` reads the last dead letter: its key and what the sink said."""
        standing = self._refused.failing
        if now.dead and (now.refused != before.refused or standing is None):
            self._refused.observe(next((error for _, error in newest()), "it is gone already"), now.dead)
        else:
            self._refused.observe(standing.reason if standing and now.dead else "", now.dead)
        if now.evicted > before.evicted:
            self._full.observe(f"{now.pending} wait, and more come than it takes", now.evicted)
        elif now.pending < before.pending:
            self._full.works()


def _line(sink: str, failing: Failing | None, stats: SinkStats) -> Mapping[str, Any]:
    return {
        "name": sink,
        "state": "ok" if failing is None else "failing",
        "since_s": failing and failing.since_s,
        "reason": failing and failing.reason,
        "attempts": 0 if failing is None else failing.failures,
        "waiting": stats.pending,
        "oldest_s": stats.oldest_s,
        "dead": stats.dead,
    }


class _Watched:
    """A sink that says before each request how long it may take: to connect, and to be answered."""

    def __init__(self, sink: Sink, heartbeat: Heartbeat, blocks_s: float) -> None:
        self.name, self.batch_max, self.refresh_s = sink.name, sink.batch_max, sink.refresh_s
        self._watchful = sink if isinstance(sink, WatchfulSink) else None
        self.watch_s = 0.0 if self._watchful is None else self._watchful.watch_s
        self._sink, self._heartbeat, self._busy_s = sink, heartbeat, 2 * blocks_s

    def send(self, transitions: Sequence[Transition]) -> None:
        self._heartbeat.beat(self._busy_s)
        self._sink.send(transitions)
        self._heartbeat.beat()

    def look_after(self, standing: Callable[[], Sequence[tuple[Transition, bool]]]) -> None:
        if self._watchful is not None:
            self._heartbeat.beat(self._busy_s)
            self._watchful.look_after(standing)
            self._heartbeat.beat()

    def close(self) -> None:
        self._sink.close()
