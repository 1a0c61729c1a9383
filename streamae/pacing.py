"""Long work of a thread that is in no hurry, done so that it holds up no other.

All threads of a process share one interpreter. Work that takes it for a hundred milliseconds doubles the time of every
step of the pipeline meanwhile; with a rest after each millisecond it takes longer itself, and the others do not.
"""

import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

__all__ = ["Rests", "paced"]

_T = TypeVar("_T")
_WORK_S, _REST_S, _REST_MAX_S = 0.001, 0.005, 0.01


def paced(items: Iterable[_T]) -> Iterator[_T]:
    """Yield the items, and let other threads go first after each millisecond that was spent on them."""
    began_s = time.perf_counter()
    for item in items:
        yield item
        if time.perf_counter() - began_s > _WORK_S:
            time.sleep(_REST_S)
            began_s = time.perf_counter()


class Rests:
    """The rests of one thread that answers events: three times as long as it has worked since the last one."""

    def __init__(self) -> None:
        self._worked_s = 0.0

    def rest(self) -> None:
        """Let other threads go first, where this one has worked for a millisecond or more; it calls this often."""
        worked_s = time.thread_time() - self._worked_s
        if worked_s > _WORK_S:
            time.sleep(min(3 * worked_s, _REST_MAX_S))
            self._worked_s = time.thread_time()
