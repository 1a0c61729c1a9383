"""An operation of the API: a path, a method and the typed function that answers it.

The function's signature is all there is to say of it: a parameter that the path names is read from the path, `asked` is
a class of query parameters, `body` is text or a JSON object, the return type is the answer, and the docstring is its
summary and description. From these come the route and, in `streamae.web.openapi`, the description. (FastAPI does the
same and more; in a daemon that has to fit into 80 MB it costs 8 MB of that.)
"""

import inspect
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, get_type_hints

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from streamae.web.parameters import ParameterError, Reader
from streamae.web.pools import Pool, PoolName

__all__ = ["BODY_MAX_BYTES", "Operation"]

BODY_MAX_BYTES = 16_384


@dataclass(frozen=True)
class Operation:
    """`answer` is a method of the class that `route` is given an instance of; `errors` are further statuses of it.

    `answers` describes the status of success, `media` is its content type; `pool` are the threads in which it runs. A
    function may also take the `request`.
    """

    path: str
    answer: Callable[..., Any]
    answers: str
    method: str = "GET"
    status: int = 200
    media: str = "application/json"
    errors: tuple[int, ...] = ()
    pool: PoolName = "read"

    @cached_property
    def hints(self) -> Mapping[str, Any]:
        """The types of the function's parameters and of its answer (`return`), with what annotates them."""
        return get_type_hints(self.answer, include_extras=True)

    @property
    def name(self) -> str:
        """The function's name, which is the operation's id."""
        return self.answer.__name__

    @property
    def in_path(self) -> list[str]:
        """Names of the parameters in the path."""
        return [name for name in self.hints if f"{{{name}}}" in self.path]

    @cached_property
    def readers(self) -> Mapping[str, Reader[Any]]:
        """What reads each parameter. TypeError where a parameter is one that no request could give."""
        names = [name for name in self.hints if name not in ("return", "request")]
        if lost := [name for name in names if name not in ("asked", "body", *self.in_path)]:
            raise TypeError(f"{self.name}: {', '.join(lost)} is not in {self.path}")
        return {name: Reader(self.hints[name], strict=name == "body") for name in names}

    @property
    def takes_json(self) -> bool:
        """Whether the body is JSON; else it is text."""
        return bool(self.readers["body"].schema["type"] == "object")

    @property
    def statuses(self) -> list[int]:
        """Every status that it may answer with, in order."""
        found = {self.status, *self.errors}
        if "asked" in self.readers:
            found.add(400)
        if self.method == "POST":
            found |= {401, 403}
        if "body" in self.readers:
            found.add(413)
        return sorted(found)

    def route(self, owner: object, pools: Mapping[PoolName, Pool]) -> Route:
        """Return the route that answers with `owner`'s method; it runs in a thread of its pool, unless async."""
        bound = self.answer.__get__(owner)
        readers = self.readers  # made now: a class that cannot be read is an error of the start
        pool = pools["change" if self.method == "POST" else self.pool]

        async def respond(request: Request) -> Response:
            given = self._given(request)
            return await pool.run(lambda: self._response(bound(**given)))

        async def respond_to_body(request: Request) -> Response:
            given = self._given(request)
            body = self._parsed(await _body(request))
            return await pool.run(lambda: self._response(bound(**given, body=body)))

        async def respond_at_once(request: Request) -> Response:
            return self._response(await bound(**self._given(request)))

        endpoint: Callable[[Request], Any] = respond_to_body if "body" in readers else respond
        if inspect.iscoroutinefunction(self.answer):
            endpoint = respond_at_once
        return Route(self.path, endpoint, methods=[self.method])

    def _response(self, answer: Any) -> Response:
        return answer if isinstance(answer, Response) else JSONResponse(answer, self.status)

    def _given(self, request: Request) -> dict[str, Any]:
        """Read what path and query give; of a path that fits nothing, 404."""
        given: dict[str, Any] = {name: self._read(name, request.path_params[name], 404) for name in self.in_path}
        if "asked" in self.readers:
            query, wanted = request.query_params, self.readers["asked"].schema["properties"]
            found = {
                name: query.getlist(name) if about.get("type") == "array" else query[name]
                for name, about in wanted.items()
                if name in query
            }
            given["asked"] = self._read("asked", found, 400)
        return given | ({"request": request} if "request" in self.hints else {})

    def _parsed(self, body: bytes) -> Any:
        text = body.decode("utf-8", "replace")
        if not self.takes_json:
            return text
        try:
            given = json.loads(text)
            # An escape can be half a character, which nobody could store.
            json.dumps(given, ensure_ascii=False).encode()
        except (ValueError, RecursionError):
            given = None
        if not isinstance(given, dict):
            raise HTTPException(400, "the body is one JSON object")
        return self._read("body", given, 400)

    def _read(self, name: str, value: Any, status: int) -> Any:
        try:
            return self.readers[name].read(value, name)
        except ParameterError as error:
            raise HTTPException(status, str(error)) from None


async def _body(request: Request) -> bytes:
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > BODY_MAX_BYTES:
            raise HTTPException(413, f"a body is {BODY_MAX_BYTES} bytes at most")
    return body
