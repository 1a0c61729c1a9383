"""Look at a broker for some seconds, or at a recording; propose.py says what would watch what it carries.

Retained messages are a broker's memory and say nothing of rates: they are not asked for, but for what a bridge says of
its devices. What is kept of each topic is bounded, and so is the number of topics.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from streamae.core.types import Drop
from streamae.errors import UnavailableError
from streamae.ingest.mqtt import MqttSource, ReceiveLimits
from streamae.mqtt import ConnectionOptions, Subscription, transient

__all__ = ["Seen", "Sniffed", "note", "sniff", "sniff_recording"]

_END_S = 0.5  # for the connection to end; it has nothing left to say
_KEPT_MIN, _KEPT_MAX, _KEPT_ALL = 8, 512, 200_000  # messages of a topic, and of all of them
_BYTES_ALL = 128 << 20
_TOPICS_MAX = 50_000
_OWN = ("streamae/", "homeassistant/", "$")  # what we and the broker say ourselves
_INVENTORY = "bridge/devices"  # Zigbee2MQTT's list of what there is, below its base topic


@dataclass(slots=True)
class Seen:
    """What is remembered of one topic: one in `step` messages, all over the time."""

    count: int = 0
    first_s: float = 0.0
    last_s: float = 0.0
    step: int = 1
    messages: list[tuple[float, bytes]] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)  # which of all messages these are

    def add(self, payload: bytes, time_s: float, room: int = _KEPT_MAX) -> int:
        """Note one message; returns by how many bytes what is kept has grown."""
        self.first_s = self.first_s if self.count else time_s
        number, wanted = self.count, _mixed(self.count) % self.step == 0
        self.count, self.last_s = self.count + 1, time_s
        if not wanted:
            return 0
        self.messages.append((time_s, payload))
        self.numbers.append(number)
        if len(self.messages) <= max(room, _KEPT_MIN):
            return len(payload)
        before, self.step = sum(len(one) for _, one in self.messages), self.step * 2
        kept = [i for i, n in enumerate(self.numbers) if _mixed(n) % self.step == 0]
        self.messages, self.numbers = [self.messages[i] for i in kept], [self.numbers[i] for i in kept]
        return len(payload) - before + sum(len(one) for _, one in self.messages)

    @property
    def payloads(self) -> list[bytes]:
        """What is kept, without its times."""
        return [payload for _, payload in self.messages]

    @property
    def every_s(self) -> float | None:
        """The mean distance of its messages; None where there was only one."""
        return (self.last_s - self.first_s) / (self.count - 1) if self.count > 1 else None


def _mixed(number: int) -> int:
    """Return a number by which to choose, so that of devices which speak by turns none is left out."""
    return (number * 2_654_435_761 & 0xFFFF_FFFF) >> 13


@dataclass(slots=True)
class Sniffed:
    """Everything that was seen: by topic, and what was not looked at."""

    topics: dict[str, Seen] = field(default_factory=dict)
    messages: int = 0
    retained: int = 0
    strange: int = 0  # topics that are not UTF-8, or more than can be kept
    kept_bytes: int = 0
    inventories: dict[str, bytes] = field(default_factory=dict)  # topic -> what a bridge says of its devices


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
        [Subscription(one, qos=0) for one in filters] + _inventories(filters),
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
                note(sniffed, topic, payload, time_s)
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


def _inventories(filters: Sequence[str]) -> list[Subscription]:
    """Ask for what bridges keep of their devices, as far as the filters reach there."""
    bases = {"+" if one == "#" else one.removesuffix("/#") for one in filters if one == "#" or one.endswith("/#")}
    return [Subscription(f"{base}/{_INVENTORY}", qos=0, retained=True) for base in sorted(bases)]


def sniff_recording(messages: Iterable[tuple[float, bytes, bytes]]) -> tuple[Sniffed, float]:
    """Look at (time_s, topic, payload) that were recorded; returns what was seen, and over how many seconds."""
    sniffed, first_s, last_s = Sniffed(), None, 0.0
    for time_s, topic, payload in messages:
        note(sniffed, topic, payload, time_s)
        first_s, last_s = time_s if first_s is None else first_s, time_s
    return sniffed, 0.0 if first_s is None else last_s - first_s


def note(sniffed: Sniffed, topic: bytes, payload: bytes, time_s: float) -> None:
    """Note one message."""
    sniffed.messages += 1
    try:
        name = topic.decode()
    except UnicodeDecodeError:
        sniffed.strange += 1
        return
    if name.endswith("/" + _INVENTORY):
        sniffed.inventories[name] = payload
    if name.startswith(_OWN) and not (name.startswith("homeassistant/") and name.endswith("/state")):
        return
    seen = sniffed.topics.get(name)
    if seen is None:
        if len(sniffed.topics) >= _TOPICS_MAX:
            sniffed.strange += 1
            return
        seen = sniffed.topics[name] = Seen()
    room = _KEPT_MIN if sniffed.kept_bytes > _BYTES_ALL else min(_KEPT_MAX, _KEPT_ALL // len(sniffed.topics))
    sniffed.kept_bytes += seen.add(payload, time_s, room)
