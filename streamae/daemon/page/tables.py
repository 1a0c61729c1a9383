"""The streams of every group as the page lists them: copies, so that the loop can go on."""

from collections.abc import Mapping

import numpy as np

from streamae.core.blind import unfit
from streamae.core.groups import Groups
from streamae.core.pipeline import Pipeline
from streamae.core.takeover import progress, unjudged
from streamae.core.types import I8, AlertState
from streamae.core.unjudged import REASONS, unjudged_reasons, unjudged_streams
from streamae.daemon.page.memory import GroupHistory
from streamae.web.answers import LimitAnswer, UnjudgedAnswer
from streamae.web.app import StreamTable

__all__ = ["attention", "tables"]


def tables(
    groups: Groups,
    histories: Mapping[str, GroupHistory] | None = None,
    monotonic_s: float = 0.0,
    now_s: float = -np.inf,
) -> dict[str, StreamTable]:
    """Return the streams of every group as they stand at `now_s`, in arrays of their own."""
    made = {}
    histories = histories or {}
    for name, pipeline in groups.pipelines.items():
        S, latest, history = len(pipeline.streams), pipeline.latest, histories.get(name)
        now, marks = progress(pipeline), pipeline.marks(now_s)
        for stream, word in unjudged(pipeline).items():
            marks.setdefault(stream, []).append(word)  # else nobody sees why its alert does not end
        for stream, words in unfit(pipeline):
            marks.setdefault(stream, []).append(words)
        made[name] = StreamTable(
            group=name,
            names=pipeline.streams.names[:S],
            channels=pipeline.profile.channels,
            score=latest.score[:S].copy(),
            threshold=latest.threshold[:S].copy(),
            state=now.state,
            worst=latest.worst[:S].copy(),
            time_s=latest.time_s[:S].copy(),
            learned=pipeline.scale.seen(S).astype(np.int64),
            warmup_rows=pipeline.scale.warmup_rows,
            marks=marks,
            template=pipeline.streams.parsed,
            spark=None if history is None else history.spark(monotonic_s),
            slot_s=1.0 if history is None else history.slot_s,
            rows=now.rows,
            needed=now.needed,
            eta_s=None if history is None else history.cadence.eta_s(pipeline, now),
            broken=pipeline.broken,
            group_marks=[rule.replace("_", " ") for stream, _, rule, _ in pipeline.health.open() if stream < 0],
            ratio=latest.ratio[:S].copy(),
            unjudged=_unjudged(pipeline),
            limits=_limits(pipeline, now.state),
        )
    return made


def attention(pipelines: Mapping[str, Pipeline], unjudged: int, poison: int) -> dict[str, int]:
    """How much needs a person now: `firing` counts each once, the others count its kinds.

    Of the `unjudged` streams are those in quarantine, and all of a group whose model is broken.
    """
    kinds = {
        "anomalies": sum(len(one.alerts.firing(len(one.streams))) for one in pipelines.values()),
        "sensor_faults": sum(len(one.verdicts()) for one in pipelines.values()),
        "quarantined": sum(len(one.quarantine.held(len(one.streams))) for one in pipelines.values()),
        "broken_models": sum(bool(one.broken) for one in pipelines.values()),
        "poison": poison,
    }
    apart = [unjudged_reasons(one) for one in pipelines.values() if not one.broken]
    others = sum(int(np.isin(found, _OTHERS).sum()) for found in apart)
    return {"firing": sum(kinds.values()) + others, **kinds, "unjudged": unjudged}


_OTHERS = [REASONS.index(reason) for reason in REASONS if reason not in ("quarantined", "model_broken")]


def _unjudged(pipeline: Pipeline) -> dict[int, UnjudgedAnswer]:
    return {
        stream: {"since_s": _known(one.since_s), "reason": one.reason, "words": one.words}
        for stream, one in unjudged_streams(pipeline).items()
    }


def _limits(pipeline: Pipeline, state: I8) -> dict[int, LimitAnswer]:
    """Return what the streams whose alert is pending or fires are beyond."""
    row_s, found = pipeline.profile.period_s * pipeline.group.stride, {}
    for stream in np.flatnonzero(state >= AlertState.PENDING).tolist():
        if (one := pipeline.threshold.holding(stream)) is not None:
            ends_s = one.left * row_s + pipeline.group.alert.keep_firing_for_s
            found[stream] = LimitAnswer(
                windows=one.windows,
                over=float(f"{one.over:.4g}"),
                since_s=_known(one.since_s),
                ends_s=float(f"{ends_s:.3g}"),
            )
    return found


def _known(value: float) -> float | None:
    return value if np.isfinite(value) else None
