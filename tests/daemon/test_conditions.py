"""What needs a person reaches the log, the page and the metrics; one contract for all sinks, then the siblings.

The log has it once when it begins, when the reason changes, rarely while it lasts, and once at the end. No secret.
"""

import json
import logging
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from starlette.testclient import TestClient

from streamae.condition import BURST, Condition, Kind
from streamae.config import Settings, load
from streamae.core.groups import Groups
from streamae.daemon.clock import Clock as RealClock
from streamae.daemon.conditions import Conditions
from streamae.daemon.homeassistant import HomeAssistantThread
from streamae.daemon.loop import Loop
from streamae.daemon.page.view import DaemonView
from streamae.daemon.recover import recover
from streamae.daemon.sink_threads import SinkThreads
from streamae.errors import StoreError
from streamae.ingest.mqtt import MqttSource, ReceiveLimits
from streamae.ingest.source import SourceStatus
from streamae.metrics import Metrics
from streamae.mqtt import ConnectionOptions, Subscription
from streamae.sinks import SINKS
from streamae.store.dedup import digest_of
from streamae.store.outbox import OutboxLimits
from streamae.store.store import Store, StoreLimits
from streamae.web.app import API, Snapshot, create_app
from streamae.web.openapi import openapi
from tests import plants
from tests.brokers import Mosquitto, free_port, wait_until
from tests.daemon.test_page_view import DEADLY
from tests.metrics.test_metrics import values
from tests.services import ROOT
from tests.sinks.test_sinks import Receiver
from tests.store_world import Clock, batch, numbered, opened, report, transition

RULES = ROOT / "deploy" / "prometheus" / "rules" / "streamae.rules.yml"
SECRET = "s3cret-of-ours"
STREAMS = """\
instance: plant-1
mqtt: {host: 127.0.0.1, port: PORT}
streams:
  pumps:
    topics: [{topic: "plant/{pump}", payload: json}]
    stream: "{pump}"
    model: {path: model.pt, sha256: DIGEST}
"""


class Impatient(RealClock):
    """A clock by which a rest between two attempts is as short as it may be."""

    def jitter(self) -> float:
        return 0.0


class Lines(logging.Handler):
    """What `streamae` logs, as text."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(self.format(record))

    def of(self, words: str) -> list[str]:
        return [text for text in self.texts if words in text]


@pytest.fixture
def lines() -> Iterator[Lines]:
    lines, root = Lines(), logging.getLogger("streamae")
    before, root.level = root.level, logging.DEBUG
    root.addHandler(lines)
    yield lines
    root.removeHandler(lines)
    root.setLevel(before)


def settings_of(folder: Path, text: str, port: int = 1) -> Settings:
    streams = STREAMS.replace("PORT", str(port)).replace("DIGEST", "0" * 64)
    (folder / "streamae.yaml").write_text(streams + text)
    (folder / "model.pt").touch()
    (folder / "token").write_text(f"Bearer {SECRET}")
    return load(folder / "streamae.yaml")


# ---- one condition


@dataclass
class Watched:
    """A condition by a clock of the test's, and what its log says."""

    clock: Clock
    lines: Lines
    condition: Condition


@pytest.fixture
def watched() -> Watched:
    clock, lines, log = Clock(), Lines(), logging.Logger("test")
    log.addHandler(lines)
    return Watched(clock, lines, Condition("sink", "ops", "sink ops delivers nothing", clock, log))


def test_begin_change_and_end_are_logged_once_each(watched: Watched) -> None:
    """However often it fails in between; and what stands has its first time, its last reason and the number."""
    began_s = watched.clock.now_s
    for reason in ("401", "401", "401", "503", "503"):
        watched.condition.failed(reason)
        watched.clock.now_s += 10
    standing = watched.condition.failing
    assert standing is not None
    assert (standing.since_s, standing.reason, standing.failures) == (began_s, "503", 5)
    watched.condition.works()
    watched.condition.works()
    assert watched.condition.failing is None
    assert watched.lines.texts == [
        "sink ops delivers nothing: 401",
        "still, for 30 s and 4 failures: sink ops delivers nothing: 503",
        "over, after 50 s and 5 failures: sink ops delivers nothing",
    ]


