"""The verb `check`: its options, and one call."""

from pathlib import Path

import click

from streamae.cli.options import config_option

__all__ = ["check"]


@click.command()
@config_option
def check(config: Path) -> None:
    """Check a configuration, load its models, and say what each topic would do."""
    from streamae.config import load

    load(config)  # a bad file is said before torch is imported
    from streamae.daemon.check import report

    for line in report(config):
        click.echo(line)
