"""The contract of `streamae.model.runtime`."""

import numpy as np
import pytest
import torch

from streamae.model.export import script
from streamae.model.network import EncoderDecoder
from streamae.model.runtime import TorchReconstructor, choose_device
from streamae.model.spec import NetworkSpec

BATCHES = (1, 2, 3, 7, 16, 17, 33, 100, 256, 257, 300)


@pytest.mark.parametrize("cell", ["lstm", "gru"])
@pytest.mark.parametrize("rank", [0, 5])
@pytest.mark.parametrize("decoder", ["unconditional", "conditional_free"])
def test_a_window_gives_the_same_bits_in_a_batch_of_any_size(cell, rank, decoder):
    torch.manual_seed(0)
    spec = NetworkSpec(
        channels=4, targets=(0, 1, 3), window=24, horizon=2, task="composite", cell=cell, linear_rank=rank,
        decoder=decoder, code_distance=True,
    )  # fmt: skip
    network = EncoderDecoder(spec)
    network.linear_basis.normal_(std=0.1)
    network.linear_ahead.normal_()
    runner = TorchReconstructor(script(network), spec)
    windows = np.random.default_rng(0).normal(size=(300, 24, 4)).astype(np.float32)
    whole = runner.errors(windows)
    for size in BATCHES:
        parts = np.concatenate([runner.errors(windows[i : i + size]) for i in range(0, 300, size)])
        assert np.array_equal(parts, whole), f"batches of {size} differ by {np.abs(parts - whole).max()}"
    assert runner.errors(windows[:0]).shape == (0, len(spec.features()))


def test_an_unknown_or_absent_device_is_refused_by_name():
    with pytest.raises(ValueError, match="auto, cpu or cuda"):
        choose_device("tpu")
    assert choose_device("cpu") == "cpu"
