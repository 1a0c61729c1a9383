"""The HTTP side of the daemon: /metrics, /healthz, /readyz, the page and the JSON API, behind one set of guards."""

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from streamae.errors import StoreError, UnavailableError
from streamae.web.assets import Assets
from streamae.web.endpoints import OPERATIONS, Endpoints
from streamae.web.guard import Access, Guard
from streamae.web.openapi import described
from streamae.web.operations import Operation
from streamae.web.pools import make_pools
from streamae.web.view import SilenceWanted, Snapshot, StreamTable, View

__all__ = ["API", "Access", "SilenceWanted", "Snapshot", "StreamTable", "View", "create_app"]

_DESCRIPTION = Operation("/api/v1/openapi.json", Assets.openapi, "OpenAPI 3.1")
API = (*OPERATIONS, _DESCRIPTION)


def create_app(view: View, access: Access | None = None) -> Starlette:
    """Return the ASGI application over `view`; without `access`, loopback names only and read-only."""
    access = access or Access()
    pools = make_pools()
    endpoints = Endpoints(view, pools["metrics"], read_only=access.token is None)
    assets = Assets({"openapi.json": lambda: described(API)})
    app = Starlette(
        routes=[
            Route("/", assets.page),
            Route("/static/{name:path}", assets.file),
            *(one.route(endpoints, pools) for one in OPERATIONS),
            _DESCRIPTION.route(assets, pools),
        ],
        middleware=[Middleware(Guard, access=access)],
        exception_handlers={
            HTTPException: _http_error,
            UnavailableError: _busy,
            StoreError: _busy,
            ClientDisconnect: _gone,
        },
    )
    app.state.events = endpoints.readers
    return app


def _http_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": error.detail}, error.status_code, headers=error.headers)


def _busy(_: Request, error: Exception) -> Response:
    return JSONResponse({"error": str(error)}, 503, headers={"retry-after": "1"})


def _gone(_: Request, error: Exception) -> Response:
    """Nobody is there any more to read it; what the client wanted to say is not known, so nothing was changed."""
    return JSONResponse({"error": "the request ended before its body did"}, 400)
