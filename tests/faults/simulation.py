"""The deterministic simulator: loop, store, pipeline, source and delivery are the real ones; all around them is a seed.

A broker session (queue, in-flight window, packet ids that are soon used again, redelivery with DUP, sessions that are
lost), a network that drops acknowledgements, a store that cannot write for a while, a sink that refuses or vanishes,
time, and crashes between take, step, commit, acknowledgement and sink are all drawn from one random number generator.
When the trouble is over, everything published must be accounted for, and what the sink was given must be what the
pure core says of the journal.

Most seeds are light: snapshots travel as pickles instead of archives, and reads share the writer's connection. One seed
in ten is not; it goes through the product's own encoding and connections.

`bug` plants a mistake, each of which a simulator worth its name must catch; the product knows nothing of them.
"""

import pickle
import random
import sqlite3
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from streamae.core.alert import AlertRule
from streamae.core.groups import Groups
from streamae.core.report import Report, Transition
from streamae.core.types import Batch
from streamae.daemon.loop import Loop
from streamae.daemon.recover import recover
from streamae.errors import StoreError
from streamae.ingest.mqtt import MqttSource, ReceiveLimits
from streamae.ingest.source import Accepted
from streamae.mqtt import ConnectionOptions, SessionState, Subscription
from streamae.sinks.delivery import Delivery
from streamae.sinks.sink import SinkUnavailableError
from streamae.store.alerts import decode_transition
from streamae.store.journal import JournalLimits, read_rows
from streamae.store.store import Store, StoreLimits
from tests import plants
from tests.faults import plant

PUMPS = ("p0", "p1", "p2")
WINDOW = 5  # messages in flight
START_S = 1_700_000_000.0
# `verify` reads the whole journal; an older message than the window holds cannot be redelivered.
KEEP_ALL = StoreLimits(journal=JournalLimits(max_age_s=float("inf")), in_flight_max=WINDOW)
LOSES_SESSION, ENDS, CLOCK = 0.015, 0.03, 0.015  # of all actions


class CrashError(BaseException):
    """The process ends here, as with kill -9."""


class ViolationError(AssertionError):
    """A promise was broken."""


@dataclass(frozen=True, slots=True)
class Message:
    """One publication; equal content may be published twice."""

    topic: bytes
    payload: bytes


class Broker:
    """One persistent session at a broker, QoS 1, with few packet ids."""

    def __init__(self) -> None:
        self.queue: deque[Message] = deque()
        self.flight: dict[int, Message] = {}
        self.lost: Counter[Message] = Counter()
        self.published: list[Message] = []
        self.acknowledged: Counter[Message] = Counter()
        self.losses = 0  # sessions lost, of those that the client does not know of
        self.known = False
        self.connected = False
        self._next = 0

    def publish(self, message: Message) -> None:
        self.published.append(message)
        self.queue.append(message)

    def connect(self) -> bool:
        """Return session present."""
        present, self.known, self.connected = self.known, True, True
        return present

    def forget(self) -> None:
        """Restart without memory: the session and all that it held is lost."""
        self.lost.update([*self.flight.values(), *self.queue])
        self.queue.clear()
        self.flight.clear()
        self.losses += self.known
        self.known = self.connected = False
        self._next = 0

    def send(self) -> tuple[int, Message] | None:
        if not self.connected or not self.queue or len(self.flight) >= WINDOW:
            return None
        while (mid := self._next % (WINDOW + 2) + 1) in self.flight:
            self._next += 1
        self._next += 1
        self.flight[mid] = self.queue.popleft()
        return mid, self.flight[mid]

    def ack(self, mid: int) -> Message | None:
        message = self.flight.pop(mid, None)
        if message:
            self.acknowledged[message] += 1
        return message


class SimSession:
    """What `MqttSource` sees of a session: its state, and the acknowledgements on their way."""

    alive = True

    def __init__(self, expect_session: bool, bug: str) -> None:
        self.connection = SimpleNamespace(receive_maximum=WINDOW)
        self.state = SessionState()
        self.acks: deque[tuple[int, int]] = deque()
        self._expects, self._bug = expect_session, bug

    def connected(self, present: bool) -> None:
        lost = not present and (self._expects or self.state.connects > 0) and self._bug != "loss_not_counted"
        self.state = replace(
            self.state, connected=True, subscribed=True, epoch=self.state.epoch + 1,
            connects=self.state.connects + 1, fresh_epochs=self.state.with_fresh(present),
            sessions_lost=self.state.sessions_lost + lost, session_present=present,
        )  # fmt: skip

    def disconnected(self) -> None:
        self.state = replace(self.state, connected=False, subscribed=False)

    def acknowledge(self, epoch: int, mids: Sequence[int]) -> None:
        self.acks += [(epoch, mid) for mid in mids]

    def take_acks(self) -> list[int]:
        """Packet ids to send now, over the connection that they came from and no other."""
        found = [mid for e, mid in self.acks if e == self.state.epoch or self._bug == "ack_without_epoch"]
        self.acks.clear()
        return found if self.state.connected else []

    def start(self) -> None:
        return

    def close(self) -> None:
        return


