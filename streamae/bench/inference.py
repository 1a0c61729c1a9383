"""Windows in, errors out: the executors against the same network scripted and frozen, which gets a batch in one call.

Between the sizes that suit an executor lie those that it has to fill up or to cut; both are measured.

How much TorchScript's own arrangement gains depends on the processor: with AVX-512 oneDNN's LSTM is twice as fast, and
MKL's product is not. `narrow` therefore measures the same once more, in a process that leaves AVX-512 unused:
`python -m streamae.bench.inference MODEL ROUNDS QUICK` prints a section as JSON.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import torch

from streamae.bench.models import noise, scripted, spec_named
from streamae.bench.rounds import BenchTable, Line, by_turns
from streamae.model.executor_options import ExecutorOptions
from streamae.model.runtime import TorchReconstructor

__all__ = ["cores", "inference", "main", "narrow"]

_BATCHES = (1, 2, 3, 5, 8, 16, 17, 32, 33, 48, 64, 65, 96, 128, 129, 256, 257, 512, 600, 1024, 2048)
_QUICK = (1, 16, 256, 1024)
_WAYS = ("native", "batch", "module")  # the last two are pure TorchScript
_LADDER = ("native", "batch")  # whose goal is to lose nowhere; the third fills up, so that a window keeps its bits
_NARROW = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"}
# In a run, of a large batch at least and of a small one at most. Runs are short and many: a neighbour's bursts last
# for some tenths of a second, and would make up whole rounds.
_WINDOWS, _CALLS, _TURNS = 256, 64, 4
_TITLES = {"native": "native kernel", "batch": "pure TorchScript, by batch size", "module": "scripted, its own bits"}


def _runners(name: str, some: Sequence[str] = _WAYS) -> tuple[Any, dict[str, TorchReconstructor]]:
    spec = spec_named(name)
    network = scripted(spec)
    frozen = torch.jit.freeze(scripted(spec), preserved_attrs=["errors"])
    found = {}
    for way in some:
        try:
            found[way] = TorchReconstructor(network, spec, means=ExecutorOptions(way, 1, time.perf_counter))
        except ValueError:
            continue  # not to be had here: the table says so
    return frozen, found


def inference(name: str, rounds: int, quick: bool, some: Sequence[str] = _WAYS) -> BenchTable:
    """All batch sizes, one model; the figures are how many times less CPU time a window takes than frozen."""
    frozen, runners = _runners(name, some)
    windows = noise(spec_named(name), _BATCHES[-1])
    section = BenchTable(
        f"executors, model {name}",
        "CPU time of the scripted and frozen network over that of each executor, the same windows in one call; "
        "absolute figures are windows per core-second.",
    )
    least: dict[str, float] = {}
    for B in _QUICK if quick else _BATCHES:
        repeat = max(1, min(_WINDOWS // B, _CALLS))
        x = windows[:B]
        ways: dict[str, Callable[[], object]] = {"frozen": _repeat(_frozen(frozen, x), repeat)}
        ways |= {way: _repeat(_bound(runner, x), repeat) for way, runner in runners.items()}
        turns = rounds * (_TURNS if B * repeat <= _WINDOWS else 1)
        took = by_turns(ways, dict.fromkeys(ways, B * repeat), turns)
        base = took.pop("frozen")
        gains = {way: timing.faster_than(base) for way, timing in took.items()}
        least = {way: min(gain, least.get(way, gain)) for way, gain in gains.items()}
        figures = {"frozen, windows/s": 1e6 / base.cpu_us, **_columns(gains, some)}
        figures |= {f"{_TITLES[way]}, wall x": base.wall_us / took[way].wall_us for way in _LADDER if way in took}
        section.lines.append(Line(f"batch {B}", {**figures, "spread": base.spread}, *_goal(name, B, gains)))
    met = min(least[way] for way in _LADDER if way in least) >= 0.95
    section.lines.append(Line("least of all batches", _columns(least, some), "never under 0.95x", met))
    return section


def narrow(name: str, rounds: int, quick: bool) -> BenchTable:
    """What `inference` measures of TorchScript on a processor without AVX-512, where this one has it."""
    if torch.backends.cpu.get_cpu_capability() != "AVX512":
        return BenchTable(f"executors, model {name}, AVX2", "this processor has no AVX-512: the table above is it.")
    command = [sys.executable, "-m", "streamae.bench.inference", name, str(rounds), str(int(quick))]
    done = subprocess.run(  # noqa: S603
        command, env=os.environ | _NARROW, check=True, stdout=subprocess.PIPE, text=True, timeout=1800
    )
    result = json.loads(done.stdout)
    return BenchTable(
        f"executors, model {name}, AVX2", "The same, with AVX-512 unused.", [Line(**line) for line in result["lines"]]
    )


def main() -> None:
    """Print one section as JSON, of the executors in TorchScript."""
    name, rounds, quick = sys.argv[1:]
    section = inference(name, int(rounds), bool(int(quick)), ("batch", "module"))
    print(json.dumps(asdict(section)))  # noqa: T201  this is how the parent hears


def _columns(gains: dict[str, float], some: Sequence[str]) -> dict[str, float | str]:
    return {f"{_TITLES[way]}, x": gains.get(way, "not built") for way in some}


def _goal(name: str, B: int, gains: dict[str, float]) -> tuple[str, bool | None]:
    if name == "lstm64" and B in {256, 1024}:
        return "pure TorchScript >= 1.5x", gains["batch"] >= 1.5
    return "", None


def _frozen(frozen: Any, x: Any) -> Callable[[], object]:
    tensor = torch.from_numpy(x)

    def run() -> object:
        with torch.inference_mode():
            return frozen.errors(tensor)

    return run


def _bound(runner: TorchReconstructor, x: Any) -> Callable[[], object]:
    return lambda: runner.errors(x)


def _repeat(run: Callable[[], object], times: int) -> Callable[[], object]:
    def many() -> None:
        for _ in range(times):
            run()

    return many


def cores(rounds: int) -> BenchTable:
    """Two scorers, and two torch threads, against one; wall time, which is what a second core is for."""
    from streamae.model.executors import Executor
    from streamae.model.scorers import Scorers, TorchThreads, choose_scorers
    from streamae.model.scorers import cores as count_cores

    section = BenchTable("two cores", "Wall time of one thread over that of two, 1,024 windows of lstm64 in one call.")
    if count_cores() < 2:
        section.lines.append(Line("two scorers", {"wall, x": "one core here"}))
        return section
    _, runners = _runners("lstm64")
    for way, runner in runners.items():
        x, alone = noise(spec_named("lstm64"), 1024), runner._errors
        ways: dict[str, Executor] = {
            "one": alone,
            "two scorers": Scorers(alone, 2),
            "two torch": TorchThreads(alone, 2),
        }
        took = by_turns({k: _bound_way(v, x) for k, v in ways.items()}, dict.fromkeys(ways, 1024), rounds)
        one = took["one"].wall_us
        two, torch_two = one / took["two scorers"].wall_us, one / took["two torch"].wall_us
        figures: dict[str, float | str] = {"two scorers, wall x": two, "two torch threads, wall x": torch_two}
        figures["spread"] = took["one"].spread
        figures["taken at start"] = choose_scorers(alone, None, (x.shape[1], x.shape[2]), time.perf_counter).name
        section.lines.append(Line(_TITLES[way], figures, "the faster >= 1.5x", max(two, torch_two) >= 1.5))
    return section


def _bound_way(way: Any, x: Any) -> Callable[[], object]:
    return lambda: way.errors(x)


if __name__ == "__main__":
    main()
