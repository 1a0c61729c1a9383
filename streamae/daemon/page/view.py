"""What the web may see: a picture of the state, made by the loop about once a second and never changed afterwards.

Health is judged when somebody asks (`daemon.page.health`), since a loop that hangs makes no new pictures.

Groups and pipelines belong to the loop's thread. The web's threads read what `publish` made, or ask the loop for copies
(`daemon.page.mailbox`); tests/daemon/test_page_threads.py holds every path of the web to that.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from itertools import count
from typing import Any

import numpy as np

from streamae.condition import Condition
from streamae.core.past import StreamPast, past_of
from streamae.core.pipeline import Group, Pipeline
from streamae.core.report import Report, Transition
from streamae.core.topics import Template
from streamae.core.transitions import ANOMALY
from streamae.core.types import AlertState, Confirmed
from streamae.daemon.json_parser import json_loads
from streamae.daemon.loop import Loop
from streamae.daemon.page.change import StreamChanges
from streamae.daemon.page.detail import Raw, copy_stream, picture
from streamae.daemon.page.health import silence_s, unhealthy, unready
from streamae.daemon.page.mailbox import Mailbox
from streamae.daemon.page.memory import GroupHistory
from streamae.daemon.page.model_card import model_card
from streamae.daemon.page.past import StreamReplay
from streamae.daemon.page.tables import attention, tables
from streamae.metrics import Metrics
from streamae.model.artifact import Artifact
from streamae.store.alerts import AlertRecord
from streamae.store.silences import Silence
from streamae.store.store import Store
from streamae.web.app import SilenceWanted, Snapshot

__all__ = ["DaemonView"]

_ALARMS_MAX = 1000  # of a stream, to know how far they have raised its threshold


class DaemonView:
    """Implements `streamae.web.app.View` over the daemon's rooms; the loop calls `note` and `publish`."""

    def __init__(
        self,
        loop: Loop,
        store: Store,
        metrics: Metrics,
        *,
        now: Callable[[], float],
        monotonic: Callable[[], float],
        silent_after_s: float | None,
    ) -> None:
        self._loop, self._store, self._metrics = loop, store, metrics
        self._now, self._monotonic, self.silent_after_s = now, monotonic, silent_after_s
        self._snapshot = Snapshot(taken_s=now())
        self._counted = {"messages": 0, "rows": 0, "windows": 0, "dropped": 0}
        self._published_s = self._started_s = monotonic()
        self.thread_faults: Callable[[], Sequence[str]] = list
        self.conditions: Callable[[], Iterable[Condition]] = list
        self.artifacts: Mapping[str, Artifact] = {}
        self.mailbox = Mailbox()
        self.change = StreamChanges(loop, store, self.mailbox, self.note)
        self._replay = StreamReplay(store.past, json_loads())
        self._histories: dict[str, GroupHistory] = {}
        self._groups: Mapping[str, Group] = {}  # as published, like the next
        self._peaks: Mapping[tuple[str, str], float] = {}  # the highest score so far of each stream whose alert fires
        self._sequence, self._alert_changes = count(1), count(1)
        self._alerts_version = self._dropped = self._interrupted = 0

    def note(self, report: Report) -> None:
        """Count what a turn did, for the rates of the next picture, and remember its verdicts."""
        for name, news in report.groups.items():
            self._history(name).note(news)
        if report.transitions:
            self._alerts_version = next(self._alert_changes)
        self._dropped += sum(report.drops.values())
        self._interrupted += report.interrupted
        self._counted["messages"] += report.messages
        self._counted["rows"] += report.rows
        self._counted["windows"] += report.windows
        self._counted["dropped"] += sum(report.drops.values())

    def _history(self, name: str) -> GroupHistory:
        """Return a group's history; after a reload that of its new pipeline."""
        pipeline = self._loop.groups.pipelines[name]
        history = self._histories.get(name)
        if history is not None and history.pipeline is not pipeline and history.follows(pipeline):
            history.pipeline = pipeline
        if history is None or history.pipeline is not pipeline:
            history = self._histories[name] = GroupHistory(pipeline, self._monotonic())
        return history

    def answer(self) -> None:
        """Answer what the web asked about the loop's arrays; the loop calls this between two turns."""
        self.mailbox.answer()

    def publish(self, sinks: Sequence[Mapping[str, Any]] = ()) -> None:
        """Make a new picture; `sinks` says how each sink is doing."""
        passed_s = max(self._monotonic() - self._published_s, 1e-9)
        self._published_s += passed_s
        status = self._loop.source.status()
        pipelines = self._loop.groups.pipelines
        self._histories = {name: self._history(name) for name in pipelines}
        self._groups = {name: pipeline.group for name, pipeline in pipelines.items()}
        self._peaks = {key: peak for pipeline in pipelines.values() for key, peak in _peaks(pipeline)}
        made = tables(self._loop.groups, self._histories, self._monotonic(), self._now())
        rates = {f"{name}_per_s": round(n / passed_s, 3) for name, n in self._counted.items()}
        self._counted = dict.fromkeys(self._counted, 0)
        states = np.concatenate([t.state for t in made.values()]) if made else np.zeros(0, np.int8)
        line: dict[str, Any] = {
            "connected": status.connected,
            "subscribed": status.subscribed,
            "protocol": status.protocol,
            "error": status.fatal or status.error,
            "last_message_age_s": status.last_message_age_s,
            "waiting": status.waiting,
            "writable": self._loop.writable,
            "streams": len(states),
            "learning": int((states == AlertState.LEARNING).sum()),
            "filling": int((states == AlertState.FILLING).sum()),
            **attention(pipelines, int((states == AlertState.UNJUDGED).sum()), self._store.poison.fresh(self._now())),
            "dropped": self._dropped,
            "interrupted": self._interrupted,
            "thinning": self._loop.load_shedding.thinning,
            "lag_s": None if self._loop.lag_s is None else round(self._loop.lag_s, 3),
            "history_bytes": sum(history.nbytes for history in self._histories.values()),
            "sinks": sinks,
            "uptime_s": round(self._monotonic() - self._started_s, 1),
            **rates,
        }
        self._snapshot = Snapshot(taken_s=self._now(), status=line, tables=made, sequence=next(self._sequence))

    def snapshot(self) -> Snapshot:
        """Return the newest picture, with today's judgement of health: a loop that waits for the disk makes none."""
        conditions = [asdict(found) for one in self.conditions() if (found := one.failing) is not None]
        return replace(self._snapshot, unhealthy=self._unhealthy(), unready=self._unready(), conditions=conditions)

    def _unhealthy(self) -> list[str]:
        return unhealthy(self._loop, self.thread_faults(), self._monotonic())

    def _unready(self) -> list[str]:
        up_s = self._monotonic() - self._started_s
        return unready(self._loop, self._snapshot.tables, up_s, silence_s(self.silent_after_s, self._groups))

    def metrics(self) -> bytes:
        """Return the text of /metrics, with what is measured at the moment of asking."""
        status = self._loop.source.status()
        self._metrics.observe_conditions(self.conditions())
        self._metrics.observe_source(status.connected, status.subscribed, status.last_message_age_s, status.waiting)
        return self._metrics.render()

    def alerts_version(self) -> int:
        """Return a number that changes whenever an alert does, or what people said about one."""
        return self._alerts_version

    def alerts(
        self, state: str | None, limit: int, group: str | None = None, stream: str | None = None
    ) -> Sequence[Mapping[str, Any]]:
        """Return alerts, newest first."""
        stored = self._store.alerts
        found = stored.open(limit) if state == "firing" else stored.history(limit, group=group, stream=stream)
        silences = {one.id: one for one in self._store.silences.all()}
        return [self._alert(one, silences) for one in found if state in (None, one.transition.state)]

    def _alert(self, alert: AlertRecord, silences: Mapping[int, Silence]) -> dict[str, Any]:
        """An alert as JSON values; one that has ended is blamed on the channels that it began with."""
        said = asdict(alert)
        transition, number, _ = said.pop("transition"), said.pop("silence"), said.pop("first")
        silence = None if number is None else {"id": number}
        if number in silences:
            silence = self._silence(silences[number])
        ended = alert.transition.state == "resolved"
        blamed = alert.first if ended and alert.first is not None else alert.transition
        blame = {"shares": dict(blamed.shares), "worst_channel": blamed.worst_channel}
        return {**transition, **said, **blame, "peak_score": self._peak(alert.transition), "silence": silence}

    def _peak(self, last: Transition) -> float | None:
        """The highest score of an alert: of one that fires as it was published last, else as it was when it ended."""
        if last.state != "firing" or last.peak_score is None or last.rule != ANOMALY:
            return last.peak_score
        return max(last.peak_score, self._peaks.get((last.group, last.stream), last.peak_score))

    def now_s(self) -> float:
        """Return the wall clock."""
        return self._now()

    def silences(self) -> Sequence[Mapping[str, Any]]:
        """Return the silences that are kept, those that end last first."""
        return [self._silence(one) for one in sorted(self._store.silences.all(), key=lambda s: -s.ends_s)]

    def silence(self, wanted: SilenceWanted) -> Mapping[str, Any]:
        """Make a silence; raises UnavailableError where there are too many."""
        made = self._store.silences.create(Silence(**asdict(wanted)), self._now())
        self._alerts_version = next(self._alert_changes)
        return self._silence(made)

    def silence_of(self, group: str, stream: str) -> Mapping[str, Any] | None:
        """Return the active silence that names alerts of this stream."""
        asked = self._groups.get(group)
        labels = {} if asked is None else Template.parse(asked.stream_template).read(stream) or {}
        found = self._store.silences.matching(group, stream, None, labels, self._now())
        return None if found is None else self._silence(found)

    def end_silence(self, number: int) -> bool:
        """End a silence; False where there is none that has not ended."""
        done = self._store.silences.expire(number, self._now())
        self._alerts_version = next(self._alert_changes)
        return done

    def _silence(self, silence: Silence) -> dict[str, Any]:
        return {**asdict(silence), "state": silence.state(self._now())}

    def silences_moved(self) -> None:
        """Say that a silence began or ended with time; the loop's thread calls this."""
        self._alerts_version = next(self._alert_changes)

    def feedback(self, limit: int) -> Sequence[Mapping[str, Any]]:
        """Return what people said of alerts, newest first."""
        return [asdict(one) for one in self._store.alerts.feedback(limit)]

    def dead_letters(self, limit: int) -> Sequence[Mapping[str, Any]]:
        """Return what sinks refused for good, sink by sink, newest first."""
        outbox = self._store.outbox
        found = [(sink, *letter) for sink in outbox.sinks for letter in outbox.dead_letters(sink, limit)]
        return [{"sink": s, "alert": key.partition(":")[0], "key": key, "error": e} for s, key, e in found[:limit]]

    def retry(self, sink: str) -> bool:
        """Deliver a sink's dead letters once more; False where it has none."""
        return self._store.outbox.revive(sink) > 0

    def poison(self) -> Sequence[Mapping[str, Any]]:
        """Return the messages that ended the process over and over and were left out, newest first."""
        found, texts = [asdict(one) for one in self._store.poison.all()], ("topic", "payload")
        return [one | {name: one[name].decode(errors="backslashreplace") for name in texts} for one in found]

    def detail(self, group: str, stream: str, rows: int) -> Mapping[str, Any] | None:
        """Return a stream in detail; the loop copies, this thread computes. Raises UnavailableError."""
        artifact = self.artifacts.get(group)
        if artifact is None:
            return None
        raw = self.mailbox.ask(lambda: self._copied(group, stream, rows))
        if raw is None:
            return None
        return picture(raw, tuple(artifact.manifest.get("targets", ())), raw.ground.reconstructor)

    def _copied(self, group: str, stream: str, rows: int) -> Raw | None:
        return copy_stream(self._history(group), stream, rows) if group in self._loop.groups.pipelines else None

    def past(self, group: str, stream: str, from_s: float, until_s: float, points: int) -> Mapping[str, Any] | None:
        """Return a stream's past from the journal; the loop copies what it knows of the stream, this thread reads."""
        artifact = self.artifacts.get(group)
        if artifact is None:
            return None
        alarms = [one.transition for one in self._store.alerts.history(_ALARMS_MAX, group=group, stream=stream)]
        onsets = sum(alarm.rule == ANOMALY and alarm.onset_s >= from_s for alarm in alarms)
        known = self.mailbox.ask(lambda: self._alone(group, stream, from_s, onsets))
        if known is None:
            return None
        router, mine = known.pipeline(json_loads()).router, (-1, 0)
        raw, read = self._replay.read(known, lambda topic: router.find(topic) in mine, from_s, until_s)
        targets = tuple(artifact.manifest.get("targets", ()))
        history = picture(raw, targets, raw.ground.reconstructor, (read["from_s"], until_s), points)
        return {"history": history, "read": read}

    def _alone(self, group: str, stream: str, from_s: float, onsets: int) -> StreamPast | None:
        pipeline = self._loop.groups.pipelines.get(group)
        return None if pipeline is None else past_of(pipeline, stream, from_s, onsets)

    def models(self) -> Sequence[Mapping[str, Any]]:
        """Return what each group's model was trained on, and where the thresholds of its streams stand."""
        groups, tables = self._groups, self._snapshot.tables
        return [
            model_card(artifact, groups[name], tables.get(name))
            for name, artifact in self.artifacts.items()
            if name in groups
        ]

    def act(self, alert_id: str, action: str, note: str) -> bool:
        """Acknowledge an alert, or say what it turned out to be; False where there is none of this id."""
        if action == "acknowledge":
            done = self._store.alerts.acknowledge(alert_id, "page", self._now(), note or None)
        else:
            verdict = None if action == "withdraw-feedback" else action
            done = self._store.alerts.give_feedback(alert_id, verdict, self._now(), note or None)
            if done and verdict == "real" and (alert := self._store.alerts.get(alert_id)) is not None:
                last = alert.transition
                self._loop.confirmed.append(Confirmed(last.group, last.stream, last.id))
        self._alerts_version = next(self._alert_changes)
        return done


def _peaks(pipeline: Pipeline) -> Iterator[tuple[tuple[str, str], float]]:
    S = len(pipeline.streams)
    peaks = pipeline.alerts.peaks(S)
    for stream in pipeline.alerts.firing(S).tolist():
        yield (pipeline.group.name, pipeline.streams.names[stream]), float(peaks[stream])
