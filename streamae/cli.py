"""Arguments -> one call per verb.

Each verb imports its module inside, since importing torch costs seconds: `--help`, `check` of a bad configuration and
`inspect` answer at once.
"""

import sys
from pathlib import Path
from typing import Any

import click

from streamae import __version__
from streamae.errors import StreamaeError

__all__ = ["main"]

_FILE = click.Path(path_type=Path)
_PART, _PARTS = click.FloatRange(0, 1, min_open=True), "With --classify: part of the labels to learn from; repeatable."
_config = click.option("-c", "--config", required=True, type=_FILE, help="The configuration, streamae.yaml.")


class _Verbs(click.Group):
    """Turns expected errors into their message on standard error and their exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except StreamaeError as error:
            click.echo(str(error), err=True)
            sys.exit(error.exit_code)


@click.group(cls=_Verbs, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__)
def main() -> None:
    """Find anomalies in sensor streams as they happen."""


@main.command()
@_config
def run(config: Path) -> None:
    """Run the daemon."""
    from streamae.daemon.life import run as run_daemon

    sys.exit(run_daemon(config))


@main.command()
@_config
def check(config: Path) -> None:
    """Check a configuration, load its models, and say what each topic would do."""
    from streamae.config import load

    load(config)  # a bad file is said before torch is imported
    from streamae.daemon.check import report

    for line in report(config):
        click.echo(line)


@main.command()
def schema() -> None:
    """Print the JSON Schema of the configuration, for editors."""
    import json

    from streamae.config import json_schema

    click.echo(json.dumps(json_schema(), indent=2))


@main.command()
@click.argument("series", nargs=-1, required=True, type=_FILE)
@click.option("-o", "--out", required=True, type=_FILE, help="The model file to write.")
@click.option("--rows", type=click.IntRange(min=1), help="Fit on the first N rows of each series only.")
@click.option("--seed", default=0, show_default=True, help="The same seed gives the same model.")
@click.option("-c", "--config", type=_FILE, help="Training settings, train.yaml.")
@click.option("--registry", type=_FILE, help="Where this installation records the models that it trained.")
@click.option("--classify", is_flag=True, help="Learn to name the classes in the series' column `label` instead.")
@click.option("--encoder", type=_FILE, help="With --classify: the model to start from; without it, trains one first.")
@click.option("--sha256", help="With --encoder: its digest, where this installation did not train it.")
@click.option("--fraction", multiple=True, default=(0.01, 0.05, 0.1, 1.0), show_default=True, type=_PART, help=_PARTS)
@click.option("--seeds", default=3, show_default=True, type=click.IntRange(1), help="With --classify: runs of each.")
def train(
    series: tuple[Path, ...],
    out: Path,
    rows: int | None,
    seed: int,
    config: Path | None,
    registry: Path | None,
    classify: bool,
    **named: Any,
) -> None:
    """Learn what normal is from SERIES.csv[.gz]…, each a stream of one group."""
    import time

    from streamae.model.artifact import default_registry
    from streamae.training.settings import read_config

    chosen, known = read_config(config), registry or default_registry()
    if classify:
        from streamae.training.classify import classify as learn_classes

        parts = named["fraction"]
        seeds = range(seed, seed + named["seeds"])
        options = {"encoder": named["encoder"], "sha256": named["sha256"], "config": chosen, "registry": known}
        click.echo(learn_classes(list(series), out, fractions=parts, seeds=seeds, **options).markdown())
        return
    from streamae.training.train import train as fit

    fit(list(series), out, rows, seed, chosen, now=time.time, registry=known)


@main.command()
@click.argument("model", type=_FILE)
@click.argument("series", type=_FILE)
@click.option("-o", "--out", required=True, type=_FILE, help="CSV to write: timestamp,score,threshold,state.")
@click.option("--sha256", help="Digest of the model, where this installation did not train it.")
@click.option("--registry", type=_FILE, help="Where this installation records the models that it trained.")
def score(model: Path, series: Path, out: Path, sha256: str | None, registry: Path | None) -> None:
    """Score every row of a series as the daemon would, knowing only the rows before it."""
    from streamae.backtest import score_file

    click.echo(score_file(model, series, out, sha256, registry))


@main.command()
@click.argument("model", type=_FILE)
@click.argument("series", type=_FILE)
@click.option("-o", "--out", required=True, type=_FILE, help="CSV (timestamp,h0…,c0…), or .npy: one vector a window.")
@click.option("--stride", default=1, show_default=True, type=click.IntRange(1), help="Every N-th full window.")
@click.option("--sha256", help="Digest of the model, where this installation did not train it.")
@click.option("--registry", type=_FILE, help="Where this installation records the models that it trained.")
def embed(model: Path, series: Path, out: Path, stride: int, sha256: str | None, registry: Path | None) -> None:
    """Turn each window of a series into a vector of fixed length: the state of the model's encoder after it."""
    from streamae.embedding import embed_file

    click.echo(embed_file(model, series, out, stride, sha256, registry))


