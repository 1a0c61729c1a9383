"""The Apprise sink against receivers of its services: what arrives, what an answer means, and that no address leaks."""

import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest

from streamae.config import load
from streamae.daemon.clock import Clock as RealClock
from streamae.daemon.sinks import make_sink
from streamae.errors import ConfigError
from streamae.logs import set_up
from streamae.sinks.apprise import AppriseSink
from streamae.sinks.sink import SinkRefusedError, SinkUnavailableError
from streamae.sinks.texts import TEST_RULE
from tests.brokers import free_port
from tests.services import ROOT
from tests.sinks.test_sinks import EVIL, Receiver
from tests.store_world import transition

pytest.importorskip("apprise", reason="apprise is not installed: pip install 'streamae[notify]'")
controller = pytest.importorskip("aiosmtpd.controller", reason="aiosmtpd is not installed: pip install aiosmtpd")

SECRET = "s3cret-of-ours"
PATIENT_S = 60.0
CONFIG = """
streams: {pumps: {topics: [{topic: "plant/{pump}/{channel}"}], model: {path: none.pt}}}
home_assistant: {page: "https://plant.example/"}
sinks: [{type: apprise, name: phone, urls: ["file:address"], title: Plant north, renotify: 2h, timeout: 60s}]
"""


@pytest.fixture
def receivers() -> Iterator[Callable[[], Receiver]]:
    made: list[Receiver] = []

    def make() -> Receiver:
        made.append(Receiver())
        return made[-1]

    yield make
    for one in made:
        one.close()


def address(receiver: Receiver, scheme: str = "json", path: str = "") -> str:
    return receiver.url.replace("http", scheme, 1) + path


def bodies(receiver: Receiver) -> list[Any]:
    return [body for _, _, body in receiver.requests]


@pytest.fixture
def mailbox() -> Iterator[tuple[str, list[EmailMessage], list[str]]]:
    """A mail server: its address for Apprise, the mails that came, and what it answers, where that is not 250."""
    mails: list[EmailMessage] = []
    answers: list[str] = []

    class Desk:
        async def handle_DATA(  # noqa: N802  (aiosmtpd's)
            self, _server: object, _session: object, envelope: Any
        ) -> str:
            if answers:
                return answers[-1]
            mails.append(message_from_bytes(envelope.content, policy=policy.default))  # type: ignore[arg-type]
            return "250 taken"

    port = free_port()
    server = controller.Controller(Desk(), hostname="127.0.0.1", port=port)
    server.start()
    yield f"mailto://127.0.0.1:{port}?from=plant@example.org&to=ops@example.org&mode=insecure", mails, answers
    server.stop()


def test_a_message_has_all_that_a_person_needs(tmp_path: Path, receivers: Callable[[], Receiver]) -> None:
    """Stream, group, state, channel, score over threshold, time, and the page; of the configuration, its title."""
    receiver = receivers()
    (tmp_path / "address").write_text(address(receiver, "ntfy", "/t0pic-of-ours") + "\n")
    (tmp_path / "streamae.yaml").write_text(CONFIG)
    settings = load(tmp_path / "streamae.yaml")
    sink = make_sink(settings, settings.sinks[0], RealClock())
    assert (sink.name, settings.sinks[0].reminded_s, settings.sinks[0].blocks_s) == ("phone", 7200.0, 60.0)
    sink.send([transition(1)])
    sink.send([transition(1, 2, "resolved", peak_score=4.0)])
    fired, resolved = bodies(receiver)
    assert fired["topic"] == "t0pic-of-ours"
    assert fired["title"] == "Plant north: pumps/north/p1 warning"
    assert fired["message"].splitlines() == [
        "pumps/north/p1: model warning, score 2.5 over 1, most of it pressure (70%)",
        f"2023-11-14 22:13:22 UTC, alert {transition(1).id}",
        "https://plant.example/#/stream/pumps/north%2Fp1/1699999881.000/1700000122.100",
    ]
    assert resolved["title"] == "Plant north: pumps/north/p1 resolved"
    assert "peak score 4" in resolved["message"]


