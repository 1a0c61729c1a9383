"""Small groups for tests of the core: a profile without a trained model, and a reconstructor in plain NumPy."""

from dataclasses import replace

import numpy as np

from streamae.core.calibration import Calibration, StreamCalibration
from streamae.core.decode import PayloadSpec
from streamae.core.pipeline import Group
from streamae.core.profile import Profile
from streamae.core.topics import Template
from streamae.core.types import Batch


class LevelModel:
    """Error features of a window: each channel's mean absolute value, summed row by row so that it is exact."""

    def errors(self, windows):
        total = np.zeros((len(windows), windows.shape[2]), np.float32)
        for t in range(windows.shape[1]):
            total += np.abs(windows[:, t])
        return total / np.float32(windows.shape[1])


def calibration(channels, *, threshold=4.0, **changes):
    """A score of the mean error over channels, not smoothed; 1.0 at `threshold`, normal is near a fifth of it."""
    zero, offset = float(np.log(threshold)), float(np.log(5.0))
    plain = Calibration(
        kind="groups",
        channel=np.arange(channels),
        group=np.zeros(channels, np.int64),
        weight=np.full(channels, 1.0 / channels),
        level=np.full(channels, 0.5),
        zero=zero,
        cold_zero=zero,
        offset=offset,
        cold_offset=offset,
        learn_windows=0,
        level_floor=1.0,
        smoothing=1.0,
        half_life_windows=1000.0,
        budget_per_s=1 / 604800,
    )
    return replace(plain, **changes)


def known_stream(location=(0.0,), scale=(1.0,), *, weight=(1.0,), zero=0.0, offset=1.0):
    """The numbers of a stream that the model was trained on."""
    return StreamCalibration(np.array(location), np.array(scale), np.array(weight), zero, offset)


def profile(channels=("a", "b"), *, window=4, streams=None, warmup_rows=20, learn_windows=0, gap_max_s=5.0):
    return Profile(
        digest="0" * 64,
        channels=tuple(channels),
        window=window,
        period_s=1.0,
        gap_max_s=gap_max_s,
        warmup_rows=warmup_rows,
        streams=streams or {},
        calibration=calibration(len(channels), learn_windows=learn_windows),
    )


def group(name="pumps", *, template="plant/{pump}", payload=None, stream="{pump}", **changes):
    changes.setdefault("profile", profile())
    return Group(
        name=name,
        templates=[Template.parse(template)],
        payloads=[payload or PayloadSpec("json", time="t")],
        stream_template=stream,
        reconstructor=LevelModel(),
        **changes,
    )


def batch(messages):
    """A batch of (topic, payload, arrival_s)."""
    topics, payloads, arrival_s = zip(*messages, strict=True) if messages else ((), (), ())
    return Batch(list(topics), list(payloads), np.array(arrival_s, np.float64))
