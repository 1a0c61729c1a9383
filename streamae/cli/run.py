"""The verb `run`: its options, and one call."""

import sys
from pathlib import Path

import click

from streamae.cli.options import config_option

__all__ = ["run"]


@click.command()
@config_option
def run(config: Path) -> None:
    """Run the daemon."""
    from streamae.daemon.run import run as run_daemon

    sys.exit(run_daemon(config))