def test_a_mail_arrives_and_no_name_can_forge_one(mailbox: tuple[str, list[EmailMessage], list[str]]) -> None:
    """A real mail server has title and text; what is markup or a line break in a name is neither in the mail."""
    url, mails, _ = mailbox
    sink = AppriseSink([url, f"{url}&format=html"], time.monotonic, timeout_s=PATIENT_S)
    sink.send([transition(1)])
    mails.sort(key=lambda mail: mail.get_body(("html",)) is not None)
    plain, _ = mails
    mails.clear()
    sink.send([transition(2, stream="p\r\nBcc: all@example.org\r\n\r\n<b onload=x>" + EVIL)])
    mails.sort(key=lambda mail: mail.get_body(("html",)) is not None)
    evil, markup = mails
    assert plain["Subject"] == "streamae: pumps/north/p1 warning"
    assert plain["To"] == "ops@example.org"
    assert "score 2.5 over 1, most of it pressure (70%)" in text_of(plain)
    assert "Bcc" not in evil
    assert "Bcc" not in markup
    html = markup.get_body(("html",)).get_content()
    assert "<b onload" not in html
    assert "&lt;b" in html
    assert transition(2).id in text_of(evil)


def text_of(mail: EmailMessage) -> str:
    return " ".join(part.get_content() for part in mail.walk() if part.get_content_maintype() == "text")


def test_a_mail_server_that_takes_nothing_is_unavailable_and_heals(
    mailbox: tuple[str, list[EmailMessage], list[str]],
) -> None:
    """A mail that is rejected now comes later."""
    url, mails, answers = mailbox
    sink = AppriseSink([url], time.monotonic, timeout_s=PATIENT_S)
    answers.append("451 try again later")
    with pytest.raises(SinkUnavailableError):
        sink.send([transition(1)])
    assert mails == []
    answers.clear()
    sink.send([transition(1)])
    assert len(mails) == 1


def test_a_storm_is_one_message(receivers: Callable[[], Receiver]) -> None:
    """Counts and the ten worst; a few are listed one by one, in one message too."""
    receiver = receivers()
    sink = AppriseSink([address(receiver)], time.monotonic, timeout_s=PATIENT_S)
    assert sink.batch_max >= 500
    sink.send([transition(n, score=float(n)) for n in range(500)])
    sink.send([transition(n) for n in range(3)])
    storm, few = bodies(receiver)
    assert storm["title"] == "streamae: 500 streams of pumps: model"
    assert storm["message"].startswith("pumps 500 firing. The worst 10:")
    assert [f"north/p{499 - n}:" in storm["message"] for n in range(11)] == [True] * 10 + [False]
    assert len(storm["message"]) < 2000, "the chat with the shortest messages takes it whole"
    assert all(transition(n).id in few["message"] for n in range(3))


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (413, SinkRefusedError),
        (422, SinkRefusedError),
        (400, SinkUnavailableError),  # what chats answer for a wrong chat or topic
        (403, SinkUnavailableError),
        (429, SinkUnavailableError),
        (500, SinkUnavailableError),
    ],
)
def test_an_answer_means_poison_or_patience(
    receivers: Callable[[], Receiver], status: int, expected: type[Exception]
) -> None:
    """Only what calls the message itself impossible is refused; the reason is Apprise's own, without the address."""
    receiver = receivers()
    receiver.status = status
    sink = AppriseSink([address(receiver, path=f"/{SECRET}?key={SECRET}-2")], time.monotonic, timeout_s=PATIENT_S)
    with pytest.raises(expected, match=f"JSON: .*error={status}") as caught:
        sink.send([transition(1)])
    shown = repr(caught.value) + repr(sink) + repr(vars(sink)) + repr(vars(caught.value))
    assert SECRET not in shown


def test_an_address_that_has_a_message_is_not_notified_again(receivers: Callable[[], Receiver]) -> None:
    """While one of two is away, retries go to that one alone; a new alert goes to both."""
    well, ill = receivers(), receivers()
    ill.status = 503
    sink = AppriseSink([address(well), address(ill)], time.monotonic, timeout_s=PATIENT_S)
    for _ in range(2):
        with pytest.raises(SinkUnavailableError, match="error=503"):
            sink.send([transition(1)])
    assert (len(well.requests), len(ill.requests)) == (1, 2)
    ill.status = 200
    sink.send([transition(1), transition(2)])
    assert transition(1).id in bodies(ill)[-1]["message"]
    assert transition(1).id not in bodies(well)[-1]["message"], "it has that one"
    assert transition(2).id in bodies(well)[-1]["message"]


