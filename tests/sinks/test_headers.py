"""An operator's headers: what HTTP cannot carry is named, and no answer brings a secret into a message."""

import base64
import http.server
import json
import threading
from collections.abc import Iterator

import pytest

from streamae.errors import ConfigError
from streamae.headers import checked, hidden_in, secrets_of
from streamae.history.query import Server
from streamae.sinks.http import Endpoint
from streamae.sinks.sink import SinkRefusedError, SinkUnavailableError

TOKEN, PASSWORD = "t0ken-of-ours", "pässw:rd"
BASIC = "Basic " + base64.b64encode(f"me:{PASSWORD}".encode()).decode()


@pytest.fixture
def parrot() -> Iterator[str]:
    """Give the address of a server that refuses everything, and repeats the path and the headers that it was sent."""

    class Desk(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            pair = base64.b64decode(self.headers["Authorization"].partition(" ")[2]).decode()
            said = {"error": f"go away {self.path} {self.headers['Authorization']} {self.headers['X-Key']} {pair}"}
            self.send_response(400 if "refuse" in self.path else 401)
            self.end_headers()
            self.wfile.write(json.dumps(said, ensure_ascii=False).encode())

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Desk)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("path", ["/hook", "/refuse"])
def test_a_receiver_that_repeats_our_secrets_tells_nobody(parrot: str, path: str) -> None:
    """Header values, what Basic hides, long parts of the path and values of the query are left out; the rest stays."""
    url = f"{parrot}{path}/T024BE7LH8a9/x?key=qu%20ery-key"
    with pytest.raises((SinkRefusedError, SinkUnavailableError)) as raised:
        Endpoint(url, {"Authorization": BASIC, "X-Key": TOKEN}, 5.0).post(b"{}", {})
    said = str(raised.value)
    assert "go away" in said
    for secret in (TOKEN, BASIC, BASIC.split()[1], PASSWORD, "T024BE7LH8a9", "qu%20ery-key", "qu ery-key"):
        assert secret not in said


def test_a_database_that_repeats_our_secrets_tells_nobody(parrot: str) -> None:
    """The same for the door to Prometheus and InfluxDB."""
    server = Server(parrot, {"Authorization": BASIC, "X-Key": TOKEN}, timeout_s=5, ca_file=None, sleep=lambda _: None)
    with pytest.raises(ConfigError) as raised:
        server.ask("/api", b"", "text/plain", "up")
    said = str(raised.value)
    assert "go away" in said
    for secret in (TOKEN, BASIC, BASIC.split()[1], PASSWORD):
        assert secret not in said


@pytest.mark.parametrize(
    ("name", "value", "word"),
    [
        ("Authorization", "Bearer one\ntwo", r"U\+000A"),
        ("Authorization", "Bearer 5 €", r"U\+20AC"),
        ("X-Key\n", "fine", "not a name"),
        ("Größe", "fine", "not a name"),
        ("", "fine", "not a name"),
    ],
)
def test_a_header_that_cannot_be_sent_is_named_without_its_value(name: str, value: str, word: str) -> None:
    """ConfigError before anything is sent, from sinks and sources alike: http.client would raise the value itself."""
    makers = [
        lambda: Endpoint("http://127.0.0.1:1", {name: value}, 1.0),
        lambda: Server("http://127.0.0.1:1", {name: value}, timeout_s=1, ca_file=None, sleep=lambda _: None),
    ]
    for make in makers:
        with pytest.raises(ConfigError, match=word) as raised:
            make()
        assert "Bearer" not in str(raised.value)


@pytest.mark.parametrize(
    "said",
    [
        "a/b+c&d=é", "a%2Fb%2bc%26d%3D%C3%A9", "a/b%2Bc&amp;d=é",
        r"a\/b+c\u0026d=\u00e9", "a&#47;b&#x2B;c&amp;d=%c3%a9",
    ],
)  # fmt: skip
def test_a_secret_is_hidden_however_its_letters_are_written(said: str) -> None:
    """Percent signs, escapes of JSON, entities of HTML, in part or wholly; whether we have it quoted or not."""
    for secret in ("a/b+c&d=é", "a%2Fb%2Bc%26d%3D%C3%A9"):
        assert hidden_in(f"no such key: {said}!", [secret]) == "no such key: …!"
    assert hidden_in("a/b+c&d=e", ["a/b+c&d=é"]) == "a/b+c&d=e", "the control: another word stays"


def test_what_is_too_short_to_be_a_secret_spoils_no_word() -> None:
    """The control: an answer without secrets is shown as it is, though a value is a single letter."""
    headers = checked({"X-Scope-OrgID": "a", "Authorization": "Bearer abcdef"}, "sinks")
    assert hidden_in("a plain answer", secrets_of(headers)) == "a plain answer"
    assert hidden_in("no abcdef here", secrets_of(headers)) == "no … here"
    assert hidden_in("Basic is wrong, n0base64", secrets_of({"A": "Basic n0base64!"})) == "Basic is wrong, n0base64"
