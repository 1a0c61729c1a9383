"""The HTTP side of the daemon: /metrics, /healthz, /readyz and the JSON API, behind one set of guards.

The pages never touch the pipeline: they read a `Snapshot` that the daemon publishes after a step and never changes
again, so that no request can hold a lock that a step waits for. Whatever changes something is a POST, needs the token,
and goes through `View.act`.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from streamae.core.types import AlertState
from streamae.web.guard import Access, Guard
from streamae.web.view import Snapshot, StreamTable, View

__all__ = ["ACTIONS", "Access", "Snapshot", "StreamTable", "View", "create_app"]

ACTIONS = ("acknowledge", "silence", "false-alarm")
_PAGE_MAX = 10_000
_BODY_MAX_BYTES = 16_384
_METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"


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
        middleware=[Middleware(Guard, access=access or Access())],
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


def _http_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": error.detail}, error.status_code, headers=error.headers)
