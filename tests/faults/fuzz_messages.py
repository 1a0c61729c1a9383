"""FuzzTarget for the fuzzer (see `fuzz.py`): what a broker delivers, topics and payloads.

An input begins with a byte that chooses the payload's kind; messages of a batch stand between marks, and begin with a
byte that chooses the topic.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC
from typing import Any

import numpy as np

from streamae.core.decode import Decoder, PayloadSpec
from streamae.core.formats import FORMATS
from streamae.core.formats.spec import Sighting
from streamae.core.formats.values import FLOAT32_MAX
from streamae.core.routes import Route, Router, Streams
from streamae.core.topics import Template
from streamae.core.types import Drop, Drops
from streamae.daemon.json_parser import json_loads
from tests import sparkplug as sp
from tests.faults.fuzz import FuzzTarget
from tests.golden_payloads import NOW, every_case, open_decoder

_KEPWARE = PayloadSpec("json", samples="values", id="id", value="v", quality="q", time="t", name="{x}.{channel}")
MARK = b"\x1e\x1e"  # between the messages of one batch


@dataclass(frozen=True, slots=True)
class _Feed:
    """A payload spec with its topic template, the topics that messages choose from by their first byte, and loads."""

    spec: PayloadSpec
    template: str
    topics: Sequence[bytes]
    channels: Sequence[str] = ("a", "b")
    loads: Callable[[bytes], Any] = json_loads()  # noqa: RUF009  (one parser for all)

    def decoder(self) -> Decoder:
        return open_decoder(self.spec, self.template, self.channels, 8, loads=self.loads)[0]


def _feeds() -> list[tuple[_Feed, list[bytes]]]:
    """Every format as the daemon would read it, with honest messages of it: ours first, then its documentation's."""
    number, document = b"12.5", b'{"t": 1700000000, "a": 1, "b": -2.5e3, "value": 7, "n": 3}'
    array = b'{"t": 1699999999000, "r": [{"a": 1, "b": 2}, {"a": 3, "t": 1699999999}]}'
    one, two = (b"p", b"q"), (b"p/a", b"q/b", b"q/none")
    tags = b'{"timestamp": 1700000000000, "values": [{"id": "p.a", "v": 1.5, "q": true, "t": 1699999999000}]}'
    within = b'{"t": "2023-11-14 22:13:20", "p": "{\\"a\\": \\"1.5\\", \\"q\\": 192}", "q": {"b": "nan"}}'
    feeds = [
        (_Feed(PayloadSpec(), "{pump}/{channel}", two), [number]),
        (_Feed(PayloadSpec("json"), "{pump}", one), [document]),
        (_Feed(PayloadSpec("json", time="t", sequence="n"), "{pump}", one), [document]),
        (_Feed(PayloadSpec("json", time="t", sequence="n"), "{pump}", one, loads=json.loads), [document]),
        (_Feed(PayloadSpec("json", value="a", time="t"), "{pump}/{channel}", two), [document]),
        (_Feed(PayloadSpec("json", samples="r", time="t", time_unit="ms"), "{pump}", one), [array]),
        (_Feed(PayloadSpec("json", samples="r", sample_every_s=0.1), "{pump}", one, loads=json.loads), [array]),
        (
            _Feed(PayloadSpec(words={"open": 1}, decimal=",", unit="°C"), "{pump}/{channel}", two),
            [b"12,5", b"-3 \xb0C\0"],
        ),
        (_Feed(_KEPWARE, "{pump}", one), [tags]),
        (_Feed(PayloadSpec("json", labels={"x": "n"}, where={"value": "7"}, time="t"), "{pump}", one), [document]),
        (_Feed(PayloadSpec("json", name="{x}.{channel}", quality="q", zone=UTC, time="t"), "{pump}", one), [within]),
    ]
    for case in every_case():
        topics = [*dict.fromkeys(topic for topic, _ in case.messages), b"q"]
        feeds.append((_Feed(case.spec, case.template, topics, case.channels), [body for _, body in case.messages]))
    said = [f"spBv1.0/g/{kind}".encode() for kind in ("NBIRTH/n", "DBIRTH/n/d", "DDATA/n/d", "NDATA/n", "NDEATH/n")]
    metrics = [sp.metric("a", alias=10, datatype=sp.DOUBLE, double_value=1.5), sp.metric(alias=10, double_value=2.5)]
    births = [sp.payload(one, seq=i, time_s=NOW - 1) for i, one in enumerate(metrics)]
    feeds.append((_Feed(PayloadSpec("sparkplug"), "spBv1.0/{group}/+/{node}/{device}", said, ("a",)), births))
    return feeds


