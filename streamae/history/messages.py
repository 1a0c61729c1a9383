"""Messages of the past -> series to train on: what was recorded, or what the journal of an installation still holds.

They take the daemon's own way: the same decoder and the same alignment, with the same settings, so that training sees
rows as scoring will. Only the channels are not known before there is a model. They are those that the configuration
names; where it names none, everything that the payloads call a number is tried, and a channel is one that most streams
have (on a time grid) or that is in most messages (`align: row`).
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np

from streamae.config import load
from streamae.config.streams import StreamGroup
from streamae.core.align import align_stage
from streamae.core.align_rule import GridAlign
from streamae.core.decode import Decoder, deferred
from streamae.core.formats import FORMATS
from streamae.core.formats.discovery import channel_names
from streamae.core.routes import Router, Streams
from streamae.core.types import Batch, Drops, Readings, Rows
from streamae.errors import SeriesError
from streamae.history.gridding import align_in_steps, rows_on_grid, texts_of
from streamae.history.prepared import Screening
from streamae.history.recordings import read_batches
from streamae.history.screening import Screened
from streamae.history.series import Series
from streamae.store.past import Spell, open_past

__all__ = ["MessageSeries", "from_journal", "from_recordings", "series_of_messages"]

Batches = Callable[[], Iterable[Batch]]
_COMMON = 0.5  # the part of streams, or of messages, that must have a channel
_ROWS_MIN = 100


@dataclass(frozen=True, slots=True)
class MessageSeries:
    """Series of a group, and what there is to say about how they came to be."""

    series: list[Series]
    notes: list[str] = field(default_factory=list)


def series_of_messages(
    name: str,
    group: StreamGroup,
    batches: Batches,
    spells: Sequence[Spell] = (),
    *,
    since_s: float = -math.inf,
    beside: Iterable[StreamGroup] = (),
    wish: Screening | None = None,
) -> MessageSeries:
    """Return the series of a group's streams from `since_s` on, without the rows within `spells`.

    `batches()` is called twice, and starts from the beginning each time. As in the daemon, a part of a message makes no
    stream where one of the groups `beside` has the whole of its own. `wish` says of the values what the group leaves
    open.

    Raises SeriesError where nothing of the group is in the messages, with what was in its place.
    """
    read = group.readers
    found = channel_names(
        read, ((t, p) for batch in batches() for t, p in zip(batch.topics, batch.payloads, strict=True))
    )
    streams, decoder = _decoder(name, group, found)
    others = [_decoder("beside", one, channel_names(one.readers, ()))[1] for one in beside]
    decoder.elsewhere = lambda topic, payload: any(other.covers(topic, payload) for other in others)
    parts, drops, messages = [], Drops(), 0
    for batch in batches():
        readings, refused = decoder.decode(batch.topics, batch.payloads, batch.arrival_s)
        parts.append(readings)
        drops += refused
        messages += len(batch)
    readings = _joined_apart(parts)
    if not len(readings):
        raise SeriesError(
            f"group {name}: none of {messages} messages has a sample of it ({_said(drops)}); check its topics"
        )
    chosen, left_out = _common(readings, found, len(streams), apart=isinstance(group.align, GridAlign))
    notes = [f"{messages} messages, {len(readings)} samples; refused: {_said(drops)}", *left_out]
    readings = _placed(readings, [found.index(channel) for channel in chosen])
    rows, refused, screened = _rows(group, readings, chosen, len(streams), _wish(group, wish))
    notes += [] if screened is None else screened.notes
    if +refused:
        notes.append(f"aligned to {len(rows)} rows; refused: {_said(refused)}")
    series = _series(rows, streams.names, chosen, [*spells, Spell("*", -math.inf, since_s)], notes)
    if screened is not None:
        series = [replace(one, prepared=screened.prepared) for one in series]
    if not series:
        raise SeriesError(f"group {name}: {'; '.join(notes)}: no stream has {_ROWS_MIN} rows; record for longer")
    return MessageSeries(series, notes)


def _wish(group: StreamGroup, wish: Screening | None) -> Screening:
    """Return what the group, and else `wish`, says of values."""
    wish = wish or Screening()
    return replace(wish, range={**wish.range, **group.health.range}, counters={**wish.counters, **group.counters})


def _decoder(name: str, group: StreamGroup, channels: Sequence[str]) -> tuple[Streams, Decoder]:
    read = group.readers
    templates, specs = [template for template, _ in read], [spec for _, spec in read]
    streams = Streams(group.stream_template(name), group.max_streams)
    router = Router(templates, channels, streams, deferred(specs))
    return streams, Decoder(router, specs, channels, future_max_s=group.future_max_s)


def from_recordings(
    path: Path, group: str | None, recordings: Sequence[Path], wish: Screening | None = None
) -> MessageSeries:
    """Return the series of a group of the configuration at `path` from recordings, one after the other.

    Raises ConfigError, SeriesError.
    """
    settings = load(path)
    name, chosen = settings.group(group)
    beside = [one for other, one in settings.streams.items() if other != name]
    batches = lambda: (b for recording in recordings for b in read_batches(recording))  # noqa: E731
    return series_of_messages(name, chosen, batches, beside=beside, wish=wish)


def from_journal(
    path: Path, group: str | None, directory: Path, since_s: float, wish: Screening | None = None
) -> MessageSeries:
    """Return the series of a group from an installation's journal, without the time of alerts and silences.

    Raises ConfigError, SeriesError, StoreError.
    """
    settings = load(path)
    name, chosen = settings.group(group)
    beside = [one for other, one in settings.streams.items() if other != name]
    # A Sparkplug birth defines the aliases, and it may have come long before.
    from_s = -math.inf if any(FORMATS[topic.kind].memory is not None for topic in chosen.topics) else since_s
    with open_past(directory) as past:
        spells = [*past.alerts(name), *past.silences(name)]
        batches = lambda: past.batches(from_s)  # noqa: E731
        found = series_of_messages(name, chosen, batches, spells, since_s=since_s, beside=beside, wish=wish)
        return (
            found if not past.damaged else MessageSeries(found.series, [*found.notes, "damaged rows were passed over"])
        )


def _joined_apart(parts: Sequence[Readings]) -> Readings:
    """Join the readings of batches; origins of different batches stay different, and in order."""
    none = Readings(np.zeros(0, np.int32), np.zeros(0, np.int32), np.zeros(0), np.zeros(0), np.zeros(0, np.int32))
    apart, first = [none], 0
    for part in parts:
        apart.append(replace(part, origin=part.origin + first))
        first += int(part.origin.max(initial=0)) + 1
    return Readings.joined(apart)


def _common(readings: Readings, names: Sequence[str], streams: int, *, apart: bool) -> tuple[list[str], list[str]]:
    """Return the channels that make up a row, and what was left out in words."""
    pairs = np.zeros((streams, len(names)), np.int64)
    known = np.isfinite(readings.value)
    np.add.at(pairs, (readings.stream[known], readings.channel[known]), 1)
    if apart:
        where, share = "streams", (pairs > 0).sum(axis=0) / max(1, int((pairs > 0).any(axis=1).sum()))
    else:
        where, share = "messages", pairs.sum(axis=0) / max(1, len(np.unique(readings.origin[known])))
    kept = [name for name, part in zip(names, share.tolist(), strict=True) if part >= _COMMON]
    rare = [f"{name} ({part:.0%})" for name, part in zip(names, share.tolist(), strict=True) if part < _COMMON]
    return kept or list(names), [f"left out, since few {where} have them: {', '.join(rare)}"] if rare and kept else []


def _placed(readings: Readings, channels: Sequence[int]) -> Readings:
    """Return the readings of these channels, numbered in the order given."""
    place = np.full(max(int(readings.channel.max()), *channels) + 1, -1, np.int32)
    place[list(channels)] = np.arange(len(channels))
    kept = place[readings.channel] >= 0
    r = readings
    return Readings(r.stream[kept], place[r.channel[kept]], r.time_s[kept], r.value[kept], r.origin[kept])


def _rows(
    group: StreamGroup, readings: Readings, channels: Sequence[str], streams: int, wish: Screening
) -> tuple[Rows, Drops, Screened | None]:
    """Align readings as the daemon does; on a grid they are screened before, else their rows are, as those of files."""
    if isinstance(group.rows, GridAlign):
        found = rows_on_grid(readings, channels, streams, group.rows, wish)
        return found.rows, found.drops, found.screened
    rows, drops = align_in_steps(align_stage(group.rows, len(channels)), readings, streams)
    return rows, drops, None


def _series(
    rows: Rows, names: Sequence[str], channels: Sequence[str], spells: Sequence[Spell], notes: list[str]
) -> list[Series]:
    """Cut the rows into series, one a stream; streams with few rows are left out, and said."""
    made, poor, excluded = [], [], 0
    for stream, name in enumerate(names):
        mine = np.flatnonzero(rows.stream == stream)
        kept = np.ones(len(mine), np.bool_)
        for spell in spells:
            if spell.stream == name or fnmatchcase(name, spell.stream):
                kept &= (rows.time_s[mine] < spell.start_s) | (rows.time_s[mine] >= spell.end_s)
        excluded += int((~kept).sum())
        mine = mine[kept]
        if len(mine) < _ROWS_MIN:
            poor.append(f"{name} ({len(mine)})")
            continue
        time_s = rows.time_s[mine]
        made.append(Series(name, tuple(channels), time_s, texts_of(time_s), rows.values[mine]))
    if excluded:
        notes.append(f"left out {excluded} rows from before, or from the time of alerts or maintenance")
    if poor:
        more = f" and {len(poor) - 5} more" if len(poor) > 5 else ""
        notes.append(f"left out, since they have fewer than {_ROWS_MIN} complete rows: {', '.join(poor[:5])}{more}")
    return made


def _said(drops: Drops) -> str:
    return ", ".join(f"{n} {reason.value}" for reason, n in drops.most_common() if n) or "none"
