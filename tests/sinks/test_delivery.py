"""The delivery: at least once, in each alert's order, patient with sinks that are away, firm with poison."""

import random
from collections.abc import Callable, Iterator, Sequence
from itertools import cycle
from pathlib import Path

import pytest

from streamae.core.report import Transition
from streamae.core.types import BACKOFF_MAX_S
from streamae.errors import StoreError
from streamae.sinks.delivery import Delivery, DeliveryPace
from streamae.sinks.sink import SinkRefusedError, SinkUnavailableError
from streamae.store.silences import Silence
from streamae.store.store import Store
from tests.store_world import Clock, transition


class Ear:
    """A sink that notes what it is given, after asking `mood` whether it is in the state to listen."""

    def __init__(
        self, mood: Callable[[Sequence[Transition]], None] = lambda _: None, batch_max: int = 1, name: str = "ear"
    ) -> None:
        self.name, self.batch_max = name, batch_max
        self.refresh_s: float | None = None
        self.mood = mood
        self.heard: list[str] = []
        self.last: Sequence[Transition] = ()
        self.requests: list[int] = []
        self.closed = False

    def send(self, transitions: Sequence[Transition]) -> None:
        self.requests.append(len(transitions))
        self.mood(transitions)
        self.heard += [t.key for t in transitions]
        self.last = transitions

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(tmp_path: Path, clock: Clock) -> Iterator[Store]:
    store = Store.open(tmp_path, "process", clock, sinks=["ear"])
    yield store
    store.close()


def run(delivery: Delivery, clock: Clock, seconds: float) -> int:
    """Call the delivery as its thread would, in the clock's time; return how often."""
    end_s, calls = clock.now_s + seconds, 0
    while clock.now_s < end_s:
        calls += 1
        clock.now_s += max(delivery.deliver_due(), 0.001)
        assert calls < 100_000, "a courier must not spin"
    return calls


def always(error: Exception) -> Callable[[Sequence[Transition]], None]:
    def mood(_: Sequence[Transition]) -> None:
        raise error

    return mood


def test_what_waits_is_notified_in_order_and_once(store: Store, clock: Clock) -> None:
    """One request per call, the next at once while more waits, then a long sleep."""
    ear = Ear()
    delivery = Delivery(ear, store.outbox, clock)
    store.publish([transition(1), transition(2), transition(1, 2, "resolved")], clock())
    assert [delivery.deliver_due() for _ in range(3)] == [0.0, 0.0, 0.0]
    assert ear.heard == [transition(1).key, transition(2).key, transition(1, 2).key]
    assert delivery.deliver_due() == 60.0
    assert store.outbox.stats()["ear"].sent == 3
    delivery.close()
    assert ear.closed


def test_a_sink_that_is_away_is_tried_at_growing_distances(store: Store, clock: Clock) -> None:
    """1 s doubled up to 300 s, half of it by chance; at once again after the first success."""
    ear = Ear(always(SinkUnavailableError("503")))
    delivery = Delivery(ear, store.outbox, clock, jitter=lambda: 1.0)
    store.publish([transition(1)], clock())
    waits = []
    for _ in range(12):
        waits.append(delivery.deliver_due())
        clock.now_s += waits[-1]
    assert waits == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]
    assert delivery.condition.failing.reason == "503"
    assert delivery.deliver_due() == 300
    assert delivery.deliver_due() == 300, "a call in between waits for the rest"
    assert len(ear.requests) == 13
    ear.mood = lambda _: None
    clock.now_s += 300
    assert delivery.deliver_due() == 0.0
    assert (ear.heard, delivery.condition.failing) == ([transition(1).key], None)


def test_the_receivers_own_wish_is_heeded(store: Store, clock: Clock) -> None:
    """Retry-After beyond our own back-off decides."""
    delivery = Delivery(Ear(always(SinkUnavailableError("429", 120.0))), store.outbox, clock)
    store.publish([transition(1)], clock())
    assert delivery.deliver_due() == 120.0


