"""Poison: a message that ends the process over and over is found, kept and left out, and nothing else is.

The in-process tests play a broker that delivers again, and deaths at any message; the last ones kill real processes.
"""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import paho.mqtt.client as paho
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from paho.mqtt.enums import CallbackAPIVersion

from streamae.core.groups import Groups
from streamae.core.types import Batch, Drop, Maintenance
from streamae.daemon.loop import Loop
from streamae.daemon.recover import keep, recover
from streamae.errors import StoreError
from streamae.ingest.source import Accepted, SourceStatus
from streamae.store.attempts import Attempts
from streamae.store.past import open_past
from streamae.store.poison import BROKER, JOURNAL, REMEMBERED_S, PoisonLimits
from streamae.store.store import StoreLimits
from tests import brokers, plants
from tests.brokers import Mosquitto, free_port, wait_until
from tests.daemon.test_loop import Metrics
from tests.store_world import crash, numbered, opened, text_of

ROOT = Path(__file__).parents[2]
NOW = 1_700_000_000.0
STARTS = 6  # what one message may cost


class Death(BaseException):
    """What no handler catches: the process is gone."""


class Broker:
    """Keeps what is not acknowledged, and delivers it again, in order, to the process that comes next."""

    def __init__(self, payloads: list[str], sizes: list[int]) -> None:
        self.waiting = [("plant/p", payload, n + 1) for n, payload in enumerate(payloads)]
        self.sizes, self.delivered, self.at = sizes, 0, 0
        self.taken: list[tuple[str, str, int]] = []

    def connect(self) -> None:
        self.delivered, self.again, self.at = 0, max(self.delivered, getattr(self, "again", 0)), 0

    def take(self, limit: int, timeout_s: float) -> Accepted:
        size = min(limit, self.sizes[self.at % len(self.sizes)])
        self.at += 1
        found = self.waiting[self.delivered : self.delivered + size]
        n, first = len(found), self.delivered
        self.delivered += n
        dup = np.arange(first, first + n) < self.again
        mids = np.array([mid for _, _, mid in found], np.int32)
        texts = [[part.encode() for part in column] for column in ([f[0] for f in found], [f[1] for f in found])]
        return Accepted(Batch(texts[0], texts[1], np.full(n, NOW), mids, dup, 1))

    def ack(self, taken: Accepted) -> None:
        self.waiting = self.waiting[len(taken) :]
        self.delivered -= len(taken)
        self.again = max(0, self.again - len(taken))

    def status(self) -> SourceStatus:
        return SourceStatus(connected=True, subscribed=True)


class Process:
    """One life: a store, a pipeline that may die, a loop; `died` of what."""

    def __init__(self, folder: Path, broker: Broker, dies: object, *, forget: bool = False) -> None:
        if forget:
            (folder / "attempt").unlink(missing_ok=True)
        self.store = opened(folder)
        groups = Groups("i", [plants.group(payload=plants.PayloadSpec("json", time="t"))])
        self.loop = Loop(
            broker, groups, self.store, Metrics(),  # type: ignore[arg-type]
            now=lambda: NOW, arrived=lambda: NOW, monotonic=lambda: 0.0, sleep=lambda _: None, batch_max=4096,
        )  # fmt: skip
        step = groups.step

        def step_or_die(batch: Batch, now_s: float) -> object:
            dies(batch)  # type: ignore[operator]
            return step(batch, now_s)

        groups.step = step_or_die  # type: ignore[assignment]
        broker.connect()

    def live(self, broker: Broker) -> bool:
        """Take all that the broker has; False where it was the death of the process."""
        try:
            while broker.waiting[broker.delivered :]:
                self.loop.turn(0.0)
        except Death:
            return False
        finally:
            crash(self.store)
        return True


def payloads(n: int) -> list[str]:
    return [json.dumps({"t": NOW + i, "a": 1, "b": i}) for i in range(n)]


def committed(folder: Path) -> Counter[bytes]:
    with open_past(folder) as past:
        return Counter(payload for batch in past.batches(0.0) for payload in batch.payloads)


def buried(folder: Path) -> list[bytes]:
    store = opened(folder)
    found = [one.payload for one in store.poison.all()]
    store.close()
    return found


