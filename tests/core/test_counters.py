"""The contract of core.counters: totals become increases, however they fall, late or grouped."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamae.core.align import align_stage
from streamae.core.align_rule import GridAlign
from streamae.core.counters import COUNTERS, Counters
from streamae.core.groups import Groups
from streamae.core.types import Drop, Readings
from tests import plants
from tests.naive import CounterOracle
from tests.quick import examples

pytestmark = pytest.mark.quick

STEPS = st.lists(
    st.tuples(
        st.integers(0, 2),  # stream
        st.sampled_from([0.0, 1.0, 2.0, 5.0, -7.0]),  # seconds since the sample before
        st.one_of(
            st.tuples(st.just("rise"), st.integers(0, 9)),
            st.tuples(st.just("fall"), st.integers(0, 40)),
            st.tuples(st.just("near a limit"), st.integers(-9, 9)),
            st.tuples(st.just("missing"), st.just(0)),
        ),
    ),
    max_size=60,
)


def samples_of(steps):
    """(stream, time_s, total) of totals that rise, begin again, roll over at 2^16 and are exchanged."""
    time_s, total, found = [0.0] * 3, [65_500.0, 9_990.0, 20.0], []
    for stream, later_s, (what, by) in steps:
        time_s[stream] += later_s
        if what == "rise":
            total[stream] += by
        elif what == "fall":
            total[stream] = float(by)
        elif what == "near a limit":
            total[stream] = (total[stream] + 9 + by) % (65_536.0 if stream == 0 else 10_000.0)
        found.append((stream, time_s[stream], math.nan if what == "missing" else total[stream]))
    return found


def run(stage, samples, edges=()):
    out = []
    cuts = sorted({0, len(samples), *(e % (len(samples) + 1) for e in edges)})
    for a, b in zip(cuts, cuts[1:], strict=False):
        stream, time_s, total = (np.array(x) for x in zip(*samples[a:b], strict=True))
        out += stage.step(stream.astype(np.int32), np.zeros(b - a, np.int32), time_s, total).tolist()
    return out


@settings(max_examples=examples(200))
@given(STEPS, st.sampled_from(COUNTERS), st.lists(st.integers(0, 99), max_size=5), st.integers(0, 60))
def test_counters_equal_the_naive_oracle_in_any_batches(steps, kind, edges, cut):
    """The increase of each sample is that of the slow oracle, over any batches and over a snapshot."""
    samples = samples_of(steps)
    expected = [CounterOracle.of(samples, kind)] if samples else [[]]
    whole = Counters([kind])
    whole.grow(3)
    np.testing.assert_array_equal(run(whole, samples, edges), expected[0])
    first, second = Counters([kind]), Counters([kind])
    first.grow(3)
    head = run(first, samples[:cut]) if samples[:cut] else []
    second.restore(first.state(3))
    np.testing.assert_array_equal(head + (run(second, samples[cut:]) if samples[cut:] else []), expected[0])


def increases(totals, kind="delta", every_s=60.0):
    stage = Counters([kind])
    stage.grow(1)
    return run(stage, [(0, n * every_s, float(total)) for n, total in enumerate(totals)])


@pytest.mark.parametrize(
    ("totals", "increase"),
    [
        ([65_530, 65_533, 1, 4], [3, 4, 3]),  # 16 bits
        ([4_294_967_293, 4_294_967_295, 1], [2, 2]),  # 32 bits
        ([99_996, 99_998, 1], [2, 3]),  # five digits
        ([9_999.5, 9_999.75, 0.0], [0.25, 0.25]),  # four digits and decimals
        ([655.34, 655.35, 0.0], [0.01, 0.01]),  # 16 bits of hundredths
        ([500, 504, 0, 3], [4, 0, 3]),  # a restart at zero
        ([500, 504, 3, 6], [4, 3, 3]),  # a restart, some counted since
        ([500, 504, 200, 204], [4, None, 4]),  # another meter
        ([500, 504, 503, 507], [4, None, 4]),  # a correction
        ([10, 14, 5_000], [4, 4_986]),  # a leap is believed
    ],
)
def test_a_total_that_falls_has_rolled_over_or_begun_again(totals, increase):
    """Rollovers and restarts give what was counted; what cannot be known is missing, and a leap upwards is believed."""
    found = increases(totals)
    assert math.isnan(found[0])
    assert [None if math.isnan(x) else pytest.approx(x) for x in found[1:]] == increase


def test_a_rate_is_per_second_or_per_hour():
    """3 in a minute are .05 a second and 180 an hour."""
    assert increases([100, 103], "rate")[1] == pytest.approx(0.05)
    assert increases([100, 103], "rate_per_hour")[1] == pytest.approx(180.0)


def readings(samples):
    stream, channel, time_s, value = (np.array(x) for x in zip(*samples, strict=True))
    origin = np.arange(len(samples), dtype=np.int32)
    return Readings(stream.astype(np.int32), channel.astype(np.int32), time_s * 1.0, value * 1.0, origin)


@given(st.permutations(range(10)))
def test_totals_out_of_order_within_the_lateness_count_the_same(order):
    """On a grid, counters are read in the order of their times, not of their arrivals."""
    samples = [(0, 0, n + 0.5, float(n * n)) for n in range(10)]
    closing = [(0, 0, 40.0, 200.0)]

    def rows(parts):
        counters = Counters(["rate"])
        counters.grow(1)
        stage = align_stage(GridAlign(1.0, lateness_s=12.0, gap_max_s=2.0), 1, counters=counters)
        stage.grow(1)
        return [row for part in parts for row in stage.step(readings(part))[0].values[:, 0].tolist()]

    ordered = rows([samples, closing])
    assert rows([[samples[i] for i in order], closing]) == ordered
    assert ordered[:4] == [1.0, 3.0, 5.0, 7.0]


def test_a_row_without_a_known_increase_is_no_row():
    """Of whole messages, the first and one after an exchanged meter are no rows, and counted."""
    profile = replace(plants.profile(channels=("t", "e")), counters={"e": "delta"})
    pipeline = Groups("i", [plants.group(profile=profile)]).pipelines["pumps"]
    pipeline.streams.add("p0")
    pipeline.begin()
    values = [(20.0, 100), (21.0, 102), (22.0, 40), (23.0, 41)]
    part = readings([(0, c, float(n), v) for n, row in enumerate(values) for c, v in enumerate(row)])
    rows, drops = pipeline.aligned(replace(part, origin=np.repeat(np.arange(4, dtype=np.int32), 2)))
    assert rows.values.tolist() == [[21.0, 2.0], [23.0, 1.0]]
    assert drops == {Drop.INCOMPLETE_ROW: 2}
