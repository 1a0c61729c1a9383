"""One contract for all sinks, each against a real receiver; then what is particular to each of them."""

import http.server
import json
import logging
import math
import shutil
import socket
import socketserver
import ssl
import subprocess
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from streamae.config import load
from streamae.core.report import Transition
from streamae.daemon.clock import Clock as RealClock
from streamae.daemon.sinks import make_sink
from streamae.errors import ConfigError, UnavailableError
from streamae.mqtt import ConnectionOptions
from streamae.sinks import SINKS
from streamae.sinks.alertmanager import AlertmanagerSink
from streamae.sinks.apprise import AppriseSink
from streamae.sinks.log import LogSink, line
from streamae.sinks.mqtt import BrokerPublisher, MqttSink
from streamae.sinks.payload import document, encode, rfc3339
from streamae.sinks.sink import SinkRefusedError, SinkUnavailableError, TriableSink
from streamae.sinks.texts import TEST_RULE, link, summary
from streamae.sinks.webhook import WebhookSink
from tests.brokers import Mosquitto, free_port, wait_until
from tests.store_world import Clock, transition

EVIL = 'x" severity="none"\nalert=forged \x1b[31m <img src=x> nörd \ud800 {instance}'


class Receiver:
    """An HTTP server that keeps requests and answers as it is set to: a status, or silence."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, dict[str, str], Any]] = []
        self.status = 200
        self.headers: dict[str, str] = {}
        self.answer = b"thanks"
        self.released = threading.Event()
        self.drip = False
        outer = self

        class Desk(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                outer.requests.append((self.path, dict(self.headers), json.loads(body)))
                if outer.drip:
                    while not outer.released.wait(0.05):
                        self.wfile.write(b"H")
                    return
                self.send_response(outer.status)
                for name, value in outer.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(outer.answer)))
                self.end_headers()
                self.wfile.write(outer.answer)

            def log_message(self, *_: object) -> None:
                pass

        class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
            daemon_threads = True

            def handle_error(self, *_: object) -> None:
                pass

        self.server = Server(("127.0.0.1", 0), Desk)
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True)
        self.thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"

    def close(self) -> None:
        self.released.set()
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.close()


class Lines(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


@dataclass
class Case:
    """A sink with its receiver: `received` is the text that arrived; `cut` ends the receiver, `restore` starts it."""

    sink: TriableSink
    received: Callable[[], list[str]]
    cut: Callable[[], None] | None = None
    restore: Callable[[], None] | None = None
    closing: list[Callable[[], object]] = field(default_factory=list)
    keeps: bool = False
    """`received` gives what the receiver keeps, not what has come."""


def log_case(_: pytest.FixtureRequest) -> Case:
    logger, lines = logging.Logger("alerts"), Lines()
    logger.addHandler(lines)
    return Case(LogSink(logger=logger), lambda: [record.getMessage() for record in lines.records])


def webhook_case(request: pytest.FixtureRequest) -> Case:
    receiver: Receiver = request.getfixturevalue("receiver")
    sink = WebhookSink(receiver.url + "/hook?token=s3cret", {"Authorization": "Bearer s3cret"})
    return Case(sink, lambda: [json.dumps(body) for _, _, body in receiver.requests], *switch(receiver))


def alertmanager_case(request: pytest.FixtureRequest) -> Case:
    receiver: Receiver = request.getfixturevalue("receiver")
    sink = AlertmanagerSink(receiver.url, Clock())
    return Case(sink, lambda: [json.dumps(body) for _, _, body in receiver.requests], *switch(receiver))


def switch(receiver: Receiver) -> tuple[Callable[[], None], Callable[[], None]]:
    def to(status: int) -> Callable[[], None]:
        def turn() -> None:
            receiver.requests.clear()
            receiver.status = status

        return turn

    return to(503), to(200)


def mqtt_case(request: pytest.FixtureRequest) -> Case:
    broker: Mosquitto = request.getfixturevalue("mosquitto")
    connection = ConnectionOptions(port=broker.port, client_id="sink", session_expiry_s=0, connect_timeout_s=2.0)
    sink = MqttSink(BrokerPublisher(connection), timeout_s=2.0)

    def texts() -> list[str]:
        last = transition(999)
        with broker.collect("streamae/#") as received:
            sink.send([last])  # behind it, all that is retained has come; it may be retained itself from before
            wait_until(lambda: any(last.id.encode() in payload and not kept for _, payload, kept in received))
            return [payload.decode() for _, payload, _ in received]

    return Case(sink, texts, broker.kill, lambda: broker.start() and None, keeps=True)


def apprise_case(request: pytest.FixtureRequest) -> Case:
    pytest.importorskip("apprise", reason="apprise is not installed: pip install 'streamae[notify]'")
    receiver: Receiver = request.getfixturevalue("receiver")
    sink = AppriseSink([receiver.url.replace("http:", "json:")], time.monotonic, timeout_s=60.0)
    return Case(sink, lambda: [json.dumps(body) for _, _, body in receiver.requests], *switch(receiver))


CASES = {
    "log": log_case,
    "webhook": webhook_case,
    "alertmanager": alertmanager_case,
    "mqtt": mqtt_case,
    "apprise": apprise_case,
}


def test_every_registered_sink_has_its_case() -> None:
    """A sink that is added is held to this contract, against a receiver of its kind."""
    assert CASES.keys() == SINKS.keys()


@pytest.fixture(params=SINKS)
def case(request: pytest.FixtureRequest) -> Iterator[Case]:
    case = CASES[request.param](request)
    yield case
    case.sink.close()
    case.sink.close()


def test_what_is_notified_arrives(case: Case) -> None:
    """After `send` returns, the receiver has each transition, with the id by which repetitions are known."""
    transitions = [transition(n) for n in (1, 2)]
    for first in range(0, 2, case.sink.batch_max):
        case.sink.send(transitions[first : first + case.sink.batch_max])
    received = "\n".join(case.received())
    for one in transitions:
        assert one.id in received
        assert one.stream in received


def test_no_name_or_number_breaks_a_sink(case: Case) -> None:
    """Hostile names, numbers that are not finite and empty shares are delivered like all others."""
    worst = transition(7, stream=EVIL, labels={"pump 1": EVIL, "severity": "none", "": ""}, rule="model+x", shares={})
    case.sink.send([worst])
    case.sink.send([transition(8, score=math.inf, threshold=math.nan, shares={"p": math.nan}, time_s=1e18)])
    received = "\n".join(case.received())
    assert transition(7).id in received
    assert "\x1b" not in received


def test_a_receiver_that_is_away_is_unavailable_and_heals(case: Case) -> None:
    """While it is away SinkUnavailableError, afterwards delivered; a sink never gives up by itself."""
    if case.cut is None or case.restore is None:
        pytest.skip("a log is never away")
    case.sink.send([transition(1)])
    case.cut()
    for _ in range(2):
        with pytest.raises(SinkUnavailableError):
            case.sink.send([transition(2)])
    case.restore()
    case.sink.send([transition(3)])
    assert transition(3).id in "\n".join(case.received())


def test_a_test_arrives_marked_and_says_what_was_answered(case: Case) -> None:
    """It has the rule of tests, and stands in no state that is kept; a receiver that is away is unavailable."""
    trial = transition(5, rule=TEST_RULE, shares={})
    assert case.sink.try_out(trial)
    received = "\n".join(case.received())
    assert (trial.id in received) is not case.keeps
    assert case.keeps or TEST_RULE in received or "This is a test" in received
    if case.cut is not None:
        case.cut()
        with pytest.raises(SinkUnavailableError):
            case.sink.try_out(trial)


# ---- payload


def test_a_document_says_all_and_is_plain_json() -> None:
    """Every field of a transition, times twice, ASCII only, null for what JSON has no number for."""
    value = document(transition(1, 2, "resolved", stream="nörd", score=math.nan, time_s=1_700_000_000.25))
    text = encode(value).decode("ascii")
    again = json.loads(text)
    assert again == value
    assert again["key"] == transition(1, 2).key
    assert (again["score"], again["time"], again["time_s"]) == (None, "2023-11-14T22:13:20.250Z", 1_700_000_000.25)
    assert (again["worst_channel"], again["stream"], again["version"]) == ("pressure", "nörd", 1)
    assert summary(transition(1)) == "pumps/north/p1: model warning, score 2.5 over 1, most of it pressure (70%)"
    assert summary(transition(1, 2, "resolved")) == "pumps/north/p1: model resolved"
    assert again["url"] is None


VERDICTS = [
    ("stale", {"flow": 1.0}, 400.0, 60.0, "pumps/a: stale warning, flow silent for 6.67 min, limit 60 s"),
    ("stale", {}, 8000.0, 300.0, "pumps/a: stale warning, nothing heard for 2.22 h, limit 5 min"),
    ("stuck", {"flow": 1.0}, 120.0, 60.0, "pumps/a: stuck warning, flow has not changed for 120 values, limit 60"),
    ("out_of_range", {"flow": 1.0}, -127.0, -40.0, "pumps/a: out_of_range warning, flow is -127, limit -40"),
    ("flapping", {"flow": 1.0}, 7.0, 6.0, "pumps/a: flapping warning, the alert of flow began 7 times, limit 6"),
]


@pytest.mark.parametrize(("rule", "shares", "score", "threshold", "words"), VERDICTS)
def test_a_verdict_on_a_sensor_is_said_by_what_was_measured(
    rule: str, shares: dict[str, float], score: float, threshold: float, words: str
) -> None:
    """Channel, value and limit, not a score; and of the whole group, its name."""
    one = transition(1, stream="a", rule=rule, shares=shares, score=score, threshold=threshold)
    assert summary(one) == words
    assert summary(replace(one, stream="*")).startswith(f"all of pumps: {rule} ")
    assert "limit" in summary(replace(one, state="resolved", sequence=2))


PAGE = "https://plant.example/streamae"
LINK = f"{PAGE}/#/stream/pumps/north%2Fp1/1699999881.000/1700000122.100"


def test_every_sink_links_to_the_page_where_its_address_is_known(receiver: Receiver, mosquitto: Mosquitto) -> None:
    """At the time of the alert; a test and a verdict on a group lead to the alerts; without an address, nowhere."""
    one = transition(1)
    assert link(PAGE + "/", one) == LINK
    assert link(PAGE, replace(one, stream="*")) == link(PAGE, replace(one, rule=TEST_RULE)) == f"{PAGE}/#/alerts"
    assert link("", one) == ""
    assert line(one, PAGE).endswith(f"url={LINK}")
    assert "url=" not in line(one)
    WebhookSink(receiver.url, page=PAGE).send([one])
    assert receiver.requests[-1][2]["alerts"][0]["url"] == LINK
    AlertmanagerSink(receiver.url, Clock(), page=PAGE).send([one])
    pushed = receiver.requests[-1][2][0]
    assert (pushed["generatorURL"], pushed["annotations"]["link"]) == (LINK, LINK)
    assert (pushed["annotations"]["value"], pushed["annotations"]["threshold"]) == ("2.5", "1")
    connection = ConnectionOptions(port=mosquitto.port, client_id="sink", session_expiry_s=0)
    sink = MqttSink(BrokerPublisher(connection), page=PAGE)
    sink.send([one])
    with mosquitto.collect("streamae/#") as received:
        wait_until(lambda: received)
    assert json.loads(received[0][1])["url"] == LINK
    sink.close()


@pytest.mark.parametrize("time_s", [math.nan, math.inf, -math.inf, 1e12, -1e12])
def test_a_time_beyond_the_calendar_has_no_text(time_s: float) -> None:
    """Years outside 1 to 9999 are null, not an error."""
    assert rfc3339(time_s) is None


# ---- log


def test_a_log_line_cannot_be_forged() -> None:
    """One line per transition; names are quoted; resolved is INFO, critical is ERROR."""
    logger, lines = logging.Logger("alerts"), Lines()
    logger.addHandler(lines)
    sink = LogSink(logger=logger)
    sink.send([transition(1, stream=EVIL), transition(2, severity="critical"), transition(1, 2, "resolved", stream="")])
    messages = [record.getMessage() for record in lines.records]
    assert all(message.isprintable() and message.isascii() for message in messages)
    assert 'stream="x\\" severity=\\"none\\"\\nalert=forged' in messages[0], "it stands inside quotes"
    assert 'stream=""' in messages[2]
    assert [record.levelname for record in lines.records] == ["WARNING", "ERROR", "INFO"]


def test_a_storm_is_a_count_and_the_worst() -> None:
    """Many at once: one line that counts them per group and state, and the ten worst."""
    logger, lines = logging.Logger("alerts"), Lines()
    logger.addHandler(lines)
    LogSink(logger=logger).send([transition(n, score=float(n), threshold=float(n % 2)) for n in range(500)])
    messages = [record.getMessage() for record in lines.records]
    assert messages[0] == "alerts=500 pumps.firing=500 shown=10"
    assert [f"p{499 - 1 * n}" for n in range(10)] == [m.split("stream=north/")[1].split()[0] for m in messages[1:]]


# ---- webhook


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (400, SinkRefusedError),
        (413, SinkRefusedError),
        (422, SinkRefusedError),
        (301, SinkUnavailableError),
        (401, SinkUnavailableError),
        (404, SinkUnavailableError),
        (429, SinkUnavailableError),
        (500, SinkUnavailableError),
    ],
)
def test_an_answer_means_poison_or_patience(receiver: Receiver, status: int, expected: type[Exception]) -> None:
    """What no body could correct (credentials, paths, overload) waits; what this body is to blame for is dead."""
    receiver.status, receiver.answer = status, b"because\n\x1b[31m" + b"x" * 9999
    sink = WebhookSink(receiver.url + "/s3cret?token=s3cret", {"X-Key": "s3cret"})
    with pytest.raises(expected, match=rf"answered {status} \(because") as caught:
        sink.send([transition(1)])
    assert "s3cret" not in str(caught.value) + repr(caught.value) + repr(vars(sink))
    assert "\x1b" not in str(caught.value)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(("wish", "seconds"), [("17", 17.0), ("99999", 300.0), ("Wed, 21 Oct 2015", 0.0), ("²", 0.0)])
def test_retry_after_is_read_within_bounds(receiver: Receiver, wish: str, seconds: float) -> None:
    """Seconds are heeded up to five minutes; anything else leaves it to our own back-off."""
    receiver.status, receiver.headers = 503, {"Retry-After": wish.encode().decode("latin-1")}
    with pytest.raises(SinkUnavailableError) as caught:
        WebhookSink(receiver.url).send([transition(1)])
    assert caught.value.retry_after_s == seconds


def test_a_request_carries_its_idempotency_key(receiver: Receiver) -> None:
    """One transition: its own key; several: the same hash whenever they are the same; headers of the operator's too."""
    sink = WebhookSink(receiver.url + "/hook", {"Authorization": "Bearer x"})
    sink.send([transition(1)])
    for _ in range(2):
        sink.send([transition(1), transition(2)])
    (path, first, body), (_, second, _), (_, third, _) = receiver.requests
    assert path == "/hook"
    assert first["Idempotency-Key"] == transition(1).key
    assert second["Idempotency-Key"] == third["Idempotency-Key"] != first["Idempotency-Key"]
    assert (first["Authorization"], first["Content-Type"]) == ("Bearer x", "application/json")
    assert body == {"version": 1, "alerts": [document(transition(1))]}


