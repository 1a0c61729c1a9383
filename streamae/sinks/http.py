"""One POST over HTTP, with what its answer means.

    2xx                                     taken
    400 409 411 413-415 422 431 451         this body will never do: SinkRefusedError
    all else, and no answer                 SinkUnavailableError, with Retry-After where it was sent

A wrong token (401, 403) or path (404) is the sink's trouble, not the alert's: the alerts wait until it is repaired.
Redirections are not followed, since they would carry the credentials elsewhere. What may hold a secret (path, query and
user of the URL, headers) never enters a message, not even where the answer repeats it; what a library raises is named
by its type.
"""

import contextlib
import http.client
import socket
import ssl
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated
from urllib.parse import SplitResult, unquote

from streamae.addresses import http_address
from streamae.core.setting import Setting
from streamae.core.types import BACKOFF_MAX_S
from streamae.errors import ConfigError
from streamae.failure import failure_of
from streamae.headers import checked, hidden_in, secrets_of
from streamae.sinks.sink import SinkRefusedError, SinkUnavailableError
from streamae.sinks.spec import SinkSettings

__all__ = ["Endpoint", "HttpSettings"]

_REFUSALS = frozenset({400, 409, 411, 413, 414, 415, 422, 431, 451})
_ANSWER_BYTES_MAX = 4096
_TOKEN_LETTERS = 12


@dataclass(frozen=True, kw_only=True)
class HttpSettings(SinkSettings):
    """Of a sink that posts."""

    url: Annotated[str, Setting(form="http_url")] = field(repr=False)
    """Where to POST; may be file:, credential: or ${VARIABLE} where the address itself is a secret."""
    headers: Annotated[Mapping[str, str], Setting(form="headers")] = field(default_factory=dict, repr=False)
    """Further headers; Authorization and other secrets only as file:, credential: or ${VARIABLE}."""
    timeout_s: Annotated[float, Setting(gt=0, le=300)] = 10.0
    """Longest wait for an answer."""
    ca: Path | None = None
    """File with the certificate authorities to trust, PEM. Without it, those of the system."""

    @property
    def blocks_s(self) -> float:
        """As the operator says."""
        return self.timeout_s

    @property
    def ca_file(self) -> str | None:
        """The path as OpenSSL wants it."""
        return None if self.ca is None else str(self.ca)


class Endpoint:
    """A URL to post to; ConfigError when it is none. `timeout_s` bounds a whole request, not each read."""

    def __init__(self, url: str, headers: Mapping[str, str], timeout_s: float, ca_file: str | None = None) -> None:
        self._url = _checked(url)
        self._headers = checked(headers, "sinks")
        self._secrets = secrets_of(self._headers, *_hidden_parts(self._url))
        self._timeout_s = timeout_s
        self._tls = _tls(ca_file) if self._url.scheme == "https" else None
        self.name = f"{self._url.scheme}://{self._url.hostname}:{self._port}"

    def __repr__(self) -> str:
        """Leave out all that may be secret."""
        return f"Endpoint({self.name})"

    def rehearse(self, body: bytes, headers: Mapping[str, str]) -> None:
        """Build the request and throw it away; ConfigError where it cannot be built."""
        try:
            self._request(_Unsent(self._url.hostname or "", self._port), body, headers)
        except Exception as error:  # http.client raises several kinds, and names the value
            raise ConfigError(f"sinks: url, headers: no request can be made of them ({failure_of(error)})") from None

    def post(self, body: bytes, headers: Mapping[str, str]) -> str:
        """Post `body`; return after a 2xx what was answered, in words."""
        connection = self._connection()
        # A receiver that sends a byte now and then would hold us past every socket timeout.
        bell = threading.Timer(self._timeout_s, _hang_up, (connection,))
        bell.daemon = True
        try:
            bell.start()
            self._request(connection, body, headers)
            answer = connection.getresponse()
            reason = answer.read(_ANSWER_BYTES_MAX)
        except Exception as error:  # third parties print what they were given: the type is all that is said
            raise SinkUnavailableError(f"{self.name}: no answer ({failure_of(error)})") from None
        finally:
            bell.cancel()
            connection.close()
        return self._judge(answer.status, answer.getheader("Retry-After"), reason)

    def _request(self, connection: http.client.HTTPConnection, body: bytes, headers: Mapping[str, str]) -> None:
        connection.request("POST", self._path, body, {"Connection": "close", **self._headers, **headers})

    @property
    def _port(self) -> int:
        return self._url.port or (443 if self._url.scheme == "https" else 80)

    @property
    def _path(self) -> str:
        path = self._url.path or "/"
        return f"{path}?{self._url.query}" if self._url.query else path

    def _connection(self) -> http.client.HTTPConnection:
        host = self._url.hostname or ""
        if self._tls:
            return http.client.HTTPSConnection(host, self._port, timeout=self._timeout_s, context=self._tls)
        return http.client.HTTPConnection(host, self._port, timeout=self._timeout_s)

    def _judge(self, status: int, retry_after: str | None, reason: bytes) -> str:
        said = hidden_in(reason.decode("utf-8", "replace"), self._secrets)[:200]
        printable = "".join(letter if letter.isprintable() else " " for letter in said).strip()
        message = f"{self.name}: answered {status}" + (f" ({printable})" if printable else "")
        if 200 <= status < 300:
            return message
        if status in _REFUSALS:
            raise SinkRefusedError(message)
        # The other form of Retry-After, a date, needs a clock; the delivery's own back-off does as well.
        wish_s = float(retry_after) if retry_after and retry_after.isascii() and retry_after.isdigit() else 0.0
        raise SinkUnavailableError(message, min(wish_s, BACKOFF_MAX_S))


class _Unsent(http.client.HTTPConnection):
    """A connection to nobody: a request is written as ever, and goes nowhere."""

    def connect(self) -> None:
        """Do nothing."""

    def send(self, data: object) -> None:
        """Do nothing."""


def _checked(url: str) -> SplitResult:
    try:
        return http_address(url)
    except ValueError as error:
        raise ConfigError(f"sinks: url: {error}") from None


def _tls(ca_file: str | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca_file)
    except OSError as error:  # ssl.SSLError is one
        message = f"sinks: ca: {ca_file}: {failure_of(error)}; give the PEM file of the receiver's authority"
        raise ConfigError(message) from None


def _hidden_parts(url: SplitResult) -> list[str]:
    """What of the address may be a secret: the values of its query, and long parts of its path, as chats use them."""
    values = [part.partition("=")[2] or part for part in url.query.split("&")]
    steps = [step for step in url.path.split("/") if len(step) >= _TOKEN_LETTERS]
    return [url.query, *values, *map(unquote, values), *steps]


def _hang_up(connection: http.client.HTTPConnection) -> None:
    """End a request from the outside; what waits in it gets an OSError."""
    if connection.sock is not None:
        # The plain socket's own method: that of a TLS socket is not meant for a second thread.
        with contextlib.suppress(OSError):
            socket.socket.shutdown(connection.sock, socket.SHUT_RDWR)
