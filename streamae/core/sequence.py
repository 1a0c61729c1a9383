"""Sequence numbers that a sensor puts on its messages: a missing number is a message that was lost on the way.

A number counts as lost when 32 later ones have come and it has not: until then it may be late. One that is there
already is a duplicate. A counter that falls back was restarted, unless it stood at the end of 8, 16 or 32 bits and is
now at the beginning: then it rolled over, and what is missing between is lost. A leap of more than a million is a
restart as well, since a loss of that many would have been noticed.
"""

from collections import Counter

import numpy as np

from streamae.core.types import I64, State

__all__ = ["Sequences"]

_LATE = 32
_LEAP_MAX = 1_000_000
_WHOLE = (1 << _LATE) - 1
_BITS = (8, 16, 32)


class Sequences:
    """The counters of a group, one for each topic: under (stream, template, channel)."""

    def __init__(self) -> None:
        self._last: dict[tuple[int, int, int], list[int]] = {}  # newest number, and a bit for each of the last 32
        self._lost: Counter[int] = Counter()

    def step(self, key: tuple[int, int, int], number: object) -> None:
        """Take the number of one message; what is no whole number says nothing."""
        if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number < 1 << 62:
            return
        known = self._last.get(key)
        if known is None:
            self._last[key] = [number, _WHOLE]
            return
        ahead = self._ahead(known[0], number)
        if ahead is None:
            self._count(key[0], _LATE - known[1].bit_count())  # late messages of the old count will not come any more
            known[:] = [number, _WHOLE]
        elif ahead <= 0:
            known[1] |= 1 << -ahead
        else:
            self._count(key[0], self._shifted_out(known[1], ahead))
            known[:] = [number, (known[1] << min(ahead, _LATE) | 1) & _WHOLE]

    def _shifted_out(self, seen: int, ahead: int) -> int:
        """Return how many missing numbers leave the last 32 when the newest one moves on by so many."""
        old = min(ahead, _LATE)
        leaving = seen >> (_LATE - old)
        return old - leaving.bit_count() + max(0, ahead - _LATE)

    def _ahead(self, last: int, number: int) -> int | None:
        """Return how far a number is ahead of the newest (0 or less: late, or there already); None: a new count."""
        if -_LATE < number - last <= _LEAP_MAX:
            return number - last
        for bits in _BITS:
            end = 1 << bits
            if end - _LATE <= last < end and number < _LATE:
                return number + end - last
        return None

    def _count(self, stream: int, lost: int) -> None:
        if lost:
            self._lost[stream] += lost

    def drop(self, stream: int, last: int) -> None:
        """Forget a stream; the last one takes its number."""
        kept = {key: numbers for key, numbers in self._last.items() if key[0] != stream}
        self._last = {(stream if s == last else s, t, c): numbers for (s, t, c), numbers in kept.items()}
        self._lost.pop(stream, None)
        if last in self._lost:
            self._lost[stream] = self._lost.pop(last)

    def taken(self) -> Counter[int]:
        """Return the messages that were found lost since the last call, by stream."""
        lost, self._lost = self._lost, Counter()
        return lost

    def state(self) -> State:
        """Return what a snapshot keeps."""
        keys = np.array(list(self._last), np.int32).reshape(-1, 3)
        return {"sequence_of": keys, "sequence": np.array(list(self._last.values()), np.int64).reshape(-1, 2)}

    def restore(self, state: State) -> None:
        """Take over what `state` returned; nothing of an older snapshot, which had none."""
        if "sequence" not in state:
            return
        keys: list[list[int]] = state["sequence_of"].tolist()
        numbers: I64 = state["sequence"]
        self._last = {(s, t, c): n for (s, t, c), n in zip(keys, numbers.tolist(), strict=True)}
