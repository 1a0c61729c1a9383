"""A reload of the real daemon with another model: broker, model files, SIGHUP, and what everybody is notified of."""

import json
import re
import signal
from dataclasses import replace

import pytest

from tests.brokers import wait_until
from tests.services import Feed, plant, write

RELOADED = "streamae_config_last_reload_success_timestamp_seconds"


@pytest.fixture(scope="module")
def retrained(trained, tmp_path_factory):
    """Give another model of the same pumps, of another seed and a shorter training."""
    from streamae.training.train import train
    from tests import models

    path = tmp_path_factory.mktemp("retrained") / "other.pt"
    config = models.quick(60)
    done = train(trained.series, path, models.TRAIN_ROWS, 1, config, now=lambda: 0.0, console=models.quiet())
    assert done.digest != trained.sha256
    return replace(trained, path=path, sha256=done.digest)


def reload(daemon, config):
    """Write a configuration, send SIGHUP, and wait until it is taken over."""
    before = daemon.metric(RELOADED)
    daemon.path.write_text(config)
    daemon.signal(signal.SIGHUP)
    wait_until(lambda: daemon.metric(RELOADED) > before, 60, daemon.log())


def fires(daemon, stream):
    """The ids of the anomalies that fire in a stream."""
    alerts = json.loads(daemon.get("/api/v1/alerts?state=firing")[1])["alerts"]
    return [one["id"] for one in alerts if (one["stream"], one["rule"]) == (stream, "anomaly")]


def rows_and_windows(daemon):
    text = daemon.get("/metrics")[1]
    return [float(re.search(rf"^streamae_{name}_total (\S+)$", text, re.M)[1]) for name in ("rows", "windows_scored")]


def test_a_new_model_in_the_middle_of_an_alert(mosquitto, trained, retrained, tmp_path):
    """It judges each row from the next on, the alert goes on under its id, and its retained state ends with it."""
    daemon = write(tmp_path, mosquitto, trained).start()
    feed = Feed(mosquitto.port, plant(trained), rows_per_s=10.0)
    sick = feed.plant.names[1]
    name = sick.replace("/", "-")
    with mosquitto.collect("streamae/plant-1/alerts/#") as received:
        try:
            daemon.wait_for("/readyz")
            feed.history(200)
            feed.start()
            wait_until(lambda: daemon.metric("streamae_windows_scored_total") > 300, 60, daemon.log())
            feed.inject("drift", sick, 12.0, 150.0)
            wait_until(lambda: fires(daemon, name), 60, "the alert")
            feed.pause()  # so that nothing ends before the reload, however long that takes
            (alert,) = fires(daemon, name)
            rows, windows = rows_and_windows(daemon)
            other = daemon.path.read_text().replace(str(trained.path), str(retrained.path))
            reload(daemon, other.replace(trained.sha256, retrained.sha256))
            assert fires(daemon, name) == [alert]
            assert "another model now: 3 of 3 streams have their windows from the journal, 1 alerts" in daemon.log()
            feed.go_on()
            wait_until(lambda: rows_and_windows(daemon)[0] > rows + 60, 60, "more rows")
            more_rows, more_windows = rows_and_windows(daemon)
            assert more_rows - rows == more_windows - windows, "each row has its window"
            states = {one["state"] for one in daemon.streams().values()}
            assert states <= {"ok", "pending", "firing"}
            topic = f"streamae/plant-1/alerts/pumps/{name}/anomaly"

            def ends():
                said = [json.loads(payload) for at, payload, _ in list(received) if at == topic]
                return [one["state"] for one in said if one["id"] == alert]

            wait_until(lambda: ends()[-1:] == ["resolved"], 90, "the end is notified")
            began = [json.loads(p) for at, p, _ in list(received) if at == f"{topic.rpartition('/')[0]}/event"]
            mine = [one for one in began if one["id"] == alert]
            assert [one["state"] for one in mine].count("resolved") == 1
            assert [one["sequence"] for one in mine] == list(range(len(mine)))
            assert mine[-1]["model_digest"] != mine[0]["model_digest"]
        finally:
            feed.stop()
            daemon.kill()
