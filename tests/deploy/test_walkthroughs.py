"""What the pages tell people to type, typed: TLS with a real mosquitto, each line of curl, the function of Node-RED."""

import json
import re
import shutil
import subprocess
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from streamae.cli import main
from streamae.sinks.payload import document
from streamae.web.app import Access, create_app
from streamae.web.server import WebServer
from tests.brokers import MOSQUITTO, Mosquitto
from tests.guide import DOCS, fenced
from tests.page_world import Fleet
from tests.store_world import crash, folded, numbered, opened, report, transition

TLS, CURL, NODE_RED = DOCS / "tls.md", DOCS / "api-by-curl.md", DOCS / "mqtt-and-node-red.md"
OPERATIONS = DOCS / "operations.md"
NOW = 1_700_000_000.0


def needs(*programs: str) -> pytest.MarkDecorator:
    missing = [name for name in programs if shutil.which(name) is None]
    return pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}")


def typed(script: str, folder: Path) -> str:
    """What the lines print, run in one shell that stops at the first failure."""
    command = ["bash", "-euo", "pipefail", "-c", script]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, f"{script}\n{done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture
def certified(tmp_path):
    """Run every shell block of the page, then start a mosquitto with its two listeners; gives both."""
    if MOSQUITTO is None or shutil.which("mosquitto_passwd") is None or shutil.which("openssl") is None:
        pytest.skip("mosquitto or openssl is not installed")
    for block in fenced(TLS, "sh"):
        typed(block.replace("broker.lan", "localhost"), tmp_path)
    (tmp_path / "mqtt-password").write_text("a long password\n")
    listeners = [block.replace("/etc/mosquitto/certs", str(tmp_path)).splitlines() for block in fenced(TLS, "conf")]
    assert [lines[0] for lines in listeners] == ["listener 8883", "listener 8884"]
    broker = Mosquitto(tmp_path, listener=listeners[0][1:])
    mutual = Mosquitto(tmp_path / "mutual", listener=listeners[1][1:])
    yield tmp_path, {"8883": broker.start(), "8884": mutual.start()}
    broker.stop()
    mutual.stop()


def sniffed(
    folder: Path, brokers: dict[str, Mosquitto], change: Callable[[str], str] = str, count: int = 2
) -> list[int]:
    """The exit codes of `sniff` with the page's first blocks, which name a broker and no streams, after a change."""
    codes = []
    for block in fenced(TLS, "yaml")[:count]:
        here = block.replace("/etc/streamae", str(folder)).replace("broker.lan", "localhost")
        for port, broker in brokers.items():
            here = here.replace(f"port: {port}", f"port: {broker.port}")
        (folder / "streamae.yaml").write_text(change(here))
        result = CliRunner().invoke(main, ["sniff", "-c", str(folder / "streamae.yaml"), "--seconds", "1"])
        codes.append(result.exit_code)
    return codes


def test_the_way_to_tls_leads_there(certified):
    """The page's commands and blocks give an encrypted connection, by password and by certificate, as this user."""
    folder, brokers = certified
    assert sniffed(folder, brokers) == [0, 0]
    for broker in brokers.values():
        assert "u'streamae'" in broker.log()


def test_another_authority_is_refused(certified):
    """The control: with a stranger's authority in its place, the same block does not connect."""
    folder, brokers = certified
    typed(fenced(TLS, "sh")[0].replace("ca.key", "other.key").replace("ca.pem", "other.pem"), folder)
    assert sniffed(folder, brokers, lambda text: text.replace("/ca.pem", "/other.pem"), 1) == [69]
    assert not any("u'streamae'" in broker.log() for broker in brokers.values())


