"""The MQTT sink: an event for each transition, and a retained state per stream and rule.

With the topic template `streamae/{instance}/alerts/{group}/{stream}`, a transition goes to `<topic>/event`, not
retained, and to `<topic>/<rule>`, retained: who connects later sees at once what fires, and what fired last. Both
carry the same JSON, at QoS 1; it counts as delivered once the broker has acknowledged both. Many transitions travel
together: all are published, then all acknowledgements are waited for once. The retained state never goes back to an
earlier alert of the same stream and rule, in whatever order retries bring them.
"""

import re
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, Protocol

from streamae import mqtt
from streamae.core.report import Transition
from streamae.core.setting import Setting, placeholders
from streamae.errors import ConfigError, UnavailableError
from streamae.mqtt import ConnectionOptions, transient
from streamae.sinks.payload import document, encode
from streamae.sinks.sink import SinkRefusedError, SinkUnavailableError
from streamae.sinks.spec import Installation, RemindedSettings, SinkSpec

__all__ = ["DEFAULT_TOPIC", "SINK", "BrokerPublisher", "MqttSink", "MqttSinkOptions", "TopicPublisher"]

DEFAULT_TOPIC = "streamae/{instance}/alerts/{group}/{stream}"
_PLACEHOLDER = re.compile(r"\{(\w+)\}")
_FIELDS = ("instance", "group", "stream", "rule", "severity", "state", "id")
_TOPIC_BYTES_MAX = 65_535
_FORBIDDEN = re.compile("[+#\0]")
_STATES_MAX = 20_000  # topics whose newest state is remembered; beyond, the longest unused go
_IN_FLIGHT_MAX = 256

Message = tuple[str, bytes, bool]  # topic, payload, retain


def _publishable(text: str) -> None:
    placeholders((*_FIELDS, "label_"))(text)
    if "+" in text or "#" in text:
        raise ValueError("name one topic to publish on, without the wildcards + and #")


@dataclass(frozen=True, kw_only=True)
class MqttSinkOptions(RemindedSettings):
    """Alerts as messages on the same broker: the state, retained, and each event."""

    type: Literal["mqtt"]
    """Kind of sink."""
    name: Annotated[str, Setting(form="name")] = "mqtt"
    """What the outbox and the metrics call it; no two sinks may share one."""
    topic: Annotated[str, Setting(check=_publishable)] = DEFAULT_TOPIC
    """Topic of a stream's state; events go to the same with /event behind it."""
    timeout_s: Annotated[float, Setting(gt=0, le=300)] = 10.0
    """Longest wait for the broker's acknowledgement."""

    @property
    def blocks_s(self) -> float:
        """As the operator says."""
        return self.timeout_s

    @property
    def published(self) -> str:
        """The topic: an alert that came back as a sample would be scored."""
        return self.topic


class TopicPublisher(Protocol):
    """The way to a broker; implemented by `streamae.mqtt`."""

    def publish(self, messages: Sequence[Message], timeout_s: float) -> None:
        """Publish in order, at QoS 1, and return once the broker has all of them.

        OSError or UnavailableError when it could not be had within `timeout_s`, ValueError for what can never be sent.
        """
        ...

    def close(self) -> None:
        """Disconnect; a second call does nothing."""
        ...


class MqttSink:
    """Publishes through `publisher`; ConfigError for a template that names what no transition has.

    The template may name instance, group, stream, rule, severity, state, id, and `label_NAME` for a label.
    """

    batch_max = 200
    refresh_s = None

    def __init__(
        self, publisher: TopicPublisher, topic: str = DEFAULT_TOPIC, *, name: str = "mqtt", timeout_s: float = 10.0
    ) -> None:
        self.name = name
        self._publisher = publisher
        self._topic = topic
        self._timeout_s = timeout_s
        self._newest: OrderedDict[str, tuple[float, int]] = OrderedDict()
        unknown = [n for n in _PLACEHOLDER.findall(topic) if n not in _FIELDS and not n.startswith("label_")]
        if unknown or _FORBIDDEN.search(topic) or not topic:
            raise ConfigError(
                f"sinks: mqtt: topic: got {topic!r}; within braces use {', '.join(_FIELDS)} or label_NAME, "
                "and no + or # anywhere"
            )

    def send(self, transitions: Sequence[Transition]) -> None:
        """Publish them all, each event before its state, and wait until the broker has them."""
        messages: list[Message] = []
        states: dict[str, tuple[float, int]] = {}
        for transition in transitions:
            payload, topic = encode(document(transition)), self._render(transition)
            event, state = f"{topic}/event", f"{topic}/{_clean(transition.rule)}"
            age = (transition.onset_s, transition.sequence)
            if max(len(name.encode("utf-8")) for name in (event, state)) > _TOPIC_BYTES_MAX:
                raise SinkRefusedError(f"mqtt: the topic of this alert has more than {_TOPIC_BYTES_MAX} bytes")
            messages.append((event, payload, False))
            if age >= max(states.get(state, age), self._newest.get(state, age)):
                states[state] = age
                messages.append((state, payload, True))
        self._publish(messages)
        self._remember(states)

    def try_out(self, test: Transition) -> str:
        """Publish an event and no state: nothing is retained."""
        topic = f"{self._render(test)}/event"
        self._publish([(topic, encode(document(test)), False)])
        return f"the broker acknowledged it on {topic}"

    def _publish(self, messages: Sequence[Message]) -> None:
        try:
            self._publisher.publish(messages, self._timeout_s)
        except (OSError, UnavailableError) as error:
            raise SinkUnavailableError(f"mqtt: not published ({error})") from error
        except ValueError as error:
            raise SinkRefusedError(f"mqtt: the broker's client refuses this alert ({error})") from error

    def close(self) -> None:
        """Disconnect."""
        self._publisher.close()

    def _render(self, transition: Transition) -> str:
        def value(match: re.Match[str]) -> str:
            field = match[1]
            label = transition.labels.get(field.removeprefix("label_"), "")
            return _clean(str(getattr(transition, field)) if field in _FIELDS else label)

        return _PLACEHOLDER.sub(value, self._topic)

    def _remember(self, states: dict[str, tuple[float, int]]) -> None:
        for topic, age in states.items():
            self._newest[topic] = age
            self._newest.move_to_end(topic)
        while len(self._newest) > _STATES_MAX:
            self._newest.popitem(last=False)


def _clean(name: str) -> str:
    """A name as topic levels: without wildcards, and without control characters, for which mosquitto hangs up."""
    return "".join(letter if letter.isprintable() and letter not in "+#" else "_" for letter in name)


class BrokerPublisher:
    """A `Publisher` on a connection of its own, made when it is first needed and again after a failure."""

    def __init__(self, connection: ConnectionOptions) -> None:
        self._connection = connection
        self._broker: mqtt.Publisher | None = None

    def publish(self, messages: Sequence[Message], timeout_s: float) -> None:
        """Publish and wait for the broker's acknowledgements; UnavailableError when they do not come in time."""
        try:
            if self._broker is None:
                broker = mqtt.Publisher(self._connection, in_flight_max=_IN_FLIGHT_MAX)
                broker.open()
                self._broker = broker
            for topic, payload, retain in messages:
                self._broker.publish(topic, payload, qos=1, retain=retain)
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


def _made(settings: MqttSinkOptions, installation: Installation) -> MqttSink:
    publisher = BrokerPublisher(transient(installation.connection, "alerts"))
    return MqttSink(publisher, settings.topic, name=settings.name, timeout_s=settings.timeout_s)


SINK = SinkSpec(MqttSinkOptions, _made)
