"""Points from InfluxDB: Flux over `/api/v2/query` (2.x), and InfluxQL over `/query` (1.x, 2.x with a mapping, 3.x).

The span of time goes into a query by the names that Grafana and InfluxDB's own page use: in Flux
`range(start: v.timeRangeStart, stop: v.timeRangeStop)` and `v.windowPeriod`, in InfluxQL `$timeFilter` and `$interval`.
The labels of points are tags, `_measurement` and `_field`; a table with a column for each field (Flux `pivot`,
InfluxQL without `AS`) is taken apart, its columns being the `_field`.

Source: https://docs.influxdata.com/influxdb/v2/api/ (Query), …/reference/syntax/annotated-csv/ (tables, annotations,
errors), …/influxdb/v1/guides/query_data/ (JSON of InfluxQL, `epoch`, partial results).
"""

import csv
import io
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

import numpy as np

from streamae.errors import ConfigError, SeriesError
from streamae.history.points import Points
from streamae.history.query import Server

__all__ = ["flux_query", "influxql_query", "spans", "with_span"]

_NUMBERS = frozenset({"double", "long", "unsignedLong"})
_LABELS = frozenset({"string", "boolean"})
_FRAME = frozenset({"", "result", "table", "_start", "_stop", "_time", "_value"})


def spans(start_s: float, end_s: float, step_s: float, part_s: float) -> list[tuple[float, float]]:
    """Split start..end, on the grid of `step_s` and without its end, into parts of about `part_s`."""
    part_s = max(1.0, part_s // step_s) * step_s
    begins = np.arange(math.floor(start_s / step_s) * step_s, end_s, part_s).tolist()
    return [(one, min(one + part_s, end_s)) for one in begins]


def flux_query(server: Server, org: str, query: str, start_s: float, end_s: float, step_s: float) -> Sequence[Points]:
    """Run a Flux script over start..end, the end excluded."""
    dialect = {"header": True, "delimiter": ",", "annotations": ["datatype", "group", "default"]}
    script = with_span(query, start_s, end_s, step_s)
    body = json.dumps({"query": script, "type": "flux", "dialect": dialect}).encode()
    answer = server.ask(f"/api/v2/query?{urlencode({'org': org})}", body, "application/json", query)
    try:
        text = answer.decode()
        found = [points for table in _tables(text) for points in _table_points(table, server, query)]
    except (ValueError, IndexError, csv.Error) as error:
        message = f"{server.name}: answers no annotated CSV ({error}); is sources: url that of an InfluxDB 2?"
        raise ConfigError(message) from error
    return found


def with_span(query: str, start_s: float, end_s: float, step_s: float) -> str:
    """A Flux script with the option `v`; it stands behind `package` and `import`, which must come first."""
    lines = query.splitlines()
    heads = [n for n, line in enumerate(lines) if line.split(" ")[0] in {"package", "import"}]
    at = heads[-1] + 1 if heads else 0
    window = f"{round(step_s * 1000)}ms"
    span = f"timeRangeStart: {_moment(start_s)}, timeRangeStop: {_moment(end_s)}, windowPeriod: {window}"
    return "\n".join([*lines[:at], f"option v = {{{span}}}", *lines[at:]])


def _moment(time_s: float) -> str:
    return datetime.fromtimestamp(time_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _tables(text: str) -> Iterator[tuple[dict[str, list[str]], list[str], list[list[str]]]]:
    """Annotations by name, header and records of each block of tables with the same columns."""
    annotations: dict[str, list[str]] = {}
    header: list[str] = []
    records: list[list[str]] = []
    for row in csv.reader(io.StringIO(text)):
        if not row or (row[0].startswith("#") and header):
            if header:
                yield annotations, header, records
            annotations, header, records = {}, [], []
        if not row:
            continue
        if row[0].startswith("#"):
            annotations[row[0]] = row
        elif not header:
            header = row
        else:
            records.append(row)
    if header:
        yield annotations, header, records


def _table_points(
    block: tuple[dict[str, list[str]], list[str], list[list[str]]], server: Server, query: str
) -> Iterator[Points]:
    annotations, header, records = block
    if "error" in header:
        reason = records[0][header.index("error")] if records else "unknown"
        raise ConfigError(f"{server.name}: {reason}; correct the query: {query}")
    if not records:
        return
    if "_time" not in header or "#datatype" not in annotations:
        raise SeriesError(f"{server.name}: the answer has no column _time; keep it in the query: {query}")
    kinds, defaults = annotations["#datatype"], annotations.get("#default", [""] * len(header))
    whole = [[cell or defaults[i] for i, cell in enumerate(row)] for row in records]
    values = [i for i, name in enumerate(header) if kinds[i] in _NUMBERS and name not in _FRAME - {"_value"}]
    labels = [i for i, name in enumerate(header) if kinds[i] in _LABELS and name not in _FRAME]
    at = header.index("_time")
    for key in dict.fromkeys(tuple(row[i] for i in labels) for row in whole):
        mine = [row for row in whole if tuple(row[i] for i in labels) == key]
        time_s = np.array([_seconds(row[at]) for row in mine])
        for i in values:
            column = np.array([float(row[i]) if row[i] else np.nan for row in mine])
            own = {} if header[i] == "_value" else {"_field": header[i]}
            yield _sorted(dict(zip((header[j] for j in labels), key, strict=True)) | own, time_s, column)


def _seconds(text: str) -> float:
    moment = datetime.fromisoformat(text)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def influxql_query(
    server: Server, form: Mapping[str, str], query: str, start_s: float, end_s: float, step_s: float
) -> Sequence[Points]:
    """Run an InfluxQL query over start..end, the end excluded; `form` names the database, `db`, and perhaps `rp`."""
    window = f"{round(step_s * 1000)}ms"
    inside = f"(time >= {round(start_s * 1000)}ms AND time < {round(end_s * 1000)}ms)"
    text = query.replace("$timeFilter", inside).replace("$__interval", window).replace("$interval", window)
    answer = server.ask_json("/query", {**form, "q": text, "epoch": "ms"}, query)
    try:
        return [points for result in answer["results"] for points in _result_points(result, server, query)]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        message = f"{server.name}: answers otherwise than InfluxDB does ({error}); check sources: url"
        raise ConfigError(message) from error


def _result_points(result: Mapping[str, Any], server: Server, query: str) -> Iterator[Points]:
    if "error" in result:
        raise ConfigError(f"{server.name}: {result['error']}; correct the query: {query}")
    if result.get("partial"):
        raise ConfigError(f"{server.name}: cut its answer short (max-row-limit); write a shorter sources: part")
    for one in result.get("series", ()):
        at = one["columns"].index("time")
        time_s = np.array([row[at] for row in one["values"]], np.float64) / 1000
        for i, name in enumerate(one["columns"]):
            if i == at or any(isinstance(row[i], str) for row in one["values"]):
                continue
            column = np.array([math.nan if row[i] is None else row[i] for row in one["values"]], np.float64)
            labels = {**one.get("tags", {}), "_measurement": one.get("name", ""), "_field": name}
            yield _sorted(labels, time_s, column)


def _sorted(labels: Mapping[str, str], time_s: Any, values: Any) -> Points:
    order = np.argsort(time_s, kind="stable")
    return Points(labels, time_s[order], values[order])
