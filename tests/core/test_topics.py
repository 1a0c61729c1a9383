"""The contract of core.topics."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamae.core.routes import Route, Router, Streams
from streamae.core.topics import Template, render
from streamae.core.types import Drop
from tests import naive

pytestmark = pytest.mark.quick


@pytest.mark.parametrize(
    ("text", "topic_filter", "topic", "labels"),
    [
        (
            "plant/{line}/{pump}/{channel}",
            "plant/+/+/+",
            "plant/a/7/flow",
            {"line": "a", "pump": "7", "channel": "flow"},
        ),
        ("/plant/{pump}", "/plant/+", "/plant/7", {"pump": "7"}),
        ("site/sensor-{id}/v", "site/+/v", "site/sensor-12/v", {"id": "12"}),
        ("zigbee2mqtt/{device}/#", "zigbee2mqtt/+/#", "zigbee2mqtt/freezer/a/b", {"device": "freezer"}),
        ("zigbee2mqtt/{device}/#", "zigbee2mqtt/+/#", "zigbee2mqtt/freezer", {"device": "freezer"}),
        ("+/{pump}", "+/+", "anything/7", {"pump": "7"}),
        ("{a}-{b}/x", "+/x", "1-2/x", {"a": "1", "b": "2"}),
        ("a.b/{c}", "a.b/+", "a.b/1", {"c": "1"}),
        ("N/+/{x}/{channel...}", "N/+/+/#", "N/c/1/Dc/0/V", {"x": "1", "channel": "Dc/0/V"}),
        ("{channel...}", "#", "a/b", {"channel": "a/b"}),
    ],
)
def test_template_names_levels(text, topic_filter, topic, labels):
    """A template gives the broker's filter, and the labels that a topic carries."""
    template = Template.parse(text)
    assert template.filter == topic_filter
    assert template.match(topic) == labels


@pytest.mark.parametrize(
    ("text", "topic"),
    [
        ("plant/{pump}", "/plant/7"),
        ("plant/{pump}", "plant/7/x"),
        ("plant/{pump}", "plant/"),
        ("a.b/{c}", "aXb/1"),
        ("{a}/{b}", "$SYS/broker"),
        ("site/sensor-{id}", "site/valve-1"),
        ("N/{x}/{channel...}", "N/1"),
        ("N/{x}/{channel...}", "N/1/"),
        ("{channel...}", "$SYS/x"),
    ],
)
def test_another_depth_or_slash_is_another_topic(text, topic):
    """A leading slash, another depth, an empty level or the broker's own topics do not match."""
    assert Template.parse(text).match(topic) is None


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "1 to 65535 bytes"),
        ("a/#/b", "last level"),
        ("a/b#", "stand alone"),
        ("a/{x", "unbalanced"),
        ("a/{x}/{x}", "occurs twice"),
        ("a/{1x}", "not starting with a digit"),
        ("a/{x}{y}", "touch"),
        ("a/{}", "a name is"),
        ("${x}/y", "spell level"),
        ("a/{channel...}/b", "last level"),
        ("a/{rest...}", "only {channel...} takes several levels"),
        ("a/x{channel...}", "alone in it"),
        ("{channel}/{channel...}", "occurs twice"),
        ("$share/daemons/plant/{pump}", "without .share/daemons/: .* every window would have holes"),
        ("$queue/plant/#", "without .queue/: "),
    ],
)
def test_what_is_no_template_is_refused_with_its_reason(text, reason):
    """Parse refuses what MQTT or our labels do not allow, and says why."""
    with pytest.raises(ValueError, match=reason):
        Template.parse(text)


@given(st.text(min_size=1, max_size=30))
def test_any_text_is_parsed_or_refused(text):
    """No text makes the parser raise anything but ValueError, and what it accepts matches without raising."""
    try:
        template = Template.parse(text)
    except ValueError:
        return
    template.match(text)


PIECES = st.lists(
    st.sampled_from(["{a}", "{b}", "{c}", "{channel...}", "-", "--", "x", "/", "+", "#", "."]), min_size=1, max_size=9
)


@given(PIECES.map("".join), st.text("-x/.1", max_size=14))
def test_a_template_matches_as_a_greedy_regular_expression_would(text, topic):
    """A label takes as much of its level as it can; the same as the pattern that anybody would write down."""
    try:
        template = Template.parse(text)
    except ValueError:
        return
    found = re.fullmatch(naive.pattern_of(text), topic)
    assert template.match(topic) == (None if found is None else found.groupdict())


def test_a_long_level_is_not_tried_in_every_way():
    """Five labels in a level, and the longest topic there is: a regular expression would take centuries."""
    assert Template.parse("{a}-{b}-{c}-{d}-{e}x").match("-" * 65_535) is None


@given(st.dictionaries(st.sampled_from(["line", "pump", "channel"]), st.from_regex(r"[^/\0#+{}$]+", fullmatch=True)))
def test_render_is_the_inverse_of_match(labels):
    """Filling a template and matching it again gives the same labels."""
    template = Template.parse("/".join(["x", *(f"{{{name}}}" for name in labels)]))
    assert template.match(render(template.text, labels)) == labels


