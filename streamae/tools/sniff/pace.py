"""How often the streams of a group speak, and what follows: the grid, the gap to bridge, the silence to report."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

from streamae.core.formats import FORMATS
from streamae.tools.sniff.kinds import REST, TopicKind

__all__ = ["Pace", "pace_of"]

_NICE_S = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200)
_SLOW_S = 10.0  # from here on the defaults, which are those of fast machines, do not fit
_PATIENCE, _PATIENCE_MIN_S, _BATTERY_S = 5, 300.0, 7200.0
_CONFIRMED = 3  # rows; one alone is a matter of chance now and then
_BRIDGED = 3  # of the longest silence that was heard
_UNEVEN = 4.0  # longest and usual distance differ by more


@dataclass(frozen=True, slots=True)
class Pace:
    """What was measured: streams, the usual distance of their messages and the longest; who was heard but once."""

    streams: int
    every_s: float | None
    longest_s: float
    once: int
    apart: bool  # channels come in messages of their own, or not in each
    on_change: bool
    battery: bool  # what runs on one may be silent for an hour, however it speaks while we listen

    @property
    def grid_s(self) -> float | None:
        """The period of a time grid, None where each message is a row."""
        uneven = self.every_s is not None and self.longest_s > _UNEVEN * self.every_s and self.longest_s > 60
        if not (self.apart or self.on_change or uneven):
            return None
        every_s = self.every_s or 1.0
        return next((nice for nice in _NICE_S if nice >= 0.75 * every_s), float(_NICE_S[-1]))

    @property
    def gap_max_s(self) -> float | None:
        """The silence to bridge on such a grid, None for what follows from the grid by itself."""
        grid_s = self.grid_s
        if grid_s is None or not (self.on_change or _BRIDGED * self.longest_s > 10 * grid_s):
            return None
        return _round_up(max(60.0, 30 * grid_s if self.on_change else 0.0, _BRIDGED * self.longest_s))

    @property
    def stale_after_s(self) -> float | None:
        """The silence to report, None where what is learnt will do."""
        if self.every_s is None or max(self.every_s, self.longest_s) < _SLOW_S:
            return None
        least_s = _BATTERY_S if self.battery else _PATIENCE_MIN_S
        return _round_up(max(least_s, _PATIENCE * self.every_s, _BRIDGED * self.longest_s))

    @property
    def confirm_s(self) -> tuple[float, float] | None:
        """How long a score must be high before an alert, and low before its end; None where the defaults will do."""
        row_s = self.grid_s or self.every_s
        if row_s is None or row_s < _SLOW_S:
            return None
        return _round_up(_CONFIRMED * row_s), _round_up(2 * _CONFIRMED * row_s)


def _round_up(seconds: float) -> float:
    """Round up to what reads well."""
    unit = 3600.0 if seconds > 4 * 3600 else 60.0 if seconds > 60 else 1.0
    return -(-seconds // unit) * unit


def pace_of(
    kind: TopicKind, channels: Sequence[str], level: int | None, seconds: float, *, battery: bool = False
) -> Pace:
    """Return the pace of a kind from when its streams, and each of their values, were heard."""
    rest = kind.topics[0].endswith(REST)
    values = set(channels or kind.shape.values)
    streams: dict[object, list[float]] = {}
    for topic, member in zip(kind.topics, kind.members, strict=True):
        whose = topic if level is None else kind.called(topic, level)[1]
        for n, times in enumerate(member.times):
            streams.setdefault((whose, n), []).extend(times)
    gaps_of = [_gaps(sorted(times), kind.shape.thinned) for times in streams.values()]
    on_change = FORMATS[kind.shape.kind].on_change or (FORMATS[kind.shape.kind].plain and kind.shape.kind != "number")
    usual, longest = _distances(kind, level, values, on_change, gaps_of)
    once = sum(not gaps for gaps in gaps_of)
    if on_change:
        alone = [
            len(course.time_s) < 2 for name, courses in kind.heard(level).items() if name in values
            for course in courses.values()
        ]  # fmt: skip
        longest = max(longest, seconds if any(alone) else 0.0)
    return Pace(len(streams), usual, longest, once, level is not None or rest or kind.shape.partial, on_change, battery)


def _gaps(times: Sequence[float], thinned: int) -> list[float]:
    return [(b - a) / thinned for a, b in pairwise(times)]


def _distances(
    kind: TopicKind, level: int | None, values: set[str], on_change: bool, gaps_of: Sequence[Sequence[float]]
) -> tuple[float | None, float]:
    """Return the usual and the longest distance: of each value where these come apart, else of messages."""
    if on_change or level is not None:
        courses = [
            course for name, found in kind.heard(level).items() if name in values or not values
            for course in found.values()
        ]  # fmt: skip
        apart = [gaps for course in courses if (gaps := _gaps(course.time_s, kind.shape.thinned))]
        if apart:
            gaps_of = apart
    means = sorted(sum(gaps) / len(gaps) for gaps in gaps_of if gaps)
    if not means:
        return None, 0.0
    usual = means[0] if on_change else median(means)
    return usual, max(max(gaps) for gaps in gaps_of if gaps)
