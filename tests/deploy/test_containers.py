"""Image, compose file and manifest, as far as tools judge them without an engine; the broker's file in a mosquitto.

What deploy/README.md says under "not run" stays true: no image is built here and no container started.
"""

import getpass
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from streamae.config import load
from tests import brokers
from tests.brokers import accepts, free_port, wait_until
from tests.services import ROOT

DEPLOY = ROOT / "deploy"
COMPOSE = DEPLOY / "compose.yaml"
MANIFEST = DEPLOY / "kubernetes" / "streamae.yaml"
DOCKERFILE = DEPLOY / "Dockerfile"


def tool(name):
    """A tool of this environment or of the machine; the test is skipped without it."""
    found = shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed: make tools")
    return found


def run(*command):
    return subprocess.run(command, capture_output=True, text=True, check=False)


def spoilt(tmp_path, path, old, new):
    text = path.read_text()
    assert old in text
    (tmp_path / path.name).write_text(text.replace(old, new))
    return str(tmp_path / path.name)


def test_hadolint_has_nothing_to_say(tmp_path):
    """Hadolint finds nothing in the Dockerfile, and something where apt-get keeps its lists."""
    hadolint = tool("hadolint")
    checked = run(hadolint, "--no-color", str(DOCKERFILE))
    assert (checked.returncode, checked.stdout) == (0, ""), checked.stdout + checked.stderr
    worse = spoilt(tmp_path, DOCKERFILE, "STOPSIGNAL SIGTERM", "RUN cd /tmp && sudo apt-get install curl")
    assert run(hadolint, worse).returncode != 0


def test_the_compose_file_is_one(tmp_path):
    """It fits the schema of the Compose specification; with a key that there is not, it does not."""
    check = tool("check-jsonschema")
    checked = run(check, "--builtin-schema", "vendor.compose-spec", str(COMPOSE))
    assert checked.returncode == 0, checked.stdout
    worse = spoilt(tmp_path, COMPOSE, "stop_grace_period", "stop_grace_time")
    assert run(check, "--builtin-schema", "vendor.compose-spec", worse).returncode != 0


def test_the_manifest_is_one(tmp_path):
    """Each document fits the schemas of Kubernetes, strictly; with a misspelt probe it does not."""
    validate = tool("kubernetes-validate")
    checked = run(validate, "--strict", str(MANIFEST))
    assert checked.returncode == 0, checked.stdout + checked.stderr
    worse = spoilt(tmp_path, MANIFEST, "readinessProbe", "readyProbe")
    assert run(validate, "--strict", worse).returncode != 0


def test_what_compose_mounts_is_there():
    """Every file of ours that a service mounts or builds from exists, and every service that one waits for too."""
    compose = yaml.safe_load(COMPOSE.read_text())
    services = compose["services"]
    for name, service in services.items():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert (DEPLOY / source).exists() if source.startswith(".") else source in compose["volumes"], (
                name,
                source,
            )
        assert set(service.get("depends_on", [])) <= set(services), name
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:"), f"{name} is open to the network"
    build = compose["x-streamae"]["build"]
    assert (DEPLOY / build["context"] / build["dockerfile"]).samefile(DOCKERFILE)
    stages = re.findall(r"^FROM \S+ AS (\w+)$", DOCKERFILE.read_text(), re.M)
    assert {"cpu", "cuda"} <= set(stages)
    assert build["target"] in stages


def test_the_dashboards_find_their_way_into_grafana():
    """The folder that the provisioning names is the one that compose mounts the dashboards to."""
    provider = yaml.safe_load((DEPLOY / "grafana/provisioning/dashboards/streamae.yml").read_text())["providers"][0]
    mounted = yaml.safe_load(COMPOSE.read_text())["services"]["grafana"]["volumes"]
    assert f"./grafana/dashboards:{provider['options']['path']}:ro" in mounted


def test_the_configurations_are_ones_that_streamae_takes(tmp_path):
    """What compose and the manifest configure loads: no key is unknown, secrets come from where they are put."""
    settings = load(DEPLOY / "compose" / "streamae.yaml", environ={"STREAMAE_TOKEN": "t"})
    services = yaml.safe_load(COMPOSE.read_text())["services"]
    assert settings.mqtt.host in services
    prometheus = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
    targets = {t for job in prometheus["scrape_configs"] for s in job["static_configs"] for t in s["targets"]}
    assert {f"{host}:{settings.web.port}" for host in settings.web.allowed_hosts} <= targets
    documents = list(yaml.safe_load_all(MANIFEST.read_text()))
    text = next(d for d in documents if d["kind"] == "ConfigMap")["data"]["streamae.yaml"]
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    for name in ("mqtt-password", "token"):
        assert f"/run/secrets/streamae/{name}" in text
        (secrets / name).write_text("x")
    (tmp_path / "streamae.yaml").write_text(text.replace("/run/secrets/streamae", str(secrets)))
    assert load(tmp_path / "streamae.yaml").web.port == 9469
    container = next(d for d in documents if d["kind"] == "StatefulSet")["spec"]["template"]["spec"]["containers"][0]
    mounts = {mount["mountPath"] for mount in container["volumeMounts"]}
    assert {
        "/run/secrets/streamae",
        "/etc/streamae/models",
        "/var/lib/streamae",
        "/etc/streamae/streamae.yaml",
    } <= mounts


@pytest.mark.skipif(brokers.MOSQUITTO is None, reason="mosquitto is not installed: apt-get install mosquitto")
def test_mosquitto_takes_its_configuration(tmp_path):
    """A real mosquitto starts with the shipped file (only port, user and folder are ours) and knows every key of it."""
    port = free_port()
    text = (DEPLOY / "mosquitto" / "mosquitto.conf").read_text()
    changed = text.replace("listener 1883", f"user {getpass.getuser()}\nlistener {port} 127.0.0.1")
    path = tmp_path / "mosquitto.conf"
    path.write_text(changed.replace("/mosquitto/data/", f"{tmp_path}/"))
    with (tmp_path / "log").open("wb") as log:
        broker = subprocess.Popen([brokers.MOSQUITTO, "-c", str(path)], stdout=log, stderr=log)
    try:
        wait_until(lambda: accepts(port) or broker.poll() is not None, 20, "mosquitto accepts")
        assert broker.poll() is None, (tmp_path / "log").read_text()
    finally:
        broker.terminate()
        broker.wait(10)
    assert "Error" not in (tmp_path / "log").read_text()
    assert (tmp_path / "mosquitto.db").exists(), "sessions survive a restart"
