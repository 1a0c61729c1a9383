"""Signs of life: each thread says when it will be heard of again, and whoever asks later than that knows that it hangs.

A thread that may block for a bounded time (a sink's request, a connection being made) says so beforehand.
"""

import math
from collections.abc import Callable

__all__ = ["HANGS_AFTER_S", "Heartbeat"]

HANGS_AFTER_S = 8.0  # so that a probe every two seconds knows within ten


class Heartbeat:
    """The sign of life of the thread `name`; it counts from the first `beat` to `end`. `monotonic` gives seconds."""

    def __init__(self, name: str, monotonic: Callable[[], float]) -> None:
        self.name = name
        self._monotonic = monotonic
        self._heard_s = self._due_s = math.inf

    def beat(self, busy_s: float = 0.0) -> None:
        """Say that the thread lives, and may block for `busy_s` from now on before it is missed."""
        self._heard_s = self._monotonic()
        self._due_s = self._heard_s + HANGS_AFTER_S + busy_s

    def end(self) -> None:
        """Say that nothing more is to be expected."""
        self._due_s = math.inf

    def faults(self) -> list[str]:
        """Return what is wrong with the thread in words: nothing, or that it hangs."""
        now_s = self._monotonic()
        if now_s <= self._due_s:
            return []
        return [f"thread {self.name} hangs: no sign of life for {now_s - self._heard_s:.0f} s"]
