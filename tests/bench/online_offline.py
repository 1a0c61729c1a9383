"""Online equals offline: series through a real broker into a running daemon, against `streamae score` on the files.

    python -m tests.bench.online_offline [--rows 400] SERIES.csv.gz …

Each series gets a model trained on its first rows and a group of its own in one daemon; all are replayed at full
speed through a real mosquitto. Printed per series: rows, the largest difference of score and threshold over all rows,
and whether the alert transitions are the same. Exit code 1 where anything differs.
"""

import argparse
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from streamae.core.alert import AlertRule
from streamae.core.decode import PayloadSpec
from streamae.core.report import Transition
from streamae.core.topics import Template
from streamae.daemon.build import Models
from streamae.daemon.daemon import Daemon
from streamae.history.recordings import Series, read_series
from streamae.model.artifact import open_artifact
from streamae.mqtt import ConnectionOptions
from streamae.tools.broker import Broker
from streamae.tools.replay import ReplayPace, replay_series
from streamae.training.backtest import Scored, offline_group, score_series

SCORE_MAX = 1e-6  # the largest difference that counts as the same


@dataclass
class Online:
    """What the daemon said of one series, by the time of the row."""

    verdicts: dict[float, tuple[float, float, int]] = field(default_factory=dict)
    transitions: list[Transition] = field(default_factory=list)


@dataclass
class Compared:
    """One line of the table."""

    name: str
    rows: int
    scored: int
    missing: int
    score_difference: float
    threshold_difference: float
    transitions: int
    same_transitions: bool

    @property
    def holds(self) -> bool:
        return self.missing == 0 and self.score_difference <= SCORE_MAX and self.same_transitions


def config(folder: Path, broker: Broker, names: list[str], models: dict[str, Path]) -> Path:
    """Write a configuration with one group for each series."""
    groups = "".join(
        f"  {name}:\n"
        f"    topics: [{{topic: '{name}/{{stream}}', payload: json, time: timestamp}}]\n"
        f"    model: {{path: {models[name]}}}\n"
        f"    alert: {{for: 0s, keep_firing_for: 60s}}\n"
        for name in names
    )
    path = folder / "streamae.yaml"
    path.write_text(
        f"instance: offline\nstate: {{dir: state}}\nmqtt: {{host: 127.0.0.1, port: {broker.port}}}\n"
        f"web: {{listen: '127.0.0.1:0'}}\nstreams:\n{groups}"
    )
    return path


def online(
    path: Path, registry: Path, broker: Broker, series: list[Series], timeout_s: float = 300.0
) -> dict[str, Online]:
    """Replay all series at once into a daemon in this process; return what it said of each."""
    daemon = Daemon(path, models=Models(registry))
    said = {s.name: Online() for s in series}

    def note(report):
        for name, v in ((name, news.verdicts) for name, news in report.groups.items()):
            lines = zip(v.time_s.tolist(), v.score.tolist(), v.threshold.tolist(), v.state.tolist(), strict=True)
            said[name].verdicts.update({t: (score, threshold, state) for t, score, threshold, state in lines})
        for transition in report.transitions:
            said[transition.group].transitions.append(transition)
        rows[0] += report.messages

    rows = [0]
    daemon.on_report = note
    daemon.start()
    connection = ConnectionOptions(host="127.0.0.1", port=broker.port)
    feeds = [(s, [(Template.parse(f"{s.name}/{{stream}}"), PayloadSpec("json", time="timestamp"))]) for s in series]
    pace = ReplayPace(None, time.monotonic, time.sleep)
    replay = threading.Thread(target=lambda: [replay_series(connection, [s], topics, pace=pace) for s, topics in feeds])
    try:
        while not daemon.loop.source.status().subscribed:
            daemon.turn()
        replay.start()
        deadline_s = time.monotonic() + timeout_s
        while rows[0] < sum(len(s) for s in series) and time.monotonic() < deadline_s:
            daemon.turn()
    finally:
        replay.join(30)
        daemon.stop()
    return said


def compare(series: Series, offline: Scored, daemon: Online) -> Compared:
    """Hold what the daemon said against the file's scores, row by row."""
    known = np.flatnonzero(np.isfinite(offline.score))
    got = np.array([daemon.verdicts.get(t, (np.nan, np.nan, 0))[:2] for t in series.time_s[known].tolist()]).reshape(
        -1, 2
    )
    away = np.abs(got - np.stack([offline.score[known], offline.threshold[known]], axis=1))

    def shown(transitions):
        return [(t.state, t.severity, t.sequence, t.onset_s, t.time_s) for t in transitions]

    return Compared(
        name=series.name,
        rows=len(series),
        scored=len(known),
        missing=int(np.isnan(got[:, 0]).sum()),
        score_difference=float(np.nanmax(away[:, 0], initial=0)),
        threshold_difference=float(np.nanmax(away[:, 1], initial=0)),
        transitions=len(offline.transitions),
        same_transitions=shown(offline.transitions) == shown(daemon.transitions),
    )


def run(paths: list[Path], rows: int, folder: Path, train_config=None) -> list[Compared]:
    """Train, score offline, replay online, compare."""
    from streamae.training.train import train

    registry, series, models, offline = folder / "models.json", [], {}, {}
    for path in paths:
        one = read_series(path)
        models[one.name] = folder / f"{one.name}.pt"
        train([path], models[one.name], rows, 0, train_config, now=time.time, registry=registry)
        artifact = open_artifact(models[one.name], None, registry)
        group = offline_group(artifact.profile, artifact.reconstructor, AlertRule(0.0, 60.0, 2.0))
        offline[one.name] = score_series(one, group)
        series.append(one)
    with Broker(monotonic=time.monotonic, sleep=time.sleep) as broker:
        said = online(config(folder, broker, [s.name for s in series], models), registry, broker, series)
    return [compare(s, offline[s.name], said[s.name]) for s in series]


def main() -> int:
    """Print the table."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("series", nargs="+", type=Path)
    arguments.add_argument("--rows", type=int, default=400)
    chosen = arguments.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        lines = run(chosen.series, chosen.rows, Path(folder))
    columns = f"{'rows':>7}{'scored':>8}{'missing':>9}{'max |score|':>13}{'max |threshold|':>17}{'transitions':>13}"
    print(f"\n{'series':<14}{columns}  same")
    for c in lines:
        print(
            f"{c.name:<14}{c.rows:>7}{c.scored:>8}{c.missing:>9}{c.score_difference:>13.2g}"
            f"{c.threshold_difference:>17.2g}{c.transitions:>13}  {'yes' if c.same_transitions else 'NO'}"
        )
    bad = [c.name for c in lines if not c.holds]
    print(
        f"{len(lines) - len(bad)} of {len(lines)} series: online equals offline"
        + (f"; not: {', '.join(bad)}" if bad else "")
    )
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
