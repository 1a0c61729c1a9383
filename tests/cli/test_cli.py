"""The contract of the verbs, as a shell sees it."""

import json
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from streamae.cli.options import DURATION

CONFIGS = sorted((Path(__file__).parents[1] / "config").glob("invalid-*.yaml"))
MINIMAL = """\
instance: verbs
state: {{dir: state}}
mqtt: {{host: 127.0.0.1, port: {port}, protocol: "5"}}
streams:
  pumps:
    topics: [{{topic: "plant/{{line}}/{{pump}}", payload: json, time: t}}]
    model: {{path: {model}}}
"""


def streamae(*arguments, timeout_s=60):
    """Run a verb as a process of its own."""
    command = [sys.executable, "-m", "streamae.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=False)


@pytest.fixture
def config(tmp_path, mosquitto):
    path = tmp_path / "streamae.yaml"
    path.write_text(MINIMAL.format(port=mosquitto.port, model="none.pt"))
    return path


@pytest.mark.parametrize("verb", [["--help"], ["run", "--help"], ["check", "-c", CONFIGS[0]], ["schema"]])
def test_quick_verbs_do_not_import_torch(verb):
    """`--help`, `check` of a bad configuration and `schema` answer without importing torch."""
    code = (
        f"import sys; from streamae.cli import main\ntry: main({[str(v) for v in verb]!r})\nexcept SystemExit: pass\n"
    )
    code += "print('torch' in sys.modules, 'paho' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.splitlines()[-1].startswith("False")


def test_every_broken_config_exits_78_with_its_line():
    """Each broken configuration gives its one line, naming file, line, key, value and remedy, and exit code 78."""
    assert len(CONFIGS) >= 30
    for path in CONFIGS[::12]:  # every one of them is held to its line in test_config.py; this is the shell's side
        done = streamae("run", "-c", path)
        expected = path.read_text().splitlines()[0].removeprefix("# ")
        assert done.returncode == 78, done.stderr
        assert done.stderr.strip() == f"{path}:{expected}"
        assert done.stdout == ""


def test_a_missing_model_exits_78_and_says_what_to_do(config):
    """A model that is not there is the operator's to mend, and said in one line."""
    done = streamae("check", "-c", config)
    assert done.returncode == 78
    assert "none.pt" in done.stderr
    assert "streamae train" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_series_that_cannot_be_read_exits_65(tmp_path):
    """Bad data is neither our fault nor the configuration's: exit code 65, with file, line and column."""
    path = tmp_path / "bad.csv"
    path.write_text("timestamp,flow\n2024-01-01,1\n2024-01-02,high\n")
    done = streamae("train", path, "-o", tmp_path / "m.pt")
    assert done.returncode == 65
    assert f"{path}:3: flow: got 'high'" in done.stderr


def test_a_simulated_plant_can_be_recorded_and_replayed(tmp_path, config, mosquitto):
    """What simulate publishes, record writes, and replay publishes again, byte by byte; faults are written down."""
    command = [sys.executable, "-m", "streamae.cli"]
    recording, labels = tmp_path / "plant.jsonl.gz", tmp_path / "faults.json"
    recorder = subprocess.Popen(
        [*command, "record", "-c", config, recording, "--duration", "60"], stdout=subprocess.PIPE
    )
    with mosquitto.collect("plant/#") as live:
        wait_for_subscription(mosquitto)
        simulate = ["simulate", "-c", config, "--streams", 3, "--rows", 40, "--speed", "max"]
        done = streamae(*simulate, "--fault", "leak:line1/pump02:10:20:4", "--labels", labels)
        assert done.returncode == 0, done.stderr
        assert "120 messages of 3 streams" in done.stdout
        poll(lambda: len(live) == 120 and acknowledged(mosquitto) == 120)
    recorder.terminate()
    assert b"120 messages" in recorder.communicate(timeout=30)[0]
    (event,) = json.loads(labels.read_text())
    assert (event["stream"], event["kind"], event["end_s"] - event["start_s"]) == ("line1/pump02", "leak", 20)
    with mosquitto.collect("plant/#") as again:
        done = streamae("replay", "-c", config, recording, "--speed", "max")
        assert done.returncode == 0, done.stderr
        poll(lambda: len(again) == 120)
    assert [(topic, payload) for topic, payload, _ in again] == [(topic, payload) for topic, payload, _ in live]


def written(path):
    """Return the payloads of a recording."""
    return [json.loads(line)["payload"] for line in path.read_text().splitlines()]


def test_record_takes_no_recording_away(tmp_path, config, mosquitto):
    """A file that holds something is refused before anything is connected; --append goes on, --overwrite replaces."""
    out = tmp_path / "r.jsonl"
    out.write_text(before := '{"time_s":1.0,"topic":"plant/a/b","payload":"old"}\n')
    record = ["record", "-c", config, out, "--topic", "plant/#"]
    refused = streamae(*record, "--duration", "2s")
    assert (refused.returncode, out.read_text()) == (65, before)
    assert "--append" in refused.stderr
    for choice, expected in (("--append", ["old", "new"]), ("--overwrite", ["new"])):
        subscribed, recorded = mosquitto.log().count("Received SUBSCRIBE"), acknowledged(mosquitto)
        recorder = subprocess.Popen([sys.executable, "-m", "streamae.cli", *map(str, record), choice])
        poll(lambda seen=subscribed: mosquitto.log().count("Received SUBSCRIBE") > seen)
        mosquitto.publish([("plant/a/b", "new")])
        poll(lambda seen=recorded: acknowledged(mosquitto) > seen)
        recorder.terminate()
        assert (recorder.wait(30), written(out)) == (0, expected)


@pytest.mark.parametrize(("text", "seconds"), [("90", 90.0), ("1.5", 1.5), ("90s", 90.0), ("3d", 259200.0)])
def test_a_duration_is_written_as_in_the_configuration(text, seconds):
    """A number with its unit; a number alone is seconds, as it always was."""
    assert DURATION.convert(text, None, None) == seconds


@pytest.mark.parametrize("verb", ["record", "sniff"])
@pytest.mark.parametrize("text", ["3 days", "0s", "-1", "nan", "inf"])
def test_what_is_no_duration_is_refused_with_what_would_be(verb, text):
    rest = ["-c", "x.yaml", "out"] if verb == "record" else ["--host", "x"]
    done = streamae(verb, *rest, "--duration", text)
    assert done.returncode == 2
    assert "90s" in done.stderr


def test_the_demo_refuses_a_taken_port_before_it_trains(tmp_path):
    """The refusal names --port, and nothing was made."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = streamae("demo", "--port", taken.getsockname()[1], "--folder", tmp_path / "demo")
    assert done.returncode == 69
    assert "--port" in done.stderr
    assert (done.stdout, (tmp_path / "demo").exists()) == ("", False)


def acknowledged(mosquitto):
    """Return how many messages the recorders have written and acknowledged."""
    return len(re.findall("Received PUBACK from [^ ]*record", mosquitto.log()))


def wait_for_subscription(mosquitto):
    """Wait until the recorder has subscribed too (the collector is the first)."""
    poll(lambda: mosquitto.log().count("Received SUBSCRIBE") >= 2)


def poll(condition, timeout_s=30.0):
    """Wait for a condition to hold, generously."""
    import time

    end_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end_s, "it did not happen in time"
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["simulate", "--rows", "5"], "give either -c"),
        (["simulate", "--out", "x", "--rows", "5", "--fault", "leak:nobody:1:2"], "fault of stream 'nobody'"),
        (["simulate", "--out", "x", "--rows", "5", "--fault", "leak"], "write kind:stream:start:duration"),
        (["replay", "-c", "none.yaml", "x.csv", "--speed", "-1"], "number above 0"),
        (["replay", "-c", "none.yaml", "x.csv"], "none.yaml"),
    ],
)
def test_wrong_arguments_are_explained(arguments, word):
    """A wrong argument is refused with what would be right."""
    done = streamae(*arguments)
    assert done.returncode != 0
    assert word in done.stderr
    assert "Traceback" not in done.stderr
