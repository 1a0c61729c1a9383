"""Groups that another model judges from now on get from the journal what that model needs to judge at once.

The journal is read from some way back to its end, into new pipelines (`core.takeover`); where a stream still lacks rows
then, once more from further back. What this costs is bounded, since nothing is judged meanwhile: a stream that sends
too seldom for that fills its window in its own time, and the state says so. What is read depends on the journal alone,
so a start after a crash arrives at the same state.
"""

import logging
from collections.abc import Callable, Collection, Mapping, Sequence

import numpy as np

from streamae.core.groups import Groups
from streamae.core.takeover import hold, inherit, inherit_births, states
from streamae.core.types import AlertState, State
from streamae.store.past import Past
from streamae.store.poison import JOURNAL
from streamae.store.store import Store

__all__ = ["refill"]

log = logging.getLogger(__name__)
_FIRST_MESSAGES = 20_000
_GROWTH = 8
_COST_MAX = 6_000_000  # messages to look through, some seconds
_ROW_COST = 40  # what opening a row of the journal costs, in messages
_OWN_COST = 10  # what decoding a message costs
_OPEN_MAX = 100_000
_ROW_BASE = 1 << 40  # by which a row is another one to `store.attempts` than the same number in the fold


Heritage = Mapping[str, tuple[Sequence[str], State]]


def refill(
    store: Store,
    groups: Groups,
    names: Collection[str],
    heritage: Heritage,
    *,
    present: bool,
    alive: Callable[[], object] = lambda: None,
) -> list[str]:
    """Bring these groups, whose model is another now, up to the end of the journal; returns in words what they have.

    `heritage` is what the state before has of them (`Groups.heritage`), and `present` whether the journal ends there.
    If it does, verdicts on sensors go on; else they are resolved, and found again. `alive` is called at every row of
    the journal: a long refill is no hang.
    """
    for name in names:
        _begin(groups, name, heritage)
    with store.past() as past:
        _read(store, past, groups, names, heritage, alive)
    for name in names:
        pipeline = groups.pipelines[name]
        pipeline.maintenance.plan(groups.maintenance)
        if present and name in heritage and heritage[name][1]:
            inherit(pipeline, heritage[name][1])
    held = _hold(store, groups, names)
    return [_note(groups, name, held[name]) for name in names]


def _begin(groups: Groups, name: str, heritage: Heritage) -> None:
    streams, state = heritage.get(name, ((), {}))
    groups.renew(name, streams)
    if state:
        inherit_births(groups.pipelines[name], state)


def _read(
    store: Store,
    past: Past,
    groups: Groups,
    names: Collection[str],
    heritage: Heritage,
    alive: Callable[[], object],
) -> None:
    span, messages, left = past.span(), float(_FIRST_MESSAGES), float(_COST_MAX)
    while span is not None and names:
        first = max(past.back(int(messages)), span[0])
        cost = messages + _pass(store, past, groups, names, first, alive)
        names, left = [name for name in names if not _ready(groups, name)], left - cost
        growth = min(_GROWTH, left / max(cost, 1.0))
        if first <= span[0] or growth < 1.5:
            return
        messages *= growth
        for name in names:
            _begin(groups, name, heritage)


def _pass(
    store: Store, past: Past, groups: Groups, names: Collection[str], first: int, alive: Callable[[], object]
) -> float:
    """Read the journal from row `first` to its end; returns what it cost beside looking through it."""
    wanted: dict[bytes, bool] = {}
    pipelines = [groups.pipelines[name] for name in names]

    def ours(topic: bytes) -> bool:
        if topic not in wanted:
            takers = groups.takers(topic)
            wanted[topic] = any(pipeline in takers for pipeline in pipelines)
        return wanted[topic]

    cost = 0.0
    for number, batch, now_s in past.rows(first, ours):
        for part in store.attempts.parts(batch, _ROW_BASE + number):
            sound, left_out = store.poison.without(part, JOURNAL, now_s)
            for topic in left_out:
                log.error("a message on %r in the journal ended the process over and over: kept as poison", topic)
            with store.attempts.journalled(sound, _ROW_BASE + number):
                groups.refill(names, sound, now_s)
        alive()
        cost += _ROW_COST + _OWN_COST * len(batch)
    return cost


def _ready(groups: Groups, name: str) -> bool:
    """Whether the next row of each stream that is known gives a window that can be judged."""
    pipeline = groups.pipelines[name]
    full = pipeline.rings.fill(len(pipeline.streams)) >= pipeline.profile.window
    return len(full) > 0 and bool(full.all()) and not (states(pipeline) == AlertState.LEARNING).any()


def _hold(store: Store, groups: Groups, names: Collection[str]) -> dict[str, int]:
    """Let the groups' streams go on with their alerts; of two that fire for one stream, with the newer."""
    held = dict.fromkeys(names, 0)
    for alert in store.alerts.open(_OPEN_MAX):
        last = alert.transition
        if last.group in held and last.instance == groups.instance:
            held[last.group] += hold(groups.pipelines[last.group], last)
    return held


def _note(groups: Groups, name: str, held: int) -> str:
    pipeline = groups.pipelines[name]
    S, state = len(pipeline.streams), states(pipeline)
    full = int(np.count_nonzero(pipeline.rings.fill(S) >= pipeline.profile.window))
    learning = int(np.count_nonzero(state == AlertState.LEARNING))
    if not S:
        return f"group {name} starts cold: the journal has none of its rows"
    words = f"group {name} has another model now: {full} of {S} streams have their windows from the journal"
    words += f", {learning} learn what is normal" if learning else ""
    return words + (f", {held} alerts that fire go on" if held else "")
