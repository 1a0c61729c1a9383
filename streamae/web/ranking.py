"""Which streams a page shows, in which order: filtered, ranked and cut over arrays, however many there are."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema

from streamae.core.types import AlertState
from streamae.pacing import paced
from streamae.web.answers import STREAM_STATES, StreamAnswer, StreamState, meaning
from streamae.web.parameters import Digits, Limit
from streamae.web.view import StreamTable

__all__ = ["Selection", "finite", "line", "ranked"]

Sort = Literal["score", "peak", "name"]


def _pair(text: str) -> tuple[str, str]:
    name, sign, value = text.partition("=")
    if not name or not sign:
        raise ValueError("not name=value")
    return name, value


Pair = Annotated[tuple[str, str], BeforeValidator(_pair), WithJsonSchema({"type": "string", "format": "name=value"})]


@dataclass(frozen=True, slots=True)
class Selection:
    """Which streams, and in which order."""

    q: Annotated[str, AfterValidator(str.lower), meaning("Part of the name, in any case")] = ""
    label: Annotated[
        tuple[Pair, ...], meaning("name=value of a label that the stream has; may be given several times")
    ] = ()
    group: Annotated[str | None, meaning("Only streams of this group")] = None
    state: Annotated[StreamState | None, meaning("Only streams in this state")] = None
    trouble: Annotated[
        bool, meaning("Only streams with something wrong beside their score: a verdict on a sensor, quarantine")
    ] = False
    sort: Annotated[
        Sort, meaning("score: by score over threshold now; peak: by state and the highest of the sparkline; name")
    ] = "score"
    offset: Annotated[int, Field(ge=0, le=10_000_000, description="How many to pass over first"), Digits] = 0
    limit: Limit = 100


def ranked(tables: Sequence[StreamTable], wanted: Selection) -> tuple[int, list[StreamAnswer]]:
    """Return how many streams match, and those lines of them that are wanted, worst first."""
    rows = [(table, _matching(table, wanted)) for table in tables]
    if not rows:
        return 0, []
    which = np.concatenate([np.full(len(i), k) for k, (_, i) in enumerate(rows)]).astype(np.int64)
    place = np.concatenate([i for _, i in rows])
    if wanted.sort == "name":
        names = [(table.group, table.names[i]) for table, index in rows for i in index.tolist()]
        order = np.array(sorted(range(len(names)), key=names.__getitem__), np.int64)
    else:
        order = _order(rows, peak=wanted.sort == "peak")
    shown = order[wanted.offset : wanted.offset + wanted.limit]
    return len(place), [line(tables[which[k]], int(place[k])) for k in paced(shown.tolist())]


def _order(rows: Sequence[tuple[StreamTable, npt.NDArray[np.int64]]], *, peak: bool) -> npt.NDArray[np.int64]:
    """What is wrong with a stream beside its score counts as much as a score at its threshold."""
    troubled = np.concatenate([_troubled(t)[i] for t, i in rows])
    ratio = np.concatenate([np.nan_to_num(_ratio(t)[i], nan=-1.0) for t, i in rows])
    if not peak:
        return np.argsort(-np.where(troubled, np.maximum(ratio, 1.0), ratio), kind="stable")
    urgency = _URGENCY[np.concatenate([t.state[i] for t, i in rows]).astype(np.int64)]
    urgency = np.where(troubled, np.maximum(urgency, _TROUBLED), urgency)
    highest = np.concatenate(
        [np.fmax.reduce(t.spark[i], axis=1) if t.spark is not None else _ratio(t)[i] for t, i in rows]
    )
    return np.lexsort((-ratio, -np.round(np.nan_to_num(highest, nan=-1.0), 2), -urgency))


def _ratio(table: StreamTable) -> npt.NDArray[np.float64]:
    return table.score / table.threshold if table.ratio is None else table.ratio


# By the number of the state: the negative ones stand at the end. What is not judged may be worse than what is pending.
_TROUBLED = 2
_URGENCY = np.zeros(len(AlertState), np.int64)
_URGENCY[[AlertState.PENDING, AlertState.UNJUDGED, AlertState.FIRING]] = 1, _TROUBLED, 3


def _troubled(table: StreamTable) -> npt.NDArray[np.bool_]:
    found = np.zeros(len(table.names), np.bool_)
    found[list(table.troubles)] = True
    return found


def _matching(table: StreamTable, wanted: Selection) -> npt.NDArray[np.int64]:
    found = np.arange(len(table.names))
    if wanted.q:
        found = np.array([i for i, name in paced(enumerate(table.names)) if wanted.q in name.lower()], np.int64)
    if wanted.label:
        asked = dict(wanted.label).items()
        found = np.array([i for i in paced(found.tolist()) if asked <= table.labels(i).items()], np.int64)
    if wanted.trouble:
        found = found[_troubled(table)[found]]
    return found if wanted.state is None else found[table.state[found] == STREAM_STATES[wanted.state]]


def line(table: StreamTable, i: int) -> StreamAnswer:
    """Return one stream of a table as JSON values; `spark` in hundredths of the threshold."""
    worst = int(table.worst[i])
    state = AlertState(int(table.state[i]))
    said: StreamAnswer = {
        "group": table.group,
        "stream": table.names[i],
        "score": _number(table.score[i]),
        "threshold": _number(table.threshold[i]),
        "state": state.word,
        "worst_channel": table.channels[worst] if worst >= 0 else None,
        "time_s": _number(table.time_s[i]),
    }
    if state is AlertState.LEARNING:
        said["learned_rows"], said["warmup_rows"] = int(table.learned[i]), table.warmup_rows
    if state < AlertState.INACTIVE and table.rows is not None and table.needed is not None:
        said["rows"], said["rows_needed"] = int(table.rows[i]), int(table.needed[i])
        said["eta_s"] = None if table.eta_s is None else _number(np.float64(f"{table.eta_s[i]:.3g}"))
    if i in table.limits:
        said["limit"] = table.limits[i]
    if i in table.unjudged:
        said["unjudged"] = table.unjudged[i]
    if i in table.marks:
        said["marks"] = list(table.marks[i])
    if table.spark is not None:
        said["spark"] = [round(min(100 * x, 1e6)) if math.isfinite(x) else None for x in table.spark[i].tolist()]
        said["slot_s"] = table.slot_s
    return said


def _number(value: np.float64) -> float | None:
    return float(value) if math.isfinite(value) else None


def finite(values: Mapping[str, Any]) -> Any:
    """JSON has no NaN and no infinity: they become null. Returns a dictionary, of whatever type is declared."""
    return {key: _plain(value) for key, value in values.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return finite(value)
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value.item() if isinstance(value, np.generic) else value
