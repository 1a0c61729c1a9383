"""Questions of other threads about the loop's own arrays: asked through a queue, answered by the loop between turns.

So the web never sees an array that is being written, and the loop never waits for the web: it answers a few questions
after a turn, each by copying one stream's arrays, and goes on.
"""

import queue
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from streamae.errors import UnavailableError

__all__ = ["Mailbox"]

_A = TypeVar("_A")
_WAITING_MAX = 64
_PER_TURN = 16


class Mailbox:
    """A bounded queue between askers and the loop."""

    def __init__(self, patience_s: float = 3.0) -> None:
        self._patience_s = patience_s
        self._waiting: queue.Queue[tuple[Future[Any], Callable[[], Any]]] = queue.Queue(_WAITING_MAX)

    def ask(self, question: Callable[[], _A]) -> _A:
        """Wait for the loop to call `question`, and return what it returned or raise what it raised.

        Raises UnavailableError where too many wait, or where the loop has no time within the patience.
        """
        answer: Future[_A] = Future()
        try:
            self._waiting.put_nowait((answer, question))
        except queue.Full:
            raise UnavailableError("too many requests wait for the loop; ask again in a second") from None
        try:
            return answer.result(self._patience_s)
        except TimeoutError:
            answer.cancel()
            raise UnavailableError("the loop is busy or waits for its disk; ask again in a second") from None

    def answer(self) -> None:
        """Answer a few questions; the loop calls this between two turns."""
        for _ in range(_PER_TURN):
            try:
                answer, question = self._waiting.get_nowait()
            except queue.Empty:
                return
            if not answer.set_running_or_notify_cancel():
                continue
            try:
                answer.set_result(question())
            except Exception as error:  # a mistake in a page is the asker's to see, and no reason to end the daemon
                answer.set_exception(error)
