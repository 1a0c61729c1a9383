"""A simulated plant in the world: as CSV files to train on, with labels, or live on a broker."""

import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from streamae.core.decode import PayloadSpec
from streamae.core.topics import Template
from streamae.errors import SeriesError
from streamae.history.encode import MessageEncoder
from streamae.history.series import write_series
from streamae.mqtt import ConnectionOptions, Publisher, transient
from streamae.tools.replay import ReplayPace
from streamae.tools.simulate.plants import Plant

__all__ = ["publish_plant", "write_events", "write_plant"]

_SLOTS = 20  # a period's messages go out in so many portions, for real sensors do not all speak at once


def write_plant(
    plant: Plant, rows: int, folder: Path, *, labelled: bool = True, ending: str = ".csv", only: Sequence[str] = ()
) -> list[Path]:
    """Write the next `rows` rows: one series a stream (`line1_pump01.csv`), and events.json with every fault.

    `only` names the streams to write, by default all. Returns the paths of the series.

    :raises SeriesError: the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SeriesError(f"{folder}: cannot be made: {error}") from error
    time_s, values, label = plant.rows(rows)
    texts = [datetime.fromtimestamp(t, UTC).isoformat().replace("+00:00", "Z") for t in time_s.tolist()]
    paths = []
    for i, name in enumerate(plant.names):
        if only and name not in only:
            continue
        path = folder / f"{name.replace('/', '_')}{ending}"
        write_series(path, plant.channels, texts, values[:, i], label[:, i].tolist() if labelled else None)
        paths.append(path)
    write_events(plant, folder / "events.json")
    return paths


def write_events(plant: Plant, path: Path) -> None:
    """Write the plant's faults as JSON: stream, kind, channel, magnitude, duration_s, start_s, end_s.

    :raises SeriesError: the file cannot be written.
    """
    try:
        path.write_text(json.dumps(plant.events(), indent=1) + "\n")
    except OSError as error:
        raise SeriesError(f"{path}: cannot be written: {error}") from error


def publish_plant(
    plant: Plant,
    connection: ConnectionOptions,
    template: Template,
    spec: PayloadSpec,
    *,
    pace: ReplayPace,
    rows: int | None = None,
    qos: int = 1,
    stopped: Callable[[], bool] = lambda: False,
    on_row: Callable[[int], None] | None = None,
) -> int:
    """Publish row after row, at the plant's pace times `pace.speed`, until `rows` are out or `stopped()`.

    `on_row(steps)` is called before each row is made, in this thread: the place to inject faults. Returns the number
    of messages, all of them acknowledged (QoS 1).

    :raises SeriesError: the topic or payload cannot carry the plant.
    :raises UnavailableError: the broker does not take it.
    """
    encoders = [MessageEncoder(template, spec, plant.channels, labels) for labels in plant.labels]
    begin_s, first, count = pace.monotonic(), plant.steps, 0
    with Publisher(transient(connection, "simulate")) as publisher:
        while not stopped() and (rows is None or plant.steps - first < rows):
            if on_row is not None:
                on_row(plant.steps)
            at_s = begin_s + (plant.steps - first) * plant.period_s / (pace.speed or 1.0)
            time_s, values, _ = plant.rows(1)
            row = values[0].tolist()
            slots = _SLOTS if pace.speed is not None and len(row) >= _SLOTS else 1
            for slot in range(slots):
                wait_s = at_s + slot * plant.period_s / slots / (pace.speed or 1.0) - pace.monotonic()
                if pace.speed is not None and wait_s > 0:
                    pace.sleep(wait_s)
                for i in range(slot, len(row), slots):
                    for topic, payload in encoders[i].encode(float(time_s[0]), row[i]):
                        publisher.publish(topic, payload, qos=qos)
                        count += 1
    return count
