"""The peers: simple causal detectors that ours is measured against in the same run, under the same protocol.

Each is a `protocol.Detector`: fitted on the z-scored training rows (constant
channels keep unit scale), scoring row t from rows <= t. All ship the same threshold, the one that the field takes when
nothing better is at hand: the largest score over the last 80 % of the training rows.

scikit-learn is needed for k-means and the isolation forest, River for HalfSpaceTrees (`streamae[evaluate]`); a
method whose library is missing is left out of `baselines()`.
"""

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from numpy.lib.stride_tricks import sliding_window_view
from torch import nn

from streamae.evaluation.protocol import Detector, Judged, LabelledSeries

__all__ = ["SEEDED", "baselines", "trailing_windows", "train_max_threshold"]

F64 = npt.NDArray[np.float64]
F32 = npt.NDArray[np.float32]

WINDOW = 16  # rows of context of k-means, PCA
NETWORK_WINDOW = 32
NETWORK_HIDDEN = 32
NETWORK_STEPS = 600
NETWORK_BATCH = 32
SEEDED = ("random", "k-means", "isolation forest", "naive LSTM autoencoder", "LSTM predictor", "HalfSpaceTrees")

Scorer = Callable[[F64, int, int], F64]  # (z-scored rows[N, C], train_rows, seed) -> score[N]


def baselines() -> dict[str, Detector]:
    """Return the peers by name, in the order of the table; those whose library is not installed are left out."""
    scorers: dict[str, Scorer] = {"random": _random, "raw |z|": _raw_z, "PCA residual": _pca_residual}
    if find_spec("sklearn") is not None:
        scorers |= {"k-means": _kmeans, "isolation forest": _isolation_forest}
    scorers |= {"naive LSTM autoencoder": _naive_autoencoder, "LSTM predictor": _predictor}
    if find_spec("river") is not None:
        scorers["HalfSpaceTrees"] = _half_space_trees
    return {name: _detector(scorer) for name, scorer in scorers.items()}


