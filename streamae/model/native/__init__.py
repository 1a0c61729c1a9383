"""The native executor of the recurrence, where the compiled extra is there: `lstm.c`, called through ctypes.

It is built with the package where a C compiler is at hand, and absent otherwise; nothing depends on it. A window's
bits do not depend on its batch, on the thread, or on AVX2 or AVX-512 (see kernel.h). The call leaves the interpreter
to other threads.
"""

import ctypes
from collections.abc import Mapping
from functools import cache
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import numpy as np

from streamae.core.types import F32, F64

__all__ = ["LEVELS", "Recurrence", "best_level"]

LEVELS = {0: "none", 2: "AVX2", 3: "AVX-512"}
_PAD = 16  # the widest vector
_WIDE = {2: 8, 3: 16}  # floats in a vector, by level
_SCALE = np.array([-1, -1, -2, -1]) / np.log(2)  # of i, f, g, o: kernel.h takes two to the power of these
_Floats = ctypes.POINTER(ctypes.c_float)


class _Cell(ctypes.Structure):
    _fields_ = [(name, _Floats) for name in ("lane", "lane_bias", "row", "row_bias")]


class _Decoder(ctypes.Structure):
    _fields_ = [
        ("input", _Cell),
        ("state", _Cell),
        ("readout", _Floats),
        ("bias", _Floats),
        ("steps", ctypes.c_int),
    ]


class _Network(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_int) for name in ("hidden", "padded", "inputs", "outputs", "outputs_padded", "rows")),
        ("encoder", _Cell),
        ("decoders", _Decoder * 2),
    ]


@cache
def _library() -> ctypes.CDLL | None:
    for suffix in EXTENSION_SUFFIXES:
        path = Path(__file__).with_name(f"lstm{suffix}")
        if path.exists():
            try:
                return ctypes.CDLL(str(path))
            except OSError:
                continue
    return None


def best_level() -> int:
    """Return the best instruction set that is built and that this processor has, a key of LEVELS; 0 for none."""
    library = _library()
    return 0 if library is None else int(library.streamae_lstm_level())


class Recurrence:
    """An encoder and its decoders, with weights as `network.named_parameters()` of an `EncoderDecoder` names them.

    For one-layer LSTMs with unconditional decoders. Raises RuntimeError where the extra or the instruction set is not
    there.
    """

    def __init__(
        self, weights: Mapping[str, F32], *, rows: int, horizon: int, targets: int, level: int | None = None
    ) -> None:
        self.level = best_level() if level is None else level
        library = _library()
        if library is None or not 0 < self.level <= best_level():
            raise RuntimeError("the native kernel is not there, or not for this processor")
        self._run = library.streamae_lstm_windows
        self._kept: list[F32] = []  # what the pointers below point into
        hidden, inputs = weights["encoder.rnn.weight_hh_l0"].shape[1], weights["encoder.rnn.weight_ih_l0"].shape[1]
        self._steps = (
            rows if "reconstructor.readout.weight" in weights else 0,
            horizon if "forecaster.readout.weight" in weights else 0,
        )
        self._shape = hidden, rows, inputs, targets
        self._network = _Network(hidden, _up(hidden), inputs, targets, _up(targets), rows)
        self._network.encoder = self._cell(
            np.hstack([weights["encoder.rnn.weight_ih_l0"], weights["encoder.rnn.weight_hh_l0"]]),
            weights["encoder.rnn.bias_ih_l0"] + weights["encoder.rnn.bias_hh_l0"],
        )
        for d, name in enumerate(("reconstructor", "forecaster")):
            if self._steps[d]:
                self._network.decoders[d] = self._decoder(weights, name, self._steps[d])

    def __call__(self, x: F32) -> tuple[F32, F32, F32]:
        """x[B, L, inputs] -> code[B, 2H] (h, then c), rebuilt[B, L, Q] in the decoder's order, foreseen[B, K, Q]."""
        hidden, rows, inputs, targets = self._shape
        x = np.ascontiguousarray(x, np.float32)
        if x.shape[1:] != (rows, inputs):
            raise ValueError(f"windows of {x.shape[1:]}, wanted {(rows, inputs)}")
        code = np.empty((len(x), 2 * hidden), np.float32)
        first, second = (np.empty((len(x), steps, targets), np.float32) for steps in self._steps)
        pointers = (ctypes.c_void_p(a.ctypes.data if a.size else None) for a in (code, first, second))
        rc = self._run(
            ctypes.c_int(self.level), ctypes.byref(self._network), ctypes.c_void_p(x.ctypes.data),
            ctypes.c_long(len(x)), *pointers,
        )  # fmt: skip
        if rc:
            raise MemoryError("the native kernel has no memory for its rows")
        return code, first, second

    def _decoder(self, weights: Mapping[str, F32], name: str, steps: int) -> _Decoder:
        targets = self._shape[3]
        nothing = np.zeros(4 * self._shape[0], np.float32)
        rnn = f"{name}.cell.rnn"
        bias = weights[f"{rnn}.bias_ih_l0"] + weights[f"{rnn}.bias_hh_l0"]
        wide = ((0, 0), (0, _up(targets) - targets))
        return _Decoder(
            self._cell(weights[f"{rnn}.weight_ih_l0"], bias),
            self._cell(weights[f"{rnn}.weight_hh_l0"], nothing),
            self._pointer(np.pad(weights[f"{name}.readout.weight"].T, wide)),
            self._pointer(np.pad(weights[f"{name}.readout.bias"], wide[1])),
            steps,
        )

    def _cell(self, weight: F32, bias: F32) -> _Cell:
        """Pack weight[4H, K] and bias[4H], gates i, f, g, o, in both orders that the kernel reads."""
        hidden, K = weight.shape[0] // 4, weight.shape[1]
        W, blocks = _WIDE[self.level], _up(hidden) // _WIDE[self.level]
        gates = weight.reshape(4, hidden, K) * _SCALE[:, None, None]
        start = bias.reshape(4, hidden) * _SCALE[:, None]
        wide = (0, _up(hidden) - hidden)
        units = np.pad(gates, ((0, 0), wide, (0, 0))).reshape(4, blocks, W, K)
        return _Cell(
            self._pointer(gates.transpose(1, 2, 0)),
            self._pointer(start.T),
            self._pointer(units.transpose(1, 3, 0, 2)),
            self._pointer(np.pad(start, ((0, 0), wide)).reshape(4, blocks, W).swapaxes(0, 1)),
        )

    def _pointer(self, array: F32 | F64) -> "ctypes._Pointer[ctypes.c_float]":
        kept = np.ascontiguousarray(array, np.float32)
        self._kept.append(kept)
        return kept.ctypes.data_as(_Floats)


def _up(n: int) -> int:
    return -(-n // _PAD) * _PAD
