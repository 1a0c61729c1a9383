"""What the web may see: a picture of the state, made by the loop about once a second and never changed afterwards.

Health is judged when somebody asks, since a loop that hangs makes no new pictures: /healthz fails when the loop has
made no progress for `HANGS_AFTER_S` or a thread is dead; /readyz also when we are not connected and subscribed, when
nothing has arrived for `silent_after_s`, or when the store cannot be written.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from streamae.core.pipeline import Pipeline
from streamae.core.types import AlertState, Report
from streamae.daemon.loop import Loop
from streamae.metrics import Metrics
from streamae.sources.source import SourceStatus
from streamae.store.alerts import Alert
from streamae.store.store import Store
from streamae.web.app import Snapshot, StreamTable

__all__ = ["HANGS_AFTER_S", "DaemonView", "tables"]

HANGS_AFTER_S = 10.0


def tables(pipeline: Pipeline) -> dict[str, StreamTable]:
    """Return the streams of every group as they stand, in arrays of their own."""
    made = {}
    for name, lane in pipeline.lanes.items():
        S, latest = len(lane.streams), lane.latest
        made[name] = StreamTable(
            group=name,
            names=lane.streams.names[:S],
            channels=lane.profile.channels,
            score=latest.score[:S].copy(),
            threshold=latest.threshold[:S].copy(),
            state=latest.state[:S].copy(),
            worst=latest.worst[:S].copy(),
            time_s=latest.time_s[:S].copy(),
            learned=lane.scale.seen(S).copy(),
            warmup_rows=lane.scale.warmup_rows,
        )
    return made


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
        silent_after_s: float,
    ) -> None:
        self._loop, self._store, self._metrics = loop, store, metrics
        self._now, self._monotonic, self.silent_after_s = now, monotonic, silent_after_s
        self._snapshot = Snapshot(taken_s=now())
        self._counted = {"messages": 0, "rows": 0, "windows": 0, "dropped": 0}
        self._published_s = self._started_s = monotonic()
        self._status: SourceStatus | None = None
        self.dead_threads: Callable[[], Sequence[str]] = list

    def note(self, report: Report) -> None:
        """Count what a turn did, for the rates of the next picture."""
        self._counted["messages"] += report.messages
        self._counted["rows"] += report.rows
        self._counted["windows"] += report.windows
        self._counted["dropped"] += sum(report.drops.values())

    def publish(self) -> None:
        """Make a new picture."""
        passed_s = max(self._monotonic() - self._published_s, 1e-9)
        self._published_s += passed_s
        self._status = status = self._loop.source.status()
        made = tables(self._loop.pipeline)
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
            "firing": int((states == AlertState.FIRING).sum()),
            "uptime_s": round(self._monotonic() - self._started_s, 1),
            **rates,
        }
        self._snapshot = Snapshot(taken_s=self._now(), status=line, tables=made)

    def snapshot(self) -> Snapshot:
        """Return the newest picture, with today's judgement of health."""
        return replace(self._snapshot, unhealthy=self._unhealthy(), unready=self._unready())

    def _unhealthy(self) -> list[str]:
        reasons = [f"thread {name} is dead" for name in self.dead_threads()]
        stuck_s = self._monotonic() - self._loop.progress_s
        if stuck_s > HANGS_AFTER_S:
            reasons.append(f"the loop has made no progress for {stuck_s:.0f} s")
        return reasons

    def _unready(self) -> list[str]:
        status = self._loop.source.status()
        if status.fatal or not status.connected:
            return [f"not connected: {status.fatal or status.error or 'still connecting'}"]
        reasons = []
        if not status.subscribed:
            denied = ", ".join(status.denied)
            reasons.append(f"the broker denied the subscription of {denied}" if denied else "not subscribed yet")
        age_s = status.last_message_age_s
        silent_s = self._monotonic() - self._started_s if age_s is None else age_s
        if silent_s > self.silent_after_s:
            reasons.append(f"connected, but no message has arrived for {silent_s:.0f} s")
        if not self._loop.writable:
            reasons.append("the state directory cannot be written: intake is paused")
        return reasons

    def metrics(self) -> bytes:
        """Return the text of /metrics, with what is measured at the moment of asking."""
        status = self._loop.source.status()
        self._metrics.observe_source(status.connected, status.subscribed, status.last_message_age_s, status.waiting)
        return self._metrics.render()

    def alerts(self, state: str | None, limit: int) -> Sequence[Mapping[str, Any]]:
        """Return alerts, newest first."""
        found = self._store.alerts.open(limit) if state == "firing" else self._store.alerts.history(limit)
        return [_alert(one) for one in found if state in (None, one.transition.state)]

    def act(self, alert_id: str, action: str, note: str) -> bool:
        """Acknowledge an alert, or mark it as false alarm; False where there is none of this id."""
        if action == "false-alarm":
            return self._store.alerts.give_feedback(alert_id, "false-alarm")
        return self._store.alerts.acknowledge(alert_id, "page", self._now(), note or None)


def _alert(alert: Alert) -> dict[str, Any]:
    said = asdict(alert)
    transition = said.pop("transition")
    return {**transition, "worst_channel": alert.transition.worst_channel, **said}
