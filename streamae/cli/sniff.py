"""The verb `sniff`: its options, and one call."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from streamae.cli.options import DURATION, FILE

if TYPE_CHECKING:
    pass

__all__ = ["sniff"]


@click.command()
@click.option("-c", "--config", type=FILE, help="Look at this configuration's broker; its streams are not read.")
@click.option("--host", help="Look at this broker instead, without credentials.")
@click.option("--port", default=1883, show_default=True, help="With --host: its port.")
@click.option(
    "--duration", "--seconds", "seconds", default="10s", show_default=True, type=DURATION, help="How long to listen."
)
@click.option("--topic", multiple=True, help="MQTT filters to listen to, by default #; repeatable.")
@click.option("--recording", multiple=True, type=FILE, help="Look at what `record` wrote instead; repeatable.")
def sniff(
    config: Path | None,
    host: str | None,
    port: int,
    seconds: float,
    topic: tuple[str, ...],
    recording: tuple[Path, ...],
) -> None:
    """Look at what a broker carries, and print a `streams:` block for it."""
    from streamae.mqtt import ConnectionOptions
    from streamae.tools import feeds

    if (config is not None) + (host is not None) + bool(recording) != 1:
        raise click.UsageError("give one of -c, a configuration, --host and --recording")
    if recording:
        click.echo(feeds.sniff_recorded(recording), nl=False)
        return
    broker = config or ConnectionOptions(host=host or "", port=port)
    click.echo(feeds.sniff(broker, seconds=seconds, topics=topic), nl=False)
