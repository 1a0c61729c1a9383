"""A plain number: the bytes of a message are one value of the channel that its topic names, at its arrival."""

import math

import numpy as np

from streamae.core.formats.columns import ReadingColumns, TopicRun, numbers
from streamae.core.formats.spec import Format, Opening
from streamae.core.formats.values import FLOAT32_MAX
from streamae.core.routes import Route
from streamae.core.types import Drop

__all__ = ["FORMAT", "NumberReader"]


class NumberReader:
    """Plain numbers, a run of messages at once where all of them are."""

    def __init__(self, opening: Opening) -> None:
        self._streams, self._elsewhere = opening.streams, opening.elsewhere
        self._whole = len(opening.channels) == 1

    def covers(self, topic: bytes, route: Route, payload: bytes) -> bool:
        """Return whether a message is a number, and the group has no other channel."""
        del topic, route
        return self._whole and numbers([payload]) is not None

    def read_run(self, template: int, run: TopicRun, out: ReadingColumns) -> bool:
        """Read the messages of a run at once, or return False: then nothing was read."""
        del template
        values = numbers(run.payloads)
        if values is None:
            return False
        out.add_run(run.at, run.stream, np.maximum(run.channel, 0)[:, None], run.arrival_s, values[:, None])
        return True

    def read(self, topic: bytes, route: Route, payload: bytes, times: tuple[float, float], out: ReadingColumns) -> None:
        """Add the reading of one message; `times` are its arrival and the latest time that is believed."""
        try:
            value = float(payload)
        except ValueError:
            out.drops[Drop.NOT_A_NUMBER] += 1
            out.foreign = True  # such as JSON, for a group that reads it
            return
        # NaN compares false; Python alone reads `1_0` as a number.
        if not abs(value) <= FLOAT32_MAX or math.isinf(value) or b"_" in payload:
            out.drops[Drop.NOT_A_NUMBER if b"_" in payload else Drop.NOT_FINITE] += 1
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
        out.add(stream, max(route.channel, 0), times[0], value)


FORMAT = Format(
    name="number",
    about="One plain number, such as `21.5`; the topic names the channel",
    link="https://docs.oasis-open.org/mqtt/mqtt/v5.0/mqtt-v5.0.html",
    example='{topic: "plant/{line}/{pump}/{channel}", payload: number}',
    open=NumberReader,
    plain=True,
    channel=True,
    by_topic=True,
)
