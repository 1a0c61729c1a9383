"""Windows in, errors out: the executors against the same network scripted and frozen, and against the field.

The frozen network is given each batch as it is, in one call. Peers score the same points one by one, as their users
call them; a method that does less work for a point, or another kind of it, is named as such.
"""

import importlib
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from streamae.bench.models import noise, scripted, spec_named
from streamae.bench.rounds import Line, Section, by_turns
from streamae.model.means import Means
from streamae.model.runtime import TorchReconstructor

__all__ = ["cores", "inference", "peers"]

_BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048)
_QUICK = (1, 16, 256, 1024)
_WAYS = ("native", "batch", "module")  # the last two are pure TorchScript
_WINDOWS = 1024  # at least, a run of a large batch; a small one runs fewer
_TITLES = {"native": "native kernel", "batch": "pure TorchScript, by batch size", "module": "scripted, in tiles"}


def _runners(name: str) -> tuple[Any, dict[str, TorchReconstructor]]:
    import time

    spec = spec_named(name)
    network = scripted(spec)
    frozen = torch.jit.freeze(scripted(spec), preserved_attrs=["errors"])
    found = {}
    for way in _WAYS:
        try:
            found[way] = TorchReconstructor(network, spec, means=Means(way, 1, time.perf_counter))
        except ValueError:
            continue  # not to be had here: the table says so
    return frozen, found


def inference(name: str, rounds: int, quick: bool) -> Section:
    """All batch sizes, one model; the figures are how many times less CPU time a window takes than frozen."""
    frozen, runners = _runners(name)
    windows = noise(spec_named(name), _BATCHES[-1])
    section = Section(
        f"executors, model {name}",
        "CPU time of the scripted and frozen network over that of each executor, the same windows in one call; "
        "absolute figures are windows per core-second.",
    )
    for B in _QUICK if quick else _BATCHES:
        repeat = max(1, min(_WINDOWS, 64 * B) // B)
        x = windows[:B]
        ways: dict[str, Callable[[], object]] = {"frozen": _repeat(_frozen(frozen, x), repeat)}
        ways |= {way: _repeat(_bound(runner, x), repeat) for way, runner in runners.items()}
        took = by_turns(ways, dict.fromkeys(ways, B * repeat), rounds)
        base = took["frozen"].cpu_us
        figures: dict[str, float | str] = {"frozen, windows/s": 1e6 / base}
        figures |= {f"{_TITLES[way]}, x": base / took[way].cpu_us if way in took else "not built" for way in _WAYS}
        figures["spread"] = took["frozen"].spread
        ladder = base / took["native" if "native" in took else "batch"].cpu_us
        section.lines.append(Line(f"batch {B}", figures, *_goal(name, B, ladder, base / took["batch"].cpu_us)))
    return section


def _goal(name: str, B: int, ladder: float, pure: float) -> tuple[str, bool | None]:
    if name == "lstm64" and B in {256, 1024}:
        return "pure TorchScript >= 1.5x", pure >= 1.5
    return "never under 0.95x", min(ladder, pure) >= 0.95


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


def peers(rounds: int, quick: bool) -> Section:
    """Points scored per core-second; ours in batches of 256, as the daemon scores, and every point scored."""
    section = Section(
        "peers", "Points scored per core-second, one channel, no MQTT. The LSTM rows compute the same network."
    )
    points = 128 if quick else 400
    series = np.sin(np.arange(2000) / 7.0) + np.random.default_rng(0).normal(size=2000) * 0.1
    ways: dict[str, tuple[str, Callable[[], object], float]] = {}
    for name in ("lstm64", "default"):
        spec = spec_named(name)
        runner = TorchReconstructor(scripted(spec), spec)
        x = noise(spec, 256)
        ways[f"streamae, {name} ({runner.executor})"] = ("", _bound(runner, x), 256)
        with torch.inference_mode():
            eager = _eager(spec, x[:points])
        ways[f"eager PyTorch, a call for each window, {name}"] = ("the same network", eager, min(points, 256))
    for title, module, make in _PEERS:
        try:
            importlib.import_module(module)
        except ImportError as error:
            section.lines.append(Line(title, {"points/s": f"not installed ({error.name})"}))
            continue
        ways[title] = ("another method", make(series[:points]), points)
    took = by_turns({k: v[1] for k, v in ways.items()}, {k: v[2] for k, v in ways.items()}, rounds)
    ours = 1e6 / next(iter(took.values())).cpu_us
    for title, timing in took.items():
        rate = 1e6 / timing.cpu_us
        figures: dict[str, float | str] = {"points/s": rate, "spread": timing.spread, "work": ways[title][0]}
        figures["note"] = "" if title.startswith("streamae") or rate <= ours else "ahead of lstm64"
        section.lines.append(Line(title, figures))
    return section


def _eager(spec: Any, x: Any) -> Callable[[], object]:
    from streamae.model.detector import Detector

    network = Detector(spec).eval()

    def run() -> None:
        with torch.no_grad():
            for window in x:
                network.errors(torch.from_numpy(window[None]))

    return run


def _river(series: Any) -> Callable[[], object]:
    from river.anomaly import HalfSpaceTrees

    model = HalfSpaceTrees(seed=0)  # the usual call: learn and score each point

    def run() -> None:
        for value in series.tolist():
            point = {"x": value}
            model.score_one(point)
            model.learn_one(point)

    return run


def _rrcf(series: Any) -> Callable[[], object]:
    import rrcf

    def run() -> None:
        forest = [rrcf.RCTree() for _ in range(40)]
        for i, value in enumerate(series[:128]):
            for tree in forest:
                if len(tree.leaves) > 64:
                    tree.forget_point(i - 64)
                tree.insert_point([value], index=i)
                tree.codisp(i)
        for _ in range(len(series) // 128 - 1):  # the work of as many points more
            _continue(forest, series[:128])

    return run


def _continue(forest: Any, series: Any) -> None:
    for value in series:
        for tree in forest:
            newest = max(tree.leaves)
            tree.forget_point(min(tree.leaves))
            tree.insert_point([value], index=newest + 1)
            tree.codisp(newest + 1)


def _pysad(series: Any) -> Callable[[], object]:
    from pysad.models import HalfSpaceTrees

    model = HalfSpaceTrees(feature_mins=np.array([-2.0]), feature_maxes=np.array([2.0]))

    def run() -> None:
        for value in series:
            model.fit_score_partial(np.array([value]))

    return run


_PEERS: tuple[tuple[str, str, Callable[[Any], Callable[[], object]]], ...] = (
    ("River HalfSpaceTrees", "river.anomaly", _river),
    ("rrcf, 40 trees of 64 points", "rrcf", _rrcf),
    ("PySAD HalfSpaceTrees", "pysad.models", _pysad),
)


def cores(rounds: int) -> Section:
    """Two scorers, and two torch threads, against one; wall time, which is what a second core is for."""
    from streamae.model.executors import Executor
    from streamae.model.scorers import Scorers, TorchThreads
    from streamae.model.scorers import cores as count_cores

    section = Section("two cores", "Wall time of one thread over that of two, 1,024 windows of lstm64 in one call.")
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
        section.lines.append(Line(_TITLES[way], figures, "the faster >= 1.5x", max(two, torch_two) >= 1.5))
    return section


def _bound_way(way: Any, x: Any) -> Callable[[], object]:
    return lambda: way.errors(x)
