"""The contract of core.past: a pipeline of one stream that judges as the pipeline of all did, by what it knows now."""

import json

import numpy as np
import pytest

from streamae.core.past import past_of
from streamae.core.pipeline import Pipeline
from streamae.core.types import Batch, Maintenance
from tests import plants
from tests.core.test_pipeline import plant

pytestmark = pytest.mark.quick

T = 4  # rows of a window of these groups


def fed(pipeline, messages):
    """Verdicts of all windows, one message after another: (stream's name, time, score, threshold)."""
    out = []
    for topic, payload, arrival_s in messages:
        report = pipeline.step(Batch([topic], [payload], np.array([arrival_s])))
        v = report.groups[pipeline.group.name].verdicts
        names = [pipeline.streams.names[s] for s in v.stream.tolist()]
        out += zip(names, v.time_s.tolist(), v.score.tolist(), v.threshold.tolist(), strict=True)
    return out


@pytest.mark.parametrize("known", [False, True])
def test_it_judges_on_as_the_whole_pipeline_does(known):
    """Scale, weights and threshold come along: from its first full window on, scores are the same to the bit."""
    streams = {"p1": plants.known_stream([100.0] * 2, [1.0] * 2, weight=[0.5] * 2, zero=1.4, offset=1.6)}
    profile = plants.profile(streams=streams if known else None, learn_windows=0 if known else 5)
    pipeline = Pipeline("i", plants.group(profile=profile))
    messages = plant(70, pumps=2)
    fed(pipeline, messages[:90])
    copy = past_of(pipeline, "p1", messages[90][2], 0)
    mine = [m for m in messages[90:] if m[0] == b"plant/p1"]
    one = copy.pipeline(json.loads)
    assert (one.streams.names, one.group.flapping) == (["p1"], None)
    found = fed(one, mine)
    whole = [verdict for verdict in fed(pipeline, messages[90:]) if verdict[0] == "p1"]
    assert len(found) == len(mine) - T + 1 == len(whole) - T + 1
    np.testing.assert_array_equal([v[1:3] for v in found], [v[1:3] for v in whole[T - 1 :]])
    np.testing.assert_allclose([v[3] for v in found], [v[3] for v in whole[T - 1 :]], rtol=0.05)


def test_what_a_stream_has_still_to_learn_it_learns_again():
    """During the warm-up there is no scale to copy, and while it learns its level no weights; then there are."""
    pipeline, messages = Pipeline("i", plants.group(profile=plants.profile(learn_windows=10))), plant(60, pumps=1)
    seen = []
    for n, message in enumerate(messages):
        fed(pipeline, [message])
        copy = past_of(pipeline, "p0", 0.0, 0)
        seen.append((copy.scale is not None, copy.scoring is not None, copy.threshold is not None))
        assert n < 60
    assert [seen.index(kind) for kind in sorted(set(seen))] == [0, 19, 19 + T + 9]


def test_a_stream_that_there_is_not_has_no_copy():
    """Of a name that the pipeline does not know there is none; maintenance that is planned goes along."""
    pipeline = Pipeline("i", plants.group())
    fed(pipeline, plant(10, pumps=1))
    pipeline.maintenance.plan([Maintenance("*", "p0", 5.0, 9.0)])
    assert past_of(pipeline, "p7", 0.0, 0) is None
    one = past_of(pipeline, "p0", 0.0, 0).pipeline(json.loads)
    assert one.maintenance.planned == [Maintenance("*", "p0", 5.0, 9.0)]
