"""The HTTP side of the daemon: /metrics, /healthz, /readyz and the JSON API, behind one set of guards.

The pages never touch the pipeline: they read a `Snapshot` that the daemon publishes after a step and never changes
again, so that no request can hold a lock that a step waits for. Whatever changes something is a POST, needs the token,
and goes through `View.act`.
"""

from collections.abc import Sequence
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from streamae.core.types import AlertState
from streamae.errors import StoreError, UnavailableError
from streamae.web.assets import Assets
from streamae.web.events import Events
from streamae.web.guard import Access, Guard
from streamae.web.ranking import SORTS, Selection, finite, line, ranked
from streamae.web.silences import read_silence
from streamae.web.view import SilenceWanted, Snapshot, StreamTable, View

__all__ = ["ACTIONS", "Access", "SilenceWanted", "Snapshot", "StreamTable", "View", "create_app"]

ACTIONS = ("acknowledge", "false-alarm", "withdraw-feedback")
_PAGE_MAX = 10_000
_ROWS_MAX = 2048
_POINTS_MAX = 2000
_PAST_ALERTS_MAX = 1000
_PAST_MAX_S = 366 * 86400.0
_TIME_MAX_S = 1e11
_BODY_MAX_BYTES = 16_384
_METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def create_app(view: View, access: Access | None = None) -> Starlette:
    """Return the ASGI application over `view`; without `access`, loopback names only and read-only."""
    access = access or Access()
    routes, assets = _Routes(view, read_only=access.token is None), Assets()
    app = Starlette(
        routes=[
            Route("/", assets.page),
            Route("/static/{name:path}", assets.file),
            Route("/metrics", routes.metrics),
            Route("/healthz", routes.healthz),
            Route("/readyz", routes.readyz),
            Route("/api/v1/openapi.json", assets.openapi),
            Route("/api/v1/status", routes.status),
            Route("/api/v1/events", routes.watch),
            Route("/api/v1/streams", routes.streams),
            Route("/api/v1/stream", routes.closeup),
            Route("/api/v1/stream/past", routes.past),
            Route("/api/v1/models", routes.models),
            Route("/api/v1/alerts", routes.alerts),
            Route("/api/v1/alerts/{alert_id}/{action}", routes.act, methods=["POST"]),
            Route("/api/v1/feedback", routes.feedback),
            Route("/api/v1/dead-letters", routes.dead_letters),
            Route("/api/v1/dead-letters/{sink}/retry", routes.retry, methods=["POST"]),
            Route("/api/v1/poison", routes.poison),
            Route("/api/v1/silences", routes.silences),
            Route("/api/v1/silences", routes.silence, methods=["POST"]),
            Route("/api/v1/silences/{number}/end", routes.end_silence, methods=["POST"]),
        ],
        middleware=[Middleware(Guard, access=access)],
        exception_handlers={HTTPException: _http_error, UnavailableError: _busy, StoreError: _busy},
    )
    app.state.events = routes.events
    return app


