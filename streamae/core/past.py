"""One stream of a running pipeline by itself: to judge its past again, with what is known of the stream now.

It keeps location and scale, weights, an estimate of the earlier threshold, and (Sparkplug) what the births said. It
leaves out all that belongs to the present moment: rows, averages, an alarm that is on. So a pipeline that is made of
it takes the stream's messages of any time, from the first on, and has no warm-up; a stream that was still learning
learns there from the beginning.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from streamae.core.pipeline import Group, Pipeline
from streamae.core.types import Maintenance, State

__all__ = ["StreamPast", "past_of"]


@dataclass(frozen=True, slots=True, eq=False)
class StreamPast:
    """Copies of what a pipeline knows of one stream; None where the stream is still learning it."""

    instance: str
    group: Group
    name: str
    births: State
    scale: State | None
    scoring: State | None
    threshold: State | None
    maintenance: Sequence[Maintenance]

    def pipeline(self, loads: Callable[[bytes], Any]) -> Pipeline:
        """Return a pipeline of this one stream, which is number 0, before its first message."""
        made = Pipeline(self.instance, replace(self.group, max_streams=1, flapping=None), loads)
        made.streams.add(self.name)
        made.begin()
        made.decoder.restore(self.births)
        made.maintenance.plan(self.maintenance)
        if self.scale is not None:
            made.scale.restore(self.scale)
        if self.scoring is not None and self.threshold is not None:
            made.scoring.restore(self.scoring)
            made.threshold.restore(self.threshold)
        return made


def past_of(pipeline: Pipeline, name: str, time_s: float, onsets: int) -> StreamPast | None:
    """Copy what a pipeline knows of a stream; None where it has none of this name. For the thread that steps it.

    Its past is judged from `time_s` on, since when `onsets` of its alarms have begun: the threshold stood lower then.
    """
    stream = pipeline.streams.index(name)
    if stream is None:
        return None
    scaled = pipeline.scale.seen(stream + 1)[stream] >= pipeline.scale.warmup_rows
    weighed = scaled and not pipeline.scoring.remaining(np.array([stream], np.int32))[0]
    return StreamPast(
        pipeline.instance,
        pipeline.group,
        name,
        pipeline.decoder.births(stream),
        _scale(pipeline, stream) if scaled else None,
        _only(pipeline.scoring.state(), stream) | {"smooth": np.full(1, np.nan)} if weighed else None,
        pipeline.threshold.earlier(stream, time_s, onsets) if weighed else None,
        tuple(pipeline.maintenance.planned),
    )


def _scale(pipeline: Pipeline, stream: int) -> State:
    kept = _only(pipeline.scale.state(stream + 1), stream)
    return kept | {"learning": np.zeros(0, np.int64), "kept": np.zeros((0, 0, 0))}


def _only(state: State, stream: int) -> State:
    """Return one stream's part of a stage's arrays `[S, ...]`."""
    return {name: array[stream : stream + 1] for name, array in state.items()}
