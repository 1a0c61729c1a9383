"""What the broker retains of ours, and whether it is what the daemon knows: anybody may write a topic.

A state that somebody else wrote is written over, one that no alert stands behind is taken away. What the sink was not
notified of yet, or not to be notified of (a silence), is left as it is.
"""

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from streamae.core.report import Transition

__all__ = ["KeptTopics", "Retained", "repairs"]

Retained = tuple[str, bytes]  # topic, payload
_REPAIR_S, _REPAIRS_MAX = 5.0, 50  # between two repairs of one topic, and of them at once
_KEPT_MAX = 10_000  # topics of others' that are remembered
_SAID = ("id", "sequence", "state", "severity", "group", "stream", "rule", "score", "threshold", "onset_s", "time_s")


class KeptTopics:
    """Topics that nobody else may write, and what is to stand on each; times are of a monotonic clock, in seconds."""

    def __init__(self) -> None:
        self._standing: dict[str, bytes] = {}
        self._wrong: dict[str, float] = {}  # topics that somebody else wrote, and when each may be repaired
        self._repaired_s: dict[str, float] = {}

    def note(self, published: Iterable[Retained]) -> None:
        """Remember what was published, retained; an empty payload takes a topic away."""
        for topic, payload in published:
            if payload:
                self._standing[topic] = payload
            else:
                self._standing.pop(topic, None)

    def begin(self) -> None:
        """Everything is published again: nothing of before is wrong any more."""
        self._wrong.clear()

    def heard(self, topic: str, payload: bytes, *, retained: bool) -> bool:
        """Take what somebody else wrote, or (`retained`) what the broker has: True where an earlier run wrote it.

        What the broker has comes with a new connection, on which everything is published again.
        """
        known = topic in self._standing
        if retained:
            return bool(payload) and not known
        if known and payload == self._standing[topic]:
            self._wrong.pop(topic, None)
        elif (known or payload) and len(self._wrong) < _KEPT_MAX:
            self._wrong.setdefault(topic, self._repaired_s.get(topic, -math.inf) + _REPAIR_S)
        return False

    def repairs(self, now_s: float) -> list[Retained]:
        """Return what has to be published over what others wrote, a topic every few seconds at most."""
        due = [topic for topic, at_s in self._wrong.items() if at_s <= now_s][:_REPAIRS_MAX]
        for topic in due:
            del self._wrong[topic]
            self._repaired_s.pop(topic, None)
            self._repaired_s[topic] = now_s
        while len(self._repaired_s) > _KEPT_MAX:
            del self._repaired_s[next(iter(self._repaired_s))]
        return [(topic, self._standing.get(topic, b"")) for topic in due]


def repairs(
    heard: Mapping[str, bytes],
    standing: Sequence[tuple[Transition, bool]],
    topic_of: Callable[[Transition], str],
    encoded: Callable[[Transition], bytes],
) -> list[Retained]:
    """Return what to publish, retained, over what was `heard` on the topics of states, by topic.

    `standing` is the last transition of each alert, and whether the sink waits for it. Nobody but this instance has
    states there: what fires and is not known is taken away.
    """
    wanted: dict[str, Transition | None] = {}
    for last, waits in standing:
        topic = topic_of(last)
        before = wanted.get(topic, last)
        if before is None or waits:
            wanted[topic] = None
        elif (last.onset_s, last.sequence) >= (before.onset_s, before.sequence):
            wanted[topic] = last
    found: list[Retained] = []
    for topic, payload in heard.items():
        if topic in wanted:
            one = wanted[topic]
            if one is not None and not _same(payload, encoded(one)):
                found.append((topic, encoded(one)))
        elif payload and _read(payload).get("state") != "resolved":
            found.append((topic, b""))
    return found


def _same(payload: bytes, wanted: bytes) -> bool:
    """Whether both say the same: a reminder has a number of its own, and another version another wording."""
    read, want = _read(payload), _read(wanted)
    return all(read.get(name) == want.get(name) for name in _SAID)


def _read(payload: bytes) -> dict[str, Any]:
    try:
        value = json.loads(payload)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
