"""What a sink is, what it needs of an outbox, and the two ways in which it may fail.

A sink is given transitions, several at once when many wait, and answers for all of them together. It knows nothing of
retries, order or storms: the delivery does. Each carries its key, by which a receiver can tell
a repetition. Whatever else a sink raises is a `SinkFailedError`: no sink ends the process.
"""

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar, runtime_checkable

from streamae.core.report import Transition
from streamae.errors import ConfigError, StreamaeError
from streamae.failure import place_of

__all__ = [
    "Sink", "SinkFailedError", "SinkQueue", "SinkRefusedError", "SinkUnavailableError",
    "TriableSink", "WatchfulSink", "guarded",
]  # fmt: skip

_T = TypeVar("_T")


class SinkRefusedError(StreamaeError):
    """The receiver will never take this transition: it becomes a dead letter."""

    exit_code = 69


class SinkUnavailableError(StreamaeError):
    """The receiver cannot take anything now (down, slow, wrong credentials): try again later.

    `retry_after_s` is the receiver's own wish, where it has one.
    """

    exit_code = 69

    def __init__(self, message: str, retry_after_s: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class SinkFailedError(SinkUnavailableError):
    """The sink itself raised something else, by a fault of its own or of a library: to be tried again, too."""


def guarded(name: str, call: Callable[[], _T]) -> _T:
    """Return what `call` of a sink returns; whatever it raises that no sink should is a SinkFailedError.

    It has the type of what was raised, and the place: the text may hold a secret.
    """
    try:
        return call()
    except (SinkRefusedError, SinkUnavailableError, ConfigError):
        raise
    except Exception as error:  # the boundary to third parties: a sink never ends the process
        raise SinkFailedError(f"{name}: failed ({place_of(error)})") from None


class Sink(Protocol):
    """Where transitions go."""

    @property
    def name(self) -> str:
        """What the outbox and the metrics call it."""
        ...

    @property
    def batch_max(self) -> int:
        """The most transitions that one `send` takes."""
        ...

    @property
    def refresh_s(self) -> float | None:
        """For a receiver that forgets: send it again what is open, this often. None for all others."""
        ...

    def send(self, transitions: Sequence[Transition]) -> None:
        """Send them; return once the receiver has them. SinkRefusedError or SinkUnavailableError speak for all."""
        ...

    def close(self) -> None:
        """Let go of connections; a second call does nothing."""
        ...


class TriableSink(Sink, Protocol):
    """A sink that an operator can try."""

    def rehearse(self, test: Transition) -> None:
        """Build what would be sent of `test`, and send nothing; ConfigError where it cannot be built."""
        ...

    def try_out(self, test: Transition) -> str:
        """Send a test that nobody takes for an alert, and that leaves none open; return what the receiver answered.

        `test` fires, and its rule is `texts.TEST_RULE`. Errors are those of `send`.
        """
        ...


@runtime_checkable
class WatchfulSink(Sink, Protocol):
    """A sink whose receiver keeps a state that others might write: it looks after it each `watch_s`."""

    @property
    def watch_s(self) -> float:
        """How often."""
        ...

    def look_after(self, standing: Callable[[], Sequence[tuple[Transition, bool]]]) -> None:
        """Repair what the receiver keeps where it is not as in `standing` (see `SinkQueue`). Errors as of `send`."""
        ...


class SinkQueue(Protocol):
    """What waits for the sinks; kept by the store."""

    def standing(self, sink: str, limit: int) -> Sequence[tuple[Transition, bool]]:
        """The last transition of each alert, and whether `sink` is not, or not yet, notified of it: open ones first."""
        ...

    def due(self, sink: str, now_s: float, limit: int) -> Sequence[tuple[Transition, int]]:
        """Transitions to send now, at most one per alert, with the times that each was tried."""
        ...

    def next_due_s(self, sink: str, now_s: float) -> float | None:
        """When the next one is due; None when nothing waits."""
        ...

    def open_transitions(self, sink: str, limit: int) -> Sequence[Transition]:
        """The last transition of each alert that is open and that `sink` was notified of."""
        ...

    def repeat(self, sink: str, now_s: float, every_s: float, limit: int) -> int:
        """Put what fires still, `every_s` after the sink was notified of it last, in line again; return how many."""
        ...

    def sent(self, sink: str, keys: Sequence[str], notified_s: float | None = None) -> None:
        """The sink has these; `notified_s` is the time, for a sink that wants to be reminded."""
        ...

    def failed(self, sink: str, keys: Sequence[str], error: str, retry_at_s: float) -> None:
        """The sink could not take these; try them again at `retry_at_s`."""
        ...

    def dead(self, sink: str, keys: Sequence[str], error: str) -> None:
        """The sink refuses these for good."""
        ...