def payloads() -> FuzzTarget:
    """Decoders: what is read is finite, and the same however the messages are grouped; the rest is counted."""
    feeds = _feeds()

    def bite(data: bytes) -> bool:
        if not data:
            return False
        feed, messages = feeds[data[0] % len(feeds)][0], data[1:].split(MARK)[:8]
        topics = [feed.topics[m[0] % len(feed.topics)] if m else feed.topics[0] for m in messages]
        bodies = [m[1:] for m in messages]
        together, apart = feed.decoder(), feed.decoder()
        whole = _read(together, topics, bodies)
        rows: list[tuple[Any, ...]] = []
        drops = Drops()
        for topic, body in zip(topics, bodies, strict=True):
            more, dropped = _read(apart, [topic], [body])
            rows, drops = rows + more, drops + dropped
        assert (sorted(rows), drops) == (sorted(whole[0]), +whole[1]), "grouping changes what is read"
        return bool(rows)

    seeds = [bytes([n, i]) + text for n, (_, texts) in enumerate(feeds) for i, text in enumerate(texts)]
    births = feeds[-1][1]
    last = len(feeds) - 1
    seeds.append(bytes([last, 0]) + MARK.join([births[0], b"\1" + births[0], b"\2" + births[1]]))
    words = [MARK, b"NaN", b"1e400", b"-0", b"null", b"true", b"1_0", b"1" * 400, b"\\ud800", b"[" * 60, b'{"a":' * 60]
    return FuzzTarget(bite, seeds, [*words, b"\xff", b"\xc3\x28", b" 1556813561000000000", b"\\", b'"'])


def _read(decoder: Decoder, topics: Sequence[bytes], bodies: Sequence[bytes]) -> tuple[list[tuple[Any, ...]], Drops]:
    found, drops = decoder.decode(topics, bodies, np.full(len(topics), NOW))
    ended = np.isnan(found.value)  # the source's word that it has no value now
    assert (np.abs(found.value[~ended]) <= FLOAT32_MAX).all()
    assert np.isfinite(found.time_s).all()
    assert len({len(found.stream), len(found.channel), len(found.time_s), len(found.value), len(found.origin)}) == 1
    "".join(decoder.sequences and decoder._router.streams.names).encode()
    values = [None if end else value for end, value in zip(ended.tolist(), found.value.tolist(), strict=True)]
    rows = zip(found.stream.tolist(), found.channel.tolist(), found.time_s.tolist(), map(repr, values), strict=True)
    return list(rows), drops


# ---- topics


def topics() -> FuzzTarget:
    """A template is refused with a reason or becomes a filter that lets through whatever the template matches."""

    def bite(data: bytes) -> bool:
        text, _, topic = data.partition(b"\n")
        try:
            template = Template.parse(text.decode(errors="surrogateescape"))
        except ValueError:
            return False
        labels = [label for label in template.labels if label != "channel"]
        streams = Streams("/".join("{" + label + "}" for label in labels) or "all", 4)
        router = Router([template], ("a", "b"), streams)
        route, again = router.route(topic), router.route(topic)
        assert route == again, "the remembered route is another"
        if not isinstance(route, Route):
            assert isinstance(route, Drop) or template.takes_rest
            return False
        assert lets_through(template.filter, topic.decode()), "the broker would not have sent this"
        assert (route.stream, streams.names, router.find(topic)) == (-1, [], None), "a topic alone makes no stream"
        assert streams.find(route.labels) == 0
        known = router.route(topic)
        assert isinstance(known, Route)
        assert (known.stream, router.find(topic)) == (0, 0)
        return True

    seeds = [
        b"plant/{line}/{pump}/{channel}\nplant/l1/p1/a", b"plant/sensor-{id}\nplant/sensor-7", b"a/#\na/b/c",
        b"/+/{x}\n/a/b", b"{a}-{b}.{c}/{channel}\n1-2-3.4.5/b", b"$SYS/{x}\n$SYS/y", b"{x}/#\na",
        b"N/{id}/{channel...}\nN/1/a",
    ]  # fmt: skip
    return FuzzTarget(bite, seeds, [b"{", b"}", b"{channel}", b"#", b"+", b"$", b"\xff", b"--------"])


def lets_through(pattern: str, topic: str) -> bool:
    """MQTT 5.0, 4.7: whether a filter lets a topic through, level by level."""
    wanted, levels = pattern.split("/"), topic.split("/")
    if topic.startswith("$") and not pattern.startswith("$"):
        return False
    for i, level in enumerate(wanted):
        if level == "#":
            return True
        if i == len(levels) or level not in ("+", levels[i]):
            return False
    return len(wanted) == len(levels)


# ---- sniff


def sniff() -> FuzzTarget:
    """Whatever was heard, every format says what it sees, why it is nothing, or that it is another's."""

    def bite(data: bytes) -> bool:
        first, *payloads = data.split(MARK)[:6]
        topic = first.decode(errors="replace").replace("\0", "")
        found = [form.recognise(topic, payloads) for form in FORMATS.values()] if topic and payloads else []
        for one in found:
            many = one if isinstance(one, list | tuple) else [one]
            assert all(each is None or isinstance(each, str | Sighting) for each in many)
        return any(isinstance(one, Sighting | tuple) for one in found)

    seeds = []
    for case in every_case():
        by_topic: dict[bytes, list[bytes]] = {}
        for topic, body in case.messages:
            by_topic.setdefault(topic, []).append(body)
        seeds += [MARK.join([topic, *bodies[:4]]) for topic, bodies in by_topic.items()]
    words = [
        MARK,
        b"null",
        b"1e400",
        b"[" * 60,
        b"{}",
        b"\xff",
        b"/status/switch:0",
        b"/SENSOR",
        b"spBv1.0/",
        b"N/1/a/0/",
    ]
    return FuzzTarget(bite, seeds, words)
