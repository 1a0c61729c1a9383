"""Both ends of the bound of every numeric key are a configuration that the daemon runs with.

The keys are those of the schema, so a new one is tried without a word here. What `load` accepts must be built, step
over messages, be saved, and come back from the store as it was; what contradicts another key is refused with a remedy.
"""

import copy
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from streamae.config import json_schema, load
from streamae.config.settings import Settings
from streamae.core import scale
from streamae.core.types import Batch
from streamae.daemon.build import make_source, pipelines
from streamae.daemon.clock import ArrivalClock, Clock
from streamae.daemon.daemon import store_limits
from streamae.daemon.homeassistant import HomeAssistantThread
from streamae.daemon.loop import Loop
from streamae.daemon.page.view import DaemonView
from streamae.daemon.recover import recover
from streamae.daemon.sink_threads import SinkThreads
from streamae.errors import ConfigError
from streamae.ingest.source import Accepted, SourceStatus
from streamae.metrics import Metrics
from streamae.model.artifact import Artifact
from streamae.store.store import Store
from tests.faults.plant import differences
from tests.plants import LevelModel, profile

NOW = 1_700_000_000.0
DURATIONS = [
    *("0s", "0.001ms", "1ms", "10ms", "100ms", "1s", "5s", "10s", "30s", "60s", "300s", "1h", "65535s", "1d", "7d"),
    *("365d", "4294967294s", "36500d"),
]
SIZES = ["0B", "1B", "1kB", "1KiB", "1MB", "16MB", "64MB", "256MiB", "1GB", "1000GB", "1000000000GB"]
RATES = ["0.001/year", "3600/hour"]
HIGHEST = 3e38  # of a number without a bound of its own
BASE = """
instance: bounds
state: {dir: state}
mqtt: {host: 127.0.0.1, port: 1}
inbox: {max_messages: 100000}
scoring: {}
metrics: {per_stream: true}
streams:
  pumps:
    topics: [{topic: "plant/{pump}", payload: json, time: t}]
    model: {path: m.pt}
    alert: {}
    health: {range: {a: [-1000.0, 1000.0]}, flapping: {}}
  cells:
    topics: [{topic: "cells/{cell}/{channel}", payload: json, value: v, time: t}]
    model: {path: m.pt}
    align: {every: 1s, lateness: 2s, gap_max: 5s}
  packs:
    topics: [{topic: "packs/{pack}", payload: json, samples: r, sample_every: 1s}]
    model: {path: m.pt}
home_assistant: {}
sinks:
  - {type: log}
  - {type: mqtt}
  - {type: webhook, url: "http://127.0.0.1:1/"}
  - {type: alertmanager, url: "http://127.0.0.1:1/"}
  - {type: apprise, urls: ["${A}"]}
maintenance:
  - {name: tuesday, days: [tue], start: "06:00", duration: 2h}
"""


@dataclass(frozen=True)
class Key:
    """A numeric key of the schema: where it stands, in which section, and what is said of its value."""

    path: tuple[str, ...]
    section: str
    about: dict[str, Any]

    def __str__(self) -> str:
        return f"{'.'.join(self.path)} ({self.section})"


def numeric_keys() -> list[Key]:
    schema = json_schema()
    definitions = schema["$defs"]

    def walk(node: dict[str, Any], path: tuple[str, ...], section: str) -> Iterator[Key]:
        if "$ref" in node:
            name = node["$ref"].rpartition("/")[2]
            yield from walk(definitions[name], path, name)
        for part in (*node.get("anyOf", ()), *node.get("oneOf", ())):
            yield from walk(part, path, section)
        if node.get("type") in ("integer", "number") or units_of(node):
            yield Key(path, section, node)
        for name, part in node.get("properties", {}).items():
            yield from walk(part, (*path, name), section)
        if isinstance(node.get("additionalProperties"), dict):
            yield from walk(node["additionalProperties"], (*path, "*"), section)
        if isinstance(node.get("items"), dict):
            yield from walk(node["items"], (*path, "[]"), section)
        for i, part in enumerate(node.get("prefixItems", ())):
            yield from walk(part, (*path, str(i)), section)

    return list(walk(schema, (), ""))


