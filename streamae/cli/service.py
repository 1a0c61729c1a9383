"""Verbs of the daemon and of its configuration."""

import sys
from pathlib import Path

import click

from streamae.cli.options import FILE, config_option

__all__ = ["check", "demo", "run", "schema"]


@click.command()
@config_option
def run(config: Path) -> None:
    """Run the daemon."""
    from streamae.daemon.life import run as run_daemon

    sys.exit(run_daemon(config))


@click.command()
@config_option
def check(config: Path) -> None:
    """Check a configuration, load its models, and say what each topic would do."""
    from streamae.config import load

    load(config)  # a bad file is said before torch is imported
    from streamae.daemon.check import report

    for line in report(config):
        click.echo(line)


@click.command()
def schema() -> None:
    """Print the JSON Schema of the configuration, for editors."""
    import json

    from streamae.config import json_schema

    click.echo(json.dumps(json_schema(), indent=2))


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
    from streamae.demo import demo as play

    sys.exit(play(folder, exit_after_alert=exit_after_alert, page=port, broker_kind=broker, clock=Clock()))
