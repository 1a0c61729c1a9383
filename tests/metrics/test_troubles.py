"""Every metric that says of trouble has a rule, a panel and a place on the page; of each metric it is decided."""

import json
import re

import pytest
import yaml

from streamae.metrics import CATALOGUE
from streamae.web.endpoints import OPERATIONS
from streamae.web.openapi import openapi
from tests.services import ROOT

RULES = ROOT / "deploy" / "prometheus" / "rules"
DASHBOARDS = ROOT / "deploy" / "grafana" / "dashboards"
PAGE = ROOT / "streamae" / "web" / "static"
# Metrics that are no trouble, whatever their value: they measure, say of what is configured, or follow from another.
MEASURES = {
    "messages_received", "rows", "windows_scored", "score_max", "alerts", "alerts_resolved", "step_duration_seconds",
    "commit_duration_seconds", "event_to_score_seconds", "batch_messages_last", "inbox_capacity_messages",
    "source_connections", "journal_bytes", "outbox_pending", "outbox_withheld", "notifications_silenced", "silences",
    "silences_capacity", "maintenance_windows", "streams_in_maintenance", "alerts_in_maintenance", "poison_capacity",
    "feedback_entries", "feedback_capacity", "home_assistant_devices", "home_assistant_messages",
    "config_last_reload_success_timestamp_seconds", "model_info", "model_window_rows", "build_info",
    "start_time_seconds",
    "streams_resting", "streams_forgotten",
    "windows_skipped",  # thinning
    "streams_interrupted",  # messages_lost
    "health_verdicts",  # health_verdicts_firing
    "store_commit_failures",  # store_writable
    "sink_deliveries",  # outbox_dead, outbox_oldest_age_seconds
}  # fmt: skip
TROUBLES = [metric for metric in CATALOGUE if metric.trouble is not None]
NAMES = [metric.name for metric in TROUBLES]


def series(metric):
    suffix = {"counter": "_total", "histogram": "_bucket", "gauge": ""}[metric.kind]
    return rf"streamae_{metric.name}{suffix}(?!\w)"


def rules():
    groups = [group for path in RULES.glob("*.yml") for group in yaml.safe_load(path.read_text())["groups"]]
    return [rule for group in groups for rule in group["rules"]]


def read_by_rules():
    """The expressions of all alerts, with those of the recording rules that they read in their place."""
    recorded = {rule["record"]: rule["expr"] for rule in rules() if "record" in rule}
    for rule in rules():
        if "alert" in rule:
            yield re.sub(r"\w+:\w+:\w+", lambda name: f"({recorded[name[0]]})", rule["expr"])


def drawn():
    for path in DASHBOARDS.glob("*.json"):
        for panel in json.loads(path.read_text())["panels"]:
            yield from (target["expr"] for target in panel.get("targets", []))


def test_each_metric_is_decided_on():
    """A new metric says in the catalogue where the page shows its trouble, or is a measure; none is both."""
    names = {metric.name for metric in CATALOGUE}
    assert names - set(NAMES) - MEASURES == set(), "is it trouble (catalogue.py), or a measure (here)?"
    assert MEASURES & set(NAMES) == set()
    assert names >= MEASURES


def test_each_rule_has_a_name_of_its_own():
    """No two alerts are called alike, so that a runbook entry and a silence mean one of them."""
    names = [rule["alert"] for rule in rules() if "alert" in rule]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("metric", TROUBLES, ids=NAMES)
def test_a_trouble_has_a_rule_and_a_panel(metric):
    """Some alert of deploy/prometheus reads it, or the condition that it is shown as; some panel draws it."""
    read = list(read_by_rules())
    by_kind = [kinds for one in read for kinds in re.findall(r'streamae_condition_failing\{kind=~?"([^"]*)"', one)]
    shown_as = {kind for kinds in by_kind for kind in kinds.split("|")}
    assert any(re.search(series(metric), one) for one in read) or metric.trouble.kind in shown_as, "no rule reads it"
    assert any(re.search(series(metric), expression) for expression in drawn()), "no panel reads it"


@pytest.mark.parametrize("metric", TROUBLES, ids=NAMES)
def test_a_trouble_has_a_place_on_the_page(metric):
    """Its key of the status or of a stream is described, and the page's scripts read it; a condition has its room."""
    key, kind = metric.trouble
    described = openapi(OPERATIONS)["components"]["schemas"]
    properties = {name for schema in ("Status", "Stream") for name in described[schema]["properties"]}
    assert key in properties, f"{key} is not described"
    scripts = "".join(path.read_text() for path in PAGE.glob("*.js"))
    assert re.search(rf"\.{key}\b", scripts), f"the page does not show {key}"
    assert kind is None or key == "conditions"
    sources = "".join(path.read_text() for path in (ROOT / "streamae").rglob("*.py"))
    assert kind is None or re.search(rf'Condition\(\s*"{kind}"', sources), f"nobody says that {kind} fails"
