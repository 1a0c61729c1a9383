"""Plays the columns of time of tests/scenarios/<stage>/*.toml through a stage of the core; README.md there explains.

A stage is a class here: it is fed one column at a time, of all streams, and gives what is to be seen after it, under
the names that a scenario may expect. `restarted` is the same stage in a new object, by its snapshot.
"""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from streamae.core.alert import SEVERITIES, AlertRule, Alerts
from streamae.core.align import align_stage
from streamae.core.align_rule import GridAlign, RowAlign
from streamae.core.flapping import Flapping, FlapRule
from streamae.core.report import Transition
from streamae.core.sensors.stage import SensorRule, Sensors
from streamae.core.threshold import Threshold
from streamae.core.types import Readings
from tests.plants import calibration, known_stream

FOLDER = Path(__file__).parent / "scenarios"
Cells = Mapping[str, str]  # the cells of one stream in one column of time
STATES = {-1: "l", 0: ".", 1: "p", 2: "F"}
NO = "."


def _number(cell: str) -> float:
    return float("nan") if cell in {NO, "x"} else float(cell)


class AlertColumns:
    """`input`: the score, held against a threshold of 1; x while the stream learns."""

    inputs = ("input",)

    def __init__(self, settings: dict[str, Any], streams: list[dict[str, Any]]) -> None:
        self._rule = AlertRule(**settings)
        self._alerts = Alerts(self._rule)
        self._alerts.grow(len(streams))
        self._severity = [0] * len(streams)

    def step(self, time_s: list[float], now: list[Cells]) -> list[dict[str, str]]:
        streams = np.arange(len(now), dtype=np.int32)
        scores = np.array([_number(one["input"]) for one in now])
        state, changes = self._alerts.step(streams, np.array(time_s), scores, np.ones(len(now)))
        numbers = dict(zip(changes.position.tolist(), changes.sequence.tolist(), strict=True))
        for n, severity in zip(changes.position.tolist(), changes.severity.tolist(), strict=True):
            self._severity[n] = severity
        return [
            {
                "alert": STATES[int(state[s])],
                "transition": str(numbers.get(s, NO)),
                "severity": SEVERITIES[self._severity[s]][0] if state[s] == 2 else NO,
            }
            for s in range(len(now))
        ]

    def restarted(self) -> None:
        kept, self._alerts = self._alerts.state(len(self._severity)), Alerts(self._rule)
        self._alerts.restore(kept)


class AlignColumns:
    """A column is a message: its event `time`, and the channels that it carries.

    `lost` x: messages of the stream are known to be lost just before it.
    """

    inputs = ("time", "lost", "a", "b")

    def __init__(self, settings: dict[str, Any], streams: list[dict[str, Any]]) -> None:
        every = "every_s" in settings
        self._settings = GridAlign(**settings) if every else RowAlign(**settings)
        self._channels = [name for name in ("a", "b") if any(name in stream for stream in streams)]
        self._streams = len(streams)
        self._stage = align_stage(self._settings, len(self._channels))
        self._stage.grow(len(streams))

    def step(self, time_s: list[float], now: list[Cells]) -> list[dict[str, str]]:
        out = []
        for s, cells in enumerate(now):
            if cells.get("lost", NO) != NO:
                self._stage.interrupt(np.array([s], np.int32))
            said = [(c, cells[name]) for c, name in enumerate(self._channels) if cells[name] != NO]
            ids = np.full(len(said), s, np.int32), np.array([c for c, _ in said], np.int32)
            values = np.array([float("nan") if v == "end" else float(v) for _, v in said], np.float64)
            readings = Readings(*ids, np.full(len(said), time_s[s]), values, np.zeros(len(said), np.int32))
            rows, drops = self._stage.step(readings)
            assert (rows.stream == s).all()
            found = {"row": [f"{t:g}" for t in rows.time_s.tolist()]}
            found |= {f"row_{n}": [f"{v:g}" for v in rows.values[:, c]] for c, n in enumerate(self._channels)}
            found["refused"] = [reason.value for reason, n in drops.items() for _ in range(n)]
            out.append({name: "+".join(words) or NO for name, words in found.items()})
        return out

    def restarted(self) -> None:
        kept, self._stage = self._stage.state(self._streams), align_stage(self._settings, len(self._channels))
        self._stage.restore(kept)


