"""Real brokers and a breakable network for the tests: mosquitto on a free loopback port, and a TCP proxy in front.

A test asks for what it needs (`mosquitto`, `make_mosquitto`, `make_proxy`, `certificates` of conftest.py), gets a
broker of its own, and may kill, restart, freeze or cut it; everything is torn down with a bounded wait.
"""

import contextlib
import getpass
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

MOSQUITTO = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin:/opt/homebrew/sbin")


def free_port() -> int:
    """Return a loopback port that nobody listens on right now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until(condition: Callable[[], object], timeout_s: float = 60.0, what: str = "") -> None:
    """Poll `condition` until it holds; fail the test with `what` after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"not within {timeout_s} s: {what or condition}")
        time.sleep(0.01)


def accepts(port: int) -> bool:
    """Return whether somebody accepts connections on `port`."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


class Mosquitto:
    """A mosquitto of a test's own: `start`, `stop`, `kill`, `freeze`, `thaw`; the port survives a restart.

    `general` are extra lines of its configuration before the listener, `listener` lines after it; `extra` maps the
    port of a further listener to its lines (see `tls_lines`). With `persistence` its sessions and queued messages
    survive `stop` and `start` (a `kill` keeps what was saved last). It logs every packet where `verbose`.
    """

    host = "127.0.0.1"

    def __init__(
        self,
        folder: Path,
        *,
        general: Iterable[str] = (),
        listener: Iterable[str] = ("allow_anonymous true",),
        extra: dict[int, list[str]] | None = None,
        persistence: bool = False,
        port: int | None = None,
        verbose: bool = True,
    ) -> None:
        self.folder = folder
        self.folder.mkdir(parents=True, exist_ok=True)
        self.port = port or free_port()
        self.general = list(general)
        self.listener = list(listener)
        self.extra = extra or {}
        self.persistence = persistence
        self.verbose = verbose
        self.process: subprocess.Popen[bytes] | None = None

    def _config(self) -> Path:
        lines = [
            f"user {getpass.getuser()}",  # started by root it would change to a user who may not read our folder
            "per_listener_settings true",
            "sys_interval 1",
            "max_queued_messages 0",
            "max_inflight_messages 0",
            *(["persistence true", f"persistence_location {self.folder}/"] if self.persistence else []),
            *self.general,
            f"listener {self.port} 127.0.0.1",
            *self.listener,
        ]
        for port, more in self.extra.items():
            lines += [f"listener {port} 127.0.0.1", *more]
        path = self.folder / "mosquitto.conf"
        path.write_text("\n".join(lines) + "\n")
        return path

    def start(self) -> "Mosquitto":
        """Start it and wait until it accepts connections."""
        assert MOSQUITTO
        with (self.folder / "mosquitto.log").open("ab") as log:
            command = [MOSQUITTO, *(["-v"] if self.verbose else []), "-c", str(self._config())]
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        wait_until(lambda: accepts(self.port) or self.process.poll() is not None, what="mosquitto accepts")
        assert self.process.poll() is None, self.log()
        return self

    def stop(self) -> None:
        """SIGTERM: a tidy end, saving what is persistent."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL: the broker vanishes."""
        self._end(signal.SIGKILL)

    def _end(self, number: int) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.send_signal(number)
            self.process.wait(10)
        self.process = None

    def freeze(self) -> None:
        """SIGSTOP: connections stay open, and nothing answers any more."""
        assert self.process
        os.kill(self.process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT: go on after `freeze`."""
        assert self.process
        os.kill(self.process.pid, signal.SIGCONT)

    def log(self) -> str:
        """Return everything that the broker logged so far (-v)."""
        return (self.folder / "mosquitto.log").read_text(errors="replace")

    def publish(
        self, messages: Iterable[tuple[str, bytes | str]], *, qos: int = 1, retain: bool = False, pause_s: float = 0
    ) -> None:
        """Publish all `messages` on one connection of its own; return when the broker has them."""
        client = paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
        client.max_inflight_messages_set(1000)
        client.max_queued_messages_set(0)
        client.connect(self.host, self.port)
        client.loop_start()
        try:
            last = []
            for topic, payload in messages:
                last.append(client.publish(topic, payload, qos, retain))
                if pause_s:
                    time.sleep(pause_s)
            for sent in last:
                sent.wait_for_publish(30)
                assert sent.is_published(), "the broker did not take the message"
        finally:
            client.disconnect()
            client.loop_stop()

    @contextlib.contextmanager
    def collect(self, topic_filter: str, *, qos: int = 1) -> Iterator[list[tuple[str, bytes, bool]]]:
        """Give a list that fills with (topic, payload, retained) as messages arrive; it is subscribed on entry."""
        received: list[tuple[str, bytes, bool]] = []
        subscribed = threading.Event()
        client = paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
        client.on_connect = lambda *_: client.subscribe(topic_filter, qos)
        client.on_subscribe = lambda *_: subscribed.set()
        client.on_message = lambda _c, _u, m: received.append((m.topic, m.payload, m.retain))
        client.connect(self.host, self.port)
        client.loop_start()
        try:
            assert subscribed.wait(10), "the collector could not subscribe"
            yield received
        finally:
            client.disconnect()
            client.loop_stop()


class Proxy:
    """A TCP proxy on loopback that can `cut` (close and refuse), `blackhole` (swallow silently) and `heal`.

    While blackholed it accepts connections and forwards nothing in either direction: a half-open network, and a
    broker that withholds its CONNACK. `delay_s` is slept before each chunk of either direction.
    """

    host = "127.0.0.1"

    def __init__(self, target_port: int) -> None:
        self.target_port = target_port
        self.delay_s = 0.0
        self.accepted = 0
        self._passing = threading.Event()
        self._passing.set()
        self._open = True
        self._refusing = False
        self._sockets: list[socket.socket] = []
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._server.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Close every connection and close new ones at once, until `heal`."""
        self._refusing = True
        self._drop()

    def blackhole(self) -> None:
        """Keep and accept connections, forward nothing, until `heal`."""
        self._passing.clear()

    def reset(self) -> None:
        """Close every connection once, as a rebooted router would; new ones meet the present state."""
        self._drop()

    def heal(self) -> None:
        """Forward again; connections that were blackholed are dropped, as a rebooted router would."""
        if not self._passing.is_set():
            self._drop()
        self._refusing = False
        self._passing.set()

    def close(self) -> None:
        """End of the test."""
        self._open = False
        self._passing.set()
        self._server.close()
        self._drop()

    def _drop(self) -> None:
        sockets, self._sockets = self._sockets, []
        for one in sockets:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _accept(self) -> None:
        while self._open:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            self.accepted += 1
            if self._refusing:
                client.close()
                continue
            try:
                broker = socket.create_connection(("127.0.0.1", self.target_port), timeout=5)
            except OSError:
                client.close()
                continue
            broker.settimeout(None)
            self._sockets += [client, broker]
            for source, sink in ((client, broker), (broker, client)):
                threading.Thread(target=self._pump, args=(source, sink), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while chunk := source.recv(65536):
                while not self._passing.wait(0.1):
                    if source.fileno() < 0:
                        return
                if self.delay_s:
                    time.sleep(self.delay_s)
                sink.sendall(chunk)
        for one in (source, sink):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()


def make_certificates(folder: Path) -> Path:
    """Write a CA, a server certificate for localhost and 127.0.0.1, a client one, and a stranger's CA; return folder.

    Files: ca.pem, server.pem, server.key, client.pem, client.key, stranger.pem, wronghost.pem, wronghost.key.
    """

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], check=True, capture_output=True, cwd=folder)

    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    for name in ("ca", "stranger"):
        openssl(
            "req",
            "-x509",
            *curve,
            "-keyout",
            f"{name}.key",
            "-out",
            f"{name}.pem",
            "-days",
            "2",
            "-subj",
            f"/CN={name}",
        )
    names = {"server": "DNS:localhost,IP:127.0.0.1", "client": "DNS:client", "wronghost": "DNS:elsewhere.example"}
    for name, san in names.items():
        (folder / f"{name}.ext").write_text(f"subjectAltName={san}\n")
        openssl("req", *curve, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        issue = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", f"{name}.ext")
        openssl("x509", "-req", "-in", f"{name}.csr", *issue, "-out", f"{name}.pem")
    return folder


def tls_lines(folder: Path, *, server: str = "server", mutual: bool = False) -> list[str]:
    """Return the listener lines of mosquitto for TLS with `make_certificates`' files; `mutual` asks the client too."""
    lines = [f"certfile {folder}/{server}.pem", f"keyfile {folder}/{server}.key", "allow_anonymous true"]
    if mutual:
        lines += [f"cafile {folder}/ca.pem", "require_certificate true"]
    return lines
