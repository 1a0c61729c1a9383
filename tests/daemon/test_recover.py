"""The contract of daemon.recover: what a start makes of the store."""

import numpy as np
import pytest

from streamae.core.alert import AlertRule
from streamae.core.groups import Groups
from streamae.core.report import Report
from streamae.core.standing import firing_ids
from streamae.core.types import Batch
from streamae.daemon.recover import keep, orphans, recover
from streamae.store.store import Store
from tests import plants
from tests.core.test_pipeline import BAD, plant

RULE = AlertRule(keep_firing_for_s=1000)


@pytest.fixture
def open_store(tmp_path):
    stores = []

    def make():
        stores.append(Store.open(tmp_path, "process", lambda: 0.0))
        return stores[-1]

    yield make
    stores[-1].close()


def live(store, groups, messages, *, step=17, snapshot_after=()):
    """Carry messages through pipeline and store; returns what a page would show of the streams."""
    for n, first in enumerate(range(0, len(messages), step)):
        batch = plants.batch(messages[first : first + step])
        report = groups.step(batch, 0.0)
        store.commit(batch, report, 0.0, groups.snapshot() if n in snapshot_after else None)
    return look(groups)


def look(groups):
    pipeline = groups.pipelines["pumps"]
    S = len(pipeline.streams)
    return (
        pipeline.streams.names[:S],
        pipeline.rings.fill(S).tolist(),
        pipeline.scale.seen(S).tolist(),
        sorted(firing_ids(pipeline)),
    )


@pytest.mark.parametrize("snapshots", [(), (3,), (3, 9)])
def test_a_restart_is_the_fold_of_snapshot_and_journal(open_store, snapshots):
    """Windows, warm-up and open alerts are those of the process that ended, with or without a snapshot."""
    store = open_store()
    before = live(store, Groups("i", [plants.group(alert=RULE)]), plant(60, bad=BAD), snapshot_after=snapshots)
    assert before[3], "an alert is open"
    store.close()
    store = open_store()
    again = Groups("i", [plants.group(alert=RULE)])
    notes = recover(store, again).notes
    assert look(again) == before
    assert orphans(store, again) == []
    assert any("recovered 3 streams" in note for note in notes)


def test_an_alert_that_no_state_stands_behind_is_resolved(open_store):
    """A group that is gone, or whose streams are called otherwise now, leaves no alert open; notified once."""
    store = open_store()
    groups = Groups("i", [plants.group(alert=RULE)])
    live(store, groups, plant(60, bad=BAD), snapshot_after=(9, 10))
    store.commit(Batch([], [], np.zeros(0)), Report(0, 0, 0, {}, {}, ()), 0.0, groups.snapshot())
    store.close()
    store = open_store()
    gone = Groups("i", [plants.group("fans", template="fan/{pump}")])
    found = recover(store, gone)
    assert "group pumps is not in the configuration any more" in found.notes
    (resolved,) = found.resolved
    (alert,) = store.alerts.open()
    assert (resolved.id, resolved.state) == (alert.transition.id, "resolved")
    assert resolved.sequence == alert.transition.sequence + 1
    assert keep(store, gone, 0.0, found) == []
    assert store.alerts.open() == []
    assert orphans(store, gone) == []


def test_a_snapshot_that_cannot_be_read_is_passed_over(open_store):
    """Where the newest snapshot does not fit, the one before it and more of the journal give the same state."""
    store = open_store()
    groups = Groups("i", [plants.group(alert=RULE)])
    before = live(store, groups, plant(60, bad=BAD), snapshot_after=(5,))
    store.commit(Batch([], [], np.zeros(0)), Report(0, 0, 0, {}, {}, ()), 0.0, b"not a snapshot of this version")
    store.close()
    store = open_store()
    again = Groups("i", [plants.group(alert=RULE)])
    notes = recover(store, again).notes
    assert any("passed over" in note for note in notes)
    assert look(again) == before


def test_a_start_keeps_what_it_has_folded(open_store):
    """However often a process ends before its next snapshot, each start folds only what came since the last start."""
    open_store().close()
    messages, folded = plant(60), []
    for first in range(0, len(messages), 30):
        store, groups = open_store(), Groups("i", [plants.group(alert=RULE)])
        folded += [note for note in recover(store, groups).notes if "; folded" in note]
        assert keep(store, groups, 0.0) == []
        live(store, groups, messages[first : first + 30], step=30)
        store._abandon()
    assert len(folded) > 1
    assert all("folded 1 batches" in note for note in folded), folded
    open_store()
