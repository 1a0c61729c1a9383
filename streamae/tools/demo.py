"""`streamae demo`: the whole way in a minute: a broker, a simulated plant, a trained model, the daemon, a fault.

Everything lives in one folder and is real: an embedded mosquitto (amqtt where there is none), twenty pumps that
publish on it, a model trained on their past, the daemon with its own configuration file. Then one named pump breaks,
and the demo holds the daemon to its promise: that pump, in time, and no other.
"""

import itertools
import logging
import shutil
import socket
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from streamae import logs
from streamae.core.decode import PayloadSpec
from streamae.core.report import Transition
from streamae.core.topics import Template
from streamae.daemon.build import Models
from streamae.daemon.clock import Clock
from streamae.daemon.daemon import Daemon
from streamae.errors import StreamaeError, UnavailableError
from streamae.mqtt import ConnectionOptions
from streamae.stopping import grace
from streamae.tools.broker import Broker
from streamae.tools.replay import ReplayPace
from streamae.tools.simulate.faults import Fault
from streamae.tools.simulate.plants import Pumps
from streamae.tools.simulate.publish import publish_plant, write_plant

__all__ = ["demo"]

_PUMPS = 20
_PERIOD_S = 0.2
_DAY_S = 600.0  # a plant's day in ten minutes
_HISTORY_ROWS = 3600  # what the model learns from: more than one day of each pump
_CALM_S = 20.0  # normal operation before the first fault
_FAULT_S = 40.0
_PATIENCE_S = 45.0
_TIDY_S = 10.0  # a stop ends the daemon, the broker and the folder in far less; on a busy machine they are to end too
_TOPIC = "plant/{line}/{pump}"
_FAULTS = ("oscillation", "leak", "stuck", "drift", "spike")
_CONFIG = """\
# The configuration of the demo; deploy/streamae.yaml explains every key.
instance: demo
state: {{dir: state}}
mqtt: {{host: {host}, port: {port}, protocol: "{protocol}"}}
web: {{listen: "127.0.0.1:{page}", token: "file:page.token"}}
streams:
  pumps:
    topics:
      - {{topic: "plant/{{line}}/{{pump}}", payload: json, time: t}}
    model: {{path: pumps.pt}}
    alert: {{for: 1s, keep_firing_for: 15s}}
sinks:
  - {{type: log}}
  - {{type: mqtt}}
"""


@dataclass(frozen=True, slots=True)
class _Injected:
    fault: Fault
    at_s: float  # event time of its first row


