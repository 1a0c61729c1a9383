"""Samples that wait for their row: chosen, and in the order in which rows are made of them."""

import numpy as np

from streamae.core.arrays import firsts
from streamae.core.types import I64, Bool, Drop, Drops, Readings

__all__ = ["no_readings", "sorted_unique", "taken"]


def no_readings() -> Readings:
    """Return none at all."""
    none = np.zeros(0, np.int32)
    return Readings(none, none, np.zeros(0), np.zeros(0), none)


def taken(r: Readings, keep: Bool | I64) -> Readings:
    """Return these readings, without their arrivals."""
    return Readings(r.stream[keep], r.channel[keep], r.time_s[keep], r.value[keep], r.origin[keep])


def sorted_unique(r: Readings, drops: Drops, *, every: bool) -> Readings:
    """Sort by stream, channel and time; of samples with all three the same the first to arrive stays.

    With `every`, all their values stay: a clock of whole seconds gives many samples one time. The same value once more
    counts as sent again: redelivery under the packet id is known before, a sender that repeats itself only so.
    """
    if every:
        r = taken(r, np.lexsort((r.value, r.time_s, r.channel, r.stream)))
        new = firsts(r.stream, r.channel, r.time_s, r.value)
    else:
        r = taken(r, np.lexsort((r.time_s, r.channel, r.stream)))
        new = firsts(r.stream, r.channel, r.time_s)
    drops[Drop.DUPLICATE] += int(len(new) - new.sum())
    return taken(r, new)
