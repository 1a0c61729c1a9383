"""Who may ask: the guards that stand before every route, and the headers on every answer.

A Host header outside the allow-list is refused (DNS rebinding), a change from another origin too; every answer carries
a Content-Security-Policy that allows our own files and nothing else.
"""

import hmac
import ipaddress
import re
from dataclasses import dataclass

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["Access", "Guard"]

# An IPv6 address in brackets or a name, each with or without a port; or an IPv6 address that stands alone.
_HOST = re.compile(r"(?:\[([0-9a-f:.]+)\]|([^:\[\]/@?#\s]+))(?::[0-9]{0,5})?|([0-9a-f]*:[0-9a-f:.]*)")

_HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
        "require-trusted-types-for 'script'; trusted-types 'none'"  # no text can become markup, ours included
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
}


@dataclass(frozen=True, slots=True)
class Access:
    """Who may ask: names for the Host header beside those of loopback, the token for changes, whether beyond loopback.

    Beyond loopback an IP address as Host is let through as well: a rebinding attack needs a name, and probes of an
    orchestrator have nothing else.
    """

    hosts: frozenset[str] = frozenset()
    token: str | None = None
    loopback: bool = True

    def allows_host(self, header: str) -> bool:
        """Judge a Host header, with or without port."""
        host = _host(header)
        if host in {"localhost", "127.0.0.1", "::1"} or host in self.hosts:
            return True
        return not self.loopback and _is_address(host)

    def allows_change(self, headers: Headers) -> bool:
        """Whether the request shows the token; without a configured token nothing may be changed."""
        kind, _, shown = headers.get("authorization", "").partition(" ")
        if self.token is None or kind.lower() != "bearer":
            return False
        return hmac.compare_digest(shown.strip().encode("latin-1"), self.token.encode())  # as h11 decoded it

    def remedy(self, headers: Headers) -> str:
        """Say why a request may not change anything, to the person who sent it."""
        if self.token is None:
            return "read-only: set web.token in the configuration to allow changes"
        if not headers.get("authorization"):
            return "a change needs the token of web.token: send it as `Authorization: Bearer TOKEN`"
        return "wrong token: nothing was changed; it is the one that web.token in the configuration says"


def _host(header: str) -> str:
    """Return the name without its port, "" for what is no host of a URL: `[::1]evil.com`, `localhost:evil.com`."""
    found = _HOST.fullmatch(header.strip().lower())
    return (found[1] or found[2] or found[3]) if found else ""


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


class Guard:
    """Refuse foreign hosts, foreign origins and changes without the token; put the security headers on every answer."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app = app
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        if scope["type"] != "http":
            return

        async def secured(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers[name] = value
                headers.setdefault("cache-control", "no-store")
            await send(message)

        refusal = self._refusal(scope["method"], Headers(scope=scope))
        await (refusal or self._app)(scope, receive, secured)

    def _refusal(self, method: str, headers: Headers) -> Response | None:
        if not self._access.allows_host(headers.get("host", "")):
            return _error(421, "this host name is not in web.allowed_hosts")
        if method in ("GET", "HEAD"):
            return None
        origin = headers.get("origin")
        if origin is not None and _host(origin.partition("//")[2]) != _host(headers["host"]):
            return _error(403, "a change must come from this page itself")
        if not self._access.allows_change(headers):
            response = _error(401, self._access.remedy(headers))
            response.headers["www-authenticate"] = "Bearer"
            return response
        return None


def _error(status: int, message: str) -> Response:
    return JSONResponse({"error": message}, status)