class _World:
    """The plant on the broker, in a thread of its own; faults are injected between two rows."""

    def __init__(self, plant: Pumps, connection: ConnectionOptions, clock: Clock) -> None:
        self._plant, self._clock = plant, clock
        self._wanted: list[tuple[str, str]] = []
        self.injected: list[_Injected] = []
        self.stopping = threading.Event()
        self.failure: Exception | None = None
        self._thread = threading.Thread(target=self._publish, args=(connection,), name="plant", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self.stopping.set()
        self._thread.join(0.5)

    def inject(self, kind: str, stream: str) -> None:
        """Ask for a fault, which begins with the next row."""
        self._wanted.append((kind, stream))

    def _publish(self, connection: ConnectionOptions) -> None:
        try:
            publish_plant(
                self._plant,
                connection,
                Template.parse(_TOPIC),
                PayloadSpec("json", time="t"),
                pace=ReplayPace(1.0, self._clock.monotonic, self._clock.sleep),
                stopped=self.stopping.is_set,
                on_row=self._inject,
            )
        except StreamaeError as error:
            self.failure = error

    def _inject(self, _: int) -> None:
        while self._wanted:
            kind, stream = self._wanted.pop(0)
            plant = self._plant
            magnitude = 6.0 if kind == "leak" else 4.0
            fault = Fault(kind, stream, plant.elapsed_s, _FAULT_S, magnitude)
            plant.inject(fault)
            self.injected.append(_Injected(fault, plant.start_s + plant.elapsed_s))


def demo(folder: Path | None, *, exit_after_alert: bool, page: int, broker_kind: str | None, clock: Clock) -> int:
    """Run the demo in `folder` (None: a temporary one); returns the exit code.

    0: the fault was caught and nothing else alarmed; 1: it was not, or another pump did.
    """
    _free(page)
    own = folder is None
    folder = folder or Path(tempfile.mkdtemp(prefix="streamae-demo-"))
    folder.mkdir(parents=True, exist_ok=True)
    logs.set_up("warning", "human")
    logging.getLogger("streamae.alerts").setLevel(logging.CRITICAL)  # the demo prints alerts itself
    try:
        with grace(_TIDY_S), Broker(monotonic=clock.monotonic, sleep=clock.sleep, kind=broker_kind) as broker:
            click.echo(f"broker   {broker.kind} on {broker.url}")
            return _play(folder, broker, exit_after_alert=exit_after_alert, page=page, clock=clock)
    finally:
        if own:
            shutil.rmtree(folder, ignore_errors=True)


def _free(page: int) -> None:
    """Refuse a taken port before a model is trained, not after. Raises UnavailableError."""
    try:
        socket.create_server(("127.0.0.1", page)).close()
    except OSError as error:
        raise UnavailableError(
            f"port {page} of 127.0.0.1 cannot be had ({error.strerror or error}); choose another with --port N, "
            "0 takes a free one (make demo DEMO_FLAGS='--port 0')"
        ) from None


def _play(folder: Path, broker: Broker, *, exit_after_alert: bool, page: int, clock: Clock) -> int:
    from streamae.training.limits import Limit
    from streamae.training.train import TrainConfig, train

    history_s = _HISTORY_ROWS * _PERIOD_S
    began_s = clock.monotonic()
    plant = Pumps(_PUMPS, start_s=clock.now() - history_s - 60.0, period_s=_PERIOD_S, day_s=_DAY_S)
    paths = write_plant(plant, _HISTORY_ROWS, folder / "history", labelled=False)
    click.echo(f"plant    {_PUMPS} pumps, {', '.join(plant.channels)}; {history_s / 60:.0f} min of history written")
    registry = folder / "models.json"
    # The plant's past is as its future: what a second training would ask (`training.holdout`) is known.
    quick = TrainConfig(threshold=Limit(unseen=0.0))
    train(paths, folder / "pumps.pt", config=quick, now=clock.now, registry=registry)
    click.echo(f"model    trained on their history, {clock.monotonic() - began_s:.0f} s after the start")
    config = folder / "streamae.yaml"
    (folder / "page.token").write_text("demo")
    config.write_text(_CONFIG.format(host=broker.host, port=broker.port, protocol=broker.protocol, page=page))
    # The plant's clock goes on from now: what lies between was its night.
    plant.start_s += clock.now() - (plant.start_s + plant.elapsed_s)
    daemon = Daemon(config, clock, Models(registry))
    daemon.start()
    world = _World(plant, ConnectionOptions(host=broker.host, port=broker.port, protocol=broker.protocol), clock)
    try:
        world.start()
        click.echo(
            f"daemon   page http://127.0.0.1:{daemon.web.port}/  metrics http://127.0.0.1:{daemon.web.port}/metrics"
        )
        click.echo("         to acknowledge alerts on the page: token demo")
        click.echo(f"         alerts also on the broker: mosquitto_sub -p {broker.port} -t 'streamae/demo/alerts/#'")
        return _watch(daemon, world, plant.names, exit_after_alert=exit_after_alert)
    finally:
        world.stop()
        daemon.stop()


def _watch(daemon: Daemon, world: _World, names: Sequence[str], *, exit_after_alert: bool) -> int:
    """Let it run calmly, break one pump after another, and compare the alerts with what was done."""
    clock = daemon.clock
    seen: list[Transition] = []
    daemon.on_report = lambda report: seen.extend(report.transitions)
    for round_number in itertools.count():
        kind, stream = _FAULTS[round_number % len(_FAULTS)], names[(7 + 5 * round_number) % len(names)]
        click.echo(f"\ncalm     {_CALM_S:.0f} s of normal operation, then a fault: {kind} in {stream}")
        _turn_until(daemon, world, clock.monotonic() + _CALM_S)
        early = [t for t in seen if t.state == "firing"]
        world.inject(kind, stream)
        deadline_s = clock.monotonic() + _PATIENCE_S
        while clock.monotonic() < deadline_s and not any(t.stream == stream and t.state == "firing" for t in seen):
            _turn_until(daemon, world, clock.monotonic() + 0.2)
        verdict = _judge([*early, *(t for t in seen if t not in early)], world.injected[-1])
        if exit_after_alert:
            return verdict
        _turn_until(daemon, world, clock.monotonic() + _FAULT_S + 20.0)
        seen.clear()
        if daemon.stop_asked.is_set():
            return verdict
    return 1


def _turn_until(daemon: Daemon, world: _World, end_s: float) -> None:
    while daemon.clock.monotonic() < end_s and not daemon.stop_asked.is_set():
        daemon.turn()
        if world.failure is not None:
            raise UnavailableError(f"the simulated plant cannot publish: {world.failure}")


def _judge(seen: Sequence[Transition], injected: _Injected) -> int:
    fired = [t for t in seen if t.state == "firing" and t.sequence == 0]
    right = [t for t in fired if t.stream == injected.fault.stream and t.time_s >= injected.at_s]
    wrong = [t for t in fired if t not in right]
    for t in wrong:
        click.echo(f"FALSE    {t.stream}: score {t.score:.3g} over {t.threshold:.3g}, {t.worst_channel}")
    if not right:
        click.echo(f"MISSED   no alert for the {injected.fault.kind} in {injected.fault.stream}")
        return 1
    t = right[0]
    delay_s = t.time_s - injected.at_s
    what = f"{t.worst_channel} carries {100 * t.shares[t.worst_channel]:.0f} % of the error, "
    what += f"score {t.score:.3g} over {t.threshold:.3g}"
    if t.rule == "stuck":
        what = f"{t.worst_channel} is stuck: {t.score:.0f} equal values"
    click.echo(f"ALERT    {t.stream}: {what}, {delay_s:.1f} s after the {injected.fault.kind} began")
    return 1 if wrong else 0