@settings(max_examples=12, deadline=None)
@given(st.data())
def test_whatever_the_batches_the_poison_is_left_out_and_nothing_else_is(tmp_path_factory, data):
    """Any place, any batches, also two of them: all else is committed once, in a few starts each. The poison is kept.

    The control forgets between its lives what the last one was at, and never gets past the first.
    """
    n = data.draw(st.integers(1, 300))
    sizes = data.draw(st.lists(st.sampled_from([1, 7, 60, 300]), min_size=1, max_size=4))
    texts = payloads(n)
    deadly = {texts[i] for i in data.draw(st.sets(st.integers(0, n - 1), min_size=1, max_size=2))}

    def dies(batch: Batch) -> None:
        if any(payload.decode() in deadly for payload in batch.payloads):
            raise Death

    folder, broker = tmp_path_factory.mktemp("state"), Broker(texts, sizes)
    lives = next(i for i in range(1, 99) if Process(folder, broker, dies).live(broker))
    assert lives <= 1 + STARTS * len(deadly)
    assert committed(folder) == Counter(text.encode() for text in texts if text not in deadly)
    assert sorted(buried(folder)) == sorted(text.encode() for text in deadly)
    folder, broker = tmp_path_factory.mktemp("control"), Broker(texts, sizes)
    assert not any(Process(folder, broker, dies, forget=True).live(broker) for _ in range(STARTS * len(deadly) + 1))


@settings(max_examples=12, deadline=None)
@given(st.lists(st.integers(0, 40), max_size=12), st.lists(st.sampled_from([1, 5, 40]), min_size=1, max_size=3))
def test_processes_that_are_killed_here_and_there_condemn_nothing(tmp_path_factory, places, sizes):
    """Kill -9 in one step after another, never twice at the same message on its own: nothing is left out, none lost."""
    texts, left = payloads(40), Counter(places)

    def dies(batch: Batch) -> None:
        for payload in batch.payloads:
            number = json.loads(payload)["b"]
            if left[number] and killed[number] < 1:
                killed[number] += 1
                raise Death

    killed: Counter[int] = Counter()
    folder, broker = tmp_path_factory.mktemp("state"), Broker(texts, sizes)
    assert any(Process(folder, broker, dies).live(broker) for _ in range(len(set(places)) + 2))
    assert committed(folder) == Counter(text.encode() for text in texts)
    assert buried(folder) == []


def test_a_step_that_raises_is_counted_too_and_its_half_state_is_not_saved(tmp_path: Path):
    """An exception of ours ends the process by the front door: nothing more is taken, saved or acknowledged on the way
    out, and after some starts the message is left out.
    """
    broker, texts = Broker(payloads(5), [5]), payloads(5)

    def raises(batch: Batch) -> None:
        if texts[3].encode() in batch.payloads:
            raise ZeroDivisionError

    for _ in range(STARTS):
        process = Process(tmp_path, broker, raises)
        try:
            while broker.waiting[broker.delivered :]:
                process.loop.turn(0.0)
        except ZeroDivisionError:
            assert process.loop.turn(0.0) is None
            before = process.store.stats().snapshots
            process.loop.save()
            assert process.store.stats().snapshots == before
            process.store.close()
            continue
        process.store.close()
        break
    assert broker.waiting == []
    assert buried(tmp_path) == [texts[3].encode()]


def test_the_same_bytes_are_left_out_for_a_day_and_then_tried_again(tmp_path: Path):
    """A device says the same again: it is refused, counted, and no process dies of it; another payload is taken."""
    text = payloads(2)
    store = opened(tmp_path)
    store.attempts._begin(deaths=5, suspect=digest(text[0]), same=2)
    batch = plants.batch([("plant/p", text[0].encode(), NOW)])
    batch = replace(batch, topics=[b"plant/p"])
    sound, topics = store.poison.without(batch, BROKER, NOW)
    assert (len(sound), sound.lost, topics) == (0, Counter({Drop.POISON: 1}), [b"plant/p"])
    crash(store)
    store = opened(tmp_path)
    for later_s, left in ((1.0, 0), (REMEMBERED_S - 1, 0), (REMEMBERED_S, 1), (-REMEMBERED_S, 1)):
        assert len(store.poison.without(batch, BROKER, NOW + later_s)[0]) == left
    assert len(store.poison.without(batch, JOURNAL, NOW)[0]) == 1, "what the journal has was taken once"
    for other in (replace(batch, payloads=[text[1].encode()]), replace(batch, topics=[b"plant/q"])):
        assert store.poison.without(other, BROKER, NOW) == (other, [])
    (kept,) = store.poison.all()
    assert (kept.topic, kept.payload, kept.bytes, kept.found_s, kept.times, kept.origin) == (
        b"plant/p", text[0].encode(), len(text[0]), NOW, 3, "broker",
    )  # fmt: skip
    store.close()


