"""Sums and products whose bits do not depend on the batch, and the initialisation of recurrent layers.

A matrix product pads its operands to whole blocks, and a sum over rows has one order; otherwise the same window could
give another last bit in another batch, and a replay another score.
"""

from typing import Optional

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["affine", "initialise", "square_sum"]


def affine(x: Tensor, weight: Tensor, bias: Optional[Tensor]) -> Tensor:  # noqa: UP045
    """[n, k] x [m, k] -> [n, m], the same bits for a row for every n."""
    n, k = x.size(0), x.size(1)
    wide = (8 - k % 8) % 8  # rows of other lengths are aligned differently from one to the next
    padded = functional.pad(x, [0, wide, 0, (16 - n % 16) % 16])
    return functional.linear(padded, functional.pad(weight, [0, wide]), bias)[:n]


def square_sum(x: Tensor) -> Tensor:
    """[B, n, Q] -> [B, Q], sums of squares over n: halves added to halves, an order that no batch changes."""
    size = 1
    while size < x.size(1):
        size *= 2
    squares = functional.pad(x * x, [0, 0, 0, size - x.size(1)])
    while size > 1:
        size = size // 2
        squares = squares[:, :size] + squares[:, size:]
    return squares[:, 0]


def initialise(rnn: nn.RNNBase, hidden: int) -> None:
    """Glorot for input weights, orthogonal for each gate's recurrent weights, 1 for the forget gate in one bias."""
    for name, weight in rnn.named_parameters():
        if name.startswith("weight_ih"):
            nn.init.xavier_uniform_(weight)
        elif name.startswith("weight_hh"):
            for gate in torch.chunk(weight.detach(), weight.shape[0] // hidden):
                nn.init.orthogonal_(gate)
        else:
            nn.init.zeros_(weight)
            if isinstance(rnn, nn.LSTM) and name.startswith("bias_ih"):
                weight.detach()[hidden : 2 * hidden].fill_(1.0)
