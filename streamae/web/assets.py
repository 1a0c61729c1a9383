"""The files of the page: read once at the start, so that no request names a path of the disk."""

import hashlib
from collections.abc import Callable, Mapping
from importlib import resources
from importlib.resources.abc import Traversable

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

__all__ = ["Assets"]

_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".json": "application/json",
}


class Assets:
    """Files of `static/` with their types; a browser asks again each time, and gets 304 while nothing has changed.

    `made` are further files, made when they are asked for first.
    """

    def __init__(self, made: Mapping[str, Callable[[], bytes]]) -> None:
        root = resources.files("streamae.web") / "static"
        self._files = {name: _tagged(content) for name, content in _walk(root, "")}
        self._made = made

    async def page(self, request: Request) -> Response:
        """Return the page itself."""
        return self._send("index.html", request)

    def openapi(self, request: Request) -> Response:
        """The description of this API."""
        return self._send("openapi.json", request)

    async def file(self, request: Request) -> Response:
        """Return one file; 404 where there is none of that name."""
        return self._send(request.path_params["name"], request)

    def _send(self, name: str, request: Request) -> Response:
        if name not in self._files and name in self._made:
            self._files[name] = _tagged(self._made[name]())  # two who ask at once make it twice, and the same
        if name not in self._files:
            raise HTTPException(404, "there is no such file")
        content, tag = self._files[name]
        headers = {"etag": tag, "cache-control": "no-cache"}
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
        return Response(content, headers={**headers, "content-type": _TYPES[name[name.rindex(".") :]]})


def _tagged(content: bytes) -> tuple[bytes, str]:
    return content, f'"{hashlib.sha256(content).hexdigest()[:24]}"'


def _walk(folder: Traversable, prefix: str) -> list[tuple[str, bytes]]:
    found = []
    for entry in folder.iterdir():
        if entry.is_dir():
            found += _walk(entry, f"{prefix}{entry.name}/")
        elif entry.name.endswith(tuple(_TYPES)):
            found.append((prefix + entry.name, entry.read_bytes()))
    return found
