"""Filters of a former configuration that the broker's session keeps are given up, also by the next process."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from streamae.config import Settings, load
from streamae.daemon.clock import ArrivalClock, Clock
from streamae.daemon.session import BrokerSession
from streamae.ingest.mqtt import MqttSource
from streamae.store.store import Store
from tests.brokers import Mosquitto, wait_until

CONFIG = """\
instance: a
state: {{dir: state}}
mqtt: {{host: 127.0.0.1, port: {port}, client_id: daemon, session_expiry: 1h}}
streams:
  pumps:
    topics: [{topics}]
    model: {{path: model.pt, sha256: {digest}}}
"""


class Process:
    """One process's part of the daemon: its store, and its source as the daemon makes it."""

    def __init__(self, folder: Path, settings: Settings) -> None:
        clock = Clock()
        self.store = Store.open(folder / "state", "process", clock.now)
        self.session = BrokerSession(self.store.session_filters)
        arrivals = ArrivalClock(clock, 0.0)
        self.source: MqttSource = self.session.source(
            settings, clock, arrivals, lambda busy_s: None, expect_session=False
        )
        self.source.start()

    def settled(self) -> "Process":
        """Wait for the broker's answer, as the daemon sees it once a second."""
        wait_until(lambda: self.source.status().subscribed, 30)
        self.session.observe(self.source.status())
        return self

    def until(self, marker: bytes) -> list[bytes]:
        """The payloads that come until the marker."""
        found: list[bytes] = []
        end_s = time.monotonic() + 20
        while marker not in found:
            assert time.monotonic() < end_s, found
            accepted = self.source.take(100, 0.2)
            found += accepted.batch.payloads
            self.source.ack(accepted)
        return found

    def end(self) -> None:
        self.source.close()
        self.store.close()


@pytest.fixture
def make(tmp_path: Path, mosquitto: Mosquitto) -> Iterator[Callable[..., Process]]:
    made: list[Process] = []

    def start(*topics: str) -> Process:
        (tmp_path / "model.pt").touch()
        path = tmp_path / "streamae.yaml"
        listed = ", ".join(f'{{topic: "{one}", payload: json, values: {{a: a}}}}' for one in topics)
        path.write_text(CONFIG.format(port=mosquitto.port, topics=listed, digest="0" * 64))
        made.append(Process(tmp_path, load(path)))
        return made[-1]

    yield start
    for one in made:
        one.source.close()


@pytest.mark.parametrize("crashes", [False, True])
def test_a_restart_gives_up_the_filters_of_the_configuration_before(
    mosquitto: Mosquitto, make: Callable[..., Process], crashes: bool
) -> None:
    """Nothing comes of what no group has any more, also where the process in between ended before it was connected."""
    first = make("plant/{pump}", "old/{pump}").settled()
    assert first.store.session_filters.known == ("old/+", "plant/+")
    first.end()
    if crashes:
        between = make("plant/{pump}")
        between.end()
        assert between.store.session_filters.known == ("old/+", "plant/+")
    second = make("plant/{pump}", "plant/{pump}/x").settled()
    mosquitto.publish([("old/p1", b"old"), ("plant/p1", b"new"), ("plant/p1/x", b"end")])
    assert second.until(b"end") == [b"new", b"end"]
    assert second.store.session_filters.known == ("plant/+", "plant/+/x")
    second.end()


def test_without_a_memory_they_go_on(mosquitto: Mosquitto, make: Callable[..., Process], tmp_path: Path) -> None:
    """The control: a session keeps its filters, and who does not know of them gets their messages."""
    make("plant/{pump}", "old/{pump}").settled().end()
    for part in (tmp_path / "state").iterdir():
        part.unlink()
    second = make("plant/{pump}").settled()
    mosquitto.publish([("old/p1", b"old"), ("plant/p1", b"end")])
    assert second.until(b"end") == [b"old", b"end"]
    second.end()
