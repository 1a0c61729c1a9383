"""The contract of `streamae.model.executors`, `scorers`, `native` and `cuda`: fast ways that say the same."""

import importlib.util
import logging
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from streamae.model import executors, native, runtime, scorers
from streamae.model.cuda import BUCKETS, CudaExecutor, bucket_of
from streamae.model.detector import DetectorNetwork
from streamae.model.executor_options import ExecutorOptions
from streamae.model.executors import PARITY, Grouped, admitted
from streamae.model.export import script
from streamae.model.runtime import TorchReconstructor
from streamae.model.spec import DetectorSpec, NetworkSpec

BUILT = importlib.util.find_spec("streamae.model.native.lstm") is not None
WHY = "this processor has neither AVX2 nor AVX-512" if BUILT else "the native kernel is not built: apt-get install gcc"
needs_native = pytest.mark.skipif(not native.best_level(), reason=WHY)
BATCHES = (1, 2, 5, 7, 16, 17, 33, 70, 129, 300)


def bare(hidden=16, channels=1, **changes):
    options = {"channels": channels, "targets": tuple(range(channels)), "window": 20, "hidden": hidden} | changes
    network = NetworkSpec(**options)
    return DetectorSpec(channels=channels, targets=network.targets, network=network)


def pumps():
    """A detector with banks, as `train` designs it for several channels."""
    network = NetworkSpec(channels=3, targets=(0, 1, 2), window=20, horizon=5, task="composite", code_distance=True)
    return DetectorSpec(
        channels=3, targets=(0, 1, 2), network=network, residuals=((5, 2), (20, 4)), energies=((10, 3),),
        prototypes=((10, 8),), whiten=True,
    )  # fmt: skip


def detector(spec, seed=0):
    torch.manual_seed(seed)
    made = DetectorNetwork(spec)
    for name, buffer in made.named_buffers():
        if name.endswith(("basis", "centers", "mean")):
            buffer.normal_(std=0.3)
    for name, parameter in made.named_parameters():
        if "bias" in name:
            parameter.detach().add_(0.1 * torch.randn(parameter.shape))
    return script(made)


def windows(spec, count=300):
    return np.random.default_rng(0).normal(size=(count, spec.window, spec.channels)).astype(np.float32)


WAYS = ["module", "loop", pytest.param("native", marks=needs_native)]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("spec", [bare(), bare(64), bare(5, 2), pumps()], ids=["h16", "h64", "h5", "pumps"])
def test_every_way_agrees_with_the_module_and_is_its_own_to_the_bit_in_any_batch(spec, way):
    """The ways differ by less than PARITY; and one way gives a window the same bits in every batch."""
    scripted, x = detector(spec), windows(spec)
    wanted = TorchReconstructor(scripted, spec, means=ExecutorOptions("module")).errors(x)
    runner = TorchReconstructor(scripted, spec, means=ExecutorOptions(way))
    whole = runner.errors(x)
    assert runner.executor == way
    assert np.max(np.abs(whole - wanted) / np.maximum(1, np.abs(wanted))) <= PARITY
    for size in BATCHES:
        parts = np.concatenate([runner.errors(x[i : i + size]) for i in range(0, 300, size)])
        assert np.array_equal(parts, whole), f"batches of {size} differ by {np.abs(parts - whole).max()}"


@pytest.mark.parametrize("hidden", [16, 64])
def test_the_module_s_parts_of_large_batches_give_the_same_bits(hidden):
    """Sizes between and beyond those of a call: where windows are filled up, and where they are cut."""
    spec = bare(hidden, window=10)
    runner, x = TorchReconstructor(detector(spec), spec, means=ExecutorOptions("module")), windows(spec, 2048)
    whole = runner.errors(x)
    for count in (129, 257, 777, 1025):
        assert np.array_equal(runner.errors(x[5 : 5 + count]), whole[5 : 5 + count]), count