def digest(text: str) -> int:
    from streamae.store.dedup import digest_of

    return digest_of(Batch([b"plant/p"], [text.encode()], np.zeros(1)), 0)


def test_what_is_kept_is_bounded(tmp_path: Path):
    """Only the newest messages, and of each the beginning only; the gauge knows how many."""
    store = opened(tmp_path, limits=StoreLimits(poison=PoisonLimits(kept_max=3, payload_max=4)))
    for n in range(5):
        store.attempts._begin(deaths=5, suspect=digest(f"{n}-too-long"), same=2)
        batch = Batch([b"plant/p"], [f"{n}-too-long".encode()], np.zeros(1))
        assert store.poison.without(batch, BROKER, NOW + n)[1] == [b"plant/p"]
    assert [(one.payload, one.bytes) for one in store.poison.all()] == [(f"{n}-to".encode(), 10) for n in (4, 3, 2)]
    assert len(store.poison) == 3
    store.close()


# The journal.


def journal(folder: Path, texts: list[str], rows: int) -> None:
    """Rows of a journal without a snapshot, as a process leaves them that was killed."""
    store = opened(folder)
    groups = Groups("i", [plants.group()])
    size = len(texts) // rows
    for first in range(0, len(texts), size):
        some = plants.batch([("plant/p", text.encode(), NOW) for text in texts[first : first + size]])
        batch = replace(some, topics=[b"plant/p"] * size, holes=[b"plant/p"] if first else (), maintenance=[])
        store.commit(batch, groups.step(batch, NOW), NOW)
    crash(store)


def fold_once(folder: Path, deadly: str | None) -> Groups | None:
    store, groups = opened(folder), Groups("i", [plants.group()])
    step = groups.step

    def step_or_die(batch: Batch, now_s: float) -> object:
        if deadly is not None and deadly.encode() in batch.payloads:
            raise Death
        return step(batch, now_s)

    groups.step = step_or_die  # type: ignore[assignment]
    try:
        notes = recover(store, groups).notes
        if deadly is not None:
            assert any("kept as poison" in note for note in notes)
    except Death:
        return None
    finally:
        crash(store)
    return groups


@pytest.mark.parametrize("place", [0, 130, 399])
def test_a_row_of_the_journal_that_ends_each_start_is_folded_without_its_poison(tmp_path: Path, place: int):
    """The row is folded in parts, down to the one message, which is left out; the state is that of all others.

    The control folds without the memory of what it was at, and never ends.
    """
    texts = payloads(400)
    journal(tmp_path / "a", texts, rows=4)
    journal(tmp_path / "b", [*texts[:place], "{}", *texts[place + 1 :]], rows=4)
    found = [fold_once(tmp_path / "a", texts[place]) for _ in range(STARTS)]
    lived = [one for one in found if one is not None]
    assert lived
    other = fold_once(tmp_path / "b", None)
    assert lived[0].snapshot() == other.snapshot()
    assert lived[-1].snapshot() == lived[0].snapshot(), "the next start leaves it out at once"
    store = opened(tmp_path / "a")
    assert [(one.payload, one.origin) for one in store.poison.all()] == [(texts[place].encode(), "journal")]
    store.close()
    journal(tmp_path / "c", texts, rows=4)
    for _ in range(STARTS + 1):
        (tmp_path / "c" / "attempt").unlink(missing_ok=True)
        assert fold_once(tmp_path / "c", texts[place]) is None