class ThresholdColumns:
    """`score` of a window, x while there is none; `maintenance` x: the window touches some."""

    inputs = ("time", "score", "maintenance")

    def __init__(self, settings: dict[str, Any], streams: list[dict[str, Any]]) -> None:
        self._rows = settings.pop("windows_per_score", 1)
        said = {name: np.asarray(value) if isinstance(value, list) else value for name, value in settings.items()}
        self._calibration = calibration(1, **said)
        self._stage = Threshold(self._calibration)
        self._stage.grow(len(streams))
        for s, stream in enumerate(streams):
            offset = stream.get("offset")
            self._stage.begin(s, None if offset is None else known_stream(offset=offset))

    def step(self, time_s: list[float], now: list[Cells]) -> list[dict[str, str]]:
        streams = np.arange(len(now), dtype=np.int32)
        score = np.array([_number(cells["score"]) for cells in now])
        rests = np.array([cells.get("maintenance", NO) != NO for cells in now])
        limit = self._stage.step(streams, np.array(time_s), score, self._rows, rests)
        return [
            {"threshold": f"{limit[s]:.2f}", "exceeds": "x" if score[s] > limit[s] else NO} for s in range(len(now))
        ]

    def restarted(self) -> None:
        kept, self._stage = self._stage.state(), Threshold(self._calibration)
        self._stage.restore(kept)


class FlappingColumns:
    """`alert` as it is before this stage: . none, w warning, c critical; what it lets through is a `transition`."""

    inputs = ("time", "alert")

    def __init__(self, settings: dict[str, Any], streams: list[dict[str, Any]]) -> None:
        self._rule = FlapRule(**settings)
        self._stage = Flapping(self._rule)
        self._about = [(stream.get("name", f"p{s}"), stream.get("rule", "anomaly")) for s, stream in enumerate(streams)]
        self._channel = [stream.get("channel", "x") for stream in streams]
        self._open: list[Transition | None] = [None] * len(streams)

    def step(self, time_s: list[float], now: list[Cells]) -> list[dict[str, str]]:
        made = [t for s, cells in enumerate(now) for t in self._changes(s, time_s[s], cells["alert"])]
        present_s = {name: max(time_s[s] for s, other in enumerate(self._about) if other[0] == name)
                     for name, _ in self._about}  # fmt: skip
        words: list[list[str]] = [[] for _ in now]
        for t in self._stage.step(made, present_s.__getitem__):
            words[self._whose(t)].append(self._word(t, time_s[self._whose(t)]))
        stands = {self._whose(t) for t in self._stage.open()}
        return [{"transition": "+".join(w) or NO, "flaps": "x" if s in stands else NO} for s, w in enumerate(words)]

    def _changes(self, s: int, time_s: float, cell: str) -> list[Transition]:
        """What the stages before this one would say of an alert that is now as the cell shows it."""
        old, severity = self._open[s], {NO: "", "w": "warning", "c": "critical"}[cell]
        if severity == (old.severity if old else ""):
            return []
        sequence = old.sequence + 1 if old else 0
        onset_s = old.onset_s if old else time_s
        name, rule = self._about[s]
        new = Transition(
            id=f"{name}-{rule}-{self._channel[s]}-{onset_s:g}", sequence=sequence, instance="i", group="g", stream=name,
            labels={}, rule=rule, state="firing" if severity else "resolved",
            severity=severity or (old.severity if old else ""), onset_s=onset_s, time_s=time_s, window_start_s=onset_s,
            score=2.0, threshold=1.0, shares={self._channel[s]: 1.0}, model_digest="0",
        )  # fmt: skip
        self._open[s] = new if severity else None
        return [new]

    def _whose(self, t: Transition) -> int:
        same = [s for s, (name, _) in enumerate(self._about) if name == t.stream]
        exact = [s for s in same if t.rule == self._about[s][1] and t.worst_channel == self._channel[s]]
        return next(iter(exact or [s for s in same if t.worst_channel == self._channel[s]]))

    def _word(self, t: Transition, now_s: float) -> str:
        """How a transition stands in the column `transition`; with its time, where that is not the column's."""
        if t.rule == "flapping":
            word = "FLAPS" if t.state == "firing" else "calm"
        else:
            word = f"{t.severity[0]}{t.sequence}" if t.state == "firing" else "end"
        return word if t.time_s == now_s else f"{word}@{t.time_s:g}"

    def restarted(self) -> None:
        kept, self._stage = self._stage.state(), Flapping(self._rule)
        self._stage.restore(kept)


