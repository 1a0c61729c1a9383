"""The MQTT sink: an event for each transition, and a retained state per stream and rule.

With the topic template `streamae/{instance}/alerts/{group}/{stream}`, a transition goes to `<topic>/event`, not
retained, and to `<topic>/<rule>`, retained: who connects later sees at once what fires, and what fired last. Both
carry the same JSON, at QoS 1; it counts as delivered once the broker has acknowledged both. Many transitions travel
together: all are published, then all acknowledgements are waited for once. The retained state never goes back to an
earlier alert of the same stream and rule, in whatever order retries bring them. Where the topic has the instance in it,
what somebody else wrote there is written over within seconds (`retained.py`).
"""

import logging
import re
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, Protocol, TypeVar

from streamae import mqtt
from streamae.condition import Condition
from streamae.core.report import Transition
from streamae.core.setting import Setting, placeholders
from streamae.errors import ConfigError, UnavailableError
from streamae.failure import failure_of
from streamae.mqtt import ConnectionOptions, transient
from streamae.sinks.payload import document, encode
from streamae.sinks.retained import repairs
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
_REPAIRS_MAX = 100  # of one look
_FORGED_S = 600.0  # without a forgery: nobody writes our topics any more
_T = TypeVar("_T")
_log = logging.getLogger(__name__)

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

    def rehearse(self) -> None:
        """Make what connects, and do not connect; ConfigError where it cannot be made."""
        ...

    def heard(self) -> dict[str, bytes]:
        """Connect where it is not, and return what others wrote since the last call, and what the broker retained."""
        ...

    def publish(self, messages: Sequence[Message], timeout_s: float) -> None:
        """Publish in order, at QoS 1, and return once the broker has all of them.

        OSError or UnavailableError when it could not be had within `timeout_s`, ValueError for what can never be sent.
        """
        ...

    def close(self) -> None:
        """Disconnect; a second call does nothing."""
        ...


