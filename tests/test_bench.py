"""The contract of `streamae bench`: what it compares is real work, measured in the process that does it."""

import json

import numpy as np
import pytest
from click.testing import CliRunner

from streamae.bench.publisher import _frame
from streamae.bench.rounds import Line, Section, by_turns
from streamae.bench.run import as_json, as_markdown
from streamae.cli import main
from streamae.mqtt.bulk import split_publishes


def burn(n):
    return lambda: sum(range(n))


def test_ways_are_run_by_turns_and_the_one_with_more_work_costs_more():
    """Every way is run once a round beside one uncounted call; a hundred times the work cannot look cheaper."""
    calls = []
    ways = {"a": lambda: (calls.append("a"), burn(10_000)()), "b": lambda: (calls.append("b"), burn(3_000_000)())}
    took = by_turns(ways, {"a": 1, "b": 1}, 3)
    assert calls == ["a", "b", "a", "b", "b", "a", "a", "b"]
    assert took["b"].cpu_us > took["a"].cpu_us
    assert len(took["a"].cpu_s) == 3


@pytest.mark.parametrize("qos", [0, 1])
def test_the_publisher_s_frames_are_those_of_mqtt(qos):
    """Also where the remaining length takes two bytes."""
    sent = [(b"b/s000001", b'{"value":1}'), (b"b/s000002", b"x" * 300)]
    stream = b"".join(_frame(topic, payload, 7 if qos else 0) for topic, payload in sent)
    end, topics, payloads, _, mids = split_publishes(stream, 0, False)
    assert (end, list(zip(topics, payloads, strict=True))) == (len(stream), sent)
    assert mids == [7 * qos] * 2


def test_a_goal_that_is_missed_is_said_so():
    sections = [Section("t", "about", [Line("x", {"ratio": 0.5, "why": "slow"}, ">= 1x", False), Line("y", {})])]
    text = as_markdown(sections, {"processor": "P"})
    assert "| x | 0.50 | slow | >= 1x: **no** |" in text
    assert json.loads(as_json(sections, {"processor": "P"}))["sections"][0]["lines"][0]["met"] is False


def test_an_unknown_part_is_refused_with_the_parts_that_there_are():
    result = CliRunner().invoke(main, ["bench", "--only", "gpu"])
    assert result.exit_code == 2
    assert "inference" in result.output


def test_a_round_through_the_broker_counts_every_message_and_every_window(tmp_path):
    """A whole part, at its smallest: the subscriber of the product scores what the publisher sent, and says its CPU."""
    from streamae.bench.traffic import _rounds

    took = _rounds({"ours": {"stride": 1, "messages": 2000, "model": "default"}}, 1, 4000)
    assert took["ours"].work == 2000
    assert 0 < took["ours"].cpu_s[0] < 60
    assert np.isfinite(took["ours"].wall_s[0])