@needs("curl", "jq")
def test_every_line_of_curl_works_as_it_stands(tmp_path):
    """Against a page on the same port and token as the demo's; every changing line has changed something."""
    fleet = Fleet(streams=12)
    for number in (3, 4, 8):
        fleet.names[number] = f"line1/pump{number:02d}"
    fleet.tick()
    alert = fleet.fire("line1/pump08")
    app = create_app(fleet, Access(token="demo"))
    server = WebServer(app, "127.0.0.1", 0, on_stop=app.state.events.close)
    server.start()
    try:
        for block in fenced(CURL, "sh"):
            lines = block.replace("localhost:9469", f"127.0.0.1:{server.port}")
            live = "events" in lines  # ends by its own clock: curl then says 28
            said = typed(f"({lines.strip()}) || [ $? = 28 ]" if live else without_metrics(lines), tmp_path)
            assert not live or "event: state" in said
    finally:
        server.stop(10)
    assert fleet.acts == [
        (alert, "acknowledge", "bearing is worn"),
        (alert, "false-alarm", "cleaning"),
        (alert, "withdraw-feedback", ""),
    ]
    assert [(wanted.kind, wanted.stream, wanted.name) for wanted, _ in fleet.changes] == [
        ("relearn", "line1/pump03", ""),
        ("rename", "line1/pump04", "line1/pump40"),
        ("remove", "line1/pump40", ""),
    ]
    since_s = [since_s for _, since_s in fleet.changes]
    assert 0 <= time.time() - since_s[0] - 300 < 120
    assert since_s[1:] == [None, None]
    (silence,) = fleet.silences()
    assert (silence["stream"], silence["state"]) == ("line1/*", "expired")


def without_metrics(block: str) -> str:
    """Without the line that looks into /metrics, which a fleet that is only a view leaves empty."""
    return "\n".join(line for line in block.splitlines() if "/metrics" not in line)


@needs("sqlite3")
def test_a_backup_of_a_running_store_holds_all_that_was_committed(tmp_path):
    """The page's lines, typed while the store is open, give a file that recovers as the store itself would."""
    backup, restore = (lines_under(OPERATIONS, heading) for heading in ("Backup", "Restore"))
    for name in ("var", "etc", "backup"):
        (tmp_path / name).mkdir()
    store = opened(tmp_path / "var")
    for number in range(5):
        store.commit(numbered(number), report(), NOW + number, b"state 2" if number == 2 else None)
    typed(here(backup, tmp_path), tmp_path)
    kept = folded(store)
    store.commit(numbered(5), report(), NOW + 5)
    crash(store)
    typed(here("\n".join(line for line in restore.splitlines() if "systemctl" not in line), tmp_path), tmp_path)
    restored = opened(tmp_path / "var")
    assert kept[0] == b"state 2"
    assert folded(restored) == kept
    crash(restored)


def lines_under(page: Path, heading: str) -> str:
    """The first block of indented lines under a heading."""
    section = page.read_text().partition(f"\n## {heading}\n")[2]
    return textwrap.dedent(re.search(r"(?m)(?:^ {4}.*\n)+", section)[0])


def here(lines: str, folder: Path) -> str:
    """The lines with the folders of an installation in a folder of the test."""
    for there, name in (("/var/lib/streamae", "var"), ("/etc/streamae", "etc"), ("/backup/", "backup/")):
        lines = lines.replace(there, f"{folder}/{name}")
    return lines


@needs("node")
def test_the_function_of_node_red_tells_firing_from_resolved(tmp_path):
    """With the alert that the page shows: out of the second output, and not a second time."""
    alert, flow = (json.loads(block) for block in fenced(NODE_RED, "json"))
    (function,) = [node for node in flow if node["type"] == "function"]
    ids = {node["id"] for node in flow}
    assert {target for node in flow for wires in node.get("wires", []) for target in wires} <= ids
    topic = "streamae/demo/alerts/pumps/line1/pump08"
    messages = [
        {"topic": f"{topic}/event", "payload": alert},
        {"topic": f"{topic}/event", "payload": alert},
        {"topic": f"{topic}/anomaly", "payload": alert | {"key": "other"}},
        {"topic": f"{topic}/event", "payload": alert | {"key": "third", "state": "firing"}},
    ]
    script = f"""
        const kept = {{}}, context = {{get: k => kept[k], set: (k, v) => {{ kept[k] = v; }}}};
        const run = new Function('msg', 'context', {json.dumps(function["func"])});
        console.log(JSON.stringify({json.dumps(messages)}.map(msg => run(msg, context))));
    """
    (tmp_path / "run.js").write_text(script)
    resolved, repeated, state, firing = json.loads(typed("node run.js", tmp_path))
    out = {"topic": "line1/pump08", "severity": "critical", "payload": alert["summary"]}
    assert (resolved, repeated, state, firing) == ([None, out], None, None, [out, None])


def test_the_alert_of_the_page_has_the_fields_of_today():
    """The JSON that the page shows has exactly the keys that sinks send, in their order."""
    assert list(json.loads(fenced(NODE_RED, "json")[0])) == list(document(transition()))
