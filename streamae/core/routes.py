"""What a group's topics mean: which stream, which channel, or why one is refused. See topics.py for the templates.

A `Streams` registry numbers the streams of a group as they appear, and `Router` remembers what each topic means, as
bytes, in a bounded dictionary: templates are matched only with topics that were not seen before. A topic alone makes
no stream: under it may be a device whose values the group does not know. Whoever reads a known value registers it.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from streamae.core.topics import CHANNEL, Template, render
from streamae.core.types import I32, I64, Drop

__all__ = ["Route", "Router", "Streams"]

_REASONS = (*Drop, None)  # None: passed over
_NEW = -1 - (1 << 60)  # the code of a topic whose stream has not appeared
_REFUSED_MAX = 1000


class Streams:
    """The streams of one group, numbered in order of appearance, at most `max_streams` of them.

    The name of a stream is the group's stream template filled with the topic's labels; nothing else is kept of it.
    """

    def __init__(self, template: str, max_streams: int) -> None:
        self.template = template
        self.max_streams = max_streams
        self.names: list[str] = []
        self._ids: dict[str, int] = {}
        self.refused: dict[str, None] = {}  # names for which there was no place, in order
        self.parsed = Template.parse(template)

    def __len__(self) -> int:
        """Return S, the number of streams found so far."""
        return len(self.names)

    def find(self, labels: Mapping[str, str]) -> int | None:
        """Return the id of the stream with these labels, registering it if there is room, else None."""
        return self.add(render(self.template, labels))

    def known(self, labels: Mapping[str, str]) -> int | None:
        """Return the id of the stream with these labels, if it has appeared."""
        return self._ids.get(render(self.template, labels))

    def add(self, name: str) -> int | None:
        """Return the id of the stream of this name, registering it if there is room, else None."""
        known = self._ids.get(name)
        if known is not None:
            return known
        if len(self.names) >= self.max_streams:
            if len(self.refused) < _REFUSED_MAX:
                self.refused[name] = None
            return None
        self._ids[name] = len(self.names)
        self.names.append(name)
        return self._ids[name]

    def remove(self, stream: int) -> None:
        """Forget a stream; the last one takes its number. Those that were refused may ask again."""
        self.refused = {}
        names = list(self.names)  # who has the old list keeps the names of its numbers
        gone, last = names[stream], names.pop()
        del self._ids[gone]
        if last != gone:
            names[stream], self._ids[last] = last, stream
        self.names = names

    def rename(self, stream: int, name: str) -> None:
        """Give a stream another name, that no other stream has."""
        del self._ids[self.names[stream]]
        self.refused.pop(name, None)
        self.names = [*self.names[:stream], name, *self.names[stream + 1 :]]
        self._ids[name] = stream

    def index(self, name: str) -> int | None:
        """Return the id of the stream of this name; None where there is none."""
        return self._ids.get(name)

    def labels(self, stream: int) -> dict[str, str]:
        """Return the labels of a stream, read back from its name."""
        return self.parsed.read(self.names[stream]) or {}


@dataclass(frozen=True, slots=True)
class Route:
    """What one topic means to a group: the stream, the channel (-1: the payload names them), the template's index.

    Where the payload has a say in the stream, or the stream has not appeared, that is -1, and `labels` are those of
    the topic.
    """

    stream: int
    channel: int
    template: int
    labels: Mapping[str, str] = field(default_factory=dict)


class Router:
    """Topic bytes -> Route | Drop for one group; the answers are kept for at most `routes_max` topics.

    Topics of the templates at the positions `deferred` name no stream by themselves.
    """

    def __init__(
        self,
        templates: Sequence[Template],
        channels: Sequence[str],
        streams: Streams,
        deferred: Collection[int] = frozenset(),
    ) -> None:
        self.templates = tuple(templates)
        self.streams = streams
        self.deferred = frozenset(deferred)
        self._channels = {name: i for i, name in enumerate(channels)}
        self._width = len(self._channels) + 1  # channels, and -1
        # One number says what a topic means, so that a topic costs its bytes and little more; below 0 it is refused.
        # It is the stream's own number where there is but one template, without a channel: the same object, even.
        self._routes: dict[bytes, int] = {}
        self._radix = streams.max_streams
        self._labelled: dict[bytes, Route] = {}  # of deferred templates, and of streams that have not appeared
        # Every channel of every stream may have a topic of its own; refused topics share what room is left.
        self.routes_max = streams.max_streams * max(1, len(channels)) + 10_000

    def route(self, topic: bytes) -> Route | Drop | None:
        """Return what the topic means, why it is refused, or None where it is passed over; registers no stream."""
        return self.place(topic)[0]

    def place(self, topic: bytes) -> tuple[Route | Drop | None, int]:
        """Return what `route` does, and the template that the topic matches; -1 for none."""
        labelled = self._labelled.get(topic)
        if labelled is not None:
            stream = None if labelled.template in self.deferred else self.streams.known(labelled.labels)
            if stream is None:
                return labelled, labelled.template
            del self._labelled[topic]
        code = self._routes.get(topic)
        return self._learn(topic) if code is None else self._meaning(code)

    def codes(self, topics: Sequence[bytes]) -> I64:
        """Return what each topic means as a number, for the methods below; none is deferred."""
        found = list(map(self._routes.get, topics))
        if None in found:
            found = [self._code(*self.place(topics[i])) if code is None else code for i, code in enumerate(found)]
        return np.array(found, np.int64)

    @staticmethod
    def new(codes: I64) -> I64:
        """Return the positions of topics whose streams have not appeared."""
        return np.flatnonzero(codes == _NEW)

    @staticmethod
    def refused(codes: I64) -> Iterator[tuple[int, int, Drop | None]]:
        """Yield (position, template, reason) of each topic that is refused; None: it is passed over."""
        if not len(codes) or codes.min() >= 0:
            return
        at = np.flatnonzero((codes < 0) & (codes != _NEW))
        template, reason = np.divmod(-1 - codes[at], len(_REASONS))
        for i, k, r in zip(at.tolist(), template.tolist(), reason.tolist(), strict=True):
            yield i, k - 1, _REASONS[r]

    def by_template(self, codes: I64) -> Iterator[tuple[int, I64]]:
        """Yield each template that is there, and the positions of its topics, whose streams are known."""
        template = np.where(codes < 0, -1, codes // self._radix // self._width)
        for index in range(len(self.templates)):
            at = np.flatnonzero(template == index)
            if len(at):
                yield index, at

    def places(self, codes: I64) -> tuple[I32, I32]:
        """Return stream and channel (-1: the payload names them) of codes that are not refused."""
        place, stream = np.divmod(codes, self._radix)
        return stream.astype(np.int32), (place % self._width).astype(np.int32) - 1

    def _learn(self, topic: bytes) -> tuple[Route | Drop | None, int]:
        known, template = self._resolve(topic)
        if len(self._routes) + len(self._labelled) < self.routes_max:
            if isinstance(known, Route) and known.stream < 0:
                self._labelled[topic] = known
            else:
                self._routes[topic] = self._code(known, template)
        return known, template

    def _code(self, known: Route | Drop | None, template: int) -> int:
        if not isinstance(known, Route):
            return -1 - (template + 1) * len(_REASONS) - _REASONS.index(known)
        if known.stream < 0:
            return _NEW
        place = known.template * self._width + known.channel + 1
        return place * self._radix + known.stream if place else known.stream

    def _meaning(self, code: int) -> tuple[Route | Drop | None, int]:
        if code < 0:
            template, reason = divmod(-1 - code, len(_REASONS))
            return _REASONS[reason], template - 1
        place, stream = divmod(code, self._radix)
        template, channel = divmod(place, self._width)
        return Route(stream, channel - 1, template), template

    def find(self, topic: bytes) -> int | None:
        """Return the stream of a topic, if it has appeared (-1: any, its payload decides); registers nothing."""
        code = self._routes.get(topic, -1)
        if code >= 0:
            return code % self._radix
        text = topic.decode(errors="replace")
        for index, template in enumerate(self.templates):
            labels = template.match(text)
            if labels is not None:
                return -1 if index in self.deferred else self.streams.known(labels)
        return None

    def forget(self) -> None:
        """Drop all remembered routes (after the registry was restored)."""
        self._routes.clear()
        self._labelled.clear()

    def _resolve(self, topic: bytes) -> tuple[Route | Drop | None, int]:
        try:
            text = topic.decode()
        except UnicodeDecodeError:
            return Drop.TOPIC, -1
        for index, template in enumerate(self.templates):
            labels = template.match(text)
            if labels is None:
                continue
            channel = -1
            if CHANNEL in labels:
                found = self._channels.get(labels[CHANNEL])
                if found is None:
                    return (None if template.takes_rest else Drop.UNKNOWN_CHANNEL), index
                channel = found
            stream = None if index in self.deferred else self.streams.known(labels)
            return (Route(-1, channel, index, labels) if stream is None else Route(stream, channel, index)), index
        return Drop.TOPIC, -1
