"""What the web asks of the daemon: a snapshot that it publishes after a step and never changes again."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

__all__ = ["Snapshot", "StreamTable", "View"]


@dataclass(frozen=True, slots=True, eq=False)
class StreamTable:
    """The streams of one group at one moment: `names[S]` beside `score[S]`, `threshold[S]`, `state[S]` and the rest.

    `worst[S]` is the index in `channels` of the largest share of the error (-1 before the first window), `time_s[S]`
    the event time of the last window (NaN before it), `learned[S]` the rows of `warmup_rows` that a stream has.
    """

    group: str
    names: Sequence[str]
    channels: Sequence[str]
    score: npt.NDArray[np.float64]
    threshold: npt.NDArray[np.float64]
    state: npt.NDArray[np.int8]
    worst: npt.NDArray[np.int32]
    time_s: npt.NDArray[np.float64]
    learned: npt.NDArray[np.int64]
    warmup_rows: int


@dataclass(frozen=True, slots=True, eq=False)
class Snapshot:
    """What the daemon published last; immutable from then on.

    `unhealthy` and `unready` hold one sentence for each reason, and are empty while all is well. `status` is the line
    of the daemon's state as JSON values (connected, messages_per_s, streams, scored_per_s, lag_s, dropped ...).
    """

    taken_s: float
    unhealthy: Sequence[str] = ()
    unready: Sequence[str] = ()
    status: Mapping[str, Any] = field(default_factory=dict)
    tables: Mapping[str, StreamTable] = field(default_factory=dict)


class View(Protocol):
    """What the web asks of the daemon; called from the web server's threads, so it must not wait for a step."""

    def snapshot(self) -> Snapshot:
        """Return the snapshot published last."""
        ...

    def metrics(self) -> bytes:
        """Return the text of /metrics."""
        ...

    def alerts(self, state: str | None, limit: int) -> Sequence[Mapping[str, Any]]:
        """Return up to `limit` alerts as JSON values, newest first; `state` is firing, resolved or None for all."""
        ...

    def act(self, alert_id: str, action: str, note: str) -> bool:
        """Acknowledge, silence or mark an alert as false alarm; False where there is no such alert."""
        ...
