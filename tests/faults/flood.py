"""A topic explosion: far more distinct topics than `max_streams`, while the streams that are known go on.

    python -m tests.faults.flood [--topics 1000000] [--cap 10000] [--without-cap]

The group's streams are filled to the cap first, each with enough rows that its memory is in use; that is the memory
that the flood is held against. Then every message of the flood has a topic of its own. The known streams keep sending,
with spikes, so that their alerts are known beforehand; scrapes are timed meanwhile.
"""

import argparse
import itertools
import json
import socket
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from streamae.bench.publisher import _frame
from tests.brokers import Mosquitto, free_port, wait_until
from tests.faults import plant
from tests.faults.collector import Collector
from tests.faults.processes import Daemon, Publisher, Zygote

FILL_ROWS = 12  # of each stream that only fills the cap: its window is full by then
KNOWN = 12  # half of them streams that the model knows, too
KNOWN_PER_S = 240.0
FLOOD_PER_S = 10_000.0
REFUSED = 'streamae_messages_dropped_total{reason="max_streams"}'
_LOOK_S = 0.5
_WINDOW = 20_000  # messages that the broker may not have acknowledged yet


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a flood of `topics` did to a daemon with a cap of `cap` streams; memory is resident, MB."""

    topics: int
    cap: int
    refused: int
    streams: int
    full_mb: float  # with as many streams as there may be, before the flood
    flooded_mb: float  # the most during the flood and after it
    scrape_s: float  # the longest of `scrapes`, and their median
    scrape_median_s: float
    scrapes: int
    known_rows: int
    known_missing: int  # rows of known streams that are not in the journal
    alerts_expected: int
    alerts_wrong: int

    @property
    def growth(self) -> float:
        return self.flooded_mb / self.full_mb - 1


class Flood:
    """Publishes at QoS 1, one message a topic, on a plain socket, from a thread of its own."""

    def __init__(self, port: int, messages: Iterator[tuple[str, str]], per_s: float) -> None:
        self._messages, self._per_s = messages, per_s
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._socket.sendall(b"\x10\x11\x00\x04MQTT\x04\x02\x00\x00\x00\x05flood")
        assert self._socket.recv(4) == b"\x20\x02\x00\x00", "the broker refuses the flood"
        self.acknowledged = 0

    def play(self) -> None:
        """Send everything, and return when the broker has all of it."""
        reader = threading.Thread(target=self._count, daemon=True)
        reader.start()
        began_s, sent = time.monotonic(), 0
        while part := list(itertools.islice(self._messages, max(1, int(self._per_s / 200)))):
            frames = [_frame(t.encode(), p.encode(), (sent + i) % 65_535 + 1) for i, (t, p) in enumerate(part)]
            self._socket.sendall(b"".join(frames))
            sent += len(part)
            wait_until(lambda: sent - self.acknowledged < _WINDOW, 60, "the broker takes the flood")  # noqa: B023
            time.sleep(max(0.0, began_s + sent / self._per_s - time.monotonic()))
        wait_until(lambda: self.acknowledged == sent, 60, "the broker has taken the flood")
        self._socket.close()

    def _count(self) -> None:
        """Count the acknowledgements, four bytes each."""
        received = 0
        while chunk := self._socket.recv(65_536):
            received += len(chunk)
            self.acknowledged = received // 4


def strangers(prefix: str, topics: int, rows: int) -> Iterator[tuple[str, str]]:
    """Rows of streams that nobody knows, row after row."""
    for row in range(rows):
        payload = json.dumps({"t": plant.START_S + row, "v": 1.0})
        for n in range(topics):
            yield f"plant/{prefix}{n:07d}", payload


def play(
    folder: Path, model: plant.Model, zygote: Zygote | None, *, topics: int, cap: int, max_streams: int | None = None
) -> Outcome:
    """Fill a daemon with `cap` streams, then flood it; `max_streams` is that cap unless a control says otherwise."""
    broker = Mosquitto(folder / "broker", verbose=False).start()
    collector, page = Collector(refuse=0, vanish=0), free_port()
    config = plant.write_config(folder / "plant", model, broker.port, collector.port, page)
    text = config.read_text()
    config.write_text(text.replace("    alert:", f"    max_streams: {max_streams or cap}\n    alert:"))
    daemon = Daemon(config, page, zygote).start()
    publisher = None
    try:
        daemon.wait_ready()
        publisher = Publisher(broker.port, plant.messages(streams=KNOWN), KNOWN_PER_S).start()
        wait_until(lambda: daemon.metric("streamae_streams") == KNOWN, 60, "the known streams are there")
        Flood(broker.port, strangers("filler", cap - KNOWN, FILL_ROWS), FLOOD_PER_S).play()
        _catch_up(daemon, publisher)
        full = [_look(daemon) for _ in range(3)]
        flood = threading.Thread(target=Flood(broker.port, strangers("x", topics, 1), FLOOD_PER_S).play, daemon=True)
        flood.start()
        seen = [_look(daemon) for _ in iter(flood.is_alive, False)]
        _catch_up(daemon, publisher)
        seen += [_look(daemon) for _ in range(3)]
        refused, streams = (int(daemon.metric(name)) for name in (REFUSED, "streamae_streams"))
        sent = publisher.stop()
        expected = {t.key for t in plant.fold(plant.core(config), sent).transitions}
        wait_until(lambda: plant.keys_of(collector) >= expected, 120, "every alert is notified")
        assert daemon.stop() == 0, daemon.lines()[-2000:]
    finally:
        if publisher:
            publisher.close()
        daemon.kill()
        broker.kill()
        collector.close()
    memory_mb, scrapes_s = zip(*seen, strict=True)
    return Outcome(
        topics, cap, refused, streams, max(mb for mb, _ in full), max(memory_mb), max(scrapes_s), median(scrapes_s),
        len(seen), len(sent), _missing(config, sent), len(expected), len(expected ^ plant.keys_of(collector)),
    )  # fmt: skip


def _catch_up(daemon: Daemon, publisher: Publisher) -> None:
    """Wait until a row that is sent now is judged: the broker keeps the order, so all that came before is, too."""
    name = plant.name_of(0)
    time_s = next(json.loads(p)["t"] for topic, p in reversed(publisher.sent) if topic == plant.topic_of(0))

    def judged() -> bool:
        _, text = daemon.get(f"/api/v1/streams?q={name}")
        found = [one for one in json.loads(text)["streams"] if one["stream"] == name]
        return bool(found) and found[0]["time_s"] is not None and found[0]["time_s"] >= time_s

    wait_until(judged, 300, f"{name} is judged at {time_s}")
    time.sleep(1.1)  # the number of streams that a scrape shows is brought up to date once a second


def _look(daemon: Daemon) -> tuple[float, float]:
    """Resident memory in MB, and the seconds of a scrape."""
    status = Path(f"/proc/{daemon.pid}/status").read_text()
    resident_kb = int(status.partition("VmRSS:")[2].split()[0])
    began_s = time.monotonic()
    assert daemon.get("/metrics")[0] == 200
    scrape_s = time.monotonic() - began_s
    time.sleep(_LOOK_S)
    return resident_kb / 1024, scrape_s


def _missing(config: Path, sent: Sequence[tuple[str, str]]) -> int:
    """How many of these rows the journal lacks."""
    lacking = {(topic.encode(), payload.encode()) for topic, payload in sent}
    for batch in plant.batches(config):
        lacking.difference_update(zip(batch.topics, batch.payloads, strict=True))
    return len(lacking)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--topics", type=int, default=1_000_000)
    parser.add_argument("--cap", type=int, default=10_000)
    parser.add_argument("--without-cap", action="store_true", help="the control: as many streams as there are topics")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        model = plant.train_model(Path(folder))
        more = asked.cap + asked.topics if asked.without_cap else None
        print(play(Path(folder), model, None, topics=asked.topics, cap=asked.cap, max_streams=more))


if __name__ == "__main__":
    main()
