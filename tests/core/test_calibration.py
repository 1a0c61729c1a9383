"""The contract of `core.calibration`: JSON of a model file is read and written, and refused by key and value."""

import json
from dataclasses import replace

import numpy as np
import pytest

from streamae.core.calibration import Calibration, StreamCalibration
from streamae.errors import ArtifactError
from tests.plants import calibration

C, E = 2, 3
STREAM = {"location": [0.1, 2.0], "scale": [1.0, 3.0], "weight": [0.5, 1.5, 2.5], "zero": 1.25, "offset": 0.75,
          "runs": [4, 0]}  # fmt: skip
# As release 0.1.0 wrote it, in its order of keys.
GROUP = {
    "kind": "mahalanobis", "features": ["residual-5", "residual-5", "energy-32"], "channel": [0, 1, -1],
    "group": [0, 0, 1], "weight": [1.0, 2.0, 0.30000000000000004], "level": [0.8, 0.3, 1.7], "zero": 0.4,
    "cold_zero": 0.9, "learn_windows": 5, "level_floor": 1.0, "smoothing": 0.5, "budget_per_s": 1 / 604800,
    "center": [0.5, 0.6, 0.7], "spread": [0.1, 0.2, 0.3],
    "precision": [[1.0, 0.1, 0.0], [0.1, 1.0, 0.2], [0.0, 0.2, 1.0]], "half_life_windows": 500.0, "averages": [8, 56],
    "average_offsets": [1.2, 0.5], "offset": 0.75, "cold_offset": 1.1, "calm": [0.0, 2.5], "runs": [9, 0],
}  # fmt: skip
PLAIN = {k: v for k, v in GROUP.items() if k not in ("center", "spread", "precision")} | {"kind": "groups"}
OLD = {k: v for k, v in PLAIN.items() if k not in ("features", "averages", "average_offsets", "calm", "runs")}


def stream(kept, features=E):
    return StreamCalibration.from_mapping(kept, "p1", C, features)


@pytest.mark.parametrize("kept", [GROUP, PLAIN])
def test_a_calibration_is_written_as_it_was_read(kept):
    """The same keys in the same order with the same numbers: the bytes of a model file do not change by a release."""
    assert json.dumps(Calibration.from_mapping(kept, C).to_mapping()) == json.dumps(kept)
    assert json.dumps(stream(STREAM).to_mapping()) == json.dumps(STREAM)


def test_what_older_files_lack_has_a_default():
    """Without averages none are watched; without calm and runs nothing is known of them."""
    old = Calibration.from_mapping(OLD, C)
    assert old.averages.tolist() == old.average_offsets.tolist() == []
    assert (old.calm, old.runs, old.features) == (None, None, None)
    assert old == Calibration.from_mapping(OLD | {"averages": [], "of a later release": 1}, C)
    assert old != Calibration.from_mapping(PLAIN, C)
    assert stream({k: v for k, v in STREAM.items() if k != "runs"}).runs is None


@pytest.mark.parametrize("key", [k for k in GROUP if k not in ("features", "averages", "calm", "runs")])
def test_a_key_that_is_missing_is_named(key):
    """Nothing is guessed that changes a score."""
    with pytest.raises(ArtifactError, match=rf"calibration\.{key}: got nothing"):
        Calibration.from_mapping({k: v for k, v in GROUP.items() if k != key}, C)


@pytest.mark.parametrize("key", ["location", "scale", "weight", "zero", "offset"])
def test_a_key_that_a_stream_lacks_is_named(key):
    with pytest.raises(ArtifactError, match=rf"streams\.p1\.{key}: got nothing"):
        stream({k: v for k, v in STREAM.items() if k != key})


WRONG = [
    ("kind", "mean", "knows groups and mahalanobis"),
    ("kind", None, "knows groups"),
    ("features", ["residual-5"], "3 names"),
    ("channel", [0, 1, 2], "whole and from -1 to 1"),
    ("channel", [0, 1, 0.5], "whole"),
    ("channel", 0, "a list of"),
    ("group", [0, 0, 3], "whole and from 0 to 2"),
    ("weight", [1.0, 2.0], "a list of 3 finite numbers"),
    ("weight", [1.0, 2.0, "3"], "a list of 3 finite numbers"),
    ("weight", [1.0, 2.0, True], "a list of 3 finite numbers"),
    ("weight", [1.0, 2.0, float("nan")], "finite"),
    ("level", {"a": 1}, "a list of 3"),
    ("zero", "0.4", "a finite number"),
    ("zero", [0.4], "a finite number"),
    ("cold_zero", float("inf"), "finite"),
    ("learn_windows", 2.5, "whole"),
    ("learn_windows", -1, "whole and from 0 on"),
    ("spread", [0.1, 0.2, 0.0], "above 0"),
    ("precision", [[1.0, 0.1, 0.0], [0.1, 1.0], [0.0, 0.2, 1.0]], "3 rows of 3 finite numbers"),
    ("average_offsets", [1.2], "a list of 2"),
    ("averages", [0, 8], "whole and from 1 on"),
    ("calm", [0.0], "a list of 2"),
    ("runs", [9.5, 0], "whole"),
    ("half_life_windows", 10**400, "a finite number"),
]


@pytest.mark.parametrize(("key", "value", "said"), WRONG)
def test_a_value_of_another_type_or_shape_is_refused_by_key_and_value(key, value, said):
    """The message says where, what was found, what it must be, and what to do."""
    with pytest.raises(ArtifactError) as refused:
        Calibration.from_mapping(GROUP | {key: value}, C)
    text = str(refused.value)
    assert text.startswith(f"calibration.{key}: got {repr(value)[:50]}")
    assert said in text
    assert "train the model again" in text


@pytest.mark.parametrize(
    ("key", "value"), [("location", [1.0]), ("scale", [1.0, 0.0]), ("weight", 1.0), ("zero", None)]
)
def test_a_wrong_value_of_a_stream_is_refused_with_its_name(key, value):
    with pytest.raises(ArtifactError, match=rf"streams\.p1\.{key}: got "):
        stream(STREAM | {key: value})


@pytest.mark.parametrize("kept", [None, [], "x", 3])
def test_what_is_no_mapping_is_refused(kept):
    with pytest.raises(ArtifactError, match="calibration: got "):
        Calibration.from_mapping(kept, C)
    with pytest.raises(ArtifactError, match=r"streams\.p1: got "):
        stream(kept)


@pytest.mark.parametrize(("by", "cold"), [(0.5, 0.5), (-0.25, 0.0)])
def test_a_moved_threshold_moves_zero_and_offset_and_new_streams_only_up(by, cold):
    before, own = calibration(2), stream(STREAM)
    after = before.moved(by)
    assert (after.zero, after.offset) == (before.zero + by, before.offset + by)
    assert (after.cold_zero, after.cold_offset) == (before.cold_zero + cold, before.cold_offset + cold)
    assert own.moved(by) == replace(own, zero=own.zero + by, offset=own.offset + by)
    assert np.array_equal(after.weight, before.weight)
