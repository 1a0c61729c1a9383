"""The streams of every group as the page lists them: copies, so that the loop can go on."""

from collections.abc import Mapping

import numpy as np

from streamae.core.blind import unfit
from streamae.core.groups import Groups
from streamae.core.takeover import progress, unjudged
from streamae.daemon.page.memory import GroupHistory
from streamae.web.app import StreamTable

__all__ = ["tables"]


def tables(
    groups: Groups,
    histories: Mapping[str, GroupHistory] | None = None,
    monotonic_s: float = 0.0,
    now_s: float = -np.inf,
) -> dict[str, StreamTable]:
    """Return the streams of every group as they stand at `now_s`, in arrays of their own."""
    made = {}
    histories = histories or {}
    for name, pipeline in groups.pipelines.items():
        S, latest, history = len(pipeline.streams), pipeline.latest, histories.get(name)
        now, marks = progress(pipeline), pipeline.marks(now_s)
        for stream, word in unjudged(pipeline).items():
            marks.setdefault(stream, []).append(word)  # else nobody sees why its alert does not end
        for stream, words in unfit(pipeline):
            marks.setdefault(stream, []).append(words)
        made[name] = StreamTable(
            group=name,
            names=pipeline.streams.names[:S],
            channels=pipeline.profile.channels,
            score=latest.score[:S].copy(),
            threshold=latest.threshold[:S].copy(),
            state=now.state,
            worst=latest.worst[:S].copy(),
            time_s=latest.time_s[:S].copy(),
            learned=pipeline.scale.seen(S).astype(np.int64),
            warmup_rows=pipeline.scale.warmup_rows,
            marks=marks,
            template=pipeline.streams.parsed,
            spark=None if history is None else history.spark(monotonic_s),
            slot_s=1.0 if history is None else history.slot_s,
            rows=now.rows,
            needed=now.needed,
            eta_s=None if history is None else history.cadence.eta_s(pipeline, now),
            broken=pipeline.broken,
        )
    return made
