"""One peer in a process of its own: `INTERPRETER foreign.py NAME POINTS`. Imports nothing of streamae.

So a peer that wants other versions of what we use runs by the interpreter of an environment of its own. Once it is
ready it writes a line with its version; then for each line that it reads it scores as many points as that asks for,
one by one, as its users call it, and writes the CPU and wall seconds that it took.
"""

import json
import os
import sys
import time
import warnings
from collections.abc import Callable
from importlib import import_module as load
from importlib import metadata
from typing import Any

import numpy as np

__all__ = ["PEERS"]

_WINDOW = 64


def _series(points: int) -> Any:
    return np.sin(np.arange(points) / 7.0) + np.random.default_rng(0).normal(size=points) * 0.1


def _windows(points: int) -> Any:
    """[points, 64, 1], a window for each point."""
    rows = np.lib.stride_tricks.sliding_window_view(_series(points + _WINDOW - 1), _WINDOW)
    return np.ascontiguousarray(rows[:, :, None], np.float32)


def _river(points: int) -> Callable[[], object]:
    model, series = load("river.anomaly").HalfSpaceTrees(seed=0), _series(points).tolist()

    def run() -> None:
        for value in series:
            point = {"x": value}
            model.score_one(point)
            model.learn_one(point)

    return run


def _rrcf(points: int) -> Callable[[], object]:
    tree_of, series, newest = load("rrcf").RCTree, _series(points), -1
    forest = [tree_of() for _ in range(40)]

    def run() -> None:
        nonlocal newest
        for value in series:
            newest += 1
            for tree in forest:
                if newest >= _WINDOW:
                    tree.forget_point(newest - _WINDOW)
                tree.insert_point([value], index=newest)
                tree.codisp(newest)

    return run


def _pysad(points: int) -> Callable[[], object]:
    bounds = {"feature_mins": np.array([-2.0]), "feature_maxes": np.array([2.0])}
    model, series = load("pysad.models").HalfSpaceTrees(**bounds), _series(points)

    def run() -> None:
        for value in series:
            model.fit_score_partial(np.array([value]))

    return run


def _keras(points: int) -> Callable[[], object]:
    keras = load("keras")
    layers = keras.layers
    load("torch").set_num_threads(1)
    model = keras.Sequential(
        [
            layers.Input((_WINDOW, 1)), layers.LSTM(64), layers.RepeatVector(_WINDOW),
            layers.LSTM(64, return_sequences=True), layers.TimeDistributed(layers.Dense(1)),
        ]
    )  # fmt: skip
    windows = _windows(points)

    def run() -> None:
        for x in windows:
            float(np.mean((model.predict(x[None], verbose=0) - x) ** 2))

    return run


def _numalogic(points: int) -> Callable[[], object]:
    torch, variants = load("torch"), load("numalogic.models.autoencoder.variants")
    torch.set_num_threads(1)
    model, windows = variants.LSTMAE(seq_len=_WINDOW, no_features=1, embedding_dim=64).eval(), _windows(points)

    def run() -> None:
        with torch.no_grad():
            for x in windows:
                float(model.predict_step(torch.from_numpy(x[None]), 0).mean())

    return run


def _merlion(points: int) -> Callable[[], object]:
    pd, lstm_ed, TimeSeries = load("pandas"), load("merlion.models.anomaly.lstm_ed"), load("merlion.utils").TimeSeries
    load("torch").set_num_threads(1)
    frame = pd.DataFrame({"x": _series(points + _WINDOW)})
    frame.index = pd.date_range("2024-01-01", periods=len(frame), freq="s")
    layers = {"n_layers": (1, 1), "dropout": (0, 0)}
    model = lstm_ed.LSTMED(lstm_ed.LSTMEDConfig(hidden_size=64, sequence_length=_WINDOW, num_epochs=1, **layers))
    model.train(TimeSeries.from_pd(frame.iloc[: 2 * _WINDOW]))

    def run() -> None:
        for i in range(points):
            model.get_anomaly_score(TimeSeries.from_pd(frame.iloc[i : i + _WINDOW]))

    return run


# name: distribution, what runs, points a round, whether its work is that of an autoencoder of hidden 64 over 64 rows
PEERS: dict[str, tuple[str, Callable[[int], Callable[[], object]], int, bool]] = {
    "River HalfSpaceTrees": ("river", _river, 2000, False),
    "PySAD HalfSpaceTrees": ("pysad", _pysad, 800, False),
    "rrcf, 40 trees of 64 points": ("rrcf", _rrcf, 60, False),
    "numalogic LSTMAE, a call a window": ("numalogic", _numalogic, 200, True),
    "Keras LSTM autoencoder, predict a window": ("keras", _keras, 20, True),
    "Merlion LSTMED, a call a window": ("salesforce-merlion", _merlion, 20, True),
}


def main() -> None:
    """Answer each line on standard input with the seconds of a round."""
    warnings.simplefilter("ignore")
    os.environ |= {"KERAS_BACKEND": os.environ.get("KERAS_BACKEND", "torch"), "OMP_NUM_THREADS": "1"}
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what a peer prints is not an answer
    distribution, make, points, _ = PEERS[sys.argv[1]]
    version = metadata.version(distribution)
    run = make(points)
    run()
    print(json.dumps({"version": version}), file=answers)
    for _ in sys.stdin:
        cpu_s, wall_s = time.process_time(), time.perf_counter()
        run()
        print(json.dumps([time.process_time() - cpu_s, time.perf_counter() - wall_s]), file=answers)


if __name__ == "__main__":
    main()
