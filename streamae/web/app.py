"""The HTTP side of the daemon: /metrics, /healthz, /readyz and the JSON API, behind one set of guards.

The pages never touch the pipeline: they read a `Snapshot` that the daemon publishes after a step and never changes
again, so that no request can hold a lock that a step waits for. Whatever changes something is a POST, needs the token,
and goes through `View.act`.

Guards: a Host header outside the allow-list is refused (DNS rebinding), a POST from another origin too; every answer
carries a Content-Security-Policy that allows our own files and nothing else.
"""

import hmac
import ipaddress
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from starlette.applications import Starlette
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from streamae.core.types import AlertState

__all__ = ["ACTIONS", "Access", "Snapshot", "StreamTable", "View", "create_app"]

ACTIONS = ("acknowledge", "silence", "false-alarm")
STATIC = Path(__file__).parent / "static"

_PAGE_MAX = 10_000
_BODY_MAX_BYTES = 16_384
_METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
}


@dataclass(frozen=True, slots=True, eq=False)
class StreamTable:
    """The streams of one group at one moment: `names[S]` beside `score[S]`, `threshold[S]`, `state[S]` and the rest.

    `worst[S]` is the index in `channels` of the largest share of the error (-1 before the first window), `time_s[S]`
    the event time of the last window (NaN before it), `learned[S]` the rows of `warmup_rows` that a stream has.
    """

    group: str
    names: Sequence[str]
    channels: Sequence[str]
    score: npt.NDArray[np.float64]
    threshold: npt.NDArray[np.float64]
    state: npt.NDArray[np.int8]
    worst: npt.NDArray[np.int32]
    time_s: npt.NDArray[np.float64]
    learned: npt.NDArray[np.int64]
    warmup_rows: int


@dataclass(frozen=True, slots=True, eq=False)
class Snapshot:
    """What the daemon published last; immutable from then on.

    `unhealthy` and `unready` hold one sentence for each reason, and are empty while all is well. `status` is the line
    of the daemon's state as JSON values (connected, messages_per_s, streams, scored_per_s, lag_s, dropped ...).
    """

    taken_s: float
    unhealthy: Sequence[str] = ()
    unready: Sequence[str] = ()
    status: Mapping[str, Any] = field(default_factory=dict)
    tables: Mapping[str, StreamTable] = field(default_factory=dict)


class View(Protocol):
    """What the web asks of the daemon; called from the web server's threads, so it must not wait for a step."""

    def snapshot(self) -> Snapshot:
        """Return the snapshot published last."""
        ...

    def metrics(self) -> bytes:
        """Return the text of /metrics."""
        ...

    def alerts(self, state: str | None, limit: int) -> Sequence[Mapping[str, Any]]:
        """Return up to `limit` alerts as JSON values, newest first; `state` is firing, resolved or None for all."""
        ...

    def act(self, alert_id: str, action: str, note: str) -> bool:
        """Acknowledge, silence or mark an alert as false alarm; False where there is no such alert."""
        ...


@dataclass(frozen=True, slots=True)
class Access:
    """Who may ask: names for the Host header beside those of loopback, the token for changes, whether beyond loopback.

    Beyond loopback an IP address as Host is let through as well: a rebinding attack needs a name, and probes of an
    orchestrator have nothing else.
    """

    hosts: frozenset[str] = frozenset()
    token: str | None = None
    loopback: bool = True

    def allows_host(self, header: str) -> bool:
        """Judge a Host header, with or without port."""
        host = _host(header)
        if host in {"localhost", "127.0.0.1", "::1"} or host in self.hosts:
            return True
        return not self.loopback and _is_address(host)

    def allows_change(self, headers: Headers) -> bool:
        """Whether the request shows the token; without a configured token nothing may be changed."""
        kind, _, shown = headers.get("authorization", "").partition(" ")
        if self.token is None or kind.lower() != "bearer":
            return False
        return hmac.compare_digest(shown.strip().encode("latin-1"), self.token.encode())  # as h11 decoded it


def _host(header: str) -> str:
    header = header.strip().lower()
    if header.startswith("["):
        return header[1:].partition("]")[0]
    return header.rpartition(":")[0] if header.count(":") == 1 else header


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