def test_a_clock_that_steps_does_not_silence_the_courier(store: Store, clock: Clock) -> None:
    """A day back or ten years forward, in the middle of a rest: delivered at the next call."""
    for step_s in (-86_400.0, 315_360_000.0):
        ear = Ear(always(SinkUnavailableError("503")))
        delivery = Delivery(ear, store.outbox, clock)
        store.publish([transition(int(step_s))], clock())
        delivery.deliver_due()
        ear.mood = lambda _: None
        clock.now_s += step_s
        delivery.deliver_due()
        assert len(ear.heard) == 1


def test_poison_becomes_a_dead_letter_and_delays_nobody(store: Store, clock: Clock) -> None:
    """Of a hundred sent together, one refused: it alone is dead, all others are delivered."""

    def mood(transitions: Sequence[Transition]) -> None:
        if any(t.id == transition(41).id for t in transitions):
            raise SinkRefusedError("400: cannot read 41")

    ear = Ear(mood, batch_max=100)
    delivery = Delivery(ear, store.outbox, clock)
    store.publish([transition(n) for n in range(100)], clock())
    run(delivery, clock, 1.0)
    assert ear.heard == [transition(n).key for n in range(100) if n != 41]
    assert store.outbox.dead_letters("ear") == [(transition(41).key, "400: cannot read 41")]
    assert store.outbox.stats()["ear"].pending == 0


def test_an_alert_on_which_the_receiver_chokes_delays_the_others_by_one_attempt(store: Store, clock: Clock) -> None:
    """A 500 for one alert, for ever: the others are delivered after the first rest."""

    def mood(transitions: Sequence[Transition]) -> None:
        if transitions[0].id == transition(0).id:
            raise SinkUnavailableError("500")

    ear = Ear(mood)
    delivery = Delivery(ear, store.outbox, clock)
    store.publish([transition(n) for n in range(5)] + [transition(0, 2, "resolved")], clock())
    run(delivery, clock, 10.0)
    assert ear.heard == [transition(n).key for n in range(1, 5)]
    assert store.outbox.stats()["ear"].pending == 2, "its resolution waits behind it"


def test_going_away_amid_poison_is_no_refusal(store: Store, clock: Clock) -> None:
    """While a refused request is sent again one by one the sink may go away: the rest waits, undamned."""

    def mood(transitions: Sequence[Transition]) -> None:
        raise SinkRefusedError("400") if len(transitions) > 1 else SinkUnavailableError("gone")

    ear = Ear(mood, batch_max=10)
    delivery = Delivery(ear, store.outbox, clock)
    store.publish([transition(n) for n in range(5)], clock())
    assert delivery.deliver_due() > 0
    assert ear.requests == [5, 1]
    assert (store.outbox.stats()["ear"].dead, store.outbox.stats()["ear"].pending) == (0, 5)


def test_a_storm_is_notified_in_few_requests(store: Store, clock: Clock) -> None:
    """10,000 alerts at once: a burst, then one request a second with many alerts each; every one is delivered."""
    ear = Ear(batch_max=500)
    delivery = Delivery(ear, store.outbox, clock, pace=DeliveryPace(per_s=1.0, burst=3))
    storm = [transition(n) for n in range(10_000)]
    store.publish(storm, clock())
    start_s = clock.now_s
    while store.outbox.stats()["ear"].pending:
        clock.now_s += delivery.deliver_due()
    assert ear.heard == [t.key for t in storm]
    assert ear.requests == [500] * 20
    assert 16 <= clock.now_s - start_s <= 18


def test_a_stop_does_not_wait_for_its_turn(store: Store, clock: Clock) -> None:
    """What is due at a stop is delivered at once, though the sink's pace is used up."""
    ear = Ear(batch_max=1)
    delivery = Delivery(ear, store.outbox, clock, pace=DeliveryPace(per_s=1.0, burst=1))
    store.publish([transition(n) for n in range(4)], clock())
    delivery.deliver_due()
    assert delivery.deliver_due() > 0
    assert ear.requests == [1], "the control: paced, it waits"
    while delivery.deliver_due(paced=False) == 0:
        pass
    assert (len(ear.heard), store.outbox.stats()["ear"].pending) == (4, 0)


