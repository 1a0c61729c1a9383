"""The loop: take, step, commit, acknowledge, observe. One turn is one batch; everything else waits for it.

A batch is acknowledged after its transaction stands, never before. While the store cannot commit (a full disk), the
turn repeats the commit, takes in nothing more, and says so; the broker keeps what is not acknowledged.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from streamae.condition import Condition
from streamae.core.groups import Groups
from streamae.core.report import Report, Transition
from streamae.core.types import Batch, Confirmed, StreamChange
from streamae.daemon.load_shedding import LoadShedding
from streamae.errors import StoreError
from streamae.ingest.source import Source
from streamae.metrics import Metrics
from streamae.store.poison import BROKER
from streamae.store.store import Store

__all__ = ["Loop"]

log = logging.getLogger(__name__)
_LOG_EVERY_S = 10.0
_CONFIRMED_MAX = 1000
_TICK_S = 10.0  # of silence, after which the pipeline gets an empty step
_COMMIT_RETRY_S = (0.1, 0.5, 1.0, 2.0)


class Loop:
    """Owns the order of a turn, and when a snapshot is due. Not thread-safe: one thread turns it."""

    def __init__(
        self,
        source: Source,
        groups: Groups,
        store: Store,
        metrics: Metrics,
        *,
        now: Callable[[], float],
        arrived: Callable[[], float],
        monotonic: Callable[[], float],
        sleep: Callable[[float], object],
        batch_max: int = 4096,
        snapshot_every_s: float = 60.0,
        thinning_max: int = 1,
    ) -> None:
        self.source, self.groups, self.store, self.metrics = source, groups, store, metrics
        self._arrived = arrived  # the clock that stamps what arrives
        self._now, self._monotonic, self._sleep = now, monotonic, sleep
        self.batch_max, self.snapshot_every_s = batch_max, snapshot_every_s
        self.progress_s = self._snapshot_s = self._stepped_s = monotonic()
        self.thread, self.doing = threading.current_thread().name, "starts"  # what a hang is named by
        self._snapshots_missed = 0  # in a row
        self.writable = True
        self.storing = Condition("store", "state", "the state cannot be written, intake is paused", now, log)
        self.snapshotting = Condition("snapshot", "state", "no snapshot can be written, a start takes long", now, log)
        self.conditions = (self.storing, self.snapshotting)
        self.lag_s: float | None = None  # of the last batch: from the arrival of its first message to its commit
        self.stopping: Callable[[], bool] = lambda: False
        self.waiting: Callable[[], object] = lambda: None
        self.load_shedding = LoadShedding(thinning_max)
        self.confirmed: deque[Confirmed] = deque(maxlen=_CONFIRMED_MAX)  # by people, since the last batch; any thread
        self._logged_s = float("-inf")
        self._sessions_lost = self._epoch = 0
        self._given_up = False  # the stop came before a commit: nothing more may be taken, saved or acknowledged

    def attach(self, source: Source) -> None:
        """Take from another source from now on; its epochs and counts start over."""
        self.source, self._sessions_lost, self._epoch = source, 0, 0

    def turn(self, timeout_s: float) -> Report | None:
        """Take one batch and carry it through; None where none came in time, or the stop came before the commit.

        Raises UnavailableError where the source says that nothing will ever come again.
        """
        if self._given_up:
            return None
        asked_s, self.doing = self._monotonic(), "takes messages"
        attempts = self.store.attempts
        accepted = self.source.take(attempts.part if attempts.careful else self.batch_max, timeout_s)
        self.progress_s = self._monotonic()
        self._shed_load(self.progress_s - asked_s)
        if not self._note_session(accepted.batch):
            self._given_up = True
            return None
        if not len(accepted) and not accepted.batch.lost and not accepted.batch.broken and not self._silence():
            return None
        began_s, now_s, self.doing = self._monotonic(), self._now(), "runs the pipeline and its models"
        batch = self._admitted(accepted.batch, now_s)
        self._given_up = True  # until it stands: a step that raises leaves half a state, which nobody may save
        if batch is None:
            return None
        with attempts.batch(batch):
            report = self.groups.step(batch, now_s)
            stepped_s = self._stepped_s = self._monotonic()
            self.doing = "commits"
            for notice in report.notices:
                log.warning("%s", notice)
            self._given_up = not self._commit(batch, report, now_s)
        if self._given_up:
            return None
        self.source.ack(accepted)
        self._tell_of_loss(report)
        self.progress_s = ended_s = self._monotonic()
        arrived_s = self._arrived()
        self.lag_s = arrived_s - float(batch.arrival_s[0]) if len(batch) else self.lag_s
        by_wall_s = batch.arrival_s + (self._now() - arrived_s)
        self.metrics.observe(report, by_wall_s, stepped_s - began_s, ended_s - stepped_s)
        return report

    def _admitted(self, batch: Batch, now_s: float) -> Batch | None:
        """Return what the pipeline steps and the journal keeps of a batch; None where the stop came first.

        That is the messages that were not committed before and are no poison, with all else that the step depends on:
        how thinly windows are scored, and maintenance that the pipeline does not know yet.
        """
        seen, maintenance = self.store.seen(batch), self.store.silences.maintenance(now_s)
        if seen.any():
            batch = batch.only(np.flatnonzero(~seen))
        if maintenance != self.groups.maintenance:
            batch = replace(batch, maintenance=maintenance)
        if confirmed := [self.confirmed.popleft() for _ in range(len(self.confirmed))]:
            batch = replace(batch, confirmed=confirmed)
        if self.load_shedding.thinning > 1:
            batch = replace(batch, thinning=self.load_shedding.thinning)
        found: list[tuple[Batch, list[bytes]]] = []
        if not self._insist(lambda _: found.append(self.store.poison.without(batch, BROKER, now_s))):
            return None
        sound, left_out = found[-1]
        for topic in left_out:
            log.error("a message on %r ended the process over and over: kept as poison, and left out", topic)
        return sound

    def _silence(self) -> bool:
        """Whether the pipeline is to learn that nothing comes, though we could hear it; the journal learns it too."""
        status = self.source.status()
        if not status.connected or not status.subscribed or status.waiting:
            self._stepped_s = self._monotonic()  # we were deaf: nobody's silence
        return self._monotonic() - self._stepped_s >= _TICK_S and self.groups.listening

    def save(self) -> None:
        """Commit a snapshot of the state as it is, with nothing else. Raises StoreError.

        Nothing is saved where the stop came before a commit: the pipeline is ahead of the journal then, and its batch
        comes again; after a snapshot of it no sink would be notified of the alerts of that batch. Nor where the broker
        was never reached: there is nothing new, and by a snapshot the next start believes that the broker has our
        session.
        """
        if self._given_up or not (self.source.status().connects or self.store.stats().uncovered_bytes):
            return
        self._store_state(self.groups)

    def adopt(self, groups: Groups, resolved: Sequence[Transition]) -> None:
        """Go on with another pipeline, once its state and the ends of alerts stand in the store; else StoreError."""
        self._store_state(groups, resolved)
        self.groups = groups

    def change(self, wanted: StreamChange) -> Report | None:
        """Make a change of a stream that somebody asked for, between two turns; it stands in the store then.

        None where the daemon is to stop first.
        """
        if self._given_up:
            return None
        batch, now_s = Batch([], [], np.zeros(0), changes=(wanted,)), self._now()
        self._given_up = True  # as in a turn
        report = self.groups.step(batch, now_s)
        for notice in report.notices:
            log.warning("%s", notice)
        self._given_up = not self._insist(lambda _: self.store.commit(batch, report, now_s, self.groups.snapshot()))
        if self._given_up:
            return None
        self._snapshot_taken()
        self.metrics.observe(report, batch.arrival_s, 0.0, 0.0)
        return report

    def _store_state(self, groups: Groups, resolved: Sequence[Transition] = ()) -> None:
        nothing = Batch([], [], np.zeros(0))
        report = Report(0, 0, 0, nothing.lost, {}, resolved)
        self.store.commit(nothing, report, self._now(), groups.snapshot())
        self._snapshot_taken()

    def _snapshot_taken(self) -> None:
        self._snapshot_s, self._snapshots_missed = self._monotonic(), 0
        self.snapshotting.works()

    def _commit(self, batch: Batch, report: Report, now_s: float) -> bool:
        """Commit until it stands; False where the daemon is to stop first: nothing is acknowledged then."""
        due = self._monotonic() - self._snapshot_s >= self.snapshot_every_s or self.store.wants_snapshot

        def write(attempt: int) -> None:
            self.store.commit(batch, report, now_s, self.groups.snapshot() if due and not attempt else None)
            if due and not attempt:
                self._snapshot_taken()
            elif due:  # the batch alone could be written
                self._snapshots_missed += 1
                failing = self.storing.failing
                if failing and self._snapshots_missed > 1:  # the first may be the end of a disk that was full
                    self.snapshotting.failed(failing.reason)

        return self._insist(write)

    def _insist(self, write: Callable[[int], None]) -> bool:
        """Write until it stands; False where the daemon is to stop first. `write` gets the number of the attempt."""
        attempt = 0
        while True:
            try:
                write(attempt)
            except StoreError as error:
                self.storing.failed(str(error))
                self.writable = False
                self.metrics.count("store_commit_failures")
                self.metrics.gauge("store_writable", 0)
                if self.stopping():
                    return False
                self._sleep(_COMMIT_RETRY_S[min(attempt, len(_COMMIT_RETRY_S) - 1)])
                attempt += 1
                self.progress_s = self._monotonic()  # waiting for space is not hanging
                self.waiting()
                continue
            self.storing.works()
            self.writable = True
            self.metrics.gauge("store_writable", 1)
            return True

    def _shed_load(self, waited_s: float) -> None:
        """Decide how thinly windows are scored, and say so where that changes."""
        before, fill = self.load_shedding.thinning, self.source.status().fill
        thinning = self.load_shedding.next(fill, waited_s, self.progress_s)
        if thinning != before:
            level = logging.WARNING if thinning > before else logging.INFO
            said = f"one window in {thinning} is scored" if thinning > 1 else "every window is scored again"
            log.log(level, "%s: %s", said, self.load_shedding.why)
            self.metrics.gauge("thinning", thinning)

    def _tell_of_loss(self, report: Report) -> None:
        """Log that streams start over, at most every few seconds; the metrics count each."""
        if report.interrupted and self.progress_s - self._logged_s >= _LOG_EVERY_S:
            self._logged_s = self.progress_s
            log.warning(
                "messages were lost (dropped so far: %d): the windows of %d streams begin again, none spans the loss",
                sum(self.source.status().lost.values()),
                report.interrupted,
            )

    def _note_session(self, batch: Batch) -> bool:
        """Count lost sessions; forget packet ids where `batch` is the first of a session that the broker started over.

        Not earlier: what still waited in the inbox belongs to the session before, and may be known by its ids.
        False where the daemon is to stop first.
        """
        status = self.source.status()
        if status.sessions_lost > self._sessions_lost:
            self.metrics.count("messages_lost", status.sessions_lost - self._sessions_lost, "session")
            self._sessions_lost = status.sessions_lost
        if batch.epoch <= self._epoch:
            return True
        if any(self._epoch < fresh <= batch.epoch for fresh in status.fresh_epochs) and not self._insist(
            lambda _: self.store.forget_session()
        ):
            return False
        self._epoch = batch.epoch
        return True
