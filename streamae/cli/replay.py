"""The verb `replay`: its options, and one call."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from streamae.cli.options import FILE, config_option

if TYPE_CHECKING:
    pass
from streamae.cli.options import group_option, pace, speed_option

__all__ = ["replay"]


@click.command()
@config_option
@click.argument("recording", type=FILE)
@speed_option
@group_option
@click.option("--from-now", is_flag=True, help="Move the timestamps, so that the series begins now.")
def replay(config: Path, recording: Path, speed: float, group: str | None, from_now: bool) -> None:
    """Publish a recording (CSV, CSV.gz, Parquet, JSON lines of messages) on the broker of the configuration."""
    from streamae.tools import feeds

    click.echo(feeds.replay(config, recording, speed=pace(speed), group=group, from_now=from_now))
