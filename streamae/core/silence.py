"""How long a silence is still usual: learnt from those that ended, as sensors speak each second or each hour."""

from typing import overload

import numpy as np
import numpy.typing as npt

__all__ = ["patience_s"]

_LEAST_S = 300.0
_UNKNOWN_S = 7200.0
_KNOWN = 3
_PATIENCE = 5.0


@overload
def patience_s(longest_s: float, silences: float) -> float: ...
@overload
def patience_s(longest_s: npt.NDArray[np.float64], silences: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]: ...
def patience_s(
    longest_s: float | npt.NDArray[np.float64], silences: float | npt.NDArray[np.float64]
) -> float | npt.NDArray[np.float64]:
    """Return how long a stream may be silent, given the longest of so many silences: five times it, 5 min at least.

    Two hours until three are known.
    """
    usual_s = np.maximum(_LEAST_S, _PATIENCE * np.asarray(longest_s))
    found: npt.NDArray[np.float64] = np.where(np.asarray(silences) < _KNOWN, np.maximum(_UNKNOWN_S, usual_s), usual_s)
    return found if found.ndim else float(found)