def units_of(about: dict[str, Any]) -> Sequence[str]:
    """Values of a key with a unit, from the lowest that anybody may write to the highest."""
    if about.get("type") != "string":
        return ()
    pattern = about.get("pattern", "")
    for mark, values in (("ms|s|m", DURATIONS), ("KiB", SIZES), ("/(hour", RATES)):
        if mark in pattern:
            return values
    return ()


def candidates(about: dict[str, Any]) -> list[Any]:
    """From low to high; the ends are the first and the last that are accepted."""
    if units := units_of(about):
        return list(units)
    if "enum" in about:
        return sorted(about["enum"])
    low, high = about.get("minimum", about.get("exclusiveMinimum", -HIGHEST)), about.get("maximum", HIGHEST)
    above = [low + 1, low + 1e-9] if "exclusiveMinimum" in about else []
    between = [about["default"]] if "default" in about else [0] if low < 0 < high else []
    return sorted({low, *above, *between, high}, key=float)


def placed(key: Key, value: Any) -> dict[str, Any]:
    """The configuration with one value put where its key stands."""
    root: Any = copy.deepcopy(yaml.safe_load(BASE))
    node, path = root, list(key.path)
    if path[0] == "streams":
        path[1] = "cells" if "align" in path else "packs" if "sample_every" in path else "pumps"
    kind = key.section.removesuffix("Sink").lower()
    if path[0] == "sinks":
        path[1] = [one["type"] for one in root["sinks"]].index(kind)  # type: ignore[call-overload]
    steps = [0 if step == "[]" else "a" if step == "*" else int(step) if str(step).isdigit() else step for step in path]
    for step in steps[:-1]:
        node = node[step] if isinstance(node, list) else node.setdefault(step, {})
    node[steps[-1]] = value
    return root


def accepted(key: Key, values: Sequence[Any], folder: Path) -> tuple[Any, Settings]:
    """The first of some values that is a configuration; what is refused is refused with its place and a remedy."""
    path, said = folder / "streamae.yaml", ""
    for value in values:
        path.write_text(yaml.safe_dump(placed(key, value)))
        try:
            return value, load(path, environ={"A": "json://127.0.0.1:1/"})
        except ConfigError as error:
            said = str(error)
            assert f"{path}:" in said
            assert "; " in said
    pytest.fail(f"{key}: no value is accepted: {said}")


class Feed:
    """A source of batches."""

    def __init__(self, batches: list[Batch]) -> None:
        self.batches = batches

    def take(self, limit: int, timeout_s: float) -> Accepted:
        return Accepted(self.batches.pop(0) if self.batches else Batch([], [], np.zeros(0)))

    def ack(self, accepted: Accepted) -> None:
        return

    def status(self) -> SourceStatus:
        return SourceStatus(connected=True, subscribed=True)


def messages(rows: int) -> list[Batch]:
    """Rows of two streams in each group, a second apart, that go far out and come back."""
    out = []
    for row in range(rows):
        value = 100.0 * (row % 23 == 22) + math.sin(row) + 5.0
        lines = []
        for stream in "pq":
            lines.append((f"plant/{stream}", f'{{"t": {NOW + row}, "a": {value}, "b": 1.5}}'))
            lines += [(f"cells/{stream}/{c}", f'{{"t": {NOW + row}, "v": {value}}}') for c in "ab"]
            lines.append((f"packs/{stream}", f'{{"r": [{{"a": {value}, "b": 1}}, {{"a": 2, "b": {value}}}]}}'))
        topics, payloads = zip(*((a.encode(), b.encode()) for a, b in lines), strict=True)
        out.append(Batch(list(topics), list(payloads), np.full(len(lines), NOW + row)))
    return out


