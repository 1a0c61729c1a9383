"""What a step of the recurrence costs where it is made of nothing but calls that TorchScript has.

A step of hidden 64 over a batch is a matrix product and five sigmoids to a state; the loop of `model.loop` adds a few
passes to these. Against the scripted and frozen nn.LSTM, which multiplies a decoder's constant input at every step,
no arrangement can therefore gain more than those two calls leave. The other bound stands beside it: the steps of
nn.LSTM's own encoder, which has no constant input, taken for the decoder too.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from streamae.bench.rounds import BenchTable, Line, by_turns
from streamae.model.loop import decode_loop, encode_loop
from streamae.model.runtime import prepare_torch

__all__ = ["steps"]

_B, _H, _T = 256, 64, 64
_CALLS = 8  # of a recurrence of _T steps, in a round


def steps(rounds: int) -> BenchTable:
    """CPU time a step, batch 256, hidden 64, one channel, and what follows for the ratio to nn.LSTM."""
    prepare_torch()
    with torch.inference_mode():
        ways = _ways()
    took = by_turns(ways, dict.fromkeys(ways, _CALLS * _T), 4 * rounds)
    us = {name: timing.cpu_us for name, timing in took.items()}
    section = BenchTable(
        "a step of lstm64, batch 256",
        "CPU time, and what a window would gain on nn.LSTM if a step of the encoder and of the decoder cost no more.",
    )
    for name, kflop in (("torch.mm alone", 2e-3 * 4 * _H * _H * _B), ("five sigmoids to a state alone", 0.0)):
        figures: dict[str, float | str] = {"us": us[name], "spread": took[name].spread}
        section.lines.append(Line(name, {"GFLOP/s": kflop / us[name], **figures} if kflop else figures))
    theirs = us["nn.LSTM, encoder"] + us["nn.LSTM, decoder"]
    ours = us["loop, encoder"] + us["loop, decoder"]
    for name in ("nn.LSTM, encoder", "nn.LSTM, decoder", "loop, encoder", "loop, decoder"):
        section.lines.append(Line(name, {"us": us[name], "spread": took[name].spread}))
    alone = us["torch.mm alone"] + us["five sigmoids to a state alone"]
    bounds = {"the loop": ours, "the two calls alone": 2 * alone, "nn.LSTM's encoder twice": 2 * us["nn.LSTM, encoder"]}
    section.lines += [Line(f"gain of {name}", {"on nn.LSTM, x": theirs / total}) for name, total in bounds.items()]
    return section


def _ways() -> dict[str, Callable[[], object]]:
    torch.manual_seed(0)
    W, h, gates, c = torch.randn(4 * _H, _H) / 8, torch.randn(_H, _B), torch.randn(4 * _H, _B), torch.randn(_H, _B)
    room, spare = torch.empty(4 * _H, _B), torch.empty(_H, _B)
    x, code = torch.randn(_B, _T, 1), torch.randn(_H, _B) / 8
    encoder, decoder = _Run(1), _Run(_H)
    fed = code.t().unsqueeze(1).expand(-1, _T, -1)
    readout, bias = torch.randn(1, _H) / 8, torch.zeros(1)
    encode, decode = torch.jit.script(encode_loop), torch.jit.script(decode_loop)
    theirs, their_decoder = _frozen(encoder), _frozen(decoder)
    weights, more = encoder.rnn._flat_weights, decoder.rnn._flat_weights
    return {
        "torch.mm alone": _often(lambda: torch.mm(W, h, out=room), _CALLS * _T),
        "five sigmoids to a state alone": _often(lambda: _sigmoids(gates, c, room, spare), _CALLS * _T),
        "nn.LSTM, encoder": _often(lambda: theirs(x), _CALLS),
        "nn.LSTM, decoder": _often(lambda: their_decoder(fed), _CALLS),
        "loop, encoder": _often(lambda: encode(x, weights), _CALLS),
        "loop, decoder": _often(lambda: decode(code, code, _T, more, readout, bias), _CALLS),
    }


class _Run(nn.Module):
    """One layer of nn.LSTM, scripted: from x[B, T, C] to all of its outputs."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.rnn = nn.LSTM(inputs, _H, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.rnn(x)[0]
        return out


def _frozen(run: _Run) -> torch.jit.ScriptModule:
    frozen: torch.jit.ScriptModule = torch.jit.freeze(torch.jit.script(run.eval()))
    return frozen


def _sigmoids(gates: Tensor, c: Tensor, room: Tensor, spare: Tensor) -> None:
    torch.sigmoid(gates, out=room)
    torch.sigmoid(c, out=spare)


def _often(run: Callable[[], object], times: int) -> Callable[[], object]:
    def many() -> None:
        with torch.inference_mode():
            for _ in range(times):
                run()

    return many
