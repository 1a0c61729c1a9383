"""The verb `stream`: its options, and one call."""

from pathlib import Path

import click

from streamae.cli.options import config_option

__all__ = ["stream"]


@click.command()
@click.argument("action", type=click.Choice(["relearn", "remove", "rename"]))
@click.argument("name", metavar="STREAM")
@click.option("--group", required=True, help="The stream's group in the configuration.")
@click.option("--since", type=float, help="relearn: since when it is as it is now, in seconds since 1970.")
@click.option("--to", metavar="NAME", help="rename: the new name; a stream of that name is replaced.")
@config_option
def stream(action: str, name: str, group: str, since: float | None, to: str | None, config: Path) -> None:
    """Tell the running daemon that something about STREAM was changed on purpose.

    relearn: it forgets what was normal, and learns it from the rows since then, or from those that come. remove: it and
    its alerts are gone, until it sends again. rename: what it has learnt goes on under another name.
    """
    from streamae.tools.stream_change import ask_change

    given = {"group": group, "stream": name, "since_s": since, "name": to}
    ask_change(config, action, {key: value for key, value in given.items() if value is not None})
    click.echo(f"{name}: {action} done")
