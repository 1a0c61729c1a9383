"""Series from the databases of train.yaml: to learn from (`train`), or to look at (`fetch`)."""

import base64
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from streamae.config.databases import Flux, Prometheus, Source, read_history, seconds
from streamae.errors import ConfigError, SeriesError
from streamae.history import influx, prometheus
from streamae.history.points import Ask, gather
from streamae.history.query import Server
from streamae.history.series import Series, write_series

__all__ = ["fetch", "fetch_files"]


def fetch(
    sources: Sequence[Source],
    *,
    now: Callable[[], float],
    sleep: Callable[[float], object],
    console: Console | None = None,
) -> list[Series]:
    """Return the series of all sources; `now` is a clock in seconds, `sleep` waits before another attempt.

    Raises ConfigError, SeriesError or UnavailableError, with the source, the query and what the database said.
    """
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
    found: dict[str, Series] = {}
    with Progress(*columns, console=console or Console(file=sys.stderr)) as bar:
        for i, source in enumerate(sources):
            task = bar.add_task(f"fetching from {source.url}", total=None)
            for series in _series(i, source, now(), sleep, lambda n, of, t=task: bar.update(t, completed=n, total=of)):  # type: ignore[misc]
                if series.name in found:
                    message = f"sources[{i}].stream: {series.name} comes from an earlier source, too"
                    raise SeriesError(f"{message}; one source gives all channels of a stream: merge them, or rename")
                found[series.name] = series
    return list(found.values())


def fetch_files(config: Path, out: Path, *, now: Callable[[], float], sleep: Callable[[float], object]) -> str:
    """The verb `fetch`: write what the sources of `config` give as a CSV for each stream; return what was done."""
    sources = read_history(config)
    if not sources:
        raise ConfigError(f"{config}: sources: got none; name at least one database to fetch from")
    series = fetch(sources, now=now, sleep=sleep)
    out.mkdir(parents=True, exist_ok=True)
    for one in series:
        write_series(out / f"{one.name.replace('/', '_')}.csv", one.channels, one.time_text, one.values)
    rows, span = sum(map(len, series)), [(one.time_text[0], one.time_text[-1]) for one in series]
    first, last = min(a for a, _ in span), max(b for _, b in span)
    return f"{len(series)} streams, {rows} rows, {first} to {last}, in {out}"


def _series(
    i: int,
    source: Source,
    now_s: float,
    sleep: Callable[[float], object],
    asked: Callable[[int, int], object],
) -> list[Series]:
    start_s, end_s = seconds(source.start, now_s), seconds(source.end, now_s)
    if start_s >= end_s:
        raise ConfigError(f"sources[{i}].start: got {source.start}; write a time before end ({source.end})")
    server = Server(source.url, _headers(i, source), timeout_s=source.timeout_s, ca_file=_text(source.ca), sleep=sleep)
    ask, spans = _asking(source, server, start_s, end_s)
    return gather(ask, source.queries, source.stream, spans, asked)


def _asking(source: Source, server: Server, start_s: float, end_s: float) -> tuple[Ask, list[tuple[float, float]]]:
    step_s = source.step_s
    if isinstance(source, Prometheus):
        ask: Ask = lambda query, a, b: prometheus.range_query(server, query, a, b, step_s)  # noqa: E731
        return ask, prometheus.spans(start_s, end_s, step_s)
    parts = influx.spans(start_s, end_s, step_s, source.part_s)
    if isinstance(source, Flux):
        return (lambda query, a, b: influx.flux_query(server, source.org, query, a, b, step_s)), parts
    form = {"db": source.database, "rp": source.retention_policy or ""}
    return (lambda query, a, b: influx.influxql_query(server, form, query, a, b, step_s)), parts


def _headers(i: int, source: Source) -> dict[str, str]:
    headers = {name: text.get_secret_value() for name, text in source.headers.items()}
    if source.token is not None:
        scheme = "Bearer" if isinstance(source, Prometheus) else "Token"
        headers["Authorization"] = f"{scheme} {source.token.get_secret_value()}"
    elif source.username is not None:
        if source.password is None:
            raise ConfigError(f"sources[{i}].username: got no password with it; add password: file:/path")
        pair = f"{source.username}:{source.password.get_secret_value()}".encode()
        headers["Authorization"] = f"Basic {base64.b64encode(pair).decode()}"
    return headers


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)
