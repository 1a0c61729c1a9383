"""systemd's notification protocol (sd_notify(3)): one datagram a message to the socket that systemd names.

Nothing is sent where `NOTIFY_SOCKET` is not set, so the daemon runs the same outside systemd.
"""

import socket
from collections.abc import Mapping

__all__ = ["Notifier"]


class Notifier:
    """Says READY=1, STATUS=…, WATCHDOG=1, RELOADING=1 and STOPPING=1.

    `watchdog_s` is how often systemd wants to hear WATCHDOG=1, halved as it advises; None: it does not.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        address = environ.get("NOTIFY_SOCKET", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address
        period_us = environ.get("WATCHDOG_USEC", "")
        self.watchdog_s = int(period_us) / 2e6 if self._address and period_us.isdigit() else None

    def send(self, *lines: str) -> None:
        """Send assignments such as `READY=1` as one message; a socket that is gone is no fault of ours."""
        if not self._address:
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
            try:
                out.connect(self._address)
                out.sendall("\n".join(lines).encode())
            except OSError:
                return
