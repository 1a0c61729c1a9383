"""The Python API, whose names `import streamae` has: `load` and `train` return a `Detector`, which scores rows."""

import math
import sys
import tempfile
from collections.abc import Iterable, Mapping
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

from streamae.api.detector import Detector
from streamae.api.scores import Reconstruction, RowScore, Scores
from streamae.core.alert import AlertRule
from streamae.daemon.clock import Clock
from streamae.errors import ConfigError
from streamae.history.series import Series, read_series
from streamae.model.artifact import open_artifact
from streamae.model.save import default_registry

if TYPE_CHECKING:
    from rich.console import Console

    from streamae.training.plan import TrainConfig

__all__ = ["Detector", "Reconstruction", "RowScore", "Scores", "load", "train"]


def load(
    path: str | Path,
    sha256: str | None = None,
    *,
    registry: str | Path | None = None,
    for_s: float = 0.0,
    keep_firing_for_s: float = 60.0,
    critical_ratio: float = 2.0,
    false_alarms_per_s: float | None = None,
) -> Detector:
    """Open a model file after the daemon's own checks: its digest is `sha256`, or that of a model trained here.

    `registry` is where this installation records the models that it trained, by default the user's own. The others are
    what an operator decides of a group, with the same defaults: an alert fires once the score has been above its
    threshold for `for_s`, resolves after `keep_firing_for_s` below it, and is critical from `critical_ratio` times the
    threshold; `false_alarms_per_s` is the budget that thresholds keep to (None: the one that it was trained for).

    >>> import streamae
    >>> detector = streamae.load("pumps.pt", for_s=10.0)
    >>> detector.channels
    ('pressure', 'flow', 'vibration', 'temperature')
    >>> streamae.load("pumps.pt", sha256="0" * 64)
    Traceback (most recent call last):
    streamae.errors.ArtifactError: pumps.pt: its SHA-256 is ..., but 000... is pinned; ...

    :raises ArtifactError: before any code of the file runs, if it is missing, damaged, or of another or unknown digest.
    :raises ConfigError: a setting that means nothing.
    """
    _check_number("for_s", for_s)
    _check_number("keep_firing_for_s", keep_firing_for_s)
    _check_number("critical_ratio", critical_ratio, above=1.0)
    if false_alarms_per_s is not None:
        _check_number("false_alarms_per_s", false_alarms_per_s, above=0.0)
    known = default_registry() if registry is None else Path(registry)
    alert = AlertRule(float(for_s), float(keep_firing_for_s), float(critical_ratio))
    return Detector(open_artifact(Path(path), sha256, known), alert, false_alarms_per_s)


def _check_number(key: str, value: float, *, least: float = 0.0, above: float = -math.inf) -> None:
    if not isinstance(value, Real) or not (least <= value < math.inf and value > above):
        wanted = f"{least:g} or more" if above == -math.inf else f"more than {above:g}"
        raise ConfigError(f"{key}: got {value!r}; give a number, {wanted}")


def train(
    series: Series | str | Path | Iterable[Series | str | Path],
    out: str | Path | None = None,
    *,
    seed: int = 0,
    rows: int | None = None,
    config: "TrainConfig | Mapping[str, Any] | str | Path | None" = None,
    registry: str | Path | None = None,
    verbose: bool = False,
) -> Detector:
    """Learn what normal is, as `streamae train` does: of a series for each stream, or of files that hold them.

    With `out` the model file is written there, and recorded in `registry` (None: the user's own), so that this
    installation may `load` it. `rows`: learn from the first so many of each series. `config` holds the keys of
    train.yaml, or is the path of one, whose `sources` are fetched, too. The same seed gives the same model.
    `verbose` says on standard error what was found. Takes seconds to minutes.

    >>> import streamae
    >>> detector = streamae.train(["pump01.csv", "pump02.csv"], rows=400, config={"recipe": {"steps": 20}})
    >>> detector.streams
    ('pump01', 'pump02')

    :raises SeriesError: a series that cannot be read, or that nothing can be learnt from.
    :raises ConfigError: a key or value of `config` that means nothing.
    :raises ArtifactError: `out` cannot be written.
    """
    from rich.console import Console

    from streamae.training.train import train as fit

    if rows is not None and rows < 1:
        raise ConfigError(f"rows: got {rows!r}; give at least 1, or None for all")
    clock, console = Clock(), Console(file=sys.stderr, quiet=not verbose)
    given = [series] if isinstance(series, Series | str | Path) else list(series)
    found = [one if isinstance(one, Series) else read_series(one) for one in given]
    chosen, fetched = _settings(config, clock, console)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.pt" if out is None else Path(out)
        known = None if out is None else default_registry() if registry is None else Path(registry)
        made = fit(
            [], path, rows, seed, chosen, fetched=found + fetched, now=clock.now, registry=known, console=console
        )
        return Detector(open_artifact(path, made.digest, None), AlertRule())


def _settings(
    config: "TrainConfig | Mapping[str, Any] | str | Path | None", clock: Clock, console: "Console"
) -> tuple["TrainConfig", list[Series]]:
    """Return the settings of a training, and the series that they say where to find."""
    from streamae.config.databases import read_history
    from streamae.history.databases import fetch
    from streamae.training.plan import TrainConfig
    from streamae.training.settings import config_of, read_config

    if isinstance(config, TrainConfig):
        return config, []
    if config is None or isinstance(config, Mapping):
        if config and "sources" in config:
            raise ConfigError("config: sources: got a mapping; write them into a train.yaml, and give its path")
        return config_of(config or {}, Path("config")), []
    path = Path(config)
    chosen, sources = read_config(path), read_history(path)
    return chosen, fetch(sources, now=clock.now, sleep=clock.sleep, console=console) if sources else []