class SensorColumns:
    """A column is a second: the values that the channels `a` and `b` show, . nothing; nothing at all is a tick.

    `maintenance` x: the stream is worked on. Of a stream called `*` nothing comes in: it shows the group's own verdict.
    `longest_run` are the longest runs of equal values, by channel, that training saw; without it all is learnt.
    """

    inputs = ("time", "arrives", "a", "b", "maintenance")
    _RULES = ("stale", "stuck", "out_of_range")

    def __init__(self, settings: dict[str, Any], streams: list[dict[str, Any]]) -> None:
        self._apart = settings.pop("channels_apart", False)
        self._rule = SensorRule(**{name: None if value == "off" else value for name, value in settings.items()})
        self._streams = [-1 if stream.get("name") == "*" else s for s, stream in enumerate(streams)]
        self._channels = [name for name in ("a", "b") if any(name in stream for stream in streams)]
        self._size = len([s for s in self._streams if s >= 0])
        self._stage = self._made()
        self._stage.grow(self._size)
        for s, stream in enumerate(streams):
            if "longest_run" in stream:
                self._stage.begin(s, np.array(stream["longest_run"]), known=stream.get("known", True))

    def _made(self) -> Sensors:
        return Sensors(self._rule, self._channels, apart=self._apart)

    def step(self, time_s: list[float], now: list[Cells]) -> list[dict[str, str]]:
        rests = np.array([now[s].get("maintenance", NO) != NO for s in range(self._size)])
        said = [
            (s, c, time_s[s], float(now[s][name]), float(now[s].get("arrives", time_s[s])))
            for s in range(self._size)
            for c, name in enumerate(self._channels)
            if now[s].get(name, NO) != NO
        ]
        s, c, event_s, value, arrival_s = zip(*said, strict=True) if said else ((),) * 5
        stream = np.array(s, np.int32)
        readings = Readings(
            stream, np.array(c, np.int32), np.array(event_s, float), np.array(value, float),
            np.arange(len(said), dtype=np.int32), np.array(arrival_s, float),
        )  # fmt: skip
        found = self._stage.step(readings, rests[stream], rests, max(time_s))
        changes: dict[tuple[int, str], list[str]] = {}
        for f in found:
            name = f.rule + (f"_{self._channels[f.channel]}" if f.channel >= 0 else "")
            words = changes.setdefault((f.stream, name), [])
            words.append(f"since{f.onset_s:g}" if f.fires else f"end{f.time_s:g}")
        stands = {(s, self._called(rule, c)) for s, c, rule, _ in self._stage.open()}
        names = [self._called(rule, c) for rule in self._RULES for c in range(-1, len(self._channels))]
        return [
            {name: "x" if (s, name) in stands else NO for name in names}
            | {f"{name}_transition": "+".join(changes.get((s, name), [])) or NO for name in names}
            for s in self._streams
        ]

    def _called(self, rule: str, channel: int) -> str:
        return rule + (f"_{self._channels[channel]}" if channel >= 0 else "")

    def restarted(self) -> None:
        kept = self._stage.state(self._size)
        self._stage = self._made()
        self._stage.restore(kept)


STAGES: dict[str, Any] = {
    "alert": AlertColumns,
    "align": AlignColumns,
    "threshold": ThresholdColumns,
    "flapping": FlappingColumns,
    "sensors": SensorColumns,
}


class Scenario:
    """A file of columns: why it is so, what goes in by stream, and what is expected by stream, all split into cells."""

    def __init__(self, stage: str, text: str) -> None:
        scenario = tomllib.loads(text)
        self.stage, self.why = STAGES[stage], scenario["why"]
        self.settings, self.streams = scenario["settings"][stage], scenario["stream"]
        self.column_s = scenario.get("column_s", 1)
        cells = [{name: v.split() for name, v in one.items() if isinstance(v, str) and name not in _ABOUT}
                 for one in self.streams]  # fmt: skip
        self.fed = [{name: v for name, v in one.items() if name in self.stage.inputs} for one in cells]
        self.expected = [{name: v for name, v in one.items() if name not in self.stage.inputs} for one in cells]
        lengths = {len(v) for one in cells for v in one.values()}
        assert len(lengths) == 1, f"columns are of {sorted(lengths)} cells"
        (self.length,) = lengths
        assert any(self.expected), "a scenario expects something"

    def play(self, restart_at: int | None = None) -> list[dict[str, list[str]]]:
        """What each stream shows, of the names that are expected of it; once with a restart before that column."""
        stage = self.stage({**self.settings}, self.streams)
        shown: list[dict[str, list[str]]] = [{name: [] for name in one} for one in self.expected]
        for t in range(self.length):
            if t == restart_at:
                stage.restarted()
            now = [{name: v[t] for name, v in one.items()} for one in self.fed]
            time_s = [float(cells.get("time", t * self.column_s)) for cells in now]
            for column, seen in zip(shown, stage.step(time_s, now), strict=True):
                for name in column:
                    column[name].append(seen[name])
        return shown


_ABOUT = ("name", "rule", "channel")
