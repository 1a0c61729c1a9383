"""The verb `notify-test`: any sink of a configuration, what its receiver answered, and the exit code."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from streamae.cli import main
from streamae.sinks import SINKS
from tests.brokers import Mosquitto, free_port, wait_until
from tests.sinks.test_sinks import Receiver

CONFIG = """\
instance: plant-1
mqtt: {{host: 127.0.0.1, port: {port}}}
streams: {{pumps: {{topics: [{{topic: "plant/{{pump}}/{{channel}}"}}], model: {{path: none.pt}}}}}}
sinks:
  - {{type: log, name: words}}
  - {{type: mqtt, timeout: 5s}}
  - {{type: webhook, name: hook, url: "{url}/hook"}}
  - {{type: alertmanager, url: "{url}"}}
  - {{type: apprise, name: phone, urls: ["file:address"], timeout: 60s}}
"""
NAMES = {"log": "words", "mqtt": "mqtt", "webhook": "hook", "alertmanager": "alertmanager", "apprise": "phone"}


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.close()


def run(folder: Path, receiver: Receiver, sink: str, port: int = 1) -> Result:
    """Run the verb; a model is not there and not needed."""
    pytest.importorskip("apprise", reason="apprise is not installed: pip install 'streamae[notify]'")
    (folder / "address").write_text(receiver.url.replace("http", "json", 1))
    (folder / "streamae.yaml").write_text(CONFIG.format(port=port, url=receiver.url))
    return CliRunner().invoke(main, ["notify-test", sink, "-c", str(folder / "streamae.yaml")])


@pytest.mark.parametrize("kind", SINKS)
def test_any_sink_can_be_tried(tmp_path: Path, receiver: Receiver, mosquitto: Mosquitto, kind: str) -> None:
    """The receiver has a marked test, the verb says what it answered, and ends with 0; no daemon runs."""
    with mosquitto.collect("streamae/#") as received:
        result = run(tmp_path, receiver, NAMES[kind], mosquitto.port)
        assert result.exit_code == 0, result.output
        if kind == "mqtt":
            wait_until(lambda: received)
    said = result.stdout.splitlines()[-1]
    assert said.startswith(f"{NAMES[kind]}: ")
    if kind == "log":
        assert "notify-test" in result.stderr
    else:
        sent = [payload.decode() for _, payload, _ in received] + [json.dumps(body) for _, _, body in receiver.requests]
        assert len(sent) == 1
        assert "This is a test of the notifications of plant-1" in sent[0]


def test_a_test_over_mqtt_leaves_nothing_retained(tmp_path: Path, receiver: Receiver, mosquitto: Mosquitto) -> None:
    """Who subscribes after one test has the next as the first message."""
    assert run(tmp_path, receiver, "mqtt", mosquitto.port).exit_code == 0
    with mosquitto.collect("streamae/#") as received:
        assert run(tmp_path, receiver, "mqtt", mosquitto.port).exit_code == 0
        wait_until(lambda: received)
    assert [kept for _, _, kept in received] == [False]


@pytest.mark.parametrize("kind", sorted(SINKS.keys() - {"log"}))
def test_a_receiver_that_takes_nothing_is_the_reason_and_69(tmp_path: Path, receiver: Receiver, kind: str) -> None:
    """The same verb, whose receiver refuses or is away."""
    receiver.status = 401
    result = run(tmp_path, receiver, NAMES[kind], free_port())
    assert result.exit_code == 69, result.output
    assert ("refused" if kind == "mqtt" else "401") in result.stderr.lower()
    assert f"{NAMES[kind]}: " not in result.stdout


def test_a_sink_that_there_is_not_is_named_with_those_that_there_are(tmp_path: Path, receiver: Receiver) -> None:
    """Nothing is sent."""
    result = run(tmp_path, receiver, "fone")
    assert result.exit_code == 78
    assert (
        "got fone; write the name of a sink of the configuration: words, mqtt, hook, alertmanager, phone"
        in result.stderr
    )
    assert receiver.requests == []
