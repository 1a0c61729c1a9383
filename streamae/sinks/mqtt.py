"""The MQTT sink: an event for each transition, and a retained state per stream and rule.

With the topic template `streamae/{instance}/alerts/{group}/{stream}`, a transition goes to `<topic>/event`, not
retained, and to `<topic>/<rule>`, retained: who connects later sees at once what fires, and what fired last. Both
carry the same JSON, at QoS 1; it counts as told once the broker has acknowledged both.
"""

import re
from collections.abc import Sequence
from typing import Protocol

from streamae import mqtt
from streamae.core.types import Transition
from streamae.errors import ConfigError, UnavailableError
from streamae.mqtt import Connection
from streamae.sinks.payload import document, encode
from streamae.sinks.sink import SinkRefusedError, SinkUnavailableError

__all__ = ["DEFAULT_TOPIC", "BrokerPublisher", "MqttSink", "Publisher"]

DEFAULT_TOPIC = "streamae/{instance}/alerts/{group}/{stream}"
_PLACEHOLDER = re.compile(r"\{(\w+)\}")
_FIELDS = ("instance", "group", "stream", "rule", "severity", "state", "id")
_TOPIC_BYTES_MAX = 65_535
_FORBIDDEN = re.compile("[+#\0]")


class Publisher(Protocol):
    """The way to a broker; implemented by `streamae.mqtt`."""

    def publish(self, topic: str, payload: bytes, qos: int, retain: bool, timeout_s: float) -> None:
        """Return once the broker has it; OSError or UnavailableError when it could not be had within `timeout_s`."""
        ...

    def close(self) -> None:
        """Disconnect; a second call does nothing."""
        ...


class MqttSink:
    """Publishes through `publisher`; ConfigError for a template that names what no transition has.

    The template may name instance, group, stream, rule, severity, state, id, and `label_NAME` for a label.
    """

    batch_max = 1
    refresh_s = None

    def __init__(
        self, publisher: Publisher, topic: str = DEFAULT_TOPIC, *, name: str = "mqtt", timeout_s: float = 10.0
    ) -> None:
        self.name = name
        self._publisher = publisher
        self._topic = topic
        self._timeout_s = timeout_s
        unknown = [n for n in _PLACEHOLDER.findall(topic) if n not in _FIELDS and not n.startswith("label_")]
        if unknown or _FORBIDDEN.search(topic) or not topic:
            raise ConfigError(
                f"sinks: mqtt: topic: got {topic!r}; within braces use {', '.join(_FIELDS)} or label_NAME, "
                "and no + or # anywhere"
            )

    def send(self, transitions: Sequence[Transition]) -> None:
        """Publish each, the event before the state."""
        for transition in transitions:
            payload = encode(document(transition))
            topic = self._render(transition)
            self._publish(f"{topic}/event", payload, retain=False)
            self._publish(f"{topic}/{_clean(transition.rule)}", payload, retain=True)

    def close(self) -> None:
        """Disconnect."""
        self._publisher.close()

    def _render(self, transition: Transition) -> str:
        def value(match: re.Match[str]) -> str:
            field = match[1]
            label = transition.labels.get(field.removeprefix("label_"), "")
            return _clean(str(getattr(transition, field)) if field in _FIELDS else label)

        return _PLACEHOLDER.sub(value, self._topic)

    def _publish(self, topic: str, payload: bytes, *, retain: bool) -> None:
        if len(topic.encode("utf-8")) > _TOPIC_BYTES_MAX:
            raise SinkRefusedError(f"mqtt: the topic of this alert has more than {_TOPIC_BYTES_MAX} bytes")
        try:
            self._publisher.publish(topic, payload, 1, retain, self._timeout_s)
        except (OSError, UnavailableError) as error:
            raise SinkUnavailableError(f"mqtt: not published ({error})") from error
        except ValueError as error:
            raise SinkRefusedError(f"mqtt: the broker's client refuses this alert ({error})") from error


def _clean(name: str) -> str:
    """A name as topic levels: without wildcards, and without control characters, for which mosquitto hangs up."""
    return "".join(letter if letter.isprintable() and letter not in "+#" else "_" for letter in name)


class BrokerPublisher:
    """A `Publisher` on a connection of its own, made when it is first needed and again after a failure."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._broker: mqtt.Publisher | None = None

    def publish(self, topic: str, payload: bytes, qos: int, retain: bool, timeout_s: float) -> None:
        """Publish and wait for the broker's acknowledgement; UnavailableError when it does not come in time."""
        try:
            if self._broker is None:
                broker = mqtt.Publisher(self._connection, in_flight_max=16)
                broker.open()
                self._broker = broker
            self._broker.publish(topic, payload, qos=qos, retain=retain)
            self._broker.flush(timeout_s)
        except (OSError, UnavailableError):
            # What is in flight would come later, behind what is tried next.
            self.close()
            raise

    def close(self) -> None:
        """Disconnect; a second call does nothing."""
        broker, self._broker = self._broker, None
        if broker is not None:
            broker.close(wait=False)
