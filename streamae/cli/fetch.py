"""The verb `fetch`: its options, and one call."""

from pathlib import Path

import click

from streamae.cli.options import FILE

__all__ = ["fetch"]


@click.command()
@click.option("-c", "--config", required=True, type=FILE, help="Training settings with `sources:`, train.yaml.")
@click.option("-o", "--out", required=True, type=FILE, help="Folder to write a CSV for each stream into.")
def fetch(config: Path, out: Path) -> None:
    """Write what the sources of train.yaml give into CSV files, to look at, score or train on."""
    import time

    from streamae.history.databases import fetch_files

    click.echo(fetch_files(config, out, now=time.time, sleep=time.sleep))
