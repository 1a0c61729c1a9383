"""What began or ended, in arrays -> transitions: the objects that the store keeps and the sinks deliver."""

import hashlib
from collections.abc import Sequence

import numpy as np

from streamae.core.alert import SEVERITIES, Changes
from streamae.core.latest import Latest
from streamae.core.profile import Profile
from streamae.core.report import Transition
from streamae.core.routes import Streams
from streamae.core.sensors.stage import Finding
from streamae.core.threshold import Holding
from streamae.core.types import AlertState, Verdicts

__all__ = ["ANOMALY", "Transitions", "alert_id", "limit_text"]

ANOMALY = "anomaly"
_NAMED_MAX = 5  # streams in one line of the log


def alert_id(instance: str, group: str, stream: str, rule: str, onset_s: float) -> str:
    """Return the id of an alert: the same after a replay and on another machine, never from the wall clock."""
    text = "\0".join((instance, group, stream, rule, f"{onset_s:.6f}"))
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def limit_text(holding: Holding | None) -> str:
    """Say which limit an alarm is beyond where that is not the threshold of the score; else nothing."""
    if holding is None or not holding.windows:
        return ""
    return f"the average of the score over {holding.windows} windows is {holding.over:.3g} times its limit"


class Transitions:
    """Makes the transitions of one group."""

    def __init__(self, instance: str, group: str, streams: Streams, profile: Profile) -> None:
        self.instance, self.group = instance, group
        self.streams, self.profile = streams, profile

    def anomaly(self, v: Verdicts, b: int, changes: Changes, n: int, holding: Holding | None) -> Transition:
        """Return the n-th change of an alert, which came with verdict b; `holding`: what its stream is beyond."""
        stream = int(v.stream[b])
        name, onset_s = self.streams.names[stream], float(changes.onset_s[n])
        return Transition(
            id=alert_id(self.instance, self.group, name, ANOMALY, onset_s),
            sequence=int(changes.sequence[n]),
            instance=self.instance,
            group=self.group,
            stream=name,
            labels=self.streams.labels(stream),
            rule=ANOMALY,
            state="firing" if changes.state[n] == AlertState.FIRING else "resolved",
            severity=SEVERITIES[changes.severity[n]],
            onset_s=onset_s,
            time_s=float(v.time_s[b]),
            window_start_s=float(v.start_s[b]),
            score=float(v.score[b]),
            threshold=float(v.own[b]),
            shares={c: round(float(x), 4) for c, x in zip(self.profile.channels, v.share[b], strict=True)},
            model_digest=self.profile.digest,
            peak_score=float(changes.peak[n]),
            limit=limit_text(holding),
        )

    def ended(self, stream: int, alert: tuple[str, int, float, float], latest: Latest) -> Transition:
        """Return the end of an alert by a change of its stream: `alert` is what `Alerts.end` returned."""
        severity, sequence, onset_s, peak = alert
        end_s = float(np.fmax(onset_s, latest.row_s[stream]))
        score = float(latest.score[stream]) if np.isfinite(latest.score[stream]) else peak
        threshold = float(latest.threshold[stream]) if np.isfinite(latest.threshold[stream]) else 1.0
        return Transition(
            id=self.anomaly_id(stream, onset_s),
            sequence=sequence,
            instance=self.instance,
            group=self.group,
            stream=self._name(stream),
            labels=self.streams.labels(stream),
            rule=ANOMALY,
            state="resolved",
            severity=severity,
            onset_s=onset_s,
            time_s=end_s,
            window_start_s=onset_s,
            score=score,
            threshold=threshold,
            shares={},
            model_digest=self.profile.digest,
            peak_score=peak,
        )

    def finding(self, f: Finding) -> Transition:
        """Return a verdict on a sensor; one on the whole group has the stream `*`."""
        channel = self.profile.channels[f.channel] if f.channel >= 0 else ""
        return Transition(
            id=self.finding_id(f.stream, f.channel, f.rule, f.onset_s),
            sequence=0 if f.fires else 1,
            instance=self.instance,
            group=self.group,
            stream=self._name(f.stream),
            labels=self.streams.labels(f.stream) if f.stream >= 0 else {},
            rule=f.rule,
            state="firing" if f.fires else "resolved",
            severity="warning",
            onset_s=f.onset_s,
            time_s=f.time_s,
            window_start_s=f.onset_s,
            score=f.score,
            threshold=f.threshold,
            shares={channel: 1.0} if channel else {},
            model_digest=self.profile.digest,
            peak_score=f.score,
        )

    def anomaly_id(self, stream: int, onset_s: float) -> str:
        """Return the id of the alert of a stream that began then."""
        return alert_id(self.instance, self.group, self._name(stream), ANOMALY, onset_s)

    def finding_id(self, stream: int, channel: int, rule: str, onset_s: float) -> str:
        """Return the id of a verdict on a sensor: each channel has its own."""
        what = f"{rule}:{self.profile.channels[channel]}" if channel >= 0 else rule
        return alert_id(self.instance, self.group, self._name(stream), what, onset_s)

    def notice(self, streams: Sequence[int], words: str) -> str:
        """Return a line of the log about streams, of which it names a few."""
        names = ", ".join(self.streams.names[s] for s in streams[:_NAMED_MAX])
        more = f" and {len(streams) - _NAMED_MAX} more" if len(streams) > _NAMED_MAX else ""
        return f"group {self.group}: {names}{more}: {words}"

    def _name(self, stream: int) -> str:
        return self.streams.names[stream] if stream >= 0 else "*"
