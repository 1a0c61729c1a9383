"""The network family: an encoder that keeps one state, and decoders that have nothing else to go by.

Only the encoder's final state crosses to a decoder: it starts the decoder and its h is fed at every step (per-step
outputs would allow the identity). Reconstruction runs backwards in time by default, so its first target is the row
just read; it is turned round again, by true length, before anything looks at it. A low-rank linear path may run
in parallel: a projection of the flattened history onto principal components, with a linear forecast from the same
coordinates; the recurrent part then models what is left. Nothing on either path sees the rows to be forecast.

Shapes as in `core.types`; L = T - K rows of history, Q target channels. `lengths[B]` (int64) counts each window's true
rows including its K forecast rows; None means all T. Matrix products pad their operands to whole blocks, which is what
makes a window's result independent, to the bit, of the batch that it came in (CPU).

Initialisation (Glorot input, orthogonal recurrent weights per gate, forget bias 1) follows Jozefowicz et al. (2015).
"""

from typing import Final, List, Optional, Tuple  # noqa: UP035  TorchScript reads these names

import torch
from torch import Tensor, nn

from streamae.model.layers import affine, square_sum
from streamae.model.loop import encode_loop
from streamae.model.recurrent import Recurrent, RecurrentDecoder
from streamae.model.spec import NetworkSpec

__all__ = ["METHODS", "EncoderDecoder"]

METHODS = ("errors", "reconstruct", "forecast", "encode")  # what a scripted network offers


