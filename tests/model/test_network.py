"""The contract of `streamae.model.network`: each system of the literature, and the well-known wrong version of it.

Every check is a function of a network, so that the wrong version goes through the same check and must fail it.
"""

import itertools

import numpy as np
import pytest
import torch

from streamae.model.export import script
from streamae.model.network import METHODS, EncoderDecoder
from streamae.model.spec import CELLS, DECODERS, TASKS, NetworkSpec

B, T, C, K = 6, 12, 3, 3
TARGETS = (0, 2)


def spec_of(task="composite", **changes):
    horizon = 0 if task == "reconstruction" else changes.pop("horizon", K)
    chosen = {"channels": C, "targets": TARGETS, "window": T, "hidden": 5, **changes}
    return NetworkSpec(task=task, horizon=horizon, **chosen)


def network_of(kind=EncoderDecoder, *, seed=0, **changes):
    """A network in scoring mode whose weights, linear path and scales all differ from their neutral start."""
    torch.manual_seed(seed)
    network = kind(spec_of(**changes))
    for name, buffer in network.named_buffers():
        if name.startswith("linear"):
            buffer.normal_(std=0.3)
        elif name.endswith(("scale", "spread")):
            buffer.uniform_(0.5, 2.0)
    return network.eval()


def windows_of(seed=0, batch=B):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(batch, T, C)).astype(np.float32))


def outputs(network, windows, lengths=None):
    with torch.inference_mode():
        return {name: getattr(network, name)(windows, lengths) for name in METHODS}


def same(a, b, tolerance=1e-6):
    return a.shape == b.shape and torch.allclose(a, b, rtol=tolerance, atol=tolerance)


# ---- prediction: the encoder has not seen its targets


def is_blind_to_its_targets(network):
    windows = windows_of()
    other = windows.clone()
    other[:, T - K :] = 9.0
    before, after = outputs(network, windows), outputs(network, other)
    return same(before["forecast"], after["forecast"]) and same(before["encode"], after["encode"])


class Leaky(EncoderDecoder):
    """The tutorial's toy: the encoder has read the rows that are to be forecast."""

    def _past(self, windows, lengths):
        return windows[:, windows.size(1) - self.history :]


@pytest.mark.parametrize("task", ["prediction", "composite"])
@pytest.mark.parametrize("decoder", ["unconditional", "conditional_free"])
@pytest.mark.parametrize("linear_rank", [0, 2])
def test_a_forecast_has_not_seen_its_targets(task, decoder, linear_rank):
    """The rows to be forecast change neither the forecast nor the code."""
    settings = {"task": task, "decoder": decoder, "linear_rank": linear_rank}
    assert is_blind_to_its_targets(network_of(**settings))
    assert not is_blind_to_its_targets(network_of(Leaky, **settings))


# ---- time order: reversed inside, never outside


class Oracle(torch.nn.Module):
    """A perfect decoder: gives back the truth that it was to be trained towards, in the order that it was given."""

    def forward(self, state, first, truth):
        return truth


class Unturned(EncoderDecoder):
    """Scores the reversed reconstruction against the window in time order."""

    def _rebuild(self, rest, state, lengths):
        truth = self._turn(rest.index_select(2, self.targets), lengths)
        return self.reconstructor(state, torch.zeros_like(truth[:, 0]), truth)


def gives_back_time_order(network, lengths=None):
    network.reconstructor = Oracle()
    windows = windows_of()
    rebuilt, errors = (outputs(network, windows, lengths)[name] for name in ("reconstruct", "errors"))
    wanted = windows[:, : network.history][:, :, list(TARGETS)]
    inside = torch.ones(B, network.history, dtype=torch.bool)
    if lengths is not None:
        inside = torch.arange(network.history) < (lengths - network.horizon).unsqueeze(1)
    close = same(rebuilt[inside], wanted[inside], 1e-5)
    return close and bool((errors[:, : len(TARGETS)] < 1e-4).all())


@pytest.mark.parametrize("lengths", [None, torch.tensor([12, 11, 9, 7, 6, 12])])
@pytest.mark.parametrize("linear_rank", [0, 2])
def test_errors_compare_rows_of_the_same_time(lengths, linear_rank):
    """A perfect decoder of the reversed target has error 0 at every true length; rebuilt rows stand in order."""
    assert gives_back_time_order(network_of(linear_rank=linear_rank), lengths)
    assert gives_back_time_order(network_of(linear_rank=linear_rank, reversed=False), lengths)
    assert not gives_back_time_order(network_of(Unturned, linear_rank=linear_rank), lengths)


