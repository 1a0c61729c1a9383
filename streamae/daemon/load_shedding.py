"""How much of the scoring is done when there is more to do than time: all, every 2nd window, every 4th, 8th…

Two signs of a backlog. The loop is *saturated* when its takes hardly ever wait for messages; a few seconds of that
double the thinning. And the inbox *fills*; each further part of it that is full sets a least thinning at once, so that
scoring is thinned before anything must be dropped. Halving the thinning at most doubles the work, so it is halved
again where the loop has been idle for more than half of some seconds, or, since reading and writing do not double,
for a good part of a minute: that is the hysteresis.

What is chosen goes into the batch, and so into the journal: a replay scores the same windows.
"""

__all__ = ["LoadShedding"]

_SPAN_S = 1.0  # idle time is judged over spans of at least this
_SATURATED, _IDLE, _SOME_IDLE = 0.05, 0.55, 0.2  # idle share of a span
_RAISE_SPANS, _LOWER_SPANS, _TRY_SPANS = 3, 5, 60
_FILLS = (0.4, 0.6, 0.8)  # of the inbox, for a thinning of at least 2, 4, 8
_CALM_FILL = 0.1


class LoadShedding:
    """The thinning in force, a power of two up to `thinning_max`, and `why`; `next` gets what each turn took."""

    def __init__(self, thinning_max: int) -> None:
        self.thinning_max = thinning_max
        self.thinning, self.why = 1, ""
        self._began_s: float | None = None
        self._waited_s = self._fill = 0.0
        self._saturated = self._idle = self._some_idle = 0  # spans in a row

    def next(self, fill: float, waited_s: float, now_s: float) -> int:
        """Return the thinning of the batch just taken: the inbox was `fill` full, the take waited `waited_s`.

        `now_s` is a monotonic clock.
        """
        least = min(2 ** sum(fill >= mark for mark in _FILLS), self.thinning_max)
        if least > self.thinning:
            self._set(least, f"the inbox is {100 * fill:.0f} % full")
        if self._began_s is None:
            self._began_s = now_s
        self._waited_s += waited_s
        self._fill = max(self._fill, fill)
        if now_s - self._began_s >= _SPAN_S:
            self._judge(self._waited_s / (now_s - self._began_s))
            self._began_s, self._waited_s, self._fill = now_s, 0.0, 0.0
        return self.thinning

    def _judge(self, idle: float) -> None:
        """Take one span into account, of which the loop waited `idle`."""
        calm = self._fill < _CALM_FILL
        self._saturated = self._saturated + 1 if idle < _SATURATED else 0
        self._idle = self._idle + 1 if calm and idle > _IDLE else 0
        self._some_idle = self._some_idle + 1 if calm and idle > _SOME_IDLE else 0
        if self._saturated >= _RAISE_SPANS:
            self._set(min(2 * self.thinning, self.thinning_max), "messages leave no pause")
        elif self._idle >= _LOWER_SPANS or self._some_idle >= _TRY_SPANS:
            self._set(max(self.thinning // 2, 1), "there is time again")

    def _set(self, thinning: int, why: str) -> None:
        self.thinning, self.why = thinning, why
        self._saturated = self._idle = self._some_idle = 0