def test_a_receiver_that_drips_does_not_hold_the_sink(receiver: Receiver) -> None:
    """The time-out bounds the whole request, though each byte comes in time."""
    receiver.drip = True
    with pytest.raises(SinkUnavailableError, match="no answer"):
        WebhookSink(receiver.url, timeout_s=0.5).send([transition(1)])


def test_no_receiver_is_unavailable() -> None:
    """Nothing listens, or the name does not exist."""
    with pytest.raises(SinkUnavailableError, match="no answer"):
        WebhookSink(f"http://127.0.0.1:{free_port()}").send([transition(1)])
    with pytest.raises(SinkUnavailableError, match="no answer"):
        WebhookSink("http://receiver.invalid/").send([transition(1)])


def test_tls_is_verified(receiver: Receiver, certificates: Path) -> None:
    """A receiver whose certificate no trusted authority signed is given nothing; with the right CA it is."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificates / "server.pem", certificates / "server.key")
    receiver.server.socket = server.wrap_socket(receiver.server.socket, server_side=True)
    url = f"https://localhost:{receiver.server.server_port}/"
    with pytest.raises(SinkUnavailableError, match="CERTIFICATE_VERIFY_FAILED"):
        WebhookSink(url).send([transition(1)])
    assert receiver.requests == []
    WebhookSink(url, ca_file=str(certificates / "ca.pem")).send([transition(1)])
    assert len(receiver.requests) == 1


@pytest.mark.parametrize(
    "url",
    ["", "ftp://h/x", "http://", "http://h:99999/", "http://h:x/", "http://h/a b", "http://h/\r\nX: y", "http://ü/"],
)
def test_an_address_that_is_none_is_an_error_of_the_operator(url: str) -> None:
    """At the start, not at the first alert."""
    with pytest.raises(ConfigError, match="http://"):
        WebhookSink(url)


def test_credentials_belong_in_headers() -> None:
    """They would be shown with the address otherwise."""
    with pytest.raises(ConfigError, match="headers") as caught:
        WebhookSink("http://ada:s3cret@h/")
    assert "s3cret" not in str(caught.value)


def test_a_receiver_that_never_accepts_is_bounded_too() -> None:
    """A connection that is not accepted in time is no answer."""
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        address = full.getsockname()
        clogs = [socket.socket() for _ in range(4)]
        for clog in clogs:
            clog.setblocking(False)
            clog.connect_ex(address)
        with pytest.raises(SinkUnavailableError, match="no answer"):
            WebhookSink(f"http://127.0.0.1:{address[1]}", timeout_s=0.3).send([transition(1)])
        for clog in clogs:
            clog.close()


# ---- MQTT


def test_events_are_notified_and_states_are_kept(mosquitto: Mosquitto) -> None:
    """An event for each transition; for who comes later, the last state per stream and rule."""
    connection = ConnectionOptions(port=mosquitto.port, client_id="sink", session_expiry_s=0)
    sink = MqttSink(BrokerPublisher(connection), "out/{group}/{stream}/{label_line}/{label_none}")
    with mosquitto.collect("out/#") as received:
        sink.send([transition(1)])
        sink.send([transition(1, 2, "resolved")])
        sink.send([transition(2, stream="a+#\0b", rule="model/x")])
        wait_until(lambda: len(received) == 6)
    topics = [topic for topic, _, _ in received]
    assert topics[:4] == ["out/pumps/north/p1/north//event", "out/pumps/north/p1/north//model"] * 2
    assert topics[4:] == ["out/pumps/a___b/north//event", "out/pumps/a___b/north//model/x"]
    with mosquitto.collect("out/#") as kept:
        wait_until(lambda: len(kept) == 2)
    assert {json.loads(payload)["key"] for _, payload, _ in kept} == {transition(1, 2).key, transition(2).key}
    sink.close()


def test_many_travel_together_and_a_state_never_goes_back(mosquitto: Mosquitto) -> None:
    """200 in one delivery, each with its event; an older alert that comes late by a retry leaves the newer state."""
    assert MqttSink.batch_max >= 200
    sink = MqttSink(
        BrokerPublisher(ConnectionOptions(port=mosquitto.port, client_id="many", session_expiry_s=0)), "m/{stream}"
    )
    with mosquitto.collect("m/#") as received:
        sink.send([transition(n) for n in range(200)])
        wait_until(lambda: len(received) == 400)
        newer, older = transition(7, stream="p"), transition(3, 2, "resolved", stream="p")
        sink.send([newer])
        sink.send([older])
        sink.send([transition(5, stream="q"), transition(4, 2, "resolved", stream="q")])
        wait_until(lambda: len([t for t, _, _ in received if t.endswith("/event")]) == 204)
    with mosquitto.collect("m/#") as kept:
        wait_until(lambda: len(kept) == 202)
    states = {topic: json.loads(payload)["key"] for topic, payload, _ in kept}
    assert states["m/p/model"] == newer.key
    assert states["m/q/model"] == transition(5).key
    sink.close()


def test_a_test_is_an_event_and_no_state(mosquitto: Mosquitto) -> None:
    """Who listens hears of it, who comes later does not; a real alert leaves both, as a control."""
    connection = ConnectionOptions(port=mosquitto.port, client_id="trial", session_expiry_s=0)
    sink = MqttSink(BrokerPublisher(connection), "out/{group}/{stream}")
    with mosquitto.collect("out/#") as received:
        said = sink.try_out(transition(1, rule=TEST_RULE, stream="p"))
        sink.send([transition(2, stream="p")])
        wait_until(lambda: len(received) == 3)
    assert said.endswith("acknowledged it on out/pumps/p/event")
    assert json.loads(received[0][1])["summary"].startswith("This is a test of the notifications of plant-1")
    with mosquitto.collect("out/#") as kept:
        wait_until(lambda: kept)
    assert [topic for topic, _, _ in kept] == ["out/pumps/p/model"]
    sink.close()


class Silent:
    """A publisher that takes everything."""

    def __init__(self) -> None:
        self.states = 0

    def publish(self, messages: Sequence[tuple[str, bytes, bool]], timeout_s: float) -> None:
        self.states += sum(retain for _, _, retain in messages)

    def close(self) -> None:
        return


def test_the_memory_of_states_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond so many topics the longest unused is forgotten: its state may then go back, the others' may not."""
    monkeypatch.setattr("streamae.sinks.mqtt._STATES_MAX", 2)
    silent = Silent()
    sink = MqttSink(silent)
    sink.send([transition(n + 10, stream=f"s{n}") for n in range(3)])
    sink.send([transition(1, stream=f"s{n}") for n in range(3)])
    assert silent.states == 4


