"""What the operator decides about a group of streams, beside how its topics are read and which model judges it."""

from dataclasses import dataclass, field
from typing import Annotated

from streamae.core.alert import AlertRule
from streamae.core.sensors.stage import SensorRule
from streamae.core.setting import Setting

__all__ = ["GroupRule"]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class GroupRule:
    """What the operator decides about a kind of machine, whatever its topics and its model are."""

    stride: Annotated[int, Setting(ge=1, le=100_000)] = 1
    """Rows between one window that is scored and the next."""
    max_streams: Annotated[int, Setting(ge=1, le=1_000_000)] = 10_000
    """Streams of this group, at most; messages of further ones are dropped and counted."""
    future_max_s: Annotated[float, Setting(ge=0)] = 60.0
    """How far a sample's time may be ahead of its arrival."""
    warmup_rows: Annotated[int | None, Setting(ge=1, le=1_000_000)] = None
    """Rows from which a new stream learns its own scale. Without it, the model's own."""
    alert: AlertRule = field(default_factory=AlertRule)
    """When an anomalous score becomes an alert."""
    health: SensorRule = field(default_factory=SensorRule)
    """Verdicts on the sensors themselves: stale, stuck, out of range."""
    false_alarms_per_s: float | None = None
    """False alarms that are acceptable for each stream, such as 1/week. Without it, the threshold as calibrated."""