@given(st.integers(1, 10_000), st.sampled_from([1, 2, 8, 16]))
def test_a_batch_is_filled_up_by_less_than_a_multiple_or_a_thirty_second(count, multiple):
    """To a multiple, and to few sizes in all, for the libraries keep something for each size that they have seen."""
    filled = executors._filled(count, multiple)
    assert filled % multiple == 0
    assert 0 <= filled - count < max(multiple, count / 32 + 1)
    assert len({executors._filled(n, multiple) for n in range(1, 2049)}) <= 64 + 32 * 5


@pytest.mark.parametrize(("said", "policy"), [({}, "PASSIVE"), ({"OMP_WAIT_POLICY": "active"}, "ACTIVE")])
def test_threads_of_torch_sleep_when_they_have_nothing_to_do_unless_somebody_said_otherwise(said, policy):
    """OpenMP's own word on what it read, in a process in which the model was imported before torch."""
    env = {"PATH": os.environ["PATH"], "OMP_DISPLAY_ENV": "true", **said}
    code = [sys.executable, "-c", "import streamae.model.scorers"]
    done = subprocess.run(code, env=env, capture_output=True, text=True, check=True)
    assert f"OMP_WAIT_POLICY = '{policy}'" in done.stderr


def by_definition(weights, x, steps, name):
    """One window [L, C] through encoder and decoder in float64, gate by gate, as the textbook has it."""

    def step(rnn, row, h, c):
        w = {key: weights[f"{rnn}.{key}_l0"].astype(np.float64) for key in _KEYS}
        i, f, g, o = np.split(w["weight_ih"] @ row + w["bias_ih"] + w["weight_hh"] @ h + w["bias_hh"], 4)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        return sigmoid(o) * np.tanh(c), c

    h = c = np.zeros(weights["encoder.rnn.weight_hh_l0"].shape[1])
    for row in x.astype(np.float64):
        h, c = step("encoder.rnn", row, h, c)
    code, frames = h, []
    for _ in range(steps):
        h, c = step(f"{name}.cell.rnn", code, h, c)
        frames.append(weights[f"{name}.readout.weight"] @ h + weights[f"{name}.readout.bias"])
    return code, np.array(frames)


_KEYS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


@needs_native
@pytest.mark.parametrize(("hidden", "channels"), [(1, 1), (5, 3), (16, 1), (33, 17), (80, 2)])
def test_the_native_recurrence_is_the_lstm_of_the_textbook_on_every_instruction_set(hidden, channels):
    """Any hidden size and channel count; AVX2 and AVX-512 give the same bits, in pipelines and one by one."""
    spec = bare(hidden, channels, horizon=4, task="composite")
    made = detector(spec)
    weights = {name: p.detach().numpy() for name, p in made.network.named_parameters()}
    x = 3 * windows(spec, 70)[:, :16]
    levels = [level for level in native.LEVELS if 0 < level <= native.best_level()]
    shape = {"rows": 16, "horizon": 4, "targets": channels}
    found = [native.Recurrence(weights, **shape, level=level)(x) for level in levels]
    for others in found[1:]:
        assert all(np.array_equal(a, b) for a, b in zip(found[0], others, strict=True))
    one = native.Recurrence(weights, **shape, level=levels[0])
    alone = [np.concatenate(parts) for parts in zip(*(one(x[i : i + 1]) for i in range(70)), strict=True)]
    assert all(np.array_equal(a, b) for a, b in zip(found[0], alone, strict=True))
    for b in (0, 33, 69):
        for part, steps, name in ((1, 16, "reconstructor"), (2, 4, "forecaster")):
            code, frames = by_definition(weights, x[b], steps, name)
            np.testing.assert_allclose(found[0][0][b, :hidden], code, atol=2e-6)
            np.testing.assert_allclose(found[0][part][b], frames, atol=5e-6)


@needs_native
def test_the_native_recurrence_stays_finite_on_absurd_windows():
    spec = bare(8)
    runner = TorchReconstructor(detector(spec), spec, means=ExecutorOptions("native"))
    assert np.isfinite(runner.errors(np.full((40, 20, 1), 1e15, np.float32))).all()


