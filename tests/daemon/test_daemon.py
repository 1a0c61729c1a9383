"""The daemon as its operator meets it: one process, a real broker, a real Prometheus, signals and exit codes."""

import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from streamae.metrics import CATALOGUE, PER_STREAM
from tests import brokers
from tests.brokers import Mosquitto, free_port, wait_until
from tests.services import CONFIG, PROMETHEUS, PROMTOOL, ROOT, Feed, Prometheus, plant, write

SILENT_S = 4
SCRAPE = """\
global: {{scrape_interval: 500ms, evaluation_interval: 500ms}}
scrape_configs:
  - job_name: streamae
    static_configs: [{{targets: ["127.0.0.1:{page}"]}}]
"""


@pytest.fixture(scope="module")
def broker(tmp_path_factory):
    if brokers.MOSQUITTO is None:
        pytest.skip("mosquitto is not installed: apt-get install mosquitto")
    made = Mosquitto(tmp_path_factory.mktemp("broker")).start()
    yield made
    made.kill()


@pytest.fixture(scope="module")
def feed(broker, trained):
    made = Feed(broker.port, plant(trained)).start()
    yield made
    made.stop()


@pytest.fixture(scope="module")
def daemon(tmp_path_factory, broker, trained, feed):
    """One daemon for all tests that leave it as they found it."""
    made = write(tmp_path_factory.mktemp("daemon"), broker, trained, silent=SILENT_S).start()
    made.wait_for("/readyz")
    wait_until(lambda: made.metric("streamae_windows_scored_total") > 0, 30, made.log())
    yield made
    made.kill()


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory, daemon):
    if PROMETHEUS is None:
        pytest.skip("prometheus is not installed: apt-get install prometheus")
    made = Prometheus(tmp_path_factory.mktemp("prometheus"), SCRAPE.format(page=daemon.port)).start()
    yield made
    made.kill()


def families(metric):
    """Names under which a family of the catalogue is stored by Prometheus."""
    endings = {"counter": ["_total"], "gauge": [""], "histogram": ["_bucket", "_sum", "_count"]}[metric.kind]
    return {f"streamae_{metric.name}{ending}" for ending in endings}


def test_a_real_prometheus_gets_every_metric_of_the_catalogue(prometheus, daemon):
    """What the catalogue promises is what Prometheus has, family by family, the series of single streams included."""
    wait_until(lambda: prometheus.query("streamae_anomaly_score"), 20, "the first scrape")
    assert prometheus.value("up") == 1
    found = {one["metric"]["__name__"] for one in prometheus.query('{__name__=~"streamae_.*"}')}
    promised = set().union(*(families(m) for m in (*CATALOGUE, *PER_STREAM)))
    assert promised - found == set()
    assert found - promised == set()
    versions = prometheus.query("streamae_build_info")[0]["metric"]
    assert all(re.match(r"\d+\.\d+", versions[name]) for name in ("version", "python", "torch")), versions
    before = prometheus.value("streamae_messages_received_total")
    assert before > 0
    wait_until(lambda: prometheus.value("streamae_messages_received_total") > before, 20, "the counter grows")
    scored = "streamae_anomaly_score"
    wait_until(lambda: {s["metric"]["stream"] for s in prometheus.query(scored)} == set(daemon.streams()), 30, "all")


@pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed: apt-get install prometheus")
def test_promtool_has_nothing_to_say_about_the_metrics(daemon):
    """`promtool check metrics` is clean on what the daemon serves; it is not on a counter without its suffix."""
    text = daemon.get("/metrics")[1]
    checked = subprocess.run([PROMTOOL, "check", "metrics"], input=text, text=True, capture_output=True, check=False)
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")
    spoilt = text.replace("streamae_rows_total", "streamae_rows")
    checked = subprocess.run([PROMTOOL, "check", "metrics"], input=spoilt, text=True, capture_output=True, check=False)
    assert checked.returncode != 0


def test_a_deaf_subscriber_is_not_ready(daemon, feed):
    """Broker up, topics silent: /readyz fails and says why, the age grows, /healthz is fine; speech heals all of it."""
    feed.pause()
    try:
        wait_until(lambda: daemon.get("/readyz")[0] == 503, 30, "not ready though deaf")
        _, why = daemon.get("/readyz")
        assert re.search(r"connected, but no message has arrived for \d+ s", why), why
        wait_until(lambda: daemon.metric("streamae_source_last_message_age_seconds") > SILENT_S, 10, "the age")
        assert daemon.metric("streamae_source_connected") == 1
        assert daemon.metric("streamae_source_subscribed") == 1
        assert daemon.get("/healthz")[0] == 200
    finally:
        feed.go_on()
    wait_until(lambda: daemon.get("/readyz")[0] == 200, 30, "ready again")
    wait_until(lambda: daemon.metric("streamae_source_last_message_age_seconds") < SILENT_S, 10, "the age")


