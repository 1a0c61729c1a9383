"""Which streams are heard and yet not judged, since when, and why: what is not judged is not well.

A stream that fills its window after a gap is not meant, nor one that learns: they will be judged in a while. These
will not, as long as nobody does anything about it. Each reason is a run of refusals without anything taken between, or
rows that never make a window, so that a stream leaves here by itself as soon as it is judged again. Who is silent is
`stale` (`core.sensors`).
"""

from typing import Literal, NamedTuple, get_args

import numpy as np

from streamae.core.align_rule import GridAlign
from streamae.core.pipeline import Pipeline
from streamae.core.types import I8, AlertState, Bool

__all__ = ["REASONS", "Reason", "Unjudged", "mark_unjudged", "unjudged_reasons", "unjudged_streams"]

Reason = Literal["late", "clock_stands", "missing_channel", "gaps", "quarantined", "model_broken"]
REASONS: tuple[Reason, ...] = get_args(Reason)
_RUN_MIN = 10  # refusals one after another
_WINDOWS = 2  # lengths of a window in rows, without one


class Unjudged(NamedTuple):
    """Why a stream is not judged: one of REASONS, in `words` for people, and since which event time.

    `since_s` is that of the last window that was judged; NaN: none ever was.
    """

    since_s: float
    reason: Reason
    words: str


def unjudged_reasons(pipeline: Pipeline) -> I8:
    """Return for each stream the number of its reason in REASONS, -1 for none: `[S]`."""
    S, channels = len(pipeline.streams), len(pipeline.profile.channels)
    refused, grid = pipeline.align.refused, pipeline.group.align
    run = _RUN_MIN * channels if isinstance(grid, GridAlign) else _RUN_MIN
    bare = _RUN_MIN
    if isinstance(grid, GridAlign):
        bare += int(grid.bridged_s(pipeline.profile.gap_max_s) / grid.every_s)
    found = np.full(S, -1, np.int8)
    holds: dict[Reason, Bool] = {
        "gaps": pipeline.rings.waited(S) >= _WINDOWS * pipeline.profile.window,
        "missing_channel": (refused.short[:S] >= _RUN_MIN) | (refused.bare[:S] >= bare),
        "clock_stands": refused.still[:S] >= run,
        "late": refused.late[:S] >= run,
    }
    for reason, which in holds.items():  # of several the last is the nearest to its cause
        found[which] = REASONS.index(reason)
    found[pipeline.quarantine.held(S)] = REASONS.index("quarantined")
    if pipeline.broken:
        found[:] = REASONS.index("model_broken")
    return found


def unjudged_streams(pipeline: Pipeline) -> dict[int, Unjudged]:
    """Return the streams that are heard and not judged."""
    number = unjudged_reasons(pipeline)
    since_s = pipeline.threshold.judged_s(len(number))
    found = {}
    for stream in np.flatnonzero(number >= 0).tolist():
        reason = REASONS[number[stream]]
        found[stream] = Unjudged(float(since_s[stream]), reason, _words(pipeline, stream, reason))
    return found


def mark_unjudged(pipeline: Pipeline, state: I8) -> I8:
    """Return the states `[S]` with UNJUDGED where that holds; an alert that is pending or fires stays what it is."""
    unjudged = (unjudged_reasons(pipeline) >= 0) & (state < AlertState.PENDING)
    return np.where(unjudged, np.int8(AlertState.UNJUDGED), state)


def _words(pipeline: Pipeline, stream: int, reason: Reason) -> str:
    if reason == "missing_channel":
        names = ", ".join(pipeline.profile.channels[c] for c in pipeline.align.dead(stream))
        return f"{names or 'a channel'} does not come, and a row needs all channels"
    if reason == "gaps":
        rows, gap_max_s = pipeline.profile.window, pipeline.rings.gap_max_s
        return f"no {rows} rows come without a gap of more than {gap_max_s:g} s, and a window needs them"
    if reason == "model_broken":
        return f"the model judges nothing: {pipeline.broken}"
    return _WORDS[reason]


_WORDS = {
    "late": "its times lie behind one that it sent before: its clock, or that of another sender, is wrong",
    "clock_stands": "its times do not move: its clock stands still",
    "quarantined": "the model fails on it",
}
