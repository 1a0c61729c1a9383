"""Arguments -> one call per verb: a file for each kind of verb, and here the group that holds them.

Each verb imports its module inside, since importing torch costs seconds: `--help`, `check` of a bad configuration and
`inspect` answer at once.
"""

import sys
from typing import Any

import click

from streamae import __version__
from streamae.cli import benching, evaluating, models, service, traffic
from streamae.errors import StreamaeError

__all__ = ["main"]


class _Verbs(click.Group):
    """Turns expected errors into their message on standard error and their exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except StreamaeError as error:
            click.echo(str(error), err=True)
            sys.exit(error.exit_code)


@click.group(cls=_Verbs, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__)
def main() -> None:
    """Find anomalies in sensor streams as they happen."""


for verbs in (service, models, evaluating, benching, traffic):
    for name in verbs.__all__:
        main.add_command(getattr(verbs, name))
