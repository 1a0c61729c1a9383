"""What the made-up feeds measure: rhythms of a day, slow wandering, machines that go on and off, counters."""

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from streamae.core.types import F64
from streamae.history.recordings import Message

__all__ = ["DAY_S", "START_S", "World"]

DAY_S = 86_400.0
START_S = 1_736_121_600.0  # Monday, 6 January 2025, 00:00 UTC


@dataclass(slots=True)
class World:
    """A stretch of time with its own chance, and at most one fault in it; feeds put their messages into it."""

    seconds: float
    seed: int = 0
    fault: tuple[float, float] | None = None  # from, to, in seconds since 1970
    start_s: float = START_S
    rng: np.random.Generator = field(init=False)
    sent: list[Message] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(self.seed)

    def times(self, every_s: float, *, jitter_s: float = 0.0, first_s: float | None = None) -> F64:
        """When something is sent about every `every_s`."""
        phase_s = self.rng.uniform(0, every_s) if first_s is None else first_s
        regular = np.arange(self.start_s + phase_s, self.start_s + self.seconds, every_s)
        return regular + self.rng.uniform(0, jitter_s, len(regular)) if jitter_s else regular

    def faulty(self, time_s: F64) -> F64:
        """1.0 while the fault lasts, else 0.0."""
        if self.fault is None:
            return np.zeros(len(time_s))
        return ((time_s >= self.fault[0]) & (time_s < self.fault[1])).astype(np.float64)

    def noise(self, time_s: F64, spread: float) -> F64:
        """What a sensor adds by itself."""
        return self.rng.normal(0, spread, len(time_s))

    def wander(self, time_s: F64, tau_s: float, spread: float) -> F64:
        """A value that wanders slowly about zero: an Ornstein-Uhlenbeck process."""
        kept = np.exp(-np.diff(time_s, prepend=time_s[:1] - tau_s) / tau_s)
        pushes = self.rng.normal(0, spread, len(time_s)) * np.sqrt(1 - kept**2)
        found, now = np.empty(len(time_s)), 0.0
        for i, (keep, push) in enumerate(zip(kept.tolist(), pushes.tolist(), strict=True)):
            now = found[i] = keep * now + push
        return found

    def daily(self, time_s: F64, mean: float, swing: float, peak_h: float = 15.0) -> F64:
        """A rhythm of a day."""
        return mean + swing * np.cos(2 * np.pi * (time_s / DAY_S - peak_h / 24))

    def cycle(self, time_s: F64, on_s: float, off_s: float) -> F64:
        """1.0 while a machine is on, 0.0 while it rests; its times differ by a tenth."""
        count = int(self.seconds / (on_s + off_s) * 1.5) + 4
        spans = np.stack([self.rng.normal(on_s, on_s / 10, count), self.rng.normal(off_s, off_s / 10, count)], axis=1)
        edges = self.start_s - self.rng.uniform(0, on_s + off_s) + np.cumsum(np.maximum(spans, 1.0).reshape(-1))
        return (np.searchsorted(edges, time_s) % 2 == 0).astype(np.float64)

    def counted(self, time_s: F64, rate_per_s: F64, first: float) -> F64:
        """A counter that has added up a rate."""
        return first + np.cumsum(rate_per_s * np.diff(time_s, prepend=time_s[:1]))

    def say(self, time_s: float, topic: str, payload: str | bytes) -> None:
        """Publish one message."""
        self.sent.append((time_s, topic.encode(), payload if isinstance(payload, bytes) else payload.encode()))

    def changes(self, time_s: F64, values: Iterable[float], every: int = 0) -> list[tuple[float, float]]:
        """The (time, value) at which a value differs from what was sent last, and each `every`th anyway."""
        found: list[tuple[float, float]] = []
        last, ago = np.nan, 0
        for time, value in zip(time_s.tolist(), values, strict=True):
            ago += 1
            if value != last or (every and ago >= every):
                found.append((time, float(value)))
                last, ago = value, 0
        return found

    def messages(self) -> list[Message]:
        """Everything that was sent, in order of time."""
        return sorted(self.sent, key=lambda message: message[0])
