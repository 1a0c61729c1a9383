"""Fits the parts of a detector that are not its network: subspaces and prototypes of training windows.

All training windows count: a drift or a mode that shows in the last quarter only is normal too, and leaving it out
costs more than the optimism of errors on rows that were fitted (measured; the threshold allows for that).
"""

from collections.abc import Callable

import numpy as np
import torch

from streamae.core.types import F64
from streamae.model.detector import DetectorNetwork, Energy, Prototypes, Subspace

__all__ = ["cluster", "components", "fit_features", "sample_windows"]

Flat = Callable[[int], F64]
"""`flat(W) -> [n, W*Q]`, training windows of W rows of the target channels, flattened."""

_WINDOWS_MAX = 20_000
_WORK_MAX = 3e10  # multiply-adds of one covariance


def sample_windows(available: int, width: int) -> int:
    """Return how many windows of `width` numbers to fit on: all of them, as far as the time allows."""
    return int(min(available, _WINDOWS_MAX, max(2000, _WORK_MAX / width**2)))


def components(flat: F64, variance: float) -> tuple[F64, F64]:
    """Return the mean [d] and the fewest principal axes [rank, d] that hold so much of the variance of flat[n, d]."""
    mean = flat.mean(axis=0)
    centred = flat - mean
    if len(flat) < flat.shape[1]:
        _, singular, axes = np.linalg.svd(centred, full_matrices=False)
        power = singular**2
    else:
        power, vectors = np.linalg.eigh(centred.T @ centred)
        power, axes = np.maximum(power[::-1], 0.0), vectors.T[::-1]
    share = np.cumsum(power) / max(float(power.sum()), 1e-12)
    return mean, axes[: max(1, min(int(np.searchsorted(share, variance)) + 1, flat.shape[1] - 1))]


def cluster(flat: F64, count: int, seed: int, rounds: int = 30) -> F64:
    """Return at most `count` centres [k, d] of flat[n, d]: k-means++ (Arthur and Vassilvitskii 2007)."""
    random = np.random.default_rng(seed)
    square = np.einsum("nd,nd->n", flat, flat)
    chosen = [flat[random.integers(len(flat))]]
    nearest = ((flat - chosen[0]) ** 2).sum(axis=1)
    for _ in range(min(count, len(flat)) - 1):
        if nearest.sum() <= 0:
            break
        chosen.append(flat[random.choice(len(flat), p=nearest / nearest.sum())])
        nearest = np.minimum(nearest, ((flat - chosen[-1]) ** 2).sum(axis=1))
    centers = np.array(chosen)
    for _ in range(rounds):
        owner = (square[:, None] - 2 * flat @ centers.T + (centers**2).sum(axis=1)).argmin(axis=1)
        own = [flat[owner == k] for k in range(len(centers))]
        moved = np.array([part.mean(axis=0) if len(part) else old for part, old in zip(own, centers, strict=True)])
        if np.allclose(moved, centers):
            break
        centers = moved
    return centers


def fit_features(detector: DetectorNetwork, flat: Flat, bases: dict[int, tuple[F64, F64]], seed: int) -> None:
    """Fill the detector's subspaces (`bases` by window, as its spec was made from them) and prototypes, in place."""
    for module in (*detector.residuals, *detector.energies):
        assert isinstance(module, Subspace | Energy)
        mean, axes = bases[module.window]
        module.mean.copy_(torch.from_numpy(mean))
        module.basis.copy_(torch.from_numpy(axes.copy()))
        if isinstance(module, Energy):
            coordinates = (flat(module.window) - mean) @ axes.T
            module.variance.copy_(torch.from_numpy(coordinates.var(axis=0) + 1e-9))
        elif detector.whiten and module.window == detector.network_window:
            centred = flat(module.window) - mean
            detector.rest_scale.fill_(float((centred - centred @ axes.T @ axes).std()) + 1e-6)
    for module in detector.prototypes:
        assert isinstance(module, Prototypes)
        found = cluster(flat(module.window), len(module.centers), seed)
        # Fewer different windows than centres: the last one stands in for those that are missing.
        missing = np.repeat(found[-1:], len(module.centers) - len(found), axis=0)
        module.centers.copy_(torch.from_numpy(np.concatenate([found, missing])))