def test_without_the_extra_the_module_is_taken_silently_and_native_by_name_is_refused(monkeypatch, caplog):
    monkeypatch.setattr(native, "_library", lambda: None)
    spec = bare()
    scripted = detector(spec)
    assert TorchReconstructor(scripted, spec).executor == "module"
    assert not caplog.records
    with pytest.raises(ValueError, match="executor native is not available"):
        TorchReconstructor(scripted, spec, means=ExecutorOptions("native"))


class Before(nn.Module):
    """What an archive offered before there was more than one way."""

    def __init__(self, made):
        super().__init__()
        self.made = made

    @torch.jit.export
    def errors(self, x: torch.Tensor, n: torch.Tensor | None = None) -> torch.Tensor:
        return self.made.errors(x, n)


def test_an_archive_of_before_the_ladder_still_runs():
    spec = bare()
    torch.manual_seed(0)
    runner = TorchReconstructor(torch.jit.script(Before(DetectorNetwork(spec)).eval()), spec)
    assert runner.executor == "module"
    assert runner.errors(windows(spec, 3)).shape == (3, 1)


@pytest.mark.parametrize("changes", [{"cell": "gru"}, {"layers": 2}, {"decoder": "conditional_free"}])
def test_a_network_that_only_the_module_can_run_is_run_by_it(changes):
    spec = bare(**changes)
    scripted = detector(spec)
    assert TorchReconstructor(scripted, spec).executor == "module"
    with pytest.raises(ValueError, match="executor loop is not available"):
        TorchReconstructor(scripted, spec, means=ExecutorOptions("loop"))
    with pytest.raises(ValueError, match="executor must be one of"):
        TorchReconstructor(scripted, spec, means=ExecutorOptions("fastest"))


class Off:
    """A way that is off by `by`, and says nothing of it."""

    name = "off"

    def __init__(self, by=0.0, noise=0.0):
        self.by, self.noise = by, noise

    def errors(self, windows):
        return np.abs(windows).sum(axis=1) * np.float32(1 + self.by) + np.float32(self.noise * len(windows))


def test_a_way_that_does_not_agree_is_not_admitted_and_said(caplog):
    """The control: without this gate a wrong kernel would score on."""
    probe = windows(bare(), 8)
    assert admitted(Off(1e-6), Off(), probe)
    with caplog.at_level(logging.WARNING):
        assert not admitted(Off(1e-4), Off(), probe)
    assert "executor off is off by" in caplog.text


