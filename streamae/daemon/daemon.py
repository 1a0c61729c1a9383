"""The life of the daemon in three lines: start, turn until asked to stop, stop within bounds (its process: run.py).

    SIGTERM, SIGINT   stop intake, finish the batch, commit, acknowledge, drain the sinks, exit 0; all of it waits for
                      others for STOP_S at most
    SIGHUP            read the configuration again; a bad one is refused and the old one goes on; windows survive
    systemd           READY when models are warm and the state is recovered; WATCHDOG only after progress of the loop

This package is the only owner of threads and clocks: one loop (the caller's thread), one thread a sink, the network
thread of the source, the web server's thread. A thread that dies or hangs ends the process, for systemd to restart it.
"""

import logging
import os
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

from streamae import __version__
from streamae.config import Settings, load
from streamae.config.maintenance import planned
from streamae.config.reload import applicable, changes
from streamae.core.groups import Groups
from streamae.core.report import Report
from streamae.daemon.build import Models, pipelines, subscriptions_of
from streamae.daemon.clock import ArrivalClock, Clock
from streamae.daemon.conditions import Conditions
from streamae.daemon.gauges import Gauges
from streamae.daemon.heartbeat import Heartbeat
from streamae.daemon.homeassistant import HomeAssistantThread
from streamae.daemon.loop import Loop
from streamae.daemon.page.view import DaemonView
from streamae.daemon.recover import keep, recover
from streamae.daemon.session import BrokerSession
from streamae.daemon.sink_threads import SinkThreads
from streamae.daemon.systemd import Notifier
from streamae.errors import StoreError, StreamaeError, UnavailableError
from streamae.metrics import Metrics
from streamae.model.artifact import Artifact
from streamae.store.store import Store, StoreLimits
from streamae.web.app import Access, create_app
from streamae.web.server import WebServer

__all__ = ["Daemon"]

log = logging.getLogger(__name__)
STOP_S = 1.6  # what a stop waits for others (broker, sinks, readers of the page), all together
_TAKE_S = 0.25  # longest wait for messages, and so for a signal to be noticed
_PUBLISH_S = 1.0