class EncoderDecoder(nn.Module):
    """One member of the family, as its `NetworkSpec` says; `torch.jit.script` takes every one of them.

    The buffers are fitted, not trained: `linear_*` and `residual_scale` by `training.fit` before the first step,
    `code_*` after the last.
    """

    reconstructs: Final[bool]
    forecasts: Final[bool]
    has_linear: Final[bool]
    has_code: Final[bool]
    is_lstm: Final[bool]
    backwards: Final[bool]
    arranged: Final[bool]
    window: Final[int]
    horizon: Final[int]
    history: Final[int]
    tail: Final[int]

    linear_mean: Tensor
    linear_basis: Tensor
    linear_ahead: Tensor
    linear_ahead_mean: Tensor
    residual_scale: Tensor
    ahead_scale: Tensor
    code_center: Tensor
    code_spread: Tensor
    targets: Tensor

    def __init__(self, spec: NetworkSpec) -> None:
        super().__init__()
        self.reconstructs, self.forecasts = spec.reconstructs, spec.forecasts
        self.has_linear, self.has_code = spec.linear_rank > 0, spec.code_distance
        self.is_lstm, self.backwards = spec.cell == "lstm", spec.reversed
        self.arranged = spec.arranged
        self.window, self.horizon, self.history = spec.window, spec.horizon, spec.history
        self.tail = spec.tail or spec.history
        self.encoder = Recurrent(spec.channels, spec)
        if self.reconstructs:
            self.reconstructor = RecurrentDecoder(spec)
        if self.forecasts:
            self.forecaster = RecurrentDecoder(spec)
        flat, ahead, rank = spec.history * spec.channels, spec.horizon * len(spec.targets), max(spec.linear_rank, 1)
        self.register_buffer("targets", torch.tensor(spec.targets, dtype=torch.long))
        self.register_buffer("linear_mean", torch.zeros(flat))
        self.register_buffer("linear_basis", torch.zeros(rank, flat))
        self.register_buffer("linear_ahead", torch.zeros(ahead, rank))
        self.register_buffer("linear_ahead_mean", torch.zeros(ahead))
        self.register_buffer("residual_scale", torch.ones(spec.channels))
        self.register_buffer("ahead_scale", torch.ones(len(spec.targets)))
        self.register_buffer("code_center", torch.zeros(spec.code_size))
        self.register_buffer("code_spread", torch.ones(spec.code_size))

    # ---- the window, cut into what the encoder may see and what is to be forecast

    def _lengths(self, windows: Tensor, lengths: Optional[Tensor]) -> Tensor:  # noqa: UP045
        """True rows of history, [B]."""
        if lengths is None:
            return torch.full([windows.size(0)], self.history, dtype=torch.long, device=windows.device)
        return lengths.to(windows.device) - self.horizon

    def _past(self, windows: Tensor, lengths: Optional[Tensor]) -> Tensor:  # noqa: UP045
        """[B, T, C] -> [B, L, C], zero beyond the true length."""
        past = windows[:, : self.history]
        if lengths is None:
            return past
        row = torch.arange(self.history, device=windows.device)
        inside = row.unsqueeze(0) < self._lengths(windows, lengths).unsqueeze(1)
        return torch.where(inside.unsqueeze(2), past, torch.zeros_like(past))

    def _ahead(self, windows: Tensor, lengths: Optional[Tensor]) -> Tensor:  # noqa: UP045
        """The K target rows after the true history, [B, K, Q]."""
        if lengths is None:
            return windows[:, self.history :].index_select(2, self.targets)
        step = torch.arange(self.horizon, device=windows.device)
        row = self._lengths(windows, lengths).unsqueeze(1) + step.unsqueeze(0)
        rows = torch.gather(windows, 1, row.unsqueeze(2).expand(-1, -1, windows.size(2)))
        return rows.index_select(2, self.targets)

    def _turn(self, frames: Tensor, lengths: Optional[Tensor]) -> Tensor:  # noqa: UP045
        """Reverse [B, L, Q] within each true length; its own inverse."""
        if not self.backwards:
            return frames
        if lengths is None:
            return frames.flip([1])
        row = torch.arange(self.history, device=frames.device)
        index = self._lengths(frames, lengths).unsqueeze(1) - 1 - row.unsqueeze(0)
        index = torch.where(index < 0, row.unsqueeze(0), index)
        return torch.gather(frames, 1, index.unsqueeze(2).expand(-1, -1, frames.size(2)))

    # ---- the two paths

    def _linear(self, past: Tensor) -> Tensor:
        """Coordinates on the principal components, [B, rank]; padding counts as the mean only where it is the mean."""
        return affine(past.reshape(past.size(0), -1) - self.linear_mean, self.linear_basis, None)

    def _smooth(self, coordinates: Tensor) -> Tensor:
        """What the linear path makes of the history, [B, L, C]."""
        flat = affine(coordinates, self.linear_basis.t().contiguous(), self.linear_mean)
        return flat.view(coordinates.size(0), self.history, -1)

    def rest(self, windows: Tensor, lengths: Optional[Tensor]) -> Tuple[Tensor, Tensor]:  # noqa: UP006, UP045
        """-> what the linear path leaves of the history, [B, L, C], in units of its scale; linear coordinates."""
        past = self._past(windows, lengths)
        coordinates = torch.zeros([past.size(0), self.linear_basis.size(0)], dtype=past.dtype, device=past.device)
        if self.has_linear:
            coordinates = self._linear(past)
            past = past - self._smooth(coordinates)
        return past / self.residual_scale, coordinates

    def _read(self, windows: Tensor, lengths: Optional[Tensor]) -> Tuple[Tensor, Tensor, Tensor]:  # noqa: UP006, UP045
        """-> rest of the history, final state, linear coordinates."""
        rest, coordinates = self.rest(windows, lengths)
        if lengths is None:
            return rest, self.encoder(rest, self.encoder.start(rest))[1], coordinates
        return rest, self.encoder.final(rest, self._lengths(windows, lengths)), coordinates

    def _rebuild(self, rest: Tensor, state: Tensor, lengths: Optional[Tensor]) -> Tensor:  # noqa: UP045
        """Rest of the history as the recurrent path sees it, [B, L, Q], in time order."""
        truth = self._turn(rest.index_select(2, self.targets), lengths)
        return self._turn(self.reconstructor(state, torch.zeros_like(truth[:, 0]), truth), lengths)

    def _linear_ahead(self, coordinates: Tensor, like: Tensor) -> Tensor:
        if self.has_linear:
            return affine(coordinates, self.linear_ahead, self.linear_ahead_mean).view(like.size(0), self.horizon, -1)
        return torch.zeros_like(like)

    def _foresee(
        self,
        rest: Tensor,
        state: Tensor,
        ahead: Tensor,
        lengths: Optional[Tensor],  # noqa: UP045
    ) -> Tensor:
        """Rest of the K rows ahead, [B, K, Q]; `ahead` (a rest too) is read only by a decoder that is fed the truth."""
        last = self._lengths(rest, lengths) - 1
        last_rest = torch.gather(rest, 1, last.view(-1, 1, 1).expand(-1, 1, rest.size(2))).squeeze(1)
        foreseen: Tensor = self.forecaster(state, last_rest.index_select(1, self.targets), ahead)
        return foreseen

    # ---- what is exported

    @torch.jit.export
    def reconstruct(self, windows: Tensor, lengths: Optional[Tensor] = None) -> Tensor:  # noqa: UP045
        """[B, T, C] -> [B, L, Q], the history as rebuilt from the code, in time order; empty for pure prediction."""
        rest, state, coordinates = self._read(windows, lengths)
        if self.reconstructs:
            out = self._rebuild(rest, state, lengths) * self.residual_scale.index_select(0, self.targets)
            if self.has_linear:
                out = out + self._smooth(coordinates).index_select(2, self.targets)
            return out
        return rest.new_zeros([rest.size(0), 0, self.targets.size(0)])

    @torch.jit.export
    def forecast(self, windows: Tensor, lengths: Optional[Tensor] = None) -> Tensor:  # noqa: UP045
        """[B, T, C] -> [B, K, Q], the last K rows as foreseen from the first T - K; empty for pure reconstruction."""
        rest, state, coordinates = self._read(windows, lengths)
        if self.forecasts:
            ahead = self._ahead(windows, lengths)
            base = self._linear_ahead(coordinates, ahead)
            truth = (ahead - base) / self.ahead_scale
            return base + self._foresee(rest, state, truth, lengths) * self.ahead_scale
        return rest.new_zeros([rest.size(0), 0, self.targets.size(0)])

    @torch.jit.export
    def encode(self, windows: Tensor, lengths: Optional[Tensor] = None) -> Tensor:  # noqa: UP045
        """[B, T, C] -> [B, Z]: the top layer's h after the last history row, its c (LSTM), linear coordinates."""
        _, state, coordinates = self._read(windows, lengths)
        return self._code(state, coordinates)

    def _code(self, state: Tensor, coordinates: Tensor) -> Tensor:
        parts = [state[0, -1], state[1, -1]] if self.is_lstm else [state[0, -1]]
        if self.has_linear:
            parts.append(coordinates)
        return torch.cat(parts, dim=1)

    @torch.jit.export
    def errors(self, windows: Tensor, lengths: Optional[Tensor] = None) -> Tensor:  # noqa: UP045
        """[B, T, C] -> [B, E] as `NetworkSpec.features` names them: RMSE per target, and the distance of the code.

        With `lengths`, sums run over true rows and are divided by how many those are.
        """
        rest, state, coordinates = self._read(windows, lengths)
        rebuilt = rest.new_zeros([rest.size(0), 0, self.targets.size(0)])
        foreseen = rebuilt
        if self.reconstructs:
            rebuilt = self._rebuild(rest, state, lengths)
        if self.forecasts:
            truth = self._rest_ahead(windows, coordinates, lengths)
            foreseen = self._foresee(rest, state, truth, lengths)
        return self._judge(windows, lengths, rest, coordinates, state, rebuilt, foreseen)

    def _rest_ahead(self, windows: Tensor, coordinates: Tensor, lengths: Optional[Tensor]) -> Tensor:  # noqa: UP045
        """What the linear path leaves of the rows ahead, [B, K, Q], in units of its scale."""
        ahead = self._ahead(windows, lengths)
        return (ahead - self._linear_ahead(coordinates, ahead)) / self.ahead_scale

    def _judge(
        self,
        windows: Tensor,
        lengths: Optional[Tensor],  # noqa: UP045
        rest: Tensor,
        coordinates: Tensor,
        state: Tensor,
        rebuilt: Tensor,
        foreseen: Tensor,
    ) -> Tensor:
        """Compare what the recurrent parts return with the window: see `errors`."""
        true = self._lengths(windows, lengths)
        found: List[Tensor] = []  # noqa: UP006
        if self.reconstructs:
            miss = rest.index_select(2, self.targets) - rebuilt
            row = torch.arange(self.history, device=rest.device).unsqueeze(0)
            counted = (row < true.unsqueeze(1)) & (row >= (true - self.tail).unsqueeze(1))
            miss = torch.where(counted.unsqueeze(2), miss, torch.zeros_like(miss))
            count = torch.clamp(true, max=self.tail).unsqueeze(1)
            found.append((square_sum(miss) / count).sqrt() * self.residual_scale.index_select(0, self.targets))
        if self.forecasts:
            miss = self._rest_ahead(windows, coordinates, lengths) - foreseen
            found.append((square_sum(miss) / self.horizon).sqrt() * self.ahead_scale)
        if self.has_code:
            away = (self._code(state, coordinates) - self.code_center) / self.code_spread
            found.append((square_sum(away.unsqueeze(2)) / away.size(1)).sqrt())
        return torch.cat(found, dim=1)

    # ---- the recurrence by other means: one layer of LSTM, unconditional decoders, full windows

    def recur(self, rest: Tensor) -> Tuple[Tensor, Tensor, Tensor]:  # noqa: UP006
        """`model.loop` on the rest [B, L, C] -> code [B, 2H], frames [B, L, Q] and [B, K, Q] as decoded."""
        rebuilt = rest.new_zeros([rest.size(0), 0, self.targets.size(0)])
        foreseen = rebuilt
        code = rebuilt
        if self.arranged:
            h, c = encode_loop(rest, self.encoder.rnn._flat_weights)
            code = torch.cat([2.0 * h, 0.5 * c]).t().contiguous()
            if self.reconstructs:
                rebuilt = self.reconstructor.loop(h, c, self.history)
            if self.forecasts:
                foreseen = self.forecaster.loop(h, c, self.horizon)
        return code, rebuilt, foreseen

    def judge(
        self, windows: Tensor, rest: Tensor, coordinates: Tensor, code: Tensor, rebuilt: Tensor, foreseen: Tensor
    ) -> Tensor:
        """`errors` from what `recur`, or anything that computes the same, made of the rest."""
        state = torch.stack(torch.chunk(code, 2, dim=1)).unsqueeze(1)
        return self._judge(windows, None, rest, coordinates, state, self._turn(rebuilt, None), foreseen)

    def loss(self, windows: Tensor, lengths: Optional[Tensor] = None) -> Tensor:  # noqa: UP045
        """Summed losses of the tasks, each divided by its own number of (true) rows and in units of its scale."""
        rest, state, coordinates = self._read(windows, lengths)
        true = self._lengths(windows, lengths)
        total = rest.new_zeros([])
        if self.reconstructs:
            miss = rest.index_select(2, self.targets) - self._rebuild(rest, state, lengths)
            inside = torch.arange(self.history, device=rest.device).unsqueeze(0) < true.unsqueeze(1)
            miss = miss * inside.unsqueeze(2)
            total = total + (miss.square().sum(dim=1) / true.unsqueeze(1)).mean()
        if self.forecasts:
            truth = self._rest_ahead(windows, coordinates, lengths)
            total = total + (truth - self._foresee(rest, state, truth, lengths)).square().mean()
        return total
