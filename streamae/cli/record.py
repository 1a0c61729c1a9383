"""The verb `record`: its options, and one call."""

from pathlib import Path

import click

from streamae.cli.options import FILE, config_option

__all__ = ["record"]


@click.command()
@config_option
@click.argument("out", type=FILE)
@click.option("--duration", type=click.FloatRange(0, min_open=True), help="Seconds; without it, until stopped.")
@click.option("--topic", multiple=True, help="MQTT filters to record instead of the configuration's; repeatable.")
def record(config: Path, out: Path, duration: float | None, topic: tuple[str, ...]) -> None:
    """Write what the broker carries to a file of JSON lines, for replay."""
    from streamae.tools import feeds

    click.echo(feeds.record(config, out, duration_s=duration, topics=topic))
