"""What a model file computes of a window: features of several kinds, each with a blind spot that another one lacks.

    residual-W    what the principal components of windows of W rows leave, per channel: broken relations
    energy-W      Hotelling's T² within them: familiar shapes at an unfamiliar size
    prototypes-W  squared distance to the nearest of the k-means centres of windows: unfamiliar shapes
    reconstruction, forecast    the recurrent encoder-decoder's squared errors, per channel

A tanh recurrence cannot follow a drift beyond its range that keeps the channels' relations; a linear subspace can, and
knows nothing of shapes; so they stand side by side, on the trailing rows of one window of T rows. All features are
mean squares in scaled units, >= 0; putting them in units of their normal is the calibration's part (`core.score`).

Sums over a window are matrix products with constant matrices, padded like all others, so a window's result is
independent, to the bit, of the batch that it came in (CPU). Everything fitted is a buffer: `training.features` fills
them. Shapes as in `core.types`; Q are the target channels, W the rows of a part.
"""

from collections.abc import Sequence
from typing import Final, List, Optional, Tuple  # noqa: UP035  TorchScript reads these names

import torch
from torch import Tensor, nn

from streamae.model.layers import affine
from streamae.model.network import EncoderDecoder
from streamae.model.spec import DetectorSpec

__all__ = ["Beside", "DetectorNetwork", "Energy", "Prototypes", "Subspace"]


def _selector(window: int, channels: int) -> Tensor:
    """[Q, W*Q] with 1/W where a flattened entry belongs to the channel: a product with it is a mean over rows."""
    return torch.eye(channels).repeat(1, window) / window


def _tail(x: Tensor, rows: int) -> Tensor:
    """[B, T, Q] -> [B, W*Q], the flattened last rows."""
    return x[:, x.size(1) - rows :].reshape(x.size(0), -1)


class Subspace(nn.Module):
    """Principal components of flattened windows of W rows, and what they leave; `training.features` fits them."""

    window: Final[int]

    mean: Tensor
    basis: Tensor
    selector: Tensor

    def __init__(self, window: int, rank: int, channels: int) -> None:
        super().__init__()
        self.window = window
        self.register_buffer("mean", torch.zeros(window * channels))
        self.register_buffer("basis", torch.zeros(rank, window * channels))
        self.register_buffer("selector", _selector(window, channels))

    def forward(self, x: Tensor) -> Tuple[Tensor, Tensor]:  # noqa: UP006
        """[B, T, Q] -> the rest of the trailing rows [B, W, Q], and its mean square over them [B, Q]."""
        flat = _tail(x, self.window)
        coordinates = affine(flat - self.mean, self.basis, None)
        rest = flat - affine(coordinates, self.basis.t().contiguous(), self.mean)
        return rest.view(x.size(0), self.window, x.size(2)), affine(rest * rest, self.selector, None)


class Energy(nn.Module):
    """Hotelling's T² of flattened windows of W rows, within their principal components, over the rank."""

    window: Final[int]

    mean: Tensor
    basis: Tensor
    variance: Tensor

    def __init__(self, window: int, rank: int, channels: int) -> None:
        super().__init__()
        self.window = window
        self.register_buffer("mean", torch.zeros(window * channels))
        self.register_buffer("basis", torch.zeros(rank, window * channels))
        self.register_buffer("variance", torch.ones(rank))

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, Q] -> [B, 1]."""
        y = affine(_tail(x, self.window) - self.mean, self.basis, None)
        return affine(y * y, (1.0 / (self.variance * self.variance.size(0))).unsqueeze(0), None)


class Prototypes(nn.Module):
    """Centres of flattened windows of W rows, and how far the nearest is."""

    window: Final[int]

    centers: Tensor
    selector: Tensor

    def __init__(self, window: int, count: int, channels: int) -> None:
        super().__init__()
        self.window = window
        self.register_buffer("centers", torch.zeros(count, window * channels))
        self.register_buffer("selector", _selector(window, channels))

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, Q] -> [B, Q], mean square over the rows of the difference to the nearest centre."""
        flat = _tail(x, self.window)
        # |x|² is the same for all centres, so it is left out of the comparison.
        nearest = affine(flat, -2.0 * self.centers, (self.centers * self.centers).sum(1)).argmin(1)
        away = flat - self.centers.index_select(0, nearest)
        return affine(away * away, self.selector, None)


class Beside(nn.Module):
    """The channels that the network reads and does not explain, in units of their range in training.

    Commands, modes and the clock mean nothing beyond what training saw of them, so they are held to it; targets never
    are.
    """

    channels: Tensor
    low: Tensor
    span: Tensor

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        self.register_buffer("channels", torch.tensor(channels, dtype=torch.long))
        self.register_buffer("low", torch.zeros(len(channels)))
        self.register_buffer("span", torch.ones(len(channels)))

    def forward(self, windows: Tensor) -> Tensor:
        """[B, T, C] -> [B, T, X], each in [0, 1]."""
        return ((windows.index_select(2, self.channels) - self.low) / self.span).clamp(0.0, 1.0)


