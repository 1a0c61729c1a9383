"""`check --listen` on a real broker: what would be read of each topic, and the exit status that says so."""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from streamae.daemon.listen import listen
from streamae.errors import UnavailableError
from tests.brokers import Mosquitto, free_port
from tests.services import write

PUMP = {"t": 1_700_000_000.0, "pressure": 4.0, "flow": 30.0, "vibration": 2.0, "temperature": 20.0}


@pytest.fixture
def chatter(mosquitto: Mosquitto) -> Iterator[dict[str, object]]:
    """Says everything in it on its topic, again and again, until the test ends."""
    said: dict[str, object] = {}
    over = threading.Event()

    def speak() -> None:
        while not over.wait(0.05):
            mosquitto.publish([(topic, json.dumps(document).encode()) for topic, document in list(said.items())])

    thread = threading.Thread(target=speak)
    thread.start()
    yield said
    over.set()
    thread.join()


def test_a_healthy_configuration_is_content(mosquitto, trained, tmp_path, chatter):
    """Each group got its values; strangers under its topics are counted with what they have, and are no mistake."""
    path = write(tmp_path, mosquitto, trained).path
    chatter.update({"plant/l1/p1": PUMP, "plant/l1/p2": PUMP, "plant/l1/door": {"contact": True}})
    lines, content = listen(path, 1.5)
    assert content, lines
    assert lines[1] == "group pumps: ok"
    assert "messages read; " in lines[2]
    assert lines[2].endswith("the payload has contact")
    assert lines[3].startswith("  2 streams; values: ")


def test_wrong_names_and_silence_are_said(mosquitto, trained, tmp_path, chatter):
    """A group of whose messages none is read lacks values, one to whom nobody speaks as well."""
    path = write(tmp_path, mosquitto, trained).path
    chatter["plant/l1/p1"] = {"t": 1_700_000_000.0, "Flow": 1.0}
    lines, content = listen(path, 1.0)
    assert not content
    assert lines[1] == "group pumps: lacks values"
    assert lines[2].endswith("the payload has t, Flow")
    path.write_text(path.read_text().replace("plant/{line}/{pump}", "plants/{line}/{pump}"))
    lines, content = listen(path, 0.5)
    assert (content, lines[2]) == (False, "  plants/+/+: no message")


def test_one_name_that_is_wrong_is_said(mosquitto, trained, tmp_path, chatter):
    """All is read but one channel, and so nothing would ever be judged."""
    path = write(tmp_path, mosquitto, trained).path
    chatter["plant/l1/p1"] = {name.replace("flow", "Flow"): value for name, value in PUMP.items()}
    lines, content = listen(path, 1.5)
    assert not content
    assert "messages that were read has `flow`" in lines[-1]


def test_the_verb_says_it_with_its_status(mosquitto, trained, tmp_path, chatter):
    """0 where each group got something, else 1; and a broker that is not there is an error of its own."""
    path = write(tmp_path, mosquitto, trained).path
    command = [sys.executable, "-m", "streamae.cli", "check", "-c", str(path), "--listen", "1s"]
    chatter["plant/l1/p1"] = PUMP
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, "group pumps: ok" in done.stdout) == (0, True), done.stdout + done.stderr
    chatter["plant/l1/p1"] = {"contact": True}
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, "group pumps: lacks values" in done.stdout) == (1, True), done.stdout + done.stderr
    path.write_text(path.read_text().replace(str(mosquitto.port), str(free_port())))
    with pytest.raises(UnavailableError, match=r"check mqtt\.host"):
        listen(path, 1.0)