def play(settings: Settings, rows: int = 50) -> None:
    """Build what `run` builds but the network, step, show, save, and come back."""
    at_s = [NOW]
    since_s = lambda: at_s[0] - NOW + 1000.0  # noqa: E731
    clock = Clock(now=lambda: at_s[0], monotonic=since_s, since_boot=since_s)
    artifact = Artifact(Path("m.pt"), "0" * 64, {"streams": {}}, profile(window=4, warmup_rows=20), LevelModel())  # type: ignore[arg-type]
    artifacts = dict.fromkeys(settings.streams, artifact)
    groups = pipelines(settings, artifacts)
    names = [sink.name for sink in settings.sinks]
    store = Store.open(settings.state.dir, settings.state.durability, clock.now, store_limits(settings), names)
    try:
        recover(store, groups)
        metrics = Metrics(clock.now, settings.metrics.per_stream_max, settings.metrics.stale_after_s)
        for name, pipeline in groups.pipelines.items():
            metrics.declare_group(name, pipeline.profile.digest, pipeline.profile.window)
        for name in names:
            metrics.declare_sink(name)
        feed = Feed(messages(rows))
        loop = Loop(
            feed, groups, store, metrics,  # type: ignore[arg-type]
            now=clock.now, arrived=clock.now, monotonic=clock.monotonic, sleep=lambda _: None,
            batch_max=settings.inbox.batch_max, snapshot_every_s=settings.state.snapshot_every_s,
            thinning_max=settings.inbox.thinning_max,
        )  # fmt: skip
        view = DaemonView(
            loop, store, metrics, now=clock.now, monotonic=clock.monotonic, silent_after_s=settings.mqtt.silent_after_s
        )
        view.artifacts = artifacts
        sinks, home = SinkThreads(settings, store.outbox, clock), HomeAssistantThread(settings, view.snapshot, clock)
        make_source(settings, clock, ArrivalClock(clock), lambda busy_s: None).close()
        while feed.batches:
            report = loop.turn(0.0)
            at_s[0] += 1.0
            if report is not None:
                view.note(report)
        view.publish(sinks.state())
        sinks.observe(metrics)
        home.observe(metrics)
        assert metrics.render()
        assert len(view.snapshot().tables) == len(settings.streams)
        loop.save()
        again = pipelines(settings, artifacts)
        recover(store, again)
        assert not differences(groups, again)
    finally:
        store.close()


KEYS = numeric_keys()


def test_the_walk_finds_the_numbers_of_every_part():
    """So that a change of the schema's form cannot leave the test below with nothing to try."""
    assert {key.path[0] for key in KEYS} == {
        "state", "mqtt", "inbox", "scoring", "metrics", "streams", "home_assistant", "sinks", "maintenance",
    }  # fmt: skip
    assert len(KEYS) >= 50


@pytest.mark.parametrize("key", KEYS, ids=str)
def test_both_ends_of_a_bound_run(key: Key, tmp_path: Path):
    """The lowest value that is accepted, and the highest."""
    values = candidates(key.about)
    ends = {}
    for name, order in (("low", values), ("high", values[::-1])):
        folder = tmp_path / name
        folder.mkdir()
        value, settings = accepted(key, order, folder)
        ends[name] = value
        play(settings, 8 if key.path[-1] == "warmup_rows" and name == "high" else 50)
    assert ends["low"] != ends["high"]


def test_a_bound_whose_end_does_not_run_is_found(tmp_path: Path, monkeypatch):
    """The control: one row of warm-up has no steps between rows, and a quantile of nothing is an error."""
    monkeypatch.setattr(scale, "roughness", lambda values: np.quantile(np.abs(np.diff(values, axis=-2)), 0.75, axis=-2))
    (key,) = (one for one in KEYS if one.path[-1] == "warmup_rows")
    _, settings = accepted(key, [1], tmp_path)
    with pytest.raises(IndexError):
        play(settings)


@pytest.mark.parametrize("path", ["inbox.max_payload", "state.journal_age", "streams.pumps.false_alarms"])
def test_a_number_beyond_every_bound_is_refused_in_words(path: str, tmp_path: Path):
    """Hundreds of digits are no infinity, and no trace."""
    units = {"max_payload": "GiB", "journal_age": "d", "false_alarms": "/hour"}
    root = yaml.safe_load(BASE)
    *way, last = path.split(".")
    node = root
    for step in way:
        node = node[step]
    node[last] = "9" * 400 + units[last]
    file = tmp_path / "streamae.yaml"
    file.write_text(yaml.safe_dump(root, width=10_000))
    with pytest.raises(ConfigError, match=f"{path}: got 9999.*; write"):
        load(file, environ={})
