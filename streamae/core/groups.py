"""`step(batch, now_s) -> Report`: all groups of an instance, and the whole of their state.

The core is a fold: the state follows from the messages, and not from how they were batched; `snapshot` / `restore`
carry it over a restart. Each group of streams has a pipeline of its own (`core.pipeline`). A message goes to every
group that has a template for its topic, or only listens to it, and there to those that know any of its values; what
nobody knows is counted once.
"""

import io
import json
import zipfile
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from streamae.core.align_rule import GridAlign
from streamae.core.changes import Changed, change, make_room
from streamae.core.intake import unclaimed
from streamae.core.pipeline import Group, Pipeline
from streamae.core.report import GroupReport, Report
from streamae.core.takeover import refill
from streamae.core.types import I64, Batch, Drop, Drops, Maintenance, ScaledRows, State, StreamChange, Verdicts

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
        self._takers_of: dict[bytes, list[Pipeline]] = {}
        self._connect()

    def step(self, batch: Batch, now_s: float) -> Report:
        """Take a batch of messages, or none: that is a tick, and says that at `now_s` there were none.

        `now_s` is the wall clock: it bounds how far ahead a sample may be, and measures the silence of a whole group,
        in steps of bounded length. A batch with refusals alone is no tick.
        """
        self.arrival_s = max(self.arrival_s, float(batch.arrival_s.max(initial=-np.inf)))
        if batch.maintenance is not None:
            self._plan(batch.maintenance)
        for one in batch.confirmed:
            if one.group in self.pipelines:
                self.pipelines[one.group].confirm(one.stream, one.alert)
        changed = self._change(batch.changes) if batch.changes else {}
        drops = Drops(batch.lost)
        if batch.changes and not (len(batch) or batch.broken):  # else every group would learn that nothing comes
            reports = [_said(self.pipelines[name], done) for name, done in changed.items()]
        else:
            parts = self._split(batch, drops)
            reports = [_step(x, part, now_s, changed.get(x.group.name)) for x, part, _ in parts]
            taken = [(at, done.groups[x.group.name].intake) for (x, _, at), done in zip(parts, reports, strict=True)]
            drops += unclaimed(len(batch), [(at, intake) for at, intake in taken if intake is not None])
        ticked = not (len(batch) or batch.lost or batch.broken or batch.changes)
        return Report.of(len(batch), drops, reports, ticked=ticked)

    def _change(self, changes: Sequence[StreamChange]) -> dict[str, Changed]:
        found: dict[str, Changed] = {}
        for one in changes:
            if one.group in self.pipelines and one.group not in self.aside:
                change(self.pipelines[one.group], one, found.setdefault(one.group, Changed()))
        return found

    def _plan(self, maintenance: Sequence[Maintenance]) -> None:
        self.maintenance = tuple(maintenance)
        for pipeline in self.pipelines.values():
            pipeline.maintenance.plan(maintenance)

    @property
    def listening(self) -> bool:
        """Whether a tick could change anything: some group has been heard, and its silence would be reported."""
        return any(pipeline.health.listening for pipeline in self.pipelines.values())

    def _split(self, batch: Batch, drops: Drops) -> list[tuple[Pipeline, Batch, I64 | None]]:
        """Return each group's part of a batch, and the places of its messages there, None for all; counts the messages
        that no group has a template for.
        """
        if len(self.pipelines) == 1 and not self.aside:  # its own router finds what is not for it
            return [(pipeline, batch, None) for pipeline in self.pipelines.values()]
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
        made = [(self.pipelines[name], np.array(at, np.int64)) for name, at in parts.items()]
        return [(pipeline, self._only(batch, pipeline, at), at) for pipeline, at in made]

    def _only(self, batch: Batch, pipeline: Pipeline, at: I64) -> Batch:
        """Return the messages at these positions, and the holes that are in topics of this group."""
        holes = batch.holes and [topic for topic in batch.holes if pipeline in self.takers(topic)]
        places = at.tolist()
        topics, payloads = [batch.topics[i] for i in places], [batch.payloads[i] for i in places]
        return Batch(topics, payloads, batch.arrival_s[at], holes=holes, thinning=batch.thinning, resumed=batch.resumed)

    def takers(self, topic: bytes) -> list[Pipeline]:
        """Return the groups that a message of this topic goes to: those with a template for it, and listeners."""
        found = self._takers_of.get(topic)
        if found is None:
            text = topic.decode(errors="replace")
            found = [x for x in self.pipelines.values() if any(t.match(text) is not None for t in x.group.templates)]
            if len(self._takers_of) < _TOPICS_MAX:
                self._takers_of[topic] = found
        return found

    def _connect(self) -> None:
        """Let each group ask the others whether one of them has all that it knows of a message."""
        self._takers_of = {}
        for name, pipeline in self.pipelines.items():
            pipeline.decoder.elsewhere = partial(self._covered, name) if len(self.pipelines) > 1 else None

    def _covered(self, name: str, topic: bytes, payload: bytes) -> bool:
        """Whether another group than this has every value that it could ask of a message."""
        return any(x.group.name != name and x.decoder.covers(topic, payload) for x in self.takers(topic))

    def renew(self, name: str, streams: Sequence[str] = ()) -> None:
        """Give a group a pipeline without any state, but with these streams."""
        self.pipelines[name] = pipeline = Pipeline(self.instance, self.pipelines[name].group, self._loads)
        for stream in streams:
            pipeline.streams.add(stream)
        pipeline.begin()
        pipeline.maintenance.plan(self.maintenance)
        self._connect()

    def refill(self, names: Collection[str], batch: Batch, now_s: float) -> None:
        """Give these groups their part of a batch of the past; see `core.takeover`."""
        for name in names:
            pipeline = self.pipelines[name]
            if batch.maintenance is not None:
                pipeline.maintenance.plan(batch.maintenance)
            for one in batch.changes:
                if one.group == name:
                    change(pipeline, one, Changed())
            at = [i for i, topic in enumerate(batch.topics) if pipeline in self.takers(topic)]
            refill(pipeline, self._only(batch, pipeline, np.array(at, np.int64)), now_s)

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
                same = all(said.get(key) == now.get(key) for key in ("channels", "every_s", "counters"))
                found[name] = said["streams"], _part(arrays, name) if same else {}
        return found


