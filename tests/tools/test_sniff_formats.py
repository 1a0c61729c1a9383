"""The part of each registered format's contract that `sniff` has: it recognises the golden payloads of the format, and
of no other; what it proposes is accepted by `check` and reads the same values back.
"""

import math
from collections import Counter

import numpy as np
import pytest
import yaml

from streamae.config.check import check
from streamae.config.convert import readers, stream_template
from streamae.config.load import load
from streamae.core.decode import Decoder, deferred
from streamae.core.formats import FORMATS
from streamae.core.formats.discovery import channel_names
from streamae.core.topics import Router, Streams
from streamae.tools.sniff.listen import Seen, Sniffed, propose
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
    read = readers(group)
    channels = channel_names(read, case.messages)
    streams = Streams(stream_template(name, group), 99)
    router = Router([template for template, _ in read], channels, streams, deferred([spec for _, spec in read]))
    decoder = Decoder(router, [spec for _, spec in read], channels, future_max_s=math.inf)
    topics, payloads = zip(*case.messages, strict=True)
    readings, drops = decoder.decode(topics, payloads, np.full(len(topics), NOW))
    return Counter(round(value, 9) for value in readings.value.tolist()), +drops


@pytest.mark.parametrize("case", CLEAN, ids=str)
def test_sniff_recognises_the_documentation_s_own_payloads(case, tmp_path):
    """The block that it proposes has this payload, `check` accepts it, and every value is read back, none refused."""
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
    assert Counter(round(float(value), 9) for *_, value in case.readings if not math.isnan(value)) <= found, text


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
