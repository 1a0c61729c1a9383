"""One POST over HTTP, with what its answer means.

    2xx                                     taken
    400 409 411 413-415 422 431 451         this body will never do: SinkRefusedError
    all else, and no answer                 SinkUnavailableError, with Retry-After where it was sent

A wrong token (401, 403) or path (404) is the sink's trouble, not the alert's: the alerts wait until it is repaired.
Redirections are not followed, since they would carry the credentials elsewhere. What may hold a secret (path, query and
user of the URL, headers) never enters a message, not even where the answer repeats it.
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
from urllib.parse import SplitResult, unquote, urlsplit

from streamae.core.setting import Setting
from streamae.core.types import BACKOFF_MAX_S
from streamae.errors import ConfigError
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
        self._tls = ssl.create_default_context(cafile=ca_file) if self._url.scheme == "https" else None
        self.name = f"{self._url.scheme}://{self._url.hostname}:{self._port}"

    def __repr__(self) -> str:
        """Leave out all that may be secret."""
        return f"Endpoint({self.name})"

    def post(self, body: bytes, headers: Mapping[str, str]) -> str:
        """Post `body`; return after a 2xx what was answered, in words."""
        connection = self._connection()
        # A receiver that sends a byte now and then would hold us past every socket timeout.
        bell = threading.Timer(self._timeout_s, _hang_up, (connection,))
        bell.daemon = True
        bell.start()
        try:
            connection.request("POST", self._path, body, {"Connection": "close", **self._headers, **headers})
            answer = connection.getresponse()
            reason = answer.read(_ANSWER_BYTES_MAX)
        except (OSError, http.client.HTTPException) as error:
            said = hidden_in(f"{type(error).__name__}: {error}", self._secrets)
            raise SinkUnavailableError(f"{self.name}: no answer ({said})") from error
        finally:
            bell.cancel()
            connection.close()
        return self._judge(answer.status, answer.getheader("Retry-After"), reason)

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


def _checked(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        valid = parts.scheme in {"http", "https"} and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        valid = False
    if not valid or not url.isascii() or not url.isprintable() or " " in url:
        raise ConfigError("sinks: url: not an http:// or https:// address; write https://host/path")
    if parts.username is not None:
        raise ConfigError("sinks: url: holds a user or password; put them into headers, as `Authorization`")
    return parts


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
