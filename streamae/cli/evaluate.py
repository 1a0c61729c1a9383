"""The verb `evaluate`: its options, and one call."""

from pathlib import Path

import click

from streamae.cli.options import FILE

__all__ = ["evaluate"]


@click.command()
@click.argument("series", nargs=-1, required=True, type=FILE)
@click.option("--seeds", default="0", show_default=True, help="Of ours and the peers that draw at random: 0,1,2.")
@click.option("-c", "--config", type=FILE, help="Training settings, train.yaml: one setting for all series.")
@click.option("--results", type=FILE, help="JSON-lines file of finished runs; what is in it is not run again.")
@click.option("--finished", is_flag=True, help="Run nothing; tabulate what --results holds of the series.")
@click.option("--json", "as_json", type=FILE, help="Write every run as one JSON array.")
@click.option("--markdown", type=FILE, help="Write the tables, which are also printed.")
@click.option("--report", type=FILE, help="Folder for report.md and report.json with a line for each series.")
@click.option("--plots", type=FILE, help="Folder for a picture of each of our runs (PNG; needs matplotlib).")
@click.option(
    "--update", "--readme", "update", type=FILE, help="Replace the tables between the markers `quality` of this file."
)
@click.option("--train-rows", type=click.IntRange(min=2), help="Rows to fit on, instead of what each series says.")
@click.option("--no-baselines", is_flag=True, help="Ours only.")
def evaluate(
    series: tuple[Path, ...],
    seeds: str,
    config: Path | None,
    results: Path | None,
    finished: bool,
    as_json: Path | None,
    markdown: Path | None,
    report: Path | None,
    plots: Path | None,
    update: Path | None,
    train_rows: int | None,
    no_baselines: bool,
) -> None:
    """Measure the detector and its peers on labelled SERIES.csv[.gz] or folders of them; scores are causal."""
    from streamae.evaluation.report import headline
    from streamae.evaluation.run import evaluate_series, read_seeds, write_json
    from streamae.marked import replace_block
    from streamae.training.settings import read_config

    text, runs = evaluate_series(
        list(series),
        seeds=read_seeds(seeds),
        config=read_config(config),
        with_baselines=not no_baselines,
        results=results,
        report=report,
        train_rows=train_rows,
        plots=plots,
        only_finished=finished,
    )
    if as_json is not None:
        write_json(runs, as_json)
    if markdown is not None:
        markdown.write_text(text, encoding="utf-8")
    if update is not None:
        replace_block(update, "quality", headline(runs))
    click.echo(text)
