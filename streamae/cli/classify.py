"""The verb `classify`: its options, and one call."""

from pathlib import Path

import click

from streamae.cli.options import FILE

__all__ = ["classify"]


@click.command()
@click.argument("model", type=FILE)
@click.argument("series", type=FILE)
@click.option("-o", "--out", required=True, type=FILE, help="CSV: timestamp,label and each class's probability.")
@click.option("--stride", default=1, show_default=True, type=click.IntRange(1), help="Every N-th full window.")
@click.option("--sha256", help="Digest of the model, where this installation did not train it.")
@click.option("--registry", type=FILE, help="Where this installation records the models that it trained.")
def classify(model: Path, series: Path, out: Path, stride: int, sha256: str | None, registry: Path | None) -> None:
    """Name each window of a series with a classifier of `train --classify`."""
    from streamae.training.classify.predict import classify_file

    click.echo(classify_file(model, series, out, stride, sha256, registry))
