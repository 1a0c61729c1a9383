"""The contract of daemon.loop: nothing is acknowledged that does not stand, and every stop leaves a state to go on."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from streamae.core.groups import Groups
from streamae.core.report import Report
from streamae.core.types import Batch, Drop, Drops
from streamae.daemon.loop import Loop
from streamae.errors import StoreError
from streamae.ingest.source import Accepted, SourceStatus
from streamae.store.store import Store
from tests import plants
from tests.store_world import batch, crash, numbered, opened, report, text_of, transition


class Source:
    """Gives the batches that it was given, and notes what is acknowledged."""

    def __init__(self, *batches: Batch, **state: object) -> None:
        self.batches, self.acknowledged = list(batches), []
        self.state = SourceStatus(**({"connected": True, "subscribed": True} | state))

    def take(self, limit: int, timeout_s: float) -> Accepted:
        return Accepted(self.batches.pop(0) if self.batches else batch([]))

    def ack(self, accepted: Accepted) -> None:
        self.acknowledged.append(text_of(accepted.batch))

    def status(self) -> SourceStatus:
        return self.state


class Metrics:
    """Counts what it is called for."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, ...]] = Counter()
        self.gauges: dict[str, float] = {}

    def count(self, name: str, by: float = 1, *labels: str) -> None:
        self.counts[name, *labels] += int(by)

    def gauge(self, name: str, value: float, *_: str) -> None:
        self.gauges[name] = value

    def observe(self, *_: object) -> None:
        return


class Full:
    """A store that cannot write for a while, in `commit` or in `forget_session`."""

    def __init__(self, store: Store, failures: int, name: str) -> None:
        self._store, self.failures, self._name = store, failures, name

    def __getattr__(self, name: str) -> object:
        if name == self._name and self.failures:
            self.failures -= 1

            def fail(*_: object) -> None:
                raise StoreError("the disk is full")

            return fail
        return getattr(self._store, name)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = opened(tmp_path)
    yield store
    store.close()


def loop_over(source: Source, store: object, **options: object) -> Loop:
    return Loop(
        source, Groups("i", [plants.group()]), store, Metrics(),  # type: ignore[arg-type]
        now=lambda: 100.0, arrived=lambda: 100.0, monotonic=lambda: loop_over.now_s, sleep=loop_over.slept.append,
        **options,  # type: ignore[arg-type]
    )  # fmt: skip


@pytest.fixture(autouse=True)
def time_stands_still() -> None:
    loop_over.now_s, loop_over.slept = 0.0, []  # type: ignore[attr-defined]


def messages(first: int = 0, n: int = 3, *, first_mid: int = 1, **options: object) -> Batch:
    texts = [("plant/p", f'{{"t": {first + i}, "a": 1, "b": 1}}') for i in range(n)]
    return replace(batch(texts, first_mid=first_mid), **options)


def test_a_batch_is_acknowledged_after_it_stands(store: Store) -> None:
    """One that comes in time is committed, then acknowledged; where none comes nothing is written."""
    source = Source(messages())
    loop = loop_over(source, store)
    assert loop.turn(0.0).messages == 3
    assert source.acknowledged == [text_of(messages())]
    assert store.stats().journal_rows_last == 1
    assert loop.turn(0.0) is None
    assert store.stats().journal_rows_last == 1
    assert loop.lag_s == 100.0


def test_a_redelivered_message_is_acknowledged_and_not_taken_twice(store: Store) -> None:
    """The whole batch is acknowledged; only what is new goes on; a batch without ids is new as a whole."""
    again = messages(dup=np.ones(3, np.bool_))
    source = Source(messages(), again, messages(3, first_mid=4), replace(again, mid=np.zeros(3, np.int32)))
    loop = loop_over(source, store)
    assert [loop.turn(0.0).messages for _ in range(4)] == [3, 0, 3, 3]
    assert len(source.acknowledged) == 4