class _Routes:
    """The endpoints; plain functions run in starlette's thread pool, so a slow one holds up no other."""

    def __init__(self, view: View, *, read_only: bool) -> None:
        self._view, self._read_only = view, read_only
        self.events = Events(self._state)

    def metrics(self, _: Request) -> Response:
        return Response(self._view.metrics(), headers={"content-type": _METRICS_TYPE})

    def healthz(self, _: Request) -> Response:
        return _probe(self._view.snapshot().unhealthy)

    def readyz(self, _: Request) -> Response:
        snapshot = self._view.snapshot()
        return _probe([*snapshot.unhealthy, *snapshot.unready])

    def status(self, _: Request) -> Response:
        return JSONResponse(self._state())

    async def watch(self, _: Request) -> Response:
        return self.events.respond()

    def _state(self) -> dict[str, Any]:
        snapshot = self._view.snapshot()
        return {
            "time_s": snapshot.taken_s,
            "healthy": not snapshot.unhealthy,
            "ready": not (snapshot.unhealthy or snapshot.unready),
            "reasons": [*snapshot.unhealthy, *snapshot.unready],
            "read_only": self._read_only,
            "groups": list(snapshot.tables),
            "sequence": snapshot.sequence,
            "alerts_version": self._view.alerts_version(),
            **finite(snapshot.status),
        }

    def streams(self, request: Request) -> Response:
        asked = request.query_params
        group, state, sort = asked.get("group"), asked.get("state"), asked.get("sort", "score")
        if sort not in SORTS:
            raise HTTPException(400, f"sort is one of {', '.join(SORTS)}")
        if state is not None and state.upper() not in AlertState.__members__:
            raise HTTPException(400, f"state is one of {', '.join(AlertState.__members__).lower()}")
        wanted = Selection(
            search=asked.get("q", "").lower(),
            labels=_labels(asked.getlist("label")),
            state=None if state is None else AlertState[state.upper()],
            sort=sort,
            offset=_number(request, "offset", 0, 0, 10_000_000),
            limit=_limit(request),
        )
        snapshot = self._view.snapshot()
        total, lines = ranked([t for name, t in snapshot.tables.items() if group in (None, name)], wanted)
        return JSONResponse({"total": total, "streams": lines})

    def closeup(self, request: Request) -> Response:
        group, stream = (_required(request, name) for name in ("group", "stream"))
        rows = _number(request, "rows", 512, 1, _ROWS_MAX)
        table = self._view.snapshot().tables.get(group)
        found = self._view.closeup(group, stream, rows)
        if found is None or table is None or stream not in table.names:
            raise HTTPException(404, "there is no such stream")
        number = list(table.names).index(stream)
        said = {**line(table, number), "labels": table.labels(number)}
        alerts = self._view.alerts(None, 100, group, stream)
        silence = self._view.silence_of(group, stream)
        told = {"alerts": [finite(a) for a in alerts], "silence": None if silence is None else finite(silence)}
        return JSONResponse({**said, "history": finite(found), **told})

    def past(self, request: Request) -> Response:
        group, stream = (_required(request, name) for name in ("group", "stream"))
        from_s, until_s = (_time(request, name) for name in ("from_s", "until_s"))
        if not 0 < until_s - from_s <= _PAST_MAX_S:
            raise HTTPException(400, "until_s is after from_s, by a year at most")
        found = self._view.past(group, stream, from_s, until_s, _number(request, "points", 600, 10, _POINTS_MAX))
        if found is None:
            raise HTTPException(404, "there is no such stream")
        during = [
            finite(alert)
            for alert in self._view.alerts(None, _PAST_ALERTS_MAX, group, stream)
            if alert["onset_s"] <= until_s and (alert["closed_s"] is None or alert["closed_s"] >= from_s)
        ]
        return JSONResponse({"group": group, "stream": stream, **finite(found), "alerts": during})

    def models(self, _: Request) -> Response:
        return JSONResponse({"models": [finite(model) for model in self._view.models()]})

    def alerts(self, request: Request) -> Response:
        state = request.query_params.get("state")
        if state not in (None, "firing", "resolved"):
            raise HTTPException(400, "state is firing or resolved")
        return JSONResponse({"alerts": [finite(alert) for alert in self._view.alerts(state, _limit(request))]})

    async def act(self, request: Request) -> Response:
        action = request.path_params["action"]
        if action not in ACTIONS:
            raise HTTPException(404, f"actions are {', '.join(ACTIONS)}")
        note = await _body(request)
        if not await run_in_threadpool(self._view.act, request.path_params["alert_id"], action, note):
            raise HTTPException(404, "there is no such alert")
        return JSONResponse({"done": action})

    def feedback(self, request: Request) -> Response:
        return JSONResponse({"feedback": [finite(one) for one in self._view.feedback(_limit(request))]})

    def dead_letters(self, request: Request) -> Response:
        return JSONResponse({"dead_letters": [finite(one) for one in self._view.dead_letters(_limit(request))]})

    async def retry(self, request: Request) -> Response:
        if not await run_in_threadpool(self._view.retry, request.path_params["sink"]):
            raise HTTPException(404, "no sink of this name has dead letters")
        return JSONResponse({"done": "retry"})

    def poison(self, request: Request) -> Response:
        return JSONResponse({"poison": [finite(one) for one in self._view.poison()[: _limit(request)]]})

    def silences(self, request: Request) -> Response:
        state = request.query_params.get("state")
        if state not in (None, "pending", "active", "expired"):
            raise HTTPException(400, "state is pending, active or expired")
        found = [finite(one) for one in self._view.silences() if state in (None, one["state"])]
        return JSONResponse({"silences": found[: _limit(request)]})

    async def silence(self, request: Request) -> Response:
        wanted = read_silence(await _body(request), self._view.now_s())
        made = await run_in_threadpool(self._view.silence, wanted)
        return JSONResponse(finite(made), 201)

    async def end_silence(self, request: Request) -> Response:
        number = request.path_params["number"]
        known = number.isascii() and number.isdigit() and len(number) < 10
        if not known or not await run_in_threadpool(self._view.end_silence, int(number)):
            raise HTTPException(404, "there is no such silence that has not ended")
        return JSONResponse({"done": "end"})


def _required(request: Request, name: str) -> str:
    value = request.query_params.get(name)
    if value is None:
        raise HTTPException(400, f"{name} is missing")
    return value


def _labels(asked: Sequence[str]) -> dict[str, str]:
    """Return labels that were given as `name=value` each."""
    pairs = [one.partition("=") for one in asked]
    if any(not name or not sign for name, sign, _ in pairs):
        raise HTTPException(400, "label is name=value")
    return {name: value for name, _, value in pairs}


def _number(request: Request, name: str, default: int, least: int, most: int) -> int:
    text = request.query_params.get(name, str(default))
    if not text.isascii() or not text.isdigit() or not least <= int(text[:9]) <= most:
        raise HTTPException(400, f"{name} is a number from {least} to {most}")
    return int(text[:9])


def _time(request: Request, name: str) -> float:
    try:
        time_s = float(_required(request, name))
    except ValueError:
        time_s = float("nan")
    if not abs(time_s) < _TIME_MAX_S:
        raise HTTPException(400, f"{name} is a time in seconds since 1970")
    return time_s


def _limit(request: Request) -> int:
    return _number(request, "limit", 100, 1, _PAGE_MAX)


async def _body(request: Request) -> str:
    """Return the body as text: the note of an action, or JSON."""
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > _BODY_MAX_BYTES:
            raise HTTPException(413, f"a body is {_BODY_MAX_BYTES} bytes at most")
    return body.decode("utf-8", "replace")


def _probe(reasons: Sequence[str]) -> Response:
    return PlainTextResponse("\n".join([*reasons, ""]) if reasons else "ok\n", 503 if reasons else 200)


def _http_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": error.detail}, error.status_code, headers=error.headers)


def _busy(_: Request, error: Exception) -> Response:
    return JSONResponse({"error": str(error)}, 503, headers={"retry-after": "1"})
