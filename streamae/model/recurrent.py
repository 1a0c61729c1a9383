"""The recurrent layers of the family: a cell with one signature for LSTM and GRU, and the decoder that unrolls a code.

Only the final state of an encoder goes anywhere, and a decoder has nothing but that state and, where it is
conditional, the frame before. Shapes as in `core.types`; state[1 or 2, layers, B, H] holds h and, for an LSTM, c.
"""

from typing import Any, Final, List, Tuple  # noqa: UP035  TorchScript reads these names

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

from streamae.model.layers import affine, initialise
from streamae.model.loop import decode_loop
from streamae.model.spec import NetworkSpec

__all__ = ["Recurrent", "RecurrentDecoder"]


class Recurrent(nn.Module):
    """LSTM or GRU with one signature; state[1 or 2, layers, B, H] holds h and, for an LSTM, c."""

    is_lstm: Final[bool]

    def __init__(self, inputs: int, spec: NetworkSpec) -> None:
        super().__init__()
        self.is_lstm = spec.cell == "lstm"
        kind = nn.LSTM if self.is_lstm else nn.GRU
        rnn: Any = kind(inputs, spec.hidden, spec.layers, batch_first=True)
        self.rnn = rnn
        self.state_shape: List[int] = [2 if self.is_lstm else 1, spec.layers, spec.hidden]  # noqa: UP006
        initialise(self.rnn, spec.hidden)

    def start(self, x: Tensor) -> Tensor:
        """The state before the first row of x [B, ...]: zeros."""
        a, layers, hidden = self.state_shape
        return torch.zeros([a, layers, x.size(0), hidden], dtype=x.dtype, device=x.device)

    def forward(self, x: Tensor, state: Tensor) -> Tuple[Tensor, Tensor]:  # noqa: UP006
        """Run x [B, n, inputs] from a state -> the top layer's h at each row, [B, n, H], and the last state."""
        if self.is_lstm:
            out, (h, c) = self.rnn(x, (state[0], state[1]))
            return out, torch.stack([h, c])
        else:  # noqa: RET505  the scripter compiles only the branch that a constant selects
            out, h = self.rnn(x, state[0])
            return out, torch.stack([h])

    def final(self, x: Tensor, lengths: Tensor) -> Tensor:
        """State after each window's own last row, never after its padding."""
        packed = pack_padded_sequence(x, lengths.cpu(), batch_first=True, enforce_sorted=False)
        state = self.start(x)
        if self.is_lstm:
            _, (h, c) = self.rnn(packed, (state[0], state[1]))
            return torch.stack([h, c])
        else:  # noqa: RET505
            _, h = self.rnn(packed, state[0])
            return torch.stack([h])


class RecurrentDecoder(nn.Module):
    """Unrolls a code into frames of the Q target channels; the mode says what it is fed besides the code."""

    conditional: Final[bool]
    teacher: Final[bool]
    loops: Final[bool]

    def __init__(self, spec: NetworkSpec) -> None:
        super().__init__()
        self.conditional = spec.decoder != "unconditional"
        self.teacher = spec.decoder == "conditional_teacher"
        self.loops = spec.arranged
        targets = len(spec.targets)
        self.cell = Recurrent(spec.hidden + (targets if self.conditional else 0), spec)
        self.readout = nn.Linear(spec.hidden, targets)
        nn.init.xavier_uniform_(self.readout.weight)
        nn.init.zeros_(self.readout.bias)

    def frames(self, out: Tensor) -> Tensor:
        """Read frames [B, n, Q] out of h [B, n, H]."""
        flat = affine(out.reshape(-1, out.size(2)), self.readout.weight, self.readout.bias)
        return flat.view(out.size(0), out.size(1), flat.size(1))

    def forward(self, state: Tensor, first: Tensor, truth: Tensor) -> Tensor:
        """state, first [B, Q] (the frame before the first step), truth [B, n, Q] -> [B, n, Q]."""
        code = state[0, -1].unsqueeze(1)
        steps = truth.size(1)
        if not self.conditional:
            return self.frames(self.cell(code.expand(-1, steps, -1), state)[0])
        if self.training or self.teacher:
            previous = torch.cat([first.unsqueeze(1), truth[:, :-1]], dim=1)
            fed = torch.cat([code.expand(-1, steps, -1), previous], dim=2)
            return self.frames(self.cell(fed, state)[0])
        outputs: List[Tensor] = []  # noqa: UP006
        frame = first.unsqueeze(1)
        for _ in range(steps):
            out, state = self.cell(torch.cat([code, frame], dim=2), state)
            frame = self.frames(out)
            outputs.append(frame)
        return torch.cat(outputs, dim=1)

    def loop(self, h: Tensor, c: Tensor, steps: int) -> Tensor:
        """`forward` of an unconditional one-layer LSTM by `model.loop`, from h halved and c doubled, [H, B]."""
        if self.loops:
            return decode_loop(h, c, steps, self.cell.rnn._flat_weights, self.readout.weight, self.readout.bias)
        return h.new_zeros([0])
