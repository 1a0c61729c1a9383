"""A plain number: the bytes of a message are one value of the channel that its topic names, at its arrival."""

import numpy as np

from streamae.core.formats.columns import ReadingColumns, TopicRun, numbers
from streamae.core.formats.parsed import text_of
from streamae.core.formats.spec import Format, Opening
from streamae.core.routes import Route
from streamae.core.types import Drop

__all__ = ["FORMAT", "NumberReader"]


class NumberReader:
    """Plain numbers, a run of messages at once where all of them are."""

    def __init__(self, opening: Opening) -> None:
        self._rule, self._comma = opening.spec.rule, opening.spec.decimal == ","
        self._streams, self._elsewhere = opening.streams, opening.elsewhere
        self._whole = len(opening.channels) == 1

    def covers(self, topic: bytes, route: Route, payload: bytes) -> bool:
        """Return whether a message is a number, and the group has no other channel."""
        del topic, route
        return self._whole and not isinstance(self._rule.number(text_of(payload)), Drop)

    def read_run(self, template: int, run: TopicRun, out: ReadingColumns) -> bool:
        """Read the messages of a run at once, or return False: then nothing was read."""
        del template
        values = numbers(run.payloads, comma=self._comma)
        if values is None:
            return False
        return out.add_run(run, np.maximum(run.channel, 0)[:, None], run.arrival_s, values[:, None])

    def read(self, topic: bytes, route: Route, payload: bytes, times: tuple[float, float], out: ReadingColumns) -> None:
        """Add the reading of one message; `times` are its arrival and the latest time that is believed."""
        number = self._rule.number(text_of(payload))
        if number is Drop.NOT_A_NUMBER:
            out.drops[number] += 1
            out.foreign = True  # such as JSON, for a group that reads it
            return
        stream: int | None = route.stream
        if route.stream < 0:
            if not self._whole and self._elsewhere(topic, payload):
                out.drops[Drop.UNKNOWN_CHANNEL] += 1
                return
            stream = self._streams.find(route.labels)
        if stream is None:
            out.drops[Drop.MAX_STREAMS] += 1
            return
        out.origins += 1
        out.take(stream, max(route.channel, 0), times[0], number)


FORMAT = Format(
    name="number",
    about="One plain number, such as `21.5`; the topic names the channel",
    link="https://docs.oasis-open.org/mqtt/mqtt/v5.0/mqtt-v5.0.html",
    example='{topic: "plant/{line}/{pump}/{channel}", payload: number}',
    open=NumberReader,
    keys=("values",),
    plain=True,
    channel=True,
    by_topic=True,
)
