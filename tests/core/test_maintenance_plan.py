"""The contract of core.maintenance: which windows and streams maintenance touches."""

from fnmatch import fnmatchcase

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamae.core.maintenance import MaintenancePlan
from streamae.core.routes import Streams
from streamae.core.types import Maintenance

pytestmark = pytest.mark.quick

NAMES = ("line1/p1", "line1/p2", "line2/p1")
PLANS = st.lists(
    st.builds(
        Maintenance,
        st.sampled_from(["pumps", "p*", "fans", "*"]),
        st.sampled_from(["*", "line1/*", "line?/p1", "line2/p1", "LINE1/*"]),
        st.integers(0, 9).map(float),
        st.integers(1, 12).map(float),
    ),
    max_size=4,
)


def maintenance(names=NAMES):
    streams = Streams("{line}/{pump}", 10)
    for name in names:
        streams.add(name)
    return MaintenancePlan("pumps", streams), streams


def is_touched(plan, name, start_s, end_s):
    """Whether the closed stretch of a window meets the half-open one of any maintenance that names the stream."""
    return any(
        fnmatchcase("pumps", one.group)
        and fnmatchcase(name, one.stream)
        and one.start_s <= end_s
        and start_s < one.end_s
        for one in plan
    )


@given(PLANS, PLANS, st.lists(st.tuples(st.integers(0, 2), st.integers(0, 9), st.integers(0, 4)), max_size=8))
def test_what_is_touched_is_what_the_plan_says(before, plan, windows):
    """Windows and the present against each stretch one by one, also when another plan stood before."""
    stage, _ = maintenance()
    stage.plan(before)
    stage.now(0.0)
    stage.plan(plan)
    stream = np.array([s for s, _, _ in windows], np.int32)
    start_s = np.array([float(a) for _, a, _ in windows])
    end_s = np.array([float(a + length) for _, a, length in windows])
    expected = [is_touched(plan, NAMES[s], a, a + length) for s, a, length in windows]
    assert stage.touches(stream, start_s, end_s).tolist() == expected
    for now_s in (0.0, 3.0, 9.0, 12.0):
        assert stage.now(now_s).tolist() == [is_touched(plan, name, now_s, now_s) for name in NAMES]


def test_a_stream_that_appears_later_is_named_too():
    """A pattern is looked at for each new stream, once."""
    stage, streams = maintenance(NAMES[:1])
    stage.plan([Maintenance("pumps", "line2/*", 0.0, 10.0)])
    assert stage.now(5.0).tolist() == [False]
    for name in NAMES[1:]:
        streams.add(name)
    assert stage.now(5.0).tolist() == [False, False, True]
    assert stage.touches(np.array([2, 1], np.int32), np.array([5.0, 5.0]), np.array([6.0, 6.0])).tolist() == [
        True,
        False,
    ]