def test_a_sink_that_forgets_is_notified_again_of_what_is_open(store: Store, clock: Clock) -> None:
    """Each `refresh_s` the open alerts are sent once more; a failure there rests the sink as any other."""
    ear = Ear(batch_max=2)
    ear.refresh_s = 30.0
    delivery = Delivery(ear, store.outbox, clock)
    store.publish([transition(n) for n in range(4)] + [transition(3, 2, "resolved")], clock())
    run(delivery, clock, 29.0)
    assert ear.requests == [2, 2, 1]
    run(delivery, clock, 2.0)
    assert ear.requests[3:] == [2, 1]
    assert ear.heard[5:] == [transition(n).key for n in range(3)]
    ear.mood = always(SinkUnavailableError("gone"))
    clock.now_s += 30
    assert delivery.deliver_due() == 30.0
    assert 0 < delivery.deliver_due() <= 1.0
    ear.mood = always(SinkRefusedError("never"))
    clock.now_s += 31
    delivery.deliver_due()
    assert delivery.condition.failing.reason == "never"
    clock.now_s += 31
    delivery.deliver_due()
    assert delivery.condition.failing is not None, "refused once more"
    ear.mood = lambda _: None
    clock.now_s += 31
    delivery.deliver_due()
    assert delivery.condition.failing is None


def test_a_refresh_of_nothing_says_nothing_of_the_sink(store: Store, clock: Clock) -> None:
    """What failed before it may fail still: only a request that is answered is a sign of life."""
    ear = Ear()
    ear.refresh_s = 30.0
    delivery = Delivery(ear, store.outbox, clock)
    delivery.condition.failed("503")
    clock.now_s += 31
    delivery.deliver_due()
    assert ear.requests == []
    assert delivery.condition.failing is not None


def test_what_was_notified_but_not_marked_is_marked_later_and_not_sent_again(store: Store, clock: Clock) -> None:
    """While the disk is full, deliveries stop with StoreError instead of repeating themselves."""
    ear = Ear()
    delivery = Delivery(ear, store.outbox, clock)
    store.publish([transition(1), transition(2)], clock())
    sent = store.outbox.sent

    def full(*_: object) -> None:
        raise StoreError("the disk is full")

    store.outbox.sent = full  # type: ignore[method-assign]
    for _ in range(3):
        with pytest.raises(StoreError):
            delivery.deliver_due()
    store.outbox.sent = sent  # type: ignore[method-assign]
    run(delivery, clock, 1.0)
    assert ear.heard == [transition(1).key, transition(2).key]


@pytest.mark.parametrize("seed", range(5))
def test_through_every_mishap_each_is_notified_and_none_out_of_order(tmp_path: Path, seed: int) -> None:
    """10 % refused for now, 5 % taken but without an answer, restarts: all delivered, repeats only under known keys."""
    random_ = random.Random(seed)
    clock = Clock()
    heard: list[str] = []

    def mood(transitions: Sequence[Transition]) -> None:
        chance = random_.random()
        if chance < 0.10:
            raise SinkUnavailableError("503")
        if chance < 0.15:
            heard.extend(t.key for t in transitions)
            raise SinkUnavailableError("hung up")

    ear = Ear(mood, batch_max=3)
    ear.heard = heard
    written: list[str] = []
    store = Store.open(tmp_path, "process", clock, sinks=["ear"])
    delivery = Delivery(ear, store.outbox, clock, jitter=random_.random)
    for step in range(200):
        alert, sequence = divmod(step, 2)
        one = transition(alert, sequence + 1, ["firing", "resolved"][sequence])
        written.append(one.key)
        store.publish([one], clock())
        clock.now_s += delivery.deliver_due() if step % 3 else 0.5
        if step % 50 == 49:
            store._abandon()
            store = Store.open(tmp_path, "process", clock, sinks=["ear"])
            delivery = Delivery(ear, store.outbox, clock, jitter=random_.random)
    run(delivery, clock, 20 * BACKOFF_MAX_S)
    assert set(heard) == set(written)
    first = {key: heard.index(key) for key in written}
    assert all(first[transition(n).key] < first[transition(n, 2).key] for n in range(100))
    assert len(heard) > len(written), "the mishaps did happen"
    store.close()