def test_after_the_journal_is_folded_the_suspicion_is_over(tmp_path: Path):
    """What the fold condemned does not make suspects of the broker's first messages: they come in whole batches."""
    texts = payloads(100)
    journal(tmp_path, texts, rows=1)
    while (groups := fold_once(tmp_path, texts[5])) is None:
        pass
    store = opened(tmp_path)
    recover(store, groups)
    assert (store.attempts.careful, store.attempts.condemned, store.attempts.folding) == (False, 0, False)
    assert keep(store, groups, NOW) == []
    store.close()


# The file itself.


def test_parts_of_a_row_say_once_what_is_said_of_the_whole(tmp_path: Path):
    """Loss, holes and maintenance go with the first part; all messages are in one part each, in order."""
    attempts = Attempts(tmp_path)
    whole = replace(numbered(1, 10, first_mid=1), lost=Counter({Drop.LATE: 2}), holes=None,
                    maintenance=[Maintenance("*", "*", 0.0, 1.0)])  # fmt: skip
    assert list(attempts.parts(whole, 3)) == [whole]
    attempts.row, attempts.part, attempts.deaths = 3, 4, 2
    parts = list(attempts.parts(whole, 3))
    assert [len(part) for part in parts] == [4, 4, 2]
    assert sum((text_of(part) for part in parts), ()) == text_of(whole)
    assert [(dict(p.lost), p.holes, p.maintenance) for p in parts] == [
        ({Drop.LATE: 2}, None, whole.maintenance), ({}, (), None), ({}, (), None),
    ]  # fmt: skip
    assert list(attempts.parts(whole, 2)) == [whole], "another row is none of the suspects"
    attempts.close()
    attempts.close()


@given(st.binary(max_size=80))
def test_a_file_that_is_damaged_says_nothing(tmp_path_factory, content: bytes):
    """Whatever stands in it, the start goes on, without suspicion."""
    folder = tmp_path_factory.mktemp("state")
    (folder / "attempt").write_bytes(content)
    attempts = Attempts(folder)
    assert (attempts.deaths, attempts.careful, attempts.condemned) == (0, False, 0)
    attempts.close()


def test_a_disk_that_takes_no_write_costs_the_memory_and_nothing_else(tmp_path: Path, monkeypatch):
    """The batch goes through; a death in it is not known of afterwards."""
    attempts = Attempts(tmp_path)

    def fails(*_: object) -> int:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("streamae.store.attempts.os.pwrite", fails)
    with pytest.raises(Death), attempts.batch(numbered(1)):
        raise Death
    attempts.close()
    monkeypatch.undo()
    attempts = Attempts(tmp_path)
    assert attempts.deaths == 0
    attempts.close()


def test_a_full_disk_delays_the_burial_and_the_stop_comes_before_it(tmp_path: Path):
    """What cannot be kept is not left out: the turn tries again, and gives up where the daemon is to stop."""
    text = payloads(1)
    broker = Broker(text, [1])
    process = Process(tmp_path, broker, lambda _: None)
    process.store.attempts._begin(deaths=5, suspect=digest(text[0]), same=2)
    broker.again = 1

    def full(*_: object) -> None:
        raise StoreError("the disk is full")

    process.store.poison.without = full  # type: ignore[method-assign, assignment]
    process.loop.stopping = lambda: True
    assert process.loop.turn(0.0) is None
    assert len(broker.waiting) == 1
    crash(process.store)


# Real processes.


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    from tests.faults import plant

    return plant.train_model(tmp_path_factory.mktemp("model"))


class Supervised:
    """The runner over a broker of its own, and what it printed."""

    def __init__(self, folder: Path, model, broker: int, *options: str) -> None:
        self.page = free_port()
        folder.mkdir()
        self.config = folder / "streamae.yaml"
        self.config.write_text(
            "state: {dir: state}\nscoring: {executor: module, scorers: 1}\n"
            f"mqtt: {{host: 127.0.0.1, port: {broker}, client_id: {folder.name}}}\n"
            f'web: {{listen: "127.0.0.1:{self.page}"}}\n'
            'streams: {pumps: {topics: [{topic: "plant/{pump}", payload: json, values: {value: v}, time: t}],'
            f" model: {{path: {model.path}, sha256: {model.sha256}}}}}}}\n"
        )
        command = [sys.executable, "-m", "tests.poison_runner", str(self.config), "DEADLY", *options]
        self.log = folder / "log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, cwd=ROOT)

    def said(self, what: str) -> list[int]:
        return [int(number) for number in re.findall(rf"^{what} (-?\d+)$", self.log.read_text(), re.M)]

    def get(self, path: str) -> str:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.page}{path}", timeout=5) as answer:
                return answer.read().decode()
        except OSError:
            return ""


