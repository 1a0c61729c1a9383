"""Arguments -> one call per verb.

Each verb imports its module inside, since importing torch costs seconds: `--help`, `check` of a bad configuration and
`inspect` answer at once.
"""

import sys
from pathlib import Path
from typing import Any

import click

from streamae import __version__
from streamae.errors import StreamaeError

__all__ = ["main"]

_FILE = click.Path(path_type=Path)
_config = click.option("-c", "--config", required=True, type=_FILE, help="The configuration, streamae.yaml.")


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


@main.command()
@_config
def run(config: Path) -> None:
    """Run the daemon."""
    from streamae.daemon.life import run as run_daemon

    sys.exit(run_daemon(config))


@main.command()
@_config
def check(config: Path) -> None:
    """Check a configuration, load its models, and say what each topic would do."""
    from streamae.config import load

    load(config)  # a bad file is said before torch is imported
    from streamae.daemon.check import report

    for line in report(config):
        click.echo(line)


@main.command()
def schema() -> None:
    """Print the JSON Schema of the configuration, for editors."""
    import json

    from streamae.config import json_schema

    click.echo(json.dumps(json_schema(), indent=2))


@main.command()
@click.argument("series", nargs=-1, required=True, type=_FILE)
@click.option("-o", "--out", required=True, type=_FILE, help="The model file to write.")
@click.option("--rows", type=click.IntRange(min=1), help="Fit on the first N rows of each series only.")
@click.option("--seed", default=0, show_default=True, help="The same seed gives the same model.")
@click.option("-c", "--config", type=_FILE, help="Training settings, train.yaml.")
@click.option("--registry", type=_FILE, help="Where this installation records the models that it trained.")
def train(
    series: tuple[Path, ...], out: Path, rows: int | None, seed: int, config: Path | None, registry: Path | None
) -> None:
    """Learn what normal is from SERIES.csv[.gz]…, each a stream of one group."""
    import time

    from streamae.model.artifact import default_registry
    from streamae.training.settings import read_config
    from streamae.training.train import train as fit

    chosen = read_config(config)
    fit(list(series), out, rows, seed, chosen, now=time.time, registry=registry or default_registry())


@main.command()
@click.argument("model", type=_FILE)
@click.argument("series", type=_FILE)
@click.option("-o", "--out", required=True, type=_FILE, help="CSV to write: timestamp,score,threshold,state.")
@click.option("--sha256", help="Digest of the model, where this installation did not train it.")
@click.option("--registry", type=_FILE, help="Where this installation records the models that it trained.")
def score(model: Path, series: Path, out: Path, sha256: str | None, registry: Path | None) -> None:
    """Score every row of a series as the daemon would, knowing only the rows before it."""
    from streamae.backtest import score_file

    click.echo(score_file(model, series, out, sha256, registry))


@main.command()
@click.argument("model", type=_FILE)
def inspect(model: Path) -> None:
    """Say what a model was trained on and under, without running any of it."""
    import json

    from streamae.model.artifact import describe

    click.echo(json.dumps(describe(model), indent=2))


@main.command()
@click.option(
    "--exit-after-alert",
    is_flag=True,
    envvar="STREAMAE_DEMO_EXIT_AFTER_ALERT",
    help="End with 0 once the fault is caught, else 1.",
)
@click.option("--folder", type=_FILE, help="Where to keep everything; otherwise a temporary folder.")
@click.option("--port", default=9469, show_default=True, help="Port of the page; 0 takes a free one.")
@click.option("--broker", type=click.Choice(["mosquitto", "amqtt"]), help="By default mosquitto where installed.")
def demo(exit_after_alert: bool, folder: Path | None, port: int, broker: str | None) -> None:
    """Show the whole way on this machine: broker, simulated plant, model, daemon, a fault and its alert."""
    from streamae.daemon.clock import Clock
    from streamae.demo import demo as play

    sys.exit(play(folder, exit_after_alert=exit_after_alert, page=port, broker_kind=broker, clock=Clock()))


if __name__ == "__main__":
    main()