def test_what_fires_still_is_notified_again_until_somebody_takes_care_of_it(store: Store, clock: Clock) -> None:
    """Each `renotify`, counted, under a key of its own; not what is acknowledged, silenced or over."""
    ear = Ear(batch_max=10)
    delivery = Delivery(ear, store.outbox, clock, renotify_s=3600.0)
    alerts = [transition(n, 0) for n in range(4)]
    store.publish(alerts, clock())
    run(delivery, clock, 3590)
    assert ear.heard == [t.key for t in alerts]
    store.alerts.acknowledge(alerts[1].id, "ada", clock())
    store.silences.create(Silence(clock(), clock() + 1e6, stream=alerts[2].stream), clock())
    store.publish([transition(3, 1, "resolved")], clock())
    run(delivery, clock, 100)
    assert ear.heard[4:] == [transition(3, 1).key, alerts[0].key]
    assert (ear.last[0].repeat, ear.last[0].notice_key, ear.last[0].state) == (1, f"{alerts[0].key}:1", "firing")
    run(delivery, clock, 3600)
    assert ear.last[0].notice_key == f"{alerts[0].key}:2"
    assert len(ear.heard) == 7
    store.publish([transition(0, 1, severity="critical")], clock())
    run(delivery, clock, 3590)
    assert (ear.heard[7:], ear.last[0].repeat) == ([transition(0, 1).key], 0)
    run(delivery, clock, 100)
    assert ear.last[0].notice_key == f"{transition(0, 1).key}:3", "what it repeats is its newest transition"
    store.publish([transition(0, 2, "resolved")], clock())
    run(delivery, clock, 10_000)
    assert ear.heard[9:] == [transition(0, 2).key]
    with store._database.read() as connection:
        assert connection.execute("SELECT alert FROM told WHERE alert = ?", (alerts[0].id,)).fetchall() == []


def test_without_renotify_nothing_is_notified_twice(store: Store, clock: Clock) -> None:
    """The control: a month passes, and the sink has heard of it once."""
    ear = Ear()
    delivery = Delivery(ear, store.outbox, clock)
    store.publish([transition(1)], clock())
    for _ in range(1000):
        clock.now_s += 2700
        delivery.deliver_due()
    assert ear.heard == [transition(1).key]


def test_a_reminder_that_waits_goes_when_its_reason_goes(store: Store, clock: Clock) -> None:
    """The sink is away when a reminder is due: an acknowledgement, a silence or the end takes it out of the line."""
    ear = Ear(batch_max=10)
    delivery = Delivery(ear, store.outbox, clock, renotify_s=3600.0)
    alerts = [transition(n, 0) for n in range(3)]
    store.publish(alerts, clock())
    run(delivery, clock, 3500)
    ear.mood = always(SinkUnavailableError("503"))
    run(delivery, clock, 200)
    assert store.outbox.stats()["ear"].pending == 3
    store.alerts.acknowledge(alerts[0].id, "ada", clock())
    store.silences.create(Silence(clock(), clock() + 60, stream=alerts[1].stream), clock())
    store.publish([transition(2, 1, "resolved")], clock())
    assert store.outbox.stats()["ear"].pending == 1
    ear.mood = lambda _: None
    run(delivery, clock, 400)
    assert ear.heard[3:] == [transition(2, 1).key]


