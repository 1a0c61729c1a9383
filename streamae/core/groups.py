"""`step(batch, now_s) -> Report`: all groups of an instance, and the whole of their state.

The core is a fold: the state follows from the messages, and not from how they were batched; `snapshot` / `restore`
carry it over a restart. Each group of streams has a pipeline of its own (`core.pipeline`); a message goes to the first
group that has a template for its topic, and to the groups that only listen to it.
"""

import io
import json
import zipfile
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np

from streamae.core.align_rule import GridAlign
from streamae.core.pipeline import Group, Pipeline
from streamae.core.report import Report
from streamae.core.takeover import refill
from streamae.core.types import Batch, Drop, Drops, Maintenance, State

__all__ = ["Groups"]

_SNAPSHOT_FORMAT = 3
_READABLE = (1, 2, 3)  # 1 had the times of rows in seconds, 2 in ticks
_TOPICS_MAX = 200_000  # remembered topics -> group, where there is more than one group


class Groups:
    """All groups of an instance."""

    def __init__(self, instance: str, groups: Sequence[Group], loads: Callable[[bytes], Any] = json.loads) -> None:
        self.instance, self._loads = instance, loads
        self.pipelines = {group.name: Pipeline(instance, group, loads) for group in groups}
        self.aside: Collection[str] = ()  # groups that take no messages for now: they are refilled afterwards
        self.arrival_s = -np.inf  # the newest arrival of any message
        self.maintenance: tuple[Maintenance, ...] = ()
        self._pipeline_of: dict[bytes, Pipeline | None] = {}
        self._listening = [x for x in self.pipelines.values() if any(spec.listens for spec in x.group.payloads)]
        self._takers_of: dict[bytes, list[Pipeline]] = {}

    def step(self, batch: Batch, now_s: float) -> Report:
        """Take a batch of messages, or none: that is a tick, and says that at `now_s` there were none.

        `now_s` is the wall clock: it bounds how far ahead a sample may be, and measures the silence of a whole group,
        in steps of bounded length. A batch with refusals alone is no tick.
        """
        self.arrival_s = max(self.arrival_s, float(batch.arrival_s.max(initial=-np.inf)))
        if batch.maintenance is not None:
            self._plan(batch.maintenance)
        drops = Drops(batch.lost)
        reports = [pipeline.step(part, now_s) for pipeline, part in self._split(batch, drops)]
        ticked = not (len(batch) or batch.lost or batch.broken)
        return Report.of(len(batch), drops, reports, ticked=ticked)

    def _plan(self, maintenance: Sequence[Maintenance]) -> None:
        self.maintenance = tuple(maintenance)
        for pipeline in self.pipelines.values():
            pipeline.maintenance.plan(maintenance)

    @property
    def listening(self) -> bool:
        """Whether a tick could change anything: some group has been heard, and its silence would be reported."""
        return any(pipeline.health.listening for pipeline in self.pipelines.values())

    def _split(self, batch: Batch, drops: Drops) -> list[tuple[Pipeline, Batch]]:
        """Return each group's part of a batch; counts the messages that no group has a template for."""
        if len(self.pipelines) == 1 and not self.aside:  # its own router finds what is not for it
            return [(pipeline, batch) for pipeline in self.pipelines.values()]
        parts: dict[str, list[int]] = {name: [] for name in self.pipelines if name not in self.aside}
        known = self._takers_of
        for i, topic in enumerate(batch.topics):
            if (takers := known.get(topic)) is None:
                takers = self.takers(topic)
            if not takers:
                drops[Drop.TOPIC] += 1
            for one in takers:
                if one.group.name in parts:
                    parts[one.group.name].append(i)
        return [(self.pipelines[name], self._only(batch, self.pipelines[name], at)) for name, at in parts.items()]

    def _only(self, batch: Batch, pipeline: Pipeline, at: list[int]) -> Batch:
        """Return the messages at these positions, and the holes that are in topics of this group."""
        holes = batch.holes and [topic for topic in batch.holes if self._find(topic) is pipeline]
        arrival_s = batch.arrival_s[at] if at else np.zeros(0)
        topics, payloads = [batch.topics[i] for i in at], [batch.payloads[i] for i in at]
        return Batch(topics, payloads, arrival_s, holes=holes, thinning=batch.thinning, resumed=batch.resumed)

    def takers(self, topic: bytes) -> list[Pipeline]:
        """Return the groups that a message of this topic goes to: the first with a template for it, and listeners."""
        found = self._takers_of.get(topic)
        if found is None:
            pipeline = self._find(topic)
            listeners = self._listeners(topic, pipeline) if self._listening else []
            found = [pipeline, *listeners] if pipeline is not None else listeners
            if len(self._takers_of) < _TOPICS_MAX:
                self._takers_of[topic] = found
        return found

    def renew(self, name: str, streams: Sequence[str] = ()) -> None:
        """Give a group a pipeline without any state, but with these streams."""
        self.pipelines[name] = pipeline = Pipeline(self.instance, self.pipelines[name].group, self._loads)
        for stream in streams:
            pipeline.streams.add(stream)
        pipeline.begin()
        pipeline.maintenance.plan(self.maintenance)
        self._pipeline_of, self._takers_of = {}, {}
        self._listening = [x for x in self.pipelines.values() if any(spec.listens for spec in x.group.payloads)]

    def refill(self, names: Collection[str], batch: Batch, now_s: float) -> None:
        """Give these groups their part of a batch of the past; see `core.takeover`."""
        for name in names:
            pipeline = self.pipelines[name]
            if batch.maintenance is not None:
                pipeline.maintenance.plan(batch.maintenance)
            at = [i for i, topic in enumerate(batch.topics) if pipeline in self.takers(topic)]
            refill(pipeline, self._only(batch, pipeline, at), now_s)

    def _find(self, topic: bytes) -> Pipeline | None:
        """Return the first group's pipeline that has a template for this topic."""
        if topic in self._pipeline_of:
            return self._pipeline_of[topic]
        text = topic.decode(errors="replace")
        found = next((x for x in self.pipelines.values() if _matches(x, text, listens=False)), None)
        if len(self._pipeline_of) < _TOPICS_MAX:
            self._pipeline_of[topic] = found
        return found

    def _listeners(self, topic: bytes, owner: Pipeline | None) -> list[Pipeline]:
        """Return the other groups that listen to this topic: several may need what an edge node says of its devices."""
        text = topic.decode(errors="replace")
        return [x for x in self._listening if x is not owner and _matches(x, text, listens=True)]

    def snapshot(self) -> bytes:
        """Return the whole state as one block of bytes, readable by `restore`."""
        about = {
            "format": _SNAPSHOT_FORMAT,
            "arrival_s": self.arrival_s if np.isfinite(self.arrival_s) else None,
            "maintenance": self.maintenance,
            "groups": {n: _about(x) | {"streams": x.streams.names} for n, x in self.pipelines.items()},
        }
        arrays = {f"{n}/{key}": a for n, pipeline in self.pipelines.items() for key, a in pipeline.state().items()}
        out = io.BytesIO()
        np.savez(out, about=np.frombuffer(json.dumps(about).encode(), np.uint8), **arrays)  # type: ignore[arg-type]
        return out.getvalue()

    def restore(self, snapshot: bytes) -> list[str]:
        """Take over a snapshot; returns the groups that could not be restored: their model or their rows have changed,
        or the snapshot or the configuration does not have them.

        Raises ValueError where the bytes are not a snapshot that this version can read.
        """
        about, arrays = _opened(snapshot)
        if about.get("arrival_s") is not None:
            self.arrival_s = float(about["arrival_s"])
        self._plan([Maintenance(*one) for one in about.get("maintenance", ())])
        skipped = []
        for name, said in about["groups"].items():
            pipeline = self.pipelines.get(name)
            if pipeline is None or {**_about(pipeline), **said} != {**said, **_about(pipeline)}:
                skipped.append(name)
                continue
            try:
                pipeline.restore(said["streams"], _part(arrays, name))
            except (ValueError, KeyError, IndexError):  # of another form than this version's, or these settings'
                self.renew(name)
                skipped.append(name)
        return skipped + [name for name in self.pipelines if name not in about["groups"]]

    def heritage(self, snapshot: bytes) -> dict[str, tuple[Sequence[str], State]]:
        """Return what a snapshot has of each group that does not depend on the model: its streams, and its state as far
        as channels and rows are still the same. Nothing where streams have other names now, or that is unknown.
        """
        about, arrays = _opened(snapshot)
        found: dict[str, tuple[Sequence[str], State]] = {}
        for name, said in about["groups"].items():
            now = _about(self.pipelines[name]) if name in self.pipelines else {}
            if name in self.pipelines and said.get("stream") == now["stream"]:
                same = all(said.get(key) == now[key] for key in ("channels", "every_s"))
                found[name] = said["streams"], _part(arrays, name) if same else {}
        return found


