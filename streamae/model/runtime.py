"""Runs a network on NumPy windows, behind the `Reconstructor` protocol of the core.

`errors` goes by the executor that `model.executors` chooses, and on several cores where `model.scorers` finds that it
pays; the page's pictures go by the scripted module. Inference mode, denormals flushed, and a few calls to warm up,
since the first calls of a scripted module compile it. On the CPU a window's result is the same to the bit for any
batch it came in: nn.LSTM is, from two windows on, so an odd window gets company; nn.GRU is in multiples of 16; and the
network pads its own matrix products. On CUDA results agree to about 1e-5, and scores are rounded anyway.
"""

import numpy as np
import numpy.typing as npt
import torch

from streamae.core.types import F32
from streamae.model.cuda import BUCKETS, CudaExecutor
from streamae.model.executor_options import ExecutorOptions
from streamae.model.executors import Executor, admitted, build, probe
from streamae.model.network import METHODS
from streamae.model.scorers import choose_scorers
from streamae.model.spec import DetectorSpec, NetworkSpec

__all__ = ["TorchReconstructor", "choose_device", "prepare_torch"]

_WARM_UP = (1, 1, 1, 2, 16, 64, 256)
_PARTS = ("opened", "closed", "looped")  # of files written since there is more than one way
_TILE = 256


def prepare_torch() -> None:
    """Settings of the whole process that every user of a model wants: one thread, no denormals."""
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)


def choose_device(wanted: str) -> str:
    """Resolve "auto" to "cuda" where there is one, else "cpu"; "cpu" and "cuda" stand. Raises ValueError."""
    if wanted not in {"auto", "cpu", "cuda"}:
        raise ValueError(f"device must be auto, cpu or cuda; got {wanted!r}")
    has_cuda = torch.cuda.is_available()
    if wanted == "cuda" and not has_cuda:
        raise ValueError("device is cuda, but torch sees no CUDA device here; use auto or cpu")
    return "cuda" if has_cuda and wanted != "cpu" else "cpu"


def _frozen(scripted: torch.jit.ScriptModule) -> torch.jit.ScriptModule:
    kept = [name for name in (*METHODS, *_PARTS) if hasattr(scripted, name)]
    frozen: torch.jit.ScriptModule = torch.jit.freeze(scripted, preserved_attrs=kept)
    return frozen


def _on_cuda(
    scripted: torch.jit.ScriptModule, spec: NetworkSpec | DetectorSpec
) -> tuple[torch.jit.ScriptModule, Executor]:
    moved = _frozen(scripted.to("cuda"))
    return moved, CudaExecutor(moved, spec)


class TorchReconstructor:
    """A scripted network, frozen, as arrays in and arrays out; all shapes as in `core.types`.

    `means` matter on the CPU only, where it also runs if CUDA does not agree with it. Raises ValueError where the
    executor that they name is not available.
    """

    def __init__(
        self,
        scripted: torch.jit.ScriptModule,
        spec: NetworkSpec | DetectorSpec,
        device: str = "cpu",
        means: ExecutorOptions | None = None,
    ) -> None:
        prepare_torch()
        means = means or ExecutorOptions()
        scripted = scripted.cpu().eval()
        self.device, self._module = "cpu", _frozen(scripted)
        on_cpu = build(means if device == "cpu" else ExecutorOptions("module"), scripted, self._module, spec)
        self._errors: Executor = on_cpu
        if device == "cuda":
            moved, on_cuda = _on_cuda(scripted, spec)
            if admitted(on_cuda, on_cpu, probe(spec)):
                self.device, self._module, self._errors = "cuda", moved, on_cuda
        for size in _WARM_UP if self.device == "cpu" else BUCKETS:
            self.errors(np.zeros((size, spec.window, spec.channels), np.float32))
        if self.device == "cpu" and means.monotonic is not None:
            shape, wanted = (spec.window, spec.channels), None if means.scorers == "auto" else means.scorers
            self._errors = choose_scorers(self._errors, wanted, shape, means.monotonic)

    @property
    def executor(self) -> str:
        """What computes the errors, in words."""
        return self._errors.name

    def errors(self, windows: F32) -> F32:
        """[B, T, C] -> [B, E] error features, named by the manifest's `features`."""
        if len(windows) == 0:
            return self._errors.errors(np.zeros((1, *windows.shape[1:]), np.float32))[:0]
        return self._errors.errors(windows)

    def reconstruct(self, windows: F32) -> F32:
        """[B, T, C] -> [B, L, Q], the history of the target channels as rebuilt, in time order."""
        return self._call("reconstruct", windows)

    def forecast(self, windows: F32) -> F32:
        """[B, T, C] -> [B, K, Q], the last K rows of the target channels as foreseen from those before."""
        return self._call("forecast", windows)

    def encode(self, windows: F32, lengths: npt.NDArray[np.int64] | None = None) -> F32:
        """[B, T, C] -> [B, Z], the encoder's code (see `EncoderDecoder.encode`); `lengths` are true rows of each."""
        return self._call("encode", windows, lengths)

    def _call(self, method: str, windows: F32, lengths: npt.NDArray[np.int64] | None = None) -> F32:
        run = getattr(self._module, method)
        count = len(windows)
        if count == 0:
            return self._call(method, np.zeros((1, *windows.shape[1:]), np.float32))[:0]
        company = -count % 16  # see `executors`: the sizes at which a window's bits are its own, for every cell
        if company:
            windows = np.concatenate([windows, np.repeat(windows[-1:], company, axis=0)])
            lengths = None if lengths is None else np.r_[lengths, np.repeat(lengths[-1:], company)]
        found = []
        with torch.inference_mode():
            for start in range(0, len(windows), _TILE):
                part = slice(start, start + _TILE)
                x = torch.from_numpy(np.ascontiguousarray(windows[part], np.float32)).to(self.device)
                n = None if lengths is None else torch.from_numpy(np.asarray(lengths[part], np.int64))
                found.append(run(x, n).cpu().numpy())
        joined: F32 = np.concatenate(found)[:count]
        return joined
