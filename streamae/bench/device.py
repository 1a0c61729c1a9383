"""Windows a second on a CUDA device against batch size, beside the CPU and the device's own measured ceilings.

Wall time, for a device has no CPU time; copies to and from it are in it, for the daemon pays them too. The ceilings are
what a large product of matrices and a large copy reach on the same device in the same run.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from streamae.bench.models import noise, scripted, spec_named
from streamae.bench.rounds import BenchTable, Line, by_turns
from streamae.core.types import F32
from streamae.model.cuda import BUCKETS
from streamae.model.runtime import TorchReconstructor
from streamae.model.spec import DetectorSpec

__all__ = ["ceilings", "device", "work_a_window"]

_SIDE, _FLOATS = 4096, 2**26  # of a square matrix; of the copy


def device(rounds: int, where: str = "cuda", batches: tuple[int, ...] = BUCKETS) -> BenchTable:
    """The network of `lstm64`, all batches filled; `where` is what is measured beside one core."""
    section = BenchTable(
        "CUDA", "lstm64, wall time with the copies to and from the device, beside one core of the CPU."
    )
    if where == "cuda" and not torch.cuda.is_available():
        section.about = "Not measured: torch sees no CUDA device here."
        return section
    spec = spec_named("lstm64")
    on_device, on_cpu = TorchReconstructor(scripted(spec), spec, where), TorchReconstructor(scripted(spec), spec)
    flop_s, byte_s = ceilings(where, rounds)
    section.about += f" Measured ceilings: {flop_s / 1e12:.2f} TFLOP/s (float32), {byte_s / 1e9:.0f} GB/s."
    flop, moved = work_a_window(spec)
    for B in batches:
        x = noise(spec, B)
        ways = {"device": _bound(on_device, x), "cpu": _bound(on_cpu, x)}
        took = by_turns(ways, dict.fromkeys(ways, B), rounds)
        rate = 1e6 / took["device"].wall_us
        figures: dict[str, float | str] = {
            "windows/s": rate, "CPU windows/s": 1e6 / took["cpu"].wall_us,
            "x": took["cpu"].wall_us / took["device"].wall_us, "spread": took["device"].spread,
            "% of the matrix ceiling": 100 * rate * flop / flop_s,
            "% of the memory ceiling": 100 * rate * moved / byte_s,
        }  # fmt: skip
        section.lines.append(Line(f"batch {B}, {on_device.executor}", figures))
    return section


def work_a_window(spec: DetectorSpec) -> tuple[float, float]:
    """Return the FLOP and the bytes of device memory of one window: products, and gates and state at every step.

    The bytes are those of steps that are not fused, which write the gate sums and read them; weights are shared.
    """
    network = spec.network
    hidden, rows = network.hidden, network.history
    decoded = rows * network.reconstructs + network.horizon * network.forecasts
    products = rows * (network.channels + hidden) + decoded * (2 * hidden + len(network.targets) / 4)
    state = 2 * 4 * hidden + 4 * hidden  # gates written and read; h and c likewise
    return 2.0 * 4 * hidden * products, 4.0 * ((rows + decoded) * state + rows * network.channels)


def ceilings(where: str, rounds: int) -> tuple[float, float]:
    """Return FLOP a second of a large float32 product, and bytes a second, read and written, of a large copy."""
    a, room = torch.randn(_SIDE, _SIDE, device=where), torch.empty(_SIDE, _SIDE, device=where)
    source, sink = torch.ones(_FLOATS, device=where), torch.empty(_FLOATS, device=where)
    ways: dict[str, Callable[[], object]] = {
        "product": lambda: _finished(torch.mm(a, a, out=room)),
        "copy": lambda: _finished(sink.copy_(source)),
    }
    took = by_turns(ways, dict.fromkeys(ways, 1), rounds)
    return 2.0 * _SIDE**3 / (took["product"].wall_us / 1e6), 8.0 * _FLOATS / (took["copy"].wall_us / 1e6)


def _finished(result: Tensor) -> None:
    if result.device.type == "cuda":
        torch.cuda.synchronize()


def _bound(runner: TorchReconstructor, x: F32) -> Callable[[], object]:
    return lambda: runner.errors(x)
