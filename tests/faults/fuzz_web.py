"""FuzzTarget for the fuzzer (see `fuzz.py`): the web API over the daemon's own view and a real store.

An input is a request as it stands on the wire: method and target, headers, an empty line, the body.
"""

import asyncio
import json
import logging
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes

import numpy as np
import uvicorn
from uvicorn.server import ServerState

from streamae.core.groups import Groups
from streamae.core.types import Batch
from streamae.daemon.loop import Loop
from streamae.daemon.page.view import DaemonView
from streamae.ingest.source import SourceStatus
from streamae.metrics import Metrics
from streamae.pacing import Rests
from streamae.web.app import Access, create_app
from streamae.web.connections import ConnectionLimits, WebConnection, close_overdue
from tests.faults.fuzz import MEMORY, FuzzTarget
from tests.plants import group
from tests.store_world import Clock, numbered, opened, report, transition

NOW = 1_700_000_000.0


class _Silence:
    """A source that gives nothing."""

    def status(self) -> SourceStatus:
        return SourceStatus(connected=True)


TOKEN = "sesame"
_ANSWERS = {200, 201, 304, 307, 400, 401, 403, 404, 405, 413, 421, 503}


def _served() -> tuple[Any, Any]:
    """The application over the daemon's own view of a small plant, and its store."""
    store, clock = opened(Path(tempfile.mkdtemp(dir=MEMORY))), Clock()
    store.commit(numbered(1), report(transition(1)), clock())
    groups, metrics = Groups("plant-1", [group()]), Metrics(clock)
    loop = Loop(
        _Silence(), groups, store, metrics,  # type: ignore[arg-type]
        arrived=clock, now=clock, monotonic=clock, sleep=lambda _: None,
    )  # fmt: skip
    view = DaemonView(loop, store, metrics, now=clock, monotonic=clock, silent_after_s=60.0)
    groups.step(Batch([b"plant/p1"], [b'{"t": 1700000000, "a": 1, "b": 2}'], np.full(1, NOW)), NOW)
    view.publish()
    app = create_app(view, Access(token=TOKEN))
    app.state.events.close()  # its one endless answer ends at once
    return app, store


def web() -> FuzzTarget:
    """Any request has one answer that is none of our faults; without the token nothing is changed."""
    app, store = _served()
    runner = asyncio.Runner()

    def bite(data: bytes) -> bool:
        before = (store.silences.all(), store.alerts.feedback_count(), store.alerts.history(9))
        scope, body = _scope(data)
        status, answer = runner.run(_ask(app, scope, body))
        assert status in _ANSWERS, f"{status}: {answer[:200]!r}"
        authorised = dict(scope["headers"]).get(b"authorization", b"").split(b" ")[-1] == TOKEN.encode()
        after = (store.silences.all(), store.alerts.feedback_count(), store.alerts.history(9))
        assert authorised or after == before, "changed without the token"
        return status < 300

    return FuzzTarget(bite, list(_honest_requests(transition(1).id)), _REQUEST_WORDS)


_REQUEST_WORDS = [
    b"POST /api/v1/silences\n", b"GET /api/v1/streams?sort=score&limit=1&q=", b"authorization: Bearer sesame\n",
    b"\\ud800", b"\\u0000", b"%ff", b"%00", b"..%2f", b"1e309", b'"labels":{"a":"b"}', b'"stream":"', b"[", b"*",
    b"NaN", b"host: localhost\n", b"9" * 30,
]  # fmt: skip


def _honest_requests(alert: str) -> Sequence[bytes]:
    token = f"host: localhost\nauthorization: Bearer {TOKEN}\n\n"
    paths = ["/", "/metrics", "/healthz", "/readyz", "/api/v1/openapi.json", "/api/v1/status", "/api/v1/models"]
    paths += ["/api/v1/streams?sort=name&limit=5&offset=1&q=p1", "/api/v1/alerts?state=firing&limit=3"]
    paths += [
        "/api/v1/stream?group=pumps&stream=p1&rows=3",
        "/api/v1/stream/past?group=pumps&stream=p1&from_s=1700000000&until_s=1700000060&points=50",
        "/api/v1/streams?label=pump=p1",
        "/api/v1/feedback?limit=1",
        "/api/v1/silences?state=active",
    ]
    paths += ["/static/app.js", "/api/v1/events"]
    wanted = {"group": "pumps", "stream": "line1/*", "duration_s": 7200, "labels": {"line": "1"}, "comment": "Ö"}
    until = {"rule": "[a-c]?", "ends_s": NOW + 3600, "starts_s": NOW, "created_by": "ada"}
    posts = [("/api/v1/silences", json.dumps(wanted)), ("/api/v1/silences", json.dumps(until))]
    posts += [("/api/v1/silences/1/end", ""), (f"/api/v1/alerts/{alert}/acknowledge", "note")]
    posts += [(f"/api/v1/alerts/{alert}/false-alarm", "why"), (f"/api/v1/alerts/{alert}/withdraw-feedback", "")]
    asked = [f"GET {path}\nhost: 127.0.0.1:9469\n\n" for path in paths]
    return [one.encode() for one in asked + [f"POST {path}\n{token}{body}" for path, body in posts]]


