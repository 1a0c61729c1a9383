"""The verb `record`: its options, and one call."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from streamae.cli.options import DURATION, FILE, config_option

if TYPE_CHECKING:
    from streamae.tools.record import Existing

__all__ = ["record"]


@click.command()
@config_option
@click.argument("out", type=FILE)
@click.option("--duration", type=DURATION, help="How long: 90s, 2h, 3d; without it, until stopped.")
@click.option("--topic", multiple=True, help="MQTT filters to record instead of the configuration's; repeatable.")
@click.option("--append", "existing", flag_value="append", help="Go on with OUT, where it exists already.")
@click.option("--overwrite", "existing", flag_value="overwrite", help="Replace OUT, where it exists already.")
def record(
    config: Path, out: Path, duration: float | None, topic: tuple[str, ...], existing: "Existing | None"
) -> None:
    """Write what the broker carries to a file of JSON lines, for training and replay."""
    from streamae.tools import feeds

    click.echo(feeds.record(config, out, duration_s=duration, topics=topic, existing=existing or "refuse"))
