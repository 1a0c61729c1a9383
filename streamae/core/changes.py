"""Changes of one stream that its samples do not make: it is removed, learns again, or has another name.

People ask for these changes (`core.types.StreamChange`): they come with a batch, before its messages, and are
journalled with it, so a replay makes them too. A stream is forgotten, too, where another needs its place
(`core.places`).

An alert that stands ends with what it was about: whoever knew of its beginning learns of the end. The last stream
takes the number of a stream that is removed, so that numbers have no holes; names are what lasts.
"""

import io
from base64 import b64decode, b64encode
from binascii import Error
from dataclasses import dataclass, field
from zipfile import BadZipFile

import numpy as np

from streamae.core.pipeline import Pipeline
from streamae.core.report import Transition
from streamae.core.takeover import learn_rows
from streamae.core.types import F64, Rows, StreamChange

__all__ = ["Changed", "change", "make_room", "packed"]


@dataclass(slots=True, eq=False)
class Changed:
    """What changes brought about in a group: ends of alerts, sentences for the log, and what streams are called now.

    `removed` has the number of each stream that is gone, and that of the last one, which took it; `renamed` the numbers
    that have another name; `forgotten` counts the streams that gave their place to new ones.
    """

    transitions: list[Transition] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)
    removed: list[tuple[int, int]] = field(default_factory=list)
    renamed: list[int] = field(default_factory=list)
    forgotten: int = 0


def change(pipeline: Pipeline, wanted: StreamChange, changed: Changed) -> None:
    """Make a change that somebody asked for; one of a stream that is not there is none."""
    pipeline.begin()
    stream = pipeline.streams.index(wanted.stream)
    if stream is None:
        return
    said = f"group {pipeline.group.name}: {wanted.stream}"
    if wanted.kind == "remove":
        changed.notices.append(f"{said} was removed, as somebody asked")
        _remove(pipeline, stream, changed)
    elif wanted.kind == "rename":
        changed.notices.append(f"{said} is called {wanted.name} now, as somebody asked")
        _rename(pipeline, stream, wanted.name, changed)
    elif wanted.kind == "relearn":
        rows = _unpacked(wanted.rows, stream, len(pipeline.profile.channels))
        changed.notices.append(f"{said} learns again, as somebody asked, from {len(rows)} rows of its past on")
        _relearn(pipeline, stream, rows, changed)


def make_room(pipeline: Pipeline, now_s: float) -> Changed:
    """Forget streams that are long silent at `now_s` (arrival), where new ones were refused for want of a place."""
    changed = Changed()
    judged = pipeline.scoring.judged(len(pipeline.streams))
    gap_s = pipeline.health.state_of_sensors.gap_s.max(axis=1, initial=0.0)
    names = [pipeline.streams.names[s] for s in pipeline.places.victims(judged, gap_s, now_s)]
    for name in names:
        stream = pipeline.streams.index(name)
        if stream is not None:
            _remove(pipeline, stream, changed)
    if names:
        changed.forgotten = len(names)
        some = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
        why = "silent for long; new streams need their places, since max_streams is reached"
        changed.notices.append(f"group {pipeline.group.name}: forgets {some}: {why}")
    return changed


def packed(time_s: F64, values: F64) -> str:
    """Return rows `time_s[n]`, `values[n, C]` as text, for a `StreamChange`."""
    out = io.BytesIO()
    np.savez_compressed(out, time_s=time_s, values=values)
    return b64encode(out.getvalue()).decode("ascii")


def _unpacked(text: str, stream: int, channels: int) -> Rows:
    time_s, values = np.zeros(0), np.zeros((0, channels))
    if text:
        try:
            with np.load(io.BytesIO(b64decode(text)), allow_pickle=False) as kept:
                found = kept["time_s"].astype(np.float64), kept["values"].astype(np.float64)
        except (ValueError, KeyError, OSError, Error, BadZipFile):  # of another form than this release's
            found = time_s, values
        if found[1].shape == (len(found[0]), channels):  # else of a model with other channels
            time_s, values = found
    return Rows(np.full(len(time_s), stream, np.int32), time_s, values)


def _end_alerts(pipeline: Pipeline, stream: int, changed: Changed) -> None:
    """End the anomaly of a stream, and what its flapping held back."""
    name, ends = pipeline.streams.names[stream], []
    alert = pipeline.alerts.end(stream)
    if alert is not None:
        ends.append(pipeline.transitions.ended(stream, alert, pipeline.latest))
    changed.transitions += pipeline.flapping.step(ends, pipeline.present_s)
    changed.transitions += pipeline.flapping.drop(name, float(np.nan_to_num(pipeline.latest.row_s[stream])))


def _remove(pipeline: Pipeline, stream: int, changed: Changed) -> None:
    last = len(pipeline.streams) - 1
    found = pipeline.health.end(stream, float(np.nan_to_num(pipeline.latest.row_s[stream])))
    changed.transitions += pipeline.flapping.step([pipeline.transitions.finding(x) for x in found], pipeline.present_s)
    _end_alerts(pipeline, stream, changed)
    pipeline.decoder.drop(stream, last)
    pipeline.drop(stream)
    changed.removed.append((stream, last))
    changed.renamed = [stream if s == last else s for s in changed.renamed if s != stream]


def _rename(pipeline: Pipeline, stream: int, name: str, changed: Changed) -> None:
    former = pipeline.streams.names[stream]
    taken = pipeline.streams.index(name)
    if taken == stream:
        return
    if taken is not None:
        _remove(pipeline, taken, changed)
        stream = pipeline.streams.names.index(former)
    found = pipeline.health.end(stream, float(np.nan_to_num(pipeline.latest.row_s[stream])))
    changed.transitions += pipeline.flapping.step([pipeline.transitions.finding(x) for x in found], pipeline.present_s)
    _end_alerts(pipeline, stream, changed)
    pipeline.streams.rename(stream, name)
    pipeline.router.forget()
    pipeline.maintenance.renumber()
    changed.renamed.append(stream)


def _relearn(pipeline: Pipeline, stream: int, rows: Rows, changed: Changed) -> None:
    _end_alerts(pipeline, stream, changed)
    pipeline.relearn(stream)
    if len(rows):
        learn_rows(pipeline, rows)
