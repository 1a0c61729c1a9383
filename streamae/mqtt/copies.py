"""One copy of each message, where filters have topics in common: a broker may send one for each filter that it matches.

By MQTT 5 each of these filters is subscribed with an identifier of its own, which comes back with every copy. Of those
that match a topic, the filter with the lowest identifier among the granted ones is the one whose copy counts; of what
is retained, among those that ask for it, since the others get no copy. Brokers that send one copy name all of its
filters in it. Identifiers are made of the filters' text, so that what a session
kept for us from before a restart means the same; a copy of a filter that is not subscribed any more is taken.
"""

from collections.abc import Sequence
from zlib import crc32

from streamae.core.filters import crossing
from streamae.mqtt.options import topic_matches
from streamae.mqtt.state import Subscription

__all__ = ["Copies"]

_IDENTIFIER_MAX = 268_435_455
_TOPICS_MAX = 100_000


class Copies:
    """The filters of one connection that have topics in common, and which of them the broker has granted."""

    def __init__(self, subscriptions: Sequence[Subscription]) -> None:
        self._identifiers: dict[str, int] = {}
        for one in sorted(crossing(one.filter for one in subscriptions)):
            number = crc32(one.encode()) % _IDENTIFIER_MAX
            while number + 1 in self._identifiers.values():
                number = (number + 1) % _IDENTIFIER_MAX
            self._identifiers[one] = number + 1
        self._asking = {one.filter for one in subscriptions if one.retained}
        self._granted: dict[int, str] = {}
        self._counts: dict[tuple[bytes, bool], int] = {}

    def identifier(self, topic_filter: str) -> int | None:
        """Return what to subscribe this filter with; None where it has no topic in common with another."""
        return self._identifiers.get(topic_filter)

    def granted(self, topic_filter: str) -> None:
        """Note that the broker has granted this filter."""
        if topic_filter in self._identifiers:
            self._granted[self._identifiers[topic_filter]] = topic_filter
            self._counts.clear()

    def surplus(self, topic: bytes, identifier: int, *, retained: bool = False) -> bool:
        """Whether a copy with this as the lowest of its identifiers (0: none) is one too many."""
        if identifier not in self._granted:
            return False
        # What nobody asked for is judged as the rest is; it is refused later.
        retained = retained and self._granted[identifier] in self._asking
        counts = self._counts.get((topic, retained))
        if counts is None:
            text = topic.decode(errors="replace")
            found = [i for i, one in self._granted.items() if not retained or one in self._asking]
            counts = min((i for i in found if topic_matches(self._granted[i], text)), default=0)
            if len(self._counts) < _TOPICS_MAX:
                self._counts[topic, retained] = counts
        return identifier != counts
