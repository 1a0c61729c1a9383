"""What stands between the values of a series and the rows that a model learns from, and what was decided of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from streamae.core.align_rule import GridAlign
from streamae.core.impossible import Sentinels

__all__ = ["CounterChoice", "Prepared", "Screening"]

CounterChoice = Literal["rate", "rate_per_hour", "delta", "off"]


@dataclass(frozen=True, slots=True)
class Screening:
    """What the operator says of the values; what is left open is found."""

    range: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """Channel -> lowest and highest possible value."""
    counters: Mapping[str, CounterChoice] = field(default_factory=dict)
    """Channel -> how its total is read; of channels that are not named, counters are found."""
    find_counters: bool = True
    find_sentinels: bool = True


@dataclass(frozen=True, slots=True)
class Prepared:
    """How rows were made: the model must get them so, too. `grid` None: they were rows already."""

    counters: Mapping[str, str] = field(default_factory=dict)
    sentinels: Mapping[str, Sentinels] = field(default_factory=dict)
    grid: GridAlign | None = None

    def to_mapping(self) -> dict[str, Any]:
        """Return what the manifest of a model says of it, as plain JSON values; without what there is none of."""
        found: dict[str, Any] = {}
        if self.counters:
            found["counters"] = dict(self.counters)
        if self.sentinels:
            found["sentinels"] = {name: one.to_mapping() for name, one in self.sentinels.items()}
        if self.grid is not None:
            grid = self.grid
            found["grid"] = {"every_s": grid.every_s, "method": grid.method, "gap_max_s": grid.bridged_s()}
        return found
