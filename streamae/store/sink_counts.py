"""What happened to each sink's rows of the outbox since the start of the process, counted by several threads."""

import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["SinkCounts", "SinkStats"]


@dataclass(frozen=True, slots=True)
class SinkStats:
    """Counts of one sink: rows in the outbox now, and what happened to rows since the start of the process."""

    pending: int = 0
    dead: int = 0
    oldest_s: float | None = None
    sent: int = 0
    failed: int = 0
    refused: int = 0
    evicted: int = 0
    withheld: int = 0
    silenced: int = 0


class SinkCounts:
    """One counter for each thing that happens to a row, by sink."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.sent: Counter[str] = Counter()
        self.failed: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self.evicted: Counter[str] = Counter()
        self.silenced: Counter[str] = Counter()

    def add(self, counter: Counter[str], counts: Mapping[str, int]) -> None:
        """Add `counts`, by sink, to one of the counters here."""
        with self._lock:
            counter.update(counts)

    def stats(self, now: Mapping[str, tuple[int, int, float | None, int]]) -> dict[str, SinkStats]:
        """Return the counts of each sink in `now`, which says what its rows are: waiting, dead, oldest, withheld."""
        with self._lock:
            return {sink: self._stats(sink, *rows) for sink, rows in now.items()}

    def _stats(self, sink: str, pending: int, dead: int, oldest_s: float | None, withheld: int) -> SinkStats:
        return SinkStats(
            pending,
            dead,
            oldest_s,
            self.sent[sink],
            self.failed[sink],
            self.refused[sink],
            self.evicted[sink],
            withheld,
            self.silenced[sink],
        )
