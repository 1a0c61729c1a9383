"""The verbs that bring messages onto a broker or off it: replay, simulate, record, sniff.

Each takes the broker, the topics and the payloads from a configuration, so that what they publish is what the daemon
with that configuration understands.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from streamae.config import Settings, load, load_broker
from streamae.core.decode import PayloadSpec
from streamae.core.topics import CHANNEL, Template
from streamae.daemon.clock import Clock
from streamae.errors import ConfigError
from streamae.history.recordings import read_series, scan_messages
from streamae.mqtt import ConnectionOptions
from streamae.stopping import finishing
from streamae.tools.record import Existing
from streamae.tools.record import record as record_messages
from streamae.tools.replay import Replayed, ReplayPace, replay_messages, replay_series
from streamae.tools.simulate.faults import Fault
from streamae.tools.simulate.plants import Fleet, Plant, Pumps
from streamae.tools.simulate.publish import publish_plant, write_events, write_plant
from streamae.tools.sniff.listen import sniff as sniff_messages
from streamae.tools.sniff.listen import sniff_recording
from streamae.tools.sniff.propose import propose

__all__ = ["parse_fault", "plant_of", "record", "replay", "simulate", "sniff", "sniff_recorded", "write_history"]

_MESSAGES = (".jsonl", ".jsonl.gz", ".ndjson", ".ndjson.gz")


def replay(config: Path, recording: Path, *, speed: float | None, group: str | None, from_now: bool) -> str:
    """Publish a series or a recording of messages; returns what was done. `speed` None is as fast as the broker."""
    settings, clock = load(config), Clock()
    pace = ReplayPace(speed, clock.monotonic, clock.sleep)
    with _bar("replaying") as progress:
        if recording.name.endswith(_MESSAGES):
            done = replay_messages(settings.connection, scan_messages(recording), pace=pace, progress=progress)
        else:
            topics = _topics(settings, group)
            start_s = clock.now() if from_now else None
            series = [read_series(recording)]
            done = replay_series(settings.connection, series, topics, pace=pace, shift_to_s=start_s, progress=progress)
    return _said(recording, done)


def simulate(
    config: Path, plant: Plant, *, speed: float | None, rows: int | None, group: str | None, labels: Path | None
) -> str:
    """Publish a plant until `rows` are out or a signal comes; writes its faults to `labels` at the end."""
    settings, clock = load(config), Clock()
    template, spec = _topics(settings, group)[0]
    _fits(template, plant)
    try:
        with finishing() as stopping:
            count = publish_plant(
                plant,
                settings.connection,
                template,
                spec,
                pace=ReplayPace(speed, clock.monotonic, stopping.wait),
                rows=rows,
                stopped=stopping.is_set,
            )
    finally:  # what was published is labelled, also where the broker has gone
        if labels is not None:
            write_events(plant, labels)
    return f"{count} messages of {len(plant.names)} streams, {plant.steps} rows each" + (
        f"; faults in {labels}" if labels else ""
    )


def write_history(plant: Plant, rows: int, folder: Path) -> str:
    """Write the plant as labelled CSV files instead of publishing it."""
    paths = write_plant(plant, rows, folder)
    return f"{len(paths)} series of {rows} rows, and events.json, in {folder}"


def record(
    config: Path, out: Path, *, duration_s: float | None, topics: Sequence[str], existing: Existing = "refuse"
) -> str:
    """Write what the broker carries on the configured topics (or others) to a file of JSON lines."""
    settings, clock = load(config), Clock()
    wanted = tuple(topics) or settings.filters
    with finishing() as stopping, _count(f"recording to {out}") as progress:
        count = record_messages(
            settings.connection,
            wanted,
            out,
            now=clock.now,
            monotonic=clock.monotonic,
            jitter=clock.jitter,
            duration_s=duration_s,
            stopped=stopping.is_set,
            progress=progress,
            existing=existing,
        )
    return f"{count} messages of {', '.join(wanted)} written to {out}"


def sniff(broker: Path | ConnectionOptions, *, seconds: float, topics: Sequence[str]) -> str:
    """Return a `streams:` block for what the broker carries; `broker` is a configuration, or where it is."""
    clock = Clock()
    where = load_broker(broker).connection if isinstance(broker, Path) else broker
    with finishing() as stopping:
        found = sniff_messages(
            where,
            tuple(topics) or ("#",),
            seconds,
            now=clock.now,
            monotonic=clock.monotonic,
            jitter=clock.jitter,
            stopped=stopping.is_set,
        )
    return propose(found, now_s=clock.now(), seconds=seconds)


def sniff_recorded(recordings: Sequence[Path]) -> str:
    """Return a `streams:` block for what recordings hold, one after the other.

    :raises SeriesError: one cannot be read.
    """
    found, seconds = sniff_recording(message for path in recordings for message in scan_messages(path))
    last_s = max((one.last_s for one in found.topics.values()), default=0.0)
    return propose(found, now_s=last_s, seconds=round(seconds))


def plant_of(kind: str, streams: int, *, seed: int, start_s: float, period_s: float, day_s: float) -> Plant:
    """Return a simulated plant: "pumps" with four channels each, or a "fleet" of single sensors."""
    if kind == "fleet":
        return Fleet(streams, seed=seed, start_s=start_s, period_s=period_s, day_s=day_s)
    return Pumps(streams, seed=seed, start_s=start_s, period_s=period_s, day_s=day_s)


def parse_fault(text: str) -> Fault:
    """Parse `kind:stream:start:duration[:magnitude[:channel]]`, seconds; raises ConfigError saying what is wrong."""
    parts = text.split(":")
    try:
        kind, stream, start_s, duration_s, *rest = parts
        magnitude = float(rest[0]) if rest else 4.0
        return Fault(kind, stream, float(start_s), float(duration_s), magnitude, rest[1] if len(rest) > 1 else "")
    except ValueError as error:
        raise ConfigError(
            f"--fault: got {text!r} ({error}); write kind:stream:start:duration[:magnitude[:channel]], "
            "such as leak:line1/pump03:600:300:4"
        ) from error


def _topics(settings: Settings, group: str | None) -> list[tuple[Template, PayloadSpec]]:
    _, chosen = settings.group(group)
    return [(topic.template, topic) for topic in chosen.topics]


def _fits(template: Template, plant: Plant) -> None:
    wanted = [name for name in template.labels if name != CHANNEL]
    if sorted(wanted) != sorted(plant.labels[0]):
        raise ConfigError(
            f"topic {template.text}: has the labels {', '.join(wanted) or 'none'}; the simulated plant has "
            f"{', '.join(plant.labels[0])}: use them in the topic"
        )


def _said(recording: Path, done: Replayed) -> str:
    rate = done.messages / max(done.seconds, 1e-9)
    return f"{recording}: {done.messages} messages in {done.seconds:.1f} s ({rate:.0f} a second), all acknowledged"


@contextmanager
def _bar(what: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar on standard error where that is a terminal."""
    console = Console(stderr=True)
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total or None)


@contextmanager
def _count(what: str) -> Iterator[Callable[[int], None]]:
    """The number of messages so far, on standard error where that is a terminal."""
    console = Console(stderr=True)
    columns = (TextColumn(what), TextColumn("{task.completed:,.0f} messages"), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as line:
        task = line.add_task(what, total=None)
        yield lambda done: line.update(task, completed=done)
