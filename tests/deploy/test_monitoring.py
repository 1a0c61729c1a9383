"""What stands in deploy/prometheus, deploy/alertmanager and deploy/grafana, against the real programs and the daemon.

A mosquitto, a plant, the daemon, Prometheus with the shipped configuration and rules (only addresses and intervals are
other ones), Alertmanager with the shipped configuration, and a receiver of what it tells.
"""

import http.server
import json
import math
import re
import shutil
import subprocess
import sys
import threading
import time
import urllib.parse
import urllib.request

import pytest
import yaml

from tests import brokers
from tests.brokers import Mosquitto, wait_until
from tests.services import ALERTMANAGER, PROMETHEUS, PROMTOOL, ROOT, Alertmanager, Feed, Prometheus, write

DEPLOY = ROOT / "deploy"
RULES = DEPLOY / "prometheus" / "rules" / "streamae.rules.yml"
PROMTOOL_TESTS = sorted((DEPLOY / "prometheus" / "tests").glob("*.yml"))
DASHBOARDS = sorted((DEPLOY / "grafana" / "dashboards").glob("*.json"))
SELECTOR = re.compile(r"\b(?:streamae_\w+|job_\w+:\w+:\w+|process_\w+|up|ALERTS)(?:\{[^}]*\})?")
AMTOOL = shutil.which("amtool")
needs_promtool = pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed: apt-get install prometheus")


class Receiver:
    """Takes Alertmanager's webhooks; `received` is a list of (path, notification)."""

    def __init__(self):
        received = self.received = []

        class Post(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                received.append((self.path, json.loads(body)))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_):
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Post)
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def alerts(self, status):
        """Every alert of this status in every notification so far: (alertname, stream)."""
        return [
            (alert["labels"]["alertname"], alert["labels"].get("stream"))
            for _, notification in list(self.received)
            for alert in notification["alerts"]
            if alert["status"] == status
        ]

    def close(self):
        self._server.shutdown()
        self._server.server_close()


def alertmanager_config(receiver):
    """The shipped configuration with our receiver, and without the half minutes that a test cannot wait."""
    text = (DEPLOY / "alertmanager" / "alertmanager.yml").read_text()
    config = yaml.safe_load(text.replace("127.0.0.1:9095", f"127.0.0.1:{receiver.port}"))
    assert config["route"]["group_by"] == ["alertname", "job", "instance", "group"]
    for route in (config["route"], *config["route"]["routes"]):
        route |= {"group_wait": "1s", "group_interval": "2s"}
    return yaml.safe_dump(config)


def prometheus_config(page, alertmanager, own):
    text = (DEPLOY / "prometheus" / "prometheus.yml").read_text()
    for name, port in (("streamae:9469", page), ("alertmanager:9093", alertmanager), ("localhost:9090", own)):
        assert name in text
        text = text.replace(name, f"127.0.0.1:{port}")
    config = yaml.safe_load(text)
    config["global"] = {"scrape_interval": "500ms", "evaluation_interval": "500ms"}
    assert config["rule_files"] == ["rules/*.rules.yml"]
    config["rule_files"] = [str(RULES)]
    return yaml.safe_dump(config)


class World:
    """Everything at once, by name."""


@pytest.fixture(scope="module")
def calm(tmp_path_factory):
    """A model that knows three of the plant's days, so that the next one holds no surprise: (model, the plant)."""
    from streamae.training.train import train
    from tests.models import TrainedPumps, quick, quiet, write_pumps

    folder, rows = tmp_path_factory.mktemp("calm"), 1800
    plant, paths = write_pumps(folder, rows)
    model, registry = folder / "pumps.pt", folder / "models.json"
    done = train(paths, model, None, 0, quick(40), now=lambda: 0.0, registry=registry, console=quiet())
    return TrainedPumps(model, registry, paths, plant, done.digest)


