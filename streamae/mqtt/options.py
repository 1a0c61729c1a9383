"""How a connection to a broker is described, and how paho's client for it is made.

MQTT 5 is spoken by default, for three of its properties: Receive Maximum (the broker may have that many QoS 1
messages in flight, where 3.1.1 leaves the window to the broker: mosquitto's is 20), session expiry, and reason codes.
"""

import secrets
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from streamae.errors import ConfigError

__all__ = [
    "PROTOCOLS",
    "ClientMaker",
    "ConnectionOptions",
    "Tls",
    "make_client",
    "tls_context",
    "topic_matches",
    "transient",
]

PROTOCOLS = {"5": MQTTProtocolVersion.MQTTv5, "3.1.1": MQTTProtocolVersion.MQTTv311}

ClientMaker = Callable[..., paho.Client]


@dataclass(frozen=True, slots=True)
class Tls:
    """TLS of a connection: paths of PEM files. Without `ca` the system's authorities are trusted.

    `cert` and `key` are the client's own (mutual TLS). `insecure` accepts any certificate of any host.
    """

    ca: str | None = None
    cert: str | None = None
    key: str | None = None
    insecure: bool = False


@dataclass(frozen=True, slots=True)
class ConnectionOptions:
    """Where the broker is and how it is spoken to. The password never appears in `repr`.

    `protocol` is "5", "3.1.1", or "auto": 5, and 3.1.1 where the broker refuses 5. `session_expiry_s` is how long the
    broker keeps our subscriptions and queued messages while we are away; 0 starts clean every time.
    `connect_timeout_s` bounds the TCP connect, the TLS handshake and the wait for CONNACK, each.
    """

    host: str = "localhost"
    port: int = 1883
    client_id: str = "streamae"
    protocol: str = "auto"
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: Tls | None = None
    transport: str = "tcp"
    websocket_path: str = "/mqtt"
    keepalive_s: float = 15
    session_expiry_s: float = 86400
    receive_maximum: int = 4096
    connect_timeout_s: float = 5.0

    @property
    def address(self) -> str:
        """Host and port as they are said in messages."""
        return f"{self.host}:{self.port}"


def topic_matches(topic_filter: str, topic: str) -> bool:
    """Return whether a broker would deliver `topic` to a subscription of `topic_filter`."""
    return paho.topic_matches_sub(topic_filter, topic)


def transient(connection: ConnectionOptions, role: str) -> ConnectionOptions:
    """Return `connection` under a client id of its own and without a lasting session, for a verb or a sink."""
    return replace(connection, client_id=f"{connection.client_id}-{role}-{secrets.token_hex(4)}", session_expiry_s=0)


def tls_context(tls: Tls) -> ssl.SSLContext:
    """Build the context once, so that a missing file is an error of the operator's before anything is connected.

    :raises ConfigError: a file is missing or is not what it should be.
    """
    try:
        context = ssl.create_default_context(cafile=tls.ca)
    except OSError as error:  # ssl.SSLError is one
        raise ConfigError(f"mqtt.tls.ca: {tls.ca}: {error}; give the PEM file of the broker's authority") from error
    if tls.cert:
        try:
            context.load_cert_chain(tls.cert, tls.key)
        except OSError as error:
            message = f"mqtt.tls.cert, mqtt.tls.key: {tls.cert}, {tls.key}: {error}; give the client's PEM files"
            raise ConfigError(message) from error
    if tls.insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def make_client(
    connection: ConnectionOptions,
    *,
    protocol: str,
    tls: ssl.SSLContext | None = None,
    manual_ack: bool = False,
    reconnect: bool = False,
    in_flight_max: int = 20,
    kind: ClientMaker = paho.Client,
) -> paho.Client:
    """Return a paho client set up for `connection` and ready for `reconnect()`; `protocol` is "5" or "3.1.1"."""
    five = protocol == "5"
    lasting = connection.session_expiry_s > 0
    client = kind(
        CallbackAPIVersion.VERSION2,
        client_id=connection.client_id,
        clean_session=None if five else not lasting,
        protocol=PROTOCOLS[protocol],
        transport=connection.transport,
        reconnect_on_failure=reconnect,
        manual_ack=manual_ack,
    )
    client.max_inflight_messages_set(in_flight_max)
    client.connect_timeout = connection.connect_timeout_s
    if connection.username is not None:
        client.username_pw_set(connection.username, connection.password)
    if tls is not None:
        client.tls_set_context(tls)
        if not tls.check_hostname:
            client.tls_insecure_set(True)
    if connection.transport == "websockets":
        client.ws_set_options(path=connection.websocket_path)
    versioned: dict[str, Any] = {}
    if five:
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.ReceiveMaximum = connection.receive_maximum
        if lasting:
            properties.SessionExpiryInterval = int(connection.session_expiry_s)
        versioned = {"clean_start": not lasting, "properties": properties}
    client.connect_async(connection.host, connection.port, int(connection.keepalive_s), **versioned)
    return client
