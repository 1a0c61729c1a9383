"""A plain number: the bytes of a message are one value of the channel that its topic names, at its arrival."""

import numpy as np

from streamae.core.formats.columns import ReadingColumns, TopicRun, numbers
from streamae.core.formats.parsed import text_of
from streamae.core.formats.spec import Format, Opening, PayloadSpec
from streamae.core.routes import Route

__all__ = ["FORMAT", "NumberReader"]


class NumberReader:
    """Plain numbers, a run of messages at once where all of them are."""

    def __init__(self, spec: PayloadSpec) -> None:
        self._rule, self._comma = spec.rule, spec.decimal == ","

    def read_run(self, template: int, run: TopicRun, out: ReadingColumns) -> bool:
        """Read the messages of a run at once, or return False: then nothing was read."""
        del template
        values = numbers(run.payloads, comma=self._comma)
        if values is None:
            return False
        return out.add_run(run, np.maximum(run.channel, 0)[:, None], run.arrival_s, values[:, None])

    def read(self, topic: bytes, route: Route, payload: bytes, times: tuple[float, float], out: ReadingColumns) -> None:
        """Add the reading of one message; `times` are its arrival and the latest time that is believed."""
        del topic
        out.origins += 1
        out.take(route.stream, max(route.channel, 0), times[0], self._rule.number(text_of(payload)))


def _open(opening: Opening) -> NumberReader:
    return NumberReader(opening.spec)


FORMAT = Format(
    name="number",
    about="One plain number, such as `21.5`; the topic names the channel",
    link="https://docs.oasis-open.org/mqtt/mqtt/v5.0/mqtt-v5.0.html",
    example='{topic: "plant/{line}/{pump}/{channel}", payload: number}',
    open=_open,
    keys=("values",),
    plain=True,
    channel=True,
    by_topic=True,
)
