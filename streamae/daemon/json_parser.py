"""JSON parsers, the fastest that are installed: msgspec reads documents of a known shape straight into their values,
orjson any document, and the standard library is always there.

`loads` is a parser as the core asks for one: bytes -> document, ValueError for what is none. Where msgspec is
installed it has a further method, `columns`, that the core uses for what it knows the shape of beforehand
(`core.formats.columns`). Whatever msgspec stumbles over is left to the general parser, which says what is wrong.
"""

import json
from collections.abc import Callable, Sequence
from functools import reduce
from operator import attrgetter
from typing import Any

__all__ = ["TypedJson", "json_loads"]

_Tree = dict[str, Any]  # key -> index of the path that ends there, or a further tree


def json_loads() -> Callable[[bytes], Any]:
    """Return the fastest JSON parser that is installed."""
    try:
        import orjson

        general: Callable[[bytes], Any] = orjson.loads
    except ImportError:
        general = json.loads
    try:
        import msgspec
    except ImportError:
        return general
    del msgspec
    return TypedJson(general)


class TypedJson:
    """A parser with `columns`; calling it is calling the general parser."""

    def __init__(self, general: Callable[[bytes], Any]) -> None:
        self._general = general

    def __call__(self, payload: bytes) -> Any:
        """Parse any document."""
        return self._general(payload)

    @staticmethod
    def columns(
        paths: Sequence[tuple[str, ...]], kinds: Sequence[Any]
    ) -> Callable[[Sequence[bytes]], list[list[Any]] | None] | None:
        """Return a reader of documents: payloads -> for each path its values, or None where one is not as expected.

        `kinds` are the types that the values must have. None where the paths contradict each other.
        """
        import msgspec

        tree: _Tree = {}
        for i, path in enumerate(paths):
            try:
                inner = reduce(lambda t, key: t.setdefault(key, {}), path[:-1], tree)
                if path[-1] in inner:
                    return None
                inner[path[-1]] = i
            except (AttributeError, TypeError):  # one path ends where another goes on
                return None
        places: dict[int, str] = {}
        decode = msgspec.json.Decoder(_struct(tree, kinds, "", places)).decode
        getters = [attrgetter(places[i]) for i in range(len(paths))]

        def read(payloads: Sequence[bytes]) -> list[list[Any]] | None:
            # What lies beside the values is not looked at closely; that it is UTF-8 is seen at once for ASCII.
            if not all(map(bytes.isascii, payloads)):
                return None
            try:
                found = list(map(decode, payloads))
            except (msgspec.MsgspecError, RecursionError, ValueError):
                return None
            return [list(map(get, found)) for get in getters]

        return read


def _struct(tree: _Tree, kinds: Sequence[Any], prefix: str, places: dict[int, str]) -> Any:
    """Define the type of an object with these keys; notes where each path's value is found, as dotted attributes."""
    import msgspec

    fields, names = [], {}
    for number, (key, inner) in enumerate(tree.items()):
        name = f"f{number}"
        names[name] = key
        if isinstance(inner, dict):
            fields.append((name, _struct(inner, kinds, f"{prefix}{name}.", places)))
        else:
            places[inner] = prefix + name
            fields.append((name, kinds[inner]))
    return msgspec.defstruct("Document", fields, rename=names, gc=False)