def test_a_reminder_has_a_key_of_its_own_and_says_that_it_is_one() -> None:
    """Same id and sequence; what tells it apart is in `repeat`, in the key and in the words."""
    first, again = document(transition(1)), document(transition(1, repeat=2, peak_score=4.0))
    assert [again[n] for n in ("id", "sequence", "state")] == [first[n] for n in ("id", "sequence", "state")]
    assert (first["key"], again["key"]) == (transition(1).key, f"{transition(1).key}:2")
    assert (first["repeat"], again["repeat"], first["peak_score"], again["peak_score"]) == (0, 2, None, 4.0)
    assert "still firing (reminder 2)" in again["summary"]
    assert "still" not in first["summary"]
    assert "peak score 4" in document(transition(1, 2, "resolved", peak_score=4.0))["summary"]
    assert " reminder=2 " in line(transition(1, repeat=2))


CONFIGURED = """
streams: {pumps: {topics: [{topic: "plant/{pump}/{channel}"}], model: {path: none.pt}}}
sinks:
  - {type: log, name: words, renotify: 2h}
  - {type: mqtt, timeout: 3s}
  - {type: webhook, url: "http://127.0.0.1:1/", ca: CA}
  - {type: alertmanager, url: "RECEIVER", refresh: 7s, ca: CA}
"""