def test_a_service_that_never_answers_holds_nothing_up(receivers: Callable[[], Receiver]) -> None:
    """The time-out bounds the whole of it; the next try waits for the first, and makes no copy when that succeeds."""
    receiver = receivers()
    receiver.drip = True
    sink = AppriseSink([address(receiver)], time.monotonic, timeout_s=0.5)
    for _ in range(3):
        with pytest.raises(SinkUnavailableError, match="no answer in time"):
            sink.send([transition(1)])
    assert len(receiver.requests) == 1


def test_nothing_of_theirs_reaches_our_log(
    receivers: Callable[[], Receiver], capfd: pytest.CaptureFixture[str]
) -> None:
    """At the level debug, Apprise and urllib3 would write addresses; a line of ours is there, as a control."""
    root = logging.getLogger()
    before = root.handlers[:], root.level
    receiver = receivers()
    try:
        set_up("debug", "json")
        sink = AppriseSink([address(receiver, path=f"/{SECRET}")], time.monotonic, timeout_s=PATIENT_S)
        sink.send([transition(1)])
        receiver.status = 500
        with pytest.raises(SinkUnavailableError):
            sink.send([transition(2)])
        logging.getLogger("streamae.sinks").debug("we are here")
    finally:
        root.handlers[:], level = before
        root.setLevel(level)
    said = capfd.readouterr()
    assert "we are here" in said.err
    assert SECRET not in said.err + said.out
    assert "Failed to send" not in said.err + said.out, "the reason is for the delivery to say"
    assert len(receiver.requests) == 2


@pytest.mark.parametrize(
    ("urls", "remedy"),
    [
        ('["${ADDRESS}"]', "give the address of a service as Apprise writes it, such as ntfys://host/topic"),
        ('["ntfys://ntfy.example/topic"]', "keep secrets out of this file"),
        ("[]", "add at least one"),
    ],
)
def test_a_wrong_address_is_a_mistake_of_the_file(tmp_path: Path, urls: str, remedy: str) -> None:
    """At the start, with its place, without the address; the control is an address that is right."""
    path = tmp_path / "streamae.yaml"
    path.write_text(CONFIG.replace('["file:address"]', urls))
    with pytest.raises(ConfigError, match=r"4:\d+: sinks\[0\]\.urls") as caught:
        load(path, {"ADDRESS": f"nosuch://{SECRET}/x"})
    assert remedy in str(caught.value)
    assert SECRET not in str(caught.value) + repr(caught.value)
    path.write_text(CONFIG.replace("file:address", "${ADDRESS}"))
    settings = load(path, {"ADDRESS": f"ntfys://{SECRET}.example/topic"})
    assert SECRET not in repr(settings) + settings.model_dump_json()


def test_without_the_extra_the_file_says_what_to_install(tmp_path: Path) -> None:
    """And a configuration without such a sink imports nothing of it, which is the control."""
    (tmp_path / "apprise.py").write_text("raise ImportError('not here')\n")
    (tmp_path / "address").write_text("ntfys://ntfy.example/topic\n")
    (tmp_path / "streamae.yaml").write_text(CONFIG)
    (tmp_path / "without.yaml").write_text(CONFIG.partition("sinks:")[0])
    program = "import sys; from streamae.config import load; load(sys.argv[1]); print('apprise' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}

    def run(name: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", program, str(tmp_path / name)]
        return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)

    assert run("without.yaml").stdout == "False\n"
    missing = run("streamae.yaml")
    assert missing.returncode != 0
    assert (
        "sinks[0].urls[0]: got 'file:address'; install what sends them: pip install 'streamae[notify]'"
        in missing.stderr
    )


def test_a_test_says_that_it_is_one_and_who_took_it(receivers: Callable[[], Receiver]) -> None:
    """Its title and its words say so."""
    receiver = receivers()
    sink = AppriseSink([address(receiver)], time.monotonic, timeout_s=PATIENT_S)
    assert sink.try_out(transition(1, rule=TEST_RULE, shares={})) == "taken by JSON"
    (body,) = bodies(receiver)
    assert (body["title"], body["type"]) == ("streamae: test", "info")
    assert "This is a test of the notifications of plant-1: nothing is wrong" in body["message"]
