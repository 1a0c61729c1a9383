"""Points from Prometheus, VictoriaMetrics and what else speaks their API: `query_range`, in parts of 10,000 steps.

The API evaluates an expression at start, start + step, … end, and refuses more than 11,000 of them; the parts join
without a seam or an overlap, because each begins one step after the last one ended. Values are text: NaN and
infinities are missing values. A series that went stale has no points, but for the lookback of an instant vector (five
minutes by default), in which its last value is repeated: `last_over_time(x[10s])` looks back for its range only.

Source: https://prometheus.io/docs/prometheus/latest/querying/api/ (range queries, format overview).
"""

from collections.abc import Iterator, Sequence

import numpy as np

from streamae.errors import ConfigError, UnavailableError
from streamae.history.points import Points
from streamae.history.query import Server

__all__ = ["range_query", "spans"]

_STEPS = 10_000


def spans(start_s: float, end_s: float, step_s: float) -> list[tuple[float, float]]:
    """Split start..end, both inclusive and on the grid of `step_s`, into parts that the API accepts."""
    return list(_spans(np.ceil(start_s / step_s) * step_s, end_s, step_s))


def _spans(start_s: float, end_s: float, step_s: float) -> Iterator[tuple[float, float]]:
    while start_s <= end_s:
        last_s = min(start_s + (_STEPS - 1) * step_s, end_s)
        yield start_s, last_s
        start_s += _STEPS * step_s


def range_query(server: Server, query: str, start_s: float, end_s: float, step_s: float) -> Sequence[Points]:
    """Evaluate `query` at start, start + step, … end."""
    form = {"query": query, "start": f"{start_s:.3f}", "end": f"{end_s:.3f}", "step": f"{step_s:.3f}"}
    answer = server.ask_json("/api/v1/query_range", form, query)
    try:
        if answer["status"] != "success":
            raise UnavailableError(f"{server.name}: {answer.get('errorType')}: {answer.get('error')}; query: {query}")
        if answer["data"]["resultType"] != "matrix":
            raise ConfigError(f"{server.name}: the answer is no matrix; query: {query}")
        return [_points(one) for one in answer["data"]["result"] if one.get("values")]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        message = f"{server.name}: answers otherwise than Prometheus does ({error}); check sources: url"
        raise ConfigError(message) from error


def _points(one: dict) -> Points:  # type: ignore[type-arg]  # JSON
    pairs = np.array(one["values"], dtype="U32")
    return Points(one["metric"], pairs[:, 0].astype(np.float64), pairs[:, 1].astype(np.float64))