def test_each_kind_of_sink_is_made_as_it_is_configured(tmp_path: Path, receiver: Receiver, certificates: Path) -> None:
    """An Alertmanager gets Alertmanager's own form, and each key of the configuration its effect."""
    text = CONFIGURED.replace("RECEIVER", receiver.url).replace("CA", str(certificates / "ca.pem"))
    (tmp_path / "streamae.yaml").write_text(text)
    settings = load(tmp_path / "streamae.yaml")
    words, mqtt_sink, webhook, alertmanager = (make_sink(settings, sink, RealClock()) for sink in settings.sinks)
    assert (words.name, settings.sinks[0].renotify_s) == ("words", 7200.0)
    assert isinstance(mqtt_sink, MqttSink)
    assert mqtt_sink._timeout_s == 3.0
    assert isinstance(webhook, WebhookSink)
    assert isinstance(alertmanager, AlertmanagerSink)
    assert alertmanager.refresh_s == 7.0
    alertmanager.send([transition(1)])
    path, _, said = receiver.requests[-1]
    assert path == "/api/v2/alerts"
    assert said[0]["labels"]["streamae_id"] == transition(1).id


def test_a_broker_that_stops_answering_is_unavailable(mosquitto: Mosquitto) -> None:
    """No acknowledgement within the time-out: not delivered."""
    sink = MqttSink(BrokerPublisher(ConnectionOptions(port=mosquitto.port, client_id="sink")), timeout_s=0.5)
    sink.send([transition(1)])
    mosquitto.freeze()
    with pytest.raises(SinkUnavailableError):
        sink.send([transition(2)])
    mosquitto.thaw()
    sink.close()


