"""The rules of core.sensors.stage once more, one sample at a time, in dictionaries and plain numbers."""

import math


class Channel:
    def __init__(self):
        self.values, self.times, self.runs = [], [], []
        self.heard_s, self.gaps, self.gap_max_s = None, 0, 0.0
        self.longest = 0


class NaiveSensors:
    """`step(samples, now_s)` with (stream, channel, time_s, value, arrival_s); `findings` is every finding so far."""

    def __init__(self, rule, channels, *, apart):
        self.rule, self.channels, self.apart = rule, channels, apart
        self.streams, self.open, self.findings = {}, {}, []
        self.clock_s, self.arrival_s = 0.0, None
        self.samples, self.idle_s, self.idle_max_s, self.now_s, self.newest_s = 0, 0.0, 0.0, None, -math.inf

    def tell(self, key, fires, onset_s, time_s):
        self.findings.append((*key, fires, onset_s, time_s))

    def patience_s(self, one):
        if one.heard_s is None or self.rule.stale_after_s is None:
            return math.inf
        if self.rule.stale_after_s:
            return self.rule.stale_after_s
        return max(self.rule.stale_min_s, 5 * one.gap_max_s) if one.gaps >= self.rule.learn else math.inf

    def step(self, samples, now_s):
        passed_s = 0.0 if self.now_s is None else min(max(now_s - self.now_s, 0.0), 20.0)
        self.now_s = now_s
        limit_s = self.rule.stale_after_s
        if limit_s == 0:
            limit_s = math.inf
            if self.samples >= self.rule.learn:
                limit_s = max(self.rule.stale_min_s, 5 * self.idle_max_s)
        if samples and limit_s is not None:
            if (-1, -1, "stale") in self.open:
                onset_s = self.open.pop((-1, -1, "stale"))
                self.tell((-1, -1, "stale"), False, onset_s, max(onset_s + limit_s, samples[0][2]))
            self.idle_max_s, self.idle_s = max(self.idle_max_s, min(self.idle_s, limit_s)), 0.0
        for s, c, time_s, value, arrival_s in samples:
            self.sample(s, c, time_s, value, arrival_s)
        if not samples and limit_s is not None:
            self.idle_s += passed_s
            if self.samples and self.idle_s > limit_s and (-1, -1, "stale") not in self.open:
                self.open[-1, -1, "stale"] = self.newest_s
                self.tell((-1, -1, "stale"), True, self.newest_s, self.newest_s + limit_s)

    def sample(self, s, c, time_s, value, arrival_s):
        cap_s = (self.rule.stale_after_s or self.rule.stale_min_s) / 2
        if self.arrival_s is not None:
            self.clock_s += min(max(arrival_s - self.arrival_s, 0.0), cap_s)
        self.arrival_s, self.samples = arrival_s, self.samples + 1
        self.newest_s = max(self.newest_s, time_s)
        mine = self.streams.setdefault(s, [Channel() for _ in self.channels])
        if self.rule.stale_after_s is not None:
            self.miss(self.clock_s)  # before this one is heard: others and it may be overdue
            self.hear(s, c, mine, time_s)
        mine[c].heard_s = self.clock_s if self.rule.stale_after_s is not None else 0.0
        self.stuck(s, c, mine[c], time_s, value)
        mine[c].event_s = time_s
        self.bound(s, c, time_s, value)
        if self.rule.stale_after_s is not None:
            self.miss(self.clock_s)

    def miss(self, clock_s):
        for s, mine in self.streams.items():
            heard = [one for one in mine if one.heard_s is not None]
            if not heard or (s, -1, "stale") in self.open:
                continue
            newest_s, limit_s = max(one.heard_s for one in heard), min(self.patience_s(one) for one in mine)
            if newest_s + limit_s < clock_s:
                self.begin((s, -1, "stale"), max(one.event_s for one in heard), limit_s)
                continue
            for c, one in enumerate(mine):
                late = one.heard_s is not None and newest_s - one.heard_s > self.patience_s(one)
                if self.apart and late and (s, c, "stale") not in self.open:
                    self.begin((s, c, "stale"), one.event_s, self.patience_s(one))

    def begin(self, key, onset_s, limit_s):
        self.open[key] = onset_s
        self.tell(key, True, onset_s, onset_s + limit_s)
        self.due = getattr(self, "due", {})
        self.due[key] = onset_s + limit_s

    def hear(self, s, c, mine, time_s):
        heard = [one.heard_s for one in mine if one.heard_s is not None]
        limit_s, newest_s = min(self.patience_s(one) for one in mine), max(heard, default=-math.inf)
        for key in ((s, -1, "stale"), (s, c, "stale")):
            if key in self.open:
                self.tell(key, False, self.open.pop(key), max(self.due[key], time_s))
        back = self.clock_s - newest_s > limit_s
        for one in mine if back else [mine[c]]:
            if one.heard_s is not None:
                gap_s = self.clock_s - one.heard_s
                one.gap_max_s = max(one.gap_max_s, min(gap_s, self.patience_s(one)))
        mine[c].gaps += mine[c].heard_s is not None
        for one in mine if back else []:
            one.heard_s = None if one.heard_s is None else max(one.heard_s, self.clock_s)

    def stuck(self, s, c, one, time_s, value):
        key = (s, c, "stuck")
        if not one.runs or one.values[-1] != value:
            able, limit = self.able(one)
            if key in self.open:
                self.tell(key, False, self.open.pop(key)[0], max(time_s, self.fired[key]))
            if one.runs:
                one.longest = max(one.longest, min(one.runs[-1], limit if able else math.inf))
            one.runs.append(0)
            one.since_s = time_s
        one.runs[-1] += 1
        one.values.append(value)
        able, limit = self.able(one)
        after_s = self.rule.stuck_after_s
        lasts = one.runs[-1] > limit if after_s == 0 else after_s is not None and time_s - one.since_s >= after_s
        if able and lasts and one.runs[-1] > 1 and key not in self.open:
            self.open[key] = (one.since_s,)
            self.fired = getattr(self, "fired", {})
            self.fired[key] = time_s
            self.tell(key, True, one.since_s, time_s)

    def able(self, one):
        """Whether a channel could be stuck, as what came before its present run says; and from which run on."""
        before = one.values[: len(one.values) - (one.runs[-1] if one.runs else 0)]
        kinds = len(set(one.values))
        able = kinds >= 5 and len(before) >= 256 and len(one.runs) * 20 >= len(before)
        return able, max(60, 10 * one.longest)

    def bound(self, s, c, time_s, value):
        key = (s, c, "out_of_range")
        low, high = self.rule.range.get(self.channels[c], (-math.inf, math.inf))
        if not low <= value <= high:
            if key in self.open:
                self.open[key][1] = time_s
            else:
                self.open[key] = [time_s, time_s]
                self.tell(key, True, time_s, time_s)
        elif key in self.open and time_s - self.open[key][1] >= self.rule.keep_s:
            onset_s, last_s = self.open.pop(key)
            self.tell(key, False, onset_s, max(time_s, last_s))