class MqttSink:
    """Publishes through `publisher`, and watches over what is retained.

    ConfigError for a template that names what no transition has.

    The template may name instance, group, stream, rule, severity, state, id, and `label_NAME` for a label.
    """

    batch_max = 200
    refresh_s = None
    watch_s = 5.0

    def __init__(
        self,
        publisher: TopicPublisher,
        topic: str = DEFAULT_TOPIC,
        *,
        name: str = "mqtt",
        timeout_s: float = 10.0,
        page: str = "",
        now: Callable[[], float] = float,
    ) -> None:
        self.name = name
        what = f"states of alerts of sink {name} are written by somebody else"
        self._now, self._forged, self._forged_s = now, Condition("sink", name, what, now, _log), float("-inf")
        self._publisher = publisher
        self._topic, self._page = topic, page
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
        messages, states = self._messages(transitions)
        self._publish(messages)
        self._remember(states)

    def _messages(self, transitions: Sequence[Transition]) -> tuple[list[Message], dict[str, tuple[float, int]]]:
        messages: list[Message] = []
        states: dict[str, tuple[float, int]] = {}
        for transition in transitions:
            payload = self._payload(transition)
            event, state = f"{self._render(transition)}/event", self._state_topic(transition)
            age = (transition.onset_s, transition.sequence)
            if max(len(name.encode("utf-8")) for name in (event, state)) > _TOPIC_BYTES_MAX:
                raise SinkRefusedError(f"mqtt: the topic of this alert has more than {_TOPIC_BYTES_MAX} bytes")
            messages.append((event, payload, False))
            if age >= max(states.get(state, age), self._newest.get(state, age)):
                states[state] = age
                messages.append((state, payload, True))
        return messages, states

    def rehearse(self, test: Transition) -> None:
        """Make the client of the broker, and the topic."""
        self._messages([test])
        self._publisher.rehearse()

    def try_out(self, test: Transition) -> str:
        """Publish an event and no state: nothing is retained."""
        topic = f"{self._render(test)}/event"
        self._publish([(topic, encode(document(test, self._page)), False)])
        return f"the broker acknowledged it on {topic}"

    def _publish(self, messages: Sequence[Message]) -> None:
        self._reached(lambda: self._publisher.publish(messages, self._timeout_s))

    def _reached(self, call: Callable[[], _T]) -> _T:
        try:
            return call()
        except UnavailableError as error:
            raise SinkUnavailableError(f"mqtt: not published ({error})") from None
        except OSError as error:
            raise SinkUnavailableError(f"mqtt: not published ({failure_of(error)})") from None
        except ValueError as error:
            raise SinkRefusedError(f"mqtt: the broker's client refuses this alert ({failure_of(error)})") from None

    def look_after(self, standing: Callable[[], Sequence[tuple[Transition, bool]]]) -> None:
        """Connect, and repair the retained states that somebody else wrote."""
        heard = self._reached(self._publisher.heard)
        states = {topic: payload for topic, payload in heard.items() if not topic.endswith("/event")}
        if abs(self._now() - self._forged_s) > _FORGED_S:
            self._forged.works()
        if not states:
            return
        found = repairs(states, standing(), self._state_topic, self._payload)
        if found:
            self._forged_s = self._now()
            self._forged.failed("written again; deny it by the broker's access list (deploy/docs/broker-access.md)")
            self._publish([(topic, payload, True) for topic, payload in found[:_REPAIRS_MAX]])

    def close(self) -> None:
        """Disconnect."""
        self._publisher.close()

    def _payload(self, transition: Transition) -> bytes:
        return encode(document(transition, self._page))

    def _state_topic(self, transition: Transition) -> str:
        return f"{self._render(transition)}/{_clean(transition.rule)}"

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
    """A `Publisher` on a connection of its own, made when it is first needed and again after a failure.

    `watch` is the filter of the topics that nobody else may write, "" for none.
    """

    def __init__(self, connection: ConnectionOptions, watch: str = "") -> None:
        self._connection, self._watch = connection, watch
        self._broker: mqtt.Publisher | None = None
        self._heard: dict[str, bytes] = {}

    def rehearse(self) -> None:
        """Make the clients for each version of the protocol."""
        mqtt.rehearse_connection(self._connection)

    def heard(self) -> dict[str, bytes]:
        """Connect where it is not; return the last message of each watched topic since the last call."""
        self._open()
        heard, self._heard = self._heard, {}
        return dict(heard)

    def publish(self, messages: Sequence[Message], timeout_s: float) -> None:
        """Publish and wait for the broker's acknowledgements; UnavailableError when they do not come in time."""
        try:
            broker = self._open()
            for topic, payload, retain in messages:
                broker.publish(topic, payload, qos=1, retain=retain)
            broker.flush(timeout_s)
        except (OSError, UnavailableError):
            # What is in flight would come later, behind what is tried next.
            self.close()
            raise

    def _open(self) -> mqtt.Publisher:
        if self._broker is None:
            watch = (self._watch,) if self._watch else ()
            broker = mqtt.Publisher(self._connection, in_flight_max=_IN_FLIGHT_MAX, watch=watch, watched=self._note)
            broker.open()
            self._broker = broker
        return self._broker

    def _note(self, topic: str, payload: bytes, _: bool) -> None:
        """In paho's thread: keep the newest of each topic; what is beyond the bound comes with the next connection."""
        heard = self._heard
        if topic in heard or len(heard) < _STATES_MAX:
            heard[topic] = payload

    def close(self) -> None:
        """Disconnect; a second call does nothing."""
        broker, self._broker = self._broker, None
        if broker is not None:
            broker.close(wait=False)


def _watched(topic: str, instance: str) -> str:
    """The filter of all topics that the template makes; "" where another instance may have states below it, too."""
    marked = topic.replace("{instance}", "\0")
    levels = marked.split("{")[0].rpartition("/")[0] if "{" in marked else marked
    return levels.replace("\0", _clean(instance)) + "/#" if "\0" in levels else ""


def _made(settings: MqttSinkOptions, installation: Installation) -> MqttSink:
    watch = _watched(settings.topic, installation.instance)
    publisher = BrokerPublisher(transient(installation.connection, "alerts"), watch)
    return MqttSink(publisher, settings.topic, name=settings.name, timeout_s=settings.timeout_s, page=installation.page)


SINK = SinkSpec(MqttSinkOptions, _made)
