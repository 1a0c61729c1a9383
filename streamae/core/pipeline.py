"""One group's way from messages to verdicts: the only file that knows the order of the stages.

    decode -> align -> scale -> window -> model -> score -> threshold -> alert
           -> health, which has nothing to do with the model

A pipeline is a deterministic fold: its state after some messages depends on the messages only, not on how they were
grouped into batches.
"""

import json
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any

import numpy as np

from streamae.core.alert import Alerts
from streamae.core.align import align_stage
from streamae.core.align_rule import GridAlign, RowAlign
from streamae.core.arrays import rounds
from streamae.core.calendar import Calendar
from streamae.core.decode import Decoder, PayloadSpec, deferred
from streamae.core.flapping import FLAPPING, Flapping, FlapRule
from streamae.core.group_rule import GroupRule
from streamae.core.impossible import ImpossibleValues
from streamae.core.latest import Latest
from streamae.core.maintenance import MaintenancePlan
from streamae.core.places import Places
from streamae.core.profile import Profile, Reconstructor
from streamae.core.quarantine import Quarantine, judged
from streamae.core.report import GroupReport, Report, Transition
from streamae.core.routes import Router, Streams
from streamae.core.scale import GroupScale, Scale
from streamae.core.score import Scoring
from streamae.core.sensors.stage import Sensors
from streamae.core.threshold import Threshold
from streamae.core.topics import Template
from streamae.core.transitions import Transitions, alert_id
from streamae.core.types import (
    F32,
    I64,
    AlertState,
    Batch,
    Drop,
    Drops,
    Readings,
    Rows,
    ScaledRows,
    State,
    Verdicts,
    Windows,
)
from streamae.core.window import Due, Rings

__all__ = ["QUARANTINED", "Group", "Pipeline", "alert_id"]

QUARANTINED = "quarantined"


@dataclass(frozen=True, slots=True, eq=False)
class Group(GroupRule):
    """A kind of machine with its topics and its model: what a pipeline is made of."""

    name: str
    templates: Sequence[Template]
    payloads: Sequence[PayloadSpec]
    stream_template: str
    profile: Profile
    reconstructor: Reconstructor
    align: RowAlign | GridAlign = field(default_factory=RowAlign)
    flapping: FlapRule | None = None