def _said(pipeline: Pipeline, done: Changed, report: Report | None = None) -> Report:
    """Return a report that begins with changes; without one, of these alone."""
    report = _nothing(pipeline) if report is None else report
    name = pipeline.group.name
    news = replace(report.groups[name], removed=done.removed, renamed=done.renamed, forgotten=done.forgotten)
    return replace(
        report,
        groups={name: news},
        transitions=[*done.transitions, *report.transitions],
        notices=[*done.notices, *report.notices],
    )


def _nothing(pipeline: Pipeline) -> Report:
    none, empty, C = np.zeros(0, np.int32), np.zeros(0), len(pipeline.profile.channels)
    rows = ScaledRows(none, empty, np.zeros((0, C), np.float32))
    verdicts = Verdicts(none, empty, empty, empty, empty, np.zeros((0, C), np.float32), none.astype(np.int8))
    news = GroupReport(pipeline.streams.names, rows, verdicts, pipeline.broken)
    return Report(0, 0, 0, Drops(), {pipeline.group.name: news}, [])


def _step(pipeline: Pipeline, batch: Batch, now_s: float, changed: Changed | None) -> Report:
    """Step one group, after these changes; where it is full, streams that are long silent give way meanwhile."""
    cuts = pipeline.places.cuts(batch, one_each=not pipeline.router.deferred)
    reports, done, first = [], changed, 0
    for at, minute_s in [*cuts, (len(batch), None)]:
        if at > first or minute_s is None:
            part = batch if (first, at) == (0, len(batch)) else batch.only(np.arange(first, at), first=first == 0)
            report = pipeline.step(part, now_s)
            reports.append(report if done is None else _said(pipeline, done, report))
            done, first = None, at
        if minute_s is not None and pipeline.streams.refused:
            made = make_room(pipeline, minute_s)
            if made.forgotten:
                reports.append(_said(pipeline, made))
    if len(reports) == 1:
        return reports[0]
    name = pipeline.group.name
    whole = Report.of(len(batch), Drops(), reports, ticked=False)
    return replace(whole, groups={name: GroupReport.joined([report.groups[name] for report in reports])})


def _about(pipeline: Pipeline) -> dict[str, Any]:
    """What a group's state means something under; snapshots of former releases have the model alone."""
    group = pipeline.group
    every_s = group.align.every_s if isinstance(group.align, GridAlign) else None
    channels = list(pipeline.profile.channels)
    shape: dict[str, Any] = {"channels": channels, "every_s": every_s, "stream": group.stream_template}
    if pipeline.profile.counters:
        shape["counters"] = dict(pipeline.profile.counters)
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
