"""The contract of filters with topics in common: of the copies of a message that a broker may send, one is taken."""

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from streamae.core.filters import covers, crossing, overlap
from streamae.mqtt.copies import Copies
from streamae.mqtt.options import topic_matches
from streamae.mqtt.reader import flags_of, split_publishes
from streamae.mqtt.state import Subscription
from tests.mqtt.test_reader import publish

pytestmark = pytest.mark.quick

LEVELS = ["a", "b", "+", "$x"]
FILTERS = ["/".join(x) for n in (1, 2, 3) for x in product(LEVELS[:3], repeat=n)]
FILTERS += [f"{one}/#" for one in FILTERS if one.count("/") < 2] + ["#", "$x/a", "$x/#"]
TOPICS = ["/".join(x) for n in (1, 2, 3, 4) for x in product(["a", "b", "c"], repeat=n)] + ["$x", "$x/a", "$x/b/c"]
MATCHES = {one: {topic for topic in TOPICS if topic_matches(one, topic)} for one in FILTERS}


def test_what_covers_and_what_crosses_is_what_the_topics_say():
    """Against the oracle of every topic: a filter covers another if all its topics match, crosses it if one does."""
    for a, b in product(FILTERS, FILTERS):
        assert covers(a, b) == (MATCHES[b] <= MATCHES[a]) or (a, b) == ("+/#", "#"), (a, b)  # nobody writes that
        assert overlap(a, b) == bool(MATCHES[a] & MATCHES[b]), (a, b)


def test_only_filters_with_topics_in_common_need_an_identifier():
    assert crossing(["a/+", "+/b", "c/d", "a/+"]) == ["a/+", "+/b"]
    copies = Copies([Subscription(one) for one in ("a/+", "+/b", "c/d")])
    assert copies.identifier("c/d") is None
    assert 0 < copies.identifier("a/+") != copies.identifier("+/b") > 0
    again = Copies([Subscription("+/b"), Subscription("a/+"), Subscription("x/#")])
    assert again.identifier("a/+") == copies.identifier("a/+"), "what a session has kept means the same after a restart"


@given(st.sets(st.sampled_from(FILTERS), min_size=1, max_size=5), st.sampled_from(TOPICS), st.booleans(), st.data())
def test_one_copy_is_taken_whatever_the_broker_sends(filters, topic, together, data):
    """One copy a filter or one for all, whichever filters are granted: one is taken where any filter matches."""
    copies = Copies([Subscription(one) for one in filters])
    granted = data.draw(st.sets(st.sampled_from(sorted(filters))))
    for one in granted:
        copies.granted(one)
    numbers = [copies.identifier(one) or 0 for one in granted if topic_matches(one, topic)]
    sent = [min(numbers)] if together and numbers else numbers
    taken = [number for number in sent if not copies.surplus(topic.encode(), number)]
    assert len(taken) == bool(numbers)


@pytest.mark.parametrize("asking", ["#", "+/b"])
def test_what_is_retained_is_taken_by_the_filter_that_asks_for_it(asking):
    """A broker sends it for no other, so that the one whose copies count otherwise may get none."""
    copies = Copies([Subscription(one, retained=one == asking) for one in ("#", "+/b")])
    for one in ("#", "+/b"):
        copies.granted(one)
    assert not copies.surplus(b"a/b", copies.identifier(asking), retained=True)
    assert [copies.surplus(b"a/b", copies.identifier(one)) for one in ("#", "+/b")].count(False) == 1


def test_of_two_filters_that_ask_for_what_is_retained_one_copy_is_taken():
    copies = Copies([Subscription(one, retained=one != "#") for one in ("#", "+/b", "a/+")])
    for one in ("#", "+/b", "a/+"):
        copies.granted(one)
    surplus = [copies.surplus(b"a/b", copies.identifier(one), retained=True) for one in ("+/b", "a/+")]
    assert sorted(surplus) == [False, True]


def test_a_copy_of_a_filter_that_is_gone_is_taken():
    """A session may have kept it from before a restart: rather twice than never."""
    copies = Copies([Subscription("a/+"), Subscription("+/b")])
    copies.granted("a/+")
    copies.granted("+/b")
    assert not copies.surplus(b"a/b", 12345)
    assert not copies.surplus(b"a/b", 0)


@pytest.mark.parametrize("identifiers", [(), (7,), (200, 3), (268_435_455,), (90_000, 128)])
def test_the_lowest_identifier_of_a_frame_is_read(identifiers):
    """Among all other properties that a PUBLISH may have, in any number."""
    properties = Properties(PacketTypes.PUBLISH)
    properties.MessageExpiryInterval, properties.PayloadFormatIndicator = 9, 1
    properties.UserProperty = [("unit", "bar"), ("a", "")]
    properties.ContentType, properties.CorrelationData, properties.ResponseTopic = "x/y", b"\x0b\x01", "r"
    if identifiers:
        properties.SubscriptionIdentifier = list(identifiers)
    frame = publish(5, (b"a/b", b"1", 2, 4), properties)
    end, topics, payloads, flags, mids = split_publishes(frame, 0, five=True)
    assert (end, topics, payloads, mids) == (len(frame), [b"a/b"], [b"1"], [4])
    assert flags == [flags_of(2, identifiers)]
    assert flags[0] >> 4 == min(identifiers, default=0)
