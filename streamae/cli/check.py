"""The verb `check`: its options, and one call."""

from pathlib import Path

import click

from streamae.cli.options import DURATION, config_option

__all__ = ["check"]


@click.command()
@config_option
@click.option("--listen", type=DURATION, help="Then listen to the broker for so long, and say what would be read.")
@click.pass_context
def check(context: click.Context, config: Path, listen: float | None) -> None:
    """Check a configuration, load its models, and say what each topic would do.

    With --listen the exit status is 1 where some group got none of its values.
    """
    from streamae.config import load

    load(config)  # a bad file is said before torch is imported
    from streamae.daemon.check import report

    for line in report(config):
        click.echo(line)
    if listen is None:
        return
    from streamae.daemon.listen import listen as heard

    lines, content = heard(config, listen)
    for line in lines:
        click.echo(line)
    if not content:
        context.exit(1)
