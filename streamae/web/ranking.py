"""Which streams a page shows, in which order: filtered, ranked and cut over arrays, however many there are."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from streamae.core.types import AlertState
from streamae.web.view import StreamTable

__all__ = ["SORTS", "Selection", "finite", "line", "ranked"]

SORTS = ("score", "peak", "name")


@dataclass(frozen=True, slots=True)
class Selection:
    """What was asked for: part of a name, labels, a state, an order, and the lines from `offset` on, at most `limit`.

    `score` orders by score over threshold, `peak` by state and then by the highest ratio that the sparkline shows
    (which is calmer to look at), `name` by group and name.
    """

    search: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    state: AlertState | None = None
    sort: str = "score"
    offset: int = 0
    limit: int = 100


def ranked(tables: Sequence[StreamTable], wanted: Selection) -> tuple[int, list[dict[str, Any]]]:
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
    return len(place), [line(tables[which[k]], int(place[k])) for k in shown]


def _order(rows: Sequence[tuple[StreamTable, npt.NDArray[np.int64]]], *, peak: bool) -> npt.NDArray[np.int64]:
    ratio = np.concatenate([np.nan_to_num(t.score[i] / t.threshold[i], nan=-1.0) for t, i in rows])
    if not peak:
        return np.argsort(-ratio, kind="stable")
    state = np.concatenate([t.state[i] for t, i in rows]).astype(np.int64)
    highest = np.concatenate(
        [np.fmax.reduce(t.spark[i], axis=1) if t.spark is not None else t.score[i] / t.threshold[i] for t, i in rows]
    )
    return np.lexsort((-ratio, -np.round(np.nan_to_num(highest, nan=-1.0), 2), -np.maximum(state, 0)))


def _matching(table: StreamTable, wanted: Selection) -> npt.NDArray[np.int64]:
    found = np.arange(len(table.names))
    if wanted.search:
        found = np.array([i for i, name in enumerate(table.names) if wanted.search in name.lower()], np.int64)
    if wanted.labels:
        asked = wanted.labels.items()
        found = np.array([i for i in found.tolist() if asked <= table.labels(i).items()], np.int64)
    return found if wanted.state is None else found[table.state[found] == wanted.state]


def line(table: StreamTable, i: int) -> dict[str, Any]:
    """Return one stream of a table as JSON values; `spark` in hundredths of the threshold."""
    worst = int(table.worst[i])
    state = AlertState(int(table.state[i]))
    told: dict[str, Any] = {
        "group": table.group,
        "stream": table.names[i],
        "score": table.score[i],
        "threshold": table.threshold[i],
        "state": state.name.lower(),
        "worst_channel": table.channels[worst] if worst >= 0 else None,
        "time_s": table.time_s[i],
    }
    if state is AlertState.LEARNING:
        told["learned_rows"], told["warmup_rows"] = int(table.learned[i]), table.warmup_rows
    if i in table.marks:
        told["marks"] = list(table.marks[i])
    if table.spark is not None:
        told["spark"] = [round(min(100 * x, 1e6)) if math.isfinite(x) else None for x in table.spark[i].tolist()]
        told["slot_s"] = table.slot_s
    return finite(told)


def finite(values: Mapping[str, Any]) -> dict[str, Any]:
    """JSON has no NaN and no infinity: they become null."""
    return {key: _plain(value) for key, value in values.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return finite(value)
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value.item() if isinstance(value, np.generic) else value
