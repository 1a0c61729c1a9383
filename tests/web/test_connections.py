"""No client without a token takes the page's port from the others: places, threads and answers have bounds."""

import contextlib
import math
import socket
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import httpx
import pytest

from streamae.pacing import paced
from streamae.web import connections
from streamae.web.app import Access, create_app
from streamae.web.connections import ConnectionLimits
from streamae.web.pools import Allowance
from streamae.web.server import WebServer
from tests.brokers import wait_until
from tests.web.test_web import FakeView

PLACES = 6
FOR_EVER = ConnectionLimits(PLACES, request_s=math.inf, body_s=math.inf, answer_s=math.inf)
HEAD = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n"
POST = (
    b"POST /api/v1/silences HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer sesame\r\nContent-Length: 900\r\n\r\n{"
)
HELD = {
    "idle": b"",
    "half a head": HEAD,
    "half a body": POST,
    "a body that the answer does not wait for": HEAD + b"Content-Length: 900\r\n\r\n{",
    "garbage without an end": b"GET ",
}


class BigView(FakeView):
    """Answers with much."""

    def models(self) -> Sequence[Mapping[str, Any]]:
        return [{"group": "x" * 4_000_000}]


@contextlib.contextmanager
def serving(view: FakeView, limits: ConnectionLimits) -> Iterator[WebServer]:
    app = create_app(view, Access(token="sesame"))
    server = WebServer(app, "127.0.0.1", 0, on_stop=app.state.events.close, limits=limits)
    server.start()
    try:
        yield server
    finally:
        server.stop(30)


def held(server: WebServer, said: bytes) -> socket.socket:
    one = socket.create_connection(("127.0.0.1", server.port), timeout=30)
    one.sendall(said)
    return one


def connections_of(server: WebServer) -> int:
    assert server._server is not None
    return len(server._server.server_state.connections)


def probed(server: WebServer, path: str = "/healthz") -> int | None:
    """The status of an answer on a connection of its own; None where there is none."""
    try:
        return httpx.get(f"http://127.0.0.1:{server.port}{path}", timeout=5).status_code
    except httpx.HTTPError:
        return None


def ended(one: socket.socket, timeout_s: float) -> bool:
    """Whether the server has closed a connection; what it had answered before is read over."""
    one.settimeout(timeout_s)
    try:
        while one.recv(65536):
            pass
    except TimeoutError:
        return False
    except OSError:
        return True
    return True


@pytest.mark.parametrize("said", HELD.values(), ids=HELD)
def test_whoever_holds_all_places_gives_way_to_a_probe(said: bytes):
    """However long the others may wait: the one that was waited for longest loses its place."""
    with serving(FakeView(), FOR_EVER) as server:
        those = [held(server, said) for _ in range(PLACES + 2)]
        assert [probed(server, path) for path in ("/healthz", "/readyz", "/metrics")] == [200] * 3
        assert ended(those[0], 30)


def test_a_server_whose_places_are_for_ever_answers_nobody(monkeypatch):
    """The control: where nobody gives way, idle connections take the probes away."""
    monkeypatch.setattr(connections, "_make_room", lambda new, places: len(new.connections) > places and new.give_up())
    with serving(FakeView(), FOR_EVER) as server:
        those = [held(server, b"") for _ in range(PLACES)]
        wait_until(lambda: probed(server) is None, what="all places are taken")
        assert not ended(those[0], 0.2)


