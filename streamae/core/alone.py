"""One stream of a running lane by itself: to judge its past anew, with what is known of it now.

Kept are its location and scale, its weights, where its threshold must have stood, and (Sparkplug) what its births
said. Left behind is whatever belongs to the present moment: rows, averages, an alarm that is on. So a lane that is made
of it takes the stream's messages of any time, from the first on, and has no warm-up; a stream that was still learning
learns from the beginning there.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from streamae.core.lane import Group, Lane
from streamae.core.types import Maintenance, State

__all__ = ["Alone", "alone"]


@dataclass(frozen=True, slots=True, eq=False)
class Alone:
    """Copies of what a lane knows of one stream; None where the stream has still to learn it."""

    instance: str
    group: Group
    name: str
    births: State
    scale: State | None
    scoring: State | None
    threshold: State | None
    maintenance: Sequence[Maintenance]

    def lane(self, loads: Callable[[bytes], Any]) -> Lane:
        """Return a lane of this one stream, which is number 0, before its first message."""
        made = Lane(self.instance, replace(self.group, max_streams=1, flapping=None), loads)
        made.streams.add(self.name)
        made.begin()
        made.decoder.restore(self.births)
        made.upkeep.plan(self.maintenance)
        if self.scale is not None:
            made.scale.restore(self.scale)
        if self.scoring is not None and self.threshold is not None:
            made.scoring.restore(self.scoring)
            made.threshold.restore(self.threshold)
        return made


def alone(lane: Lane, name: str, time_s: float, onsets: int) -> Alone | None:
    """Copy what a lane knows of the stream of this name, None where it knows none. For the thread that steps it.

    Its past is judged from `time_s` on, since when `onsets` of its alarms have begun: the threshold stood lower then.
    """
    stream = lane.streams.index(name)
    if stream is None:
        return None
    scaled = lane.scale.seen(stream + 1)[stream] >= lane.scale.warmup_rows
    weighed = scaled and not lane.scoring.remaining(np.array([stream], np.int32))[0]
    return Alone(
        lane.instance,
        lane.group,
        name,
        lane.decoder.births(stream),
        _scale(lane, stream) if scaled else None,
        _only(lane.scoring.state(), stream) | {"smooth": np.full(1, np.nan)} if weighed else None,
        lane.threshold.earlier(stream, time_s, onsets) if weighed else None,
        tuple(lane.upkeep.planned),
    )


def _scale(lane: Lane, stream: int) -> State:
    kept = _only(lane.scale.state(stream + 1), stream)
    return kept | {"learning": np.zeros(0, np.int64), "kept": np.zeros((0, 0, 0))}


def _only(state: State, stream: int) -> State:
    """Return one stream's part of a stage's arrays `[S, ...]`."""
    return {name: array[stream : stream + 1] for name, array in state.items()}
