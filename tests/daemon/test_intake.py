"""A group whose messages are all refused, or that gets none, is named with what it lacks and what is there instead."""

import json
from typing import Any

import numpy as np
import pytest

from streamae.core.align_rule import GridAlign
from streamae.core.decode import PayloadSpec
from streamae.core.groups import Groups
from streamae.daemon.intake import GroupIntake, IntakeConditions
from tests import plants
from tests.daemon.test_conditions import Lines, lines

__all__ = ["lines"]  # a fixture

pytestmark = pytest.mark.quick

T0 = 1_700_000_000.0
CLIMATE = {"temperature": 21.5, "humidity": 40}


class Watch:
    """Groups, their conditions, and a clock that the test moves."""

    def __init__(self, *groups: Any) -> None:
        self.now_s = T0
        self.groups = Groups("i", groups)
        self.conditions = IntakeConditions(lambda: self.now_s)
        self.look(0)

    def send(self, topic: str, document: object, times: int = 1, every_s: float = 0.1) -> None:
        for _ in range(times):
            self.now_s += every_s
            payload = document if isinstance(document, bytes) else json.dumps(document).encode()
            report = self.groups.step(plants.batch([(topic.encode(), payload, self.now_s)]), self.now_s)
            self.conditions.note(self.groups.pipelines, report.groups)

    def look(self, passed_s: float = 1.0, *, listening: bool = True) -> dict[str, str]:
        """What fails after so long, by group."""
        self.now_s += passed_s
        self.conditions.observe(self.groups.pipelines, listening=listening)
        return {one.name: one.failing.reason for one in self.conditions.all if one.failing}


def group(name: str = "climate", channels: tuple[str, ...] = ("temp",), template: str = "home/{device}", **spec: Any):
    changes = {"kind": "json", **spec}
    return plants.group(
        name, template=template, stream="{device}", payload=PayloadSpec(**changes),
        profile=plants.profile(channels), align=GridAlign(every_s=1.0),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("spec", "topic", "document", "said"),
    [
        ({}, "home/a", CLIMATE, "no `temp`; the payload has temperature, humidity"),
        ({"values": {"temp": "s.temp"}}, "home/a", {"s": {"t": 1}}, "no `s.temp`; the payload has s.t"),
        ({"kind": "zigbee2mqtt"}, "home/a", CLIMATE, "no `temp`; the payload has temperature, humidity"),
        ({"kind": "number", "template": "home/{device}/{channel}"}, "home/a/t", b"5", "no `temp`; a topic names t"),
        ({"kind": "number"}, "home/a", CLIMATE, 'not a number; a payload is \'{"temperature": 21.5, "humidity": 40}\''),
        ({}, "home/a", b"21,5 C", "malformed payload; a payload is '21,5 C'"),
        ({"time": "ts"}, "home/a", {"temp": 1}, "bad time; a payload is '{\"temp\": 1}'"),
        ({}, "home/a", {"temp": "21.5 C"}, 'not a number; a payload is \'{"temp": "21.5 C"}\''),
        (
            {"kind": "influx", "where": {"unit": "c"}},
            "home/a",
            b"m,unit=d usage=1",
            "no `temp` where unit is c; a payload is 'm,unit=d usage=1'",
        ),
    ],
)
def test_all_refused_is_said_after_a_hundred_messages(spec, topic, document, said):
    """With what is asked for and what is there; not before, for the first messages may be of anybody."""
    watch = Watch(group(**spec))
    watch.send(topic, document, 99)
    assert watch.look() == {}
    watch.send(topic, document)
    assert watch.look() == {"climate": f"100 of 100 refused: {said}"}


def test_few_messages_say_it_after_a_while():
    watch = Watch(group())
    watch.send("home/a", CLIMATE, 40, every_s=1.0)
    assert watch.look() == {}
    assert watch.look(60.0) == {"climate": "40 of 40 refused: no `temp`; the payload has temperature, humidity"}


