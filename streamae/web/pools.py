"""The threads that answer: a few for each kind of question, a queue with an end, and a share of a core.

All threads of a process share one interpreter, so each second that an answer costs is one that scoring may have to
wait for. So whoever asks for much waits, and not the plant: a kind of question may cost `share` seconds of work a
second in the long run, and what is asked beyond that waits its turn, or hears 503 where too many wait already.
Probes, questions of a person and changes have rooms of their own and never wait for each other.
"""

import asyncio
from collections.abc import Callable, Mapping
from typing import Literal, TypeVar

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

__all__ = ["Allowance", "Pool", "PoolName", "make_pools"]

PoolName = Literal["metrics", "read", "detail", "past", "change"]

_T = TypeVar("_T")
_BURST_S = 0.25  # of work that may be done at once, however much it was before


class Allowance:
    """How much work may be done: `share` seconds of it a second, and `_BURST_S` at once."""

    def __init__(self, share: float) -> None:
        self._share, self._debt_s, self._counted_s = share, 0.0, 0.0

    def charge(self, work_s: float, now_s: float) -> None:
        """Count work that was done."""
        self._debt_s = self._owed_s(now_s) + work_s
        self._counted_s = now_s

    def pause_s(self, now_s: float) -> float:
        """Return how long to wait before the next piece of work; 0: not at all."""
        return max(0.0, self._owed_s(now_s) - _BURST_S) / self._share

    def _owed_s(self, now_s: float) -> float:
        return max(0.0, self._debt_s - self._share * (now_s - self._counted_s))


class Pool:
    """At most `threads` pieces of work at a time, `waiting_max` that wait; `share` of a second's work a second."""

    def __init__(self, threads: int, waiting_max: int, share: float = 1.0) -> None:
        self._free, self._waiting_max = asyncio.Semaphore(threads), waiting_max
        self._allowance = Allowance(share)
        self._waiting = 0
        self._queued: dict[str, asyncio.Task[object]] = {}

    async def run(self, work: Callable[[], _T]) -> _T:
        """Do it in a thread, when its turn has come. Raises HTTPException 503 where too many wait."""
        if self._waiting >= self._waiting_max:
            raise HTTPException(503, "too many ask for this at once; ask again in a second", {"retry-after": "1"})
        self._waiting += 1
        try:
            await self._free.acquire()
        finally:
            self._waiting -= 1
        now = asyncio.get_running_loop().time
        try:
            while (pause_s := self._allowance.pause_s(now())) > 0:
                await asyncio.sleep(min(pause_s, 1.0))
            began_s = now()
            try:
                return await run_in_threadpool(work)
            finally:
                self._allowance.charge(now() - began_s, now())
        finally:
            self._free.release()

    async def run_once(self, name: str, work: Callable[[], _T]) -> _T:
        """As `run`; but who asks for what another is waiting for already, and has not begun, gets the same answer."""
        queued = self._queued.get(name)
        if queued is None or queued.done() or queued.get_loop() is not asyncio.get_running_loop():

            def begin() -> _T:
                self._queued.pop(name, None)
                return work()

            queued = self._queued[name] = asyncio.create_task(self.run(begin))
        answer: _T = await asyncio.shield(queued)  # type: ignore[arg-type]  # a name stands for one kind of work
        return answer


def make_pools() -> Mapping[PoolName, Pool]:
    """Return the rooms of one server."""
    return {
        "metrics": Pool(threads=1, waiting_max=64, share=0.25),
        "read": Pool(threads=1, waiting_max=64, share=0.25),
        "detail": Pool(threads=1, waiting_max=32, share=0.25),  # waits for the loop between two batches
        "past": Pool(threads=1, waiting_max=8, share=0.5),  # reads the journal for seconds
        "change": Pool(threads=2, waiting_max=32),  # has shown the token
    }
