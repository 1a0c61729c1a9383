"""Replay, simulation and recording through real brokers, and the brokers that we start ourselves."""

import json
import random
import socket
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from streamae.core.decode import PayloadSpec
from streamae.core.topics import Template
from streamae.errors import UnavailableError
from streamae.history.recordings import read_batches, read_series
from streamae.ingest.mqtt import MqttSource, ReceiveLimits
from streamae.mqtt import ConnectionOptions, Subscription
from streamae.tools.broker import Broker, find_mosquitto
from streamae.tools.record import record
from streamae.tools.replay import ReplayPace, replay_messages, replay_series
from streamae.tools.simulate.faults import Fault
from streamae.tools.simulate.plants import Pumps
from streamae.tools.simulate.publish import publish_plant
from tests.brokers import Mosquitto, accepts, free_port, wait_until

FAST = ReplayPace(None, time.monotonic, time.sleep)
JSON = PayloadSpec("json", time="timestamp")


def connection_to(broker: Mosquitto | Broker, **more: object) -> ConnectionOptions:
    return ConnectionOptions(host="127.0.0.1", port=broker.port, client_id="test", **more)


def write(folder: Path, name: str, rows: np.ndarray, step_s: float = 1.0) -> Path:
    path = folder / f"{name}.csv"
    lines = [f"{1.7e9 + i * step_s!r},{a!r},{b!r},1\n" for i, (a, b) in enumerate(rows.tolist())]
    path.write_text("timestamp,a,b,label\n" + "".join(lines))
    return path


def test_replayed_series_arrives_to_the_last_bit(mosquitto: Mosquitto, tmp_path: Path) -> None:
    """Every row arrives once, in order, on the topic of its stream, with its own time and exactly its numbers."""
    rows = np.random.default_rng(0).normal(size=(500, 2)) * 10.0 ** np.arange(2)
    series = [read_series(write(tmp_path, name, rows + i)) for i, name in enumerate(["p1", "p2"])]
    seen: list[tuple[int, int]] = []
    with mosquitto.collect("plant/#") as received:
        topics = [(Template.parse("plant/{line}/{pump}"), JSON)]
        labels = {"line": "north"}
        done = replay_series(
            connection_to(mosquitto), series, topics, pace=FAST, labels=labels, progress=lambda *c: seen.append(c)
        )
        wait_until(lambda: len(received) == 1000)
    assert done.messages == 1000
    assert seen[-1] == (1000, 1000)
    for i, one in enumerate(series):
        mine = [json.loads(payload) for topic, payload, _ in received if topic == f"plant/north/{one.name}"]
        assert [[m["a"], m["b"]] for m in mine] == (rows + i).tolist()
        assert [m["timestamp"] for m in mine] == one.time_s.tolist()
        assert "label" not in mine[0]


def test_replay_keeps_the_pace_it_is_asked_for(mosquitto: Mosquitto, tmp_path: Path) -> None:
    """At speed X a recording takes its own time divided by X; waiting is done by the sleep that is given."""
    series = read_series(write(tmp_path, "p", np.zeros((20, 2)), step_s=5.0))
    clock = [0.0]

    def sleep(seconds: float) -> None:
        clock[0] += seconds

    done = replay_series(
        connection_to(mosquitto),
        [series],
        [(Template.parse("p/{s}"), JSON)],
        pace=ReplayPace(10.0, lambda: clock[0], sleep),
    )
    assert done.messages == 20
    assert done.seconds == pytest.approx(19 * 5 / 10)


def test_replay_can_be_moved_to_now(mosquitto: Mosquitto, tmp_path: Path) -> None:
    """With `shift_to_s` the recording begins at that time, its spacing kept."""
    series = read_series(write(tmp_path, "p", np.zeros((3, 2)), step_s=2.0))
    with mosquitto.collect("p/#") as received:
        topics = [(Template.parse("p/{s}"), JSON)]
        replay_series(connection_to(mosquitto), [series], topics, pace=FAST, shift_to_s=1000.0)
        wait_until(lambda: len(received) == 3)
    assert [json.loads(m[1])["timestamp"] for m in received] == [1000.0, 1002.0, 1004.0]


def test_replay_without_a_broker_is_an_error(tmp_path: Path) -> None:
    """Where no broker answers, replay ends with an error that says what to check."""
    series = read_series(write(tmp_path, "p", np.zeros((3, 2))))
    nowhere = ConnectionOptions(host="127.0.0.1", port=free_port())
    with pytest.raises(UnavailableError, match="check that the broker runs"):
        replay_series(nowhere, [series], [(Template.parse("p/{s}"), JSON)], pace=FAST)


