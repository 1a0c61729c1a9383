"""The ladder: several ways to compute the same errors, and which of them a process takes.

    module   the scripted network as it is, nn.LSTM: always there; every other way must agree with it to 1e-5
    loop     `model.loop`, in the same archive (of files written since there is one): pays in large batches
    native   the compiled recurrence between the archive's own first and last part, where the extra is installed

Scores may not depend on how windows were grouped into batches, nor may a restart change them. Two ways differ in the
last digits, and rounding cannot fix that (a value may lie next to where it is rounded), so a process takes one way
for all batch sizes, and by what is there, not by how fast it was: `native`, else `module`. Each is the same to the bit
for a window in any batch. "batch" takes `module` below a measured batch size and `loop` above: it is for throughput
where the last digits do not matter.
"""

import logging
from collections.abc import Callable
from typing import Protocol

import numpy as np
import torch

from streamae.core.types import F32
from streamae.model import native
from streamae.model.executor_options import CHOICES, ExecutorOptions
from streamae.model.spec import DetectorSpec, NetworkSpec

__all__ = ["Executor", "Grouped", "ModuleExecutor", "NativeExecutor", "admitted", "build", "probe"]

log = logging.getLogger(__name__)
PARITY = 1e-5
_PROBE = 48  # windows that another way is compared on
_MULTIPLE = {"lstm": 2, "gru": 16}  # batch sizes at which a window's bits are its own: measured, and tested
_STATE = 16384  # floats of state in a call at most, which is what the caches hold, and so windows a call: measured
_LOOP_MULTIPLE, _LOOP_TILE = 64, 512
_TILE = 2048
_WORTH = 1.03  # less is noise
_CROSSOVERS = (32, 48, 64, 80, 96, 128, 256, 512)


class Executor(Protocol):
    """One way from windows to errors."""

    name: str

    def errors(self, windows: F32) -> F32:
        """[B, T, C] -> [B, E], B > 0."""
        ...


class ModuleExecutor:
    """A method of the frozen archive, in parts of at most `tile` windows, each filled up to a multiple."""

    def __init__(
        self, module: torch.jit.ScriptModule, method: str, multiple: int, tile: int, name: str = "module"
    ) -> None:
        self.name, self.multiple, self.tile, self._run = name, multiple, tile, getattr(module, method)
        self._plain = min(64, tile)  # up to so many windows `_filled` fills up to the multiple only

    def errors(self, windows: F32) -> F32:
        """[B, T, C] -> [B, E]."""
        if len(windows) <= self._plain and len(windows) % self.multiple == 0:
            return self._call(windows)  # a small batch takes half a millisecond: a line of Python is felt
        return _in_parts(self._part, windows, self.tile)

    def _part(self, windows: F32) -> F32:
        company = _filled(len(windows), self.multiple) - len(windows)
        filled = np.concatenate([windows, np.repeat(windows[-1:], company, axis=0)]) if company else windows
        return self._call(filled)[: len(windows)]

    def _call(self, windows: F32) -> F32:
        with torch.inference_mode():
            errors: F32 = self._run(torch.from_numpy(np.ascontiguousarray(windows, np.float32))).numpy()
        return errors


class NativeExecutor:
    """The archive's `opened`, the compiled recurrence, its `closed`. Raises RuntimeError without the extra."""

    name = "native"

    def __init__(self, scripted: torch.jit.ScriptModule, module: torch.jit.ScriptModule, spec: NetworkSpec) -> None:
        weights = {name: p.detach().cpu().numpy() for name, p in scripted.network.named_parameters()}
        self.recurrence = native.Recurrence(weights, rows=spec.history, horizon=spec.horizon, targets=len(spec.targets))
        self._opened, self._closed = module.opened, module.closed

    def errors(self, windows: F32) -> F32:
        """[B, T, C] -> [B, E]."""
        return _in_parts(self._part, windows, _TILE)

    def _part(self, windows: F32) -> F32:
        with torch.inference_mode():
            opened = self._opened(torch.from_numpy(np.ascontiguousarray(windows, np.float32)))
            made = map(torch.from_numpy, self.recurrence(opened[2].numpy()))
            errors: F32 = self._closed(*opened, *made).numpy()
        return errors


class Grouped:
    """One way below `at` windows, another from there on: fast, and in the last digits a function of the batch."""

    def __init__(self, small: Executor, large: Executor, at: int) -> None:
        self.name, self._small, self._large, self._at = f"{small.name}, {large.name} from {at}", small, large, at

    def errors(self, windows: F32) -> F32:
        """[B, T, C] -> [B, E]."""
        return (self._small if len(windows) < self._at else self._large).errors(windows)