class Refuser:
    """A publisher that raises what it was given."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def publish(self, *_: object) -> None:
        raise self.error

    def close(self) -> None:
        pass


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OSError("gone"), SinkUnavailableError),
        (UnavailableError("denied"), SinkUnavailableError),
        (ValueError("bad topic"), SinkRefusedError),
    ],
)
def test_what_the_publisher_raises_is_judged(error: Exception, expected: type[Exception]) -> None:
    """A broker that cannot take it is waited for; an alert that MQTT cannot express is dead."""
    with pytest.raises(expected):
        MqttSink(Refuser(error)).send([transition(1)])
    with pytest.raises(SinkRefusedError, match="bytes"):
        MqttSink(Refuser(error)).send([transition(1, stream="x" * 70_000)])


@pytest.mark.parametrize("topic", ["", "a/{strem}", "a/+/{stream}", "a/#"])
def test_a_topic_template_with_a_mistake_is_refused(topic: str) -> None:
    """Unknown fields and wildcards are mistakes of the operator's."""
    with pytest.raises(ConfigError, match="sinks: mqtt: topic"):
        MqttSink(Refuser(OSError()), topic)


def test_a_test_of_a_webhook_ends_itself(receiver: Receiver) -> None:
    """One request: the test fires and is resolved, so a receiver that keeps alerts keeps none; and what it answered."""
    said = WebhookSink(receiver.url, {}).try_out(transition(1, rule=TEST_RULE))
    ((_, _, body),) = receiver.requests
    assert [(one["id"], one["state"], one["rule"]) for one in body["alerts"]] == [
        (transition(1).id, "firing", TEST_RULE), (transition(1).id, "resolved", TEST_RULE),
    ]  # fmt: skip
    assert said.endswith("answered 200 (thanks)")


