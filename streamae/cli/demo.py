"""The verb `demo`: its options, and one call."""

import sys
from pathlib import Path

import click

from streamae.cli.options import FILE

__all__ = ["demo"]


@click.command()
@click.option(
    "--exit-after-alert",
    is_flag=True,
    envvar="STREAMAE_DEMO_EXIT_AFTER_ALERT",
    help="End with 0 once the fault is caught, else 1.",
)
@click.option("--folder", type=FILE, help="Where to keep everything; otherwise a temporary folder.")
@click.option("--port", default=9469, show_default=True, help="Port of the page; 0 takes a free one.")
@click.option("--broker", type=click.Choice(["mosquitto", "amqtt"]), help="By default mosquitto where installed.")
def demo(exit_after_alert: bool, folder: Path | None, port: int, broker: str | None) -> None:
    """Show the whole way on this machine: broker, simulated plant, model, daemon, a fault and its alert."""
    from streamae.daemon.clock import Clock
    from streamae.tools.demo import demo as play

    sys.exit(play(folder, exit_after_alert=exit_after_alert, page=port, broker_kind=broker, clock=Clock()))
