"""The text of a key: what stands below its field in the source of its class. Reading source takes long; ask late."""

import ast
import inspect
import sys
from dataclasses import is_dataclass
from functools import cache
from itertools import pairwise
from typing import Any

__all__ = ["texts_below"]


def texts_below(room: type[Any]) -> dict[str, str]:
    """Return the texts below the fields of a dataclass and of those that it inherits from."""
    found: dict[str, str] = {}
    for one in reversed(room.__mro__):
        node = _classes(one.__module__).get(one.__name__) if is_dataclass(one) else None
        for at, text in pairwise(node.body) if node is not None else ():
            if isinstance(at, ast.AnnAssign) and isinstance(at.target, ast.Name) and isinstance(text, ast.Expr):
                found[at.target.id] = inspect.cleandoc(ast.literal_eval(text.value))
    return found


@cache
def _classes(module: str) -> dict[str, ast.ClassDef]:
    """The classes of a module, not those within others, as they stand in its source; none where it has no source."""
    try:
        tree = ast.parse(inspect.getsource(sys.modules[module]))
    except OSError:
        return {}
    return {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