class _Guard:
    """Refuse foreign hosts, foreign origins and changes without the token; put the security headers on every answer."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app = app
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return

        async def secured(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers[name] = value
                headers.setdefault("cache-control", "no-store")
            await send(message)

        refusal = self._refusal(scope["method"], Headers(scope=scope))
        await (refusal or self._app)(scope, receive, secured)

    def _refusal(self, method: str, headers: Headers) -> Response | None:
        if not self._access.allows_host(headers.get("host", "")):
            return _error(421, "this host name is not in web.allowed_hosts")
        if method in ("GET", "HEAD"):
            return None
        origin = headers.get("origin")
        if origin is not None and _host(origin.partition("//")[2]) != _host(headers["host"]):
            return _error(403, "a change must come from this page itself")
        if not self._access.allows_change(headers):
            remedy = "set web.token to allow changes" if self._access.token is None else "send the token as a bearer"
            response = _error(401, f"read-only: {remedy}")
            response.headers["www-authenticate"] = "Bearer"
            return response
        return None


def create_app(view: View, access: Access | None = None) -> Starlette:
    """Return the ASGI application over `view`; without `access`, loopback names only and read-only."""
    routes = _Routes(view)
    return Starlette(
        routes=[
            Route("/metrics", routes.metrics),
            Route("/healthz", routes.healthz),
            Route("/readyz", routes.readyz),
            Route("/api/v1/status", routes.status),
            Route("/api/v1/streams", routes.streams),
            Route("/api/v1/alerts", routes.alerts),
            Route("/api/v1/alerts/{alert_id}/{action}", routes.act, methods=["POST"]),
        ],
        middleware=[Middleware(_Guard, access=access or Access())],
        exception_handlers={HTTPException: _http_error},
    )


class _Routes:
    """The endpoints; plain functions run in starlette's thread pool, so a slow one holds up no other."""

    def __init__(self, view: View) -> None:
        self._view = view

    def metrics(self, _: Request) -> Response:
        return Response(self._view.metrics(), headers={"content-type": _METRICS_TYPE})

    def healthz(self, _: Request) -> Response:
        return _probe(self._view.snapshot().unhealthy)

    def readyz(self, _: Request) -> Response:
        snapshot = self._view.snapshot()
        return _probe([*snapshot.unhealthy, *snapshot.unready])

    def status(self, _: Request) -> Response:
        snapshot = self._view.snapshot()
        return JSONResponse(
            {
                "time_s": snapshot.taken_s,
                "healthy": not snapshot.unhealthy,
                "ready": not (snapshot.unhealthy or snapshot.unready),
                "reasons": [*snapshot.unhealthy, *snapshot.unready],
                **_finite(snapshot.status),
            }
        )

    def streams(self, request: Request) -> Response:
        limit = _limit(request)
        group = request.query_params.get("group")
        search = request.query_params.get("q", "").lower()
        tables = self._view.snapshot().tables
        total, lines = ranked([t for name, t in tables.items() if group in (None, name)], search, limit)
        return JSONResponse({"total": total, "streams": lines})

    def alerts(self, request: Request) -> Response:
        state = request.query_params.get("state")
        if state not in (None, "firing", "resolved"):
            raise HTTPException(400, "state is firing or resolved")
        return JSONResponse({"alerts": [_finite(alert) for alert in self._view.alerts(state, _limit(request))]})

    async def act(self, request: Request) -> Response:
        action = request.path_params["action"]
        if action not in ACTIONS:
            raise HTTPException(404, f"actions are {', '.join(ACTIONS)}")
        note = await _note(request)
        if not self._view.act(request.path_params["alert_id"], action, note):
            raise HTTPException(404, "there is no such alert")
        return JSONResponse({"done": action})


def ranked(tables: Sequence[StreamTable], search: str, limit: int) -> tuple[int, list[dict[str, Any]]]:
    """Return how many streams match, and the `limit` of them with the highest score over threshold, highest first."""
    rows = [
        (table, np.array([i for i, name in enumerate(table.names) if search in name.lower()], np.int64))
        for table in tables
    ]
    if not rows:
        return 0, []
    ratio = np.concatenate([np.nan_to_num(t.score[i] / t.threshold[i], nan=-1.0) for t, i in rows])
    which = np.concatenate([np.full(len(i), k) for k, (_, i) in enumerate(rows)]).astype(np.int64)
    place = np.concatenate([i for _, i in rows])
    order = np.argsort(-ratio, kind="stable")[:limit]
    return len(place), [_line(tables[which[k]], int(place[k])) for k in order]


def _line(table: StreamTable, i: int) -> dict[str, Any]:
    worst = int(table.worst[i])
    state = AlertState(int(table.state[i]))
    line: dict[str, Any] = {
        "group": table.group,
        "stream": table.names[i],
        "score": table.score[i],
        "threshold": table.threshold[i],
        "state": state.name.lower(),
        "worst_channel": table.channels[worst] if worst >= 0 else None,
        "time_s": table.time_s[i],
    }
    if state is AlertState.LEARNING:
        line["learned_rows"], line["warmup_rows"] = int(table.learned[i]), table.warmup_rows
    return _finite(line)


def _finite(values: Mapping[str, Any]) -> dict[str, Any]:
    """JSON has no NaN and no infinity: they become null."""
    return {key: _plain(value) for key, value in values.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return _finite(value)
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value.item() if isinstance(value, np.generic) else value


def _limit(request: Request) -> int:
    text = request.query_params.get("limit", "100")
    if not text.isascii() or not text.isdigit() or not 0 < int(text[:9]) <= _PAGE_MAX:
        raise HTTPException(400, f"limit is a number from 1 to {_PAGE_MAX}")
    return int(text)


async def _note(request: Request) -> str:
    """Return the body as text, which becomes the note of an action."""
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > _BODY_MAX_BYTES:
            raise HTTPException(413, f"a note is {_BODY_MAX_BYTES} bytes at most")
    return body.decode("utf-8", "replace")


def _probe(reasons: Sequence[str]) -> Response:
    return PlainTextResponse("\n".join([*reasons, ""]) if reasons else "ok\n", 503 if reasons else 200)


def _error(status: int, message: str) -> Response:
    return JSONResponse({"error": message}, status)


def _http_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": error.detail}, error.status_code, headers=error.headers)