class DetectorNetwork(nn.Module):
    """All features of a window in one archive, as its `DetectorSpec` says."""

    window: Final[int]
    horizon: Final[int]
    network_window: Final[int]
    whiten: Final[bool]
    whitener: Final[int]
    banked: Final[bool]
    has_context: Final[bool]

    targets: Tensor
    inputs: Tensor
    rest_scale: Tensor

    def __init__(self, spec: DetectorSpec) -> None:
        super().__init__()
        self.window, self.network_window = spec.window, spec.network.window
        self.whiten, self.banked, self.horizon = spec.whiten, spec.banked, spec.network.horizon
        self.whitener = [w for w, _ in spec.residuals].index(spec.network.window) if spec.whiten else -1
        Q = len(spec.targets)
        self.register_buffer("targets", torch.tensor(spec.targets, dtype=torch.long))
        self.has_context = len(spec.context) > 0
        self.register_buffer("inputs", torch.tensor(spec.inputs[: len(spec.inputs) - len(spec.context)]))
        if self.has_context:
            self.context = Beside(spec.context)
        self.register_buffer("rest_scale", torch.ones(1))
        self.residuals = nn.ModuleList([Subspace(w, rank, Q) for w, rank in spec.residuals])
        self.energies = nn.ModuleList([Energy(w, rank, Q) for w, rank in spec.energies])
        self.prototypes = nn.ModuleList([Prototypes(w, count, Q) for w, count in spec.prototypes])
        self.network = EncoderDecoder(spec.network)

    def _split(self, windows: Tensor) -> Tuple[Tensor, Tensor]:  # noqa: UP006
        """[B, T, C] -> [B, Tn, inputs] twice: what the network reads, and what was taken off it before scaling."""
        x = windows[:, windows.size(1) - self.network_window :].index_select(2, self.inputs)
        read, off = x, torch.zeros_like(x)
        for i, bank in enumerate(self.residuals):
            if i == self.whitener:
                rest, _ = bank(x)
                read, off = rest / self.rest_scale, x - rest
        return self._with_context(read, windows), off

    def _with_context(self, read: Tensor, windows: Tensor) -> Tensor:
        if self.has_context:
            return torch.cat([read, self.context(windows[:, windows.size(1) - self.network_window :])], dim=2)
        return read

    def network_input(self, windows: Tensor) -> Tensor:
        """[B, T, C] -> [B, Tn, inputs], what the network reads; more rows than Tn need not be there."""
        return self._split(windows)[0]

    def _lengths(self, lengths: Optional[Tensor]) -> Optional[Tensor]:  # noqa: UP045
        assert lengths is None or not self.banked, "banks read full windows; only a bare network takes lengths"
        return lengths

    @torch.jit.export
    def errors(self, windows: Tensor, lengths: Optional[Tensor] = None) -> Tensor:  # noqa: UP045
        """[B, T, C] -> [B, E], mean squares as `DetectorSpec.features` names them."""
        found, read = self._banks(windows)
        return torch.cat([found, self.network.errors(read, self._lengths(lengths)).square()], dim=1)

    def _banks(self, windows: Tensor) -> Tuple[Tensor, Tensor]:  # noqa: UP006
        """-> the features of the banks [B, e], and what the network reads [B, Tn, inputs]."""
        x = windows.index_select(2, self.targets)
        found: List[Tensor] = [x.new_zeros([x.size(0), 0])]  # noqa: UP006
        read = windows[:, windows.size(1) - self.network_window :].index_select(2, self.inputs)
        for i, bank in enumerate(self.residuals):
            rest, left = bank(x)
            found.append(left)
            if i == self.whitener:
                read = rest / self.rest_scale
        for bank in self.energies:
            found.append(bank(x))
        for bank in self.prototypes:
            found.append(bank(x))
        return torch.cat(found, dim=1), self._with_context(read, windows)

    # `errors` in three parts, so that an executor may put another recurrence between the first and the last.

    @torch.jit.export
    def opened(self, windows: Tensor) -> Tuple[Tensor, Tensor, Tensor, Tensor]:  # noqa: UP006
        """[B, T, C] -> features of the banks, what the network reads, its rest [B, L, inputs], coordinates."""
        found, read = self._banks(windows)
        rest, coordinates = self.network.rest(read, None)
        return found, read, rest, coordinates

    @torch.jit.export
    def closed(
        self,
        found: Tensor,
        read: Tensor,
        rest: Tensor,
        coordinates: Tensor,
        code: Tensor,
        rebuilt: Tensor,
        foreseen: Tensor,
    ) -> Tensor:
        """What `opened` gave, code [B, 2H] and frames as decoded -> [B, E] as `errors`."""
        errors = self.network.judge(read, rest, coordinates, code, rebuilt, foreseen)
        return torch.cat([found, errors.square()], dim=1)

    @torch.jit.export
    def looped(self, windows: Tensor) -> Tensor:
        """`errors` with the recurrence of `model.loop`; only where `NetworkSpec.arranged`."""
        found, read, rest, coordinates = self.opened(windows)
        code, rebuilt, foreseen = self.network.recur(rest)
        return self.closed(found, read, rest, coordinates, code, rebuilt, foreseen)

    @torch.jit.export
    def reconstruct(self, windows: Tensor, lengths: Optional[Tensor] = None) -> Tensor:  # noqa: UP045
        """[B, T, C] -> [B, L, Q], the history as all linear and recurrent parts of the network's window rebuild it."""
        read, off = self._split(windows)
        out = self.network.reconstruct(read, self._lengths(lengths))
        if self.whiten:
            return out * self.rest_scale + off[:, : out.size(1)]
        return out

    @torch.jit.export
    def forecast(self, windows: Tensor, lengths: Optional[Tensor] = None) -> Tensor:  # noqa: UP045
        """[B, T, C] -> [B, K, Q], the last K rows as foreseen from those before.

        Where the network whitens, its linear part has seen those rows; only the recurrent part has not.
        """
        read, off = self._split(windows)
        out = self.network.forecast(read, self._lengths(lengths))
        if self.whiten:
            return out * self.rest_scale + off[:, self.network_window - out.size(1) :]
        return out

    @torch.jit.export
    def encode(self, windows: Tensor, lengths: Optional[Tensor] = None) -> Tensor:  # noqa: UP045
        """[B, T, C] -> [B, Z], the network's code (see `EncoderDecoder.encode`) of what it reads."""
        return self.network.encode(self._split(windows)[0], self._lengths(lengths))
