"""What a start makes of the store, and a reload of what runs: one way for both.

A pipeline is brought to a state: to that of the newest snapshot that fits and the journal after it, or to that of the
pipeline that runs. Groups that another model judges now are refilled from the journal (`daemon.refill`). Alerts that no
stream stands behind then are resolved, so that whoever knew of a beginning learns of the end.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from streamae.core.groups import Groups
from streamae.core.report import Report, Transition
from streamae.core.standing import firing_ids
from streamae.core.types import Batch
from streamae.daemon.refill import refill
from streamae.errors import StoreError
from streamae.store.poison import JOURNAL
from streamae.store.recovery import Recovery
from streamae.store.store import Store

__all__ = ["Recovered", "keep", "orphans", "recover"]

_ORPHANS_MAX = 100_000


@dataclass(frozen=True, slots=True, eq=False)
class Recovered:
    """What was recovered and what was not, in words, and the ends of alerts that are to be notified.

    `fresh`: some group is in a state that the store does not have yet.
    """

    notes: list[str]
    resolved: list[Transition]
    fresh: bool


@dataclass(slots=True, eq=False)
class _State:
    """A snapshot and the journal after it; `lost` are the groups that cannot go on with it."""

    snapshot: bytes | None
    journal: Iterator[tuple[Batch, float]]
    lost: list[str]


def recover(
    store: Store, groups: Groups, running: Groups | None = None, alive: Callable[[], object] = lambda: None
) -> Recovered:
    """Bring a new pipeline to the state of the store, or of the pipeline that is `running` on it.

    Nothing is written, and what runs stays as it is: see `keep`, and `Loop.adopt`. `alive` is called again and again
    while groups are refilled.
    """
    notes, fresh = _fold(store, groups, running, alive)
    left = orphans(store, groups)
    if left:
        notes.append(f"resolved {len(left)} alerts that no stream stands behind any more")
    return Recovered(notes, left, fresh)


def _fold(store: Store, groups: Groups, running: Groups | None, alive: Callable[[], object]) -> tuple[list[str], bool]:
    notes: list[str] = []
    state = _restored(store, groups, notes) if running is None else _taken_over(groups, running)
    changed = [name for name in state.lost if name in groups.pipelines]
    groups.aside = changed
    folded = _follow(store, groups, state.journal, notes)
    groups.aside = ()
    if changed and state.snapshot is not None:
        heritage = groups.heritage(state.snapshot)
        notes += refill(store, groups, changed, heritage, present=not folded, alive=alive)
    store.attempts.folded()
    notes += [
        f"group {name} is not in the configuration any more" for name in state.lost if name not in groups.pipelines
    ]
    if running is not None:
        kept = {name: len(pipeline.streams) for name, pipeline in groups.pipelines.items() if name not in changed}
        notes += [f"group {name} goes on with its {streams} streams" for name, streams in kept.items()]
    return notes, bool(state.lost)


def _taken_over(groups: Groups, running: Groups) -> _State:
    snapshot = running.snapshot()
    return _State(snapshot, iter(()), groups.restore(snapshot))


def _restored(store: Store, groups: Groups, notes: list[str]) -> _State:
    """Restore the newest snapshot that fits."""
    notes += store.notes
    skipped = 0
    while True:
        recovery = store.recover(skipped)
        if recovery.snapshot is None:
            return _State(None, _noted(store, recovery, notes), [])
        try:
            lost = groups.restore(recovery.snapshot)
        except (ValueError, KeyError, IndexError) as error:
            store.damage.append(f"a snapshot was passed over: {error}")
            notes.append(store.damage[-1])
            skipped += 1
            continue
        return _State(recovery.snapshot, _noted(store, recovery, notes), lost)


def _noted(store: Store, recovery: Recovery, notes: list[str]) -> Iterator[tuple[Batch, float]]:
    """The journal, which has said all that it has to say when it is read."""
    yield from recovery.journal
    notes += recovery.notes
    store.damage += recovery.notes


def _follow(store: Store, groups: Groups, journal: Iterator[tuple[Batch, float]], notes: list[str]) -> int:
    """Fold the journal; returns how many batches there were."""
    batches = messages = 0
    for batch, now_s in journal:
        for part in store.attempts.parts(batch, batches):
            sound, left_out = store.poison.without(part, JOURNAL, now_s)
            notes += [f"a message on {topic!r} in the journal ended each start: kept as poison" for topic in left_out]
            with store.attempts.journalled(sound, batches):
                groups.step(sound, now_s)
        batches, messages = batches + 1, messages + len(batch)
    streams = sum(len(pipeline.streams) for pipeline in groups.pipelines.values())
    if streams or batches:
        notes.append(
            f"recovered {streams} streams; folded {batches} batches with {messages} messages after the snapshot"
        )
    return batches


def keep(store: Store, groups: Groups, now_s: float, found: Recovered | None = None) -> list[str]:
    """Save what was folded and notify what was resolved, in words where that fails: a daemon that never lives to its
    next snapshot, because something ends it again and again, would otherwise fold more at each start, and at last do
    nothing else. Raises StoreError where somebody is to be notified and cannot be.
    """
    resolved = [] if found is None else found.resolved
    if not store.stats().uncovered_bytes and not resolved and not (found is not None and found.fresh):
        return []
    nothing = Batch([], [], np.zeros(0))
    try:
        store.commit(nothing, Report(0, 0, 0, nothing.lost, {}, resolved), now_s, groups.snapshot())
    except StoreError as error:
        if resolved:
            raise
        return [f"the recovered state could not be saved, the journal still has it: {error}"]
    return []


def orphans(store: Store, groups: Groups) -> list[Transition]:
    """Return the resolution of each alert that is open in the store and unknown to the pipeline.

    Nobody else would ever resolve it. It ends with the newest row of its stream, where the pipeline knows that.
    """
    firing = {alert for pipeline in groups.pipelines.values() for alert in firing_ids(pipeline)}
    left = [alert.transition for alert in store.alerts.open(_ORPHANS_MAX) if alert.transition.id not in firing]
    ends_s = [_newest_s(groups, last) for last in left]
    return [
        replace(last, sequence=last.sequence + 1, state="resolved", time_s=end_s)
        for last, end_s in zip(left, ends_s, strict=True)
    ]


def _newest_s(groups: Groups, last: Transition) -> float:
    pipeline = groups.pipelines.get(last.group)
    stream = None if pipeline is None else pipeline.streams.index(last.stream)
    row_s = float("nan") if pipeline is None or stream is None else float(pipeline.latest.row_s[stream])
    return float(np.fmax(last.time_s, row_s))
