"""Another model takes over a group: what it gets of the time before it, and how far each stream has come.

The former model judged the past, and its verdicts stand. So the new model judges no window of the past and reports
nothing about it: the rows fill its windows, streams that it does not know learn from them what is normal, and an alert
that fires goes on under its id, until the new model has judged the stream.
"""

from dataclasses import dataclass

import numpy as np

from streamae.core.arrays import rounds
from streamae.core.pipeline import Pipeline
from streamae.core.quarantine import judged
from streamae.core.report import Transition
from streamae.core.transitions import ANOMALY
from streamae.core.types import I8, I64, AlertState, Batch, Bool, Rows, State
from streamae.core.unjudged import mark_unjudged

__all__ = ["Progress", "hold", "inherit", "inherit_births", "learn_rows", "progress", "refill", "states", "unjudged"]


def refill(pipeline: Pipeline, batch: Batch, wall_s: float = -np.inf) -> None:
    """Take the group's messages of a batch of the past, in order. The state does not depend on how they are batched."""
    if batch.broken:
        pipeline.interrupt(batch.holes)
    readings, _ = pipeline.decoder.decode(batch.topics, batch.payloads, batch.arrival_s, wall_s)
    pipeline.begin()
    rows, _ = pipeline.aligned(readings)
    learn_rows(pipeline, rows)
    pipeline.decoder.sequences.taken()
    pipeline.decoder.notices()


def learn_rows(pipeline: Pipeline, rows: Rows) -> None:
    """Let rows of the past fill windows and teach what is normal; none is judged."""
    windows = pipeline.windows(rows)[1].windows
    learning = pipeline.scoring.remaining(windows.stream) > 0
    stream, start_s, time_s = windows.stream[learning], windows.start_s[learning], windows.time_s[learning]
    answer = judged(pipeline.group.reconstructor, windows.values[learning], len(pipeline.profile.calibration.channel))
    maintenance = pipeline.maintenance.touches(stream, start_s, time_s)
    for part in rounds(stream):
        index = part[~answer.failed[part] & (pipeline.scoring.remaining(stream[part]) > 0)]
        pipeline.scoring.step(stream[index], answer.errors[index], maintenance[index])


def inherit(pipeline: Pipeline, state: State) -> None:
    """Take over the stages that do not depend on the model, as `Pipeline.state` gave them; the channels must be equal.

    The pipeline's first streams are those of the state.
    """
    inherit_births(pipeline, state)
    pipeline.align.restore(_stage(state, "align"))
    pipeline.counters.restore(_stage(state, "counters"))
    pipeline.health.restore(_stage(state, "health"))
    pipeline.flapping.restore(_stage(state, "flapping"))
    pipeline.flapping.release()
    pipeline.places.restore(_stage(state, "places"))
    pipeline.align.grow(len(pipeline.streams))
    pipeline.counters.grow(len(pipeline.streams))
    pipeline.health.grow(len(pipeline.streams))


def inherit_births(pipeline: Pipeline, state: State) -> None:
    """Take over what Sparkplug births said: messages of the past need them, and their own births may be gone."""
    pipeline.decoder.restore(_stage(state, "decode"))


def _stage(state: State, stage: str) -> State:
    return {key.partition(".")[2]: array for key, array in state.items() if key.startswith(f"{stage}.")}


def hold(pipeline: Pipeline, last: Transition) -> bool:
    """Continue a firing alert, whose newest transition is `last`; False where the pipeline has no such stream.

    It resolves unless the score is high under the new model within `keep_firing_for_s` of the stream's newest row.
    """
    stream = pipeline.streams.index(last.stream)
    if last.rule != ANOMALY or stream is None or pipeline.alerts.standing(stream + 1)[stream] == AlertState.FIRING:
        return False
    pipeline.begin()
    newest_s = np.fmax(last.time_s, pipeline.latest.row_s[stream])
    peak = last.score if last.peak_score is None else last.peak_score
    pipeline.alerts.hold(stream, last.severity, last.sequence, (last.onset_s, float(newest_s)), peak)
    pipeline.threshold.hold(stream)
    return True


@dataclass(frozen=True, slots=True, eq=False)
class Progress:
    """How far each stream has come: `state[S]` (an AlertState), and until it can be judged `rows[S]` of `needed[S]`.

    `needed` are the rows of the warm-up, of the first window, and of the windows from which a stream learns its level.
    """

    state: I8
    rows: I64
    needed: I64


def states(pipeline: Pipeline) -> I8:
    """Return the state of each stream, `[S]`; INACTIVE only where full windows have been judged, and still are."""
    S = len(pipeline.streams)
    alert, waits = pipeline.alerts.standing(S), _waits(pipeline)
    state: I8 = np.where((alert > AlertState.INACTIVE) | (waits == AlertState.INACTIVE), alert, waits).astype(np.int8)
    return mark_unjudged(pipeline, state)


def unjudged(pipeline: Pipeline) -> dict[int, str]:
    """Return the streams whose alert fires though no window of theirs can be judged now, with what they wait for."""
    firing = pipeline.alerts.firing(len(pipeline.streams))
    waits = _waits(pipeline)[firing]
    found = zip(firing.tolist(), waits.tolist(), strict=True)
    return {stream: AlertState(state).word for stream, state in found if state != AlertState.INACTIVE}


def progress(pipeline: Pipeline) -> Progress:
    """Return how far each stream has come."""
    S, T = len(pipeline.streams), pipeline.profile.window
    state, fill = states(pipeline), pipeline.rings.fill(S)
    learn = max(pipeline.scoring.learn_windows - 1, 0) * pipeline.group.stride
    left = pipeline.scoring.remaining(np.arange(S, dtype=np.int32)).astype(np.int64)
    learnt = np.maximum(pipeline.scoring.learn_windows - left - 1, 0) * pipeline.group.stride
    learning = state == AlertState.LEARNING
    rows = np.where(learning, pipeline.scale.seen(S) + np.minimum(fill, T) + learnt, fill)
    needed = np.where(learning, pipeline.scale.warmup_rows + T + learn, T)
    return Progress(state, np.minimum(rows, needed), needed)


def _waits(pipeline: Pipeline) -> I8:
    """LEARNING or FILLING while a stream cannot be judged, INACTIVE where it can, `[S]`."""
    S = len(pipeline.streams)
    known = pipeline.scoring.judged(S) & (pipeline.rings.fill(S) >= pipeline.profile.window)
    waits: I8 = np.where(known, AlertState.INACTIVE, AlertState.FILLING).astype(np.int8)
    waits[_learning(pipeline)] = AlertState.LEARNING
    return waits


def _learning(pipeline: Pipeline) -> Bool:
    S = len(pipeline.streams)
    scaled = pipeline.scale.seen(S) >= pipeline.scale.warmup_rows
    learning: Bool = ~scaled | (pipeline.scoring.remaining(np.arange(S, dtype=np.int32)) > 0)
    return learning
