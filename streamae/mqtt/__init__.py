"""The only door to paho-mqtt: how a connection is described, made, published on and subscribed with.

`Connection` is what the operator decides, once for every room. `Publisher` sends (replay, simulate, the MQTT sink);
`Session` receives: one network thread of our own that outlives brokers, and acknowledges only what it is asked to.
"""

from streamae.mqtt.options import ConnectionOptions, Tls, rehearse_connection, topic_matches, transient
from streamae.mqtt.publisher import Publisher
from streamae.mqtt.session import Session
from streamae.mqtt.state import SessionState, Subscription

__all__ = [
    "ConnectionOptions",
    "Publisher",
    "Session",
    "SessionState",
    "Subscription",
    "Tls",
    "rehearse_connection",
    "topic_matches",
    "transient",
]