def train_max_threshold(score: F64, train_rows: int) -> F64:
    """Return the constant threshold[N]: the largest of score[N] over the last 80 % of the training rows."""
    return np.full(len(score), score[train_rows // 5 : train_rows].max())


def trailing_windows(rows: F64, window: int) -> F64:
    """Return `[N, window, C]`: the window that ends at each row; before the first full one, the first row repeats."""
    padded = np.concatenate([np.repeat(rows[:1], window - 1, axis=0), rows])
    return sliding_window_view(padded, window, axis=0).swapaxes(1, 2)


def _detector(scorer: Scorer) -> Detector:
    def detect(series: LabelledSeries, train_rows: int, seed: int) -> Judged:
        score = scorer(_standardised(series.values, train_rows), train_rows, seed)
        return Judged(score, train_max_threshold(score, train_rows))

    return detect


def _standardised(values: F64, train_rows: int) -> F64:
    fit = values[:train_rows]
    scale = fit.std(axis=0)
    return np.asarray((values - fit.mean(axis=0)) / np.where(scale > 1e-9, scale, 1.0), np.float64)


def _random(rows: F64, train_rows: int, seed: int) -> F64:
    """The floor: what a score without any information earns."""
    return np.random.default_rng(seed).uniform(size=len(rows))


def _raw_z(rows: F64, train_rows: int, seed: int) -> F64:
    """The mean over channels of |z|."""
    return np.asarray(np.abs(rows).mean(axis=1), np.float64)


def _pca_residual(rows: F64, train_rows: int, seed: int) -> F64:
    """Mean squared distance of the trailing window from the subspace that holds 90 % of the training variance."""
    flat = trailing_windows(rows, WINDOW).reshape(len(rows), -1)
    fit = flat[WINDOW:train_rows]
    centre = fit.mean(axis=0)
    _, s, axes = np.linalg.svd(fit - centre, full_matrices=False)
    part = np.cumsum(s**2) / max(float(np.sum(s**2)), 1e-12)
    kept = axes[: max(1, int(np.searchsorted(part, 0.9)) + 1)]
    centred = flat - centre
    return np.asarray(np.mean((centred - centred @ kept.T @ kept) ** 2, axis=1), np.float64)


def _kmeans(rows: F64, train_rows: int, seed: int) -> F64:
    """Distance of the trailing window to the nearest of 20 centres of the training windows."""
    from sklearn.cluster import KMeans

    flat = trailing_windows(rows, WINDOW).reshape(len(rows), -1)
    fit = flat[WINDOW:train_rows]
    model = KMeans(n_clusters=min(20, len(fit)), n_init=3, random_state=seed).fit(fit)
    return np.asarray(model.transform(flat).min(axis=1), np.float64)


def _isolation_forest(rows: F64, train_rows: int, seed: int) -> F64:
    """Isolation forest (Liu 2008) on rows, 100 trees."""
    from sklearn.ensemble import IsolationForest

    model = IsolationForest(n_estimators=100, random_state=seed).fit(rows[:train_rows])
    return np.asarray(-model.score_samples(rows), np.float64)


def _half_space_trees(rows: F64, train_rows: int, seed: int) -> F64:
    """River's HalfSpaceTrees (Tan 2011): learns from each row after scoring it, over min-max scaled training rows."""
    from river.anomaly import HalfSpaceTrees

    low, high = rows[:train_rows].min(axis=0), rows[:train_rows].max(axis=0)
    unit = np.clip((rows - low) / np.where(high > low, high - low, 1.0), 0.0, 1.0)
    trees: Any = HalfSpaceTrees(n_trees=25, height=8, window_size=min(250, train_rows // 2), seed=seed)
    score = np.empty(len(rows))
    for i, row in enumerate(unit):
        x = dict(enumerate(row.tolist()))
        score[i] = trees.score_one(x)
        trees.learn_one(x)
    return score


class _TutorialAutoencoder(nn.Module):
    """The tutorial's autoencoder: last hidden state, repeated, decoded in forward order; torch's own initialisation."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.encoder = nn.LSTM(channels, NETWORK_HIDDEN, batch_first=True)
        self.decoder = nn.LSTM(NETWORK_HIDDEN, NETWORK_HIDDEN, batch_first=True)
        self.head = nn.Linear(NETWORK_HIDDEN, channels)

    def forward(self, windows: torch.Tensor) -> torch.Tensor:  # [B, T, C] -> [B, T, C]
        _, (h, _) = self.encoder(windows)
        out, _ = self.decoder(h[-1][:, None, :].repeat(1, windows.shape[1], 1))
        return torch.as_tensor(self.head(out) - windows)


class _NextRow(nn.Module):
    """Predicts the last row of a window from the rows before it."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(channels, NETWORK_HIDDEN, batch_first=True)
        self.head = nn.Linear(NETWORK_HIDDEN, channels)

    def forward(self, windows: torch.Tensor) -> torch.Tensor:  # [B, T, C] -> [B, 1, C]
        out, _ = self.lstm(windows[:, :-1])
        return torch.as_tensor(self.head(out[:, -1:]) - windows[:, -1:])


def _naive_autoencoder(rows: F64, train_rows: int, seed: int) -> F64:
    """Mean squared reconstruction error of the trailing window."""
    return _network_error(_TutorialAutoencoder, rows, train_rows, seed)


def _predictor(rows: F64, train_rows: int, seed: int) -> F64:
    """Squared error of the one-row-ahead forecast."""
    return _network_error(_NextRow, rows, train_rows, seed)


def _network_error(kind: Callable[[int], nn.Module], rows: F64, train_rows: int, seed: int) -> F64:
    """Train with Adam at 1e-3 on the training windows, then return the mean squared error of each trailing window."""
    windows = torch.from_numpy(trailing_windows(rows, NETWORK_WINDOW).astype(np.float32))
    fit = windows[min(NETWORK_WINDOW, train_rows // 2) : train_rows]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = kind(rows.shape[1])
        optimiser = torch.optim.Adam(network.parameters(), lr=1e-3)
        for _ in range(NETWORK_STEPS):
            batch = fit[torch.randint(len(fit), (NETWORK_BATCH,))]
            optimiser.zero_grad()
            (network(batch) ** 2).mean().backward()
            optimiser.step()
    with torch.inference_mode():
        errors = [(network(part) ** 2).mean(dim=(1, 2)) for part in torch.split(windows, 1024)]
    return torch.cat(errors).double().numpy()