def test_reminders_go_on_after_a_restart_and_after_a_step_of_the_clock(tmp_path: Path, clock: Clock) -> None:
    """The time of the last notice is kept; a clock that steps ten years back does not silence for ten years."""
    ear = Ear()
    store = Store.open(tmp_path, "process", clock, sinks=["ear"])
    store.publish([transition(1, 0)], clock())
    run(Delivery(ear, store.outbox, clock, renotify_s=3600.0), clock, 1800)
    store._abandon()
    again = Store.open(tmp_path, "process", clock, sinks=["ear"])
    delivery = Delivery(ear, again.outbox, clock, renotify_s=3600.0)
    run(delivery, clock, 1700)
    assert len(ear.heard) == 1
    run(delivery, clock, 200)
    assert len(ear.heard) == 2
    clock.now_s -= 315_360_000.0
    run(delivery, clock, 20)
    assert len(ear.heard) == 3
    again.close()


class Watcher(Ear):
    """A sink that looks after what its receiver keeps, each five seconds."""

    watch_s = 5.0

    def __init__(self) -> None:
        super().__init__()
        self.looks: list[list[tuple[str, bool]]] = []
        self.away = False

    def look_after(self, standing: Callable[[], Sequence[tuple[Transition, bool]]]) -> None:
        if self.away:
            raise SinkUnavailableError("refused")
        self.looks.append([(one.key, waits) for one, waits in standing()])


def test_a_watchful_sink_looks_after_its_receiver(store: Store, clock: Clock) -> None:
    """Each five seconds, with what stands; while it cannot, its condition says so, and nothing else does."""
    watcher = Watcher()
    delivery = Delivery(watcher, store.outbox, clock, jitter=lambda: 0.0)
    store.publish([transition(1)], clock())
    run(delivery, clock, 20.0)
    assert watcher.looks[-1] == [(transition(1).key, False)]
    assert 4 <= len(watcher.looks) <= 5
    watcher.away = True
    run(delivery, clock, 20.0)
    assert delivery.condition.failing is not None
    watcher.away = False
    run(delivery, clock, 60.0)
    assert delivery.condition.failing is None


def test_a_receiver_that_is_there_and_takes_no_alert_is_still_failing(store: Store, clock: Clock) -> None:
    """To be connected is not to deliver: looking after it does not end the condition."""
    watcher = Watcher()
    watcher.mood = always(SinkUnavailableError("not authorized"))
    delivery = Delivery(watcher, store.outbox, clock, jitter=cycle([0.0, 1.0]).__next__)  # it rests, then is free
    store.publish([transition(1)], clock())
    run(delivery, clock, 600.0)
    assert watcher.looks
    assert delivery.condition.failing is not None
    assert delivery.condition.failing.reason == "not authorized"


def test_what_a_sink_raises_by_itself_puts_off_the_alert_and_never_ends_the_thread(store: Store, clock: Clock) -> None:
    """Alone, among others, at a refresh and at the end: by its type, and the others are sent."""
    bad = transition(2)
    ear = Ear(lambda some: always(KeyError("x"))(some) if bad in some else None, batch_max=10)
    delivery = Delivery(ear, store.outbox, clock)
    store.publish([transition(1), bad, transition(3)], clock())
    run(delivery, clock, 5.0)
    assert set(ear.heard) == {transition(1).key, transition(3).key}
    assert delivery.condition.failing is not None
    assert "KeyError at " in delivery.condition.failing.reason
    ear.close = lambda: always(ValueError("x"))([])  # type: ignore[method-assign]
    delivery.close()


def test_an_alert_alone_on_which_the_sink_fails_waits(store: Store, clock: Clock) -> None:
    """It is no dead letter: the fault is the sink's."""
    ear = Ear(always(RuntimeError("x")))
    delivery = Delivery(ear, store.outbox, clock)
    store.publish([transition(1)], clock())
    run(delivery, clock, 60.0)
    stats = store.outbox.stats()["ear"]
    assert (stats.pending, stats.dead) == (1, 0)
    ear.mood = lambda _: None
    run(delivery, clock, 600.0)
    assert ear.heard == [transition(1).key]
