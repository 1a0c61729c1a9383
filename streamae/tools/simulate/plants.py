"""Simulated plants: pumps whose channels hang together, and fleets of single sensors of very different scale.

A plant is a generator of rows: `rows(n)` gives the next n rows of all its streams, whatever was asked before in which
portions. It is deterministic by its seed. Faults may be given at the start or injected while it runs; each row has the
label 1 while a fault is at work on its stream.

The physics is kept to what makes the channels of a pump depend on one another: the affinity laws (flow ~ speed,
head ~ speed², power ~ speed³), a quadratic system curve, first-order lags of rotor and casing, a demand with a daily
rhythm and slow noise, and operating modes between which the speed setpoint jumps.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from streamae.core.types import F64, I8
from streamae.tools.simulate.faults import ActiveFault, Fault

__all__ = ["Fleet", "Plant", "Pumps"]

_SETPOINTS = np.array([0.85, 1.0, 1.12])  # speed of the operating modes, as a share of the rated speed
_ROTOR_S = 5.0
_CASING_S = 90.0
_DEMAND_S = 60.0


class Plant(ABC):
    """Streams with the same channels, sampled together every `period_s` from `start_s` on.

    `labels` are those of each stream's topic; `spread[S, C]` is how far each channel wanders in normal operation.
    """

    def __init__(
        self,
        names: Sequence[str],
        label_names: Sequence[str],
        channels: tuple[str, ...],
        *,
        seed: int,
        start_s: float,
        period_s: float,
        day_s: float,
    ) -> None:
        self.names = tuple(names)
        self.labels = [dict(zip(label_names, name.split("/"), strict=True)) for name in names]
        self.channels = channels
        self.start_s = start_s
        self.period_s = period_s
        self.day_s = day_s
        self.steps = 0
        self.faults: list[Fault] = []
        self.spread: F64 = np.ones((len(names), len(channels)))
        self._active: list[ActiveFault] = []
        self._index = {name: i for i, name in enumerate(self.names)}
        self._rng = np.random.default_rng(seed)

    @abstractmethod
    def _step(self, elapsed_s: float) -> F64:
        """Advance one period; return the measured values[S, C] at `elapsed_s` after the start."""

    @property
    def elapsed_s(self) -> float:
        """Return the time of the next row, in seconds after the start."""
        return self.steps * self.period_s

    def inject(self, fault: Fault) -> None:
        """Add a fault; one that should have begun already begins late.

        :raises ValueError: there is no such stream or channel.
        """
        if fault.stream not in self._index:
            raise ValueError(f"fault of stream {fault.stream!r}: the plant has {self.names[0]} … {self.names[-1]}")
        if fault.channel and fault.channel not in self.channels:
            raise ValueError(f"fault of channel {fault.channel!r}: the plant has {', '.join(self.channels)}")
        numbers = {name: i for i, name in enumerate(self.channels)}
        channel = numbers[fault.channel or self.channels[0]]
        self.faults.append(fault)
        self._active.append(ActiveFault(fault, self._index[fault.stream], channel, numbers))

    def rows(self, n: int) -> tuple[F64, F64, I8]:
        """Return the next n rows: `time_s[n]`, `values[n, S, C]`, `label[n, S]`."""
        elapsed_s: F64 = (self.steps + np.arange(n)).astype(np.float64) * self.period_s
        values = np.empty((n, len(self.names), len(self.channels)))
        for i in range(n):
            values[i] = self._step(float(elapsed_s[i]))
        self.steps += n
        label = np.zeros((n, len(self.names)), np.int8)
        for one in self._active:
            age_s: F64 = elapsed_s - one.fault.start_s
            rows = np.flatnonzero((age_s >= 0) & (age_s < one.fault.duration_s))
            if len(rows):
                part = values[rows, one.stream]
                one.apply(age_s[rows], part, self.spread[one.stream])
                values[rows, one.stream] = part
                label[rows, one.stream] = 1
        now_s = self.elapsed_s
        self._active = [one for one in self._active if one.fault.start_s + one.fault.duration_s > now_s]
        return self.start_s + elapsed_s, values, label

    def events(self) -> list[dict[str, Any]]:
        """Return every fault so far as an event: stream, kind, channel, magnitude, start_s and end_s in event time."""
        return [fault.event(self.start_s) for fault in self.faults]


class Pumps(Plant):
    """Pumps with pressure (bar), flow (m³/h), vibration (mm/s) and temperature (°C), named `line1/pump01` and so on.

    A day lasts `day_s`; a pump changes its operating mode every eighth of a day on average.
    """

    def __init__(
        self,
        pumps: int = 20,
        lines: int = 2,
        *,
        seed: int = 0,
        start_s: float = 1.7e9,
        period_s: float = 1.0,
        day_s: float = 3600.0,
        faults: Sequence[Fault] = (),
    ) -> None:
        names = [f"line{i * lines // pumps + 1}/pump{i + 1:02d}" for i in range(pumps)]
        channels = ("pressure", "flow", "vibration", "temperature")
        times = {"start_s": start_s, "period_s": period_s, "day_s": day_s}
        super().__init__(names, ("line", "pump"), channels, seed=seed, **times)
        rng = self._rng
        self._head_bar = rng.uniform(3.5, 6.5, pumps)
        self._flow_m3h = rng.uniform(25, 60, pumps)
        self._shake_mms = rng.uniform(1.2, 2.8, pumps)
        self._ambient_c = rng.uniform(17, 24, pumps)
        self._rise_c = rng.uniform(22, 34, pumps)
        self._phase = rng.uniform(0, 0.8, pumps)
        self._mode = rng.integers(0, 3, pumps)
        self._speed = _SETPOINTS[self._mode]
        self._wander = np.zeros(pumps)
        self._casing_c = self._ambient_c + self._rise_c
        self.spread = np.stack(
            [0.2 * self._head_bar, 0.15 * self._flow_m3h, 0.15 * self._shake_mms, np.full(pumps, 4.0)], axis=1
        )
        for fault in faults:
            self.inject(fault)

    def _step(self, elapsed_s: float) -> F64:
        pumps, dt = len(self.names), self.period_s
        noise = self._rng.standard_normal((5, pumps))
        chance = self._rng.random((2, pumps))
        switch = chance[0] < dt / (self.day_s / 8)
        self._mode = np.where(switch, (3 * chance[1]).astype(np.int64), self._mode)
        self._speed = self._speed + _gain(dt, _ROTOR_S) * (_SETPOINTS[self._mode] - self._speed)
        keep = np.exp(-dt / _DEMAND_S)
        self._wander = keep * self._wander + np.sqrt(1 - keep * keep) * 0.02 * noise[0]
        turn = 2 * np.pi * elapsed_s / self.day_s
        demand = 1 + 0.12 * np.sin(turn + self._phase) + self._wander
        speed = self._speed
        flow = speed * demand  # of the rated flow
        pressure = self._head_bar * (1.3 * speed**2 - 0.3 * flow**2)
        shake = self._shake_mms * (0.7 * speed**2 + 0.3 + 3.0 * (demand - 1) ** 2)
        ambient_c = self._ambient_c + 2.0 * np.sin(turn - 1.0)
        warm_c = ambient_c + self._rise_c * (0.4 + 0.6 * speed**3 * demand)
        self._casing_c = self._casing_c + _gain(dt, _CASING_S) * (warm_c - self._casing_c)
        return np.stack(
            [
                pressure * (1 + 0.005 * noise[1]),
                self._flow_m3h * flow * (1 + 0.008 * noise[2]),
                shake * (1 + 0.03 * noise[3]),
                self._casing_c + 0.1 * noise[4],
            ],
            axis=1,
        )


class Fleet(Plant):
    """Many single sensors, `s00000` and so on: one rhythm, but levels and scales that differ by orders of magnitude.

    Each value is level + scale · (two harmonics of the day, with the stream's own phase, + slow noise + fast noise).
    """

    def __init__(
        self,
        streams: int = 10_000,
        *,
        seed: int = 0,
        start_s: float = 1.7e9,
        period_s: float = 1.0,
        day_s: float = 300.0,
        faults: Sequence[Fault] = (),
    ) -> None:
        names = [f"s{i:05d}" for i in range(streams)]
        super().__init__(names, ("sensor",), ("value",), seed=seed, start_s=start_s, period_s=period_s, day_s=day_s)
        rng = self._rng
        self._scale: F64 = 10.0 ** rng.uniform(-3, 4, streams)
        self._level: F64 = self._scale * rng.normal(0, 20, streams)
        self._phase: F64 = rng.uniform(0, 2 * np.pi, streams)
        self._wander: npt.NDArray[np.float64] = np.zeros(streams)
        self.spread = self._scale[:, None].copy()
        for fault in faults:
            self.inject(fault)

    def _step(self, elapsed_s: float) -> F64:
        noise = self._rng.standard_normal((2, len(self.names)))
        keep = np.exp(-self.period_s / _DEMAND_S)
        self._wander = keep * self._wander + np.sqrt(1 - keep * keep) * 0.1 * noise[0]
        turn = 2 * np.pi * elapsed_s / self.day_s + self._phase
        shape = np.sin(turn) + 0.4 * np.sin(2 * turn + 0.5) + self._wander + 0.05 * noise[1]
        values: F64 = (self._level + self._scale * shape)[:, None]
        return values


def _gain(dt_s: float, lag_s: float) -> float:
    """Return how much of the way to its target a first-order lag goes in one period."""
    return float(1 - np.exp(-dt_s / lag_s))