def rows_and_windows(daemon):
    """Both counters out of one answer, so that no batch comes between them."""
    text = daemon.get("/metrics")[1]
    return [float(re.search(rf"^streamae_{name}_total (\S+)$", text, re.M)[1]) for name in ("rows", "windows_scored")]


def test_a_good_reload_keeps_the_windows(daemon, feed):
    """SIGHUP with other alert rules: the streams stay, none learns again, and scoring goes on at the next row."""
    wait_until(lambda: {s["state"] for s in daemon.streams().values()} <= {"ok", "pending", "firing"}, 30)
    names, took_over = set(daemon.streams()), daemon.metric("streamae_config_last_reload_success_timestamp_seconds")
    config = daemon.path.read_text()
    rows, windows = rows_and_windows(daemon)
    daemon.path.write_text(config.replace("keep_firing_for: 5s", "keep_firing_for: 6s"))
    daemon.signal(signal.SIGHUP)
    stamp = "streamae_config_last_reload_success_timestamp_seconds"
    wait_until(lambda: daemon.metric(stamp) > took_over, 30, "the reload")
    states = {name: one["state"] for name, one in daemon.streams().items()}
    assert set(states) == names
    assert not {"learning", "filling"} & set(states.values())
    wait_until(lambda: daemon.metric("streamae_rows_total") >= rows + 30, 30)
    now_rows, now_windows = rows_and_windows(daemon)
    # Windows that started over would each cost the 15 rows before their first score.
    assert now_rows - rows == now_windows - windows
    assert daemon.metric("streamae_config_last_reload_successful") == 1
    assert "alert.keep_firing_for: applied" in daemon.log()


def test_a_reload_begins_and_ends_maintenance(daemon, feed):
    """A window in the file is on the page, in the API and the metrics within seconds; out of the file it is over."""
    good = daemon.path.read_text()
    window = "maintenance: [{name: now, group: pump*, from: 2020-01-01T00:00:00Z, until: 2100-01-01T00:00:00Z}]\n"

    def shown() -> tuple[float, float, list[str], int]:
        active = json.loads(daemon.get("/api/v1/silences?state=active")[1])["silences"]
        marked = [one for one in daemon.streams().values() if "maintenance" in one.get("marks", ())]
        streams, windows = (f"streamae_{name}" for name in ("streams_in_maintenance", "maintenance_windows"))
        names = [one["maintenance"] for one in active]
        return daemon.metric(streams), daemon.metric(windows, state="active"), names, len(marked)

    try:
        daemon.path.write_text(good + window)
        daemon.signal(signal.SIGHUP)
        wait_until(lambda: shown() == (3, 1, ["now"], 3), 30, "in maintenance")
    finally:
        daemon.path.write_text(good)
    daemon.signal(signal.SIGHUP)
    wait_until(lambda: shown() == (0, 0, [], 0), 30, "no longer")


def test_a_bad_reload_is_refused_and_the_old_configuration_goes_on(daemon, feed):
    """SIGHUP with a mistake: file, line and key are said, the metric falls to 0, and everything else goes on."""
    good = daemon.path.read_text()
    line = next(i for i, text in enumerate(good.splitlines(), 1) if "keep_firing_for" in text)
    daemon.path.write_text(good.replace("keep_firing_for", "keep_fireing_for"))
    daemon.signal(signal.SIGHUP)
    try:
        wait_until(lambda: daemon.metric("streamae_config_last_reload_successful") == 0, 30, "refused")
        assert re.search(rf"streamae\.yaml:{line}:\d+: streams\.pumps\.alert\.keep_fireing_for", daemon.log())
        windows = daemon.metric("streamae_windows_scored_total")
        wait_until(lambda: daemon.metric("streamae_windows_scored_total") > windows, 30, "scoring goes on")
        assert daemon.get("/readyz")[0] == 200
        (refused,) = json.loads(daemon.get("/api/v1/status")[1])["conditions"]
        assert (refused["kind"], "keep_fireing_for" in refused["reason"]) == ("configuration", True)
    finally:
        daemon.path.write_text(good)
    daemon.signal(signal.SIGHUP)
    wait_until(lambda: daemon.metric("streamae_config_last_reload_successful") == 1, 30, "taken over again")
    assert json.loads(daemon.get("/api/v1/status")[1])["conditions"] == []


