"""The recurrence as a loop over well-arranged matrix products, in plain TorchScript.

nn.LSTM multiplies a decoder's constant input with its weights again at every step, and pays for tanh. Here

    state is kept as [H, B], so that the gates are slices of whole rows
    tanh(x) = 2 sigmoid(2x) - 1: with the rows of g doubled, one sigmoid_ in place serves all four gates
    2c and h/2 are carried, so that the constants of those identities vanish into the weights
    the encoder's input and bias are further rows of its state; the decoder's constant input is multiplied once

With C = 2c a step is C <- f C + 4 i sigmoid(2g) - 2 i and h/2 = o sigmoid(C) - o/2. It pays in large batches. What is
left is near the processor's limit: the matrix product is six tenths of a step, the sigmoids are three.
"""

from typing import List, Tuple  # noqa: UP035  TorchScript reads these names

import torch
from torch import Tensor

__all__ = ["arranged", "decode_loop", "encode_loop", "loop_step"]


def arranged(weight: Tensor) -> Tensor:
    """Rows of i, f, g, o -> i, f, o, 2g."""
    hidden = weight.size(0) // 4
    return torch.cat([weight[: 2 * hidden], weight[3 * hidden :], 2.0 * weight[2 * hidden : 3 * hidden]])


def loop_step(gates: List[Tensor], c: Tensor, spare: Tensor, h: Tensor) -> None:  # noqa: UP006
    """From gate sums (all [4H, B], then its views i, f, o, g) to c (doubled) and h (halved), [H, B], in place."""
    gates[0].sigmoid_()
    i, o = gates[1], gates[3]
    c.mul_(gates[2]).addcmul_(i, gates[4], value=4.0).sub_(i, alpha=2.0)
    torch.sigmoid(c, out=spare)
    torch.mul(o, spare, out=h).sub_(o, alpha=0.5)


def _gates(like: Tensor) -> List[Tensor]:  # noqa: UP006
    """Room for the gate sums of a state like this [H, B]: all of it [4H, B], and views of i, f, o, g."""
    room = torch.empty([4 * like.size(0), like.size(1)], dtype=like.dtype, device=like.device)
    return [room] + list(torch.chunk(room, 4))  # noqa: RUF005  TorchScript knows no star here


def encode_loop(x: Tensor, weights: List[Tensor]) -> Tuple[Tensor, Tensor]:  # noqa: UP006
    """[B, L, C] -> the final state, h halved and c doubled, each [H, B]; weights as nn.LSTM holds them."""
    weight_ih, weight_hh, bias = weights[0], weights[1], weights[2] + weights[3]
    B, C, hidden = x.size(0), x.size(2), weight_hh.size(1)
    weight = torch.cat([2.0 * arranged(weight_hh), arranged(weight_ih), arranged(bias.unsqueeze(1))], 1)
    rows = x.permute(1, 2, 0).contiguous()
    fed = torch.zeros([hidden + C + 1, B], dtype=x.dtype, device=x.device)
    fed[hidden + C].fill_(1.0)
    h, slot = fed[:hidden], fed[hidden : hidden + C]
    c, spare, gates = torch.zeros_like(h), torch.empty_like(h), _gates(h)
    for t in range(rows.size(0)):
        slot.copy_(rows[t])
        torch.mm(weight, fed, out=gates[0])
        loop_step(gates, c, spare, h)
    return h.clone(), c


def decode_loop(
    h: Tensor,
    c: Tensor,
    steps: int,
    weights: List[Tensor],  # noqa: UP006
    readout: Tensor,
    readout_bias: Tensor,
) -> Tensor:
    """The code (h halved, c doubled, [H, B]) fed at each of `steps` steps -> frames [B, steps, Q]."""
    weight_ih, weight_hh, bias = weights[0], weights[1], weights[2] + weights[3]
    fed = torch.addmm(arranged(bias.unsqueeze(1)), 2.0 * arranged(weight_ih), h)
    weight = 2.0 * arranged(weight_hh)
    double = 2.0 * readout
    h, c = h.clone(), c.clone()
    spare, gates = torch.empty_like(h), _gates(h)
    frames = torch.empty([steps, readout.size(0), h.size(1)], dtype=h.dtype, device=h.device)
    for t in range(steps):
        torch.addmm(fed, weight, h, out=gates[0])
        loop_step(gates, c, spare, h)
        torch.mm(double, h, out=frames[t])
    return (frames + readout_bias.view(1, -1, 1)).permute(2, 0, 1).contiguous()