def test_plant_on_a_broker_has_the_plants_own_numbers(mosquitto: Mosquitto) -> None:
    """Each channel of each pump is published on its own topic, as a plain number, row after row."""
    with mosquitto.collect("plant/#") as received:
        plant = Pumps(4, seed=2, faults=[Fault("spike", "line2/pump04", 3, 2)])
        template = Template.parse("plant/{line}/{pump}/{channel}")
        sent = publish_plant(plant, connection_to(mosquitto), template, PayloadSpec("number"), pace=FAST, rows=10)
        wait_until(lambda: len(received) == 160)
    assert sent == 160
    _, values, _ = Pumps(4, seed=2, faults=[Fault("spike", "line2/pump04", 3, 2)]).rows(10)
    mine = [float(payload) for topic, payload, _ in received if topic == "plant/line2/pump04/pressure"]
    assert mine == values[:, 3, 0].tolist()


def test_recorded_broker_can_be_replayed(mosquitto: Mosquitto, tmp_path: Path) -> None:
    """What `record` wrote holds every message in order, and `replay_messages` publishes the same again."""
    path = tmp_path / "r.jsonl.gz"
    sent = [(f"t/{i % 3}", bytes([i, 255 - i])) for i in range(200)]

    def publish() -> None:
        wait_until(lambda: "SUBACK to test-record" in mosquitto.log())
        mosquitto.publish(sent)

    thread = threading.Thread(target=publish)
    thread.start()
    clocks = {"now": time.time, "monotonic": time.monotonic, "jitter": random.random}
    count = record(connection_to(mosquitto), ["t/#"], path, messages_max=200, duration_s=30, **clocks)
    thread.join()
    assert count == 200
    (batch,) = read_batches(path)
    assert list(zip(batch.topics, batch.payloads, strict=True)) == [(t.encode(), p) for t, p in sent]
    assert (np.diff(batch.arrival_s) >= 0).all()
    messages = zip(batch.arrival_s.tolist(), batch.topics, batch.payloads, strict=True)
    with mosquitto.collect("t/#") as received:
        assert replay_messages(connection_to(mosquitto), messages, pace=FAST).messages == 200
        wait_until(lambda: len(received) == 200)
    assert [(topic, payload) for topic, payload, _ in received] == sent


@pytest.mark.parametrize("kind", ["mosquitto", "amqtt"])
def test_own_broker(kind: str, tmp_path: Path) -> None:
    """Either broker of the demo starts on a free port, carries messages to a source, and is gone afterwards."""
    if kind == "mosquitto" and find_mosquitto() is None:
        pytest.skip("mosquitto is not installed")
    if kind == "amqtt":
        pytest.importorskip("amqtt", reason="amqtt comes with the demo extra")
    with Broker(monotonic=time.monotonic, sleep=time.sleep, kind=kind) as broker:
        connection = connection_to(broker, protocol=broker.protocol)
        source = MqttSource(
            connection,
            [Subscription("p/+")],
            ReceiveLimits(),
            now=time.time,
            monotonic=time.monotonic,
            jitter=random.random,
            status_topic="streamae/test/status",
        )
        source.start()
        wait_until(lambda: source.status().subscribed, what=str(source.status()))
        series = read_series(write(tmp_path, "x", np.arange(100.0).reshape(50, 2)))
        replay_series(connection, [series], [(Template.parse("p/{s}"), JSON)], pace=FAST)
        got = 0
        while got < 50:
            batch = source.take(100, 10)
            assert len(batch), source.status()
            got += len(batch)
            source.ack(batch)
        source.close()
        assert broker.url == f"mqtt://127.0.0.1:{broker.port}"
    assert not accepts(broker.port)


def test_own_broker_that_cannot_start_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    """A port that is taken is said, and a broker that ends at once is quoted with its own last words."""
    clocks = {"monotonic": time.monotonic, "sleep": time.sleep}
    with socket.create_server(("127.0.0.1", 0)) as taken:
        broker = Broker(**clocks, port=taken.getsockname()[1])
        with pytest.raises(UnavailableError, match="is taken by another program"):
            broker.start()
    monkeypatch.setattr("streamae.tools.broker._AMQTT", "raise SystemExit('no luck today')")
    with pytest.raises(UnavailableError, match=r"amqtt does not start on port .*: no luck today; install mosquitto"):
        Broker(**clocks, kind="amqtt").start()
