"""A transition's JSON form: the one that webhooks and MQTT subscribers get.

Pure ASCII, so that no name can break a receiver; null where a number is not finite, since JSON has no NaN; times both
as seconds since 1970 and as RFC 3339 in UTC. A reminder of what fires still has the `id` and `sequence` of what it
repeats, a number in `repeat` (0 in the first notification), and a `key` of its own. `version` grows only when a
field changes its meaning or goes.
"""

import hashlib
import json
import math
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from streamae.core.report import Transition
from streamae.sinks.texts import link, summary

__all__ = ["batch_key", "counts", "document", "encode", "rfc3339", "worst"]

VERSION = 1
_YEAR_10000_S = 253_402_300_800.0


def document(transition: Transition, page: str = "") -> dict[str, Any]:
    """The transition as JSON values; `url` is where the `page` shows it, null where nobody has said where that is."""
    return {
        "version": VERSION,
        "key": transition.notice_key,
        "id": transition.id,
        "sequence": transition.sequence,
        "state": transition.state,
        "repeat": transition.repeat,
        "severity": transition.severity,
        "rule": transition.rule,
        "instance": transition.instance,
        "group": transition.group,
        "stream": transition.stream,
        "labels": dict(transition.labels),
        "onset": rfc3339(transition.onset_s),
        "onset_s": _finite(transition.onset_s),
        "time": rfc3339(transition.time_s),
        "time_s": _finite(transition.time_s),
        "window_start_s": _finite(transition.window_start_s),
        "score": _finite(transition.score),
        "threshold": _finite(transition.threshold),
        "limit": transition.limit,
        "peak_score": None if transition.peak_score is None else _finite(transition.peak_score),
        "worst_channel": transition.worst_channel,
        "shares": {channel: _finite(share) for channel, share in transition.shares.items()},
        "model_digest": transition.model_digest,
        "summary": summary(transition),
        "url": link(page, transition) or None,
    }


def encode(value: Any) -> bytes:
    """JSON as bytes, in ASCII."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False).encode("ascii")


def worst(transitions: Sequence[Transition], most: int) -> list[Transition]:
    """At most so many of them: what fires before what is resolved, critical first, the highest over its threshold."""

    def badness(one: Transition) -> tuple[int, float]:
        ratio = one.score / one.threshold if one.threshold else one.score
        return 0 if one.state == "resolved" else 2 if one.severity == "critical" else 1, ratio

    return sorted(transitions, key=badness, reverse=True)[:most]


def counts(transitions: Sequence[Transition]) -> Counter[tuple[str, str]]:
    """How many there are of each group and state."""
    return Counter((one.group, one.state) for one in transitions)


def rfc3339(time_s: float) -> str | None:
    """A time in UTC to the millisecond; None outside the years 1 to 9999."""
    if not -62_135_596_800.0 <= time_s < _YEAR_10000_S:
        return None
    return datetime.fromtimestamp(time_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def batch_key(transitions: Sequence[Transition]) -> str:
    """The idempotency key of what one request carries: the transition's own, or a hash over those of all of them."""
    keys = [transition.notice_key for transition in transitions]
    return keys[0] if len(keys) == 1 else hashlib.sha256("\n".join(keys).encode()).hexdigest()


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
