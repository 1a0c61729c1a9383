"""A group's model, as the core sees it: what it was trained under, and the one function that the core needs of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from streamae.core.align_rule import GridAlign
from streamae.core.calibration import Calibration, StreamCalibration
from streamae.core.counters import Counters
from streamae.core.impossible import Sentinels
from streamae.core.types import F32

__all__ = ["Profile", "Reconstructor"]


class Reconstructor(Protocol):
    """What the core needs of a model; scaled windows in, arrays out. Implemented by `streamae.model.runtime`.

    The value returned for a window must not depend on the other windows of the batch.
    """

    def errors(self, windows: F32) -> F32:
        """[B, T, C] -> [B, E], the error features that the profile's calibration names, all >= 0 and finite."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Profile:
    """What a model was trained under, as the core needs it; read from the artifact's manifest.

    `streams` holds by name the numbers of each stream that it was trained on, `calibration` those of the group;
    `calendar` is for `core.calendar`; `period_s` is the time between rows. By channel, `counters` says how a counter is
    read (`core.counters`) and `sentinels` what is no measurement (`core.impossible`). `grid` is that of its training
    rows, None where they were rows already.
    """

    digest: str
    channels: tuple[str, ...]
    window: int
    period_s: float
    gap_max_s: float
    warmup_rows: int
    streams: Mapping[str, StreamCalibration]
    calibration: Calibration
    calendar: Mapping[str, Any] | None = None
    counters: Mapping[str, str] = field(default_factory=dict)
    sentinels: Mapping[str, Sentinels] = field(default_factory=dict)
    grid: GridAlign | None = None

    def make_counters(self) -> Counters:
        """Return a stage that reads the counters of rows with the profile's channels."""
        return Counters([self.counters.get(name) for name in self.channels])
