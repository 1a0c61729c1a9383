"""A fleet that exists only as a View, for tests of the page: as many streams as wanted, and alerts to open."""

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from fnmatch import fnmatchcase
from typing import Any

import numpy as np

from streamae.core.topics import Template
from streamae.core.types import AlertState, StreamChange
from streamae.errors import UnavailableError
from streamae.web.app import SilenceWanted, Snapshot, StreamTable

XSS = '"><img src=x onerror="window.hacked=1"><script>window.hacked=1</script>'
CHANNELS = ["flow", "pressure", "current", "temperature"]
TIME_S = 1_790_000_000.0
TEMPLATE = Template.parse("{line}/{pump}")
JOURNAL_S = TIME_S - 6 * 3600.0  # when the journal begins
SLOTS = 60


def attention(anomalies: int, marks: Mapping[int, Sequence[str]]) -> dict[str, int]:
    """What the daemon's status says of what needs a person."""
    every = [mark for some in marks.values() for mark in some]
    quarantined = every.count("quarantined")
    sensors = sum(mark.partition(":")[0] in ("stale", "stuck", "out of range", "flapping") for mark in every)
    kinds = {"anomalies": anomalies, "sensor_faults": sensors, "quarantined": quarantined}
    return {"firing": sum(kinds.values()), **kinds, "unjudged": 0, "broken_models": 0, "poison": 0}


