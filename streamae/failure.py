"""How an exception of a library is named in a message: by its type, never by its text.

The text of a stranger's exception may hold what it was given: http.client repeats a header that it cannot send, and
with it the token. So a message has the type, what the system says to an error number, and where it was raised.
"""

import os
import socket
import ssl
import traceback
from pathlib import Path

__all__ = ["HANDSHAKE_LATE", "failure_of", "place_of"]

HANDSHAKE_LATE = "the TLS handshake did not end in time"


def failure_of(error: BaseException) -> str:
    """Return the type of an exception and, of one of the system's, the system's own words for its number."""
    name = type(error).__name__
    if isinstance(error, ssl.SSLError):
        said = (error.reason, getattr(error, "verify_message", None))  # constants of OpenSSL
        return ": ".join([name, *(one for one in said if one)])
    if isinstance(error, socket.gaierror | socket.herror):
        return f"{name}: no address is known for this host"
    if isinstance(error, OSError) and error.errno:
        return f"{name}: {os.strerror(error.errno)}"
    if isinstance(error, TimeoutError) and "handshake operation timed out" in str(error):  # of ssl
        return f"{name}: {HANDSHAKE_LATE}"
    return name


def place_of(error: BaseException) -> str:
    """Return the type of an exception and the line that raised it, for a fault that somebody has to look for."""
    frames = traceback.extract_tb(error.__traceback__)
    return (
        f"{failure_of(error)} at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else failure_of(error)
    )
