"""The streams of every group as the page lists them: copies, so that the loop can go on."""

from collections.abc import Mapping

import numpy as np

from streamae.core.pipeline import Pipeline
from streamae.daemon.history import GroupHistory
from streamae.web.app import StreamTable

__all__ = ["tables"]


def tables(
    pipeline: Pipeline,
    histories: Mapping[str, GroupHistory] | None = None,
    monotonic_s: float = 0.0,
    now_s: float = -np.inf,
) -> dict[str, StreamTable]:
    """Return the streams of every group as they stand at `now_s`, in arrays of their own."""
    made = {}
    histories = histories or {}
    for name, lane in pipeline.lanes.items():
        S, latest, history = len(lane.streams), lane.latest, histories.get(name)
        made[name] = StreamTable(
            group=name,
            names=lane.streams.names[:S],
            channels=lane.profile.channels,
            score=latest.score[:S].copy(),
            threshold=latest.threshold[:S].copy(),
            state=latest.state[:S].copy(),
            worst=latest.worst[:S].copy(),
            time_s=latest.time_s[:S].copy(),
            learned=lane.scale.seen(S).astype(np.int64),
            warmup_rows=lane.scale.warmup_rows,
            marks=lane.marks(now_s),
            template=lane.streams.parsed,
            spark=None if history is None else history.spark(monotonic_s),
            slot_s=1.0 if history is None else history.slot_s,
        )
    return made
