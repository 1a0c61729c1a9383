"""The verb `embed`: its options, and one call."""

from pathlib import Path

import click

from streamae.cli.options import FILE

__all__ = ["embed"]


@click.command()
@click.argument("model", type=FILE)
@click.argument("series", type=FILE)
@click.option("-o", "--out", required=True, type=FILE, help="CSV (timestamp,h0…,c0…), or .npy: one vector a window.")
@click.option("--stride", default=1, show_default=True, type=click.IntRange(1), help="Every N-th full window.")
@click.option("--sha256", help="Digest of the model, where this installation did not train it.")
@click.option("--registry", type=FILE, help="Where this installation records the models that it trained.")
def embed(model: Path, series: Path, out: Path, stride: int, sha256: str | None, registry: Path | None) -> None:
    """Turn each window of a series into a vector of fixed length: the state of the model's encoder after it."""
    from streamae.training.classify.embed import embed_file

    click.echo(embed_file(model, series, out, stride, sha256, registry))
