"""Addresses that operators give: that a name can be looked up, and that a URL can be asked, before anything is sent.

What is wrong is said without the address: its path, query or user may be a secret.
"""

from urllib.parse import SplitResult, urlsplit

__all__ = ["http_address", "resolvable", "sendable"]

_NAME_MAX = 253  # letters of a host's name, RFC 1035


def resolvable(host: str) -> str:
    """Return the name or address of a host; ValueError where no resolver can be asked for it."""
    try:
        wire = host.encode("idna")
    except UnicodeError:
        raise ValueError("write the host's name in parts of 1 to 63 letters, with single dots between them") from None
    if not host or len(wire) > _NAME_MAX or not host.isprintable() or set(host) & set(" /@?#"):
        raise ValueError("write the name or the address of a host, such as broker.example.org or 192.0.2.7")
    return host


def sendable(text: str) -> str:
    """Return a text that a protocol carries as UTF-8; ValueError where it cannot, or where it has control characters.

    Brokers end a connection whose client id or user name holds such a character.
    """
    if any(not letter.isprintable() and letter != " " for letter in text):
        raise ValueError("leave out line ends and other characters that cannot be printed")
    if len(text.encode("utf-8")) > 65_535:
        raise ValueError("shorten it to 65535 bytes")
    return text


def http_address(url: str) -> SplitResult:
    """Return the parts of an http:// or https:// address; ValueError says what to write instead."""
    if not url.isprintable():
        raise ValueError("write http://host/path or https://host/path on one line, of characters that can be printed")
    try:
        parts = urlsplit(url)
        valid = parts.scheme in {"http", "https"} and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        valid, parts = False, SplitResult("", "", "", "", "")
    if not valid or not url.isascii() or " " in url:
        raise ValueError("not an http:// or https:// address; write https://host/path, in ASCII and without spaces")
    if parts.username is not None or parts.password is not None:
        raise ValueError("holds a user or password; put them into headers, as `Authorization`")
    resolvable(parts.hostname or "")
    return parts
