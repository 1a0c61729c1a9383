"""The contract of `streamae.model.runtime`."""

import numpy as np
import pytest
import torch

from streamae.model.detector import DetectorNetwork
from streamae.model.export import script
from streamae.model.network import EncoderDecoder
from streamae.model.runtime import TorchReconstructor, choose_device
from streamae.model.spec import DetectorSpec, NetworkSpec

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


@pytest.mark.parametrize("channels", [1, 3, 7])
def test_a_detector_gives_the_same_bits_in_a_batch_of_any_size(channels):
    """Banks keep the law of the network: sums and projections of a window do not depend on its batch."""
    torch.manual_seed(channels)
    several = channels > 1
    window = 40 if several else 96
    network = NetworkSpec(
        channels=channels, targets=tuple(range(channels)), window=40 if several else 64, horizon=8, task="composite"
    )  # fmt: skip
    spec = DetectorSpec(
        channels=channels, targets=tuple(range(channels)), network=network, whiten=several,
        residuals=((5, 2), (10, 3), (20, 7), (40, 11)) if several else ((64, 5),),
        energies=((32, 4),), prototypes=((32, 16), (window, 16)),
    )  # fmt: skip
    detector = DetectorNetwork(spec)
    for name, buffer in detector.named_buffers():
        if name.endswith(("basis", "centers", "mean")):
            buffer.normal_(std=0.3)
    runner = TorchReconstructor(script(detector), spec)
    windows = np.random.default_rng(0).normal(size=(300, window, channels)).astype(np.float32)
    whole = runner.errors(windows)
    assert whole.shape == (300, len(spec.features()))
    assert (whole >= 0).all()
    for size in BATCHES:
        parts = np.concatenate([runner.errors(windows[i : i + size]) for i in range(0, 300, size)])
        assert np.array_equal(parts, whole), f"batches of {size} differ by {np.abs(parts - whole).max()}"
    assert np.isfinite(runner.errors(np.full((2, window, channels), 1e6, np.float32))).all()