@main.command()
@click.argument("series", nargs=-1, required=True, type=_FILE)
@click.option("--seeds", default="0", show_default=True, help="Seeds of our detector, such as 0,1,2.")
@click.option("-c", "--config", type=_FILE, help="Training settings, train.yaml: one setting for all series.")
@click.option("--results", type=_FILE, help="JSON-lines file of finished runs; what is in it is not run again.")
@click.option("--json", "as_json", type=_FILE, help="Write every run as one JSON array.")
@click.option("--markdown", type=_FILE, help="Write the tables, which are also printed.")
@click.option("--report", type=_FILE, help="Folder for report.md and report.json with a line for each series.")
@click.option("--train-rows", type=click.IntRange(min=2), help="Rows to fit on, instead of what each series says.")
@click.option("--no-baselines", is_flag=True, help="Ours only.")
def evaluate(
    series: tuple[Path, ...],
    seeds: str,
    config: Path | None,
    results: Path | None,
    as_json: Path | None,
    markdown: Path | None,
    report: Path | None,
    train_rows: int | None,
    no_baselines: bool,
) -> None:
    """Measure the detector and its peers on labelled SERIES.csv[.gz] or folders of them; scores are causal."""
    from streamae.evaluation.run import evaluate_series, read_seeds, write_json
    from streamae.training.settings import read_config

    text, runs = evaluate_series(
        list(series),
        seeds=read_seeds(seeds),
        config=read_config(config),
        with_baselines=not no_baselines,
        results=results,
        report=report,
        train_rows=train_rows,
    )
    if as_json is not None:
        write_json(runs, as_json)
    if markdown is not None:
        markdown.write_text(text, encoding="utf-8")
    click.echo(text)


@main.command()
@click.argument("model", type=_FILE)
def inspect(model: Path) -> None:
    """Say what a model was trained on and under, without running any of it."""
    import json

    from streamae.model.artifact import describe

    click.echo(json.dumps(describe(model), indent=2))


@main.command()
@click.option(
    "--exit-after-alert",
    is_flag=True,
    envvar="STREAMAE_DEMO_EXIT_AFTER_ALERT",
    help="End with 0 once the fault is caught, else 1.",
)
@click.option("--folder", type=_FILE, help="Where to keep everything; otherwise a temporary folder.")
@click.option("--port", default=9469, show_default=True, help="Port of the page; 0 takes a free one.")
@click.option("--broker", type=click.Choice(["mosquitto", "amqtt"]), help="By default mosquitto where installed.")
def demo(exit_after_alert: bool, folder: Path | None, port: int, broker: str | None) -> None:
    """Show the whole way on this machine: broker, simulated plant, model, daemon, a fault and its alert."""
    from streamae.daemon.clock import Clock
    from streamae.demo import demo as play

    sys.exit(play(folder, exit_after_alert=exit_after_alert, page=port, broker_kind=broker, clock=Clock()))


class _Speed(click.ParamType):  # type: ignore[type-arg]  # generic from click 8.4 on only
    """A factor, or `max`: as fast as the broker takes it (None)."""

    name = "X|max"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if value == "max":
            return float("inf")
        try:
            speed = float(value)
        except ValueError:
            speed = 0.0
        if not speed > 0:
            self.fail(f"got {value}; write a number above 0, such as 10, or max", param, ctx)
        return speed


_group = click.option("--group", help="Which group of the configuration; needed where it has several.")
_speed = click.option("--speed", default="1", show_default=True, type=_Speed(), help="Times the recording's own pace.")