@pytest.fixture(scope="module")
def world(tmp_path_factory, calm):
    for tool, package in (
        (brokers.MOSQUITTO, "mosquitto"),
        (PROMETHEUS, "prometheus"),
        (ALERTMANAGER, "prometheus-alertmanager"),
    ):
        if tool is None:
            pytest.skip(f"{package} is not installed: apt-get install {package}")
    folder, made = tmp_path_factory.mktemp("world"), World()
    started = []
    try:
        made.broker = Mosquitto(folder / "broker").start()
        started.append(made.broker.kill)
        made.feed = Feed(made.broker.port, calm.plant).start()
        started.append(made.feed.stop)
        made.daemon = write(folder / "daemon", made.broker, calm).start()
        started.append(made.daemon.kill)
        made.receiver = Receiver()
        started.append(made.receiver.close)
        made.alertmanager = Alertmanager(folder / "alertmanager", alertmanager_config(made.receiver)).start()
        started.append(made.alertmanager.kill)
        made.daemon.wait_for("/readyz")
        made.prometheus = Prometheus(folder / "prometheus", "")
        own = made.prometheus.port
        made.prometheus.config(prometheus_config(made.daemon.port, made.alertmanager.port, own))
        made.prometheus.start()
        started.append(made.prometheus.kill)
        wait_until(lambda: made.prometheus.value("streamae_windows_scored_total") > 60, 60, made.daemon.log())
        wait_until(lambda: made.prometheus.query("job_instance:streamae_windows_scored:rate5m"), 30, "the rules")
        yield made
    finally:
        for end in reversed(started):
            end()


# What follows needs no daemon.


@needs_promtool
def test_promtool_accepts_configuration_and_rules():
    """`promtool check config` and `check rules` have nothing to say."""
    for what, path in (("config", DEPLOY / "prometheus" / "prometheus.yml"), ("rules", RULES)):
        checked = subprocess.run([PROMTOOL, "check", what, str(path)], capture_output=True, text=True, check=False)
        assert checked.returncode == 0, checked.stdout + checked.stderr
        assert "FAILED" not in checked.stdout + checked.stderr


@needs_promtool
@pytest.mark.parametrize("path", PROMTOOL_TESTS, ids=lambda p: p.stem)
def test_promtool_tests_pass(path):
    """Each shipped rule fires for its fault after its time, and none stirs in a healthy day."""
    checked = subprocess.run([PROMTOOL, "test", "rules", str(path)], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def alert_rules():
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return {rule["alert"]: rule for group in groups for rule in group["rules"] if "alert" in rule}


def test_each_alert_has_a_test_that_fires_it_and_a_runbook():
    """No rule is shipped that nobody has seen fire, and none that leaves the reader alone."""
    faults = yaml.safe_load((DEPLOY / "prometheus" / "tests" / "faults.yml").read_text())["tests"]
    fired = {
        sample["labels"] for t in faults for e in t.get("promql_expr_test", []) for sample in e.get("exp_samples", [])
    }
    seen = {re.search(r'alertname="(\w+)"', labels)[1] for labels in fired}
    seen |= {e["alertname"] for t in faults for e in t.get("alert_rule_test", []) if e.get("exp_alerts")}
    assert seen == set(alert_rules())
    runbook = (DEPLOY / "README.md").read_text()
    for name, rule in alert_rules().items():
        assert set(rule["annotations"]) == {"summary", "description", "runbook"}
        assert rule["labels"]["severity"] in {"critical", "warning", "info"}
        assert rule["annotations"]["runbook"] == f"deploy/README.md#{name.lower()}"
        assert f"\n### {name}\n" in runbook


@needs_promtool
def test_a_promtool_test_can_fail(tmp_path):
    """The control: with a threshold that is never reached, the tests of the faults do not pass."""
    (tmp_path / "rules").mkdir()
    (tmp_path / "tests").mkdir()
    spoilt = RULES.read_text().replace("streamae_source_last_message_age_seconds > 300", "streamae_source_gone > 300")
    (tmp_path / "rules" / RULES.name).write_text(spoilt)
    path = tmp_path / "tests" / "faults.yml"
    tests = yaml.safe_load((DEPLOY / "prometheus" / "tests" / "faults.yml").read_text())
    tests["tests"] = [test for test in tests["tests"] if "StreamaeDeaf" in str(test)]
    path.write_text(yaml.safe_dump(tests))
    checked = subprocess.run([PROMTOOL, "test", "rules", str(path)], capture_output=True, text=True, check=False)
    assert checked.returncode != 0
    assert "StreamaeDeaf" in checked.stdout + checked.stderr


def test_the_dashboards_are_those_of_the_generator(tmp_path):
    """What is committed is what generate.py writes."""
    script = "import json, generate; print(json.dumps(generate.dashboards()))"
    made = subprocess.run([sys.executable, "-c", script], cwd=DEPLOY / "grafana", capture_output=True, check=True)
    wanted = json.loads(made.stdout)
    assert {path.name: json.loads(path.read_text()) for path in DASHBOARDS} == wanted
    assert len(wanted) == 3


def firing_alerts(port, names):
    """Push alerts to an Alertmanager as Prometheus does: (alertname, severity, how many streams; 0: of the group)."""
    alerts = []
    for name, severity, streams in names:
        labels = {"alertname": name, "severity": severity, "job": "streamae", "instance": "a", "group": "pumps"}
        alerts += [{"labels": labels | ({"stream": f"p{n}"} if streams else {})} for n in range(max(1, streams))]
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/api/v2/alerts", json.dumps(alerts).encode(), {"Content-Type": "application/json"}
    )
    urllib.request.urlopen(request).close()


