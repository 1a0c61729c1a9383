"""A plant whose alerts are known beforehand: what is published, the model, the configuration, the expected set.

Every row of every stream is a function of its number, and its event time is in the payload, so the expected
transitions are what the pure core gives for the same rows, whatever happens to the process in between. A few
streams are known to the model, the others learn; one row in about fifty is a spike far out of all scales.
"""

import json
import sqlite3
from collections.abc import Iterator, Sequence, Set
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from streamae.config import load
from streamae.core.groups import Groups
from streamae.core.report import Report
from streamae.core.standing import firing_ids
from streamae.core.types import Batch
from streamae.daemon.build import Models, groups_of
from streamae.daemon.json_parser import json_loads
from streamae.daemon.recover import recover
from streamae.history.series import write_series
from streamae.store.journal import read_rows
from streamae.store.store import Store
from streamae.training.train import TrainConfig, train
from tests.faults.collector import Collector
from tests.models import quick, quiet

START_S = 1_700_000_000.0
STREAMS = 50
KNOWN = 6
SPIKE_EVERY = 53
CALM_ROWS = 320  # a stream that learns has finished by then
CLOCKS = frozenset({"places.heard_s", "places.minute", "pipeline.heard_s"})  # when messages came: `fold` does not know


@dataclass(frozen=True, slots=True)
class Model:
    """The artifact and its digest, which a configuration pins."""

    path: Path
    sha256: str


def name_of(stream: int) -> str:
    return f"pump{stream:02d}"


def topic_of(stream: int) -> str:
    return f"plant/{name_of(stream)}"


def calm(stream: int, row: int) -> float:
    """A wave and noise, the same for the same arguments, always."""
    noise = ((row * 2654435761 + stream * 40503) % 2**32) / 2**32 - 0.5
    return round(float(10.0 + stream + np.sin(2 * np.pi * row / 20 + stream) + 0.2 * noise), 4)


def value(stream: int, row: int) -> float:
    """Calm, and now and then a spike."""
    return calm(stream, row) + (5000.0 if spikes(stream, row) else 0.0)


def spikes(stream: int, row: int) -> bool:
    return row > (40 if stream < KNOWN else CALM_ROWS) and (row + 13 * stream) % SPIKE_EVERY == 0


def messages(first_row: int = 0, streams: int = STREAMS) -> Iterator[tuple[str, str]]:
    """Endless rows, stream after stream: (topic, payload)."""
    row = first_row
    while True:
        for stream in range(streams):
            yield topic_of(stream), json.dumps({"t": START_S + row, "n": row, "v": value(stream, row)})
        row += 1


def train_model(folder: Path) -> Model:
    """Train on the known streams for a moment: a real artifact, made in seconds."""
    paths = []
    for stream in range(KNOWN):
        path = folder / f"{name_of(stream)}.csv"
        rows = np.array([[value(stream, row)] for row in range(-400, 0)])
        write_series(path, ("value",), [repr(START_S + row) for row in range(-400, 0)], rows)
        paths.append(path)
    config: TrainConfig = quick(60, window=8, hidden=4, task="reconstruction", warmup_rows=40)
    done = train(paths, folder / "pumps.pt", None, 0, config, now=lambda: 0.0, console=quiet())
    return Model(folder / "pumps.pt", done.digest)


def write_config(folder: Path, model: Model, broker: int, collector: int, page: int, more: str = "") -> Path:
    """Write streamae.yaml; `more` is appended, `broker`, `collector` and `page` are ports."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "streamae.yaml"
    path.write_text(f"""
instance: plant-1
state: {{dir: state, snapshot_every: 2s}}
inbox: {{thinning_max: 1}}  # the expected alerts are those of every window
mqtt: {{host: 127.0.0.1, port: {broker}, keepalive: 5s}}
web: {{listen: "127.0.0.1:{page}"}}
streams:
  pumps:
    topics:
      - {{topic: "plant/{{pump}}", payload: json, values: {{value: v}}, time: t}}
    model: {{path: {model.path}, sha256: {model.sha256}}}
    alert: {{for: 0s, keep_firing_for: 20s}}
    health: {{stale_after: off, flapping: {{times: 0}}}}
