"""openapi.json, made from the types of the functions that answer; nothing of it is kept by hand.

It is made when somebody asks for it first (some hundredths of a second) and not at the start of the daemon.
"""

import inspect
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pydantic import TypeAdapter
from starlette.responses import Response

from streamae.web.answers import ErrorAnswer
from streamae.web.operations import Operation
from streamae.web.parameters import Schema

__all__ = ["described", "openapi"]

_INFO = {
    "title": "streamae",
    "version": "1",
    "description": "The live state of one streamae daemon. Everything may be read; a change is a POST with the token "
    "of `web.token` as a bearer. Times are seconds since 1970 UTC, a score is anomalous where it is above its "
    "threshold, and null stands where there is no number yet.",
    "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
}
_RESPONSES = {503: "Busy"}  # else Mistake
_Object = dict[str, Any]


def described(operations: Iterable[Operation]) -> bytes:
    """Return the description of some operations as JSON."""
    return json.dumps(openapi(operations), indent=1, ensure_ascii=False).encode()


def openapi(operations: Iterable[Operation]) -> _Object:
    """Return the description of some operations as OpenAPI 3.1."""
    operations = list(operations)
    kinds = {"error": ErrorAnswer, **{key: kind for one in operations for key, kind in _objects(one)}}
    given: list[Any] = [(key, "validation", TypeAdapter(kind)) for key, kind in kinds.items()]
    made, definitions = TypeAdapter.json_schemas(
        given, ref_template="#/components/schemas/{model}", schema_generator=Schema
    )
    schemas = {key: made[key, "validation"] for key in kinds}
    paths: dict[str, _Object] = {}
    for one in operations:
        paths.setdefault(one.path, {})[one.method.lower()] = _operation(one, schemas)
    return {
        "openapi": "3.1.0",
        "info": _INFO,
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "responses": {
                "Mistake": _answer("What is wrong with the request", "application/json", schemas["error"]),
                "Busy": _answer("Not now; ask again after `retry-after` seconds", "application/json", schemas["error"]),
            },
            "schemas": {name: _untitled(about) for name, about in definitions["$defs"].items()},
        },
    }


def _objects(one: Operation) -> Iterator[tuple[str, Any]]:
    """The types of an operation that become components: its answer, and its body where that is JSON."""
    if one.hints["return"] is not Response:
        yield f"{one.name} return", one.hints["return"]
    if "body" in one.readers and one.takes_json:
        yield f"{one.name} body", one.hints["body"]


def _operation(one: Operation, schemas: Mapping[str, _Object]) -> _Object:
    summary, _, description = (inspect.getdoc(one.answer) or "").partition("\n\n")
    plain = {"type": "string" if one.media.startswith("text/") else "object"}
    said: _Object = {"operationId": one.name, "summary": summary.rstrip(".")}
    if description:
        said["description"] = " ".join(description.split())
    if one.method == "POST":
        said["security"] = [{"token": []}]
    if parameters := list(_parameters(one)):
        said["parameters"] = parameters
    if "body" in one.readers:
        said["requestBody"] = _body(one, schemas)
    success = _answer(one.answers, one.media, schemas.get(f"{one.name} return", plain))
    said["responses"] = {
        str(status): success if status == one.status else _failure(one, status) for status in one.statuses
    }
    return said


def _parameters(one: Operation) -> Iterator[_Object]:
    for name in one.in_path:
        yield _parameter(name, "path", one.readers[name].schema, required=True)
    if "asked" in one.readers:
        asked = one.readers["asked"].schema
        for name, about in asked["properties"].items():
            yield _parameter(name, "query", about, required=name in asked.get("required", ()))


def _parameter(name: str, place: str, about: Mapping[str, Any], *, required: bool) -> _Object:
    """A parameter; one that may be left out is never null, since a URL has no word for that."""
    kept = {key: value for key, value in about.items() if key != "description" and (key, value) != ("default", None)}
    if "anyOf" in kept:
        (only,) = (kind for kind in kept.pop("anyOf") if kind.get("type") != "null")
        kept |= only
    needed = {"required": True} if required else {}
    return {"name": name, "in": place, **needed, "description": about["description"], "schema": kept}


def _body(one: Operation, schemas: Mapping[str, _Object]) -> _Object:
    if one.takes_json:
        return {"required": True, "content": {"application/json": {"schema": schemas[f"{one.name} body"]}}}
    about = dict(one.readers["body"].schema)
    return {"required": False, "description": about.pop("description"), "content": {"text/plain": {"schema": about}}}


def _failure(one: Operation, status: int) -> _Object:
    if one.media == "text/plain":
        return _answer("One reason a line", one.media, {"type": "string"})
    return {"$ref": f"#/components/responses/{_RESPONSES.get(status, 'Mistake')}"}


def _untitled(about: _Object) -> _Object:
    return {key: value for key, value in about.items() if key != "title"}


def _answer(description: str, media: str, schema: _Object) -> _Object:
    return {"description": description, "content": {media: {"schema": schema}}}
