r"""InfluxDB line protocol, and Telegraf's JSON of the same points.

    measurement[,tag=value…] field=value[,field=value…] [timestamp]          one point a line, # begins a comment

A comma, a space or (not in the measurement) an equals sign that belongs to a name has a backslash before it; any other
backslash is itself. Field values are floats, integers (`1i`), unsigned integers (`1u`), booleans (`t`, `true`, `F` …)
or strings in double quotes, in which `\"` and `\\` are escaped. Strings are no measurements. The timestamp is in
nanoseconds unless the writer chose another precision, which its magnitude tells as well.

Specification: docs.influxdata.com/influxdb/v2/reference/syntax/line-protocol; docs.influxdata.com/telegraf/v1,
data formats, output, JSON.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from streamae.core.formats.spec import MEASUREMENT, Format, Loads, PayloadSpec, Record
from streamae.core.formats.values import to_seconds
from streamae.core.types import Drop

__all__ = ["INFLUX", "TELEGRAF"]

_MEASUREMENT = re.compile(r"((?:\\[, ]|[^, ])++)")
_TAG = re.compile(r",((?:\\[,= ]|[^,= ])++)=((?:\\[,= ]|[^,= ])++)")
_FIELD = re.compile(r'((?:\\[,= ]|[^,= ])++)=("(?:\\["\\]|[^"])*+"|[^, "]++)')
_NUMBER = re.compile(r"[+-]?(?:[0-9]++\.?[0-9]*+|\.[0-9]++)(?:[eE][+-]?[0-9]++)?")
_INTEGER = re.compile(r"-?[0-9]++i|[0-9]++u")
_TIME = re.compile(r" ++(-?[0-9]{1,20}) *+")
_BOOLEANS = {**dict.fromkeys(("t", "T", "true", "True", "TRUE"), True)} | dict.fromkeys(
    ("f", "F", "false", "False", "FALSE"), False
)


def _influx(payload: bytes, spec: PayloadSpec, loads: Loads, arrival_s: float) -> Iterator[Record | Drop]:
    del loads, arrival_s
    try:
        text = payload.decode()
    except UnicodeDecodeError:
        yield Drop.MALFORMED
        return
    for line in text.split("\n"):
        point = line.strip(" \t\r")
        if point and not point.startswith("#"):
            yield _point(point, spec.time_unit)


def _point(line: str, unit: str) -> Record | Drop:
    """Read one point; a line of which anything is wrong is refused whole, as by the database."""
    found = _MEASUREMENT.match(line)
    if found is None:
        return Drop.MALFORMED
    tags, end = {MEASUREMENT: _unescaped(found[1])}, found.end()
    while tag := _TAG.match(line, end):
        tags[_unescaped(tag[1])], end = _unescaped(tag[2]), tag.end()
    values: dict[str, object] = {}
    separator = " "
    while line.startswith(separator, end) and (field := _FIELD.match(line, _past(line, separator, end))):
        value = _field_value(field[2])
        if isinstance(value, Drop):
            return value
        values[_unescaped(field[1])], end, separator = value, field.end(), ","
    if end == len(line) and values:
        return Record(None, values, tags)
    stamp = _TIME.fullmatch(line, end)
    if stamp is None or not values:
        return Drop.MALFORMED
    time_s = to_seconds(int(stamp[1]), unit)
    return time_s if isinstance(time_s, Drop) else Record(time_s, values, tags)


def _past(line: str, separator: str, at: int) -> int:
    """Return where the next field begins: past the comma, or past all blanks before the first."""
    at += 1
    while separator == " " and line.startswith(" ", at):
        at += 1
    return at


def _unescaped(text: str) -> str:
    return re.sub(r"\\([,= ])", r"\1", text) if "\\" in text else text


def _field_value(text: str) -> object:
    if text[0] == '"':
        return text
    if _NUMBER.fullmatch(text):
        return float(text)
    if _INTEGER.fullmatch(text):
        return float(text[:-1])
    return _BOOLEANS.get(text, Drop.MALFORMED)


def _telegraf(payload: bytes, spec: PayloadSpec, loads: Loads, arrival_s: float) -> Iterable[Record | Drop]:
    del arrival_s
    try:
        document = loads(payload)
    except (ValueError, RecursionError):
        return [Drop.MALFORMED]
    metrics = document.get("metrics") if isinstance(document, dict) and "fields" not in document else [document]
    if not isinstance(metrics, list):
        return [Drop.MALFORMED]
    return [_metric(metric, spec.time_unit) for metric in metrics]


def _metric(metric: Any, unit: str) -> Record | Drop:
    fields = metric.get("fields") if isinstance(metric, dict) else None
    if not isinstance(fields, dict):
        return Drop.MALFORMED
    found = metric.get("tags")
    known: Mapping[str, object] = found if isinstance(found, dict) else {}
    tags = {key: value for key, value in known.items() if isinstance(value, str)}
    tags[MEASUREMENT] = str(metric.get("name", ""))
    if "timestamp" not in metric:
        return Record(None, fields, tags)
    time_s = to_seconds(metric["timestamp"], unit)
    return time_s if isinstance(time_s, Drop) else Record(time_s, fields, tags)


INFLUX = Format(_influx)
TELEGRAF = Format(_telegraf)
