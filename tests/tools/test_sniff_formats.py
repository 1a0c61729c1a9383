"""The part of each registered format's contract that `sniff` has: it recognises the golden payloads of the format, and
of no other; what it proposes is accepted by `check` and reads the same values back.
"""

import math
import time
from collections import Counter

import numpy as np
import pytest
import yaml

from streamae.config.check import check
from streamae.config.load import load
from streamae.core.decode import Decoder, PayloadSpec, deferred
from streamae.core.formats import FORMATS
from streamae.core.formats.discovery import channel_names
from streamae.core.routes import Router, Streams
from streamae.core.topics import Template
from streamae.core.types import Drop
from streamae.ingest.mqtt import MqttSource, ReceiveLimits
from streamae.mqtt import ConnectionOptions, Subscription
from streamae.tools.sniff.listen import Seen, Sniffed
from streamae.tools.sniff.propose import propose
from tests.brokers import wait_until
from tests.golden_payloads import NOW, every_case, golden_of

CLEAN = [case for case in every_case() if case.clean]


def proposed(case) -> str:
    """What `sniff` says of a broker that carries these messages and no others."""
    sniffed = Sniffed()
    for topic, payload in case.messages:
        sniffed.topics.setdefault(topic.decode(), Seen()).add(payload, NOW)
        sniffed.messages += 1
    return propose(sniffed, now_s=NOW, seconds=3)


def read_back(settings, case) -> tuple[Counter, dict]:
    """What a daemon with the one group of the proposal reads: (channel's end, value), and what it refuses."""
    ((name, group),) = settings.streams.items()
    read = group.readers
    channels = channel_names(read, case.messages)
    streams = Streams(group.stream_template(name), 99)
    router = Router([template for template, _ in read], channels, streams, deferred([spec for _, spec in read]))
    decoder = Decoder(router, [spec for _, spec in read], channels, future_max_s=math.inf)
    topics, payloads = zip(*case.messages, strict=True)
    readings, drops = decoder.decode(topics, payloads, np.full(len(topics), NOW))
    return Counter(round(value, 9) for value in readings.value.tolist()), +drops


@pytest.mark.parametrize("case", CLEAN, ids=str)
def test_sniff_recognises_the_documentation_s_own_payloads(case, tmp_path):
    """The block has this payload, `check` accepts it, and every value is read back or said to be left out."""
    text = proposed(case)
    groups = (yaml.safe_load(text) or {}).get("streams", {})
    if case.unseen:
        assert case.spec.kind not in [group["topics"][0]["payload"] for group in groups.values()], "it is seen now"
        return
    assert [group["topics"][0]["payload"] for group in groups.values()] == [case.spec.kind], text
    path = tmp_path / "streamae.yaml"
    path.write_text(f"instance: x\nstate: {{dir: state}}\nmqtt: {{host: localhost}}\n{text}")
    assert check(path)
    found, drops = read_back(load(path), case)
    assert not drops, text
    left_out = {
        name for line in text.splitlines() if "# left out as" in line for name in line.partition(": ")[2].split(", ")
    }
    sources = case.spec.values or {}
    kept = {channel for *_, channel, _, _ in case.readings if not sources.get(channel, channel).endswith((*left_out,))}
    wanted = [value for _, channel, _, value in case.readings if channel in kept]
    assert Counter(round(float(value), 9) for value in wanted if not math.isnan(value)) <= found, text


@pytest.mark.parametrize("kind", FORMATS)
def test_some_payloads_of_every_format_are_recognised(kind):
    assert any(case.clean and not case.unseen for case in golden_of(kind))


@pytest.mark.parametrize("case", every_case(), ids=str)
def test_no_two_formats_claim_one_topic(case):
    """So that it does not matter in which order they are asked."""
    topics: dict[str, list[bytes]] = {}
    for topic, payload in case.messages:
        topics.setdefault(topic.decode(), []).append(payload)
    for topic, payloads in topics.items():
        claims = [name for name, form in FORMATS.items() if form.recognise(topic, payloads) is not None]
        assert claims in ([], [case.spec.kind]), topic


def test_the_rest_of_a_topic_comes_from_a_real_broker(mosquitto, tmp_path):
    """A template that ends in {channel...} brings every level below it through the broker, and nothing beside it."""
    path = tmp_path / "streamae.yaml"
    path.write_text(
        "instance: x\nstate: {dir: state}\nmqtt: {host: localhost}\n"
        "streams: {batteries: {model: {path: m.pt}, topics:\n"
        '  [{topic: "N/{portal}/battery/{battery}/{channel...}", payload: victron}]}}\n'
    )
    settings = load(path)
    source = MqttSource(
        ConnectionOptions(host="127.0.0.1", port=mosquitto.port),
        [Subscription(one, qos=1) for one in settings.filters],
        ReceiveLimits(),
        now=lambda: NOW,
        monotonic=time.monotonic,
        jitter=lambda: 0.5,
    )
    sent = [
        ("N/c0/battery/512/Dc/0/Voltage", b'{"value": 12.5}'),
        ("N/c0/solarcharger/279/Dc/0/Voltage", b'{"value": 99}'),
        ("N/c0/battery/512/Soc", b'{"value": 80}'),
        ("N/c0/battery/512/CustomName", b'{"value": "aft"}'),
        ("N/c0/battery/512/Dc/0/Voltage", b""),
    ]
    came: list[tuple[bytes, bytes]] = []
    source.start()
    try:
        wait_until(lambda: source.status().subscribed, 30, "not subscribed")
        mosquitto.publish(sent)
        deadline_s = time.monotonic() + 30
        while len(came) < 4 and time.monotonic() < deadline_s:
            accepted = source.take(100, 0.1)
            came += zip(accepted.batch.topics, accepted.batch.payloads, strict=True)
            source.ack(accepted)
    finally:
        source.close()
    assert came == [(topic.encode(), payload) for topic, payload in sent if "/battery/" in topic]
    channels = channel_names(settings.streams["batteries"].readers, came)
    assert channels == ["Dc/0/Voltage", "Soc"]
    spec, streams = PayloadSpec("victron"), Streams("{battery}", 9)
    router = Router([Template.parse("N/{portal}/battery/{battery}/{channel...}")], channels, streams, deferred([spec]))
    topics, payloads = zip(*came, strict=True)
    readings, drops = Decoder(router, [spec], channels).decode(topics, payloads, np.full(4, NOW))
    assert (streams.names, readings.channel.tolist()) == (["512"], [0, 1, 0])
    assert [str(value) for value in readings.value.tolist()] == ["12.5", "80.0", "nan"]
    assert drops == {Drop.UNAVAILABLE: 1}
