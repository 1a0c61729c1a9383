"""The verb `train`: its options, and one call."""

from pathlib import Path
from typing import Any

import click

from streamae.cli.options import FILE

__all__ = ["train"]


_PART, _PARTS = click.FloatRange(0, 1, min_open=True), "With --classify: part of the labels to learn from; repeatable."


@click.command()
@click.argument("series", nargs=-1, type=FILE)
@click.option("-o", "--out", type=FILE, help="The model file to write; with --streams, by default the group's own.")
@click.option("--recording", multiple=True, type=FILE, help="With --streams: messages that `record` wrote; repeatable.")
@click.option("--journal", type=FILE, help="With --streams: state directory of an installation, running or not.")
@click.option("--since", default="7d", show_default=True, help="With --journal: how far to look back.")
@click.option("--streams", type=FILE, help="The configuration, streamae.yaml, that says how messages are read.")
@click.option("--group", help="With --streams: which group; needed where it has several.")
@click.option("--every", help="Put the samples of SERIES onto a time grid, as `align: {every: 1m}` does.")
@click.option("--rows", type=click.IntRange(min=1), help="Fit on the first N rows of each series only.")
@click.option("--seed", default=0, show_default=True, help="The same seed gives the same model.")
@click.option("-c", "--config", type=FILE, help="Training settings and sources, train.yaml.")
@click.option("--registry", type=FILE, help="Where this installation records the models that it trained.")
@click.option("--classify", is_flag=True, help="Learn to name the classes in the series' column `label` instead.")
@click.option("--encoder", type=FILE, help="With --classify: the model to start from; without it, trains one first.")
@click.option("--sha256", help="With --encoder: its digest, where this installation did not train it.")
@click.option("--fraction", multiple=True, default=(0.01, 0.05, 0.1, 1.0), show_default=True, type=_PART, help=_PARTS)
@click.option("--seeds", default=3, show_default=True, type=click.IntRange(1), help="With --classify: runs of each.")
def train(
    series: tuple[Path, ...],
    out: Path | None,
    rows: int | None,
    seed: int,
    config: Path | None,
    registry: Path | None,
    classify: bool,
    **named: Any,
) -> None:
    """Learn what normal is from SERIES.csv[.gz]…, the sources of train.yaml, a recording or the journal."""
    import time

    from streamae.config.databases import read_history
    from streamae.model.save import default_registry
    from streamae.training.settings import read_config

    sources = read_history(config) if config is not None else ()
    messages = bool(named["recording"]) or named["journal"] is not None
    if messages and named["streams"] is None:
        raise click.UsageError("--recording and --journal want --streams streamae.yaml, which says how to read them")
    if not series and (classify or not (sources or messages)):
        raise click.UsageError("name at least one series, or sources in train.yaml (deploy/train.yaml)")
    if out is None:
        out = _model_of(named["streams"], named["group"])
    chosen, known = read_config(config), registry or default_registry()
    if classify:
        from streamae.training.classify.train import classify as learn_classes

        parts = named["fraction"]
        seeds = range(seed, seed + named["seeds"])
        options = {"encoder": named["encoder"], "sha256": named["sha256"], "config": chosen, "registry": known}
        click.echo(learn_classes(list(series), out, fractions=parts, seeds=seeds, **options).markdown())
        return
    from streamae.history.databases import fetch as fetch_series
    from streamae.training.train import train as fit

    fetched = fetch_series(sources, now=time.time, sleep=time.sleep) if sources else []
    grid, chosen = _as_configured(named["every"], named["streams"], named["group"], chosen)
    if messages:
        fetched += _remembered(chosen, now_s=time.time(), **{name: named[name] for name in _MESSAGES})
    fit(list(series), out, rows, seed, chosen, fetched=fetched, grid=grid, now=time.time, registry=known)


_MESSAGES = ("recording", "journal", "since", "streams", "group")


def _model_of(streams: Path | None, group: str | None) -> Path:
    """Return where the configuration wants the group's model."""
    from streamae.config import load

    if streams is None:
        raise click.UsageError("name the model file to write with -o")
    return Path(load(streams).group(group)[1].model.path)


def _as_configured(every: str | None, streams: Path | None, group: str | None, chosen: Any) -> tuple[Any, Any]:
    """Return the grid for rows of files, and the training settings with what the group says of its values."""
    from dataclasses import replace

    from streamae.config import load
    from streamae.config.units import parse_duration
    from streamae.core.align_rule import GridAlign

    grid = None
    if streams is not None:
        read = load(streams).group(group)[1]
        grid = read.rows if isinstance(read.rows, GridAlign) else None
        said = {} if isinstance(chosen.counters, str) else dict(chosen.counters)
        counters = {**said, **read.counters} or chosen.counters
        chosen = replace(chosen, range={**chosen.range, **read.health.range}, counters=counters)
    if every is not None:
        try:
            every_s = parse_duration(every)
        except ValueError as error:
            raise click.UsageError(f"--every: got {every}; {error}") from error
        if every_s <= 0:
            raise click.UsageError(f"--every: got {every}; write a duration such as 1m")
        grid = replace(grid, every_s=every_s) if grid is not None else GridAlign(every_s)
    return grid, chosen


def _remembered(
    chosen: Any,
    *,
    now_s: float,
    recording: tuple[Path, ...],
    journal: Path | None,
    since: str,
    streams: Path,
    group: str | None,
) -> list[Any]:
    """Return the series in recordings and journal, and say how they came to be."""
    from streamae.config.units import parse_duration
    from streamae.history.messages import from_journal, from_recordings

    try:
        since_s = now_s - parse_duration(since)
    except ValueError as error:
        raise click.UsageError(f"--since: got {since}; {error}") from error
    wish = chosen.screening
    found = [from_recordings(streams, group, recording, wish)] if recording else []
    found += [from_journal(streams, group, journal, since_s, wish)] if journal is not None else []
    for one in found:
        for note in one.notes:
            click.echo(note, err=True)
    return [series for one in found for series in one.series]