@pytest.mark.skipif(
    ALERTMANAGER is None, reason="alertmanager is not installed: apt-get install prometheus-alertmanager"
)
@pytest.mark.parametrize(
    ("storm", "severity"), [("StreamaeAnomalyStorm", "warning"), ("StreamaeAnomalyStormCritical", "critical")]
)
def test_a_plant_that_stops_is_one_message_of_alertmanager(tmp_path, storm, severity):
    """Sixty machines and their sensors at once, by the shipped configuration: the storm, and nothing beside it."""
    receiver = Receiver()
    alertmanager, began_s = Alertmanager(tmp_path, alertmanager_config(receiver)).start(), time.monotonic()
    try:
        single = "StreamaeAnomaly" + ("Critical" if severity == "critical" else "")
        names = [(single, severity, 60), ("StreamaeSensorFault", "warning", 0)]
        firing_alerts(alertmanager.port, [(storm, severity, 0)])
        firing_alerts(alertmanager.port, names)
        wait_until(lambda: receiver.received, 20, "a message")
        firing_alerts(alertmanager.port, [*names, (storm, severity, 0)])  # as Prometheus does, again and again
        wait_until(lambda: time.monotonic() > began_s + 4, 20)
        assert receiver.alerts("firing") == [(storm, None)]
        firing_alerts(alertmanager.port, [("StreamaeDeaf", "warning", 0)])
        wait_until(lambda: len(receiver.received) == 2, 20, "the control: other news arrive")
    finally:
        alertmanager.kill()
        receiver.close()


# The running world.


