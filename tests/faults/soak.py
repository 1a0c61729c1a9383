"""A long quiet life: the same load for minutes or days, and what grows by it, which should be nothing.

Before the clock starts, every stream is given so much past that all rings are full: memory that is reserved and not
yet written would look like a leak. Then the daemon is measured every few seconds, and a line is fitted to each figure.
"""

import itertools
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tests.brokers import Mosquitto, free_port, wait_until
from tests.faults import plant
from tests.faults.collector import Collector
from tests.faults.processes import Daemon, Publisher, Zygote

STREAMS = 1000
PER_S = 500.0
PAST_ROWS = 2100  # the page's history of a thousand streams is 2,048 rows deep
CHUNK_ROWS = 50
MEASURE_S = 2.0
SETTLE_S = 120.0  # of the run itself, not counted: the pools of allocator, interpreter and SQLite find their size
RARE = 997  # rows between two spikes of a stream
MORE = """
      - {topic: "past/{pump}", payload: json, samples: rows, values: {value: v}, time: t}
"""


@dataclass(frozen=True, slots=True)
class Growth:
    """One figure over the run: at its begin and end, its least and most, and its slope an hour with its error."""

    first: float
    last: float
    least: float
    most: float
    per_hour: float
    error_per_hour: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """What grew in `minutes`; `resident_mb`, `file_mb` (SQLite with its WAL), `threads`, `files`; `lost` messages."""

    minutes: float
    per_s: float  # messages, as they were really sent
    sent: int
    lost: int
    alerts_expected: int
    alerts_wrong: int
    resident_mb: Growth
    anonymous_mb: Growth
    threads: Growth
    files: Growth
    file_mb: Growth
    scrape_s: Growth


def value(stream: int, row: int) -> float:
    return plant.calm(stream % 40, row) + (5000.0 if row > 400 and (row + 31 * stream) % RARE == 0 else 0.0)


def past(streams: int) -> Iterator[tuple[str, str]]:
    """The rows before the run, many in a message."""
    for first in range(0, PAST_ROWS, CHUNK_ROWS):
        for s in range(streams):
            rows = [{"t": plant.START_S + row, "v": value(s, row)} for row in range(first, first + CHUNK_ROWS)]
            yield f"past/{name_of(s)}", json.dumps({"rows": rows})


def present(streams: int) -> Iterator[tuple[str, str]]:
    for row in itertools.count(PAST_ROWS):
        for s in range(streams):
            yield f"plant/{name_of(s)}", json.dumps({"t": plant.START_S + row, "v": value(s, row)})


def name_of(stream: int) -> str:
    return f"pump{stream:02d}"


def write_config(folder: Path, model: plant.Model, broker: int, collector: int, page: int) -> Path:
    """The plant's configuration with the topics of the past, and a journal that is full before the run begins."""
    path = plant.write_config(folder, model, broker, collector, page)
    text = path.read_text().replace("    model:", MORE.strip("\n") + "\n    model:")
    path.write_text(text.replace("snapshot_every: 2s", "snapshot_every: 30s, journal_max: 4MiB"))
    return path


def measure(daemon: Daemon, state: Path) -> tuple[float, ...]:
    """Time, resident and anonymous memory, threads, open files, bytes of the SQLite files, seconds of a scrape."""
    proc = Path(f"/proc/{daemon.pid}")
    status = dict(line.split(":", 1) for line in (proc / "status").read_text().splitlines())
    rss, anonymous, threads = (float(status[k].split()[0]) for k in ("VmRSS", "RssAnon", "Threads"))
    files = sum(1 for _ in (proc / "fd").iterdir())
    size = sum(file.stat().st_size for file in state.glob("state.db*"))
    began_s = time.monotonic()
    assert daemon.get("/metrics")[0] == 200
    return time.monotonic(), rss / 1024, anonymous / 1024, threads, files, size / 1e6, time.monotonic() - began_s


def growth(at_s: np.ndarray, values: np.ndarray) -> Growth:
    """Fit a line by least squares."""
    hours = (at_s - at_s[0]) / 3600
    x = hours - hours.mean()
    slope = float(x @ values / (x @ x))
    rest = values - values.mean() - slope * x
    error = float(np.sqrt(rest @ rest / max(1, len(x) - 2) / (x @ x)))
    first, last = float(values[: len(values) // 10 + 1].mean()), float(values[-len(values) // 10 :].mean())
    return Growth(*(round(v, 3) for v in (first, last, float(values.min()), float(values.max()), slope, error)))


def play(
    folder: Path, model: plant.Model, zygote: Zygote | None, *, minutes: float, streams: int = STREAMS,
    per_s: float = PER_S, settle_s: float = SETTLE_S,
) -> Outcome:  # fmt: skip
    """Run for `minutes` after `settle_s`, then account for every message and alert."""
    broker = Mosquitto(folder / "broker").start()
    collector, page = Collector(refuse=0, vanish=0), free_port()
    daemon = Daemon(write_config(folder, model, broker.port, collector.port, page), page, zygote).start()
    publisher = None
    try:
        daemon.wait_ready()
        before = list(past(streams))
        broker.publish(before)
        wait_until(lambda: daemon.metric("streamae_rows_total") >= PAST_ROWS * streams, 300, "the past is taken")
        publisher, began_s = Publisher(broker.port, present(streams), per_s).start(), time.monotonic()
        time.sleep(settle_s)
        seen: list[tuple[float, ...]] = []
        until_s = time.monotonic() + 60 * minutes
        while time.monotonic() < until_s:
            seen.append(measure(daemon, folder / "state"))
            time.sleep(MEASURE_S)
        sent_per_s = len(publisher.sent) / (time.monotonic() - began_s)
        sent = publisher.stop()
        received = PAST_ROWS * streams + len(sent)
        wait_until(lambda: daemon.metric("streamae_rows_total") >= received, 60, "everything is taken")
        lost = received - int(daemon.metric("streamae_rows_total"))
        expected = _expected(daemon.config, before, sent)
        wait_until(lambda: plant.keys_of(collector) >= expected, 120, "everything is notified")
        assert daemon.stop() == 0, daemon.lines()[-2000:]
    finally:
        if publisher:
            publisher.close()
        daemon.kill()
        broker.kill()
        collector.close()
    at_s, *figures = (np.array(column) for column in zip(*seen, strict=True))
    wrong = len(expected ^ plant.keys_of(collector))
    return Outcome(minutes, sent_per_s, len(sent), lost, len(expected), wrong, *(growth(at_s, one) for one in figures))


def _expected(config: Path, *parts: Sequence[tuple[str, str]]) -> set[str]:
    core = plant.core(config)
    return {t.key for part in parts for t in plant.fold(core, part).transitions}