def test_while_the_disk_is_full_nothing_is_acknowledged_and_then_it_goes_on(store: Store) -> None:
    """The commit is tried again at growing distances; the first is said, and the end of it too."""
    source, waited = Source(messages()), []
    full = Full(store, 6, "commit")
    loop = loop_over(source, full, snapshot_every_s=0.0)
    loop.waiting = lambda: waited.append(list(source.acknowledged))
    assert loop.turn(0.0).messages == 3
    assert loop_over.slept == [0.1, 0.5, 1.0, 2.0, 2.0, 2.0]
    assert waited == [[]] * 6
    assert loop.metrics.counts["store_commit_failures",] == 6
    assert (loop.writable, loop.metrics.gauges["store_writable"]) == (True, 1)
    assert store.recover().snapshot is None, "what was retried takes no snapshot with it"


class Narrow:
    """A store on a disk that has room for a batch, and for a snapshot only while `room`."""

    def __init__(self, store: Store) -> None:
        self._store, self.room = store, False

    def __getattr__(self, name: str) -> object:
        return getattr(self._store, name)

    def commit(self, batch: Batch, report: Report, now_s: float, snapshot: bytes | None = None) -> None:
        if snapshot is not None and not self.room:
            raise StoreError("no room for a snapshot")
        self._store.commit(batch, report, now_s, snapshot)


def test_snapshots_that_cannot_be_written_are_said_though_batches_can(store: Store) -> None:
    """The first may be the end of a disk that was full; the second is trouble, until there is one."""
    narrow = Narrow(store)
    loop = loop_over(Source(*(messages(3, first_mid=1 + 3 * n) for n in range(5))), narrow, snapshot_every_s=0.0)
    shown = []
    for narrow.room in (False, False, False, True, False):
        assert loop.turn(0.0).messages == 3
        shown.append(
            loop.snapshotting.failing and (loop.snapshotting.failing.reason, loop.snapshotting.failing.failures)
        )
    assert shown == [None, ("no room for a snapshot", 1), ("no room for a snapshot", 2), None, None]
    assert loop.storing.failing is None


def test_a_stop_before_the_commit_acknowledges_and_saves_nothing(tmp_path: Path) -> None:
    """The pipeline is ahead of the journal then: nothing more is taken, and the next start begins where it stands."""
    store = opened(tmp_path)
    source = Source(messages(), messages(3))
    loop = loop_over(source, Full(store, 99, "commit"))
    loop.stopping = lambda: True
    assert loop.turn(0.0) is None
    assert loop.turn(0.0) is None
    loop.save()
    assert (source.acknowledged, len(source.batches)) == ([], 1)
    crash(store)
    store = opened(tmp_path)
    assert store.recover().snapshot is None
    assert list(store.recover().journal) == []
    store.close()


@pytest.mark.parametrize("connects", [0, 1])
def test_where_the_broker_was_never_reached_nothing_is_saved(store: Store, connects: int) -> None:
    """A snapshot tells the next start that the broker has a session of ours, which it then would miss."""
    loop_over(Source(connects=connects), store).save()
    assert store.stats().snapshots == connects


def test_a_snapshot_is_taken_when_it_is_due_and_at_a_save(store: Store) -> None:
    loop = loop_over(Source(messages(), messages(3, first_mid=4), connects=1), store, snapshot_every_s=60.0)
    loop.turn(0.0)
    assert store.stats().snapshots == 0
    loop_over.now_s = 61.0
    loop.turn(0.0)
    assert store.stats().snapshots == 1
    loop.save()
    assert store.stats().snapshots == 2


def test_another_pipeline_is_gone_on_with_once_its_state_stands(store: Store) -> None:
    """Its snapshot and the ends of alerts are one transaction; where that fails, all goes on as before."""
    first, end = transition(1, 0), transition(1, 1, "resolved")
    store.commit(numbered(1), report(first), 100.0)
    loop = loop_over(Source(), Full(store, 1, "commit"))
    before, after = loop.groups, Groups("i", [plants.group()])
    with pytest.raises(StoreError):
        loop.adopt(after, [end])
    assert loop.groups is before
    assert (len(store.alerts.open()), store.stats().snapshots) == (1, 0)
    loop.adopt(after, [end])
    assert loop.groups is after
    assert (len(store.alerts.open()), store.stats().snapshots) == (0, 1)