def test_the_log_has_a_change_before_anybody_sees_it() -> None:
    """Whoever finds on the page that it fails, or works again, finds the line in the log."""
    seen: list[tuple[str, bool]] = []

    class Looks(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            seen.append((record.getMessage(), condition.failing is not None))

    log = logging.Logger("test")
    log.addHandler(Looks())
    condition = Condition("sink", "ops", "sink ops delivers nothing", Clock(), log)
    condition.failed("401")
    condition.works()
    assert seen == [
        ("sink ops delivers nothing: 401", False),
        ("over, after 0 s: sink ops delivers nothing", True),
    ]


def test_while_it_lasts_the_log_is_reminded_once_an_hour(watched: Watched) -> None:
    """A day of attempts, one each five minutes: the begin, and a line an hour."""
    for _ in range(24 * 12):
        watched.condition.failed("401")
        watched.clock.now_s += 300
    assert len(watched.lines.texts) == 24
    assert watched.lines.texts[-1] == "still, for 23 h and 277 failures: sink ops delivers nothing: 401"


def test_what_comes_and_goes_cannot_flood_the_log_and_its_last_word_is_true(watched: Watched) -> None:
    """A hundred times within a minute: a burst of begins, each with its end; what then lasts is said in a minute."""
    for number in range(100):
        watched.condition.failed(f"reason {number}")
        watched.condition.works()
        watched.clock.now_s += 0.5
    begins, ends = watched.lines.of("reason"), watched.lines.of("over")
    assert len(begins) == len(ends) == BURST
    for _ in range(70):
        watched.condition.failed("for good")
        watched.clock.now_s += 1
    assert len(watched.lines.of("for good")) == 1


def test_a_condition_that_is_looked_at_counts_what_it_is_notified(watched: Watched) -> None:
    """The same reason again is the same trouble; an empty one is its end, and one that never was has none."""
    for reason, number in (("", 0), ("two are dead", 2), ("two are dead", 2), ("two are dead", 3), ("", 0), ("", 0)):
        watched.condition.observe(reason, number)
        watched.clock.now_s += 1
    assert watched.lines.texts == [
        "sink ops delivers nothing: two are dead",
        "over, after 3 s and 3 failures: sink ops delivers nothing",
    ]


def test_a_clock_that_steps_back_neither_floods_nor_shows_a_negative_time(watched: Watched) -> None:
    """By a year in the middle of it: one more line, no time below zero, and what changes then is reported as ever."""
    watched.condition.failed("401")
    watched.clock.now_s -= 3e7
    for _ in range(10):
        watched.condition.failed("401")
    watched.condition.failed("503")
    watched.condition.works()
    first, again, other, over = watched.lines.texts
    assert (first[-3:], again[-3:], other[-3:], over[:4]) == ("401", "401", "503", "over")
    assert not re.search(r"-\d", "".join(watched.lines.texts))


# ---- the daemon's rooms, without its process


class World:
    """Store, sink threads, metrics, view and web, as the daemon wires them; `look` is what it does once a second."""

    def __init__(self, folder: Path, settings: Settings, limits: StoreLimits | None = None) -> None:
        self.clock = Impatient()
        names = [sink.name for sink in settings.sinks]
        self.settings, self.store = settings, Store.open(folder / "state", "process", self.clock.now, limits, names)
        self.source = SourceStatus(connected=True, subscribed=True)
        self.metrics = Metrics(self.clock.now)
        groups = Groups("plant-1", [plants.group()])
        self.loop = Loop(
            self, groups, self.store, self.metrics,  # type: ignore[arg-type]
            now=self.clock.now, arrived=self.clock.now, monotonic=self.clock.monotonic, sleep=lambda _: None,
        )  # fmt: skip
        self.sink_threads = SinkThreads(settings, self.store.outbox, self.clock)
        self.view = DaemonView(
            self.loop, self.store, self.metrics, now=self.clock.now, monotonic=self.clock.monotonic, silent_after_s=60.0
        )
        self.conditions = Conditions("127.0.0.1:1", self.clock.now)
        self.conditions.rooms = lambda: (
            *self.loop.conditions, *self.metrics.conditions, *self.sink_threads.conditions,
        )  # fmt: skip
        self.view.conditions = lambda: self.conditions.all
        self.web = TestClient(create_app(self.view), base_url="http://127.0.0.1")

    def status(self) -> SourceStatus:
        return self.source

    def look(self) -> dict[str, Any]:
        """Do what is due once a second; return /api/v1/status."""
        self.sink_threads.observe(self.metrics)
        self.conditions.observe(self.loop.groups.pipelines, self.source, self.store)
        self.view.publish(self.sink_threads.state())
        answer: dict[str, Any] = self.web.get("/api/v1/status").json()
        return answer

    def failing(self) -> dict[str, dict[str, Any]]:
        """What the page shows, by kind and name."""
        return {f"{one['kind']} {one['name']}": one for one in self.look()["conditions"]}

    def metric(self, kind: str, name: str) -> float | None:
        self.view.metrics()  # a scrape
        return values(self.metrics).get(f'streamae_condition_failing{{kind="{kind}",name="{name}"}}')

    def close(self) -> None:
        if not any("is dead" in fault for fault in self.sink_threads.faults()):  # those that were never started
            self.sink_threads.stop(30.0)
        self.store.close()


@pytest.fixture
def make_world(tmp_path: Path) -> Iterator[Callable[..., World]]:
    made: list[World] = []

    def make(text: str, port: int = 1, limits: StoreLimits | None = None) -> World:
        made.append(World(tmp_path, settings_of(tmp_path, text, port), limits))
        return made[-1]

    yield make
    for world in made:
        world.close()


# ---- all sinks


@dataclass
class Case:
    """A sink named `ops`: its settings, how its receiver fails, fails otherwise (None: it cannot), and is restored."""

    text: str
    cut: Callable[[], object]
    worsen: Callable[[], object] | None
    restore: Callable[[], object]
    reason: str
    port: int = 1


def http_case(kind: str) -> Callable[[pytest.FixtureRequest], Case]:
    def case(request: pytest.FixtureRequest) -> Case:
        receiver: Receiver = request.getfixturevalue("receiver")
        receiver.answer = f"unknown token Bearer {SECRET}".encode()

        def turn(status: int) -> Callable[[], None]:
            return lambda: setattr(receiver, "status", status)

        more = ", headers: {Authorization: file:token}"
        text = f'{{type: {kind}, name: ops, url: "{receiver.url}/hook?key={SECRET}"{more}}}'
        text = text.replace(f"/hook?key={SECRET}", "") if kind == "alertmanager" else text[:-1] + ", group_wait: 0s}"
        return Case(text, turn(401), turn(503), turn(200), "answered 401")

    return case


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.close()


def mqtt_case(request: pytest.FixtureRequest) -> Case:
    broker: Mosquitto = request.getfixturevalue("mosquitto")
    text = "{type: mqtt, name: ops, timeout: 2s}"
    return Case(text, broker.kill, None, broker.start, "refuses us", broker.port)


def apprise_case(request: pytest.FixtureRequest) -> Case:
    pytest.importorskip("apprise", reason="apprise is not installed: pip install 'streamae[notify]'")
    case = http_case("webhook")(request)
    receiver: Receiver = request.getfixturevalue("receiver")
    (request.getfixturevalue("tmp_path") / "address").write_text(f"{receiver.url.replace('http:', 'json:')}/{SECRET}")
    case.text, case.reason = "{type: apprise, name: ops, urls: [file:address], group_wait: 0s}", "error=401"
    return case


CASES = {
    "webhook": http_case("webhook"),
    "alertmanager": http_case("alertmanager"),
    "mqtt": mqtt_case,
    "apprise": apprise_case,
}
NEVER_FAIL = {"log"}


def test_every_sink_has_its_case() -> None:
    """A sink that is added to the configuration is held to the contract below."""
    assert SINKS.keys() == CASES.keys() | NEVER_FAIL


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    made: Case = CASES[request.param](request)
    return made


def test_a_sink_that_fails_is_in_the_log_on_the_page_and_in_the_metrics(
    case: Case, make_world: Callable[..., World], lines: Lines
) -> None:
    """Once when it begins, when its reason changes and when it is over; a sink beside it that works is never named."""
    world = make_world(f"sinks: [{case.text}, {{type: log, name: fine}}]\n", case.port)
    case.cut()
    world.sink_threads.start()
    world.store.publish([transition(1)], world.clock.now())
    world.sink_threads.wake()
    wait_until(lambda: world.failing().get("sink ops", {}).get("failures", 0) >= 3, 60, "three attempts")
    failing = world.failing()
    assert failing.keys() == {"sink ops"}
    assert case.reason in failing["sink ops"]["reason"]
    states = {one["name"]: one for one in world.look()["sinks"]}
    assert (states["ops"]["state"], states["ops"]["waiting"], states["fine"]["state"]) == ("failing", 1, "ok")
    assert case.reason in states["ops"]["reason"]
    assert states["ops"]["attempts"] >= 3
    assert states["ops"]["oldest_s"] <= world.clock.now()
    assert (world.metric("sink", "ops"), world.metric("sink", "fine")) == (1, 0)
    assert len(lines.of("sink ops delivers nothing")) == 1
    if case.worsen is not None:
        case.worsen()
        worse = case.reason.replace("401", "503")  # not 503 alone: a port may have these digits
        wait_until(lambda: worse in world.failing()["sink ops"]["reason"], 60, "the other reason")
        assert len(lines.of("sink ops delivers nothing")) == 2
    case.restore()
    wait_until(lambda: not world.failing(), 60, "it works again")
    states = {one["name"]: one for one in world.look()["sinks"]}
    assert (states["ops"]["state"], states["ops"]["waiting"], states["ops"]["reason"]) == ("ok", 0, None)
    assert world.metric("sink", "ops") == 0
    assert len(lines.of("over, after")) == 1
    assert not lines.of("sink fine")
    assert SECRET not in "\n".join(lines.texts) + json.dumps(failing)


def test_a_sink_that_works_is_silent(make_world: Callable[..., World], receiver: Receiver, lines: Lines) -> None:
    """The control: what is delivered leaves no line, nothing on the page, and a zero."""
    world = make_world(f'sinks: [{{type: webhook, name: ops, url: "{receiver.url}/hook", group_wait: 0s}}]\n')
    world.sink_threads.start()
    world.store.publish([transition(1)], world.clock.now())
    world.sink_threads.wake()
    wait_until(lambda: world.look()["sinks"][0]["waiting"] == 0 and receiver.requests, 60, "delivered")
    assert world.failing() == {}
    assert world.metric("sink", "ops") == 0
    assert lines.texts == []


def test_what_a_sink_refused_for_good_is_notified_until_nothing_of_it_is_left(
    make_world: Callable[..., World], receiver: Receiver, lines: Lines
) -> None:
    """The answer and how many; also after a restart, when nobody remembers the answer but the store."""
    text = f'sinks: [{{type: webhook, name: ops, url: "{receiver.url}/hook", group_wait: 0s}}]\n'
    world = make_world(text)
    receiver.status, receiver.answer = 422, b"no such field"
    world.sink_threads.start()
    world.store.publish([transition(1), transition(2)], world.clock.now())
    world.sink_threads.wake()
    wait_until(lambda: world.failing().get("dead_letters ops", {}).get("failures") == 2, 60, "both are dead")
    assert "answered 422 (no such field)" in world.failing()["dead_letters ops"]["reason"]
    assert world.metric("dead_letters", "ops") == 1
    assert "sink ops" not in world.failing(), "it answers: the sink itself works"
    assert len(lines.of("sink ops refused alerts for good")) == 1
    world.sink_threads.stop(5.0)
    world.sink_threads = SinkThreads(world.settings, world.store.outbox, world.clock, world.sink_threads.counted)
    assert "answered 422" in world.failing()["dead_letters ops"]["reason"]
    receiver.status = 200
    world.sink_threads.start()
    assert world.view.retry("ops")
    world.sink_threads.wake()
    wait_until(lambda: not world.failing(), 60, "delivered at last")
    assert len(lines.of("over")) == 1


def test_a_full_outbox_is_notified_while_it_sheds(make_world: Callable[..., World], lines: Lines) -> None:
    """Each look at which more was evicted; over when it empties."""
    limits = StoreLimits(outbox=OutboxLimits(pending_max=2))
    world = make_world("sinks: [{type: log, name: ops}]\n", limits=limits)
    world.store.publish([transition(n) for n in range(2)], world.clock.now())
    assert world.failing() == {}
    world.store.publish([transition(n) for n in range(2, 5)], world.clock.now())
    assert world.failing()["outbox ops"]["failures"] == 3
    assert world.metric("outbox", "ops") == 1
    world.sink_threads.start()
    wait_until(lambda: not world.failing(), 60, "it empties")
    assert len(lines.of("outbox of sink ops is full")) == 2


def test_a_sink_that_waits_for_the_store_is_notified(make_world: Callable[..., World], lines: Lines) -> None:
    """Its thread tries once a second, and the log has the begin and the end."""
    world = make_world("sinks: [{type: log, name: ops}]\n")
    due, tries = world.store.outbox.due, []

    def full(*_: object) -> None:
        tries.append(1)
        raise StoreError("the disk is full")

    world.store.outbox.due = full  # type: ignore[method-assign,assignment]
    world.sink_threads.start()
    wait_until(lambda: len(tries) >= 3, 60, "three tries")
    assert world.failing()["store sink ops"]["reason"] == "the disk is full"
    world.store.outbox.due = due  # type: ignore[method-assign]
    world.sink_threads.wake()
    wait_until(lambda: not world.failing(), 60, "the disk has room")
    assert len(lines.of("sink ops waits for the store")) == 2


def test_a_reload_counts_nothing_twice_and_ends_what_is_gone(make_world: Callable[..., World]) -> None:
    """New sink threads go on from the counts of the old ones; a sink that is gone has neither gauge nor condition."""
    world = make_world("sinks: [{type: log, name: ops}, {type: log, name: gone}]\n")
    world.sink_threads.start()
    world.store.publish([transition(1)], world.clock.now())
    world.sink_threads.wake()
    wait_until(lambda: not any(sink["waiting"] for sink in world.look()["sinks"]), 60, "delivered")
    delivered = 'streamae_sink_deliveries_total{outcome="sent",sink="ops"}'
    assert values(world.metrics)[delivered] == 1
    world.sink_threads.stop(5.0)
    kept = world.settings.model_copy(update={"sinks": world.settings.sinks[:1]})
    world.store.outbox.register(["ops"])
    world.metrics.drop_sink("gone")
    world.sink_threads = SinkThreads(kept, world.store.outbox, world.clock, world.sink_threads.counted)
    world.look()
    found = values(world.metrics)
    assert found[delivered] == 1
    assert world.metric("sink", "gone") is None
    assert not [
        name for name in found if name.startswith("streamae_outbox_") and "gone" in name and "_total" not in name
    ]


# ---- the siblings


class Stumbling:
    """A store whose commits fail while `reason` says why."""

    def __init__(self, store: Store) -> None:
        self._store, self.reasons = store, ["the disk is full"] * 3 + ["the file system is read-only"] * 3

    def __getattr__(self, name: str) -> Any:
        if name == "commit" and self.reasons:
            raise StoreError(self.reasons.pop(0))
        return getattr(self._store, name)


def test_a_store_that_cannot_be_written_says_why_while_the_loop_waits(
    make_world: Callable[..., World], lines: Lines
) -> None:
    """The page and /readyz have the reason of now, though a loop that waits publishes nothing; each is logged."""
    world = make_world("sinks: [{type: log}]\n")
    world.loop.store = Stumbling(world.store)  # type: ignore[assignment]
    seen: list[tuple[str, str]] = []

    def waiting() -> None:
        state = world.web.get("/api/v1/status").json()
        seen.append((state["conditions"][0]["reason"], state["reasons"][-1]))
        assert world.metric("store", "state") == 1

    world.loop.waiting = waiting
    world.loop._commit(batch([]), report(transition(1)), world.clock.now())
    assert [reason for reason, _ in seen] == ["the disk is full"] * 3 + ["the file system is read-only"] * 3
    assert all(reason in unready for reason, unready in seen)
    assert [len(lines.of(words)) for words in ("disk is full", "read-only", "over")] == [1, 1, 1]
    assert world.failing() == {}


def test_a_damaged_state_directory_is_notified_until_the_next_start(tmp_path: Path, lines: Lines) -> None:
    """What was set aside or passed over, and where; a sound one says nothing."""
    for damaged in (False, True):
        lines.texts.clear()
        if damaged:
            (tmp_path / "state.db").write_bytes(b"no database" * 1000)
        store, conditions = opened(tmp_path), Conditions("b:1", Clock())
        recover(store, Groups("plant-1", [plants.group()]))
        conditions.damaged(store.damage)
        assert [one.kind for one in conditions.failing()] == ["damage"] * damaged
        assert len(lines.of("set aside as state.db.damaged-")) == damaged
        store.commit(numbered(1), report(), Clock()())
        store.close()


def test_journal_rows_that_cannot_be_read_are_damage(tmp_path: Path) -> None:
    """Passed over by the fold, and reported."""
    store = opened(tmp_path)
    for number in range(3):
        store.commit(numbered(number), report(), Clock()())
    with store._database.write() as connection:
        connection.execute("UPDATE journal SET body = x'00' WHERE seq = 2")
    store.close()
    store = opened(tmp_path)
    recover(store, Groups("plant-1", [plants.group()]))
    assert any("journal row" in note for note in store.damage)
    store.close()


def test_broker_model_poison_and_reload_are_conditions(make_world: Callable[..., World], lines: Lines) -> None:
    """Each while it lasts, with its reason; a model that judges nothing is logged, the others are already."""
    world = make_world("sinks: [{type: log}]\n")
    assert world.failing() == {}
    world.source = SourceStatus(connected=True, error="subscription denied: plant/#")
    world.loop.groups.pipelines["pumps"].broken = "MemoryError: no words"
    world.store.attempts._begin(deaths=9, suspect=digest_of(DEADLY, 0), same=9)
    world.store.poison.without(DEADLY, "broker", world.clock.now())
    world.conditions.reload.failed("streamae.yaml:3:1: nonsense: got 1")
    failing = world.failing()
    assert failing.keys() == {"broker 127.0.0.1:1", "model pumps", "poison messages", "configuration reload"}
    assert failing["model pumps"]["reason"] == "MemoryError: no words"
    assert failing["broker 127.0.0.1:1"]["reason"] == "subscription denied: plant/#"
    assert [world.metric(*key.split(" ", 1)) for key in failing] == [1] * 4
    world.source = SourceStatus(connected=True, subscribed=True)
    world.loop.groups.pipelines["pumps"].broken = ""
    world.conditions.reload.works()
    assert world.failing().keys() == {"poison messages"}, "for a day"
    assert world.metric("model", "pumps") == 0
    world.loop.groups.pipelines["pumps"].broken = "again"
    assert "model pumps" in world.failing()
    world.loop.groups.pipelines.clear()
    assert "model pumps" not in world.failing(), "a reload took the group away"
    assert world.metric("model", "pumps") is None
    assert lines.texts == [
        "the model of group pumps judges nothing: MemoryError: no words",
        next(iter(lines.of("over, after"))),
        "the model of group pumps judges nothing: again",
    ]


def test_poison_is_notified_for_the_day_that_it_is_left_out(tmp_path: Path) -> None:
    """Afterwards the same bytes are tried again, and there is nothing to put right."""
    store, clock = opened(tmp_path), Clock()
    conditions = Conditions("b:1", clock)
    store.attempts._begin(deaths=9, suspect=digest_of(DEADLY, 0), same=9)
    store.poison.without(DEADLY, "broker", clock())
    for passed_s, number in ((0.0, 1), (86_000.0, 1), (1_000.0, 0)):
        clock.now_s += passed_s
        conditions.observe({}, SourceStatus(connected=True, subscribed=True), store)
        assert len(conditions.failing()) == number
    store.close()


def test_a_broker_that_waits_for_us_is_notified_when_it_does_so_most_of_the_time(tmp_path: Path) -> None:
    """A full receive window is no trouble in a burst; one that is full nearly always is, until it seldom is."""
    store, clock = opened(tmp_path), Clock()
    conditions, limited, shown = Conditions("b:1", clock), 0, []
    for seconds, full in ((600, False), (30, True), (600, False), (600, True), (100, False), (900, False)):
        for _ in range(seconds):
            clock.now_s += 1.0
            limited += full
            source = SourceStatus(connected=True, subscribed=True, window_limited=limited)
            conditions.observe({}, source, store)
        shown.append([(one.kind, one.name) for one in conditions.failing()])
    assert shown == [[], [], [], [("receive_window", "b:1")], [("receive_window", "b:1")], []]
    store.close()


def test_a_group_that_is_all_refused_is_on_the_page_and_in_the_answer_of_readyz(
    make_world: Callable[..., World], lines: Lines
) -> None:
    """It is ready, since the daemon is well; but it says so beside the word."""
    world = make_world("sinks: [{type: log}]\n")
    for pump in range(400):
        batch = plants.batch([(b"plant/p%d" % (pump % 4), b'{"flow": 1, "ts": 5}', 1.7e9 + pump)])
        world.conditions.intake.note(world.loop.groups.pipelines, world.loop.groups.step(batch, 1.7e9).groups)
    found = world.failing()["intake pumps"]
    said = "400 of 400 refused: no `a`, `b`; the payload has flow, ts"
    assert (found["what"], found["reason"]) == ("group pumps lacks values", said)
    assert world.metric("intake", "pumps") == 1.0
    assert len(lines.of(f"group pumps lacks values: {said}")) == 1
    assert world.web.get("/readyz").text.endswith(f"group pumps lacks values: {said}\n")


def test_a_collector_that_raises_is_notified_with_what_it_raised(
    make_world: Callable[..., World], lines: Lines
) -> None:
    """Once for all scrapes; the metric alone could not say which part is missing, or why."""
    world = make_world("sinks: [{type: log}]\n")

    class Broken:
        def collect(self) -> None:
            raise OSError("no /proc here")

    world.metrics._platform.append(Broken())
    for _ in range(5):
        world.metrics.render()
    assert "Broken: OSError: no /proc here" in world.failing()["metrics render"]["reason"]
    assert len(lines.of("/metrics lacks a part")) == 1
    world.metrics._platform.pop()
    world.metrics.render()
    assert world.failing() == {}


def test_a_broker_that_is_away_is_logged_once_and_its_return_too(make_mosquitto: Any, lines: Lines) -> None:
    """However often the network thread tries in between."""
    broker: Mosquitto = make_mosquitto()
    clock = Impatient()
    source = MqttSource(
        ConnectionOptions(port=broker.port, client_id="daemon"), [Subscription("plant/#")], ReceiveLimits(),
        now=clock.now, monotonic=clock.monotonic, jitter=clock.jitter,
    )  # fmt: skip
    source.start()
    try:
        wait_until(lambda: source.status().subscribed, 30)
        assert lines.of("broker") == [f"broker localhost:{broker.port}: connected by MQTT 5"]
        broker.kill()
        wait_until(lambda: source.status().failures >= 4, 60, "four attempts")
        broker.start()
        wait_until(lambda: source.status().subscribed, 60)
        what = f"nothing comes from broker localhost:{broker.port}"
        begin, change, end = lines.of(what)
        assert begin.startswith(f"{what}: connection lost")
        assert change.startswith("still, for ")
        assert end.startswith("over, after ")
        assert len(lines.of("connected by MQTT")) == 1
    finally:
        source.close()


def test_topics_that_somebody_else_writes_are_a_condition_for_some_minutes(lines: Lines) -> None:
    """Each forgery counts; over when none has come for ten minutes; a source that starts over at zero is none."""
    clock = Clock()
    conditions = Conditions("broker:1883", clock)

    def look(forged: int, after_s: float) -> bool:
        clock.now_s += after_s
        conditions._observe_forgeries(forged)
        return any(one.kind == "topics" for one in conditions.failing())

    seen = [look(0, 1.0), look(2, 1.0), look(2, 300.0), look(3, 200.0), look(3, 500.0), look(3, 200.0), look(0, 1.0)]
    assert seen == [False, True, True, True, True, False, False]
    assert len(lines.of("topics of ours are written by somebody else")) == 2  # its begin, and its end


def test_home_assistant_that_hears_nothing_is_notified(tmp_path: Path, make_mosquitto: Any, lines: Lines) -> None:
    """Its own connection: once in the log while it is tried again and again, a condition meanwhile, and its end."""
    port = free_port()
    clock = Impatient()
    there = HomeAssistantThread(settings_of(tmp_path, "home_assistant: {}\n", port), lambda: Snapshot(0.0), clock)
    there.start()
    try:
        telling = there.conditions[0]
        wait_until(lambda: telling.failing is not None and telling.failing.failures >= 3, 60, "three attempts")
        assert len(lines.of("Home Assistant hears nothing: broker")) == 1
        make_mosquitto(port=port)
        wait_until(lambda: telling.failing is None, 60, "it hears again")
        assert len(lines.of("over, after")) == 1
    finally:
        there.stop(5.0)


def test_without_home_assistant_there_is_nothing_to_fail(tmp_path: Path) -> None:
    """The control: where it is not configured it has no condition."""
    assert (
        HomeAssistantThread(
            settings_of(tmp_path, "sinks: [{type: log}]\n"), lambda: Snapshot(0.0), Impatient()
        ).conditions
        == ()
    )


# ---- nothing is left out


def test_every_kind_has_a_rule_and_is_described() -> None:
    """Each kind is a value of the API's description, and a rule looks at it or at the metric that says the same."""
    described = openapi(API)["components"]["schemas"]
    assert tuple(described["Condition"]["properties"]["kind"]["enum"]) == get_args(Kind)
    said_by_another = {
        "broker": "streamae_source_connected",
        "configuration": "streamae_config_last_reload_successful",
        "dead_letters": "streamae_sink_deliveries_total",
        "metrics": "streamae_metrics_render_errors_total",
        "model": "streamae_model_broken",
        "outbox": "streamae_outbox_evicted_total",
        "receive_window": "streamae_source_window_limited",
        "snapshot": "streamae_snapshot_age_seconds",
    }
    groups = yaml.safe_load(RULES.read_text())["groups"]
    asked = " ".join(rule["expr"] for group in groups for rule in group["rules"] if "alert" in rule)
    kinds = re.findall(r'streamae_condition_failing\{kind=~?"([^"]*)"', asked)
    direct = {kind for one in kinds for kind in one.split("|")}
    assert direct | said_by_another.keys() == set(get_args(Kind))
    assert not direct & said_by_another.keys()
    assert all(metric in asked for metric in said_by_another.values())