def _scope(data: bytes) -> tuple[dict[str, Any], bytes]:
    """Cut a request as an HTTP server would: method and target, headers, an empty line, the body."""
    head, _, body = data.partition(b"\n\n")
    first, *lines = head.split(b"\n")
    method, _, target = first.partition(b" ")
    path, _, query = target.partition(b"?")
    headers = [(n.strip().lower(), v.strip()) for n, sep, v in (line.partition(b":") for line in lines) if sep]
    return {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "scheme": "http", "root_path": "",
        "method": method.decode("ascii", "replace").upper(), "path": unquote_to_bytes(path).decode(errors="replace"),
        "raw_path": path, "query_string": query, "headers": headers, "server": ("127.0.0.1", 9469),
        "client": ("127.0.0.1", 1),
    }, body  # fmt: skip


async def _ask(app: Any, scope: Mapping[str, Any], body: bytes) -> tuple[int, bytes]:
    """Send a request through the application in memory; what it raises is raised here."""
    said: list[Mapping[str, Any]] = []
    coming = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Mapping[str, Any]:
        if coming:
            return coming.pop()
        await asyncio.sleep(5.0)
        return {"type": "http.disconnect"}

    async def send(message: Mapping[str, Any]) -> None:
        said.append(message)

    await app(dict(scope), receive, send)
    starts = [m for m in said if m["type"] == "http.response.start"]
    assert len(starts) == 1, "one answer for each request"
    return starts[0]["status"], b"".join(m.get("body", b"") for m in said[1:])


# ---- the connection


class _Wire(asyncio.Transport):
    """The server's end of a connection: what is written is kept."""

    def __init__(self) -> None:
        super().__init__()
        self.said, self.closed = bytearray(), False

    def write(self, data: Any) -> None:
        self.said += data

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    abort = close

    def get_write_buffer_size(self) -> int:
        return 0

    def pause_reading(self) -> None:
        return

    resume_reading = pause_reading


def wire() -> FuzzTarget:
    """Whatever bytes come on a connection, in whatever pieces: answers by HTTP, or an end; and no trace in the log."""
    app, _ = _served()
    config = uvicorn.Config(app, log_config=None, lifespan="off", ws="none", access_log=False)
    config.load()
    traces: list[str] = []
    handler = logging.Handler(logging.ERROR)
    handler.emit = lambda record: traces.append(handler.format(record))  # type: ignore[method-assign]
    logging.getLogger("uvicorn.error").addHandler(handler)
    logging.getLogger("uvicorn.error").propagate = False
    runner = asyncio.Runner()

    def bite(data: bytes) -> bool:
        said = runner.run(_talk(config, data.split(b"\x1e\x1e")[:6]))
        assert not traces, traces
        assert not said or said.startswith(b"HTTP/1.1 "), said[:80]
        return said.startswith(b"HTTP/1.1 2")

    honest = [one.replace(b"\n", b"\r\n") for one in _honest_requests(transition(1).id)]
    token = b"host: localhost\r\nauthorization: Bearer sesame\r\n"
    sized = b"POST /api/v1/silences HTTP/1.1\r\n" + token + b"content-length: 9\r\n\r\n"
    chunked = sized.replace(b"content-length: 9", b"transfer-encoding: chunked") + b"3\r\n{}x\r\n0\r\n\r\n"
    more = [sized + b'{"a":', sized + b"\x1e\x1e" + b"{}       ", chunked, honest[0] + honest[2], honest[0][:30]]
    words = [b"\x1e\x1e", b"\r\n\r\n", b"\r\n", b"content-length: 5\r\n", b"transfer-encoding: chunked\r\n"]
    words += [
        b"expect: 100-continue\r\n",
        b"connection: close\r\n",
        b"HTTP/1.0\r\n",
        b"host: [::1]evil\r\n",
        b"upgrade: h2c\r\n",
    ]
    return FuzzTarget(bite, [*honest, *more], [*words, *_REQUEST_WORDS])


async def _talk(config: uvicorn.Config, parts: Sequence[bytes]) -> bytes:
    """Receive the pieces, then the client leaves; all that was begun for it ends."""
    state, transport = ServerState(), _Wire()
    given = {"config": config, "server_state": state, "app_state": {}, "_loop": asyncio.get_running_loop()}
    connection = WebConnection(ConnectionLimits(connections_max=2), Rests(), **given)
    connection.connection_made(transport)
    for part in parts:
        if part and not transport.closed:
            connection.data_received(part)
            await asyncio.sleep(0)
        close_overdue(state.connections, 0.0)
        assert connection.phase in ("works", "request", "body", "answer")
    for _ in range(3):
        await asyncio.sleep(0)
    if state.tasks and connection.phase == "works":
        await asyncio.wait(list(state.tasks), timeout=20)
    connection.connection_lost(None)
    if state.tasks:
        _, waiting = await asyncio.wait(list(state.tasks), timeout=20)
        assert not waiting, "a request goes on without its client"
    return bytes(transport.said)
