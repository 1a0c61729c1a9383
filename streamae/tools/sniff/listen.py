"""Look at a broker for some seconds; propose.py says what would watch what it carries.

Retained messages are a broker's memory and say nothing of rates: topics that showed nothing else are counted
apart. What is kept of each topic is small, and the number of topics bounded.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from streamae.core.types import Drop
from streamae.errors import UnavailableError
from streamae.ingest.mqtt import MqttSource, ReceiveLimits
from streamae.mqtt import ConnectionOptions, Subscription, transient

__all__ = ["Seen", "Sniffed", "sniff"]

_END_S = 0.5  # for the connection to end; it has nothing left to say
_KEPT = 3  # payloads of a topic
_TOPICS_MAX = 50_000
_OWN = ("streamae/", "homeassistant/", "$")  # what we and the broker say ourselves


@dataclass(slots=True)
class Seen:
    """What is remembered of one topic."""

    count: int = 0
    first_s: float = 0.0
    last_s: float = 0.0
    payloads: list[bytes] = field(default_factory=list)

    def add(self, payload: bytes, time_s: float) -> None:
        """Note one message."""
        self.first_s = self.first_s if self.count else time_s
        self.count, self.last_s = self.count + 1, time_s
        if len(self.payloads) < _KEPT:
            self.payloads.append(payload)

    @property
    def every_s(self) -> float | None:
        """The mean distance of its messages; None where there was only one."""
        return (self.last_s - self.first_s) / (self.count - 1) if self.count > 1 else None


@dataclass(slots=True)
class Sniffed:
    """Everything that was seen: by topic, and what was not looked at."""

    topics: dict[str, Seen] = field(default_factory=dict)
    messages: int = 0
    retained: int = 0
    strange: int = 0  # topics that are not UTF-8, or more than can be kept
    places: dict[str, Seen] = field(default_factory=dict)  # of machines that have several topics: what gives the pace


def sniff(
    connection: ConnectionOptions,
    filters: Sequence[str],
    duration_s: float,
    *,
    now: Callable[[], float],
    monotonic: Callable[[], float],
    jitter: Callable[[], float],
    stopped: Callable[[], bool] = lambda: False,
) -> Sniffed:
    """Listen to `filters` for `duration_s` from the moment of the subscription, or until `stopped()`.

    :raises UnavailableError: the broker cannot be reached, refuses us or the subscription.
    """
    source = MqttSource(
        transient(connection, "sniff"),
        [Subscription(one, qos=0) for one in filters],
        ReceiveLimits(max_messages=200_000),
        now=now,
        monotonic=monotonic,
        jitter=jitter,
    )
    sniffed, give_up_s, end_s = Sniffed(), monotonic() + 3 * connection.connect_timeout_s, None
    source.start()
    try:
        while not stopped() and (end_s is None or monotonic() < end_s):
            batch = source.take(4096, 0.1).batch
            for topic, payload, time_s in zip(batch.topics, batch.payloads, batch.arrival_s.tolist(), strict=True):
                _note(sniffed, topic, payload, time_s)
            sniffed.retained += batch.lost[Drop.RETAINED]
            status = source.status()
            if end_s is None and status.subscribed:
                end_s = monotonic() + duration_s
            elif end_s is None and monotonic() > give_up_s:
                advice = "check host, port, credentials, and the right to read these topics"
                raise UnavailableError(f"broker {connection.address}: {status.error or 'no answer'}; {advice}")
    finally:
        source.close(_END_S)
    return sniffed


def _note(sniffed: Sniffed, topic: bytes, payload: bytes, time_s: float) -> None:
    sniffed.messages += 1
    try:
        name = topic.decode()
    except UnicodeDecodeError:
        sniffed.strange += 1
        return
    if name.startswith(_OWN) and not (name.startswith("homeassistant/") and name.endswith("/state")):
        return
    seen = sniffed.topics.get(name)
    if seen is None:
        if len(sniffed.topics) >= _TOPICS_MAX:
            sniffed.strange += 1
            return
        seen = sniffed.topics[name] = Seen()
    seen.add(payload, time_s)