def test_it_is_logged_at_once_and_then_rarely_and_ends_with_the_first_value(lines: Lines):
    """Tens of thousands of refused messages are a handful of lines, the end is one."""
    watch = Watch(group())
    for _ in range(200):
        watch.send("home/a", CLIMATE, 20)
        watch.look()
    begin = "group climate lacks values: 100 of 100 refused: no `temp`; the payload has temperature, humidity"
    assert [text for text in lines.of("group climate") if text == begin] == [begin]
    assert len(lines.of("group climate")) == 2  # once more at a thousand
    watch.send("home/a", {"temp": 3})
    assert watch.look() == {}
    assert len(lines.of("over, after")) == 1


def test_a_channel_that_no_message_has_is_named():
    """Messages are read, and the group is never judged all the same."""
    watch = Watch(group(channels=("temperature", "hum")))
    watch.send("home/a", CLIMATE, 100)
    assert watch.look() == {
        "climate": "none of 100 messages that were read has `hum`; the payload has temperature, humidity"
    }


def test_one_topic_of_several_that_is_all_refused_is_named():
    one = group(channels=("a", "b"), values={"a": "a"})
    both = plants.group(
        "pumps", template="one/{device}", stream="{device}", payload=one.payloads[0],
        profile=one.profile, align=one.align,
    )  # fmt: skip
    both.templates.append(plants.group(template="two/{device}").templates[0])
    both.payloads.append(PayloadSpec("json", values={"b": "b"}))
    watch = Watch(both)
    for _ in range(100):
        watch.send("one/p", {"a": 1})
        watch.send("two/p", {"B": 1})
    assert watch.look()["pumps"].startswith("100 of 100 on two/+ refused: no `b`; the payload has B; none of 100")


def test_silence_is_said_after_some_minutes_of_listening():
    """Of the group that got nothing, and not while we do not listen ourselves."""
    watch = Watch(group("quiet", template="quiet/{device}"), group("loud", ("temperature",), "loud/{device}"))
    watch.send("loud/a", CLIMATE, 5)
    assert watch.look(3000.0, listening=False) == {}
    assert watch.look(299.0) == {}
    assert watch.look(2.0) == {"quiet": "no message at all on quiet/+ since the start"}
    watch.send("quiet/a", {"temp": 1})
    assert watch.look() == {}


def test_a_group_that_is_read_has_nothing_to_say():
    """The control: strangers under its topics, however many, and long pauses."""
    watch = Watch(group(channels=("temperature",)))
    watch.send("home/a", CLIMATE)
    watch.send("home/door", {"contact": True}, 500)
    assert watch.look(100_000.0) == {}


def test_a_group_with_streams_from_before_has_an_hour():
    """Slow sensors beside quick strangers are no news after every restart."""
    watch = Watch(group())
    watch.groups.pipelines["climate"].streams.add("a")
    watch.conditions = IntakeConditions(lambda: watch.now_s)
    watch.look(0.0)
    watch.send("home/door", {"contact": True}, 200)
    assert watch.look() == {}
    assert watch.look(3600.0)["climate"].startswith("200 of 200 refused: no `temp`; the payload has contact")


def test_the_account_counts_each_message_once_however_they_come():
    """In one batch or one by one, and whether its formats read runs or not."""
    one = group(channels=("temperature", "humidity"))
    sent = [(b"home/a", json.dumps(CLIMATE).encode()), (b"home/d", b'{"contact": 1}'), (b"home/a", b"{")] * 40
    accounts = []
    for step in (1, 7, 120):
        groups, account = Groups("i", [one]), GroupIntake(one)
        for first in range(0, len(sent), step):
            part = [(t, p, T0 + first + i) for i, (t, p) in enumerate(sent[first : first + step])]
            account.note(groups.step(plants.batch(part), T0).groups["climate"])
        accounts.append((account.messages, account.read, account.values, account.unread, account.examples))
    assert accounts[0] == accounts[1] == accounts[2]
    assert accounts[0][:3] == ([120], [40], [40, 40])
    assert np.sum(list(accounts[0][3][0].values())) == 80