class Pipeline:
    """All stages of one group, in their order, and the registry of its streams."""

    def __init__(self, instance: str, group: Group, loads: Callable[[bytes], Any] = json.loads) -> None:
        self.instance, self.group, self.profile = instance, group, group.profile
        channels = self.profile.channels
        warmup_rows = self.profile.warmup_rows if group.warmup_rows is None else group.warmup_rows
        self.streams = Streams(group.stream_template, group.max_streams)
        self.router = Router(group.templates, channels, self.streams, deferred(group.payloads))
        self.transitions = Transitions(instance, group.name, self.streams, self.profile)
        self.decoder = Decoder(self.router, group.payloads, channels, future_max_s=group.future_max_s, loads=loads)
        self.impossible = ImpossibleValues(channels, group.health.range, self.profile.sentinels)
        self.counters = self.profile.make_counters()
        self.align = align_stage(group.align, len(channels), self.profile.gap_max_s, self.counters)
        usual = GroupScale.of(self.profile.calibration, self.profile.streams, len(channels), warmup_rows)
        self.scale = Scale(len(channels), warmup_rows, usual)
        gap_max_s = self.profile.gap_max_s if self.align.gap_max_s is None else self.align.gap_max_s
        self.calendar = Calendar.of(self.profile.calendar)
        read = len(channels) + len(self.calendar)
        self.rings = Rings(self.profile.window, read, gap_max_s=gap_max_s, stride=group.stride)
        self.scoring = Scoring(self.profile.calibration, len(channels))
        keep_s = group.alert.keep_firing_for_s
        self.threshold = Threshold(self.profile.calibration, group.false_alarms_per_s, keep_s)
        self.alerts = Alerts(group.alert)
        self.quarantine = Quarantine()
        self.maintenance = MaintenancePlan(group.name, self.streams)
        apart = len(channels) > 1 and not isinstance(group.align, RowAlign)
        self.health = Sensors(group.health, channels, apart=apart, impossible=self.impossible)
        self.flapping = Flapping(group.flapping)
        self.broken = ""  # why the model can judge nothing at all, as far as its last call showed
        self.latest = Latest()
        self.places = Places(self.streams)
        self._restored: dict[str, Any] = {
            "decode": self.decoder, "align": self.align, "scale": self.scale, "rings": self.rings,
            "scoring": self.scoring, "threshold": self.threshold, "alerts": self.alerts, "quarantine": self.quarantine,
            "health": self.health, "flapping": self.flapping, "places": self.places, "counters": self.counters,
        }  # fmt: skip
        self._stages = (
            self.align, self.scale, self.rings, self.scoring, self.threshold, self.alerts, self.quarantine,
            self.health, self.latest, self.places, self.counters,
        )  # fmt: skip
        self._begun = 0
        self._heard_s = -np.inf  # the wall clock at the last message

    def step(self, batch: Batch, wall_s: float = -np.inf) -> Report:
        """Take the group's messages of a batch, in their order; an empty one says at `wall_s` that there were none.

        What is refused of messages that the group does not know is in its intake alone; see `core.intake`.
        """
        interrupted = self.interrupt(batch.holes) if batch.broken else 0
        self._listen(batch, wall_s)
        decoded = self.decoder.read(batch.topics, batch.payloads, batch.arrival_s, wall_s)
        readings = decoded.readings
        begun = self._begun
        self.begin()
        self.places.note(readings, begun)
        samples = readings.samples()
        maintenance = self.maintenance.touches(samples.stream, samples.time_s, samples.time_s)
        findings = self.health.step(samples, maintenance, self.maintenance.now(wall_s), wall_s)
        rows, refused = self.aligned(readings)
        report = self._judge(rows, len(batch), decoded.drops + refused, batch.thinning)
        groups = {name: replace(news, intake=decoded.intake) for name, news in report.groups.items()}
        fresh = [*report.transitions, *(self.transitions.finding(finding) for finding in findings)]
        lost = self.decoder.sequences.taken()
        notices = [*self.decoder.notices(), *report.notices]
        if lost:
            words = f"{lost.total()} messages are missing by their sequence numbers"
            notices.append(self.transitions.notice(sorted(lost), words))
        transitions = self.flapping.step(fresh, self.present_s)
        return replace(
            report,
            groups=groups,
            transitions=transitions,
            notices=notices,
            missing=lost.total(),
            interrupted=interrupted,
        )

    def aligned(self, readings: Readings) -> tuple[Rows, Drops]:
        """Return the rows that are complete now, of what the readings can mean, and what was refused."""
        readings, impossible = self.impossible.readings(readings)
        rows, drops = self.align.step(readings)
        counted = self.counters.rows(rows) if isinstance(self.group.align, RowAlign) else rows
        more = {Drop.IMPOSSIBLE: impossible, Drop.INCOMPLETE_ROW: len(rows) - len(counted)}
        return counted, drops + Drops(more)

    def _listen(self, batch: Batch, wall_s: float) -> None:
        """Note when the group was heard, and over which time nobody listened."""
        if batch.resumed and np.isfinite(self._heard_s):
            self.align.absent(self._heard_s, wall_s)
        if len(batch):
            self._heard_s = wall_s

    def present_s(self, name: str) -> float:
        """Return the event time of a stream's newest row, NaN for what is none."""
        stream = self.streams.index(name)
        return float("nan") if stream is None else float(self.latest.row_s[stream])

    def interrupt(self, topics: Sequence[bytes] | None) -> int:
        """Restart the windows of the streams of these topics (None: of all); returns how many held rows."""
        found = {-1} if topics is None else {s for topic in topics if (s := self.router.find(topic)) is not None}
        stream = np.array(sorted(range(len(self.streams)) if -1 in found else found), np.int32)
        self.align.interrupt(stream)
        return self.rings.interrupt(stream)

    def step_rows(self, names: Sequence[str], rows: Rows) -> Report:
        """Take rows as they stand in a series, past decode and align; `rows.stream` indexes `names`."""
        ids = np.array([-1 if (s := self.streams.add(name)) is None else s for name in names], np.int32)
        self.begin()
        possible = self.impossible.rows(Rows(ids[rows.stream], rows.time_s, rows.values))
        return self._judge(self.counters.rows(possible), len(rows), Drops())

    def begin(self) -> None:
        """Start the stages for streams that have appeared."""
        if self._begun == len(self.streams):
            return
        for stage in self._stages:
            stage.grow(len(self.streams))
        for stream in range(self._begun, len(self.streams)):
            name = self.streams.names[stream]
            # A model names its streams after files, in which the `/` of `line1/pump01` cannot stand.
            known = self.profile.streams.get(name, self.profile.streams.get(name.replace("/", "_")))
            self.scale.begin(stream, known)
            self.scoring.begin(stream, known)
            self.threshold.begin(stream, known)
            runs = (self.profile.calibration if known is None else known).runs
            self.health.begin(stream, runs, known=known is not None)
        self._begun = len(self.streams)

    def drop(self, stream: int) -> None:
        """Forget a stream, of which no alert and no verdict stands; the last one takes its number."""
        self.begin()
        self.streams.remove(stream)
        for stage in self._stages:
            stage.drop(stream)
        self._begun = len(self.streams)
        self.router.forget()
        self.maintenance.renumber()

    def relearn(self, stream: int) -> None:
        """Forget what is normal for a stream: it learns that as one that the model does not know."""
        self.scale.relearn(stream)
        self.scoring.begin(stream, None)
        self.threshold.begin(stream, None)
        self.rings.interrupt(np.array([stream], np.int32))
        self.quarantine.release(stream)
        self.latest.forget(stream)

    def _judge(self, rows: Rows, messages: int, drops: Drops, thinning: int = 1) -> Report:
        scaled, due = self.windows(rows, thinning)
        windows, errors, notices = self._errors(due.windows, drops)
        verdicts, transitions = self._score(windows, errors, thinning)
        self.latest.note(verdicts)
        news = {self.group.name: GroupReport(self.streams.names, scaled, verdicts, self.broken)}
        return Report(messages, len(rows), len(windows), drops, news, transitions, notices, due.skipped)

    def windows(self, rows: Rows, thinning: int = 1) -> tuple[ScaledRows, Due]:
        """Scale the rows of streams whose scale is known; returns these, and the windows that came due with them."""
        kept, values = self.scale.step(rows, self.maintenance.touches(rows.stream, rows.time_s, rows.time_s))
        self.latest.row_s[rows.stream] = rows.time_s
        scaled = ScaledRows(rows.stream[kept], rows.time_s[kept], values)
        with_clock = self.calendar.beside(values, scaled.time_s)
        return scaled, self.rings.push(scaled.stream, scaled.time_s, with_clock, thinning)

    def _errors(self, windows: Windows, drops: Drops) -> tuple[Windows, F32, list[str]]:
        """Run the model; returns the windows that it could judge, their errors, and what to say of the rest."""
        asked = self.quarantine.asks(windows.stream)
        values = windows.values if asked.all() else windows.values[asked]
        answer = judged(self.group.reconstructor, values, len(self.profile.calibration.channel))
        if asked.any():
            self.broken = answer.broken
        if not answer.failed.any() and not len(self.quarantine.held(len(self.streams))):
            return windows, answer.errors, []
        failed = np.zeros(len(windows), np.bool_)
        failed[asked] = answer.failed
        good, passed = np.zeros_like(failed), np.zeros_like(failed)
        fresh, free = [], []  # type: tuple[list[int], list[int]]
        for index in rounds(windows.stream):
            good[index], passed[index], began, ended = self.quarantine.step(windows.stream[index], failed[index])
            fresh += began.tolist()
            free += ended.tolist()
        drops[Drop.QUARANTINED] += int(passed.sum())
        drops[Drop.INFERENCE] += int((~good & ~passed).sum())
        whole = np.zeros((len(windows), answer.errors.shape[1]), np.float32)
        whole[asked] = answer.errors
        kept = Windows(*(getattr(windows, name)[good] for name in ("stream", "start_s", "time_s", "values")))
        return kept, whole[good], self._notices(answer.reason, fresh, free)

    def _notices(self, reason: str, fresh: list[int], free: list[int]) -> list[str]:
        said = [(fresh, f"in quarantine, the model fails on it ({reason})"), (free, "judged again")]
        return [self.transitions.notice(streams, words) for streams, words in said if streams]

    def _score(self, windows: Windows, errors: F32, thinning: int) -> tuple[Verdicts, list[Transition]]:
        B, C = len(windows), len(self.profile.channels)
        score, threshold, share = np.full(B, np.nan), np.full(B, np.nan), np.zeros((B, C), np.float32)
        state = np.full(B, AlertState.LEARNING, np.int8)
        own = np.full(B, np.nan)
        verdicts = Verdicts(windows.stream, windows.start_s, windows.time_s, score, threshold, share, state, own)
        parts = [self._round(index, errors, verdicts, thinning) for index in rounds(windows.stream)]
        return verdicts, sorted(chain.from_iterable(parts), key=lambda t: t.time_s)

    def _round(self, index: I64, errors: F32, v: Verdicts, thinning: int) -> list[Transition]:
        """Score, threshold and alert for one window of each of some different streams; fills `v` at `index`."""
        s, time_s = v.stream[index], v.time_s[index]
        maintenance = self.maintenance.touches(s, v.start_s[index], time_s)
        v.score[index], v.share[index] = self.scoring.step(s, errors[index], maintenance)
        v.threshold[index] = self.threshold.step(s, time_s, v.score[index], thinning, maintenance)
        v.own[index] = self.threshold.own(s)
        v.state[index], changes = self.alerts.step(s, time_s, v.score[index], v.threshold[index])
        return [
            self.transitions.anomaly(v, int(index[at]), changes, n, self.threshold.holding(int(s[at])))
            for n, at in enumerate(changes.position)
        ]

    def confirm(self, name: str, alert: str) -> None:
        """Learn that the last alert of a stream was real, if it has this id: its threshold is as before it."""
        stream = self.streams.index(name)
        if stream is None or stream >= self._begun:
            return
        (onset_s,) = self.alerts.onset_s(np.array([stream])).tolist()
        if self.transitions.anomaly_id(stream, onset_s) == alert:
            self.threshold.confirm(stream)

    def firing_ids(self) -> list[str]:
        """Return the ids of the alerts and of the verdicts on sensors that fire now."""
        firing = self.alerts.firing(len(self.streams))
        pairs = zip(firing.tolist(), self.alerts.onset_s(firing).tolist(), strict=True)
        alerts = [self.transitions.anomaly_id(*pair) for pair in pairs]
        verdicts = [self.transitions.finding_id(*one) for one in self.health.open()]
        return alerts + verdicts + [t.id for t in self.flapping.open()]

    def verdicts(self) -> list[str]:
        """Return the rule of each verdict on a sensor that stands, and of each alert that flaps."""
        return [rule for _, _, rule, _ in self.health.open()] + [t.rule for t in self.flapping.open()]

    def marks(self, now_s: float = -np.inf) -> dict[int, list[str]]:
        """Return what is special about some streams now, apart from the state of their alert, in words."""
        found: defaultdict[int, list[str]] = defaultdict(list)
        for stream in np.flatnonzero(self.maintenance.now(now_s)).tolist():
            found[stream].append("maintenance")
        for stream in self.quarantine.held(len(self.streams)).tolist():
            found[stream].append(QUARANTINED)
        for stream, channel, rule, _ in self.health.open():
            if stream >= 0:
                words = rule.replace("_", " ")
                found[stream].append(f"{words}: {self.profile.channels[channel]}" if channel >= 0 else words)
        for verdict in self.flapping.open():
            stream_ = self.streams.index(verdict.stream)
            if stream_ is not None:
                found[stream_].append(FLAPPING)
        return dict(found)

    def state(self) -> State:
        """Return what a snapshot keeps."""
        S = len(self.streams)
        stages = {
            "decode": self.decoder.state(),
            "align": self.align.state(S),
            "counters": self.counters.state(S),
            "scale": self.scale.state(S),
            "rings": self.rings.state(S),
            "scoring": self.scoring.state(),
            "threshold": self.threshold.state(),
            "alerts": self.alerts.state(S),
            "quarantine": self.quarantine.state(S),
            "health": self.health.state(S),
            "flapping": self.flapping.state(),
            "places": self.places.state(S),
            "pipeline": {"heard_s": np.array(self._heard_s)},
        }
        return {f"{stage}.{name}": array for stage, kept in stages.items() for name, array in kept.items()}

    def restore(self, names: Sequence[str], state: State) -> None:
        """Take over what `state` returned for streams of these names."""
        for name in names:
            self.streams.add(name)
        self.router.forget()
        self.begin()
        parts: defaultdict[str, State] = defaultdict(dict)
        for key, array in state.items():
            stage, _, name = key.partition(".")
            parts[stage][name] = array
        for stage, kept in self._restored.items():
            kept.restore(parts[stage])
        self._heard_s = float(parts["pipeline"].get("heard_s", -np.inf))
