"""Errors on a CUDA device: batches filled up to a few sizes, copied from pinned memory while the last one is computed.

Each size has a CUDA graph where the network can be captured, so that some hundred small kernels of an LSTM are one
launch; where it cannot, the scripted module is called. A graph is taken only if it gives what the module gives, of
windows other than those that it was made with. Products are in full float32: cuDNN's default for an LSTM is TF32.
"""

import logging
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from streamae.core.types import F32
from streamae.model.spec import DetectorSpec, NetworkSpec

__all__ = ["BUCKETS", "CudaExecutor", "bucket_of"]

log = logging.getLogger(__name__)
BUCKETS = (16, 64, 256, 1024, 4096)
_PARITY = 1e-5
_WARM_UP_CALLS = 3


def bucket_of(count: int) -> int:
    """Return the smallest bucket that holds `count` windows, or the largest."""
    return next((size for size in BUCKETS if size >= count), BUCKETS[-1])


class _Slot:
    """Pinned memory and device memory for one batch of a size, and an event that says when they are free again."""

    def __init__(self, size: int, shape: tuple[int, int], run: Callable[[Tensor], Tensor]) -> None:
        self.host = torch.zeros((size, *shape), pin_memory=True)
        self.device = self.host.to("cuda")
        self.run = run
        self.graph: torch.cuda.CUDAGraph | None = None
        with torch.inference_mode():
            self.out = run(self.device)
            self.result = torch.empty(self.out.shape, pin_memory=True)
            self._capture()
        self.done = torch.cuda.Event()  # type: ignore[no-untyped-call]

    def _capture(self) -> None:
        before = torch.cuda.current_stream()
        side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        side.wait_stream(before)
        with torch.cuda.stream(side):
            for _ in range(_WARM_UP_CALLS):
                self.run(self.device)
        before.wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph):
                out = self.run(self.device)
        except RuntimeError as error:  # an operation that no graph can hold; the module itself still runs
            torch.cuda.set_stream(before)  # a capture that fails leaves its own behind
            log.info("no CUDA graph: %s", str(error).splitlines()[0])
            return
        self.device.normal_()
        graph.replay()
        wanted = self.run(self.device)
        if bool(((out - wanted).abs() <= _PARITY * wanted.abs().clamp(min=1.0)).all()):
            self.graph, self.out = graph, out

    def launch(self, windows: F32) -> None:
        """Begin with these windows; the caller may go on meanwhile."""
        self.host[: len(windows)].copy_(torch.from_numpy(np.ascontiguousarray(windows, np.float32)))
        self.device.copy_(self.host, non_blocking=True)
        if self.graph is not None:
            self.graph.replay()
        else:
            self.out = self.run(self.device)
        self.result.copy_(self.out, non_blocking=True)
        self.done.record()

    def collect(self, count: int) -> F32:
        """Wait, and return the errors of the windows of the last launch."""
        self.done.synchronize()
        errors: F32 = self.result[:count].numpy().copy()
        return errors


class CudaExecutor:
    """The network on a CUDA device, in buckets with two slots each."""

    name = "cuda"

    def __init__(self, module: torch.jit.ScriptModule, spec: NetworkSpec | DetectorSpec) -> None:
        torch.backends.cudnn.allow_tf32 = False
        self._run: Callable[[Tensor], Tensor] = module.errors
        self._shape = spec.window, spec.channels
        self._slots: dict[int, tuple[_Slot, _Slot]] = {}

    def errors(self, windows: F32) -> F32:
        """[B, T, C] -> [B, E]."""
        found: list[F32] = []
        waiting: tuple[_Slot, int] | None = None
        with torch.inference_mode():
            for n, start in enumerate(range(0, len(windows), BUCKETS[-1])):
                part = windows[start : start + BUCKETS[-1]]
                slot = self._pair(bucket_of(len(part)))[n % 2]
                slot.launch(part)
                if waiting is not None:
                    found.append(waiting[0].collect(waiting[1]))
                waiting = slot, len(part)
            if waiting is not None:
                found.append(waiting[0].collect(waiting[1]))
        joined: F32 = np.concatenate(found)
        return joined

    def _pair(self, size: int) -> tuple[_Slot, _Slot]:
        if size not in self._slots:
            self._slots[size] = _Slot(size, self._shape, self._run), _Slot(size, self._shape, self._run)
        return self._slots[size]