def _about(pipeline: Pipeline) -> dict[str, Any]:
    """What a group's state means something under; snapshots of former releases have the model alone."""
    group = pipeline.group
    every_s = group.align.every_s if isinstance(group.align, GridAlign) else None
    shape = {"channels": list(pipeline.profile.channels), "every_s": every_s, "stream": group.stream_template}
    return {"model": pipeline.profile.digest, **shape}


def _opened(snapshot: bytes) -> tuple[Mapping[str, Any], State]:
    try:
        with np.load(io.BytesIO(snapshot), allow_pickle=False) as kept:
            arrays = {name: kept[name] for name in kept.files}
        about: Mapping[str, Any] = json.loads(arrays.pop("about").tobytes())
    except (OSError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise ValueError(f"not a snapshot: {error}") from error
    if about["format"] not in _READABLE:
        raise ValueError(f"snapshot format {about['format']}: this version reads up to {_SNAPSHOT_FORMAT}")
    return about, arrays


def _part(arrays: State, name: str) -> State:
    return {key.partition("/")[2]: array for key, array in arrays.items() if key.startswith(f"{name}/")}


def _matches(pipeline: Pipeline, topic: str, *, listens: bool) -> bool:
    pairs = zip(pipeline.group.templates, pipeline.group.payloads, strict=True)
    return any(spec.listens is listens and template.match(topic) is not None for template, spec in pairs)
