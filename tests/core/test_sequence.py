"""The contract of core.sequence: missing numbers are counted once, and nothing else is."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamae.core.decode import Decoder, PayloadSpec
from streamae.core.groups import Groups
from streamae.core.routes import Router, Streams
from streamae.core.sequence import Sequences
from streamae.core.topics import Template
from streamae.daemon.json_parser import json_loads
from tests import plants
from tests.core.test_pipeline import T0

pytestmark = pytest.mark.quick

KEY = (0, 0, -1)


def lost(numbers, *, flush=True):
    """How many of one counter's messages are found lost; `flush` lets 40 more come, so that nothing is undecided."""
    sequences = Sequences()
    for number in numbers:
        sequences.step(KEY, number)
    for number in range(numbers[-1] + 1, numbers[-1] + 41) if flush else ():
        sequences.step(KEY, number)
    return sequences.taken()[0]


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        (range(100), 0),
        ([*range(50), *range(55, 100)], 5),
        ([*range(50), *range(200, 300)], 150),
        ([0, 1, 1, 1, 2, 2, 3], 0),
        ([0, 1, 4, 3, 2, 5], 0),
        ([*range(1000), *range(100)], 0),
        ([*range(1000, 1010), *range(10_000_000, 10_000_010)], 0),
        ([*range(200, 256), *range(40)], 0),
        ([*range(65_500, 65_534), *range(3, 40)], 5),
        ([*range(2**32 - 40, 2**32), *range(40)], 0),
        ([*range(500), *range(505, 510), *range(100)], 5),
    ],
    ids=[
        "none",
        "five",
        "many",
        "duplicates",
        "late",
        "restart",
        "leap",
        "8 bits",
        "16 bits",
        "32 bits",
        "then restart",
    ],
)
def test_what_is_missing_is_lost_and_nothing_else(numbers, expected):
    """Gaps count; duplicates, late numbers, restarts and counters that roll over do not."""
    assert lost(list(numbers)) == expected


@given(st.lists(st.booleans(), min_size=1, max_size=300), st.lists(st.integers(0, 20), min_size=300, max_size=300))
def test_any_loss_is_counted_exactly_however_late_the_others_come(arrives, delays):
    """Of numbers that come up to 20 places late and some twice, exactly those are lost that never come."""
    order = sorted((i + delays[i], i) for i, there in enumerate(arrives) if there)
    numbers = [0, *(1 + i for _, i in order)]
    numbers += numbers[len(numbers) // 2 :][:3]
    end = len(arrives) + 1
    assert lost([*numbers, *range(end, end + 40)], flush=False) == arrives.count(False)


@given(st.lists(st.tuples(st.integers(0, 1), st.sampled_from([*range(60), None, 3.0, True, 2**70, "7"])), min_size=1))
def test_the_count_does_not_depend_on_the_parser(sent):
    """A run that the fastest parser reads at once counts as messages that the standard library reads one by one."""
    topics = [b"plant/p%d" % pump for pump, _ in sent]
    payloads = [json.dumps({"a": 1.0, "b": 2.0, "n": number}).encode() for _, number in sent]
    states = []
    for loads in (json.loads, json_loads()):
        router = Router([Template.parse("plant/{pump}")], ("a", "b"), Streams("{pump}", 9))
        decoder = Decoder(router, [PayloadSpec("json", sequence="n")], ("a", "b"), loads=loads)
        readings, _ = decoder.decode(topics, payloads, np.full(len(sent), T0))
        assert len(readings) == 2 * len(sent)
        states.append((decoder.sequences.taken(), {name: a.tolist() for name, a in decoder.sequences.state().items()}))
    assert states[0] == states[1]


@pytest.mark.parametrize("number", [None, True, "7", 7.5, -1, 2**70, [1]])
def test_what_is_no_number_says_nothing(number):
    """A counter that is not there, or no whole number, neither counts nor disturbs the count."""
    assert lost([0, 1, number, 2], flush=False) == 0


def test_the_pipeline_counts_what_is_missing_and_keeps_count_over_a_restart():
    """With a path of the counter, the report and a notice say how many messages are missing, of which stream."""
    group = plants.group(payload=PayloadSpec("json", time="t", sequence="n"))

    def messages(numbers):
        for n in numbers:
            yield b"plant/p0", json.dumps({"a": n % 7, "b": n % 5, "t": T0 + n, "n": n}).encode(), T0 + n

    first, second = Groups("i", [group]), Groups("i", [group])
    assert first.step(plants.batch(list(messages(range(50)))), T0).missing == 0
    second.restore(first.snapshot())
    report = second.step(plants.batch(list(messages(range(53, 100)))), T0)
    assert report.missing == 3
    assert "group pumps: p0: 3 messages are missing by their sequence numbers" in report.notices
