"""Home Assistant's thread: once a second, what `sinks.homeassistant` finds to have changed goes to the broker.

It has a connection of its own, on which it also hears Home Assistant's birth message and what an earlier run of this
instance announced. Whatever goes wrong there never reaches the loop: the thread rests, connects again, and announces
everything again. What it publishes is a picture of the present, not a record: alerts that must arrive go to the sinks.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress

from streamae.condition import Condition
from streamae.config import Settings
from streamae.core.pipeline import QUARANTINED
from streamae.daemon.clock import Clock
from streamae.daemon.heartbeat import Heartbeat
from streamae.errors import UnavailableError
from streamae.failure import place_of
from streamae.metrics import Metrics
from streamae.mqtt import Publisher, transient
from streamae.sinks.homeassistant import Discovery, DiscoveryMessage
from streamae.sinks.homeassistant_device import DeviceStreams, InstanceState
from streamae.web.view import Snapshot, StreamTable

__all__ = ["HomeAssistantThread"]

log = logging.getLogger(__name__)
_TICK_S = 1.0
_CONNECTING_S, _ANSWERING_S = 60.0, 75.0  # what the publisher may take for it at most
_REST_S, _REST_MAX_S = 1.0, 60.0
_HEARD_MAX = 20_000
_BIRTH = b"online"
_FORGED_S = 600.0  # without a forgery: nobody writes our topics any more


class HomeAssistantThread:
    """Publishes to one Home Assistant; without `terms` there is no thread, and every call does nothing."""

    def __init__(self, settings: Settings, snapshot: Callable[[], Snapshot], clock: Clock) -> None:
        self.terms = settings.discovery
        self._snapshot, self._clock = snapshot, clock
        self._stopping, self._withdrawing = threading.Event(), False
        self._heard: deque[tuple[str, bytes, bool]] = deque(maxlen=_HEARD_MAX)
        self._sent = self._counted = 0
        self._left_out = Condition("home_assistant", "devices", "Home Assistant has no place for all", clock.now, log)
        self._telling = Condition("home_assistant", "broker", "Home Assistant hears nothing", clock.now, log)
        what = "somebody else writes what Home Assistant reads of us"
        self._forged = Condition("home_assistant", "topics", what, clock.now, log)
        self._repaired_s = float("-inf")
        self.conditions = (self._telling, self._left_out, self._forged) if self.terms is not None else ()
        if self.terms is not None:
            self._discovery = Discovery(self.terms)
            self._publisher = Publisher(
                transient(settings.connection, "homeassistant"),
                in_flight_max=64,
                watch=(self.terms.status_topic, *self.terms.ours),
                watched=lambda *heard: self._heard.append(heard),
            )
            self._heartbeat = Heartbeat("home-assistant", clock.monotonic)
            self._thread = threading.Thread(target=self._serve, name="home-assistant", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        if self.terms is not None:
            self._thread.start()

    def faults(self) -> list[str]:
        """Return, in words, whether the thread ended without being asked to, or hangs."""
        if self.terms is None or self._stopping.is_set():
            return []
        return self._heartbeat.faults() if self._thread.is_alive() else [f"thread {self._thread.name} is dead"]

    def stop(self, timeout_s: float, *, withdraw: bool = False) -> None:
        """End the thread within `timeout_s`; with `withdraw` the devices go from Home Assistant first."""
        if self.terms is None:
            return
        self._withdrawing = withdraw
        self._stopping.set()
        self._thread.join(timeout_s)

    def observe(self, metrics: Metrics) -> None:
        """Bring the metrics up to date; called by the loop."""
        sent = self._sent
        metrics.gauge("home_assistant_devices", self._discovery.devices if self.terms else 0)
        metrics.gauge("home_assistant_streams_left_out", self._discovery.left_out if self.terms else 0)
        metrics.count("home_assistant_messages", sent - self._counted)
        self._counted = sent

    def _serve(self) -> None:
        rest_s = _REST_S
        while not self._stopping.is_set():
            self._heartbeat.beat(_CONNECTING_S)
            try:
                self._publisher.open()
                rest_s = _REST_S
                self._tell_until_stopped()
            except UnavailableError as error:
                self._telling.failed(str(error))
            except Exception as error:  # of paho, or a fault of ours: it never ends the daemon
                self._telling.failed(f"failed ({place_of(error)})")
            finally:
                with suppress(OSError, UnavailableError, ValueError):
                    self._publisher.close(wait=False)
            self._heartbeat.beat(rest_s)
            self._stopping.wait(rest_s * (0.5 + 0.5 * self._clock.jitter()))
            rest_s = min(2 * rest_s, _REST_MAX_S)

    def _tell_until_stopped(self) -> None:
        connects = 0
        while not self._stopping.is_set():
            if self._publisher.connects != connects:
                connects = self._publisher.connects
                self._discovery.announce()
            self._hear()
            now = self._snapshot()
            tables = {name: _streams(table) for name, table in now.tables.items()}
            if tables:
                self._publish(self._discovery.step(tables, self._clock.monotonic(), _instance(now)))
                self._repair()
                self._look_who_is_left_out()
            self._telling.works()
            self._heartbeat.beat()
            self._stopping.wait(_TICK_S)
        if self._withdrawing:
            self._publish(self._discovery.withdraw())

    def _hear(self) -> None:
        while self._heard:
            topic, payload, retained = self._heard.popleft()
            assert self.terms is not None
            if topic == self.terms.status_topic:
                if payload == _BIRTH:
                    log.info("Home Assistant has started: announcing %d devices", self._discovery.devices)
                    self._discovery.announce()
            else:
                self._discovery.heard(topic, payload, retained=retained)

    def _repair(self) -> None:
        """Write what others wrote over; it is a condition until nobody has for a while."""
        now_s = self._clock.monotonic()
        if repairs := self._discovery.repairs(now_s):
            self._repaired_s = now_s
            self._publish(repairs)
            topics = ", ".join(one.topic for one in repairs[:3])
            self._forged.failed(f"{topics}: written again; deny it by the broker's access list")
        elif now_s - self._repaired_s > _FORGED_S:
            self._forged.works()

    def _publish(self, messages: list[DiscoveryMessage]) -> None:
        if messages:
            self._heartbeat.beat(_ANSWERING_S)
        for message in messages:
            self._publisher.publish(message.topic, message.payload, qos=1, retain=True)
        if messages:
            self._publisher.flush(10.0)
            self._sent += len(messages)

    def _look_who_is_left_out(self) -> None:
        devices, left_out = self._discovery.devices, self._discovery.left_out
        advice = f"{devices} streams are devices there, others are left out; raise home_assistant.max_devices"
        self._left_out.observe(advice if left_out else "", left_out)


def _instance(now: Snapshot) -> InstanceState:
    """What is wrong with the installation, without what comes from this thread itself, and with its groups."""
    failing = [f"{one['what']}: {one['reason']}" for one in now.conditions if one["kind"] != "home_assistant"]
    groups = [f"{name}: {mark}" for name, table in now.tables.items() for mark in table.group_marks]
    return InstanceState(int(now.status.get("firing", 0)), (*failing, *groups))


def _streams(table: StreamTable) -> DeviceStreams:
    return DeviceStreams(
        table.names,
        table.channels,
        table.score,
        table.threshold,
        table.state,
        table.worst,
        table.time_s,
        table.learned,
        range(len(table.names)) if table.broken else {i for i, marks in table.marks.items() if QUARANTINED in marks},
        table.troubles,
    )
