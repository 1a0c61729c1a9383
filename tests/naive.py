"""Slow, obvious oracles: what the core's stages must compute, sample by sample."""

import math
import re
from collections import defaultdict

import numpy as np

_EPS = 1e-4


def grid_rows(samples, channels, *, every_s, method, lateness_s, gap_max_s):
    """Rows of a grid alignment: samples are (stream, channel, time_s, value) in arrival order.

    Returns ([(stream, time_s, values)], late, duplicates), rows of one stream in order of time.
    """
    newest, kept, late, duplicates = {}, defaultdict(dict), 0, 0
    for stream, channel, time_s, value in samples:
        tick = math.ceil(time_s / every_s - _EPS)
        if stream in newest and tick <= math.floor((newest[stream] - lateness_s) / every_s + _EPS):
            late += 1
        elif (key := (channel, time_s, value if method == "mean" else 0.0)) in kept[stream]:
            duplicates += 1
        else:
            kept[stream][key] = value
        newest[stream] = max(newest.get(stream, -math.inf), time_s)
    rows = []
    for stream, mine in kept.items():
        closed = math.floor((newest[stream] - lateness_s) / every_s + _EPS)
        ticks = defaultdict(lambda: defaultdict(list))
        for (channel, time_s, _), value in sorted(mine.items()):
            ticks[channel][math.ceil(time_s / every_s - _EPS)].append(value)
        first = min(t for by_tick in ticks.values() for t in by_tick)
        for tick in range(first, closed + 1):
            values = [_at(ticks[c], tick, method, int(gap_max_s / every_s + _EPS)) for c in range(channels)]
            if None not in values:
                rows.append((stream, tick * every_s, values))
    return rows, late, duplicates


def _at(by_tick, tick, method, gap_ticks):
    for back in range(gap_ticks + 1):
        if tick - back in by_tick:
            values = by_tick[tick - back]
            return sum(values) / len(values) if method == "mean" else values[-1]
    return None


def windows(rows, *, window, gap_max_s, stride):
    """Windows that end at each row: rows are (stream, time_s, values). Returns [(row index, [T, C])]."""
    held, out = defaultdict(list), []
    for index, (stream, time_s, values) in enumerate(rows):
        run = held[stream]
        if run and not 0 < time_s - run[-1][0] <= gap_max_s:
            run.clear()
        run.append((time_s, values))
        if len(run) >= window and (len(run) - window + stream) % stride == 0:
            out.append((index, run[-window][0], np.array([v for _, v in run[-window:]], np.float32)))
    return out


def alert_states(scores, *, for_s, keep_firing_for_s, threshold=1.0):
    """Return the state after each (time_s, score): '.', 'p', 'F', or 'l' where there is no score (NaN) and no alert."""
    state, onset_s, last_high_s, out = ".", 0.0, 0.0, []
    for time_s, score in scores:
        if math.isnan(score):  # says nothing
            state = state if state == "F" else "."
        elif score > threshold:
            if state == ".":
                onset_s, state = time_s, "p"
            last_high_s = time_s
            if time_s - onset_s >= for_s:
                state = "F"
        elif state == "p" or (state == "F" and time_s - last_high_s >= keep_firing_for_s):
            state = "."
        out.append("l" if state == "." and math.isnan(score) else state)
    return out


def pattern_of(template):
    """A topic template as a regular expression: labels are groups, wildcards those of MQTT."""
    levels = []
    for level in template.split("/"):
        parts = re.split(r"\{([^{}]*)\}", level)
        named = [f"(?P<{part}>[^/]+)" if i % 2 else re.escape(part) for i, part in enumerate(parts)]
        whole = {"+": "[^/]*", "#": ".*", "{channel...}": "(?P<channel>.+)"}
        levels.append(whole.get(level, "".join(named)))
    return re.sub(r"/\.\*$", "(?:/.*)?", "/".join(levels))


_BITS = {2.0**bits / ten for bits in (15, 16, 24, 31, 32) for ten in (1, 10, 100, 1000)}
_TOTALS = sorted(_BITS | {10.0**digits for digits in range(2, 13)})


class CounterOracle:
    """Totals of one counter, sample by sample, in plain numbers."""

    def __init__(self, kind):
        self.kind, self.total, self.time_s, self.fastest = kind, math.nan, -math.inf, 0.0

    @classmethod
    def of(cls, samples, kind):
        """Increases of (stream, time_s, total), NaN where one is not known."""
        streams = defaultdict(lambda: cls(kind))
        return [streams[stream].increase(time_s, total) for stream, time_s, total in samples]

    def increase(self, time_s, total):
        if math.isnan(total) or time_s == self.time_s:
            return math.nan
        last, lasts_s = self.total, time_s - self.time_s
        self.total, self.time_s = total, time_s
        if math.isnan(last) or lasts_s < 0:  # the time of the stream has begun again
            return math.nan
        gain = total - last
        if gain < 0:
            most, gain = 2 * self.fastest * lasts_s, math.nan
            limit = next(limit for limit in _TOTALS if limit > last)
            if limit - last + total <= most:
                gain = limit - last + total
            elif total <= most:
                gain = total
        else:
            self.fastest = max(self.fastest, gain / lasts_s)
        return gain if self.kind == "delta" else gain / lasts_s * (3600.0 if self.kind == "rate_per_hour" else 1.0)
