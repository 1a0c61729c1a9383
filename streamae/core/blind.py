"""Streams that are not judged as they should be, though nothing fails: one that rests, and one that is blind.

    rests   its warm-up goes on, since a channel stands still that always moved in the training (`core.scale`)
    blind   its threshold lies where no plausible score reaches it: it was raised by alarms that were none, its scale
            was learnt from what is not normal, or the model itself says so of streams that it does not know

What is compared for the latter is the threshold in units of the limit that the model's own streams have, so that
neither a threshold that has moved nor one that began too high escapes. While its alert fires, no stream is blind.
"""

from collections.abc import Iterator

import numpy as np

from streamae.core.pipeline import Pipeline
from streamae.core.types import I64, AlertState

__all__ = ["BLIND_FROM", "blind", "unfit"]

BLIND_FROM = 30.0  # limits of normal: scores of most faults that matter are lower


def blind(pipeline: Pipeline) -> I64:
    """Return the numbers of the streams that are blind."""
    S = len(pipeline.streams)
    with np.errstate(over="ignore", invalid="ignore"):
        height = pipeline.latest.threshold[:S] * np.exp(pipeline.scoring.above(S))
        return np.flatnonzero((height > BLIND_FROM) & (pipeline.alerts.standing(S) != AlertState.FIRING))


def unfit(pipeline: Pipeline) -> Iterator[tuple[int, str]]:
    """Yield the streams that rest or are blind, and why, in words."""
    for stream in blind(pipeline).tolist():
        yield stream, f"blind: threshold {pipeline.latest.threshold[stream]:.3g}"
    waits = pipeline.scale.waits(len(pipeline.streams))
    for stream in np.flatnonzero(waits >= 0).tolist():
        yield stream, f"rests: {pipeline.profile.channels[waits[stream]]}"