class Fleet:
    """Implements `View` over made-up numbers; `tick` publishes the next picture, `fire` opens an alert."""

    def __init__(self, streams: int = 40, *, learning: int = 2, filling: int = 0, xss: bool = False) -> None:
        self.names = [f"line{1 + i % 4}/pump{i:04d}" for i in range(streams)] + [XSS] * xss
        n = len(self.names)
        self._rng = np.random.default_rng(7)
        base = self._rng.uniform(0.15, 0.7, n)
        self._spark = np.abs(base[:, None] + self._rng.normal(0, 0.06, (n, SLOTS))).astype(np.float32)
        self._score = self._spark[:, -1].astype(np.float64)
        self._state = np.zeros(n, np.int8)
        self._worst = self._rng.integers(0, len(CHANNELS), n).astype(np.int32)
        if learning:
            last = np.arange(n - xss - learning, n - xss)
            self._state[last], self._score[last], self._spark[last], self._worst[last] = -1, np.nan, np.nan, -1
        if filling:
            first = slice(0, filling)
            self._state[first], self._score[first], self._spark[first], self._worst[first] = -2, np.nan, np.nan, -1
        self._alerts: list[dict[str, Any]] = []
        self.acts: list[tuple[str, str, str]] = []
        self.marks: dict[int, list[str]] = {}
        self.changes: list[tuple[StreamChange, float | None]] = []
        self.pasts: list[tuple[float, float]] = []  # that were asked for
        self.busy = 0  # so many questions for a past are put off
        self.reasons: list[str] = []
        self.conditions: list[dict[str, Any]] = []
        self.sinks: list[dict[str, Any]] = []
        self._silences: list[Mapping[str, Any]] = []
        self._lock = threading.Lock()
        self._ticks = self._version = 0
        self.tick()

    def tick(self, seconds: int = 1) -> None:
        """Let time pass, and publish."""
        with self._lock:
            for _ in range(seconds):
                self._ticks += 1
                moved = np.abs(self._score + self._rng.normal(0, 0.02, len(self.names)))
                calm = self._state == AlertState.INACTIVE
                self._score = np.where(calm, np.clip(moved, 0.05, 0.9), moved)
                self._spark = np.roll(self._spark, -1, axis=1)
                self._spark[:, -1] = self._score
            learned = np.full(len(self.names), 300)
            learned[self._state == AlertState.LEARNING] = 120 + self._ticks
            rows = np.where(self._state == AlertState.FILLING, 9, learned)
            needed = np.where(self._state == AlertState.FILLING, 16, 316)
            eta_s = np.where(self._state < 0, (needed - rows) * 480.0, np.nan)
            n = len(self.names)
            table = StreamTable(
                "pumps", list(self.names), CHANNELS, self._score.copy(), np.ones(n), self._state.copy(),
                self._worst.copy(), np.full(n, TIME_S + self._ticks), learned, 300, self._spark.copy(), 1.0,
                template=TEMPLATE, marks=self.marks, rows=rows, needed=needed, eta_s=eta_s,
            )  # fmt: skip
            status = {
                "connected": True, "messages_per_s": 5.0 * n, "windows_per_s": 5.0 * n, "streams": n, "lag_s": 0.012,
                "dropped": 3, "dropped_per_s": 0.0, "learning": int((self._state == AlertState.LEARNING).sum()),
                "filling": int((self._state == AlertState.FILLING).sum()),
                "sinks": self.sinks, **attention(int((self._state == AlertState.FIRING).sum()), self.marks),
            }  # fmt: skip
            self._snapshot = Snapshot(
                TIME_S + self._ticks, (), self.reasons, status, {"pumps": table}, self._ticks, self.conditions
            )

    def fire(self, stream: str, score: float = 6.5) -> str:
        """Open an alert of a stream; returns its id."""
        i = self.names.index(stream)
        with self._lock:
            self._score[i], self._state[i], self._worst[i] = score, AlertState.FIRING, 1
            number = len(self._alerts)
            self._alerts.insert(0, {
                "id": f"alert{number}", "state": "firing", "severity": "critical" if score > 2 else "warning",
                "group": "pumps", "stream": stream, "onset_s": TIME_S + self._ticks, "time_s": TIME_S + self._ticks,
                "closed_s": None, "score": score, "threshold": 1.0, "worst_channel": "pressure",
                "shares": {"flow": 0.1, "pressure": 0.8, "current": 0.06, "temperature": 0.04},
                "acknowledged_s": None, "acknowledged_by": None, "note": None, "feedback": None, "rule": "anomaly",
                "peak_score": score, "silence": None,
            })  # fmt: skip
            self._version += 1
        self.tick()
        return f"alert{number}"

    def resolve(self, alert_id: str) -> None:
        """Close an alert."""
        with self._lock:
            alert = next(a for a in self._alerts if a["id"] == alert_id)
            alert["state"], alert["closed_s"] = "resolved", alert["onset_s"] + 42
            i = self.names.index(alert["stream"])
            self._score[i], self._state[i] = 0.4, AlertState.INACTIVE
            self._version += 1
        self.tick()

    def snapshot(self) -> Snapshot:
        return self._snapshot

    def metrics(self) -> bytes:
        return b""

    def alerts_version(self) -> int:
        return self._version

    def alerts(
        self, state: str | None, limit: int, group: str | None = None, stream: str | None = None
    ) -> Sequence[Mapping[str, Any]]:
        with self._lock:
            return [dict(a) for a in self._alerts if state in (None, a["state"]) and stream in (None, a["stream"])][
                :limit
            ]

    def detail(self, group: str, stream: str, rows: int) -> Mapping[str, Any] | None:
        if stream not in self.names:
            return None
        if self._state[self.names.index(stream)] < 0:
            return self._picture(stream, np.zeros(0))
        return self._picture(stream, TIME_S + self._ticks - 0.2 * np.arange(min(rows, 512))[::-1])

    def past(self, group: str, stream: str, from_s: float, until_s: float, points: int) -> Mapping[str, Any] | None:
        if stream not in self.names:
            return None
        self.pasts.append((from_s, until_s))
        if self.busy:
            self.busy -= 1
            raise UnavailableError("the journal is being read for other pages; ask again in a second")
        first, last = max(from_s, JOURNAL_S), min(until_s, TIME_S + self._ticks)
        step_s = max(0.2, (until_s - first) / points)
        extent = {"whole": until_s - first < 7200, "pieces": 12, "scored_every": 3}
        read = {"journal_from_s": JOURNAL_S, "from_s": first, **extent}
        points = {"point_s": step_s if step_s > 0.2 else None}
        return {"history": self._picture(stream, np.arange(first, max(last, first), step_s)) | points, "read": read}

    def _picture(self, stream: str, time_s: Any) -> dict[str, Any]:
        n = len(time_s)
        firing = self._state[self.names.index(stream)] == AlertState.FIRING
        faulty = (time_s > TIME_S + self._ticks - 20) & firing
        lines = []
        for c, name in enumerate(CHANNELS):
            truth = 10 * (c + 1) + 3 * np.sin(time_s / (4 + 3 * c)) + np.sin(time_s / 1.7)
            noise = np.random.default_rng(c).normal(0, 0.15, n)
            measured = truth + noise + (5 * faulty if c == 1 else 0)
            ahead = np.full(n, np.nan)
            ahead[-8:] = truth[-8:]
            rebuilt = np.where(np.arange(n) < n - 8, truth, np.nan)
            lines.append({
                "name": name, "target": True, "share": [0.1, 0.8, 0.06, 0.04][c], "values": measured.round(4).tolist(),
                "reconstruction": rebuilt.tolist(), "forecast": ahead.tolist(),
            })  # fmt: skip
        score = np.where(faulty, 6.5, 0.45 + 0.1 * np.sin(time_s / 9))
        verdicts = {"time_s": time_s.tolist(), "score": score.tolist(), "threshold": np.ones(n).tolist()}
        return {"time_s": time_s.tolist(), "channels": lines, "verdicts": verdicts, "window_rows": 16, "point_s": None}

    def models(self) -> Sequence[Mapping[str, Any]]:
        steps = np.arange(0, 1500, 50)
        return [{
            "group": "pumps", "file": "pumps.pt", "sha256": "9c1e" * 16, "streams": self.names[:20],
            "channels": CHANNELS, "targets": CHANNELS, "context": [], "period_s": 0.2, "warmup_rows": 300,
            "network": {
                "window": 64, "residuals": [[16, 8], [64, 12]], "energies": [[16, 8]], "prototypes": [[32, 64]],
                "recurrent": {"task": "composite", "cell": "lstm", "hidden": 16, "window": 16, "horizon": 2},
            },
            "calibration": {"kind": "mahalanobis", "threshold": 3.2, "budget_per_s": 1 / 604800},
            "false_alarms_per_s": 1 / 604800, "thresholds": {"lowest": 0.93, "median": 1.04, "highest": 2.2},
            "versions": {"streamae": "0.1.0", "torch": "2.13.0"},
            "training": {
                "trained_s": TIME_S, "duration_s": 14.2, "rows": dict.fromkeys(self.names[:20], 3600), "windows": 53700,
                "calibrated_windows": 17700, "seed": 0, "best_step": 1250,
                "losses": [[int(s), 0.05 + float(np.exp(-s / 300))] for s in steps],
            },
        }]  # fmt: skip

    def act(self, alert_id: str, action: str, note: str) -> bool:
        with self._lock:
            found = [a for a in self._alerts if a["id"] == alert_id]
            for alert in found:
                self.acts.append((alert_id, action, note))
                if action == "acknowledge":
                    alert["acknowledged_s"], alert["note"] = TIME_S + self._ticks, note or None
                else:
                    alert["feedback"] = None if action == "withdraw-feedback" else action
            self._version += 1
        return bool(found)

    def now_s(self) -> float:
        return time.time()

    def change(self, wanted: StreamChange, since_s: float | None) -> str:
        if wanted.stream not in self.names:
            return "there is no such stream"
        self.changes.append((wanted, since_s))
        with self._lock:
            if wanted.kind == "rename":
                self.names[self.names.index(wanted.stream)] = wanted.name
        self.tick()
        return ""

    def silences(self) -> Sequence[Mapping[str, Any]]:
        return self._silences

    def silence_of(self, group: str, stream: str) -> Mapping[str, Any] | None:
        found = [s for s in self._silences if s["state"] == "active" and fnmatchcase(stream, s["stream"])]
        return found[0] if found else None

    def silence(self, wanted: SilenceWanted) -> Mapping[str, Any]:
        with self._lock:
            made = {"id": len(self._silences) + 1, "state": "active", "created_s": wanted.starts_s, **asdict(wanted)}
            self._silences = [*self._silences, made]
        self._mark()
        return made

    def end_silence(self, number: int) -> bool:
        with self._lock:
            self._silences = [s if s["id"] != number else {**s, "state": "expired"} for s in self._silences]
        self._mark()
        return True

    def _mark(self) -> None:
        for alert in self._alerts:
            alert["silence"] = self.silence_of(alert["group"], alert["stream"])
        self._version += 1
        self.tick()

    def dead_letters(self, limit: int) -> Sequence[Mapping[str, Any]]:
        return []

    def retry(self, sink: str) -> bool:
        return False

    def poison(self) -> Sequence[Mapping[str, Any]]:
        return []

    def feedback(self, limit: int) -> Sequence[Mapping[str, Any]]:
        return []
