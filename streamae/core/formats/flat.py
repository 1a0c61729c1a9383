"""Documents of a device's state as values by their path: `AM2301.Temperature`, `ENERGY.Power[0]`."""

import re
from collections.abc import Callable
from typing import Any

__all__ = ["flattened"]

_DEPTH_MAX = 8
_LEAVES_MAX = 512
_PLAIN_KEY = re.compile(r"[^.\[\]\"]+\Z")


def flattened(document: object, loads: Callable[[bytes], Any] | None = None) -> dict[str, object]:
    """Return the leaves of a document by their path, at most a few hundred of them; with `loads`, those in text that is
    a JSON document itself as well.
    """
    leaves: dict[str, object] = {}
    _flatten(document, "", 0, leaves, loads)
    return leaves


def _flatten(
    node: object, path: str, depth: int, leaves: dict[str, object], loads: Callable[[bytes], Any] | None
) -> None:
    if depth > _DEPTH_MAX or len(leaves) >= _LEAVES_MAX:
        return
    if loads is not None and isinstance(node, str) and node.lstrip()[:1] in ("{", "["):
        node = _document(node, loads)
    if isinstance(node, dict):
        for key, value in node.items():
            name = key if _PLAIN_KEY.match(key) else f'"{key}"'
            _flatten(value, f"{path}.{name}" if path else name, depth + 1, leaves, loads)
    elif isinstance(node, list):
        for i, value in enumerate(node[:_LEAVES_MAX]):
            _flatten(value, f"{path}[{i}]", depth + 1, leaves, loads)
    else:
        leaves[path] = node


def _document(text: str, loads: Callable[[bytes], Any]) -> object:
    try:
        return loads(text.encode())
    except (ValueError, RecursionError):
        return text
