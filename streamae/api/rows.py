"""What a caller gives -> rows and times, or an error that names the key, the value and the remedy."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from streamae.core.types import F64
from streamae.errors import SeriesError
from streamae.history.series import number_array

__all__ = ["few", "rows_of", "times_of_rows"]

_NAMED_MAX = 5
_SECONDS_MAX = 1e11  # as in files: beyond are milliseconds


def rows_of(values: npt.ArrayLike, channels: Sequence[str]) -> F64:
    """Return one row `[C]` or many `[N, C]` as `[N, C]`. Raises SeriesError."""
    found, C = number_array("values", values), len(channels)
    if found.ndim not in {1, 2} or found.shape[-1] != C:
        several = f", {len(found)} rows as [{len(found)}, 1]" if C == 1 and found.ndim == 1 else ""
        wanted = f"one row [{C}] or rows [N, {C}]{several}: {', '.join(channels)}, NaN where a value is missing"
        raise SeriesError(f"values: got the shape {list(found.shape)}; give {wanted}")
    return found.reshape(-1, C)


def times_of_rows(given: npt.ArrayLike, count: int, newest_s: float, stream: str) -> F64:
    """Return `time_s[count]` of rows that follow a stream's newest. Raises SeriesError for what does not ascend."""
    time_s = np.atleast_1d(number_array("time_s", given))
    if time_s.shape != (count,):
        raise SeriesError(
            f"time_s: got the shape {list(time_s.shape)}; give a time for each row, of which there are {count}"
        )
    odd = np.flatnonzero(~(np.abs(time_s) < _SECONDS_MAX)).tolist()
    if odd:
        said = f"time_s: got {float(time_s[odd[0]])!r} in row {odd[0]}"
        raise SeriesError(f"{said}; give finite seconds since 1970 UTC: divide milliseconds by 1000")
    before = np.r_[newest_s, time_s[:-1]][:count]
    back = np.flatnonzero(time_s <= before).tolist()
    if back:
        said = f"time_s: got {float(time_s[back[0]])!r} in row {back[0]}, after {float(before[back[0]])!r} of {stream}"
        raise SeriesError(f"{said}; time goes forward: sort the rows, leave out what was given before, or reset()")
    return time_s


def few(names: Sequence[str]) -> str:
    """Name the first few."""
    more = f" and {len(names) - _NAMED_MAX} more" if len(names) > _NAMED_MAX else ""
    return ", ".join(names[:_NAMED_MAX]) + more
