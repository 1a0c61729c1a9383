"""streamae: streaming anomaly detection for MQTT sensors with LSTM encoder-decoders.

What a Python program needs of it is here: `train` makes a model of `Series`, `load` opens one, and the `Detector` that
both return scores rows as the daemon does. Errors are all of `StreamaeError`: `ArtifactError` for a model file that is
missing, damaged or not trusted, `SeriesError` for rows and series, `ConfigError` for settings, `UnavailableError` for a
database that does not answer. deploy/docs/python-api.md has examples.

Names are loaded when they are asked for: `import streamae` costs neither torch nor NumPy.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from streamae.errors import ArtifactError, ConfigError, SeriesError, StreamaeError, UnavailableError

if TYPE_CHECKING:
    from streamae.api import Detector, load, train
    from streamae.history.series import Series

__all__ = [
    "ArtifactError",
    "ConfigError",
    "Detector",
    "Series",
    "SeriesError",
    "StreamaeError",
    "UnavailableError",
    "__version__",
    "load",
    "train",
]
__version__ = "0.1.0"

_HOMES = {
    "Detector": "streamae.api",
    "Series": "streamae.history.series",
    "load": "streamae.api",
    "train": "streamae.api",
}

if not TYPE_CHECKING:  # a type checker would take any name for one of ours

    def __getattr__(name: str) -> object:
        """Load a name from its home (PEP 562)."""
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(_HOMES[name]), name)

    def __dir__() -> list[str]:
        """Name what there is, loaded or not."""
        return sorted({*globals(), *__all__})
