"""How a connection to a broker is described, and how paho's client for it is made.

MQTT 5 is spoken by default, for three of its properties: Receive Maximum (the broker may have that many QoS 1
messages in flight, where 3.1.1 leaves the window to the broker: mosquitto's is 20), session expiry, and reason codes.
"""

import secrets
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from streamae.addresses import resolvable, sendable
from streamae.core.setting import INTERNAL, Setting
from streamae.errors import ConfigError
from streamae.failure import failure_of

__all__ = [
    "PROTOCOLS",
    "ClientMaker",
    "ConnectionOptions",
    "Tls",
    "make_client",
    "rehearse_connection",
    "tls_context",
    "topic_matches",
    "transient",
]

PROTOCOLS = {"5": MQTTProtocolVersion.MQTTv5, "3.1.1": MQTTProtocolVersion.MQTTv311}

ClientMaker = Callable[..., paho.Client]


def _fits(password: str) -> None:
    if len(password.encode("utf-8")) > 65_535:
        raise ValueError("shorten the password to 65535 bytes")


@dataclass(frozen=True, slots=True)
class Tls:
    """Encryption of the connection to the broker; the host name is always checked unless `insecure`."""

    ca: Path | None = None
    """File with the certificate authorities to trust, PEM. Without it, those of the system."""
    cert: Path | None = None
    """File with our own certificate, PEM, for mutual TLS."""
    key: Path | None = None
    """File with our own private key, PEM, for mutual TLS."""
    insecure: bool = False
    """Accept any certificate. For experiments only."""


@dataclass(frozen=True, slots=True)
class ConnectionOptions:
    """Where the broker is and how it is spoken to. The password never appears in `repr`."""

    host: Annotated[str, Setting(check=resolvable)] = "localhost"
    """Name or address of the broker."""
    port: Annotated[int, Setting(ge=1, le=65535)] = 1883
    """Port of the broker; 8883 is usual with TLS."""
    client_id: Annotated[str | None, Setting(length_max=128, check=sendable)] = None
    """Identity of the session on the broker; two daemons must not share one. Without it, streamae-<instance>."""
    protocol: Annotated[str, Setting(one_of=("5", "3.1.1", "auto"))] = "auto"
    """MQTT version; `auto` tries 5 first and falls back to 3.1.1."""
    username: Annotated[str | None, Setting(check=sendable)] = None
    """User name for the broker."""
    password: Annotated[str | None, Setting(form="secret", check=_fits)] = field(default=None, repr=False)
    """Password for the broker: file:/path, credential:name or ${VARIABLE}, never plain text."""
    tls: Tls | None = None
    """Encrypt the connection; `tls: {}` trusts the authorities of the system."""
    transport: Literal["tcp", "websockets"] = "tcp"
    """How to reach the broker."""
    websocket_path: Annotated[str, Setting(check=sendable)] = "/mqtt"
    """Path of the WebSocket on the broker."""
    keepalive_s: Annotated[float, Setting(ge=5, le=65535)] = 15.0
    """Interval of pings on an idle connection; a dead one is noticed after one and a half of them."""
    session_expiry_s: Annotated[float, Setting(ge=0, le=4294967294)] = 86400.0
    """How long the broker keeps messages for us while we are away."""
    receive_maximum: Annotated[int, Setting(ge=1, le=65535)] = 4096
    """Messages that the broker may send before the first of them is acknowledged."""
    connect_timeout_s: Annotated[float, INTERNAL] = 5.0
    """Bounds the TCP connect, the TLS handshake and the wait for CONNACK, each."""

    @property
    def lasting(self) -> bool:
        """Whether the broker keeps our session while we are away."""
        return round(self.session_expiry_s) > 0

    @property
    def client_name(self) -> str:
        """The client id, whether it was chosen or not."""
        return self.client_id or "streamae"

    @property
    def address(self) -> str:
        """Host and port as they are said in messages."""
        return f"{self.host}:{self.port}"


def topic_matches(topic_filter: str, topic: str) -> bool:
    """Return whether a broker would deliver `topic` to a subscription of `topic_filter`."""
    return paho.topic_matches_sub(topic_filter, topic)


def transient(connection: ConnectionOptions, role: str) -> ConnectionOptions:
    """Return `connection` under a client id of its own and without a lasting session, for a verb or a sink."""
    return replace(connection, client_id=f"{connection.client_name}-{role}-{secrets.token_hex(4)}", session_expiry_s=0)


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


def rehearse_connection(connection: ConnectionOptions) -> None:
    """Make all that a connection is made of, and do not connect; ConfigError, without any value, where it cannot be."""
    tls = tls_context(connection.tls) if connection.tls else None
    for protocol in PROTOCOLS if connection.protocol == "auto" else (connection.protocol,):
        try:
            make_client(connection, protocol=protocol, tls=tls)
        except Exception as error:  # paho's text may hold what it was given
            raise ConfigError(f"mqtt: no client can be made of these settings ({failure_of(error)})") from None


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
    lasting = connection.lasting
    client = kind(
        CallbackAPIVersion.VERSION2,
        client_id=connection.client_name,
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
            properties.SessionExpiryInterval = round(connection.session_expiry_s)
        versioned = {"clean_start": not lasting, "properties": properties}
    client.connect_async(connection.host, connection.port, round(connection.keepalive_s), **versioned)
    return client
