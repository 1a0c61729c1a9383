"""Rows -> the messages that a group's topics and payloads would have carried them in: `core.decode` read backwards.

Floats are written by `repr`, so that what is decoded again is the same number to the last bit.
"""

import json
import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from streamae.core.formats.spec import PayloadSpec
from streamae.core.formats.values import parse_path
from streamae.core.topics import CHANNEL, Template, render
from streamae.errors import SeriesError

__all__ = ["MessageEncoder", "encoder_for"]

_PER_SECOND = {"s": 1.0, "auto": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9}


class MessageEncoder:
    """The messages of one stream: one per row (JSON), or one per channel and row where the topic names the channel.

    `labels` fill the topic template. A channel that is NaN is left out, as a sensor would.

    :raises SeriesError: the payload has no place for a channel that it needs, or a label has no value.
    """

    def __init__(
        self, template: Template, spec: PayloadSpec, channels: Sequence[str], labels: Mapping[str, str]
    ) -> None:
        if spec.kind not in ("number", "json"):
            raise SeriesError(
                f"topic {template.text!r}: a series cannot be written as {spec.kind}; replay a recording "
                "of messages, or give the group a second topic with payload: json"
            )
        if spec.addressed:
            raise SeriesError(
                f"topic {template.text!r}: a series cannot be written where payloads say whose they are; replay a "
                "recording of messages, or give the group a second topic without `labels`, `where`, `name` and `id`"
            )
        self.spec = spec
        self._apart = CHANNEL in template.labels
        values = spec.values if spec.values is not None else {name: f'"{name}"' for name in channels}
        missing = [name for name in values if name not in channels]
        if missing and not self._apart:
            raise SeriesError(f"topic {template.text!r} needs channel {missing[0]!r}; the series has {list(channels)}")
        if spec.kind == "number" and not self._apart and len(channels) > 1:
            raise SeriesError(f"topic {template.text!r} carries one number, the series has {list(channels)}")
        # Only now may the wildcards be filled: a topic to publish on has none.
        try:
            names = channels if self._apart else channels[:1]
            topics = [render(template.text, {**labels, CHANNEL: name}) for name in names]
        except KeyError as error:
            raise SeriesError(f"topic {template.text!r}: no value for label {error}; give it with --label") from error
        self._topics = [topic.replace("+", "replay").replace("#", "replay") for topic in topics]
        self._value = parse_path(spec.value)
        self._paths = [(i, parse_path(values[name])) for i, name in enumerate(channels) if name in values]
        self._time = None if spec.time is None else parse_path(spec.time)
        self._samples = None if spec.samples is None else parse_path(spec.samples)

    def encode(self, time_s: float, row: Sequence[float]) -> list[tuple[str, str]]:
        """Return (topic, payload) of one row."""
        if self._apart:
            pairs = [(topic, value) for topic, value in zip(self._topics, row, strict=True) if not math.isnan(value)]
            if self.spec.kind == "number":
                return [(topic, self._text(value)) for topic, value in pairs]
            return [(topic, self._document(time_s, [(self._value, value)])) for topic, value in pairs]
        if self.spec.kind == "number":
            return [] if math.isnan(row[0]) else [(self._topics[0], self._text(row[0]))]
        places = [(path, row[i]) for i, path in self._paths if not math.isnan(row[i])]
        return [(self._topics[0], self._document(time_s, places))]

    def _text(self, value: float) -> str:
        return repr(value).replace(".", self.spec.decimal)

    def _document(self, time_s: float, places: Sequence[tuple[tuple[str | int, ...], float]]) -> str:
        entry: Any = {}
        if self._time is not None:
            entry = _put(entry, self._time, self._stamp(time_s))
        for path, value in places:
            entry = _put(entry, path, value)
        return json.dumps(entry if self._samples is None else _put({}, self._samples, [entry]), separators=(",", ":"))

    def _stamp(self, time_s: float) -> float | str:
        if self.spec.time_unit == "rfc3339":
            return datetime.fromtimestamp(time_s, UTC).isoformat()
        return time_s * _PER_SECOND[self.spec.time_unit]


def _put(document: Any, path: Sequence[str | int], value: Any) -> Any:
    """Return `document` with `value` at `path`, making the objects and arrays on the way."""
    if not path:
        return value
    step, rest = path[0], path[1:]
    if isinstance(step, str):
        document = document if isinstance(document, dict) else {}
        document[step] = _put(document.get(step), rest, value)
        return document
    document = document if isinstance(document, list) else []
    document += [None] * (max(step, 0) + 1 - len(document))
    document[step] = _put(document[step], rest, value)
    return document


def encoder_for(
    topics: Sequence[tuple[Template, PayloadSpec]], channels: Sequence[str], labels: Mapping[str, str], name: str
) -> MessageEncoder:
    """Return the encoder of the first of a group's topics that can carry these channels.

    The stream's `name` is the value of the last label that `labels` leaves open; others get "replay".

    :raises SeriesError: none of the topics can; the message is that of the last.
    """
    problem = SeriesError("the group has no topics")
    for template, spec in topics:
        open_labels = [label for label in template.labels if label != CHANNEL and label not in labels]
        filled = {**dict.fromkeys(open_labels[:-1], "replay"), **dict.fromkeys(open_labels[-1:], name), **labels}
        try:
            return MessageEncoder(template, spec, channels, filled)
        except SeriesError as error:
            problem = error
    raise problem
