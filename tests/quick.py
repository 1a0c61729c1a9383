"""What `make quick` runs: the tests of `streamae/core`, without torch, in seconds of CPU.

A file says that it belongs to it by `pytestmark = pytest.mark.quick`; a test in it that needs more (statistics over
thousands of rows, another room) is marked `full`, and left to `make test`. Properties are tried on a tenth of their
examples. Other files are not even imported, and torch cannot be: whoever imports it fails.
"""

import ast
from pathlib import Path

from hypothesis import HealthCheck, settings

TENTH = 0.1
_FULL_EXAMPLES = 100  # hypothesis' own default

# How long an example takes says how busy the machine is, and nothing about what it tests.
settings.register_profile("ours", deadline=None, suppress_health_check=[HealthCheck.too_slow])
# The same examples each time: what fails here fails by what was changed, and a mutant lives or dies each time alike.
settings.register_profile(
    "quick", settings.get_profile("ours"), max_examples=int(_FULL_EXAMPLES * TENTH), derandomize=True, database=None
)


def examples(full: int) -> int:
    """Return how many examples a property is tried on now, that is tried on `full` of them by `make test`."""
    return max(2, full * settings().max_examples // _FULL_EXAMPLES)


def is_quick(path: Path) -> bool:
    """Return whether a test file says that it belongs to `make quick`."""
    return any(
        isinstance(node, ast.Assign) and ast.unparse(node) == "pytestmark = pytest.mark.quick"
        for node in ast.parse(path.read_text()).body
    )