def test_a_test_of_the_log_says_when_its_level_hides_alerts() -> None:
    """A log that shows errors alone shows no warning, so no alert that is one either."""
    with pytest.raises(SinkUnavailableError, match="hides what is a warning"):
        LogSink(logger=logging.Logger("alerts", logging.ERROR)).try_out(transition(1, rule=TEST_RULE))


# ---- Alertmanager


def test_alertmanager_is_notified_in_its_own_terms(receiver: Receiver) -> None:
    """Labels of ours beat a topic's; a firing alert lives four refreshes; no time is ahead of the wall clock."""
    clock = Clock()
    sink = AlertmanagerSink(receiver.url + "/am/", clock, refresh_s=30.0, page="http://page/")
    ahead = transition(1, labels={"1 pump": "p", "severity": "none"}, onset_s=clock() + 9e3, time_s=clock() + 9e3)
    sink.send([ahead, transition(2, 2, "resolved", time_s=clock() + 9e3)])
    ((path, _, alerts),) = receiver.requests
    assert path == "/am/api/v2/alerts"
    assert alerts[0]["labels"] == {
        "alertname": "streamae_model",
        "instance": "plant-1",
        "group": "pumps",
        "stream": "north/p1",
        "rule": "model",
        "severity": "warning",
        "streamae_id": ahead.id,
        "_1_pump": "p",
    }
    assert (alerts[0]["startsAt"], alerts[0]["endsAt"]) == (rfc3339(clock() + 120), rfc3339(clock() + 120))
    assert alerts[0]["generatorURL"].startswith("http://page/#/stream/pumps/north%2Fp1/")
    assert [(a["labels"]["severity"], a["endsAt"]) for a in alerts[1:]] == [
        ("warning", rfc3339(clock())),
        ("critical", rfc3339(clock())),
    ]