def test_streams_are_numbered_as_they_appear_and_bounded():
    """A topic makes no stream; at max_streams there are no new ones, and known ones are still found."""
    streams = Streams("{line}/{pump}", max_streams=2)
    router = Router([Template.parse("{line}/{pump}/{channel}")], ["flow"], streams)
    assert router.route(b"a/1/flow") == Route(-1, 0, 0, {"line": "a", "pump": "1", "channel": "flow"})
    found = [streams.find({"line": "a", "pump": pump}) for pump in ("1", "2", "3")]
    assert found == [0, 1, None]
    assert router.route(b"a/1/flow") == Route(0, 0, 0)
    assert router.route(b"a/2/flow") == Route(1, 0, 0)
    assert router.route(b"a/3/flow").stream == -1
    assert router.route(b"a/1/flow") == Route(0, 0, 0)
    assert router.route(b"a/1/colour") is Drop.UNKNOWN_CHANNEL
    assert router.route(b"b/1") is Drop.TOPIC
    assert router.route(b"\xff/1/flow") is Drop.TOPIC
    assert streams.names == ["a/1", "a/2"]
    assert streams.labels(1) == {"line": "a", "pump": "2"}


def test_what_lies_below_a_place_and_is_no_channel_is_passed_over():
    """A template that takes the rest stands for whatever there is: the rest is neither read nor counted as refused."""
    streams = Streams("{x}", 2)
    for deferred in ([], [0]):
        router = Router([Template.parse("N/{x}/{channel...}")], ["Dc/0/V", "Soc"], streams, deferred)
        places = [router.route(topic) for topic in (b"N/1/Dc/0/V", b"N/1/Soc", b"N/1/Dc/0/Text", b"M/1/Soc")] * 2
        assert [place.channel if isinstance(place, Route) else place for place in places[:4]] == [
            0,
            1,
            None,
            Drop.TOPIC,
        ]
        assert places[4:] == places[:4]
    router = Router([Template.parse("N/{x}/{channel...}")], ["Dc/0/V", "Soc"], streams)
    streams.add("1")
    codes = router.codes([b"N/1/Soc", b"N/1/Text", b"N/2/Dc/0/V", b"M/1/Soc", b"N/1/Text"])
    assert [(t, at.tolist()) for t, at in router.by_template(codes)] == [(0, [0])]
    assert router.new(codes).tolist() == [2]
    assert list(router.refused(codes)) == [(1, 0, None), (3, -1, Drop.TOPIC), (4, 0, None)]
    assert (router.find(b"N/1/Text"), router.find(b"N/2/Text")) == (0, None)
    assert render("N/{x}/{channel...}", {"x": "1", "channel": "Dc/0/V"}) == "N/1/Dc/0/V"


def test_remembered_topics_are_bounded():
    """However many topics come, the router remembers only so many, and goes on answering."""
    router = Router([Template.parse("{pump}")], ["flow"], Streams("{pump}", max_streams=3))
    for i in range(router.routes_max + 500):
        router.route(b"pump%d" % i)
        router.route(b"pump%d/x" % i)
    assert len(router._routes) + len(router._labelled) == router.routes_max
    assert router.route(b"another").stream == -1
    assert router.route(b"another/x") is Drop.TOPIC


def test_a_topic_that_is_a_stream_costs_no_number_of_its_own():
    """What is remembered of it is the very object that the registry counts it by; with channels it cannot be."""
    streams = Streams("{pump}", 1000)
    router = Router([Template.parse("{pump}"), Template.parse("{pump}/{channel}")], ["a", "b"], streams)
    for i in range(400):
        router.route(b"p%d" % i)
        streams.add(f"p{i}")
    assert router.route(b"p399") == Route(399, -1, 0)
    assert router._routes[b"p399"] is streams.index("p399")
    topics = [b"p7", b"p399/b", b"p0/a", b"p0", b"p3/c"]
    codes = router.codes(topics)
    assert [(t, at.tolist()) for t, at in router.by_template(codes)] == [(0, [0, 3]), (1, [1, 2])]
    stream, channel = router.places(codes[:4])
    assert list(zip(stream.tolist(), channel.tolist(), strict=True)) == [(7, -1), (399, 1), (0, 0), (0, -1)]
    assert list(router.refused(codes)) == [(4, 1, Drop.UNKNOWN_CHANNEL)]
    assert [router.route(topic) for topic in topics[:4]] == [
        Route(7, -1, 0), Route(399, 1, 1), Route(0, 0, 1), Route(0, -1, 0),
    ]  # fmt: skip


def test_find_knows_streams_and_makes_none():
    """`find` gives the stream of a topic that has appeared, -1 where the payload decides, and registers nothing."""
    streams = Streams("{pump}", 10)
    templates = [Template.parse("plant/{pump}"), Template.parse("nodes/{pump}")]
    router = Router(templates, ["a"], streams, deferred=[1])
    assert router.find(b"plant/p0") is None
    router.route(b"plant/p0")
    streams.add("p0")
    router.forget()
    assert (router.find(b"plant/p0"), router.find(b"nodes/x"), router.find(b"\xff")) == (0, -1, None)
    assert streams.names == ["p0"]