@pytest.mark.parametrize("backwards", [True, False])
def test_the_decoder_gets_the_last_row_first(backwards):
    """`reversed` turns the reconstruction target round, by true length; the forecast's stays in order of time."""
    network = network_of(reversed=backwards)
    given = {}

    class Spy(Oracle):
        def __init__(self, name):
            super().__init__()
            self.name = name

        def forward(self, state, first, truth):
            given[self.name] = truth
            return truth

    network.reconstructor, network.forecaster = Spy("rebuilt"), Spy("foreseen")
    for buffer in (network.residual_scale, network.ahead_scale):
        buffer.fill_(1.0)
    windows, lengths = windows_of(), torch.tensor([12, 11, 9, 7, 6, 12])
    found = outputs(network, windows, lengths)["forecast"]
    for b, n in enumerate((lengths - K).tolist()):
        rows = windows[b, :n][:, list(TARGETS)]
        assert torch.equal(given["rebuilt"][b, :n], rows.flip([0]) if backwards else rows)
        ahead = windows[b, n : n + K][:, list(TARGETS)]
        assert torch.equal(given["foreseen"][b], ahead)
        assert torch.equal(found[b], ahead)


# ---- variable length: the state of the last true row, never of the padding


def shortened(network, window):
    """The same weights as a network for shorter windows."""
    short = EncoderDecoder(NetworkSpec(**{**network.given, "window": window}))
    kept = {k: v for k, v in network.state_dict().items() if not k.startswith("linear")}
    short.load_state_dict(kept, strict=False)
    return short.eval()


def padding_means_nothing(network):
    windows, lengths = windows_of(), [12, 11, 9, 7, 6, 5]
    for padding in (0.0, 7.0):
        padded = windows.clone()
        for b, n in enumerate(lengths):
            padded[b, n:] = padding
        found = outputs(network, padded, torch.tensor(lengths))
        for b, n in enumerate(lengths):
            alone = outputs(shortened(network, n), windows[b : b + 1, :n])
            if not all(same(found[name][b : b + 1], alone[name], 1e-5) for name in ("errors", "encode", "forecast")):
                return False
            if not same(found["reconstruct"][b : b + 1, : n - network.horizon], alone["reconstruct"], 1e-5):
                return False
    return True


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("task", TASKS)
def test_a_padded_window_scores_as_the_unpadded_one(task, cell, decoder):
    """With its true length given, a padded window gives what the same rows alone give, for any padding."""
    given = {"task": task, "cell": cell, "decoder": decoder, "layers": 2, "code_distance": True}
    network = network_of(**given)
    network.given = {"channels": C, "targets": TARGETS, "hidden": 5, "horizon": network.horizon, **given}
    assert padding_means_nothing(network)
    network.encoder.final = lambda x, lengths: network.encoder(x, network.encoder.start(x))[1]
    assert not padding_means_nothing(network), "the state after the padding went unnoticed"


def test_loss_and_error_divide_by_the_true_length():
    """A masked error is a mean over true rows; dividing by the padded length would flatter short windows."""
    network = network_of(task="reconstruction", reversed=True)
    network.residual_scale.fill_(1.0)
    windows, lengths = windows_of(), torch.tensor([12, 11, 9, 7, 6, 5])
    found = outputs(network, windows, lengths)
    miss = (windows[:, :, list(TARGETS)] - found["reconstruct"]).square()
    per_row = [miss[b, :n].sum(dim=0) for b, n in enumerate(lengths.tolist())]
    right = torch.stack([m / n for m, n in zip(per_row, lengths.tolist(), strict=True)])
    wrong = torch.stack(per_row) / T
    assert same(found["errors"], right.sqrt(), 1e-5)
    assert not same(found["errors"], wrong.sqrt(), 1e-5)
    with torch.no_grad():
        assert same(network.loss(windows, lengths), right.mean(), 1e-5)


# ---- one window, one result


def follows_a_permutation(network):
    windows = windows_of(batch=T)  # as many windows as rows: a wrong batch axis then runs, and is wrong in silence
    order = torch.randperm(T, generator=torch.Generator().manual_seed(1))
    straight, permuted = outputs(network, windows), outputs(network, windows[order])
    return all(same(straight[name][order], permuted[name], 1e-5) for name in METHODS)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("layers", [1, 2])
def test_permuting_the_batch_permutes_the_outputs(cell, layers):
    """A window's result does not depend on where in the batch it stands."""
    settings = {"task": "reconstruction", "cell": cell, "layers": layers}
    assert follows_a_permutation(network_of(**settings))
    mistaken = network_of(**settings)
    mistaken.encoder.rnn.batch_first = False
    assert not follows_a_permutation(mistaken)


# ---- what the decoder goes by


