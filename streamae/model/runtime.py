"""Runs a network on NumPy windows, behind the `Reconstructor` protocol of the core.

One torch thread (a second one spins against the other processes of the machine), inference mode, denormals flushed,
and a few calls to warm up, since the first calls of a scripted module compile it. On the CPU a window's result is the
same to the bit whatever batch it came in: nn.LSTM is, from two windows on, so an odd window gets company; nn.GRU is
in multiples of 16; and the network pads its own matrix products. On CUDA results agree to about 1e-5, and scores are
rounded anyway.
"""

import numpy as np
import numpy.typing as npt
import torch

from streamae.core.types import F32
from streamae.model.network import METHODS
from streamae.model.spec import DetectorSpec, NetworkSpec

__all__ = ["TorchReconstructor", "choose_device", "prepare_torch"]

_TILE = 256  # windows a call: measured best for nn.LSTM between 96 and 256
_WARM_UP_CALLS = 3
# Batches are filled up to one of these: oneDNN keeps half a megabyte for every batch size that it has seen.
_SIZES = (2, 4, 8, 16, 32, 48, 64, 96, 128, 192, 256)
_MULTIPLE = {"lstm": 2, "gru": 16}  # batch sizes at which a window's bits are its own: measured, and tested


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


class TorchReconstructor:
    """A scripted network, frozen, as arrays in and arrays out; all shapes as in `core.types`."""

    def __init__(self, scripted: torch.jit.ScriptModule, spec: NetworkSpec | DetectorSpec, device: str = "cpu") -> None:
        prepare_torch()
        self.device = device
        cell = spec.network.cell if isinstance(spec, DetectorSpec) else spec.cell
        self._sizes = [size for size in _SIZES if size % _MULTIPLE[cell] == 0]
        self._module = torch.jit.freeze(scripted.to(device).eval(), preserved_attrs=list(METHODS))
        for size in (*self._sizes[:1] * _WARM_UP_CALLS, *self._sizes[1:]):
            self.errors(np.zeros((size, spec.window, spec.channels), np.float32))

    def errors(self, windows: F32) -> F32:
        """[B, T, C] -> [B, E] error features, named by the manifest's `features`."""
        return self._call("errors", windows)

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
        company = self._padded(count) - count
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

    def _padded(self, count: int) -> int:
        whole, rest = divmod(count, _TILE)
        return whole * _TILE + min(n for n in (0, *self._sizes) if n >= rest)
