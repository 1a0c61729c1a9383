"""Grafana's classic dashboard JSON, said once: a dashboard is rows, a row a title and its panels.

Places on the grid follow from the widths; the variables are those that the series of streamae have.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

__all__ = ["GREEN", "GROUP", "RED", "STREAM", "WHO", "Panel", "dashboard", "stat"]

WHO = 'job=~"$job",instance=~"$instance"'
GROUP = WHO + ',group=~"$group"'
STREAM = GROUP + ',stream=~"$stream"'
GREEN, RED = "green", "red"
_SOURCE = {"type": "prometheus", "uid": "${datasource}"}
_HEIGHT = 8


class Panel(NamedTuple):
    """One panel: queries as (expression, legend); `steps` colour values from there on; `width` in 24ths."""

    title: str
    queries: Sequence[tuple[str, str]]
    unit: str = "short"
    kind: str = "timeseries"
    width: int = 8
    help: str = ""
    steps: Sequence[tuple[float, str]] = ()
    texts: Sequence[tuple[int, str, str]] = ()
    stacked: bool = False
    height: int = _HEIGHT


def stat(title: str, query: str, **more: Any) -> Panel:
    """One large number."""
    return Panel(title, [(query, "")], kind="stat", **{"width": 4, "height": 4, **more})


def _panel(number: int, panel: Panel, x: int, y: int) -> dict[str, Any]:
    steps = [{"color": colour, "value": value if i else None} for i, (value, colour) in enumerate(panel.steps)]
    defaults: dict[str, Any] = {
        "unit": panel.unit,
        "color": {"mode": "thresholds" if steps and panel.kind != "timeseries" else "palette-classic"},
        "thresholds": {"mode": "absolute", "steps": steps or [{"color": GREEN, "value": None}]},
        "mappings": _mappings(panel),
        "custom": _custom(panel, bool(steps)),
    }
    instant = panel.kind in {"table", "stat"}
    targets = [
        {
            "refId": chr(ord("A") + i),
            "datasource": _SOURCE,
            "expr": expression,
            "legendFormat": legend or "__auto",
            "instant": instant,
            "range": not instant,
            "format": "table" if panel.kind == "table" else "time_series",
        }
        for i, (expression, legend) in enumerate(panel.queries)
    ]
    made = {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.help,
        "datasource": _SOURCE,
        "gridPos": {"x": x, "y": y, "w": panel.width, "h": panel.height},
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": _options(panel),
        "targets": targets,
    }
    if panel.kind == "table":
        hidden = dict.fromkeys(("Time", "__name__", "job"), True)
        made["transformations"] = [{"id": "organize", "options": {"excludeByName": hidden}}]
    return made


def _mappings(panel: Panel) -> list[dict[str, Any]]:
    said = {
        str(value): {"text": text, "color": colour, "index": i} for i, (value, text, colour) in enumerate(panel.texts)
    }
    return [{"type": "value", "options": said}] if said else []


def _custom(panel: Panel, stepped: bool) -> dict[str, Any]:
    if panel.kind != "timeseries":
        return {}
    return {
        "lineWidth": 1,
        "fillOpacity": 30 if panel.stacked else 5,
        "showPoints": "never",
        "stacking": {"mode": "normal" if panel.stacked else "none", "group": "A"},
        "thresholdsStyle": {"mode": "line" if stepped else "off"},
    }


def _options(panel: Panel) -> dict[str, Any]:
    if panel.kind == "stat":
        mode = "background" if panel.steps or panel.texts else "none"
        return {
            "reduceOptions": {"calcs": ["lastNotNull"]},
            "colorMode": mode,
            "graphMode": "none",
            "textMode": "value",
        }
    if panel.kind == "timeseries":
        return {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi", "sort": "desc"}}
    return {"showValue": "never", "mergeValues": True} if panel.kind == "state-timeline" else {}


def _variable(name: str, query: str, *, several: bool = True) -> dict[str, Any]:
    return {
        "name": name,
        "type": "query",
        "datasource": _SOURCE,
        "query": {"query": query, "refId": name},
        "definition": query,
        "refresh": 2,
        "sort": 1,
        "multi": several,
        "includeAll": several,
        "current": {"text": ["All"], "value": ["$__all"]} if several else {},
    }


def _variables(*, group: bool, stream: bool) -> list[dict[str, Any]]:
    made: list[dict[str, Any]] = [
        {"name": "datasource", "type": "datasource", "query": "prometheus", "label": "Source", "refresh": 1},
        _variable("job", "label_values(streamae_build_info, job)"),
        _variable("instance", 'label_values(streamae_build_info{job=~"$job"}, instance)'),
    ]
    if group:
        made.append(_variable("group", f"label_values(streamae_streams{{{WHO}}}, group)"))
    if stream:
        made.append(_variable("stream", f"label_values(streamae_anomaly_score{{{GROUP}}}, stream)", several=False))
    return made


def dashboard(uid: str, title: str, rows: Sequence[tuple[str, list[Panel]]], **variables: bool) -> dict[str, Any]:
    """Return the JSON; `group` and `stream` say which variables there are beside job and instance."""
    panels: list[dict[str, Any]] = []
    y = 0
    for name, row in rows:
        panels.append(
            {
                "id": len(panels) + 1,
                "type": "row",
                "title": name,
                "collapsed": False,
                "panels": [],
                "gridPos": {"x": 0, "y": y, "w": 24, "h": 1},
            }
        )
        x, y, height = 0, y + 1, 0
        for panel in row:
            if x + panel.width > 24:
                x, y, height = 0, y + height, 0
            panels.append(_panel(len(panels) + 1, panel, x, y))
            x, height = x + panel.width, max(height, panel.height)
        y += height
    alerts = 'ALERTS{alertname=~"(StreamaeAnomaly|StreamaeAnomaliesInGroup)(Critical)?",alertstate="firing"}'
    annotation = {
        "name": "Anomalies",
        "datasource": _SOURCE,
        "enable": True,
        "iconColor": RED,
        "expr": alerts,
        "titleFormat": "{{group}} {{stream}}",
        "step": "60s",
    }
    links = [
        {
            "type": "dashboards",
            "tags": ["streamae"],
            "title": "streamae",
            "asDropdown": True,
            "keepTime": True,
            "includeVars": True,
        }
    ]
    return {
        "uid": uid,
        "title": title,
        "tags": ["streamae"],
        "schemaVersion": 39,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "timezone": "browser",
        "templating": {"list": _variables(**variables)},
        "annotations": {"list": [annotation]},
        "links": links,
        "panels": panels,
    }
