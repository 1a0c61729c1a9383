"""Documents of a device's state as values by their path: `AM2301.Temperature`, `ENERGY.Power[0]`."""

import re

__all__ = ["flattened"]

_DEPTH_MAX = 8
_LEAVES_MAX = 512
_PLAIN_KEY = re.compile(r"[^.\[\]\"]+\Z")


def flattened(document: object) -> dict[str, object]:
    """Return the leaves of a document by their path, at most a few hundred of them."""
    leaves: dict[str, object] = {}
    _flatten(document, "", 0, leaves)
    return leaves


def _flatten(node: object, path: str, depth: int, leaves: dict[str, object]) -> None:
    if depth > _DEPTH_MAX or len(leaves) >= _LEAVES_MAX:
        return
    if isinstance(node, dict):
        for key, value in node.items():
            name = key if _PLAIN_KEY.match(key) else f'"{key}"'
            _flatten(value, f"{path}.{name}" if path else name, depth + 1, leaves)
    elif isinstance(node, list):
        for i, value in enumerate(node[:_LEAVES_MAX]):
            _flatten(value, f"{path}[{i}]", depth + 1, leaves)
    else:
        leaves[path] = node
