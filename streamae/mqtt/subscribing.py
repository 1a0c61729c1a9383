"""What a connection asks the broker for: filters, which of them are denied, and one copy of each message of them."""

from collections.abc import Sequence
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from streamae.mqtt.copies import Copies
from streamae.mqtt.state import Subscription

__all__ = ["FLAGS", "Subscribing"]

FLAGS = 0x0F  # of a PUBLISH; above them stands its subscription identifier, see `flags_of`
Columns = tuple[Sequence[bytes], Sequence[bytes], Sequence[int], Sequence[int]]


class Subscribing:
    """The subscriptions of one connection, through its paho client."""

    def __init__(self, subscriptions: Sequence[Subscription]) -> None:
        self._subscriptions = tuple(subscriptions)
        self._copies = Copies(subscriptions)
        self._five = self._identified = False
        self._asked: dict[int, tuple[Subscription, ...]] = {}
        self._denied: dict[str, str] = {}  # filter -> the broker's reason

    @property
    def denied(self) -> tuple[str, ...]:
        """The filters that the broker denied last, each with its reason."""
        return tuple(f"{one}: {reason}" for one, reason in self._denied.items())

    def begin(self, client: paho.Client, properties: Any, *, five: bool) -> bool:
        """Ask for all, after a CONNACK with these properties, by MQTT 5 if `five`; whether an answer is awaited."""
        self._five = five
        self._identified = five and getattr(properties, "SubscriptionIdentifierAvailable", 1) == 1
        return self._subscribe(client, self._subscriptions)

    def again(self, client: paho.Client) -> bool:
        """Ask once more for what was denied."""
        return self._subscribe(client, tuple(one for one in self._subscriptions if one.filter in self._denied))

    def _subscribe(self, client: paho.Client, wanted: tuple[Subscription, ...]) -> bool:
        """Ask for these filters: all at once, but those with an identifier each by itself."""
        apart = [one for one in wanted if self._identifier(one)]
        for together in (tuple(one for one in wanted if one not in apart), *((one,) for one in apart)):
            if together:
                self._ask(client, together)
        return bool(self._asked)

    def _identifier(self, one: Subscription) -> int | None:
        return self._copies.identifier(one.filter) if self._identified else None

    def _ask(self, client: paho.Client, wanted: tuple[Subscription, ...]) -> None:
        asked: list[Any] = []
        for one in wanted:
            handling = (
                SubscribeOptions.RETAIN_SEND_ON_SUBSCRIBE if one.retained else SubscribeOptions.RETAIN_DO_NOT_SEND
            )
            options = SubscribeOptions(qos=one.qos, retainHandling=handling) if self._five else one.qos
            asked.append((one.filter, options))
        properties = None
        if (identifier := self._identifier(wanted[0])) is not None:
            properties = Properties(PacketTypes.SUBSCRIBE)  # type: ignore[no-untyped-call]
            properties.SubscriptionIdentifier = identifier
        _, mid = client.subscribe(asked, properties=properties)
        if mid is not None:
            self._asked[mid] = wanted

    def answered(self, mid: int, reasons: Sequence[Any]) -> bool:
        """Take the answer to the request `mid`; whether it was one of ours, and none is awaited any more."""
        asked = self._asked.pop(mid, ())
        for one, reason in zip(asked, reasons, strict=False):
            if reason.is_failure:
                self._denied[one.filter] = f"{reason}"
            else:
                self._denied.pop(one.filter, None)
                self._copies.granted(one.filter)
        return bool(asked) and not self._asked

    def once(self, columns: Columns) -> tuple[Columns, list[int]]:
        """Return messages without the copies that are too many, and the packet ids of those.

        The columns are topics, payloads, flags and packet ids; flags lose their identifiers.
        """
        topics, payloads, flags, mids = columns
        extra = self._copies.surplus
        surplus = [extra(topic, flag >> 4, retained=bool(flag & 1)) for topic, flag in zip(topics, flags, strict=True)]
        kept = [i for i, one in enumerate(surplus) if not one]
        plain = [flags[i] & FLAGS for i in kept]
        left_out = [mid for mid, one in zip(mids, surplus, strict=True) if one and mid]
        return ([topics[i] for i in kept], [payloads[i] for i in kept], plain, [mids[i] for i in kept]), left_out