def publish(port: int, mark: str, n: int = 300) -> list[bytes]:
    sent = [json.dumps({"t": NOW + i, "v": float(i), "x": mark if i == 150 else ""}).encode() for i in range(n)]
    client = paho.Client(CallbackAPIVersion.VERSION2)
    client.connect("127.0.0.1", port)
    client.loop_start()
    for payload in sent:
        client.publish("plant/pump00", payload, qos=1)
    published = client.publish("plant/pump00", b"{}", qos=1)
    published.wait_for_publish(10)
    client.disconnect()
    client.loop_stop()
    return sent


@pytest.fixture
def broker(tmp_path) -> Iterator[Mosquitto]:
    if brokers.MOSQUITTO is None:
        pytest.skip("mosquitto is not installed: apt-get install mosquitto")
    made = Mosquitto(tmp_path).start()
    yield made
    made.kill()


def test_a_daemon_that_is_killed_by_a_message_lives_after_some_starts(tmp_path: Path, broker, model):
    """Kill -9 by a payload, a supervisor that starts it again, a real broker: in six deaths at most it is found, kept
    where the API and the metrics show it, and left out; of all other messages none is lost and none is doubled.

    The control, whose lives know nothing of each other, dies each time.
    """
    good = Supervised(tmp_path / "good", model, broker.port)
    bad = Supervised(tmp_path / "bad", model, broker.port, "--forget")
    try:
        for one in (good, bad):
            wait_until(lambda one=one: "ok" in one.get("/readyz"), 60, "ready")  # type: ignore[misc]
        sent = publish(broker.port, "DEADLY")
        wait_until(lambda: "DEADLY" in good.get("/api/v1/poison"), 60, good.log.read_text())
        wait_until(lambda: committed(good.config.parent / "state")[b"{}"] == 1, 30, "the last message")
        metrics = good.get("/metrics")
        assert "streamae_poison_messages 1.0" in metrics
        assert 'streamae_messages_dropped_total{reason="poison"} 1.0' in metrics
        wait_until(lambda: bad.process.poll() is not None, 60, bad.log.read_text())
        os.kill(good.said("started")[-1], signal.SIGTERM)
        assert good.process.wait(30) == 0
    finally:
        for one in (good, bad):
            one.process.kill()
            one.process.wait()
    *deaths, last = good.said("ended")
    assert last == 0
    assert set(deaths) == {-9}
    assert len(deaths) <= STARTS
    assert committed(good.config.parent / "state") == Counter({p: 1 for p in sent if b"DEADLY" not in p} | {b"{}": 1})
    assert set(bad.said("ended")) == {-9}
    assert len(bad.said("ended")) > STARTS
    assert buried(bad.config.parent / "state") == []


def test_who_was_killed_by_others_is_careful_no_longer_than_the_deadly_batch(tmp_path: Path) -> None:
    """Deaths that no message brought about: when all of the deadly batch have passed, batches are whole again.

    Else everything that the broker delivers again would be taken one by one, and news pile up behind it.
    """

    def redelivered(n: int) -> Batch:
        return Batch([b"t"] * n, [b"p"] * n, np.zeros(n), np.arange(1, n + 1, dtype=np.int32), np.ones(n, np.bool_))

    for _ in range(2):
        killed = Attempts(tmp_path)
        with contextlib.suppress(KeyboardInterrupt), killed.batch(redelivered(128)):
            raise KeyboardInterrupt
        killed.close()
    attempts = Attempts(tmp_path)
    assert (attempts.careful, attempts.part) == (True, 2)
    taken = 0
    while attempts.careful:
        with attempts.batch(redelivered(attempts.part)):
            taken += attempts.part
    attempts.close()
    assert taken == 128
