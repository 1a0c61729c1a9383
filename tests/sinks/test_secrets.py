"""No secret in any log, trace, page, answer, metric or file: a canary in every key that holds one, and all failures."""

import base64
import json
import logging
import re
import socket
import threading
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from click.testing import CliRunner
from starlette.testclient import TestClient

from streamae.cli import main
from streamae.config import load
from streamae.config.load import json_schema
from streamae.daemon.homeassistant import HomeAssistantThread
from streamae.errors import ConfigError, StreamaeError
from streamae.failure import failure_of, place_of
from streamae.ingest.mqtt import MqttSource, ReceiveLimits
from streamae.mqtt import Subscription
from streamae.sinks.delivery import Delivery
from streamae.sinks.sink import SinkFailedError, SinkUnavailableError
from streamae.sinks.webhook import WebhookSink
from streamae.store.store import Store
from streamae.web.app import Access, create_app
from tests.brokers import Mosquitto, free_port, wait_until
from tests.daemon.test_conditions import Lines, World
from tests.sinks.test_delivery import Ear, always
from tests.sinks.test_sinks import Receiver
from tests.store_world import Clock, transition

CANARY = "c4nary+of/ours=="
FORMS = {
    CANARY, quote(CANARY), quote(CANARY, safe=""), "c4nary", base64.b64encode(CANARY.encode()).decode(),
    base64.b64encode(f"me:{CANARY}".encode()).decode(), CANARY.encode().hex(), repr(CANARY),
}  # fmt: skip
CONFIG = """\
instance: plant-1
mqtt: {host: 127.0.0.1, port: BROKER, username: me, password: "${CANARY}"}
web: {listen: "127.0.0.1:PAGE", token: "${CANARY}"}
streams:
  pumps:
    topics: [{topic: "plant/{pump}", payload: json}]
    stream: "{pump}"
    model: {path: model.pt, sha256: DIGEST}
home_assistant: {}
sinks:
  - type: webhook
    name: hook
    url: "RECEIVER/hook/${QUOTED}?key=${QUOTED}"
    headers: {Authorization: "Bearer ${CANARY}", X-Key: "${CANARY}"}
    group_wait: 0s
  - type: webhook
    name: basic
    url: "http://127.0.0.1:DEAD/${QUOTED}"
    headers: {Authorization: "Basic ${BASIC}"}
    group_wait: 0s
  - {type: alertmanager, name: manager, url: "RECEIVER/${QUOTED}", headers: {Authorization: "Bearer ${CANARY}"}}
  - {type: mqtt, name: broker, timeout: 2s}
APPRISE"""
SMALL = 'streams: {pumps: {topics: [{topic: "plant/{p}/{channel}"}], model: {path: m.pt}}}\n'
APPRISE = """\
  - {type: apprise, name: phone, urls: ["JSON/${QUOTED}?+X-Key=${QUOTED}"], timeout: 5s, group_wait: 0s}
"""


def environment() -> dict[str, str]:
    """Each with the line end that Kubernetes' secrets have."""
    quoted, basic = quote(CANARY, safe=""), base64.b64encode(f"me:{CANARY}".encode()).decode()
    return {"CANARY": f"{CANARY}\n", "QUOTED": f"{quoted}\r\n", "BASIC": f"{basic}\n"}


def written(folder: Path, receiver: Receiver, broker: int) -> Path:
    try:
        import apprise  # noqa: F401  (an extra)
    except ImportError:
        more = ""
    else:
        more = APPRISE.replace("JSON", receiver.url.replace("http:", "json:"))
    said = {"BROKER": broker, "PAGE": free_port(), "DEAD": free_port(), "DIGEST": "0" * 64, "RECEIVER": receiver.url}
    text = CONFIG.replace("APPRISE", more)
    for word, value in said.items():
        text = text.replace(word, str(value))
    (folder / "model.pt").touch()
    (folder / "streamae.yaml").write_text(text)
    return folder / "streamae.yaml"


def test_every_key_that_holds_a_secret_is_planted() -> None:
    """A key that is added to the configuration and holds one must be added to the canaries above."""
    found = {
        (section, key)
        for section, about in json_schema()["$defs"].items()
        for key, one in about.get("properties", {}).items()
        if '"password"' in json.dumps(one)
    }
    assert found == {
        ("Mqtt", "password"), ("Web", "token"), ("WebhookSink", "url"), ("WebhookSink", "headers"),
        ("AlertmanagerSink", "url"), ("AlertmanagerSink", "headers"), ("AppriseSink", "urls"),
    }  # fmt: skip


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.close()