class Clock:
    """Seconds that each way takes, in turn, in the order in which the ways are called."""

    def __init__(self, costs):
        self.costs, self.now, self.calls = costs, 0.0, 0

    def __call__(self):
        self.calls += 1
        if self.calls % 2 == 0:
            self.now += self.costs[(self.calls // 2 - 1) % len(self.costs)]
        return self.now


def test_by_batch_the_loop_is_taken_from_where_it_is_always_faster():
    base, loop, probe = Off(), Off(), np.zeros((48, 4, 1), np.float32)
    base.name, loop.name = "module", "loop"
    chosen = executors._by_batch(base, loop, probe, Clock([2.0, 1.0]))
    assert isinstance(chosen, Grouped)
    assert chosen.name == "module, loop from 32"
    assert executors._by_batch(base, loop, probe, Clock([1.0, 2.0])) is base


def test_the_loop_is_measured_one_window_above_each_size():
    """There its product is at its worst: what gains at a size may lose one above."""
    sizes, base, loop = set(), Off(), Off()
    base.name, loop.name = "module", "loop"
    loop.errors = lambda windows: sizes.add(len(windows)) or windows[:, 0]
    executors._by_batch(base, loop, np.zeros((48, 4, 1), np.float32), Clock([2.0, 1.0]))
    assert sizes == {size + 1 for size in executors._CROSSOVERS}


@pytest.fixture
def two_cores(monkeypatch):
    monkeypatch.setattr(scorers, "cores", lambda: 2)


@pytest.mark.parametrize(
    ("costs", "name"), [([4, 2, 3], "on 2 threads"), ([4, 3, 2], "torch threads"), ([4, 3.9, 4], "off")]
)
def test_the_faster_of_one_core_two_scorers_and_two_torch_threads_is_taken(two_cores, costs, name):
    assert scorers.choose_scorers(Off(), None, (4, 1), Clock(costs)).name.endswith(name)


def test_one_core_or_one_scorer_is_never_split(two_cores, monkeypatch):
    way = Off()
    assert scorers.choose_scorers(way, 1, (4, 1), Clock([4, 1, 1])) is way
    monkeypatch.setattr(scorers, "cores", lambda: 1)
    assert scorers.choose_scorers(way, 8, (4, 1), Clock([4, 1, 1])) is way


def test_a_way_whose_bits_depend_on_the_part_is_not_split(two_cores):
    """The control of the law that a result does not depend on how windows were grouped."""
    costs = [4, 1, 9]
    assert scorers.choose_scorers(Off(), None, (4, 1), Clock(costs)).name == "off on 2 threads"
    assert scorers.choose_scorers(Off(noise=1e-3), None, (4, 1), Clock(costs)).name == "off"


@pytest.mark.parametrize("way", WAYS)
def test_parts_of_a_batch_on_several_threads_give_the_bits_of_the_whole(way):
    spec = pumps()
    runner = TorchReconstructor(detector(spec), spec, means=ExecutorOptions(way))
    split = scorers.Scorers(runner._errors, 3)
    for count in (1, 255, 256, 300, 777, 1024):
        x = windows(spec, count)
        assert np.array_equal(split.errors(x), runner.errors(x)), count


def test_batches_go_to_the_smallest_bucket_that_holds_them():
    assert [bucket_of(n) for n in (1, 16, 17, 5000)] == [BUCKETS[0], BUCKETS[0], BUCKETS[1], BUCKETS[-1]]


@pytest.mark.parametrize("by", [0.0, 1e-4])
def test_cuda_is_taken_only_if_it_agrees_with_the_cpu_and_every_bucket_is_warm_then(by, monkeypatch, caplog):
    """With a stand-in for the device: one that is off by 1e-4, as TF32 would be, scores nothing."""
    spec, asked = bare(), []

    class Device:
        name = "cuda"

        def __init__(self, module):
            self.module = module

        def errors(self, x):
            asked.append(len(x))
            return self.module.errors(torch.from_numpy(x)).detach().numpy() * np.float32(1 + by)

    monkeypatch.setattr(runtime, "_on_cuda", lambda scripted, spec: (scripted, Device(scripted)))
    runner = TorchReconstructor(detector(spec), spec, "cuda")
    assert runner.device == ("cpu" if by else "cuda")
    assert runner.executor == ("module" if by else "cuda")
    assert ("cuda is off by 0.0001" in caplog.text) == bool(by)
    assert set(BUCKETS) <= set(asked) or by
    assert runner.errors(windows(spec, 3)).shape == (3, 1)


def test_cuda_computes_in_full_float32():
    """By default an LSTM of cuDNN takes TF32, which is off by 1e-3."""
    spec = bare()
    before = torch.backends.cudnn.allow_tf32
    try:
        torch.backends.cudnn.allow_tf32 = True
        CudaExecutor(detector(spec), spec)
        assert not torch.backends.cudnn.allow_tf32
    finally:
        torch.backends.cudnn.allow_tf32 = before


@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device here")
@pytest.mark.parametrize("spec", [bare(64), pumps()], ids=["h64", "pumps"])
def test_cuda_agrees_with_the_cpu(spec):
    scripted, x = detector(spec), windows(spec, 5000)
    wanted = TorchReconstructor(scripted, spec, means=ExecutorOptions("module")).errors(x)
    runner = TorchReconstructor(scripted, spec, "cuda")
    for count in (1, 16, 17, 300, 5000):
        got = runner.errors(x[:count])
        assert np.max(np.abs(got - wanted[:count]) / np.maximum(1, wanted[:count])) <= PARITY