def decoded(decoder, first, truth):
    torch.manual_seed(3)
    state = torch.randn(2, 1, B, 5)
    with torch.inference_mode():
        return decoder(state, first, truth)


def scores_without_the_truth(network):
    windows = windows_of()[:, :, list(TARGETS)]
    first = torch.zeros(B, len(TARGETS))
    return all(
        same(decoded(d, first, windows), decoded(d, first, windows + 5.0))
        for d in (network.reconstructor, network.forecaster)
    )


def test_a_free_running_decoder_never_sees_the_truth_when_it_scores():
    """Teacher forcing ends with training, unless the mode says otherwise; the mode is part of the model."""
    assert scores_without_the_truth(network_of(decoder="unconditional"))
    assert scores_without_the_truth(network_of(decoder="conditional_free"))
    assert not scores_without_the_truth(network_of(decoder="conditional_teacher"))
    assert not scores_without_the_truth(network_of(decoder="conditional_free").train()), "trains on the truth"


def test_the_mode_survives_the_script_and_the_spec():
    """A scripted free decoder stays free, a scripted teacher stays a teacher, even where someone calls train()."""
    for decoder in DECODERS:
        spec = spec_of(decoder=decoder)
        assert NetworkSpec.from_mapping(spec.to_mapping()) == spec
        scripted = script(network_of(decoder=decoder).train())
        assert not scripted.training
        assert is_blind_to_its_targets(scripted) == (decoder != "conditional_teacher"), decoder


def test_conditional_and_unconditional_are_different_detectors():
    """A conditional decoder starts from the frame before its first; an unconditional one knows only the code."""
    truth = windows_of()[:, :, list(TARGETS)]
    zero, one = torch.zeros(B, len(TARGETS)), torch.ones(B, len(TARGETS))
    for decoder in DECODERS:
        d = network_of(decoder=decoder).forecaster
        assert same(decoded(d, zero, truth), decoded(d, one, truth)) == (decoder == "unconditional"), decoder


def test_a_free_decoder_fed_its_own_output_is_a_teacher_that_is_right():
    """Free-running is what teacher forcing would give if the truth were the decoder's own output."""
    free, teacher = network_of(decoder="conditional_free"), network_of(decoder="conditional_teacher")
    teacher.load_state_dict(free.state_dict())
    first = windows_of()[:, 0, list(TARGETS)]
    own = decoded(free.forecaster, first, torch.zeros(B, K, len(TARGETS)))
    assert same(decoded(teacher.forecaster, first, own), own, 1e-5)


def sees_only_the_final_state(network):
    """With the final state held fast, all windows must decode to the same rows."""
    torch.manual_seed(5)
    state = torch.randn(2, 1, 1, 5)
    honest = network.encoder.forward
    network.encoder.forward = lambda x, start: (honest(x, start)[0], state.expand(-1, -1, x.size(0), -1))
    rebuilt = outputs(network, windows_of())["reconstruct"]
    return same(rebuilt, rebuilt[:1].expand_as(rebuilt))


class Attending(EncoderDecoder):
    """Lets the encoder's output at every step cross: on its way to the identity."""

    def _rebuild(self, rest, state, lengths):
        steps = self.encoder(rest, self.encoder.start(rest))[0]
        return self._turn(self.reconstructor.frames(steps), lengths)


@pytest.mark.parametrize("decoder", ["unconditional", "conditional_free"])
def test_only_the_final_state_crosses_to_the_decoder(decoder):
    """Two windows of the same final state are rebuilt alike: nothing else of them reaches the decoder."""
    settings = {"task": "reconstruction", "decoder": decoder, "linear_rank": 0}
    assert sees_only_the_final_state(network_of(**settings))
    assert not sees_only_the_final_state(network_of(Attending, **settings))
    assert not sees_only_the_final_state(network_of(task="reconstruction", decoder="conditional_teacher"))


# ---- composite and encoder


def test_the_composite_sums_two_losses_each_divided_by_its_own_length():
    """A longer history must not drown the forecast: sums of squares would."""
    network = network_of(task="composite", linear_rank=2)
    windows = windows_of()
    found = outputs(network, windows)
    history = network.history
    wanted_rows, wanted_ahead = windows[:, :history][:, :, list(TARGETS)], windows[:, history:][:, :, list(TARGETS)]
    rebuilt = (wanted_rows - found["reconstruct"]) / network.residual_scale[list(TARGETS)]
    foreseen = (wanted_ahead - found["forecast"]) / network.ahead_scale
    means = rebuilt.square().mean() + foreseen.square().mean()
    sums = (rebuilt.square().sum(dim=1) + foreseen.square().sum(dim=1)).mean()
    with torch.no_grad():
        loss = network.loss(windows)
    assert same(loss, means, 1e-5)
    assert not same(loss, sums, 1e-5)
    errors = torch.cat([(wanted_rows - found["reconstruct"]).square().mean(dim=1).sqrt(),
                        (wanted_ahead - found["forecast"]).square().mean(dim=1).sqrt()], dim=1)  # fmt: skip
    assert same(found["errors"], errors, 1e-5)


