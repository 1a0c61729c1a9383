"""The verb `score`: its options, and one call."""

from pathlib import Path

import click

from streamae.cli.options import FILE

__all__ = ["score"]


@click.command()
@click.argument("model", type=FILE)
@click.argument("series", type=FILE)
@click.option("-o", "--out", required=True, type=FILE, help="CSV to write: timestamp,score,threshold,state.")
@click.option("--sha256", help="Digest of the model, where this installation did not train it.")
@click.option("--registry", type=FILE, help="Where this installation records the models that it trained.")
def score(model: Path, series: Path, out: Path, sha256: str | None, registry: Path | None) -> None:
    """Score every row of a series as the daemon would, knowing only the rows before it."""
    from streamae.training.backtest import score_file

    click.echo(score_file(model, series, out, sha256, registry))
