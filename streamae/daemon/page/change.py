"""Changes of a stream that people ask for: what can be made, and what a stream that learns again learns from.

A change is made in the loop's thread between two turns, so that the journal has everything that the pipeline has seen.
What is read of it is bounded; a stream of which the journal has too little goes on to learn from what comes. It is
answered when it stands in the store.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from streamae.core.changes import packed
from streamae.core.groups import Groups
from streamae.core.past import past_of
from streamae.core.pipeline import Pipeline
from streamae.core.report import Report
from streamae.core.types import StreamChange
from streamae.daemon.json_parser import json_loads
from streamae.daemon.loop import Loop
from streamae.daemon.page.mailbox import Mailbox
from streamae.daemon.page.past import rows_since
from streamae.errors import UnavailableError
from streamae.store.store import Store

__all__ = ["StreamChanges"]

_WARMUPS = 3  # rows for so many of them are read: a part of them may show a machine that rests
_ROWS_MAX = 20_000


@dataclass(slots=True)
class StreamChanges:
    """Makes changes: called by any thread, they are done by the loop's; `note` hears of each that was made."""

    loop: Loop
    store: Store
    mailbox: Mailbox
    note: Callable[[Report], object]
    wake: Callable[[], object] = field(default=lambda: None)
    """Says that there may be something for the sinks."""

    def __call__(self, wanted: StreamChange, since_s: float | None) -> str:
        """Make a change; returns why it cannot be made, empty where it stands. Raises UnavailableError.

        A stream that learns again does so from its rows `since_s` (event time), as far as the journal has them.
        """
        return self.mailbox.ask(lambda: self._make(wanted, since_s))

    def _make(self, wanted: StreamChange, since_s: float | None) -> str:
        refused = _refusal(self.loop.groups, wanted)
        if refused:
            return refused
        if wanted.kind == "relearn" and since_s is not None:
            wanted = self._with_rows(wanted, since_s)
        report = self.loop.change(wanted)
        if report is None:
            raise UnavailableError("the daemon stops; nothing was changed")
        self.note(report)
        self.wake()
        return ""

    def _with_rows(self, wanted: StreamChange, since_s: float) -> StreamChange:
        pipeline, loads = self.loop.groups.pipelines[wanted.group], json_loads()
        known = past_of(pipeline, wanted.stream, since_s, 0)
        if known is None:
            return wanted
        router, mine = known.pipeline(loads).router, (-1, 0)
        with self.store.past() as past:
            rows = rows_since(past, known, lambda topic: router.find(topic) in mine, since_s, _most(pipeline), loads)
        return wanted._replace(rows=packed(*rows)) if len(rows[0]) else wanted


def _refusal(groups: Groups, wanted: StreamChange) -> str:
    pipeline = groups.pipelines.get(wanted.group)
    if pipeline is None or pipeline.streams.index(wanted.stream) is None:
        return "there is no such stream"
    if wanted.kind == "rename":
        if wanted.name == wanted.stream:
            return "name is what the stream is called already; write its new name"
        if pipeline.streams.parsed.read(wanted.name) is None:
            return f"name is no name of the form {pipeline.group.stream_template}, which the streams of this group have"
    return ""


def _most(pipeline: Pipeline) -> int:
    """Return how many rows a stream may need to be judged again."""
    learn = pipeline.scoring.learn_windows * pipeline.group.stride
    return min(_WARMUPS * pipeline.scale.warmup_rows + pipeline.profile.window + learn, _ROWS_MAX)