def _pace(speed: float) -> float | None:
    return None if speed == float("inf") else speed


@main.command()
@_config
@click.argument("recording", type=_FILE)
@_speed
@_group
@click.option("--from-now", is_flag=True, help="Move the timestamps, so that the series begins now.")
def replay(config: Path, recording: Path, speed: float, group: str | None, from_now: bool) -> None:
    """Publish a recording (CSV, CSV.gz, Parquet, JSON lines of messages) on the broker of the configuration."""
    from streamae import feeds

    click.echo(feeds.replay(config, recording, speed=_pace(speed), group=group, from_now=from_now))


@main.command()
@click.option("-c", "--config", type=_FILE, help="Publish on this configuration's broker and topics.")
@click.option("--out", type=_FILE, help="Write labelled CSV files into this folder instead of publishing.")
@click.option("--kind", type=click.Choice(["pumps", "fleet"]), default="pumps", show_default=True)
@click.option("--streams", default=20, show_default=True, type=click.IntRange(1), help="Machines of the plant.")
@click.option("--rows", type=click.IntRange(1), help="Rows of each stream; without it, until stopped.")
@click.option(
    "--period", default=1.0, show_default=True, type=click.FloatRange(0, min_open=True), help="Seconds a row."
)
@click.option("--day", default=3600.0, show_default=True, type=click.FloatRange(1), help="Seconds of the plant's day.")
@click.option("--seed", default=0, show_default=True)
@click.option(
    "--fault", multiple=True, help="kind:stream:start:duration[:magnitude[:channel]], in seconds; repeatable."
)
@click.option("--labels", type=_FILE, help="Where to write the faults that were played, as JSON.")
@_speed
@_group
def simulate(config: Path | None, out: Path | None, rows: int | None, fault: tuple[str, ...], **given: Any) -> None:
    """Play a plant with labelled faults: live on a broker (-c), or into CSV files (--out)."""
    import time

    from streamae import feeds

    if (config is None) == (out is None) or (out is not None and rows is None):
        raise click.UsageError("give either -c, to publish, or --out with --rows, to write files")
    span = {"seed": given["seed"], "period_s": given["period"], "day_s": given["day"]}
    plant = feeds.plant_of(given["kind"], given["streams"], start_s=time.time(), **span)
    for text in fault:
        try:
            plant.inject(feeds.parse_fault(text))
        except ValueError as error:
            raise click.UsageError(f"--fault: {error}") from error
    if out is not None and rows is not None:
        click.echo(feeds.write_history(plant, rows, out))
    elif config is not None:
        choice = {"speed": _pace(given["speed"]), "group": given["group"], "labels": given["labels"]}
        click.echo(feeds.simulate(config, plant, rows=rows, **choice))


@main.command()
@_config
@click.argument("out", type=_FILE)
@click.option("--duration", type=click.FloatRange(0, min_open=True), help="Seconds; without it, until stopped.")
@click.option("--topic", multiple=True, help="MQTT filters to record instead of the configuration's; repeatable.")
def record(config: Path, out: Path, duration: float | None, topic: tuple[str, ...]) -> None:
    """Write what the broker carries to a file of JSON lines, for replay."""
    from streamae import feeds

    click.echo(feeds.record(config, out, duration_s=duration, topics=topic))


@main.command()
@click.option("-c", "--config", type=_FILE, help="Look at this configuration's broker; its streams are not read.")
@click.option("--host", help="Look at this broker instead, without credentials.")
@click.option("--port", default=1883, show_default=True)
@click.option("--seconds", default=10.0, show_default=True, type=click.FloatRange(0.1), help="How long to listen.")
@click.option("--topic", multiple=True, help="MQTT filters to listen to, by default #; repeatable.")
def sniff(config: Path | None, host: str | None, port: int, seconds: float, topic: tuple[str, ...]) -> None:
    """Look at what a broker carries, and print a `streams:` block for it."""
    from streamae import feeds
    from streamae.mqtt import Connection

    if (config is None) == (host is None):
        raise click.UsageError("give either -c, a configuration, or --host")
    broker = config or Connection(host=host or "", port=port)
    click.echo(feeds.sniff(broker, seconds=seconds, topics=topic), nl=False)


if __name__ == "__main__":
    main()
