"""The verb `simulate`: its options, and one call."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from streamae.cli.options import FILE

if TYPE_CHECKING:
    pass
from streamae.cli.options import group_option, pace, speed_option

__all__ = ["simulate"]


@click.command()
@click.option("-c", "--config", type=FILE, help="Publish on this configuration's broker and topics.")
@click.option("--out", type=FILE, help="Write labelled CSV files into this folder instead of publishing.")
@click.option(
    "--kind",
    type=click.Choice(["pumps", "fleet"]),
    default="pumps",
    show_default=True,
    help="Pumps with four channels each, or a fleet of single sensors.",
)
@click.option("--streams", default=20, show_default=True, type=click.IntRange(1), help="Machines of the plant.")
@click.option("--rows", type=click.IntRange(1), help="Rows of each stream; without it, until stopped.")
@click.option(
    "--period", default=1.0, show_default=True, type=click.FloatRange(0, min_open=True), help="Seconds a row."
)
@click.option("--day", default=3600.0, show_default=True, type=click.FloatRange(1), help="Seconds of the plant's day.")
@click.option("--seed", default=0, show_default=True, help="The same seed plays the same plant.")
@click.option(
    "--fault", multiple=True, help="kind:stream:start:duration[:magnitude[:channel]], in seconds; repeatable."
)
@click.option("--labels", type=FILE, help="Where to write the faults that were played, as JSON.")
@speed_option
@group_option
def simulate(config: Path | None, out: Path | None, rows: int | None, fault: tuple[str, ...], **given: Any) -> None:
    """Play a plant with labelled faults: live on a broker (-c), or into CSV files (--out)."""
    import time

    from streamae.tools import feeds

    if (config is None) == (out is None) or (out is not None and rows is None):
        raise click.UsageError("give either -c, to publish, or --out with --rows, to write files")
    span = {"seed": given["seed"], "period_s": given["period"], "day_s": given["day"]}
    plant = feeds.plant_of(given["kind"], given["streams"], start_s=time.time(), **span)
    for text in fault:
        try:
            plant.inject(feeds.parse_fault(text))
        except ValueError as error:
            raise click.UsageError(f"--fault: {error}") from error
    if out is not None and rows is not None:
        click.echo(feeds.write_history(plant, rows, out))
    elif config is not None:
        choice = {"speed": pace(given["speed"]), "group": given["group"], "labels": given["labels"]}
        click.echo(feeds.simulate(config, plant, rows=rows, **choice))
