"""The clocks of the process: read here, and handed to every room as arguments."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["Clock"]


@dataclass(frozen=True, slots=True)
class Clock:
    """Wall clock and monotonic clock in seconds, a sleep, and a random number in [0, 1) for jitter.

    Everything that times out uses the monotonic clock; the wall clock only stamps what people read.
    """

    now: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic
    sleep: Callable[[float], object] = time.sleep
    jitter: Callable[[], float] = random.random
