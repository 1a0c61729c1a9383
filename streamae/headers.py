"""Headers that an operator gives for HTTP: that they can be sent, and that their values stay out of every message.

A receiver may repeat in its answer what it was sent ("unknown token abc"), and http.client repeats a value that it
cannot send; both would bring a secret into the log.
"""

import base64
import binascii
import re
from collections.abc import Iterable, Mapping
from functools import cache
from urllib.parse import unquote

from streamae.errors import ConfigError

__all__ = ["checked", "hidden_in", "secrets_of", "unsendable"]

_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # a token of RFC 9110, 5.6.2
_SHORTEST = 4  # what is shorter is no secret, and hiding it would spoil words


def unsendable(name: str, value: str) -> str:
    """Return what to write instead of a header that HTTP cannot carry, without its value; "" where it can."""
    if not name.isascii() or not _NAME.fullmatch(name):
        return f"{name!r}: not a name; write letters, digits and hyphens"
    bad = next((letter for letter in value if letter in "\r\n\0" or ord(letter) > 255), None)
    if bad is not None:
        return f"{name}: its value holds the character U+{ord(bad):04X}; give one line of Latin-1 letters"
    return ""


def checked(headers: Mapping[str, str], where: str) -> dict[str, str]:
    """Return the headers; ConfigError, with the name and never the value, for one that HTTP cannot carry."""
    for name, value in headers.items():
        if remedy := unsendable(name, value):
            raise ConfigError(f"{where}: headers: {remedy}")
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
    """Return the text with each of the secrets replaced by three dots, however its letters are written there.

    A receiver may repeat them in percent signs, in escapes of JSON, in entities of HTML, or in a mixture.
    """
    for secret in secrets:
        text = text.replace(secret, "…")
        if len(plain := unquote(secret)) >= _SHORTEST:
            text = re.sub("".join(map(_spelled, plain)), "…", text)
    return text


@cache
def _spelled(letter: str) -> str:
    """A pattern of one letter, as it is or escaped."""
    quoted = "".join(f"%(?i:{byte:02x})" for byte in letter.encode("utf-8", "replace"))
    code = ord(letter)
    forms = [re.escape(letter), quoted, rf"\\u(?i:{code:04x})", rf"&#0*{code};", rf"&#x0*(?i:{code:x});"]
    forms += [re.escape(f"\\{letter}")] if letter in "/\"'\\" else []
    forms += [re.escape(f"&{name};") for name, one in _ENTITIES.items() if one == letter]
    return f"(?:{'|'.join(forms)}{'|[+]' if letter == ' ' else ''})"


_ENTITIES = {"amp": "&", "lt": "<", "gt": ">", "quot": '"', "apos": "'"}
