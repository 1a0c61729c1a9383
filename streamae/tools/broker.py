"""A broker of our own for the demo: mosquitto where it is installed, else amqtt, on a free loopback port.

It is a child process in either case, so that its end is certain: asked, and after some seconds made to.
"""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from streamae.errors import UnavailableError
from streamae.stopping import child

__all__ = ["Broker", "find_mosquitto"]

_LOOPBACK = "127.0.0.1"
_AMQTT = """
import asyncio, sys
from amqtt.broker import Broker
from amqtt.contexts import BrokerConfig, ListenerConfig
plugins = {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}}
async def main():
    listener = ListenerConfig(bind=f"127.0.0.1:{sys.argv[1]}")
    broker = Broker(BrokerConfig(listeners={"default": listener}, plugins=plugins))
    await broker.start()
    await asyncio.Event().wait()
asyncio.run(main())
"""


def find_mosquitto() -> str | None:
    """Return the path of mosquitto, which Debian keeps outside the PATH of users."""
    return shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin:/opt/homebrew/sbin")


class Broker:
    """A broker for as long as the `with` block runs; `host` and `port` say where, `kind` which.

    `kind` may be forced to "mosquitto" or "amqtt". amqtt speaks MQTT 3.1.1 and takes some 500 messages a second.
    """

    host = _LOOPBACK

    def __init__(
        self,
        *,
        monotonic: Callable[[], float],
        sleep: Callable[[float], object],
        kind: str | None = None,
        port: int | None = None,
    ) -> None:
        self._mosquitto = find_mosquitto()
        self.kind = kind or ("mosquitto" if self._mosquitto else "amqtt")
        self.port = port or _free_port()
        self._monotonic = monotonic
        self._sleep = sleep
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Return where it is, as a URL."""
        return f"mqtt://{self.host}:{self.port}"

    @property
    def protocol(self) -> str:
        """Return the MQTT version to speak with it, which spares a client the finding out."""
        return "3.1.1" if self.kind == "amqtt" else "5"

    def __enter__(self) -> "Broker":
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self, timeout_s: float = 20.0) -> None:
        """Start it and wait until it accepts connections.

        :raises UnavailableError: neither broker is installed, or it does not start; with its own last words.
        """
        if self._accepts():
            raise UnavailableError(f"port {self.port} is taken by another program; leave the port open or free it")
        self._folder = tempfile.TemporaryDirectory(prefix="streamae-broker-")
        folder = Path(self._folder.name)
        log = folder / "broker.log"
        with log.open("wb") as output:
            self._process = child(subprocess.Popen(self._command(folder), stdout=output, stderr=output))  # noqa: S603
        deadline_s = self._monotonic() + timeout_s
        while not self._accepts():
            if self._process.poll() is not None or self._monotonic() > deadline_s:
                words = log.read_text(errors="replace").strip().splitlines()[-3:]
                self.stop()
                hint = "install mosquitto, or pip install 'streamae[demo]'"
                raise UnavailableError(f"{self.kind} does not start on port {self.port}: {' | '.join(words)}; {hint}")
            self._sleep(0.02)

    def _command(self, folder: Path) -> list[str]:
        if self.kind == "amqtt":
            return [sys.executable, "-c", _AMQTT, str(self.port)]
        if self._mosquitto is None:
            raise UnavailableError("mosquitto is not installed; apt-get install mosquitto, or use amqtt")
        lines = [f"listener {self.port} {_LOOPBACK}", "allow_anonymous true", "max_queued_messages 0", "sys_interval 1"]
        if hasattr(os, "geteuid") and os.geteuid() == 0:
            lines.insert(0, "user root")  # else it changes to a user who may not read our folder
        path = folder / "mosquitto.conf"
        path.write_text("\n".join(lines) + "\n")
        return [self._mosquitto, "-c", str(path)]

    def _accepts(self) -> bool:
        try:
            with socket.create_connection((_LOOPBACK, self.port), timeout=0.5):
                return True
        except OSError:
            return False

    def stop(self, timeout_s: float = 5.0) -> None:
        """End it within `timeout_s`, and remove its files."""
        process, self._process = self._process, None
        if process is not None:
            process.terminate()
            try:
                process.wait(timeout_s)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((_LOOPBACK, 0))
        return int(probe.getsockname()[1])
