"""Trains one network: the recipe without which these models sit on a plateau that looks converged.

Adam at 5e-3 with cosine decay to zero, gradient norm clipped at 1, batches drawn at random over all streams, and,
where rows are held out, the checkpoint with the smallest loss on them. The linear path is fitted first, by principal
components of the training windows and a ridge regression ahead from their coordinates; the recurrent part learns what
it leaves.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from streamae.core.types import F32, I64
from streamae.model.network import EncoderDecoder

__all__ = ["Fitted", "Recipe", "fit", "fit_linear", "linear_rank", "windows_at"]

Progress = Callable[[int, int, float], None]


@dataclass(frozen=True, slots=True)
class Recipe:
    """How to train; the defaults are those of the project's regression test."""

    steps: int = 1500
    batch: int = 64
    learning_rate: float = 5e-3
    clip: float = 1.0
    checks: int = 20
    patience: int = 8


@dataclass(frozen=True, slots=True)
class Fitted:
    """What a training run did: losses (step, loss), held out where rows were; the step of the checkpoint kept."""

    losses: tuple[tuple[int, float], ...]
    best_step: int
    best_loss: float


def windows_at(rows: Tensor, ends: Tensor, window: int) -> Tensor:
    """Windows `[B, T, C]` that end at the rows `ends[B]` of `rows[N, C]`."""
    return rows[ends.unsqueeze(1) + torch.arange(1 - window, 1, device=rows.device)]


def linear_rank(windows: F32, targets: tuple[int, ...], history: int, variance: float, most: int = 32) -> int:
    """How many principal components of the history's targets hold that part of its variance, at most `most`."""
    past = windows[:, :history][:, :, list(targets)].reshape(len(windows), -1).astype(np.float64)
    singular = np.linalg.svd(past - past.mean(axis=0), compute_uv=False) ** 2
    rank = int(np.searchsorted(np.cumsum(singular) / max(singular.sum(), 1e-12), variance)) + 1
    return max(1, min(rank, most, past.shape[1] - 1, len(past) // 4))


def fit_linear(network: EncoderDecoder, windows: Tensor, rank: int) -> None:
    """Fit the linear path (if rank > 0) and the scales of what it leaves, in place, from windows [n, T, C]."""
    history, channels = network.history, windows.shape[2]
    targets = network.targets.cpu()
    past = windows[:, :history].double()
    ahead = windows[:, history:, :][:, :, targets].double().reshape(len(windows), -1)
    rest, rest_ahead = past.clone(), ahead
    if rank > 0:
        own = past[:, :, targets].reshape(len(past), -1)
        mean = own.mean(dim=0)
        basis = torch.linalg.svd(own - mean, full_matrices=False)[2][:rank]
        full_mean, full_basis = torch.zeros(history, channels).double(), torch.zeros(rank, history, channels).double()
        full_mean[:, targets] = mean.view(history, -1)
        full_basis[:, :, targets] = basis.view(rank, history, -1)
        network.linear_mean.copy_(full_mean.view(-1))
        network.linear_basis.copy_(full_basis.view(rank, -1))
        coordinates = (own - mean) @ basis.t()
        rest[:, :, targets] -= (coordinates @ basis + mean).view(len(past), history, -1)
        if network.forecasts:
            gram = coordinates.t() @ coordinates
            ridge = 1e-3 * gram.diagonal().mean() * torch.eye(rank).double()
            ahead_mean = ahead.mean(dim=0)
            weights = torch.linalg.solve(gram + ridge, coordinates.t() @ (ahead - ahead_mean))
            network.linear_ahead.copy_(weights.t())
            network.linear_ahead_mean.copy_(ahead_mean)
            rest_ahead = ahead - ahead_mean - coordinates @ weights
        network.residual_scale[targets] = rest[:, :, targets].std(dim=(0, 1)).clamp_min(1e-3).float()
        if network.forecasts:
            deviation = rest_ahead.view(len(past), network.horizon, -1).std(dim=(0, 1))
            network.ahead_scale.copy_(deviation.clamp_min(1e-3))


def fit(
    network: EncoderDecoder,
    rows: Tensor,
    train_ends: I64,
    check_ends: I64,
    *,
    recipe: Recipe,
    seed: int,
    progress: Progress | None = None,
    prepare: Callable[[Tensor], Tensor] | None = None,
) -> Fitted:
    """Train in place on the windows that end at `train_ends`, keep the best on those at `check_ends`.

    Without `check_ends` the last step stands. `rows[N, C]` are on the network's device; `prepare` turns windows of
    rows into what the network reads. The same seed on the same machine gives the same weights.
    """
    random = np.random.default_rng(seed)

    def batch(ends: I64) -> Tensor:
        windows = windows_at(rows, torch.from_numpy(ends).to(rows.device), network.window)
        with torch.no_grad():
            return windows if prepare is None else prepare(windows)

    held = batch(check_ends[:: max(1, len(check_ends) // 512)]) if len(check_ends) else None
    optimiser = torch.optim.Adam(network.parameters(), lr=recipe.learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, recipe.steps)
    every = max(1, recipe.steps // recipe.checks)
    losses: list[tuple[int, float]] = []
    best, best_step, kept = float("inf"), 0, {k: v.clone() for k, v in network.state_dict().items()}
    for step in range(1, recipe.steps + 1):
        network.train()
        optimiser.zero_grad()
        loss = network.loss(batch(train_ends[random.integers(0, len(train_ends), recipe.batch)]))
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(network.parameters(), recipe.clip)
        optimiser.step()
        schedule.step()
        if step % every and step < recipe.steps:
            continue
        losses.append((step, float(loss.detach()) if held is None else _held_loss(network, held)))
        if progress is not None:
            progress(step, recipe.steps, losses[-1][1])
        if held is None or losses[-1][1] < best:
            (best_step, best), kept = losses[-1], {k: v.clone() for k, v in network.state_dict().items()}
        elif sum(at > best_step for at, _ in losses) >= recipe.patience:
            break
    network.load_state_dict(kept)
    return Fitted(tuple(losses), best_step, best)


def _held_loss(network: EncoderDecoder, windows: Tensor) -> float:
    """Loss in evaluation mode: a free-running decoder runs free, as it will when it scores."""
    network.eval()
    with torch.no_grad():
        return float(network.loss(windows))