def naive_lstm(rnn, rows):
    """[n, C] -> h, c of the top layer, gate by gate in float64 (Hochreiter and Schmidhuber 1997, with forget gates)."""
    weights = {k: v.detach().double().numpy() for k, v in rnn.named_parameters()}
    inputs = rows.double().numpy()
    for layer in range(rnn.num_layers):
        w, u = weights[f"weight_ih_l{layer}"], weights[f"weight_hh_l{layer}"]
        bias = weights[f"bias_ih_l{layer}"] + weights[f"bias_hh_l{layer}"]
        h, c, out = np.zeros(rnn.hidden_size), np.zeros(rnn.hidden_size), []
        for x in inputs:
            i, f, g, o = np.split(w @ x + u @ h + bias, 4)
            c = c / (1 + np.exp(-f)) + np.tanh(g) / (1 + np.exp(-i))
            h = np.tanh(c) / (1 + np.exp(-o))
            out.append(h)
        inputs = np.array(out)
    return h, c


def test_the_code_is_h_and_c_of_the_top_layer_after_the_last_true_row():
    """`encode` gives a vector of the documented length, equal to a recurrence computed by hand."""
    network = network_of(task="reconstruction", layers=2)
    network.residual_scale.fill_(1.0)
    windows, lengths = windows_of(), torch.tensor([12, 11, 9, 7, 6, 5])
    code = outputs(network, windows, lengths)["encode"]
    assert code.shape == (B, spec_of("reconstruction", layers=2).code_size)
    for b, n in enumerate(lengths.tolist()):
        np.testing.assert_allclose(code[b], np.concatenate(naive_lstm(network.encoder.rnn, windows[b, :n])), atol=1e-5)


# ---- every combination


FAMILY = list(itertools.product(TASKS, CELLS, DECODERS, (True, False)))


@pytest.mark.parametrize(("task", "cell", "decoder", "backwards"), FAMILY)
def test_every_combination_scripts_and_agrees_with_itself(task, cell, decoder, backwards):
    """Scripted equals eager to 1e-5 in all methods, at batches and lengths that scripting never saw."""
    turn = FAMILY.index((task, cell, decoder, backwards))
    network = network_of(
        task=task, cell=cell, decoder=decoder, reversed=backwards,
        layers=1 + turn % 2, linear_rank=(0, 2)[turn // 2 % 2], code_distance=turn % 3 > 0, tail=(0, 4)[turn % 5 > 2],
    )  # fmt: skip
    spec = spec_of(task, code_distance=turn % 3 > 0)
    scripted = script(network)
    for batch, lengths in ((1, None), (B, None), (B, torch.tensor([12, 11, 9, 7, 6, 5]))):
        windows = windows_of(seed=batch, batch=batch)
        eager, found = outputs(network, windows, lengths), outputs(scripted, windows, lengths)
        assert all(same(eager[name], found[name], 1e-5) for name in METHODS)
        assert found["errors"].shape == (batch, len(spec.features()))
        assert bool(torch.isfinite(found["errors"]).all())
        assert bool((found["errors"] >= 0).all())


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"task": "seq2seq"}, "task"),
        ({"cell": "relu"}, "cell"),
        ({"decoder": "teacher"}, "decoder"),
        ({"hidden": 0}, "hidden"),
        ({"targets": ()}, "targets"),
        ({"targets": (0, 0)}, "targets"),
        ({"targets": (0, 3)}, "targets"),
        ({"horizon": 0}, "horizon"),
        ({"horizon": T - 1}, "window"),
        ({"tail": T}, "tail"),
        ({"linear_rank": 18}, "linear_rank"),
    ],
)
def test_a_combination_that_means_nothing_is_refused_by_name(change, word):
    with pytest.raises(ValueError, match=word):
        NetworkSpec(**{"channels": C, "targets": TARGETS, "window": T, "task": "composite", "horizon": K, **change})


def test_a_stored_spec_of_other_keys_is_refused():
    stored = spec_of().to_mapping()
    with pytest.raises(ValueError, match="attention"):
        NetworkSpec.from_mapping({**stored, "attention": True})
    with pytest.raises(ValueError, match="incomplete"):
        NetworkSpec.from_mapping({k: v for k, v in stored.items() if k != "window"})