@pytest.fixture
def lines() -> Iterator[Lines]:
    """Everything that anybody logs, with its traces."""
    lines, root = Lines(), logging.getLogger()
    loggers = [root, *(logging.getLogger(name) for name in ("streamae", "apprise", "paho", "urllib3"))]
    before = [one.level for one in loggers]
    for one in loggers:
        one.setLevel(logging.DEBUG)
    root.addHandler(lines)
    yield lines
    root.removeHandler(lines)
    for one, level in zip(loggers, before, strict=True):
        one.setLevel(level)


def assert_unseen(texts: dict[str, str]) -> None:
    for where, text in texts.items():
        for form in FORMS:
            at = text.find(form)
            assert at < 0, f"{where}: {text[max(0, at - 80) : at + 80]!r}"


def answers(web: TestClient) -> dict[str, str]:
    paths = ["/", "/metrics", "/healthz", "/readyz", "/static/app.js"]
    paths += [
        f"/api/v1/{one}"
        for one in ("status", "streams", "alerts", "dead-letters", "poison", "silences", "models", "feedback")
    ]
    return {path: web.get(path).text for path in paths}


def test_no_failure_of_any_sink_shows_a_secret(
    tmp_path: Path,
    receiver: Receiver,
    make_mosquitto: Callable[..., Mosquitto],
    lines: Lines,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Refused, away, unwilling, hanging up, and repeating whatever it was sent: in no log, answer, metric or file."""
    for name, value in environment().items():
        monkeypatch.setenv(name, value)
    broker = make_mosquitto(listener=["allow_anonymous false"])
    settings = load(written(tmp_path, receiver, broker.port))
    world = World(tmp_path, settings)
    source = MqttSource(
        settings.connection, [Subscription("plant/#")], ReceiveLimits(), now=world.clock.now,
        monotonic=world.clock.monotonic, jitter=world.clock.jitter, status_topic="streamae/plant-1/status",
    )  # fmt: skip
    home = HomeAssistantThread(settings, world.view.snapshot, world.clock)
    web = TestClient(create_app(world.view, Access(frozenset(), CANARY, True)), base_url="http://127.0.0.1")
    source.start()
    home.start()
    world.sink_threads.start()
    seen: dict[str, str] = {}
    for number, status in enumerate((400, 401, 500, 302, 200)):
        receiver.status, before = status, len(receiver.requests)
        parrot(receiver)
        world.store.publish([transition(number)], world.clock.now())
        world.sink_threads.wake()
        wait_until(lambda before=before: len(receiver.requests) > before, 30, f"{status} was answered")
        world.view.retry("hook")
        world.look()
        seen |= {f"{status} {path}": text for path, text in answers(web).items()}
    wait_until(lambda: world.look()["conditions"] and source.status().error and home.conditions[0].failing, 30)
    seen["conditions"] = json.dumps(world.look())
    seen["source"], seen["settings"] = (
        repr(source.status()),
        repr(settings) + repr(settings.sinks) + str(settings.connection),
    )
    seen["json"] = settings.model_dump_json()
    world.sink_threads.stop(1.0)
    home.stop(2.0)
    source.close()
    world.store.close()
    seen |= {
        f"{one.name}": one.read_bytes().decode("latin-1") for one in (tmp_path / "state").rglob("*") if one.is_file()
    }
    seen["log"] = "\n".join(lines.texts)
    assert "answered 401" in seen["log"]
    assert_unseen(seen)


def parrot(receiver: Receiver) -> None:
    """Have the receiver repeat all that it was sent last."""
    last = receiver.requests[-1] if receiver.requests else ("", {}, None)
    receiver.answer = f"{last[0]} {json.dumps(last[1])}".encode()


@pytest.mark.parametrize(
    "verb",
    [
        ["check"],
        ["run"],
        ["notify-test", "hook"],
        ["notify-test", "basic"],
        ["notify-test", "broker"],
        ["notify-test", "phone"],
        ["schema"],
    ],
)
def test_no_verb_prints_a_secret(tmp_path: Path, receiver: Receiver, verb: list[str]) -> None:
    """Whatever it ends with: the configuration is in every verb's hands."""
    receiver.status = 401
    path = written(tmp_path, receiver, free_port())
    command = verb if verb == ["schema"] else [*verb, "-c", str(path)]
    done = CliRunner().invoke(main, command, env=environment())
    trace = "".join(traceback.format_exception(done.exception)) if done.exception else ""
    assert_unseen({"output": done.output, "trace": trace})


MISTAKES = {
    "a header of two lines": ('headers: {X-Key: "${CANARY}"}', f"{CANARY}\nX: y"),
    "a header beyond Latin-1": ('headers: {X-Key: "${CANARY}"}', f"{CANARY}€"),
    "a header with NUL": ('headers: {Authorization: "Bearer ${CANARY}"}', f"{CANARY}\0"),
    "a user in the address": ("url", f"http://me:{CANARY}@h/"),
    "a line end in the address": ("url", f"http://h/{CANARY}\nX: y"),
    "a label of 70 letters": ("url", f"http://{'h' * 70}/{CANARY}"),
    "a label of none": ("url", f"http://a..b/{CANARY}"),
    "another scheme": ("url", f"ftp://h/{CANARY}"),
    "a port that is none": ("url", f"http://h:99999/{CANARY}"),
    "a host in other letters": ("url", f"http://hö€st/{CANARY}"),
}


@pytest.mark.parametrize("kind", ["webhook", "alertmanager"])
@pytest.mark.parametrize("mistake", MISTAKES)
def test_what_cannot_be_sent_is_found_by_check_and_not_shown(tmp_path: Path, mistake: str, kind: str) -> None:
    """With file, line and sink, before anything is sent; the value is in no message."""
    how, value = MISTAKES[mistake]
    given = 'url: "${CANARY}"' if how == "url" else f'url: "http://h/", {how}'
    path = tmp_path / "streamae.yaml"
    path.write_text(f"{SMALL}sinks:\n  - {{type: {kind}, {given}}}\n")
    with pytest.raises(ConfigError, match=r"streamae\.yaml:\d+:\d+: sinks\[0\]") as caught:
        load(path, {"CANARY": value})
    assert_unseen({"message": str(caught.value), "trace": "".join(traceback.format_exception(caught.value))})


@pytest.mark.parametrize("end", ["\n", "\r\n", "\n\n"])
@pytest.mark.parametrize("source", ["${SECRET}", "file:secret", "credential:secret"])
def test_line_ends_behind_a_secret_are_never_part_of_it(tmp_path: Path, source: str, end: str) -> None:
    """From a variable, a file or a credential; in a password, a token, an address and a header."""
    (tmp_path / "secret").write_bytes(b"\xef\xbb\xbf" * source.startswith("file") + f"http://h/{CANARY}{end}".encode())
    path = tmp_path / "streamae.yaml"
    path.write_text(f"""\
mqtt: {{username: me, password: "{source}"}}
web: {{token: "{source}"}}
streams: {{pumps: {{topics: [{{topic: "plant/{{p}}/{{channel}}"}}], model: {{path: m.pt}}}}}}
sinks: [{{type: webhook, url: "{source}", headers: {{Authorization: "{source}"}}}}]
""")
    settings = load(path, {"SECRET": f"http://h/{CANARY}{end}", "CREDENTIALS_DIRECTORY": str(tmp_path)})
    hook: Any = settings.sinks[0]
    assert settings.web.token is not None
    found = {settings.mqtt.password, settings.web.token.get_secret_value(), hook.url, hook.headers["Authorization"]}
    assert found == {f"http://h/{CANARY}"}


@pytest.mark.parametrize("value", ["\n", "", " ", "\r\n"])
def test_an_empty_secret_is_refused(tmp_path: Path, value: str) -> None:
    """A variable that is set to nothing is no token: the page would be open, or closed to everybody."""
    path = tmp_path / "streamae.yaml"
    path.write_text(SMALL + 'web: {token: "${T}"}\n')
    with pytest.raises(ConfigError, match=r"web\.token: got .*empty"):
        load(path, {"T": value})


# ---- what a sink raises


class OddError(Exception):
    """A stranger's exception, whose text has the secret."""


ODD = {
    "OddError": OddError(CANARY),
    "UnicodeEncodeError": UnicodeEncodeError("latin-1", CANARY, 0, 1, CANARY),
    "ValueError": ValueError(f"Invalid header value b'{CANARY}'"),
    "KeyError": KeyError(CANARY),
    "RecursionError": RecursionError(CANARY),
    "MemoryError": MemoryError(CANARY),
    "OSError": OSError(5, CANARY),
    "gaierror": socket.gaierror(-2, CANARY),
}


@pytest.mark.parametrize("name", ODD)
def test_whatever_a_sink_raises_is_unavailable_by_its_type(tmp_path: Path, lines: Lines, name: str) -> None:
    """The alert waits, the others are sent, the process goes on; its text is nowhere."""
    clock, bad = Clock(), transition(1)

    def mood(some: Any) -> None:
        if bad in some:
            raise ODD[name]

    ear = Ear(mood, batch_max=10)
    store = Store.open(tmp_path, "process", clock, sinks=["ear"])
    delivery = Delivery(ear, store.outbox, clock)
    store.publish([bad, transition(2), transition(3)], clock())
    for _ in range(10):
        clock.now_s += max(delivery.deliver_due(), 0.01)
    assert ear.heard[:2] == [transition(2).key, transition(3).key]
    assert store.outbox.stats()["ear"].pending == 1
    failing = delivery.condition.failing
    assert failing is not None
    assert name in failing.reason
    assert "test_secrets.py:" in failing.reason, "where, for who has to look for it"
    ear.close = always(ODD[name])  # type: ignore[assignment,method-assign]
    store.close()
    files = {one.name: one.read_bytes().decode("latin-1") for one in tmp_path.iterdir()}
    assert_unseen({"reason": failing.reason, "log": "\n".join(lines.texts), **files})


def test_one_alert_that_a_sink_fails_on_does_not_stop_the_others(tmp_path: Path) -> None:
    """A hundred alerts and one of them deadly for the sink: ninety-nine arrive within the first minute."""
    clock, bad = Clock(), transition(50)
    ear = Ear(lambda some: always(OddError("x"))(some) if bad in some else None, batch_max=100)
    store = Store.open(tmp_path, "process", clock, sinks=["ear"])
    delivery = Delivery(ear, store.outbox, clock)
    store.publish([transition(n) for n in range(100)], clock())
    began_s = clock.now_s
    while clock.now_s < began_s + 60:
        clock.now_s += max(delivery.deliver_due(), 0.01)
    assert set(ear.heard) == {transition(n).key for n in range(100) if n != 50}
    store.close()


def test_a_receiver_that_breaks_the_protocol_is_unavailable() -> None:
    """An answer that is no HTTP, or that repeats our token where a status belongs: the type says so, no text does."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            for said in (
                f"{CANARY}\r\n\r\n",
                f"HTTP/1.1 {CANARY} OK\r\n\r\n",
                f"HTTP/1.1 200 OK\r\n{'X: y' * 20000}\r\n\r\n",
            ):
                connection, _ = server.accept()
                connection.recv(65536)
                connection.sendall(said.encode())
                connection.close()

        threading.Thread(target=answer, daemon=True).start()
        sink = WebhookSink(f"http://127.0.0.1:{server.getsockname()[1]}", {"X-Key": CANARY})
        for _ in range(3):
            with pytest.raises(SinkUnavailableError, match="no answer") as caught:
                sink.send([transition(1)])
            assert_unseen({"message": "".join(traceback.format_exception(caught.value))})


def test_a_name_of_a_failure_has_no_text_but_the_systems() -> None:
    """The type, what the system says to an error number, and the place."""
    assert failure_of(ConnectionRefusedError(111, "x")) == "ConnectionRefusedError: Connection refused"
    assert failure_of(ValueError("x")) == "ValueError"
    assert failure_of(OSError("x")) == "OSError"
    try:
        raise SinkFailedError("x")
    except StreamaeError as error:
        assert re.fullmatch(r"SinkFailedError at test_secrets\.py:\d+", place_of(error))


def test_a_canary_is_found_where_it_is() -> None:
    """The control: in each of its forms."""
    for form in FORMS:
        with pytest.raises(AssertionError):
            assert_unseen({"somewhere": f"before {form} behind"})