def _filled(count: int, multiple: int) -> int:
    """Round up to a multiple, in large batches by up to a thirty-second: oneDNN compiles for every size it sees."""
    step = max(multiple, 1 << max(0, (count - 1).bit_length() - 6))
    return -(-count // step) * step


def _in_parts(run: Callable[[F32], F32], windows: F32, tile: int) -> F32:
    """Run all of the windows, `tile` at most at once, in parts of nearly equal size."""
    if len(windows) <= tile:
        return run(windows)
    return np.concatenate([run(part) for part in np.array_split(windows, -(-len(windows) // tile))])


def build(
    means: ExecutorOptions,
    scripted: torch.jit.ScriptModule,
    module: torch.jit.ScriptModule,
    spec: NetworkSpec | DetectorSpec,
) -> Executor:
    """Return the way to take on the CPU; `module` is `scripted`, frozen.

    Raises ValueError where a way was asked for by name that is not there, or that does not agree with the module.
    """
    choice = means.executor
    if choice not in CHOICES:
        raise ValueError(f"executor must be one of {', '.join(CHOICES)}; got {choice!r}")
    network = spec.network if isinstance(spec, DetectorSpec) else spec
    tile = max(16, min(_TILE, _STATE // network.hidden // 16 * 16))
    base = ModuleExecutor(module, "errors", _MULTIPLE[network.cell], tile)
    if choice == "module" or not (network.arranged and hasattr(module, "looped")):
        return _only(base, choice)
    tried = probe(spec)
    if choice in {"auto", "native"}:
        fast = _native(scripted, module, network)
        return fast if fast is not None and admitted(fast, base, tried) else _only(base, choice)
    loop = ModuleExecutor(module, "looped", _LOOP_MULTIPLE, _LOOP_TILE, "loop")
    if not admitted(loop, base, tried):
        return _only(base, choice)
    if choice == "batch":
        small = ModuleExecutor(module, "errors", 1, tile)
        large = ModuleExecutor(module, "looped", 8, min(_TILE, 2 * tile), "loop")
        return base if means.monotonic is None else _by_batch(small, large, tried, means.monotonic)
    # Where a product's bits depend on its width here, every batch is filled up to one width.
    same = all(np.array_equal(loop.errors(tried[:n]), loop.errors(np.tile(tried, (11, 1, 1)))[:n]) for n in (1, 7))
    return loop if same else ModuleExecutor(module, "looped", _LOOP_TILE, _LOOP_TILE, "loop")


def probe(spec: NetworkSpec | DetectorSpec) -> F32:
    """Windows [n, T, C] on which another way is compared with the module."""
    made: F32 = np.random.default_rng(0).normal(size=(_PROBE, spec.window, spec.channels)).astype(np.float32)
    return made


def admitted(way: Executor, base: Executor, windows: F32) -> bool:
    """Whether a way agrees with the module within PARITY, relative for errors above 1."""
    wanted, got = base.errors(windows), way.errors(windows)
    worst = float(np.max(np.abs(got - wanted) / np.maximum(1.0, np.abs(wanted))))
    if worst <= PARITY:
        return True
    log.warning("executor %s is off by %.2g on a probe, and is not used", way.name, worst)
    return False


def _only(base: Executor, choice: str) -> Executor:
    if choice in {"loop", "native"}:
        raise ValueError(f"executor {choice} is not available for this model and processor; use auto")
    return base


def _native(
    scripted: torch.jit.ScriptModule, module: torch.jit.ScriptModule, spec: NetworkSpec
) -> NativeExecutor | None:
    try:
        return NativeExecutor(scripted, module, spec)
    except RuntimeError:
        return None


def _by_batch(base: Executor, loop: Executor, some: F32, clock: Callable[[], float]) -> Executor:
    """Take the loop from the smallest measured batch from which on it always gains.

    Its product costs as much for one window more as for sixteen, so it is measured where it is at its worst.
    """
    at = 0
    for size in reversed(_CROSSOVERS):
        windows = np.resize(some, (size + 1, *some.shape[1:]))
        seconds: dict[str, list[float]] = {base.name: [], loop.name: []}
        for _ in range(9):  # the first compiles
            for way in (base, loop):
                began_s = clock()
                way.errors(windows)
                seconds[way.name].append(clock() - began_s)
        if min(seconds[base.name]) < _WORTH * min(seconds[loop.name]):
            break
        at = size
    return Grouped(base, loop, at) if at else base