class Metrics:
    """Counts what the loop says; nothing is rendered."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def count(self, name: str, by: float = 1, *_: str) -> None:
        self.counts[name] += int(by)

    def gauge(self, *_: object) -> None:
        return

    observe = gauge


class Sink:
    """Takes transitions, refuses some, and of some never says that it took them."""

    name, batch_max, refresh_s = "sink", 3, None

    def __init__(self, world: "World") -> None:
        self._world = world

    def send(self, transitions: Sequence[Transition]) -> None:
        world = self._world
        if world.trouble and world.random.random() < 0.3:
            world.happened["sink refuses"] += 1
            raise SinkUnavailableError("503")
        world.delivered += transitions
        if world.trouble and world.random.random() < 0.2:
            world.happened["sink takes and hangs up"] += 1
            raise SinkUnavailableError("hung up")
        world.point("delivered")

    def close(self) -> None:
        return


class SimStore(Store):
    """The real store, which now and then cannot write; some planted mistakes are its own."""

    world: "World"

    def commit(self, batch: Batch, report: Report, now_s: float, snapshot: bytes | None = None) -> None:
        world = self.world
        world.point("before commit")
        if world.store_fails > 0:
            world.store_fails -= 1
            if world.bug == "commit_error_ignored":
                return
            raise StoreError("the disk is full")
        if world.bug == "snapshot_before_step" and snapshot is not None:
            snapshot = world.snapshot_before
        super().commit(batch, report, now_s, snapshot)
        world.committed.update(Message(t, p) for t, p in zip(batch.topics, batch.payloads, strict=True))
        world.point("after commit")

    def seen(self, batch: Batch) -> Any:
        bug = self.world.bug
        if bug == "blind_to_redelivery":
            return np.zeros(len(batch), np.bool_)
        if bug == "redelivery_by_mid_only":
            return batch.dup & (self._taken._hash[batch.mid] != 0)
        return super().seen(batch)

    def forget_session(self) -> None:
        if self.world.store_fails > 0:
            self.world.store_fails -= 1
            raise StoreError("the disk is full")
        super().forget_session()


class HastySource(MqttSource):
    """Acknowledges too early."""

    bug = ""

    def take(self, limit: int, timeout_s: float) -> Accepted:
        accepted = super().take(limit, timeout_s)
        if self.bug == "ack_before_commit":
            super().ack(accepted)
        return accepted

    def ack(self, accepted: Accepted) -> None:
        super().ack(accepted)
        if self.bug == "ack_of_the_inbox":
            for chunk in self._inbox._chunks:
                self._session.acknowledge(chunk.epoch, chunk.mids)


class SimPipeline(Groups):
    """The real pipeline; planted: alerts whose names are drawn or read off the clock."""

    world: "World"

    def snapshot(self) -> bytes:
        if not self.world.light:
            return super().snapshot()
        return pickle.dumps((self.arrival_s, {n: (x.streams.names, x.state()) for n, x in self.pipelines.items()}))

    def restore(self, snapshot: bytes) -> list[str]:
        if not self.world.light:
            return super().restore(snapshot)
        self.arrival_s, pipelines = pickle.loads(snapshot)
        for name, (names, state) in pipelines.items():
            self.pipelines[name].restore(names, state)
        return []

    def step(self, batch: Batch, now_s: float) -> Report:
        world = self.world
        if world.bug == "snapshot_before_step":
            world.snapshot_before = self.snapshot()
        report = super().step(batch, now_s)
        if world.bug == "random_alert_ids":
            report = replace(
                report, transitions=[replace(t, id=str(world.random.random())) for t in report.transitions]
            )
        if world.bug == "wall_clock_alert_ids":
            report = replace(report, transitions=[replace(t, id=f"{t.stream}-{now_s}") for t in report.transitions])
        return report


class SimLoop(Loop):
    """The real loop; planted: a stop that saves a state which is ahead of the store."""

    def save(self) -> None:
        if self.groups.world.bug == "saved_ahead_of_the_store":  # type: ignore[attr-defined]
            self._given_up = False
        super().save()


def groups() -> list[Any]:
    known = plants.known_stream(zero=float(np.log(4.0)), offset=float(np.log(5.0)))
    profile = plants.profile(("a",), window=3, streams=dict.fromkeys(PUMPS[:2], known), warmup_rows=6, gap_max_s=3.5)
    return [plants.group(profile=profile, alert=AlertRule(keep_firing_for_s=1.0))]


class World:
    """Everything of one seed."""

    def __init__(self, folder: Path, seed: int, bug: str = "") -> None:
        self.folder, self.bug, self.random = folder, bug, random.Random(seed)
        self.light = seed % 10 != 0
        self.now_s, self.stepped_s = START_S + 1e6, 0.0
        self.happened: Counter[str] = Counter()
        self.broker = Broker()
        self.delivered: list[Transition] = []
        self.committed: Counter[Message] = Counter()
        self.row = dict.fromkeys(PUMPS, 0)
        self.trouble, self.crashing = True, False
        self.store_fails = self.crashes = self.sessions_counted = 0
        self.snapshot_before = b""
        self.start()

    # ---- the process

    def start(self) -> None:
        SimStore.world = self
        limits = replace(KEEP_ALL, in_flight_max=65_535) if self.bug == "redelivery_never_ages" else KEEP_ALL
        self.store = SimStore.open(self.folder, "process", self.now, limits, ["sink"])
        if self.light:
            self.store._database.read = self._read  # type: ignore[method-assign]
        self.groups = SimPipeline("plant-1", groups())
        self.groups.world = self
        if self.bug == "no_fold":
            snapshot = self.store.recover().snapshot
            if snapshot is not None:
                self.groups.restore(snapshot)
        else:
            recover(self.store, self.groups)
        if self.bug == "redelivery_forgotten_at_start":
            self.store._taken.clear()
        self.session = SimSession(self.store.stats().journal_rows_last > 0, self.bug)
        self.source = self._source()
        self.metrics = Metrics()
        self.loop = SimLoop(
            self.source, self.groups, self.store, self.metrics,  # type: ignore[arg-type]
            now=self.now, arrived=self.now, monotonic=self.monotonic, sleep=self.sleep, batch_max=4,
            snapshot_every_s=2.0,
        )  # fmt: skip
        self.stopping = False
        self.loop.stopping = lambda: self.stopping
        self.delivery = Delivery(Sink(self), self.store.outbox, self.now, jitter=self.random.random)
        if self.bug in {"marked_before_sent", "dead_on_failure", "outbox_newest_first"}:
            self._spoil(self.store.outbox)

    def _source(self) -> MqttSource:
        source = HastySource(
            ConnectionOptions(host="sim", port=1, client_id="sim", receive_maximum=WINDOW), [Subscription("plant/+")],
            ReceiveLimits(batch_wait_s=0.0), now=self.now, monotonic=self.monotonic, jitter=self.random.random,
        )  # fmt: skip
        source._session.close()
        source._session = self.session  # type: ignore[assignment]
        source.bug = self.bug
        return source

    def _spoil(self, outbox: Any) -> None:
        honest_due, database = outbox.due, self.store._database

        def newest_first(sink: str, now_s: float, limit: int) -> list[tuple[Transition, int]]:
            with database.read() as connection:
                rows = connection.execute(
                    "SELECT t.body, t.crc, o.attempts FROM outbox o JOIN transition t ON t.seq = o.seq "
                    "WHERE o.dead = 0 ORDER BY o.seq DESC LIMIT ?", (limit,),
                ).fetchall()  # fmt: skip
            return [(decode_transition(body, crc), n) for body, crc, n in rows]

        def marked(sink: str, now_s: float, limit: int) -> list[tuple[Transition, int]]:
            found: list[tuple[Transition, int]] = honest_due(sink, now_s, limit)
            outbox.sent(sink, [t.key for t, _ in found])
            return found

        def buried(sink: str, keys: Sequence[str], error: str, _: float) -> None:
            outbox.dead(sink, keys, error)

        if self.bug == "outbox_newest_first":
            outbox.due = newest_first
        elif self.bug == "marked_before_sent":
            outbox.due = marked
        else:
            outbox.failed = buried

    @contextmanager
    def _read(self) -> Iterator[sqlite3.Connection]:
        with self.store._database._explained():
            yield self.store._database._writer

    def now(self) -> float:
        return self.now_s + self.stepped_s

    def monotonic(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds
        if self.random.random() < 0.35:
            self.stopping = True  # SIGTERM comes while the disk is full

    def point(self, name: str) -> None:
        """Between any two steps that last, the process may end."""
        if self.crashing and self.random.random() < 0.3:
            self.happened[f"crash {name}"] += 1
            raise CrashError

    def kill(self) -> None:
        self.happened["crash between turns"] += 1
        self.crash()

    def crash(self) -> None:
        self.crashes += 1
        self._count_sessions()
        self.store._abandon()
        self.broker.connected = False
        self.start()

    def stop(self) -> None:
        """What `Daemon.stop` does."""
        self.happened["orderly stop"] += 1
        self.source.stop_intake()
        while self.source.status().waiting:
            if self.loop.turn(0.0) is None:
                break
        with suppress(StoreError):
            self.loop.save()
        self.flush_acks()
        self._count_sessions()
        self.store.close()
        self.broker.connected = False
        self.start()

    def _count_sessions(self) -> None:
        self.sessions_counted += self.session.state.sessions_lost

    def begin(self) -> None:
        """Something is committed before the trouble starts: a session is expected only where there was one."""
        self.connect()
        for _ in range(4):
            self.publish()
            self.receive()
            self.turn()

    # ---- what may happen

    def publish(self) -> None:
        for _ in range(self.random.randint(1, 6)):
            pump = self.random.choice(PUMPS)
            if self.random.random() > 0.15 or not self.row[pump]:
                self.row[pump] += 1 if self.random.random() > 0.05 else 5
            value = 100.0 if (self.row[pump] + PUMPS.index(pump)) % 6 == 0 else 0.1
            text = f'{{"t": {START_S + self.row[pump]}, "a": {value}}}'
            self.broker.publish(Message(f"plant/{pump}".encode(), text.encode()))

    def connect(self) -> None:
        if self.broker.connected:
            return
        present = self.broker.connect()
        self.session.connected(present)
        for mid, message in self.broker.flight.items():
            self.happened["redelivery"] += 1
            self._deliver(mid, message, dup=True)

    def _deliver(self, mid: int, message: Message, *, dup: bool) -> None:
        flags = 2 | (8 if dup else 0)
        self.source._deliver(self.session.state.epoch, (message.topic,), (message.payload,), (flags,), (mid,))

    def receive(self) -> None:
        for _ in range(self.random.randint(1, 5)):
            if sent := self.broker.send():
                self._deliver(sent[0], sent[1], dup=False)

    def flush_acks(self) -> None:
        mids = self.session.take_acks()
        arrive = len(mids) if not self.trouble or self.random.random() < 0.8 else self.random.randint(0, len(mids))
        for mid in mids[:arrive] if self.broker.connected else []:
            message = self.broker.ack(mid)
            if message and self.broker.acknowledged[message] > self.committed[message]:
                raise ViolationError(f"acknowledged, but not committed: {message}")
        if arrive < len(mids):
            self.happened["acknowledgements lost"] += 1
            self.disconnect()

    def disconnect(self) -> None:
        self.broker.connected = False
        self.session.disconnected()

    def lose_session(self) -> None:
        self.happened["session lost"] += self.broker.known
        self.disconnect()
        self.broker.forget()

    def turn(self) -> None:
        self.loop.turn(0.0)

    def tell(self) -> None:
        try:
            self.delivery.deliver_due()
        except StoreError:
            return

    def wait(self) -> None:
        self.now_s += self.random.choice((0.1, 1.0, 10.0))

    def step_clock(self) -> None:
        """A day back, ten years forward, or right again."""
        self.happened["clock step"] += 1
        self.stepped_s = self.random.choice((0.0, -86400.0, 3.2e8))

    def drop_connection(self) -> None:
        self.happened["connection lost"] += self.broker.connected
        self.disconnect()

    def full_disk(self) -> None:
        self.happened["disk full"] += 1
        self.store_fails = self.random.randint(1, 3)

    def act(self) -> None:
        """One thing happens; a crash ends whatever it was in the middle of."""
        weighted: list[tuple[int, Callable[[], None]]] = [
            (6, self.publish), (8, self.receive), (8, self.turn), (6, self.flush_acks), (9, self.tell),
            (6, self.connect),
            (3, self.wait), (1, self.drop_connection), (1, self.full_disk),
        ]  # fmt: skip
        drawn = self.random.random()
        if drawn < LOSES_SESSION:
            weighted = [(1, self.lose_session)]
        elif drawn < LOSES_SESSION + ENDS:
            weighted = [(1, self.kill), (1, self.stop)]
        elif drawn < LOSES_SESSION + ENDS + CLOCK:
            weighted = [(1, self.step_clock)]
        self.crashing = self.random.random() < 0.2
        weights, actions = zip(*weighted, strict=True)
        try:
            self.random.choices(actions, weights)[0]()
        except CrashError:
            self.crash()
        if self.stopping:
            self.crashing = False
            self.stop()

    # ---- the end

    def settle(self) -> None:
        """The trouble is over: everything is committed and delivered."""
        self.trouble, self.crashing, self.store_fails, self.stepped_s = False, False, 0, 0.0
        for _ in range(400):
            self.connect()
            for _ in range(4):
                self.receive()
            self.turn()
            self.flush_acks()
            self.now_s += 400.0 if not self.broker.queue else 0.5
            self.tell()
            if not self.broker.queue and not self.broker.flight and not self.store.outbox.stats()["sink"].pending:
                break

    def verify(self) -> None:
        """Raise ViolationError where a promise is broken."""
        with closing(sqlite3.connect(self.folder / "state.db")) as connection:
            rows = [(batch, now_s) for _, batch, now_s in read_rows(connection, 0)]
        journal = [Message(t, p) for batch, _ in rows for t, p in zip(batch.topics, batch.payloads, strict=True)]
        _accounted(self.broker, journal)
        if self.sessions_counted + self.session.state.sessions_lost != self.broker.losses:
            raise ViolationError("a lost session was not counted, or one that was not lost")
        oracle = Groups("plant-1", groups())
        expected = {t.key: t for batch, now_s in rows for t in oracle.step(batch, now_s).transitions}
        _delivered(expected, self.delivered)
        if wrong := plant.differences(self.groups, oracle):
            raise ViolationError(f"the state is not the fold of the journal: {wrong}")
        self.crash()
        if wrong := plant.differences(self.groups, oracle):
            raise ViolationError(f"the state after a restart is not the fold of the journal: {wrong}")


def _accounted(broker: Broker, journal: Sequence[Message]) -> None:
    published, kept = Counter(broker.published), Counter(journal)
    if kept - published:
        raise ViolationError(f"twice in the journal: {kept - published}")
    if (published - kept) - broker.lost:
        raise ViolationError(f"lost: {(published - kept) - broker.lost}")
    for topic in {m.topic for m in broker.published}:
        rest = iter([m for m in broker.published if m.topic == topic])
        if not all(m in rest for m in journal if m.topic == topic):
            raise ViolationError(f"out of order: {topic!r}")


def _delivered(expected: dict[str, Transition], given: Sequence[Transition]) -> None:
    got = {t.key for t in given}
    if missing := expected.keys() - got:
        raise ViolationError(f"alerts lost: {missing}")
    if extra := got - expected.keys():
        raise ViolationError(f"alerts nobody expected: {extra}")
    newest: dict[str, int] = {}
    for transition in given:
        if expected[transition.key] != transition:
            raise ViolationError(f"delivered otherwise than it was: {transition}")
        if transition.sequence > newest.get(transition.id, -1) + 1:
            raise ViolationError(f"delivered out of order: {transition.key}")
        newest[transition.id] = max(transition.sequence, newest.get(transition.id, -1))


def simulate(folder: Path, seed: int, bug: str = "", actions: int = 40) -> World:
    """Run one seed; raises ViolationError, or returns the world as it ended."""
    folder.mkdir(parents=True)
    world = World(folder, seed, bug)
    try:
        world.begin()
        for _ in range(actions):
            world.act()
        world.settle()
        world.verify()
    finally:
        world.store._abandon()
    return world


BUGS = (
    "ack_before_commit", "ack_without_epoch", "ack_of_the_inbox", "commit_error_ignored", "blind_to_redelivery",
    "redelivery_by_mid_only", "redelivery_never_ages", "redelivery_forgotten_at_start", "loss_not_counted",
    "snapshot_before_step", "saved_ahead_of_the_store", "no_fold", "marked_before_sent", "dead_on_failure",
    "outbox_newest_first", "random_alert_ids", "wall_clock_alert_ids",
)  # fmt: skip
