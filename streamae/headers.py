"""Headers that an operator gives for HTTP: that they can be sent, and that their values stay out of every message.

A receiver may repeat in its answer what it was sent ("unknown token abc"), and http.client repeats a value that it
cannot send; both would bring a secret into the log.
"""

import base64
import binascii
import re
from collections.abc import Iterable, Mapping

from streamae.errors import ConfigError

__all__ = ["checked", "hidden_in", "secrets_of"]

_NAME = re.compile(r"[^:\s][^:\r\n]*", re.ASCII)  # what http.client sends
_SHORTEST = 4  # what is shorter is no secret, and hiding it would spoil words


def checked(headers: Mapping[str, str], where: str) -> dict[str, str]:
    """Return the headers; ConfigError, with the name and never the value, for one that HTTP cannot carry."""
    for name, value in headers.items():
        if not name.isascii() or not _NAME.fullmatch(name):
            raise ConfigError(f"{where}: headers: {name!r}: not a name; write letters, digits and hyphens")
        bad = next((letter for letter in value if letter in "\r\n" or ord(letter) > 255), None)
        if bad is not None:
            held = f"its value holds the character U+{ord(bad):04X}"
            raise ConfigError(f"{where}: headers: {name}: {held}; give one line of Latin-1 letters")
    return dict(headers)


def secrets_of(headers: Mapping[str, str], *others: str) -> tuple[str, ...]:
    """Return the texts that no message may hold, the longest first: values, their words, what Basic hides, `others`."""
    found = {*headers.values(), *others}
    for value in headers.values():
        scheme, _, credentials = value.partition(" ")
        found.add(credentials)
        if scheme.lower() == "basic":
            try:
                pair = base64.b64decode(credentials, validate=True).decode("utf-8", "replace")
            except binascii.Error:
                continue
            found |= {pair, pair.partition(":")[2]}
    return tuple(sorted((one for one in found if len(one) >= _SHORTEST), key=len, reverse=True))


def hidden_in(text: str, secrets: Iterable[str]) -> str:
    """Return the text with each of the secrets replaced by three dots."""
    for secret in secrets:
        text = text.replace(secret, "…")
    return text
