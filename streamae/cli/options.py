"""What several verbs take."""

from pathlib import Path

import click

__all__ = ["FILE", "config_option"]

FILE = click.Path(path_type=Path)
config_option = click.option("-c", "--config", required=True, type=FILE, help="The configuration, streamae.yaml.")
