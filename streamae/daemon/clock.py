"""The clocks of the process: read here, and handed to every room as arguments."""

import logging
import random
import time
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["ArrivalClock", "Clock"]

log = logging.getLogger(__name__)
_SLEW_MAX = 0.005  # seconds a second
_SLEW_OVER_S = 20.0  # small differences are taken back over about this long
_STEP_S = 10.0


def _since_boot() -> float:
    """The monotonic clock that also counts while the machine sleeps, where there is one."""
    boot = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if boot is None else time.clock_gettime(boot)


@dataclass(frozen=True, slots=True)
class Clock:
    """Wall clock and monotonic clock in seconds, a sleep, and a random number in [0, 1) for jitter.

    Everything that times out uses the monotonic clock; the wall clock only stamps what people read. `since_boot` is
    monotonic too, and goes on while the machine sleeps.
    """

    now: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic
    sleep: Callable[[float], object] = time.sleep
    jitter: Callable[[], float] = random.random
    since_boot: Callable[[], float] = _since_boot


class ArrivalClock:
    """The time of arrival of samples that bring none: seconds since 1970 that never step and never go back.

    A wall clock may be set a day back or ten years ahead under us. As event time that would be samples that are all
    late, or a gap in every stream. So this clock takes the wall clock at the start, though never before `not_before_s`
    (the newest stamp of an earlier run), and goes on by the monotonic clock; `follow`, called about once a second,
    draws it towards the wall clock by at most 5 ms a second, which is enough for a clock that drifts.
    """

    def __init__(self, clock: Clock, not_before_s: float = float("-inf")) -> None:
        self._clock = clock
        self._line = (max(clock.now(), not_before_s), clock.since_boot(), 0.0)  # stamp, since boot, slew
        self._apart_s = clock.now() - self._line[0]

    def now(self) -> float:
        """Return the stamp for what arrives now; may be called from any thread."""
        stamp_s, at_s, slew = self._line  # replaced as a whole
        return stamp_s + (self._clock.since_boot() - at_s) * (1.0 + slew)

    def follow(self) -> None:
        """Look at the wall clock; one thread calls this."""
        at_s = self._clock.since_boot()
        stamp_s, since_s, slew = self._line
        stamp_s += (at_s - since_s) * (1.0 + slew)
        apart_s = self._clock.now() - stamp_s
        if abs(apart_s - self._apart_s) > _STEP_S:
            log.warning(
                "the wall clock was set by %+.0f s: samples without a time of their own go on as before, "
                "and take it over by 5 ms a second, or at the next start",
                apart_s - self._apart_s,
            )
        self._apart_s = apart_s
        self._line = (stamp_s, at_s, min(max(apart_s / _SLEW_OVER_S, -_SLEW_MAX), _SLEW_MAX))