def test_a_lost_session_is_counted_and_its_ids_are_forgotten_with_its_first_batch(store: Store) -> None:
    """Not earlier: what still waits in the inbox is of the session before, and known by its ids."""
    again = messages(dup=np.ones(3, np.bool_))
    source = Source(messages(), again, replace(again, epoch=2), batch([]))
    loop = loop_over(source, store)
    loop.turn(0.0)
    source.state = replace(source.state, sessions_lost=1, fresh_epochs=(2,))
    assert loop.turn(0.0).messages == 0
    assert loop.metrics.counts["messages_lost", "session"] == 1
    assert loop.turn(0.0).messages == 3, "of a new session: a new message"
    loop.attach(Source(replace(messages(6), epoch=1)))
    assert loop.turn(0.0).messages == 3


def test_a_stop_while_a_session_cannot_be_forgotten_takes_nothing(store: Store) -> None:
    source = Source(replace(messages(), epoch=2), fresh_epochs=(2,))
    loop = loop_over(source, Full(store, 99, "forget_session"))
    loop.stopping = lambda: True
    assert loop.turn(0.0) is None
    assert source.acknowledged == []
    assert store.stats().commits == 0


def test_what_was_lost_before_the_inbox_is_written_and_notified_now_and_then(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    """A hole without messages makes a row; that windows start over is said at most every ten seconds."""
    filled = messages(0, 8, first_mid=1)
    hole = replace(batch([]), holes=None, lost=Drops({Drop.OVERFLOW: 4}))
    source = Source(filled, hole, messages(9, 8, first_mid=9), hole)
    loop = loop_over(source, store)

    class Warm(Groups):
        def step(self, taken: Batch, now_s: float) -> Report:
            return replace(super().step(taken, now_s), interrupted=int(taken.broken))

    loop.groups = Warm("i", [plants.group()])
    loop_over.now_s = 20.0
    reports = [loop.turn(0.0) for _ in range(4)]
    assert [r.interrupted for r in reports] == [0, 1, 0, 1]
    assert store.stats().journal_rows_last == 4
    assert sum("begin again" in record.message for record in caplog.records) == 1


def test_silence_is_notified_to_a_pipeline_that_listens_for_it(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    """After ten seconds without a message, though we could hear; not while we are deaf, nor where nobody asks."""

    class Listening(Groups):
        listening = True  # type: ignore[assignment]

        def step(self, taken: Batch, now_s: float) -> Report:
            return replace(super().step(taken, now_s), notices=["p is silent"])

    source = Source(connected=False)
    loop = loop_over(source, store)
    loop_over.now_s = 11.0
    assert loop.turn(0.0) is None
    loop.groups = Listening("i", [plants.group()])
    assert loop.turn(0.0) is None, "deaf"
    source.state = replace(source.state, connected=True)
    loop_over.now_s = 20.0
    assert loop.turn(0.0) is None, "not long enough"
    loop_over.now_s = 22.0
    assert loop.turn(0.0).messages == 0
    assert any("p is silent" in record.message for record in caplog.records)


def test_a_backlog_thins_the_scoring_and_its_end_ends_that(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    """The batch says how thinly it is to be scored, so that the journal knows; both changes are said."""
    source = Source(messages(), fill=0.5)
    loop = loop_over(source, store, thinning_max=8)
    loop.turn(0.0)
    assert loop.metrics.gauges["thinning"] == 2
    (row,) = list(store.recover().journal)
    assert row[0].thinning == 2
    loop.load_shedding.thinning, source.state = 1, replace(source.state, fill=0.0)
    loop.load_shedding.next = lambda *_: 1  # type: ignore[method-assign]
    loop.load_shedding.thinning = 2
    loop.turn(0.0)
    assert loop.metrics.gauges["thinning"] == 1
