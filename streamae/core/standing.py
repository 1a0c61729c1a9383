"""What stands in a group now: alerts and verdicts on sensors by their ids and rules, and what marks a stream."""

from collections import defaultdict

import numpy as np

from streamae.core.flapping import FLAPPING
from streamae.core.pipeline import Pipeline

__all__ = ["QUARANTINED", "firing_ids", "standing_rules", "stream_marks"]

QUARANTINED = "quarantined"


def firing_ids(pipeline: Pipeline) -> list[str]:
    """Return the ids of the alerts and of the verdicts on sensors that fire now."""
    firing = pipeline.alerts.firing(len(pipeline.streams))
    pairs = zip(firing.tolist(), pipeline.alerts.onset_s(firing).tolist(), strict=True)
    alerts = [pipeline.transitions.anomaly_id(*pair) for pair in pairs]
    verdicts = [pipeline.transitions.finding_id(*one) for one in pipeline.health.open()]
    return alerts + verdicts + [t.id for t in pipeline.flapping.open()]


def standing_rules(pipeline: Pipeline) -> list[str]:
    """Return the rule of each verdict on a sensor that stands, and of each alert that flaps."""
    return [rule for _, _, rule, _ in pipeline.health.open()] + [t.rule for t in pipeline.flapping.open()]


def stream_marks(pipeline: Pipeline, now_s: float = -np.inf) -> dict[int, list[str]]:
    """Return what is special about some streams now, apart from the state of their alert, in words."""
    found: defaultdict[int, list[str]] = defaultdict(list)
    for stream in np.flatnonzero(pipeline.maintenance.now(now_s)).tolist():
        found[stream].append("maintenance")
    for stream in pipeline.quarantine.held(len(pipeline.streams)).tolist():
        found[stream].append(QUARANTINED)
    for stream, channel, rule, _ in pipeline.health.open():
        if stream >= 0:
            words = rule.replace("_", " ")
            found[stream].append(f"{words}: {pipeline.profile.channels[channel]}" if channel >= 0 else words)
    for verdict in pipeline.flapping.open():
        of_verdict = pipeline.streams.index(verdict.stream)
        if of_verdict is not None:
            found[of_verdict].append(FLAPPING)
    return dict(found)