def test_a_test_ends_at_alertmanager_by_itself_within_minutes(receiver: Receiver) -> None:
    """However rarely alerts are refreshed there: a real one lives four refreshes, as a control."""
    clock = Clock()
    sink = AlertmanagerSink(receiver.url, clock, refresh_s=3600.0)
    assert "ends there by itself in 5 minutes" in sink.try_out(transition(1, rule=TEST_RULE))
    sink.send([transition(2)])
    ends = [alert["endsAt"] for _, _, alerts in receiver.requests for alert in alerts]
    assert ends == [rfc3339(clock() + 300), rfc3339(clock() + 4 * 3600)]


@pytest.fixture
def alertmanager(tmp_path: Path) -> Iterator[str]:
    binary = shutil.which("alertmanager") or shutil.which("prometheus-alertmanager")
    if binary is None:
        pytest.skip("alertmanager is not installed: apt-get install prometheus-alertmanager")
    port = free_port()
    config = tmp_path / "alertmanager.yml"
    config.write_text("route: {receiver: nobody}\nreceivers: [{name: nobody}]\n")
    command = [
        binary,
        f"--config.file={config}",
        f"--storage.path={tmp_path / 'am'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--cluster.listen-address=",
    ]
    with (tmp_path / "am.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    wait_until(lambda: accepts_http(port), what="alertmanager answers")
    yield f"http://127.0.0.1:{port}"
    process.kill()
    process.wait(10)


def accepts_http(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


def shown(url: str) -> set[tuple[str, str]]:
    with urllib.request.urlopen(f"{url}/api/v2/alerts", timeout=10) as answer:
        return {(a["labels"]["stream"], a["labels"]["severity"]) for a in json.load(answer)}


def recent(number: int, sequence: int = 1, state: str = "firing", **changes: object) -> Transition:
    now_s = time.time()
    return transition(number, sequence, state, onset_s=now_s - 60, time_s=now_s - 1, **changes)


def test_a_real_alertmanager_follows_the_life_of_an_alert(alertmanager: str) -> None:
    """It fires, grows critical under one entry, and ends; hostile names are taken too."""
    sink = AlertmanagerSink(alertmanager, time.time)
    sink.send([recent(1), recent(2, stream=EVIL)])
    wait_until(lambda: len(shown(alertmanager)) == 2)
    assert ("north/p1", "warning") in shown(alertmanager)
    sink.send([recent(1, 2, severity="critical")])
    wait_until(lambda: ("north/p1", "warning") not in shown(alertmanager))
    assert ("north/p1", "critical") in shown(alertmanager)
    sink.send([recent(1, 3, "resolved", severity="critical")])
    wait_until(lambda: not any(stream == "north/p1" for stream, _ in shown(alertmanager)))