def test_a_second_daemon_on_one_state_directory_refuses(daemon, broker, trained, tmp_path):
    """The second names the directory and the pid that has it, ends with 73, and the first goes on."""
    second = write(tmp_path, broker, trained)
    second.path.write_text(second.path.read_text().replace("dir: state", f"dir: {daemon.folder / 'state'}"))
    second.start()
    assert second.wait() == 73
    assert f"in use by the process with pid {daemon.process.pid}" in second.log()
    assert daemon.get("/healthz")[0] == 200


def test_sigterm_drains_saves_and_ends_in_time(broker, trained, tmp_path):
    """SIGTERM under load: exit 0, offline on the broker, and the next start has nothing left to fold."""
    feed = Feed(broker.port, plant(trained), rows_per_s=50)
    first = write(tmp_path, broker, trained).start()
    with broker.collect("streamae/plant-1/status") as statuses:
        try:
            first.wait_for("/readyz")
            feed.start()
            wait_until(lambda: first.metric("streamae_windows_scored_total") > 30, 30, first.log())
            assert first.stop() == 0, first.log()
        finally:
            first.kill()
            feed.stop()
        wait_until(lambda: statuses and statuses[-1][1] == b"offline", 10, f"offline: {statuses}")
    assert "stopped" in first.log()
    again = write(tmp_path, broker, trained).start()
    try:
        again.wait_for("/healthz")
        assert "recovered 3 streams; folded 0 batches" in again.log()
    finally:
        again.kill()


def broken_configs(folder: Path, trained) -> dict[str, tuple[str, str]]:
    """Name -> (configuration, what its one line of error must say)."""
    content = trained.path.read_bytes()
    flipped = bytearray(content)
    flipped[len(flipped) // 2] ^= 1
    files = {"truncated": content[: len(content) // 2], "flipped": bytes(flipped), "unknown": content}
    for name, spoilt in files.items():
        (folder / f"{name}.pt").write_bytes(spoilt)
    base = {"broker": free_port(), "page": free_port(), "silent": 60, "keep": 5}

    def config(model: object, sha256: str = trained.sha256) -> str:
        return CONFIG.format(model=model, sha256=sha256, **base)

    return {
        "key": (config(trained.path).replace("web:", "wbe:"), "streamae.yaml:4:1: wbe"),
        "value": (config(trained.path).replace("silent_after: 60s", "silent_after: soon"), "mqtt.silent_after: got"),
        "missing": (config(folder / "nowhere.pt"), "nowhere.pt: there is no such model file"),
        "truncated": (config(folder / "truncated.pt"), "truncated.pt: its SHA-256 is"),
        "flipped": (config(folder / "flipped.pt"), "flipped.pt: its SHA-256 is"),
        "unknown": (
            config(folder / "unknown.pt").replace(f", sha256: {trained.sha256}", ""),
            "unknown.pt: was not trained by this installation",
        ),
    }


@pytest.fixture(scope="module")
def refused(tmp_path_factory, trained):
    """Every broken configuration, started at once: name -> (exit code, standard error, whether it made any state)."""
    folder = tmp_path_factory.mktemp("broken")
    started = {}
    for name, (text, _) in broken_configs(folder, trained).items():
        (folder / name).mkdir()
        path = folder / name / "streamae.yaml"
        path.write_text(text)
        command = [sys.executable, "-m", "streamae.cli", "run", "-c", str(path)]
        env = {"PATH": "/usr/bin", "HOME": str(folder), "OMP_NUM_THREADS": "1"}
        started[name] = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env, cwd=ROOT)
    ended = {name: (process.communicate(timeout=60), process) for name, process in started.items()}
    return {n: (p.returncode, err.decode(), (folder / n / "state").exists()) for n, ((_, err), p) in ended.items()}


@pytest.mark.parametrize("name", ["key", "value", "missing", "truncated", "flipped", "unknown"])
def test_what_the_operator_must_mend_is_one_line_and_exit_78(name, refused, trained, tmp_path):
    """A broken configuration and a model file that cannot be trusted end the start before it has any effect."""
    code, said, made_state = refused[name]
    assert code == 78
    assert broken_configs(tmp_path, trained)[name][1] in said
    assert len(said.strip().splitlines()) == 1, said
    assert not made_state
