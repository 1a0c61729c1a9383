"""What a start makes of the store: the pipeline's state, and the alerts that no state stands behind any more."""

from dataclasses import replace

import numpy as np

from streamae.core.groups import Groups
from streamae.core.types import Batch, Report, Transition
from streamae.errors import StoreError
from streamae.store.poison import JOURNAL
from streamae.store.store import Store

__all__ = ["fold", "keep", "orphans"]

_ORPHANS_MAX = 100_000


def fold(store: Store, groups: Groups) -> list[str]:
    """Bring a pipeline to the state that the store has: the newest snapshot that fits, and the journal after it.

    Returns what was recovered and what was not, in words.
    """
    notes = list(store.notes)
    skipped = 0
    while True:
        recovery = store.recover(skipped)
        if recovery.snapshot is None:
            break
        try:
            lost = groups.restore(recovery.snapshot)
        except (ValueError, KeyError, IndexError) as error:
            store.damage.append(f"a snapshot was passed over: {error}")
            notes.append(store.damage[-1])
            skipped += 1
            continue
        notes += [
            f"group {name} starts cold: its model or its place in the configuration is another now" for name in lost
        ]
        break
    batches = messages = 0
    for batch, now_s in recovery.journal:
        for part in store.attempts.parts(batch, batches):
            sound, left_out = store.poison.without(part, JOURNAL, now_s)
            notes += [f"a message on {topic!r} in the journal ended each start: kept as poison" for topic in left_out]
            with store.attempts.journalled(sound, batches):
                groups.step(sound, now_s)
        batches, messages = batches + 1, messages + len(batch)
    store.attempts.folded()
    notes += recovery.notes
    store.damage += recovery.notes
    streams = sum(len(pipeline.streams) for pipeline in groups.pipelines.values())
    if streams or batches:
        notes.append(
            f"recovered {streams} streams; folded {batches} batches with {messages} messages after the snapshot"
        )
    return notes


def keep(store: Store, groups: Groups, now_s: float) -> list[str]:
    """Save what was folded, in words where that fails: a daemon that never lives to its next snapshot, because
    something ends it again and again, would otherwise fold more at each start, and at last do nothing else.
    """
    if not store.stats().uncovered_bytes:
        return []
    nothing = Batch([], [], np.zeros(0))
    try:
        store.commit(nothing, Report(0, 0, 0, nothing.lost, {}, ()), now_s, groups.snapshot())
    except StoreError as error:
        return [f"the recovered state could not be saved, the journal still has it: {error}"]
    return []


def orphans(store: Store, groups: Groups) -> list[Transition]:
    """Return the resolution of each alert that is open in the store and unknown to the pipeline.

    That happens where a group started cold (another model, a damaged state): nobody else would ever resolve it.
    """
    firing = {alert for pipeline in groups.pipelines.values() for alert in pipeline.firing_ids()}
    left = [alert.transition for alert in store.alerts.open(_ORPHANS_MAX) if alert.transition.id not in firing]
    return [replace(last, sequence=last.sequence + 1, state="resolved") for last in left]
