"""The models that the benchmarks run: shapes as `train` designs them, weights as they are initialised.

How long a window takes does not depend on the weights, so nothing is trained.
"""

import numpy as np
import torch

from streamae.core.calibration import Calibration
from streamae.core.decode import PayloadSpec
from streamae.core.pipeline import Group
from streamae.core.profile import Profile, Reconstructor
from streamae.core.topics import Template
from streamae.model.detector import DetectorNetwork
from streamae.model.export import script
from streamae.model.spec import DetectorSpec, NetworkSpec

__all__ = ["WARM_ROWS", "bench_group", "noise", "scripted", "spec_named"]

WARM_ROWS = 8


def spec_named(name: str) -> DetectorSpec:
    """`lstm64`: an autoencoder of one channel, hidden 64, window 64; `default`, `default4`: what `train` designs."""
    if name == "lstm64":
        network = NetworkSpec(channels=1, targets=(0,), window=64, hidden=64)
        return DetectorSpec(channels=1, targets=(0,), network=network)
    if name == "default":
        network = NetworkSpec(channels=1, targets=(0,), window=64, horizon=8, task="composite")
        return DetectorSpec(
            channels=1, targets=(0,), network=network, residuals=((64, 5),), energies=((32, 4),),
            prototypes=((32, 16), (96, 16)),
        )  # fmt: skip
    targets = tuple(range(4))
    network = NetworkSpec(channels=4, targets=targets, window=40, horizon=8, task="composite")
    residuals = ((5, 2), (10, 3), (20, 7), (40, 11))
    return DetectorSpec(channels=4, targets=targets, network=network, residuals=residuals, whiten=True)


def scripted(spec: DetectorSpec) -> torch.jit.ScriptModule:
    """Return the network of a spec, scripted, with its initial weights."""
    torch.manual_seed(0)
    return script(DetectorNetwork(spec))


def bench_group(spec: DetectorSpec, model: Reconstructor, streams: int, stride: int) -> Group:
    """A group of univariate streams `b/<stream>` with JSON payloads, known to no model, scored from early on."""
    features = spec.features()
    E = len(features)
    calibration = Calibration(
        kind="groups", channel=np.array([c for _, c in features]), group=np.zeros(E, np.int64),
        weight=np.full(E, 1.0 / E), level=np.full(E, 0.5), zero=3.0, cold_zero=3.0, offset=3.0, cold_offset=3.0,
        learn_windows=0, level_floor=1.0, smoothing=0.5, half_life_windows=1000.0, budget_per_s=1 / 604800,
    )  # fmt: skip
    profile = Profile(
        digest="0" * 64,
        channels=("value",),
        window=spec.window,
        period_s=1.0,
        gap_max_s=1e9,
        warmup_rows=WARM_ROWS,
        streams={},
        calibration=calibration,
    )
    return Group(
        name="bench",
        templates=[Template.parse("b/{stream}")],
        payloads=[PayloadSpec("json", time="t")],
        stream_template="{stream}",
        profile=profile,
        reconstructor=model,
        stride=stride,
        max_streams=streams,
        future_max_s=1e12,
    )


def noise(spec: DetectorSpec, count: int) -> "np.ndarray[tuple[int, ...], np.dtype[np.float32]]":
    """Windows [count, T, C] of white noise."""
    return np.random.default_rng(0).normal(size=(count, spec.window, spec.channels)).astype(np.float32)
