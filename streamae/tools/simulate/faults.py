"""Faults of simulated machines: what each kind does to the channels of its stream, and how it is labelled.

A magnitude counts in spreads of the channel: how far it wanders in normal operation. Zero changes nothing (except
`stuck`, which has no magnitude), and more is always further from normal.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from streamae.core.types import F64

__all__ = ["KINDS", "ActiveFault", "Fault"]


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault: of which stream, from when (seconds after the plant's start), for how long, and how bad.

    `channel` is the sensor of a spike, drift or stuck (by default the plant's first); the other kinds are faults of
    the machine and show in several channels.
    """

    kind: str
    stream: str
    start_s: float
    duration_s: float
    magnitude: float = 2.0
    channel: str = ""

    def __post_init__(self) -> None:
        """Refuse a kind that does not exist."""
        if self.kind not in KINDS:
            raise ValueError(f"fault kind {self.kind!r}: it is one of {', '.join(KINDS)}")

    def event(self, start_s: float) -> dict[str, Any]:
        """Return it as an event of the labels file; times are event time, `start_s` the plant's own."""
        return asdict(self) | {"start_s": start_s + self.start_s, "end_s": start_s + self.start_s + self.duration_s}


@dataclass(slots=True)
class ActiveFault:
    """A fault at work on its stream; keeps what a stuck sensor shows."""

    fault: Fault
    stream: int
    channel: int
    names: Mapping[str, int]
    held: float | None = None

    def apply(self, age_s: F64, values: F64, spread: F64) -> None:
        """Change `values[n, C]` of the rows that are `age_s[n]` into the fault; `spread[C]` is the stream's."""
        KINDS[self.fault.kind](self, age_s, values, spread * self.fault.magnitude)

    def at(self, name: str) -> int:
        """Return the index of a channel; the first where the plant has no such channel."""
        return self.names.get(name, 0)


def _spike(fault: ActiveFault, age_s: F64, values: F64, size: F64) -> None:
    values[:, fault.channel] += size[fault.channel]


def _drift(fault: ActiveFault, age_s: F64, values: F64, size: F64) -> None:
    values[:, fault.channel] += size[fault.channel] * age_s / fault.fault.duration_s


def _stuck(fault: ActiveFault, age_s: F64, values: F64, size: F64) -> None:
    if fault.held is None and len(values):
        fault.held = float(values[0, fault.channel])
    if fault.held is not None:
        values[:, fault.channel] = fault.held


def _oscillation(fault: ActiveFault, age_s: F64, values: F64, size: F64) -> None:
    # Cavitation: vapour bubbles collapse; pressure and flow swing against each other, and the casing shakes.
    swing = np.sin(2 * np.pi * age_s / 6.0)
    pressure, flow, vibration = fault.at("pressure"), fault.at("flow"), fault.at("vibration")
    values[:, pressure] += size[pressure] * swing
    if flow != pressure:
        values[:, flow] -= 0.5 * size[flow] * swing
        values[:, vibration] += size[vibration] * (0.5 + 0.5 * np.abs(swing))


def _leak(fault: ActiveFault, age_s: F64, values: F64, size: F64) -> None:
    # The hole opens over the first quarter: pressure is lost, the pump delivers more against less resistance.
    opening = np.minimum(1.0, 4.0 * age_s / fault.fault.duration_s)
    pressure, flow = fault.at("pressure"), fault.at("flow")
    values[:, pressure] -= size[pressure] * opening
    if flow != pressure:
        values[:, flow] += 0.7 * size[flow] * opening


def _mode_mixup(fault: ActiveFault, age_s: F64, values: F64, size: F64) -> None:
    # Each channel alone stays where it often is, but they are not those of one operating mode: a valve half turned.
    pressure, flow = fault.at("pressure"), fault.at("flow")
    if flow == pressure:
        values[:, pressure] -= 0.5 * size[pressure]
        return
    values[:, flow] -= 0.5 * size[flow]
    values[:, pressure] += 0.5 * size[pressure]


KINDS: dict[str, Callable[[ActiveFault, F64, F64, F64], None]] = {
    "spike": _spike,
    "drift": _drift,
    "stuck": _stuck,
    "oscillation": _oscillation,
    "leak": _leak,
    "mode_mixup": _mode_mixup,
}