def test_no_shipped_rule_stirs_on_a_healthy_daemon(world):
    """With every setting at its default and load on the topics, no alert fires and none even waits for its time."""
    wait_until(lambda: world.prometheus.value("streamae_windows_scored_total") > 300, 60)
    assert world.prometheus.alerts() == []
    groups = json.loads(world.prometheus.get("/api/v1/rules")[1])["data"]["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    assert {rule["name"] for rule in rules if rule["type"] == "alerting"} == set(alert_rules())
    assert [rule["name"] for rule in rules if rule["health"] != "ok"] == []
    assert world.receiver.received == []


def test_an_injected_fault_reaches_alertmanager_once(world):
    """Broker, daemon, Prometheus, Alertmanager: one pump breaks, one notification says so, and one that it is over."""
    stream = "line1-pump02"
    world.feed.inject("oscillation", "line1/pump02", 6.0, 80.0)
    ours = {("StreamaeAnomaly", stream), ("StreamaeAnomalyCritical", stream)}  # by how far it breaks
    wait_until(lambda: ours & set(world.receiver.alerts("firing")), 90, world.daemon.log())
    pushed = {(alert["labels"]["alertname"], alert["labels"].get("stream")) for alert in world.alertmanager.alerts()}
    assert pushed <= ours
    path, notification = next(
        (p, n) for p, n in world.receiver.received if n["alerts"][0]["labels"].get("stream") == stream
    )
    assert path == ("/wake" if notification["alerts"][0]["labels"]["severity"] == "critical" else "/tell")
    said = notification["alerts"][0]["annotations"]
    assert said["summary"].startswith(f"pumps/{stream} behaves as it never did in training")
    assert re.match(r"Score [\d.e+]+ over [\d.e+]+\. The page", said["description"]), said
    fired = set(world.receiver.alerts("firing"))
    wait_until(lambda: fired <= set(world.receiver.alerts("resolved")), 120, world.daemon.log())
    assert set(world.receiver.alerts("firing")) <= ours
    assert all(world.receiver.alerts("firing").count(one) <= 1 for one in ours)
    assert world.prometheus.value("sum(streamae_alerts_total)") == 1


def expressions(dashboard):
    """Every expression and variable of a dashboard: (where, expression or label_values query)."""
    for panel in dashboard["panels"]:
        for target in panel.get("targets", []):
            yield f"{dashboard['title']} / {panel['title']} / {target['refId']}", target["expr"]
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            yield f"{dashboard['title']} / ${variable['name']}", variable["query"]["query"]
    for annotation in dashboard["annotations"]["list"]:
        yield f"{dashboard['title']} / annotation {annotation['name']}", annotation["expr"]


def selectors(expression):
    """The series that an expression asks for, without what it does with them."""
    return SELECTOR.findall(re.sub(r"\{\{.*?\}\}", "", expression))


def shipped():
    """Every expression that deploy/ has: those of dashboards whole, those of rules as the series that they read."""
    for path in DASHBOARDS:
        yield from expressions(json.loads(path.read_text()))
    for group in yaml.safe_load(RULES.read_text())["groups"]:
        for rule in group["rules"]:
            name = rule.get("alert") or rule["record"]
            for selector in selectors(rule["expr"]):
                yield f"rule {name}", selector
    alerting = yaml.safe_load((DEPLOY / "grafana/provisioning/alerting/streamae.yml.example").read_text())
    for group in alerting["groups"]:
        for rule in group["rules"]:
            for query in rule["data"]:
                if "expr" in query["model"]:
                    yield f"grafana rule {rule['title']}", query["model"]["expr"]


def ask_as_grafana(prometheus, query):
    """Run an expression or a label_values query with the variables filled in; returns the values that came."""
    for name, value in (
        ("$__rate_interval", "10s"),
        ("$job", ".*"),
        ("$instance", ".*"),
        ("$group", ".*"),
        ("$stream", ".*"),
    ):
        query = query.replace(name, value)
    asked = re.fullmatch(r"label_values\((.+), (\w+)\)", query)
    if asked:
        match = urllib.parse.urlencode({"match[]": asked[1]})
        return json.loads(prometheus.get(f"/api/v1/label/{asked[2]}/values?{match}")[1])["data"]
    found = [float(one["value"][1]) for one in prometheus.query(query)]
    return [value for value in found if not math.isnan(value)]


def test_every_expression_that_is_shipped_returns_data(world):
    """Panels, variables, annotations and rules find their series in the real Prometheus; a renamed one is noticed."""
    world.feed.inject("oscillation", "line1/pump03", 6.0, 600.0)
    wait_until(lambda: world.prometheus.query('ALERTS{alertname=~"StreamaeAnomaly.*",alertstate="firing"}'), 90)
    asked = list(dict.fromkeys(shipped()))
    assert len(asked) > 100
    empty = [(where, query) for where, query in asked if not ask_as_grafana(world.prometheus, query)]
    # A subquery by the minute has its first value when a whole minute has passed over the world's few.
    assert all(":1m]" in query for _, query in empty), empty
    for _, query in empty:
        wait_until(lambda query=query: ask_as_grafana(world.prometheus, query), 90)
    for name in sorted({m for _, query in asked for m in re.findall(r"\bstreamae_\w+", query)}):
        _, query = next((w, q) for w, q in asked if re.search(rf"\b{name}\b", q))
        renamed = re.sub(rf"\b{name}\b", f"{name}_renamed", query)
        assert not ask_as_grafana(world.prometheus, renamed), name


def test_promtool_tests_use_the_series_that_the_daemon_has(world):
    """Name and labels of each input series are those of the real scrape, so the tests cannot drift from the daemon."""
    for path in PROMTOOL_TESTS:
        for test in yaml.safe_load(path.read_text())["tests"]:
            for series in test["input_series"]:
                name, labels = re.fullmatch(r"(\w+)\{(.*)\}", series["series"]).groups()
                names = set(re.findall(r"(\w+)=", labels))
                real = [set(one["metric"]) - {"__name__"} for one in world.prometheus.query(name)]
                assert real, f"{path.name}: {name}"
                assert name == "up" or names in real, f"{path.name}: {series['series']} is {real[0]}"


@pytest.mark.skipif(AMTOOL is None, reason="amtool is not installed: apt-get install prometheus-alertmanager")
@pytest.mark.parametrize(
    ("severity", "receiver"), [("critical", "wake-somebody"), ("warning", "working-day"), ("info", "nobody")]
)
def test_alertmanager_routes_by_severity(severity, receiver):
    """Critical wakes somebody, a warning waits for the working day, an info is for the dashboard."""
    config = f"--config.file={DEPLOY / 'alertmanager' / 'alertmanager.yml'}"
    command = [AMTOOL, "config", "routes", "test", config, "alertname=StreamaeDeaf", f"severity={severity}"]
    asked = subprocess.run(command, capture_output=True, text=True, check=False)
    assert asked.stdout.split() == [receiver], asked.stderr


def test_the_larger_fault_silences_what_follows_from_it(world):
    """A real Alertmanager holds back what a dead daemon, a lost broker or a storm explains, and nothing of others."""
    who = {"job": "streamae", "instance": "elsewhere"}
    wanted = {
        ("StreamaeNotConnected", "elsewhere", ""): "active",
        ("StreamaeDeaf", "elsewhere", ""): "suppressed",
        ("StreamaeStoreUnwritable", "elsewhere", ""): "active",
        ("StreamaeDeaf", "another", ""): "active",
        ("StreamaeAnomalyStorm", "elsewhere", "pumps"): "active",
        ("StreamaeAnomaly", "elsewhere", "pumps"): "suppressed",
        ("StreamaeAnomaly", "elsewhere", "fans"): "active",
    }
    labels = [
        {**who, "alertname": name, "instance": instance, "group": group, "severity": "warning"}
        for name, instance, group in wanted
    ]
    body = json.dumps([{"labels": {k: v for k, v in one.items() if v}} for one in labels]).encode()
    url = f"http://127.0.0.1:{world.alertmanager.port}/api/v2/alerts"
    urllib.request.urlopen(urllib.request.Request(url, body, {"content-type": "application/json"})).close()

    def states():
        alerts = [one for one in world.alertmanager.alerts() if one["labels"]["instance"] in {"elsewhere", "another"}]
        whose = [tuple(one["labels"].get(key, "") for key in ("alertname", "instance", "group")) for one in alerts]
        return dict(zip(whose, (one["status"]["state"] for one in alerts), strict=True))

    wait_until(lambda: states() == wanted, 30, f"{states()}")