def test_a_client_that_is_waited_for_is_not_waited_for_longer_than_said():
    """A request's head, its body and an answer that nobody takes have a time each; the control waits for ever."""
    brief = ConnectionLimits(request_s=0.3, body_s=0.3, answer_s=0.3)
    for limits, patience_s, wanted in (
        (brief, 30.0, True),
        (ConnectionLimits(64, math.inf, math.inf, math.inf), 0.3, False),
    ):
        with serving(BigView(), limits) as server:
            those = {name: held(server, said) for name, said in HELD.items()}
            reader = socket.socket()
            reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            reader.connect(("127.0.0.1", server.port))
            reader.sendall(b"GET /api/v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert {name: ended(one, patience_s) for name, one in those.items()} == dict.fromkeys(HELD, wanted)
            if wanted:
                wait_until(lambda: not connections_of(server), what="the reader that does not read is given up")
            assert probed(server) == 200


def test_a_connection_that_asks_again_and_again_stays():
    """The time counts from one request to the next, not from the first."""
    limits = ConnectionLimits(request_s=1.5)
    with serving(FakeView(), limits) as server, httpx.Client(base_url=f"http://127.0.0.1:{server.port}") as web:
        for _ in range(8):
            time.sleep(0.4)
            assert web.get("/healthz").status_code == 200
        assert connections_of(server) == 1


def test_answers_that_nobody_takes_have_a_bound_all_together():
    """The reader that has taken nothing for longest is given up, long before its time."""
    limits = ConnectionLimits(unsent_max_bytes=100_000, answer_s=math.inf)
    with serving(BigView(), limits) as server:
        readers = []
        for _ in range(4):
            reader = socket.socket()
            reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            reader.connect(("127.0.0.1", server.port))
            reader.sendall(b"GET /api/v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n")
            readers.append(reader)
        wait_until(lambda: connections_of(server) == 1, what="all but one are given up")


def test_a_client_that_leaves_before_its_body_leaves_no_trace(caplog):
    """Nobody's fault: nothing was changed, and nothing is written of it."""
    view = FakeView()
    with serving(view, ConnectionLimits()) as server:
        for _ in range(3):
            held(server, POST).close()
        wait_until(lambda: not connections_of(server), what="they are gone")
        assert probed(server) == 200
    assert not view.silenced
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


@pytest.mark.parametrize("path", ["/api/v1/models", "/api/v1/events"])
def test_nonsense_behind_a_request_leaves_no_trace(caplog, path):
    """Whether the answer to the request has begun or not: the connection ends, and nothing is written of it."""
    gate = threading.Event()

    class Slow(FakeView):
        def models(self) -> Sequence[Mapping[str, Any]]:
            gate.wait(60)
            return []

    with serving(Slow(), ConnectionLimits()) as server:
        one = held(server, f"GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n".encode())
        if path.endswith("events"):
            assert one.recv(100)
        # Not only the connection: what comes in one read with the request is left unread until the answer.
        wait_until(lambda: len(server._server.server_state.tasks) == 1, what="the request has come")
        one.sendall(b"nonsense\r\n\r\n")
        assert ended(one, 30)
        gate.set()
        assert probed(server) == 200
        wait_until(lambda: not server._server.server_state.tasks, what="the request has ended")
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


def test_probes_are_answered_while_every_thread_for_questions_is_taken():
    """And a question beyond the queue hears at once that it is one too many."""
    gate = threading.Event()

    class Slow(FakeView):
        def models(self) -> Sequence[Mapping[str, Any]]:
            gate.wait(60)
            return []

    with serving(Slow(), ConnectionLimits()) as server:
        url = f"http://127.0.0.1:{server.port}/api/v1/models"
        found: list[int] = []
        threads = [
            threading.Thread(target=lambda: found.append(httpx.get(url, timeout=60).status_code)) for _ in range(80)
        ]
        for thread in threads:
            thread.start()
        try:
            wait_until(lambda: found.count(503) == 80 - 64 - 1, what="those beyond the queue are refused")
            assert [probed(server, path) for path in ("/healthz", "/readyz", "/metrics")] == [200] * 3
        finally:
            gate.set()
            for thread in threads:
                thread.join(60)
        assert sorted(found) == [200] * 65 + [503] * 15


def test_metrics_that_many_ask_for_are_made_a_few_times_only():
    """Who waits while they are made gets those that are made next, together with all others that wait."""
    gate, made = threading.Event(), []

    class Counting(FakeView):
        def metrics(self) -> bytes:
            made.append(1)
            gate.wait(60)
            return b"x 1\n"

    with serving(Counting(), ConnectionLimits()) as server:
        url = f"http://127.0.0.1:{server.port}/metrics"
        found: list[str] = []
        threads = [threading.Thread(target=lambda: found.append(httpx.get(url, timeout=60).text)) for _ in range(20)]
        for thread in threads:
            thread.start()
        try:
            wait_until(lambda: connections_of(server) == 20 and made, what="all ask")
            time.sleep(0.2)
        finally:
            gate.set()
            for thread in threads:
                thread.join(60)
        assert found == ["x 1\n"] * 20
        assert len(made) <= 3


def test_work_beyond_its_share_waits():
    """A quarter of a second at once, then a quarter of each second; what is not used is not saved up."""
    allowance = Allowance(0.25)
    assert allowance.pause_s(100.0) == 0
    allowance.charge(0.25, 100.0)
    assert allowance.pause_s(100.0) == 0
    allowance.charge(1.0, 100.0)
    assert allowance.pause_s(100.0) == pytest.approx(4.0)
    assert allowance.pause_s(103.0) == pytest.approx(1.0)
    assert allowance.pause_s(104.0) == 0
    allowance.charge(1.0, 200.0)
    assert allowance.pause_s(200.0) == pytest.approx(3.0)


def test_long_work_lets_other_threads_go_first(monkeypatch):
    """All of it is done, in order, with rests in between; what is done in no time has none."""
    rests = []
    monkeypatch.setattr("streamae.pacing.time.sleep", rests.append)
    assert list(paced(range(5))) == list(range(5))
    clock = iter(range(1000))
    monkeypatch.setattr("streamae.pacing.time.perf_counter", lambda: next(clock) / 1000)
    assert list(paced(range(9))) == list(range(9))
    assert rests
