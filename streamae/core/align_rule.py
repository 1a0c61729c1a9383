"""How readings become rows, as the operator decides: see `core.align` for what that means."""

from dataclasses import dataclass
from typing import Annotated, Literal

from streamae.core.setting import INTERNAL, Setting

__all__ = ["GridAlign", "RowAlign"]

_GAP_PERIODS = 10.0  # of the grid, where neither the operator nor a model says what to bridge


@dataclass(frozen=True, slots=True)
class RowAlign:
    """Each message that carries all channels is one row; `gap_max_s` None leaves the longest gap to the artifact."""

    gap_max_s: float | None = None


@dataclass(frozen=True, slots=True)
class GridAlign:
    """Rows on a time grid, built from channels that arrive apart."""

    every_s: Annotated[float, Setting(gt=0)]
    """Period of the grid; the one that the model was trained on."""
    method: Literal["hold", "mean"] = "hold"
    """A row takes each channel's last value, or the mean of its period: of several samples of one time, of all that
    differ."""
    lateness_s: Annotated[float, Setting(ge=0)] = 2.0
    """How long a row waits for samples that are late or out of order."""
    gap_max_s: Annotated[float | None, Setting(gt=0)] = None
    """Longest silence of a channel that is bridged; no window spans a longer one. Without it, the model's own."""
    pending_max: Annotated[int, INTERNAL] = 1_000_000
    """Samples of all streams that wait for their row, at most."""

    def bridged_s(self, model_gap_max_s: float = 0.0) -> float:
        """Return the longest silence to bridge, with a model that bridges as much (0: not known yet)."""
        if self.gap_max_s is not None:
            return self.gap_max_s
        return max(model_gap_max_s or _GAP_PERIODS * self.every_s, self.every_s)
