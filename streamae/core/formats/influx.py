r"""InfluxDB line protocol.

    measurement[,tag=value…] field=value[,field=value…] [timestamp]          one point a line, # begins a comment

A comma, a space or (not in the measurement) an equals sign that belongs to a name has a backslash before it; any other
backslash is itself. Field values are floats, integers (`1i`), unsigned integers (`1u`), booleans (`t`, `true`, `F` …)
or strings in double quotes, in which `\"` and `\\` are escaped. Strings are no measurements. The timestamp is in
nanoseconds unless the writer chose another precision, which its magnitude shows.
"""

import re
from collections.abc import Iterator, Sequence

from streamae.core.formats.points import points_sighting
from streamae.core.formats.sighting import document, records_in
from streamae.core.formats.spec import MEASUREMENT, VALUES_A_POINT, Format, Loads, PayloadSpec, Record, Sightings
from streamae.core.formats.values import to_seconds
from streamae.core.types import Drop

__all__ = ["FORMAT"]

_MEASUREMENT = re.compile(r"((?:\\[, ]|[^, ])++)")
_TAG = re.compile(r",((?:\\[,= ]|[^,= ])++)=((?:\\[,= ]|[^,= ])++)")
_FIELD = re.compile(r'((?:\\[,= ]|[^,= ])++)=("(?:\\["\\]|[^"])*+"|[^, "]++)')
_NUMBER = re.compile(r"[+-]?(?:[0-9]++\.?[0-9]*+|\.[0-9]++)(?:[eE][+-]?[0-9]++)?")
_INTEGER = re.compile(r"-?[0-9]++i|[0-9]++u")
_TIME = re.compile(r" ++(-?[0-9]{1,20}) *+")
_BOOLEANS = {**dict.fromkeys(("t", "T", "true", "True", "TRUE"), True)} | dict.fromkeys(
    ("f", "F", "false", "False", "FALSE"), False
)


def _records(
    topic: bytes, payload: bytes, spec: PayloadSpec, loads: Loads, arrival_s: float
) -> Iterator[Record | Drop]:
    del topic, loads, arrival_s
    if payload.count(b"\n") > spec.max_points or payload.count(b"=") > VALUES_A_POINT * spec.max_points:
        yield Drop.TOO_MANY_POINTS
        return
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
        return re.sub(r'\\(["\\])', r"\1", text[1:-1])
    if _NUMBER.fullmatch(text):
        return float(text)
    if _INTEGER.fullmatch(text):
        return float(text[:-1])
    return _BOOLEANS.get(text, Drop.MALFORMED)


def _recognise(topic: str, payloads: Sequence[bytes]) -> Sightings | str | None:
    spec = PayloadSpec(FORMAT.name)
    if any(document(payload) is not None for payload in payloads):
        return None
    found = [one for payload in payloads for one in _records(topic.encode(), payload, spec, document, 0.0)]
    if not found or any(isinstance(one, Drop) for one in found):
        return None
    return points_sighting(FORMAT.name, records_in(_records, FORMAT.name, topic, payloads))


FORMAT = Format(
    name="influx",
    about="InfluxDB line protocol, as of Telegraf's `outputs.mqtt`",
    link="https://docs.influxdata.com/influxdb/v2/reference/syntax/line-protocol/",
    example='{topic: "telegraf/{host}/cpu", payload: influx, values: {user: usage_user}, where: {cpu: cpu-total}}',
    records=_records,
    keys=("values", "labels", "where", "time_unit"),
    recognise=_recognise,
    timed=True,
)
