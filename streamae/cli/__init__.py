"""Arguments -> one call per verb: a file for each verb, and here the group that holds them.

Each verb imports its module inside, since importing torch costs seconds: `--help`, `check` of a bad configuration and
`inspect` answer at once.
"""

import sys
from typing import Any

import click

from streamae import __version__, stopping
from streamae.cli.bench import bench
from streamae.cli.check import check
from streamae.cli.classify import classify
from streamae.cli.demo import demo
from streamae.cli.embed import embed
from streamae.cli.evaluate import evaluate
from streamae.cli.fetch import fetch
from streamae.cli.inspect import inspect
from streamae.cli.notify_test import notify_test
from streamae.cli.record import record
from streamae.cli.replay import replay
from streamae.cli.run import run
from streamae.cli.schema import schema
from streamae.cli.score import score
from streamae.cli.simulate import simulate
from streamae.cli.sniff import sniff
from streamae.cli.stream import stream
from streamae.cli.train import train
from streamae.errors import StreamaeError

__all__ = ["main"]


class _Verbs(click.Group):
    """Turns expected errors and signals into their message on standard error and their exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        result: Any = None
        code: Any = 0
        try:
            with stopping.listening():
                result = super().invoke(ctx)
        except StreamaeError as error:
            click.echo(str(error), err=True)
            code = error.exit_code
        except stopping.Stopped as stopped:
            click.echo(f"stopped by {stopped}", err=True)
            code = stopping.exit_code(stopped.number)
        except SystemExit as ended:
            code = ended.code
        stopping.leave(code)
        if code:
            sys.exit(code)
        return result


@click.group(cls=_Verbs, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__)
def main() -> None:
    """Find anomalies in sensor streams as they happen."""


for verb in (
    check,
    notify_test,
    demo,
    run,
    schema,
    classify,
    embed,
    fetch,
    inspect,
    score,
    train,
    evaluate,
    bench,
    record,
    replay,
    simulate,
    sniff,
    stream,
):
    main.add_command(verb)
