"""A verdict that comes and goes again and again is reported once, as flapping, and then held back until it settles.

More than `times` beginnings within `within_s` (event time of the alert's own stream) are one verdict `flapping`, with
the beginning that was too many as its onset. While it lasts, further beginnings of the same alert are not reported; an
alert reported before ends as usual. It ends after `within_s` without a beginning; an alert that still fires then is
reported.

The stage works on transitions, which are rare, and keeps a record only of alerts that began lately.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Annotated, Any

import numpy as np

from streamae.core.report import Transition
from streamae.core.setting import Setting
from streamae.core.transitions import ANOMALY, alert_id
from streamae.core.types import State

__all__ = ["FLAPPING", "FlapRule", "Flapping"]

FLAPPING = "flapping"


@dataclass(frozen=True, slots=True)
class FlapRule:
    """When an alert that comes and goes is reported once, as flapping, and then held back until it is quiet."""

    times: Annotated[int, Setting(ge=0, le=1000)] = 6
    """Beginnings of one alert within that time that are reported one by one; 0 reports all of them."""
    within_s: Annotated[float, Setting(gt=0)] = 3600.0
    """The time, and how long it must be quiet before it is reported again."""


@dataclass(slots=True)
class _FlapRecord:
    """The last beginnings of one alert; the open verdict that it flaps, if there is one; and what is held back."""

    began_s: list[float] = field(default_factory=list)
    verdict: Transition | None = None
    held: Transition | None = None


class Flapping:
    """The alerts of one group that began lately; without a rule, or with one of 0 times, nothing is held back."""

    def __init__(self, rule: FlapRule | None) -> None:
        self.rule = rule if rule is not None and rule.times else None
        self._records: dict[tuple[str, str, str], _FlapRecord] = {}

    def open(self) -> list[Transition]:
        """Return the open verdicts."""
        return [record.verdict for record in self._records.values() if record.verdict is not None]

    def step(self, transitions: Sequence[Transition], newest_s: Callable[[str], float]) -> list[Transition]:
        """Take the transitions of a step, those of an alert in their order; `newest_s` is the present of a stream."""
        if self.rule is None or not (transitions or self._records):
            return list(transitions)
        passed: list[Transition] = []
        for t in transitions:
            channel = "" if t.rule == ANOMALY else t.worst_channel
            record = self._records.setdefault((t.stream, t.rule, channel), _FlapRecord())
            passed += self._settle(record, t.time_s)
            passed += self._pass(record, t)
        for key, record in list(self._records.items()):
            now_s = newest_s(key[0])
            if record.began_s and record.began_s[-1] - now_s > self.rule.within_s:  # its clock has fallen back
                record.began_s = [now_s] * len(record.began_s)
            passed += self._settle(record, now_s)
            if not record.began_s and record.held is None:
                del self._records[key]
        return passed

    def _pass(self, record: _FlapRecord, t: Transition) -> list[Transition]:
        assert self.rule is not None
        if t.state != "firing":
            held, record.held = record.held, None
            return [] if held is not None else [t]
        if record.held is not None:
            record.held = replace(t, sequence=0)
            return []
        if t.sequence > 0:
            return [t]
        recent = [s for s in record.began_s if t.time_s - s < self.rule.within_s]
        record.began_s = [*recent[-self.rule.times :], t.time_s]
        if record.verdict is None and len(record.began_s) <= self.rule.times:
            return [t]
        record.held = t
        if record.verdict is not None:
            return []
        record.verdict = self._verdict(t, len(record.began_s))
        return [record.verdict]

    def _verdict(self, t: Transition, times: int) -> Transition:
        assert self.rule is not None
        what = f"{FLAPPING}:{t.rule}:{'' if t.rule == ANOMALY else t.worst_channel}"
        number = alert_id(t.instance, t.group, t.stream, what, t.time_s)
        limit = float(self.rule.times)
        return replace(
            t, id=number, rule=FLAPPING, severity="warning", onset_s=t.time_s, score=float(times), threshold=limit,
            peak_score=float(times),
        )  # fmt: skip

    def _settle(self, record: _FlapRecord, now_s: float) -> list[Transition]:
        """End the verdict on an alert that has settled by now, and report what was held back."""
        assert self.rule is not None
        if not record.began_s or not now_s - record.began_s[-1] >= self.rule.within_s:
            return []
        end_s, ended = record.began_s[-1] + self.rule.within_s, []
        if record.verdict is not None:
            ended.append(replace(record.verdict, state="resolved", sequence=1, time_s=end_s))
        if record.held is not None:
            ended.append(replace(record.held, time_s=end_s))
        record.began_s, record.verdict, record.held = [], None, None
        return ended

    def drop(self, stream: str, time_s: float) -> list[Transition]:
        """Forget the alerts of a stream; returns the end, at `time_s`, of a verdict that one flaps."""
        gone = [self._records.pop(key) for key in list(self._records) if key[0] == stream]
        verdicts = [record.verdict for record in gone if record.verdict is not None]
        return [replace(v, state="resolved", sequence=1, time_s=max(time_s, v.onset_s)) for v in verdicts]

    def release(self) -> None:
        """Forget which anomalies are held back: another model judges the streams now, and finds its own."""
        for (_, rule, _), record in self._records.items():
            record.held = None if rule == ANOMALY else record.held

    def state(self) -> State:
        """Return what a snapshot keeps."""
        records: list[Any] = [[*key, _kept(record)] for key, record in self._records.items()]
        return {"records": np.frombuffer(json.dumps(records).encode(), np.uint8).copy()}

    def restore(self, state: State) -> None:
        """Take over what `state` returned; nothing of an older snapshot, which had none."""
        for *key, kept in json.loads(state["records"].tobytes()) if "records" in state else ():
            verdict, held = (None if kept[n] is None else Transition(**kept[n]) for n in (_VERDICT_KEY, "held"))
            self._records[key[0], key[1], key[2]] = _FlapRecord(kept["began_s"], verdict, held)


_VERDICT_KEY = "told"  # as snapshots have always called it


def _kept(record: _FlapRecord) -> dict[str, Any]:
    kept = asdict(record)
    kept[_VERDICT_KEY] = kept.pop("verdict")
    return kept
