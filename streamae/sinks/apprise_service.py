"""Apprise itself, as far as the sink needs it: what notifies one address, and why a message was not taken.

It says why only in its log; that is read here, and goes nowhere else, for it knows the addresses.
"""

import logging
import re
from contextvars import ContextVar
from importlib import import_module
from typing import Any
from urllib.parse import unquote

__all__ = ["REASONS", "secrets_of_address", "service_of"]

_SHORTEST = 4  # what is shorter is no secret, and hiding it would spoil words
_THEIR_LOGS = ("apprise", "urllib3", "requests")


class _Reasons(logging.Handler):
    """Apprise's own log, as far as it is about what this thread sends: why a message was not taken."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._said: ContextVar[list[str]] = ContextVar("said")  # Apprise's own threads inherit it, as a copy

    def listen(self) -> list[str]:
        """Return the list to which the warnings about what this thread sends go from now on."""
        said: list[str] = []
        self._said.set(said)
        return said

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the message of a warning."""
        if (said := self._said.get(None)) is not None:
            said.append(record.getMessage())


REASONS = _Reasons()


def service_of(url: str, timeout_s: float) -> tuple[Any, str] | None:
    """Return what notifies `url` and the name of its service; None for an address that Apprise does not know."""
    for name in _THEIR_LOGS:  # they write addresses: none of it reaches our log
        theirs = logging.getLogger(name)
        theirs.propagate = False
        theirs.setLevel(logging.WARNING)
        if REASONS not in theirs.handlers:
            theirs.addHandler(REASONS)
    apprise = import_module("apprise")
    asset = apprise.AppriseAsset(app_id="streamae", app_desc="streamae", async_mode=False, storage_mode="memory")
    service = apprise.Apprise.instantiate(url, asset=asset)
    if service is None:
        return None
    if "cto=" not in url:
        service.socket_connect_timeout = timeout_s
    if "rto=" not in url:
        service.socket_read_timeout = timeout_s
    notifier = apprise.Apprise(asset=asset)
    notifier.add(service)
    return notifier, str(service.service_name)


def secrets_of_address(url: str) -> list[str]:
    """What no message may hold: the address and its parts, for a host may be a token as well as a name."""
    parts = [part for part in re.split(r"[/?&=:@,;#]+", url.partition("://")[2]) if len(part) >= _SHORTEST]
    return sorted({url, *parts, *(unquote(part) for part in parts)}, key=len, reverse=True)
