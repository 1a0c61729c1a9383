"""What a process may take to compute scores: an executor, cores, and a clock to measure with. Needs no torch."""

from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["CHOICES", "ExecutorOptions"]

CHOICES = ("auto", "module", "loop", "native", "batch")


@dataclass(frozen=True, slots=True)
class ExecutorOptions:
    """`executor` is one of CHOICES (see `model.executors`); `scorers` how many cores a large batch may take, None for
    all. Both are measured with `monotonic`, in seconds, where there is something to choose; without it nothing is.
    """

    executor: str = "auto"
    scorers: int | None = 1
    monotonic: Callable[[], float] | None = None
