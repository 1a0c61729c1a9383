"""From an unknown broker to alerts, without an edit, for each of the feeds of tests/feeds: a table.

    python -m tests.bench.feeds [--out DIR] [--train-days 5] [--days 7] [FEED …]

For each feed: `sniff` looks at its first day, `check` accepts the block, `train` learns every group from the first
days, and the daemon's own pipeline judges the days that follow, of which the last has a fault of six hours. Printed
are the groups, the streams, what was refused, the alerts on the normal days (there should be none) and after how long
the fault was found. What is done is kept in DIR, a file a feed, so that an interrupted run goes on where it was.
"""

import argparse
import json
import math
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import yaml

from streamae.config.check import check
from streamae.config.load import load
from streamae.core.groups import Groups
from streamae.core.report import Transition
from streamae.core.types import Batch
from streamae.daemon.build import Models, groups_of
from streamae.errors import SeriesError
from streamae.history.messages import from_recordings
from streamae.history.recordings import Message, message_line, read_batches
from streamae.tools.feeds import sniff_recorded
from streamae.training.plan import TrainConfig
from streamae.training.train import train
from tests.feeds.catalogue import FEEDS, Feed
from tests.feeds.signals import DAY_S, START_S
from tests.models import quiet

FAULT_S = 6 * 3600.0
LATE_S = 3600.0  # an alert so long after the fault's end is still of it
BATCH = 256
HEAD = "| feed | groups | streams | untrained | refused | alerts on normal days | sensors | found | after |"


@dataclass
class Outcome:
    """One line of the table."""

    feed: str
    groups: int = 0
    streams: int = 0
    untrained: list[str] = field(default_factory=list)
    refused: dict[str, int] = field(default_factory=dict)
    messages: int = 0
    false: list[str] = field(default_factory=list)  # alerts of a model on the normal days
    sensors: list[str] = field(default_factory=list)  # verdicts on sensors on the normal days
    found_after_s: float | None = None
    found_by: str = ""
    seconds: float = 0.0

    def line(self) -> str:
        """The outcome as a line of the table."""
        found = "no" if self.found_after_s is None else self.found_by
        after = "" if self.found_after_s is None else f"{self.found_after_s / 60:.0f} min"
        refused = ", ".join(f"{n} {why}" for why, n in self.refused.items()) or "none"
        cells = (self.feed, self.groups, self.streams, ", ".join(self.untrained) or "none", refused)
        return "| " + " | ".join(map(str, (*cells, len(self.false), len(self.sensors), found, after))) + " |"


def write(path: Path, messages: Sequence[Message], from_s: float, to_s: float) -> Path:
    """Write the messages of a stretch of time as a recording."""
    path.write_text("".join(message_line(*one) for one in messages if from_s <= one[0] < to_s))
    return path


def batches(path: Path) -> Iterator[Batch]:
    """The recording in batches as small as the daemon's."""
    yield from read_batches(path, BATCH)


def run(feed: Feed, folder: Path, train_days: float, days: float, steps: int | None) -> Outcome:
    """Sniff, check, train and run one feed."""
    began_s = time.monotonic()
    folder.mkdir(parents=True, exist_ok=True)
    judged_s = START_S + train_days * DAY_S
    end_s = judged_s + (days + 1) * DAY_S
    fault = (end_s - 0.5 * DAY_S, end_s - 0.5 * DAY_S + FAULT_S)
    messages = feed.messages(end_s - START_S, fault=fault)
    day = write(folder / "day.jsonl", messages, START_S, START_S + DAY_S)
    normal = write(folder / "normal.jsonl", messages, START_S, judged_s)
    later = write(folder / "later.jsonl", messages, judged_s, math.inf)
    config = folder / "streamae.yaml"
    about = f"instance: {feed.name.replace('_', '-')}\nstate: {{dir: state}}\nmqtt: {{host: localhost}}\n"
    config.write_text(about + sniff_recorded([day]))
    check(config)
    done = Outcome(feed.name, messages=len(messages))
    done.untrained = learn(config, folder, normal, steps)
    if done.untrained:  # what has not spoken enough is left out, as the block's first comment says
        keep_only(config, done.untrained)
    settings = load(config)
    models = Models(folder / "models.json").open(settings)
    groups = Groups(settings.instance, groups_of(settings, models))
    transitions: list[Transition] = []
    refused: Counter[str] = Counter()
    for batch in [*[*batches(normal)][-400:], *batches(later)]:
        report = groups.step(batch, float(batch.arrival_s.max()))
        transitions += report.transitions
        refused.update({reason.value: n for reason, n in report.drops.items() if n})
    done.groups = len(groups.pipelines)
    done.streams = sum(len(pipeline.streams) for pipeline in groups.pipelines.values())
    done.refused = dict(refused)
    for one in transitions:
        if one.state != "firing" or one.sequence != 0:
            continue
        named = f"{one.group}/{one.stream}: {one.rule}, {(one.time_s - judged_s) / DAY_S:+.2f} d"
        if fault[0] <= one.time_s < fault[1] + LATE_S and feed.ill in one.stream + one.group:
            if done.found_after_s is None:
                done.found_after_s, done.found_by = one.time_s - fault[0], f"{one.group}/{one.stream}: {one.rule}"
        elif judged_s <= one.time_s < fault[0]:
            (done.false if one.rule == "anomaly" else done.sensors).append(named)
    done.seconds = time.monotonic() - began_s
    for path in (day, normal, later):
        path.unlink()
    return done


def learn(config: Path, folder: Path, recording: Path, steps: int | None) -> list[str]:
    """Train each group's model; returns the groups that have not said enough."""
    untrained = []
    given = TrainConfig()
    if steps is not None:
        given = replace(given, recipe=replace(given.recipe, steps=steps))
    for name, group in load(config).streams.items():
        try:
            series = from_recordings(config, name, [recording]).series
            train(
                [],
                Path(group.model.path),
                config=given,
                fetched=series,
                now=time.time,
                registry=folder / "models.json",
                console=quiet(),
            )
        except SeriesError as error:
            untrained.append(f"{name} ({str(error).rsplit(':', 1)[-1].strip()[:60]})")
    return untrained


def keep_only(config: Path, untrained: Sequence[str]) -> None:
    """Take groups out of the configuration."""
    tree = yaml.safe_load(config.read_text())
    gone = {one.partition(" (")[0] for one in untrained}
    tree["streams"] = {name: group for name, group in tree["streams"].items() if name not in gone}
    config.write_text(yaml.safe_dump(tree, sort_keys=False))


def main() -> None:
    """Run the feeds that are not done yet, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("feeds", nargs="*", help="by default all")
    parser.add_argument("--out", type=Path, default=Path("build/feeds"), help="where results are kept")
    parser.add_argument("--train-days", type=float, default=5.0)
    parser.add_argument("--days", type=float, default=7.0, help="normal days to judge, before the one with the fault")
    parser.add_argument("--steps", type=int, help="training steps, by default as `train` takes them")
    given = parser.parse_args()
    print(HEAD)
    print("|" + "---|" * HEAD.count(" | ") + "---|")
    for name in given.feeds or FEEDS:
        kept = given.out / f"{name}.json"
        if kept.is_file():
            done = Outcome(**json.loads(kept.read_text()))
        else:
            done = run(FEEDS[name], given.out / name, given.train_days, given.days, given.steps)
            kept.write_text(json.dumps(asdict(done), indent=1))
        print(done.line(), flush=True)
        for one in (*done.false, *done.sensors):
            print(f"    {one}", flush=True)


if __name__ == "__main__":
    main()
