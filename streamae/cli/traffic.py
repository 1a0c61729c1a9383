"""Verbs of what goes over a broker: replay, simulate, record, sniff."""

from pathlib import Path
from typing import Any

import click

from streamae.cli.options import FILE, config_option

__all__ = ["record", "replay", "simulate", "sniff"]


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


@click.command()
@config_option
@click.argument("recording", type=FILE)
@_speed
@_group
@click.option("--from-now", is_flag=True, help="Move the timestamps, so that the series begins now.")
def replay(config: Path, recording: Path, speed: float, group: str | None, from_now: bool) -> None:
    """Publish a recording (CSV, CSV.gz, Parquet, JSON lines of messages) on the broker of the configuration."""
    from streamae import feeds

    click.echo(feeds.replay(config, recording, speed=_pace(speed), group=group, from_now=from_now))


@click.command()
@click.option("-c", "--config", type=FILE, help="Publish on this configuration's broker and topics.")
@click.option("--out", type=FILE, help="Write labelled CSV files into this folder instead of publishing.")
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
@click.option("--labels", type=FILE, help="Where to write the faults that were played, as JSON.")
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


@click.command()
@config_option
@click.argument("out", type=FILE)
@click.option("--duration", type=click.FloatRange(0, min_open=True), help="Seconds; without it, until stopped.")
@click.option("--topic", multiple=True, help="MQTT filters to record instead of the configuration's; repeatable.")
def record(config: Path, out: Path, duration: float | None, topic: tuple[str, ...]) -> None:
    """Write what the broker carries to a file of JSON lines, for replay."""
    from streamae import feeds

    click.echo(feeds.record(config, out, duration_s=duration, topics=topic))


@click.command()
@click.option("-c", "--config", type=FILE, help="Look at this configuration's broker; its streams are not read.")
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
