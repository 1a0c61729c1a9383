"""The verb `inspect`: its options, and one call."""

from pathlib import Path

import click

from streamae.cli.options import FILE

__all__ = ["inspect"]


@click.command()
@click.argument("model", type=FILE)
def inspect(model: Path) -> None:
    """Say what a model was trained on and under, without running any of it."""
    import json

    from streamae.model.artifact import describe

    click.echo(json.dumps(describe(model), indent=2))
