"""Telegraf's JSON of points: fields, name, tags and timestamp, one point a message or several under `metrics`."""

from collections.abc import Mapping, Sequence
from typing import Any

from streamae.core.formats.parsed import parsed
from streamae.core.formats.points import points_sighting
from streamae.core.formats.sighting import document, records_in
from streamae.core.formats.spec import MEASUREMENT, Format, Loads, PayloadSpec, Record, Records, Sightings
from streamae.core.formats.values import to_seconds
from streamae.core.types import Drop

__all__ = ["FORMAT"]


def _records(topic: bytes, payload: bytes, spec: PayloadSpec, loads: Loads, arrival_s: float) -> Records:
    del topic, arrival_s
    found = parsed(payload, loads)
    metrics = found.get("metrics") if isinstance(found, dict) and "fields" not in found else [found]
    if not isinstance(metrics, list):
        return [Drop.MALFORMED]
    if len(metrics) > spec.max_points:
        return [Drop.TOO_MANY_POINTS]
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


def _recognise(topic: str, payloads: Sequence[bytes]) -> Sightings | str | None:
    if not all(_is_of_points(document(payload)) for payload in payloads):
        return None
    return points_sighting(FORMAT.name, records_in(_records, FORMAT.name, topic, payloads))


def _is_of_points(found: object) -> bool:
    metrics = found.get("metrics", [found]) if isinstance(found, dict) else None
    return isinstance(metrics, list) and bool(metrics) and all(map(_is_point, metrics))


def _is_point(metric: object) -> bool:
    if not isinstance(metric, dict) or "name" not in metric:
        return False
    return isinstance(metric.get("fields"), dict) and isinstance(metric.get("tags"), dict)


FORMAT = Format(
    name="telegraf",
    about="Telegraf's JSON, one point a message or a batch",
    link="https://docs.influxdata.com/telegraf/v1/data_formats/output/json/",
    example='{topic: "telegraf/{host}/disk", payload: telegraf, values: {used: used_percent}, labels: {path: path}}',
    records=_records,
    keys=("values", "labels", "where", "time_unit"),
    recognise=_recognise,
    timed=True,
)