sinks:
  - {{type: webhook, url: "http://127.0.0.1:{collector}/alerts", timeout: 5s, group_wait: 0s}}
{more}
""")
    return path


def core(config: Path) -> Groups:
    """The pure core that a configuration describes."""
    settings = load(config)
    return Groups(settings.instance, groups_of(settings, Models().open(settings)), json_loads())


def fold(groups: Groups, sent: Sequence[tuple[str, str]]) -> Report:
    """Step the core over what was sent, in one batch."""
    if not sent:
        return groups.step(Batch([], [], np.zeros(0)), START_S)
    topics, payloads = zip(*sent, strict=True)
    arrival_s = np.full(len(sent), START_S + 1e6)
    return groups.step(Batch([t.encode() for t in topics], [p.encode() for p in payloads], arrival_s), START_S)


def recovered(config: Path) -> Groups:
    """The pipeline as a start of the daemon would find it: the last snapshot, and the journal after it."""
    groups = core(config)
    settings = load(config)
    sinks = [sink.name for sink in settings.sinks]  # what waits for any other would be dropped
    store = Store.open(settings.state.dir, "process", lambda: START_S + 1e6, sinks=sinks)
    try:
        recover(store, groups)
    finally:
        store.close()
    return groups


def journalled(config: Path) -> list[tuple[str, str]]:
    """Every message that the store has, in its order."""
    return [(t.decode(), p.decode()) for b in batches(config) for t, p in zip(b.topics, b.payloads, strict=True)]


def refolded(config: Path) -> tuple[set[str], int]:
    """What a fold of the journal from its first row gives: keys of the transitions, and messages found missing."""
    groups = core(config)
    reports = [groups.step(batch, START_S) for batch in batches(config)]
    return {t.key for report in reports for t in report.transitions}, sum(report.missing for report in reports)


def newest(config: Path) -> set[tuple[str, str]]:
    """The messages of the last rows of the journal."""
    return {(t.decode(), p.decode()) for b in batches(config, 20) for t, p in zip(b.topics, b.payloads, strict=True)}


def replayed(config: Path, groups: Groups) -> Groups:
    """These groups after every row of the journal, each at the time that it has there: the state to the last bit."""
    for batch, now_s in timed(config):
        groups.step(batch, now_s)
    return groups


def batches(config: Path, last: int | None = None) -> list[Batch]:
    """Every batch of the journal, in its order; or only the `last` ones."""
    return [batch for batch, _ in timed(config, last)]


def timed(config: Path, last: int | None = None) -> list[tuple[Batch, float]]:
    """The same, each with its time."""
    file = (config.parent / "state" / "state.db").as_uri()
    with closing(sqlite3.connect(f"{file}?mode=ro", uri=True)) as connection:
        (end,) = connection.execute("SELECT COALESCE(MAX(seq), 0) FROM journal").fetchone()
        found = [(batch, now_s) for _, batch, now_s in read_rows(connection, 0 if last is None else end - last)]
    assert not [b for b, _ in found if isinstance(b, str)]
    return [(b, now_s) for b, now_s in found if isinstance(b, Batch)]


def differences(one: Groups, other: Groups, but: Set[str] = frozenset()) -> list[str]:
    """Names of the state's arrays that differ in a bit, `but` these: streams, warm-up, windows, thresholds, alerts."""
    assert set(one.pipelines) == set(other.pipelines)
    found = []
    for name, pipeline in one.pipelines.items():
        twin = other.pipelines[name]
        a, b = pipeline.state(), twin.state()
        assert set(a) == set(b)
        found += ["streams"] if pipeline.streams.names != twin.streams.names else []
        same = {n for n in a if np.array_equal(a[n], b[n], equal_nan=a[n].dtype.kind == "f")}
        found += [n for n in a if n not in same | but]
    return found


def keys_of(collector: Collector) -> set[str]:
    """Keys of the transitions that the collector has, once each."""
    return set(collector.alerts)


def firing(groups: Groups) -> list[str]:
    """The ids of what fires in the pumps."""
    return firing_ids(groups.pipelines["pumps"])
