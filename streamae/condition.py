"""A condition that a person must repair: does the thing work, and if not, since when, why, how often was it tried.

Whoever notices calls `failed` or `works` each time; or `observe` about once a second, where the state is looked at and
not met. The page and the metrics show what stands now. The log hears of changes only: when it begins, when the reason
changes, once an hour while it lasts, and when it is over.

A condition that comes and goes must not flood the log: its lines come from a bucket of `BURST`, one more each minute.
What the bucket held back is said as soon as it has a line again, and an end is said exactly where the begin was.

A reason is read by people who may not know our secrets: whoever words it leaves them out (`streamae.headers`).
"""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

__all__ = ["BURST", "Condition", "Failing", "Kind"]

Kind = Literal[
    "broker",
    "configuration",
    "damage",
    "dead_letters",
    "home_assistant",
    "intake",
    "metrics",
    "model",
    "outbox",
    "poison",
    "receive_window",
    "sink",
    "snapshot",
    "store",
    "topics",
]
BURST = 6  # lines at once: a broker that restarts three times is logged in full
_REFILL_S = 60.0
_REMIND_S = 3600.0


@dataclass(frozen=True, slots=True)
class Failing:
    """What fails (`kind` and `name` for machines, `what` for people), since when (s since 1970), why, how often."""

    kind: str
    name: str
    what: str
    since_s: float
    reason: str
    failures: int


class Condition:
    """One thing that works or fails; safe to call from several threads. The log has a change before `failing` does.

    `what` is the sentence that is true while it fails, such as "sink ops delivers nothing". `now` gives seconds, and
    `log` is None where other lines report it already.
    """

    def __init__(
        self, kind: Kind, name: str, what: str, now: Callable[[], float], log: logging.Logger | None = None
    ) -> None:
        self.kind, self.name, self.what = kind, name, what
        self._now, self._log = now, log
        self._lock = threading.Lock()
        self._failing: Failing | None = None
        self._said: Failing | None = None  # what the log knows of this trouble; None: nothing
        self._said_s = self._filled_s = now()
        self._lines = float(BURST)

    @property
    def failing(self) -> Failing | None:
        """What is wrong; None while it works, or before anything was heard of it."""
        return self._failing

    def failed(self, reason: str) -> None:
        """It failed, once more, for this reason."""
        with self._lock:
            before = self._failing
            self._note(reason, 1 if before is None else before.failures + 1)

    def works(self) -> None:
        """It worked."""
        if self._failing is None:
            return
        with self._lock:
            over, said = self._failing, self._said
            if over is not None and said is not None and self._log is not None:
                self._log.warning("over, after %s: %s", _extent(over, self._now()), self.what)
            self._failing = self._said = None

    def observe(self, reason: str, failures: int = 1) -> None:
        """It stands for this reason, as it is looked at; an empty one says that it does not."""
        if not reason:
            self.works()
            return
        with self._lock:
            self._note(reason, failures)

    def _note(self, reason: str, failures: int) -> None:
        now_s, before = self._now(), self._failing
        fresh = Failing(self.kind, self.name, self.what, now_s, reason, failures)
        failing = fresh if before is None else replace(fresh, since_s=before.since_s)
        self._say(failing, now_s)
        self._failing = failing

    def _say(self, failing: Failing, now_s: float) -> None:
        said = self._said
        changed = said is None or said.reason != failing.reason
        if self._log is None or not (changed or abs(now_s - self._said_s) >= _REMIND_S):
            return
        passed_s, self._filled_s = abs(now_s - self._filled_s), now_s
        self._lines = min(float(BURST), self._lines + passed_s / _REFILL_S)
        if self._lines < 1.0:
            return
        self._lines -= 1.0
        self._said, self._said_s = failing, now_s
        if failing.since_s == now_s:
            self._log.warning("%s: %s", self.what, failing.reason)
        else:
            self._log.warning("still, for %s: %s: %s", _extent(failing, now_s), self.what, failing.reason)


def _extent(failing: Failing, now_s: float) -> str:
    """For how long it has lasted, and how often it failed."""
    lasted_s = max(0.0, now_s - failing.since_s)
    span = f"{lasted_s:.0f} s" if lasted_s < 120 else f"{lasted_s / 60:.0f} min"
    span = span if lasted_s < 7200 else f"{lasted_s / 3600:.0f} h"
    return span if failing.failures == 1 else f"{span} and {failing.failures} failures"
