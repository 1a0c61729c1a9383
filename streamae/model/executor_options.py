"""What a process may take to compute scores: an executor, cores, and a clock to measure with. Needs no torch."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Literal

from streamae.core.setting import INTERNAL, Setting

__all__ = ["CHOICES", "ExecutorOptions"]

CHOICES = ("auto", "module", "loop", "native", "batch")


@dataclass(frozen=True, slots=True)
class ExecutorOptions:
    """How windows are computed; scores change by no more than their last digits."""

    executor: Annotated[str, Setting(one_of=CHOICES)] = "auto"
    """`auto`: the compiled kernel where it is installed, else the model as it is. `batch` takes what is faster for each
    batch size; scores then depend, in their last digits, on how messages were grouped."""
    scorers: Literal["auto"] | Annotated[int, Setting(ge=1, le=256)] = "auto"
    """Cores that a large batch may take; `auto` measures at start whether more than one pays."""
    monotonic: Annotated[Callable[[], float] | None, INTERNAL] = None
    """Clock in seconds to measure with, where there is something to choose; without it nothing is."""
