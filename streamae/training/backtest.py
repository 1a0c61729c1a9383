"""A recorded series through the daemon's own core, row by row: what `streamae score` prints.

The rows take the same stages as messages do after alignment, in order, so the score of a row knows nothing of the rows
behind it, and the daemon would have given it the same score.
"""

import csv
import gzip
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from streamae.core.alert import AlertRule
from streamae.core.decode import PayloadSpec
from streamae.core.pipeline import Group, Pipeline
from streamae.core.profile import Profile, Reconstructor
from streamae.core.report import Transition
from streamae.core.topics import Template
from streamae.core.types import F32, F64, I8, I64, AlertState, Bool, Rows
from streamae.errors import SeriesError
from streamae.history.gridding import regrid
from streamae.history.recordings import Series

__all__ = [
    "Scored",
    "columns_of",
    "complete",
    "offline_group",
    "score_rows",
    "score_series",
    "state_words",
    "usable_rows",
    "write_scores",
]

_ROWS_PER_STEP = 2048  # bounds the memory that windows take
_WORDS = np.array([state.name.lower() for state in sorted(AlertState)])  # the state whose number is the least first


@dataclass(frozen=True, slots=True, eq=False)
class Scored:
    """One line per input row: `score[N]` and `threshold[N]` are NaN, `state[N]` LEARNING, where no window was full.

    `share[N, C]` of each channel in the score is NaN where there is none; `notices` say where the model failed.
    """

    score: F64
    threshold: F64
    state: I8
    share: F32
    transitions: Sequence[Transition]
    notices: Sequence[str] = ()


def offline_group(profile: Profile, model: Reconstructor, alert: AlertRule, warmup_rows: int | None = None) -> Group:
    """Return a group that takes rows of a recording instead of messages."""
    return Group(
        name="series",
        templates=[Template.parse("series/{stream}")],
        payloads=[PayloadSpec("json")],
        stream_template="{stream}",
        profile=profile,
        reconstructor=model,
        alert=alert,
        warmup_rows=warmup_rows,
    )


def usable_rows(series: Series, profile: Profile) -> tuple[I64, F64]:
    """Return which rows the daemon would not refuse (all values there, time goes forward), and all `values[N, C]`.

    Columns are the profile's channels in its order. Raises SeriesError where the series lacks one.
    """
    values = columns_of(series, profile.channels)
    forward = np.r_[True, series.time_s[1:] > np.maximum.accumulate(series.time_s)[:-1]][: len(series)]
    return np.flatnonzero(complete(values) & forward), values


def columns_of(series: Series, channels: Sequence[str]) -> F64:
    """Return `values[N, C]` of these channels, in this order. Raises SeriesError where the series lacks one."""
    missing = [c for c in channels if c not in series.channels]
    if missing:
        raise SeriesError(
            f"the series lacks the model's channel {', '.join(missing)}; it has {', '.join(series.channels)}: "
            "rename its columns, or train a model on this series"
        )
    return series.values[:, [series.channels.index(c) for c in channels]]


def complete(values: F64) -> Bool:
    """Return which rows of `values[N, C]` the daemon takes: every channel has a finite value that float32 can hold."""
    return np.asarray((np.abs(values) <= np.finfo(np.float32).max).all(axis=1))


def score_series(series: Series, group: Group) -> Scored:
    """Score every row of a series in order, as the stream of its name.

    Raises SeriesError where the series lacks a channel of the model.
    """
    usable, values = usable_rows(series, group.profile)
    return score_rows(Pipeline("offline", group), series.name, series.time_s, values, usable)


def score_rows(pipeline: Pipeline, name: str, time_s: F64, values: F64, usable: I64) -> Scored:
    """Score those of `values[N, C]` of one stream that are `usable`, in order, from where the pipeline stands."""
    N, C = values.shape
    score, threshold = np.full(N, np.nan), np.full(N, np.nan)
    state, share = np.full(N, AlertState.LEARNING, np.int8), np.full((N, C), np.nan, np.float32)
    transitions: list[Transition] = []
    notices: list[str] = []
    for first in range(0, len(usable), _ROWS_PER_STEP):
        index = usable[first : first + _ROWS_PER_STEP]
        rows = Rows(np.zeros(len(index), np.int32), time_s[index], values[index])
        report = pipeline.step_rows([name], rows)
        verdicts = report.groups[pipeline.group.name].verdicts
        at = index[np.searchsorted(time_s[index], verdicts.time_s)]
        score[at], threshold[at], state[at] = verdicts.score, verdicts.threshold, verdicts.state
        share[at] = np.where(np.isnan(verdicts.score)[:, None], np.nan, verdicts.share)
        transitions += report.transitions
        notices += report.notices
    return Scored(score, threshold, state, share, transitions, notices)


def state_words(state: I8) -> npt.NDArray[np.str_]:
    """Return the states `[N]` in the words of every output: learning, inactive, pending, firing."""
    found: npt.NDArray[np.str_] = _WORDS[state - min(AlertState)]
    return found


def write_scores(path: Path, time_text: Sequence[str], scored: Scored) -> None:
    """Write `timestamp,score,threshold,state`, one line per input row; .gz is compressed."""
    with gzip.open(path, "wt", newline="") if path.suffix == ".gz" else path.open("w", newline="") as out:
        lines = csv.writer(out, lineterminator="\n")
        lines.writerow(("timestamp", "score", "threshold", "state"))
        words = state_words(scored.state).tolist()
        columns = zip(time_text, scored.score.tolist(), scored.threshold.tolist(), words, strict=True)
        for text, score, threshold, name in columns:
            known = score == score  # noqa: PLR0124  (NaN)
            lines.writerow((text, repr(score) if known else "", repr(threshold) if known else "", name))


def score_file(model: Path, path: Path, out: Path, sha256: str | None, registry: Path | None) -> str:
    """The verb `score`: open, score, write; returns what was done in one line."""
    from streamae.history.recordings import read_series
    from streamae.model.artifact import open_artifact
    from streamae.model.save import default_registry

    series = read_series(path)
    artifact = open_artifact(model, sha256, registry or default_registry())
    profile, what = artifact.profile, "rows"
    if profile.grid is not None:  # as in training and in the daemon; totals are increases there
        series, profile, what = regrid(series, profile), replace(profile, counters={}), "rows of the model's grid"
    scored = score_series(series, offline_group(profile, artifact.reconstructor, AlertRule()))
    write_scores(out, series.time_text, scored)
    known = int(np.isfinite(scored.score).sum())
    above = int((scored.score > scored.threshold).sum())
    return f"{path}: {known} of {len(scored.score)} {what} scored, {above} above the threshold; written to {out}"
