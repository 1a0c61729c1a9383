"""What the web asks of the daemon: a snapshot that it publishes after a step and never changes again."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from streamae.core.topics import Template
from streamae.core.types import StreamChange
from streamae.web.answers import LimitAnswer, UnjudgedAnswer

__all__ = ["SilenceWanted", "Snapshot", "StreamTable", "View"]


_SAID_APART = frozenset({"quarantined", "model_broken"})  # by a mark, and of the group
_NOTES = frozenset({"maintenance", "learning", "filling"})  # marks that no person has to act upon


@dataclass(frozen=True, slots=True)
class SilenceWanted:
    """A silence that somebody asks for: whom, by patterns and labels, and from when until when (wall clock, s)."""

    group: str
    stream: str
    rule: str
    labels: Mapping[str, str]
    starts_s: float
    ends_s: float
    created_by: str
    comment: str


@dataclass(frozen=True, slots=True, eq=False)
class StreamTable:
    """The streams of one group at one moment: `names[S]` beside `score[S]`, `threshold[S]`, `state[S]` and the rest.

    `worst[S]` is the index in `channels` of the largest share of the error (-1 before the first window), `time_s[S]`
    the event time of the last window (NaN before it), `learned[S]` the rows of `warmup_rows` that a stream has. Of a
    stream that nobody can judge yet, `rows[S]` of the `needed[S]` are there, and the rest come in about `eta_s[S]`
    seconds (NaN: nobody knows). `broken` says why the model can judge nothing at all, if so.
    `ratio[S]` is the score over what it was held against, above 1 in an alarm. `unjudged` says of streams that
    are heard and not judged since when and why, `limits` of those that are beyond a limit, which and how far.
    `marks` says of a few streams what is special about them beside their state, such as quarantined; `group_marks` says
    it of the group as a whole.
    `template` finds the labels in a name.
    `spark[S, n]` is the highest score over threshold in each of the last n slots of `slot_s` seconds, NaN for none.
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
    spark: npt.NDArray[np.float32] | None = None
    slot_s: float = 1.0
    marks: Mapping[int, Sequence[str]] = field(default_factory=dict)
    group_marks: Sequence[str] = ()
    template: Template | None = None
    rows: npt.NDArray[np.int64] | None = None
    needed: npt.NDArray[np.int64] | None = None
    eta_s: npt.NDArray[np.float64] | None = None
    broken: str = ""
    ratio: npt.NDArray[np.float64] | None = None
    unjudged: Mapping[int, UnjudgedAnswer] = field(default_factory=dict)
    limits: Mapping[int, LimitAnswer] = field(default_factory=dict)

    @property
    def troubles(self) -> dict[int, list[str]]:
        """What is wrong with a few streams beside their score: their marks, without mere notes, and why not judged."""
        found = {i: [mark for mark in marks if mark not in _NOTES] for i, marks in self.marks.items()}
        for i, why in self.unjudged.items():
            if why["reason"] not in _SAID_APART:
                found[i] = [*found.get(i, ()), f"not judged: {why['words']}"]
        return {i: marks for i, marks in found.items() if marks}

    def labels(self, stream: int) -> dict[str, str]:
        """Return the labels of a stream, read back from its name."""
        return (self.template and self.template.read(self.names[stream])) or {}


@dataclass(frozen=True, slots=True, eq=False)
class Snapshot:
    """What the daemon published last; immutable from then on.

    `unhealthy` and `unready` hold one sentence for each reason, and are empty while all is well. `conditions` are the
    things that need a person, as JSON values: kind, name, what, since_s, reason, failures. `status` is the line
    of the daemon's state as JSON values (connected, messages_per_s, streams, scored_per_s, lag_s, dropped ...).
    `sequence` counts snapshots.
    """

    taken_s: float
    unhealthy: Sequence[str] = ()
    unready: Sequence[str] = ()
    status: Mapping[str, Any] = field(default_factory=dict)
    tables: Mapping[str, StreamTable] = field(default_factory=dict)
    sequence: int = 0
    conditions: Sequence[Mapping[str, Any]] = ()


class View(Protocol):
    """What the web asks of the daemon; called from the web server's threads, so it must not wait for a step."""

    def now_s(self) -> float:
        """Return the wall clock, in seconds."""
        ...

    def snapshot(self) -> Snapshot:
        """Return the snapshot published last."""
        ...

    def metrics(self) -> bytes:
        """Return the text of /metrics."""
        ...

    def alerts_version(self) -> int:
        """Return a number that changes whenever an alert does, or what people said about one."""
        ...

    def alerts(
        self, state: str | None, limit: int, group: str | None = None, stream: str | None = None
    ) -> Sequence[Mapping[str, Any]]:
        """Return up to `limit` alerts as JSON values, newest first; `state` is firing, resolved or None for all."""
        ...

    def detail(self, group: str, stream: str, rows: int) -> Mapping[str, Any] | None:
        """Return a stream's last rows, reconstruction, scores and shares as JSON values; None: no such stream.

        Raises UnavailableError where the loop has no time to copy them.
        """
        ...

    def past(self, group: str, stream: str, from_s: float, until_s: float, points: int) -> Mapping[str, Any] | None:
        """Return a stream's rows, reconstruction and scores of a span of event time from the journal, as JSON values.

        Where it has more rows than `points` can show, the lowest and the highest of each part. None: no such stream.
        Raises UnavailableError where the journal is being read for somebody else, or the loop has no time.
        """
        ...

    def models(self) -> Sequence[Mapping[str, Any]]:
        """Return what each group's model was trained on, as JSON values."""
        ...

    def act(self, alert_id: str, action: str, note: str) -> bool:
        """Acknowledge an alert, or say what it turned out to be; False where there is no such alert."""
        ...

    def change(self, wanted: StreamChange, since_s: float | None) -> str:
        """Make a change of a stream; returns why it cannot be made, empty where it stands.

        A stream that learns again does so from its rows since then (event time; None: from what comes), as far as the
        journal has them. Raises UnavailableError where the loop has no time, or the daemon stops.
        """
        ...

    def silences(self) -> Sequence[Mapping[str, Any]]:
        """Return all silences that are kept, as JSON values, those that end last first."""
        ...

    def silence_of(self, group: str, stream: str) -> Mapping[str, Any] | None:
        """Return the active silence that names alerts of this stream; None where none does."""
        ...

    def silence(self, wanted: SilenceWanted) -> Mapping[str, Any]:
        """Make a silence. Raises UnavailableError where there are too many."""
        ...

    def end_silence(self, number: int) -> bool:
        """End a silence now; False where there is none of this number that has not ended."""
        ...

    def dead_letters(self, limit: int) -> Sequence[Mapping[str, Any]]:
        """Return what sinks refused for good, sink by sink, newest first: sink, alert, key and error."""
        ...

    def retry(self, sink: str) -> bool:
        """Deliver a sink's dead letters once more; False where it has none."""
        ...

    def poison(self) -> Sequence[Mapping[str, Any]]:
        """Return the messages that ended the process repeatedly and were left out, newest first."""
        ...

    def feedback(self, limit: int) -> Sequence[Mapping[str, Any]]:
        """Return what people said of alerts, newest first, with the windows of time that it speaks of."""
        ...
