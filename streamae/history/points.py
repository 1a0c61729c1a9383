"""What databases answer -> series of streams: points with labels, joined into rows by time.

A query gives a channel. Its answer is a list of `Points`, each with labels; the labels name the stream by a template
such as `{line}/{pump}`, and the channel too where the query's name has a label in braces. The rows of a stream stand at
every time at which one of its channels has a value; what is missing there is NaN, for who reads to judge.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from streamae.core.types import F64
from streamae.errors import SeriesError
from streamae.history.series import Series

__all__ = ["Ask", "Points", "gather"]

_LABEL = re.compile(r"\{([^{}]*)\}")


@dataclass(frozen=True, slots=True, eq=False)
class Points:
    """One series of an answer: `values[N]` at `time_s[N]`, increasing, and the labels that distinguish it."""

    labels: Mapping[str, str]
    time_s: F64
    values: F64


Ask = Callable[[str, float, float], Sequence[Points]]
"""`ask(query, start_s, end_s)`: the answer to a query over a span of time."""


@dataclass(slots=True)
class _Column:
    labels: Mapping[str, str]
    time_s: list[F64] = field(default_factory=list)
    values: list[F64] = field(default_factory=list)


def gather(
    ask: Ask,
    queries: Mapping[str, str],
    stream: str,
    spans: Sequence[tuple[float, float]],
    asked: Callable[[int, int], object] = lambda done, total: None,
) -> list[Series]:
    """Ask every query over every span, in the order of time, and join the answers.

    `queries` maps a channel, which may be a template, to its query; `stream` is the template of a stream's name;
    `asked(done, total)` reports progress. Raises SeriesError where labels do not distinguish streams and channels, or
    nothing was found.
    """
    columns: dict[str, dict[str, _Column]] = {}
    order: dict[str, None] = {}
    total = len(queries) * len(spans)
    for n, (name, query) in enumerate(queries.items()):
        for m, (start_s, end_s) in enumerate(spans):
            taken: dict[tuple[str, str], Points] = {}
            for points in ask(query, start_s, end_s):
                key = _named(stream, points.labels, "stream", query), _named(name, points.labels, "channel", query)
                _refuse_twins(key, taken, points, query)
                order[key[1]] = None
                column = columns.setdefault(key[0], {}).setdefault(key[1], _Column(points.labels))
                column.time_s.append(points.time_s)
                column.values.append(points.values)
            asked(n * len(spans) + m + 1, total)
    if not columns:
        raise SeriesError(f"sources: no points for {' | '.join(queries.values())}; check query, start and end")
    return [_series(name, list(order), found) for name, found in sorted(columns.items())]


def _named(template: str, labels: Mapping[str, str], what: str, query: str) -> str:
    missing = [label for label in _LABEL.findall(template) if label not in labels]
    if missing:
        has = ", ".join(labels) or "none"
        raise SeriesError(
            f"sources: {what}: got {template}; an answer to {query} has no label {missing[0]} (its labels: {has}): "
            "keep the label in the query, such as by avg by (…), or name another"
        )
    return _LABEL.sub(lambda match: labels[match[1]], template)


def _refuse_twins(key: tuple[str, str], taken: dict[tuple[str, str], Points], points: Points, query: str) -> None:
    if key in taken:
        both = (f"{{{', '.join(f'{k}={v}' for k, v in one.labels.items())}}}" for one in (taken[key], points))
        raise SeriesError(
            f"sources: two series are channel {key[1]} of stream {key[0]}: {' and '.join(both)}; aggregate them in the "
            f"query, or name the stream by a label in which they differ. The query: {query}"
        )
    taken[key] = points


def _series(name: str, channels: Sequence[str], found: Mapping[str, _Column]) -> Series:
    joined = {c: (np.concatenate(x.time_s), np.concatenate(x.values)) for c, x in found.items()}
    time_s = _union(times for times, _ in joined.values())
    values = np.full((len(time_s), len(channels)), np.nan)
    for c, channel in enumerate(channels):
        if channel in joined:
            times, column = joined[channel]
            values[np.searchsorted(time_s, times), c] = np.where(np.isfinite(column), column, np.nan)
    some = np.isfinite(values).any(axis=1)  # where the database says nothing but NaN, there is no row
    time_s, values = time_s[some], values[some]
    return Series(name, tuple(channels), time_s, _texts(time_s), values)


def _union(times: Iterable[F64]) -> F64:
    return np.unique(np.concatenate(list(times)))


def _texts(time_s: F64) -> list[str]:
    moments = np.round(time_s * 1000).astype(np.int64).astype("datetime64[ms]")
    return [f"{text}Z" for text in np.datetime_as_string(moments)]
