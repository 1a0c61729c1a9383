"""The contract of `streamae bench`: what it compares is real work, measured in the process that does it."""

import json
import sys

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from streamae.bench.device import device, work_a_window
from streamae.bench.models import spec_named
from streamae.bench.publisher import _frame
from streamae.bench.rounds import BenchTable, Line, Timing, by_turns
from streamae.bench.run import as_json, as_markdown
from streamae.cli import main
from streamae.mqtt.reader import split_publishes
from tests.bench import bounds
from tests.bench.foreign import PEERS
from tests.bench.peers import Peer


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
    sections = [BenchTable("t", "about", [Line("x", {"ratio": 0.5, "why": "slow"}, ">= 1x", False), Line("y", {})])]
    text = as_markdown(sections, {"processor": "P"})
    assert "| x | 0.50 | slow | >= 1x: **no** |" in text
    assert json.loads(as_json(sections, {"processor": "P"}))["sections"][0]["lines"][0]["met"] is False


def test_an_unknown_part_is_refused_with_the_parts_that_there_are():
    result = CliRunner().invoke(main, ["bench", "--only", "gpu"])
    assert result.exit_code == 2
    assert "inference" in result.output


def test_a_gain_is_the_median_of_what_each_round_says():
    """A round in which everything took three times as long changes nothing; the ratio of medians would be 5."""
    slow, fast = Timing(10, [4.0, 12.0, 5.0], [0.0] * 3), Timing(20, [2.0, 6.0, 1.0], [0.0] * 3)
    assert fast.faster_than(slow) == 4.0
    assert slow.faster_than(fast) == 0.25


def test_a_peer_runs_in_a_process_of_its_own_and_one_that_is_missing_says_why(tmp_path):
    """The second interpreter is asked where the first has it not; what a way measured itself is what is noted."""
    other = tmp_path / "python"
    answers = 'print(\'{"version": "1.2"}\', flush=True)\nfor _ in sys.stdin: print([0.25, 0.5], flush=True)'
    other.write_text(f"#!{sys.executable}\nimport sys\n{answers}\n")
    other.chmod(0o755)
    peer = Peer("nobody", [sys.executable, str(other)])
    took = by_turns({"peer": peer, "here": lambda: None}, {"peer": 2000, "here": 1}, 2)
    peer.close()
    assert (peer.version, took["peer"].cpu_s, took["peer"].wall_s) == ("1.2", [0.25] * 2, [0.5] * 2)
    assert took["here"].cpu_s[0] < 0.25
    with pytest.raises(LookupError, match="KeyError: 'nobody'"):
        Peer("nobody", [sys.executable])


@pytest.mark.long
@pytest.mark.parametrize("name", PEERS)
def test_a_peer_that_is_installed_scores_and_says_what_it_took(name):
    pytest.importorskip(PEERS[name][0], reason=f"{PEERS[name][0]} is not installed: pip install 'streamae[bench]'")
    peer = Peer(name, [sys.executable])
    assert 0 < peer().cpu_s < 60
    peer.close()


def test_a_device_is_held_against_its_own_ceilings_and_one_that_is_missing_is_said_so(monkeypatch):
    """With the CPU as the device: a line a batch, and the work of a window as counted by hand."""
    monkeypatch.setattr("streamae.bench.device._SIDE", 64)
    monkeypatch.setattr("streamae.bench.device._FLOATS", 1024)
    spec = spec_named("lstm64")
    assert work_a_window(spec)[0] == 2 * 4 * 64 * 64 * ((1 + 64) + (64 + 64)) + 64 * 2 * 64
    section = device(2, "cpu", (16,))
    (line,) = section.lines
    assert all(line.figures[f"% of the {ceiling} ceiling"] > 0 for ceiling in ("matrix", "memory"))
    assert line.figures["windows/s"] > 0
    if not torch.cuda.is_available():
        assert device(1).about == "Not measured: torch sees no CUDA device here."


@pytest.mark.parametrize("option", ["--update", "--readme"])
def test_the_tables_are_put_between_the_markers_of_a_text(option, tmp_path, monkeypatch):
    """`--update`, by its old name `--readme` too, replaces the block `bench` and nothing else."""
    text = tmp_path / "benchmarks.md"
    text.write_text("a\n<!-- begin bench -->\nold\n<!-- end bench -->\nb\n")
    monkeypatch.setattr("streamae.bench.run.bench", lambda *_: [BenchTable("t", "about", [Line("x", {"ratio": 0.5})])])
    result = CliRunner().invoke(main, ["bench", option, str(text)])
    assert result.exit_code == 0, result.output
    assert text.read_text().startswith("a\n<!-- begin bench -->\nMeasured on processor")
    assert "| x | 0.50 |" in text.read_text()
    assert text.read_text().endswith("<!-- end bench -->\nb\n")


def test_a_round_through_the_broker_counts_every_message_and_every_window(tmp_path):
    """A whole part, at its smallest: the subscriber of the product scores what the publisher sent, and says its CPU."""
    from streamae.bench.traffic import _rounds

    took = _rounds({"ours": {"stride": 1, "messages": 2000, "model": "default"}}, 1, 4000)
    assert took["ours"].work == 2000
    assert 0 < took["ours"].cpu_s[0] < 60
    assert np.isfinite(took["ours"].wall_s[0])


def test_what_a_step_leaves_to_gain_follows_from_what_its_calls_cost(monkeypatch):
    """The bound is nn.LSTM's two steps over twice the product and the sigmoids, all timed in the same rounds."""
    for name, value in {"_B": 16, "_H": 8, "_T": 4, "_CALLS": 2}.items():
        monkeypatch.setattr(bounds, name, value)
    lines = {line.name: line.figures for line in bounds.steps(1).lines}
    calls = lines["torch.mm alone"]["us"] + lines["five sigmoids to a state alone"]["us"]
    theirs = lines["nn.LSTM, encoder"]["us"] + lines["nn.LSTM, decoder"]["us"]
    assert lines["gain of the two calls alone"]["on nn.LSTM, x"] == pytest.approx(theirs / (2 * calls))
    assert lines["torch.mm alone"]["GFLOP/s"] == pytest.approx(2e-3 * 32 * 8 * 16 / lines["torch.mm alone"]["us"])
