"""The verb `bench`: its options, and one call."""

from pathlib import Path

import click

from streamae.cli.options import FILE

__all__ = ["bench"]


@click.command()
@click.option("--only", multiple=True, help="Parts to run, more than once for several. Without it, all of them.")
@click.option("--rounds", type=click.IntRange(min=1), default=5, show_default=True, help="Rounds of each comparison.")
@click.option("--quick", is_flag=True, help="Fewer sizes and messages: a look, not a result.")
@click.option("--json", "as_json_file", type=FILE, help="Write everything there as JSON.")
@click.option("--markdown", type=FILE, help="Write the tables, which are also printed.")
@click.option(
    "--update", "--readme", "update", type=FILE, help="Replace the tables between the markers `bench` of this file."
)
def bench(
    only: tuple[str, ...],
    rounds: int,
    quick: bool,
    as_json_file: Path | None,
    markdown: Path | None,
    update: Path | None,
) -> None:
    """Measure the product against its references on this machine: ratios of CPU time, by turns."""
    from streamae.bench import run
    from streamae.marked import replace_block

    unknown = sorted(set(only) - set(run.PARTS))
    if unknown:
        raise click.BadParameter(f"got {', '.join(unknown)}; parts are {', '.join(run.PARTS)}", param_hint="--only")
    where = run.machine()
    sections = run.bench(only, rounds, quick)
    text = run.as_markdown(sections, where)
    if as_json_file is not None:
        as_json_file.write_text(run.as_json(sections, where), encoding="utf-8")
    if markdown is not None:
        markdown.write_text(text, encoding="utf-8")
    if update is not None:
        replace_block(update, "bench", text)
    click.echo(text)