class Daemon:
    """One running instance; `start`, `turn` repeatedly, `stop`. `settings_path` is read again on reload."""

    def __init__(self, settings_path: Path, clock: Clock | None = None, models: Models | None = None) -> None:
        self.path = settings_path
        self.clock = clock or Clock()
        self.models = models or Models()
        self.settings = load(settings_path)
        self.stop_asked = threading.Event()
        self.reload_asked = threading.Event()
        self.notifier = Notifier(os.environ)
        self.on_report: Callable[[Report], object] = lambda _: None
        self._published_s = self._watched_s = float("-inf")
        self._heartbeats = [Heartbeat(name, self.clock.monotonic) for name in ("streamae-mqtt", "web")]

    def start(self) -> None:
        """Open everything, recover the state, and begin to listen. Raises StreamaeError, leaving nothing running."""
        settings, clock = self.settings, self.clock
        artifacts = self.models.open(settings)
        groups = pipelines(settings, artifacts)
        self.store = Store.open(
            settings.state.dir,
            settings.state.durability,
            clock.now,
            store_limits(settings),
            [s.name for s in settings.sinks],
        )
        try:
            found = recover(self.store, groups)
            notes = found.notes + keep(self.store, groups, clock.now(), found)
            self.store.silences.follow(planned(settings.maintenance, clock.now()), clock.now())
            self._wire(settings, groups, artifacts)
        except BaseException:
            self.store.close()
            raise
        for note in notes:
            log.info("%s", note)
        for name, artifact in artifacts.items():
            log.info("group %s is scored by %s", name, artifact.reconstructor.executor)
        broker, page = f"{settings.mqtt.host}:{settings.mqtt.port}", f"http://{settings.web.host}:{self.web.port}/"
        names = ", ".join(groups.pipelines)
        log.info("streamae %s runs: %s, page %s; it connects to broker %s", __version__, names, page, broker)
        self.notifier.send("READY=1", "STATUS=running")

    def _wire(self, settings: Settings, groups: Groups, artifacts: Mapping[str, Artifact]) -> None:
        clock = self.clock
        per_stream = settings.metrics.per_stream_max if settings.metrics.per_stream else 0
        self.metrics = Metrics(clock.now, per_stream, settings.metrics.stale_after_s)
        self.gauges = Gauges(self.metrics, clock.now, settings.inbox.max_messages)
        self._declare(groups)
        kept = self.store.stats()  # of an earlier run: the broker should still have the session of that
        expect_session = settings.mqtt.session_expiry_s > 0 and (
            kept.journal_rows_last > 0 or kept.snapshot_s is not None
        )
        self.arrivals = ArrivalClock(clock, groups.arrival_s)
        self.session = BrokerSession(self.store.session_filters)
        beat_mqtt, beat_web = (heartbeat.beat for heartbeat in self._heartbeats)
        source = self.session.source(settings, clock, self.arrivals, beat_mqtt, expect_session=expect_session)
        self.loop = Loop(
            source, groups, self.store, self.metrics,
            now=clock.now, arrived=self.arrivals.now, monotonic=clock.monotonic, sleep=self.stop_asked.wait,
            batch_max=settings.inbox.batch_max, snapshot_every_s=settings.state.snapshot_every_s,
            thinning_max=settings.inbox.thinning_max,
        )  # fmt: skip
        self.loop.stopping, self.loop.waiting = self.stop_asked.is_set, self._feed_watchdog
        self.view = DaemonView(
            self.loop, self.store, self.metrics,
            now=clock.now, monotonic=clock.monotonic, silent_after_s=settings.mqtt.silent_after_s,
        )  # fmt: skip
        self.conditions = Conditions(f"{settings.mqtt.host}:{settings.mqtt.port}", clock.now)
        self.conditions.rooms = lambda: (
            *self.loop.conditions, *self.metrics.conditions, *self.sink_threads.conditions,
            *self.home_assistant.conditions,
        )  # fmt: skip
        self.conditions.damaged(self.store.damage)
        self.sink_threads = SinkThreads(settings, self.store.outbox, clock)
        self.home_assistant = HomeAssistantThread(settings, self.view.snapshot, clock)
        self.view.thread_faults, self.view.artifacts = self.thread_faults, artifacts
        self.view.conditions = lambda: self.conditions.all
        self.view.change.wake = lambda: self.sink_threads.wake()  # noqa: PLW0108  (a reload makes others)
        token = settings.web.token.get_secret_value() if settings.web.token else None
        access = Access(frozenset(settings.web.allowed_hosts), token, settings.web.loopback)
        app = create_app(self.view, access)
        stop = app.state.events.close
        self.web = WebServer(app, settings.web.host, settings.web.port, on_stop=stop, beat=beat_web)
        self.web.start()
        self.sink_threads.start()
        self.home_assistant.start()
        source.start()

    def _declare(self, groups: Groups) -> None:
        for name, pipeline in groups.pipelines.items():
            self.metrics.declare_group(name, pipeline.profile.digest, pipeline.profile.window)
        for sink in self.settings.sinks:
            self.metrics.declare_sink(sink.name)

    def turn(self) -> None:
        """Carry one batch through, then do what is due once a second. Raises UnavailableError; see `Loop.turn`."""
        report = self.loop.turn(_TAKE_S)
        if report is not None:
            self.view.note(report)
            self.conditions.intake.note(self.loop.groups.pipelines, report.groups)
            if report.transitions:
                self.sink_threads.wake()
            self.on_report(report)
        self.view.answer()
        if self.reload_asked.is_set() and not self.stop_asked.is_set():
            self.reload_asked.clear()
            self.reload()
        now_s = self.clock.monotonic()
        if now_s - self._published_s >= _PUBLISH_S:
            self._published_s = now_s
            self._housekeeping()
        self._feed_watchdog()

    def _alive(self) -> None:
        """Say that a reload goes on: it may have to read much of the journal, and a long one is no hang."""
        self.loop.progress_s, self.loop.doing = self.clock.monotonic(), "reloads"
        self._feed_watchdog()

    def _feed_watchdog(self) -> None:
        """Tell systemd, at its interval, that the loop has come this far; nobody else may: a hang must be seen."""
        now_s = self.clock.monotonic()
        if self.notifier.watchdog_s is not None and now_s - self._watched_s >= self.notifier.watchdog_s:
            self._watched_s = now_s
            self.notifier.send("WATCHDOG=1")

    def _apply_silences(self) -> None:
        """Follow the plan of maintenance; withhold and release what time has silenced or not. A full disk delays it."""
        now_s, silences = self.clock.now(), self.store.silences
        try:
            silences.follow(planned(self.settings.maintenance, now_s), now_s)
            if silences.apply(now_s):
                self.sink_threads.wake()
                self.view.silences_moved()
        except StoreError as error:
            self.conditions.silences.failed(str(error))
        else:
            self.conditions.silences.works()

    def _housekeeping(self) -> None:
        self.arrivals.follow()
        self._apply_silences()
        self.view.publish(self.sink_threads.state())
        self.gauges.observe_groups(self.loop.groups.pipelines)
        self.conditions.observe(self.loop.groups.pipelines, self.loop.source.status(), self.store)
        self.sink_threads.observe(self.metrics)
        self.home_assistant.observe(self.metrics)
        source = self.loop.source.status()
        self.session.observe(source)
        self.gauges.observe(source, self.store.stats())
        self.gauges.observe_people(self.store, self.clock.now())
        if source.fatal:
            raise UnavailableError(source.fatal)
        if faults := self.thread_faults():
            raise StreamaeError(f"{'; '.join(faults)}; see the log above. The process ends to be restarted")

    def thread_faults(self) -> list[str]:
        """Return, in words, which threads are dead or hang; the loop's own is judged by the view."""
        own = [] if self.web.alive else ["thread web is dead"]
        hung = [fault for heartbeat in self._heartbeats for fault in heartbeat.faults()]
        return [*own, *hung, *self.sink_threads.faults(), *self.home_assistant.faults()]

    def reload(self) -> None:
        """Take over the configuration as it is now, or refuse it whole; the state goes on as over a restart."""
        self.notifier.send(f"RELOADING=1\nMONOTONIC_USEC={int(self.clock.monotonic() * 1e6)}")
        try:
            wanted = load(self.path)
            settings = applicable(self.settings, wanted)
            artifacts = self.models.open(settings)
            groups = pipelines(settings, artifacts)
            found = recover(self.store, groups, self.loop.groups, self._alive)
            # Once it stands, a crash leaves what the old rules and models made of the rows before.
            self.loop.adopt(groups, found.resolved)
        except StreamaeError as error:
            log.error("reload refused, the old configuration goes on:\n%s", error)
            self.conditions.reload.failed(str(error))
            self.metrics.observe_reload(successful=False)
            self.notifier.send("READY=1", "STATUS=running; the last reload was refused")
            return
        for change in changes(self.settings, wanted):
            log.warning("reload: %s", change)
        for note in found.notes:
            log.info("reload: %s", note)
        log.info("reloaded: %s read again", self.path.name)
        self._replace(settings, groups)
        self.conditions.reload.works()
        self.view.artifacts = artifacts
        if found.resolved:
            self.sink_threads.wake()
            self.view.silences_moved()
        self.metrics.observe_reload(successful=True)
        self.notifier.send("READY=1", "STATUS=running")

    def _replace(self, settings: Settings, groups: Groups) -> None:
        """Go on with the new pipeline and settings; the connection is made again only for other topics."""
        old, self.settings = self.settings, settings
        if subscriptions_of(old) != subscriptions_of(settings):
            self.loop.source.close()
            beat = self._heartbeats[0].beat
            self.loop.attach(self.session.source(settings, self.clock, self.arrivals, beat, expect_session=True))
            self.loop.source.start()
        if (old.sinks, old.page) != (settings.sinks, settings.page):
            self.sink_threads.stop(1.0)
            self.store.outbox.register([s.name for s in settings.sinks])
            for sink in {s.name for s in old.sinks} - {s.name for s in settings.sinks}:
                self.metrics.drop_sink(sink)
            self.sink_threads = SinkThreads(settings, self.store.outbox, self.clock, self.sink_threads.counted)
            self.sink_threads.start()
        if old.home_assistant != settings.home_assistant:
            self.home_assistant.stop(5.0, withdraw=True)
            self.home_assistant = HomeAssistantThread(settings, self.view.snapshot, self.clock)
            self.home_assistant.start()
        self._declare(groups)

    def stop(self) -> None:
        """Stop intake, save, acknowledge, drain the sinks, disconnect; every step is bounded."""
        self.notifier.send("STOPPING=1")
        end_s = self.clock.monotonic() + STOP_S

        def left_s(part: float) -> float:
            return part * max(0.1, end_s - self.clock.monotonic())

        self.loop.source.stop_intake()
        try:
            self._drain(left_s(0.25))
            self.loop.save()
        except StoreError as error:
            log.error("the last snapshot could not be written; the journal has everything: %s", error)
        self.home_assistant.stop(left_s(0.2))
        self.sink_threads.stop(left_s(0.6))
        self.loop.source.close(left_s(0.6))
        self.web.stop(left_s(1.0))
        self.store.close()
        log.info("stopped")

    def _drain(self, timeout_s: float) -> None:
        """Carry through what is in the inbox; what is left comes again, for nobody has acknowledged it."""
        deadline_s = self.clock.monotonic() + timeout_s
        try:
            while self.loop.source.status().waiting and self.clock.monotonic() < deadline_s:
                if self.loop.turn(0.0) is None:
                    break
        except UnavailableError as error:
            log.error("the source is gone; what it had not given yet comes again: %s", error)


def store_limits(settings: Settings) -> StoreLimits:
    """Return the store's bounds for these settings."""
    return StoreLimits(journal=settings.state)
