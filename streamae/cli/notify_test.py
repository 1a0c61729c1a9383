"""The verb `notify-test`: its options, and one call."""

from pathlib import Path

import click

from streamae.cli.options import config_option

__all__ = ["notify_test"]


@click.command("notify-test")
@click.argument("sink")
@config_option
def notify_test(sink: str, config: Path) -> None:
    """Send a test notification through SINK, a sink of the configuration by its name; no daemon need run.

    It says what the receiver answered. The test is marked as one, and leaves no alert open at the receiver.
    """
    from streamae import logs
    from streamae.config import load
    from streamae.daemon.clock import Clock
    from streamae.daemon.sinks import notify_test as send

    settings = load(config)
    logs.set_up(settings.log.level, settings.log.format)
    click.echo(f"{sink}: {send(settings, sink, Clock())}")
