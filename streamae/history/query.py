"""One HTTP query to a database, and what its answer means: the part that Prometheus and InfluxDB share.

    2xx                    the answer
    400, 422               the query is wrong: ConfigError with the database's own words
    401, 403, 404, 3xx     credentials or address are: ConfigError
    408, 429, 5xx, none    retried three times, with longer waits, each logged; then UnavailableError

Redirections are not followed, since they would carry the credentials elsewhere. What may hold a secret (headers, user
and query of the address) never enters a message, not even where the answer repeats it.
"""

import json
import logging
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

from streamae.addresses import http_address
from streamae.errors import ConfigError, UnavailableError
from streamae.failure import failure_of
from streamae.headers import checked, hidden_in, secrets_of

__all__ = ["Server"]

_log = logging.getLogger(__name__)
_ATTEMPTS = 4
_ANSWER_MAX = 512 * 1024 * 1024
_AGAIN = frozenset({408, 429, 500, 502, 503, 504})
_BAD_QUERY = frozenset({400, 422})


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        return None


class Server:
    """A database at `url`, its base address; `sleep` waits for so many seconds. ConfigError where `url` is none."""

    def __init__(
        self,
        url: str,
        headers: Mapping[str, str],
        *,
        timeout_s: float,
        ca_file: str | None,
        sleep: Callable[[float], object],
    ) -> None:
        try:
            parts = http_address(url)
        except ValueError as error:
            raise ConfigError(f"sources: url: {error}") from None
        if parts.query:
            raise ConfigError("sources: url: write https://host:port, or with a path, without user, query or spaces")
        self.name = f"{parts.scheme}://{parts.hostname}" + (f":{parts.port}" if parts.port else "")
        self._url, self._headers, self._timeout_s, self._sleep = url.rstrip("/"), dict(headers), timeout_s, sleep
        self._secrets = secrets_of(checked(headers, "sources"))
        try:
            context = ssl.create_default_context(cafile=ca_file)
        except OSError as error:  # ssl.SSLError is one
            raise ConfigError(f"sources: ca: {ca_file}: {failure_of(error)}; give a PEM file") from None
        self._opener = urllib.request.build_opener(_NoRedirect, urllib.request.HTTPSHandler(context=context))

    def ask(self, path: str, body: bytes, kind: str, query: str) -> bytes:
        """POST `body` of content type `kind` and return the answer; `query` is what messages show of it."""
        said = ""
        for attempt in range(_ATTEMPTS):
            if attempt:
                pause_s = 2.0 ** (attempt - 1)
                _log.warning("%s: %s; asking again in %.0f s", self.name, said, pause_s)
                self._sleep(pause_s)
            try:
                return self._post(path, body, kind)
            except urllib.error.HTTPError as error:
                with error:
                    said = f"answered {error.code}{_words(error, self._secrets)}"
                if error.code not in _AGAIN:
                    raise self._judged(error.code, path, said, query) from None
            except ConfigError:
                raise
            except Exception as error:  # of the system, of TLS, of http.client: their text may hold what was sent
                reason = getattr(error, "reason", error)
                said = f"no answer ({failure_of(reason if isinstance(reason, Exception) else error)})"
                if isinstance(reason, ssl.SSLCertVerificationError):
                    message = f"{self.name}: {failure_of(reason)}; name its authority in sources: ca"
                    raise ConfigError(message) from None
        raise UnavailableError(f"{self.name}: {said}, {_ATTEMPTS} times; is it up, and can this machine reach it?")

    def ask_json(self, path: str, form: Mapping[str, str], query: str) -> Any:
        """POST a form and return the answer's JSON."""
        body = urlencode({key: value for key, value in form.items() if value}).encode()
        answer = self.ask(path, body, "application/x-www-form-urlencoded", query)
        try:
            return json.loads(answer)
        except ValueError:
            raise ConfigError(f"{self.name}{path}: answers no JSON; is url the base address of a database?") from None

    def _post(self, path: str, body: bytes, kind: str) -> bytes:
        headers = {**self._headers, "Content-Type": kind, "Accept-Encoding": "identity"}
        request = urllib.request.Request(self._url + path, body, headers)  # noqa: S310  (the constructor saw the scheme)
        with self._opener.open(request, timeout=self._timeout_s) as answer:
            content: bytes = answer.read(_ANSWER_MAX + 1)
        if len(content) > _ANSWER_MAX:
            raise ConfigError(f"{self.name}: an answer of more than {_ANSWER_MAX >> 20} MiB; write a larger step")
        return content

    def _judged(self, code: int, path: str, said: str, query: str) -> ConfigError:
        if code in _BAD_QUERY:
            return ConfigError(f"{self.name}: {said}; correct the query: {query}")
        if code in {401, 403}:
            return ConfigError(f"{self.name}: {said}; set token, or username and password, of one who may read")
        return ConfigError(f"{self.name}: {said} to {path}; url is the base address, such as http://host:9090")


def _words(error: urllib.error.HTTPError, secrets: Sequence[str]) -> str:
    """What the answer says, short: the message where it is JSON, else its first characters."""
    text = error.read(4096).decode("utf-8", "replace")
    try:
        answer = json.loads(text)
        text = str(answer.get("error") or answer.get("message") or text)
    except (ValueError, AttributeError):
        pass
    text = hidden_in(text, secrets)
    clean = "".join(letter if letter.isprintable() else " " for letter in text).strip()[:300]
    return f" ({clean})" if clean else ""
