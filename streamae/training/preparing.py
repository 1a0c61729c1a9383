"""Series as they were recorded -> streams to learn from: screened, and on the time grid of the daemon where it has one.

What is found of the values stands in the manifest, so that the daemon reads them as training did.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from streamae.core.align_rule import GridAlign
from streamae.core.profile import Profile
from streamae.errors import SeriesError
from streamae.history.gridding import on_grid, texts_of
from streamae.history.prepared import Prepared, Screening
from streamae.history.screening import screen_rows
from streamae.history.series import Series
from streamae.model.artifact import profile_of
from streamae.training.dataset import Stream

__all__ = ["Ready", "prepare", "rows_profile"]

_IRREGULAR = 3.0  # the steps of 90 % over those of 10 %
_INCOMPLETE = 0.2  # of the rows


@dataclass(frozen=True, slots=True, eq=False)
class Ready:
    """Streams to learn from, how their rows were made, and what there is to say about it."""

    streams: Sequence[Stream]
    prepared: Prepared = field(default_factory=Prepared)
    notes: Sequence[str] = ()

    @property
    def counters(self) -> Mapping[str, str]:
        """The counters whose totals the rows still hold: on a grid they were read before."""
        return {} if self.prepared.grid is not None else self.prepared.counters

    def complete(self, manifest: dict[str, Any]) -> None:
        """Add to a model's manifest how it must get its rows."""
        found, known = self.prepared.to_mapping(), set(manifest["channels"])  # not those that were dropped
        for key in ("counters", "sentinels"):
            kept = {name: one for name, one in found.pop(key, {}).items() if name in known}
            manifest |= {key: kept} if kept else {}
        manifest |= found
        if self.prepared.grid is not None:
            manifest["gap_max_s"] = max(manifest["gap_max_s"], self.prepared.grid.bridged_s())


def prepare(streams: Sequence[Stream], wish: Screening, grid: GridAlign | None = None) -> Ready:
    """Return streams without what is no measurement; `grid` builds rows of samples that arrived apart.

    Raises SeriesError where some are rows on a grid already, and others are not.
    """
    raw = [stream for stream in streams if stream.prepared is None]
    if not raw:
        made = [stream.prepared for stream in streams if stream.prepared is not None]
        return Ready(streams, _joined(made)) if made else Ready(streams)
    if len(raw) < len(streams) and grid is None:
        raise SeriesError(
            f"{raw[0].name}: is a file of rows, but other series are on a time grid; put it there as well with --every"
        )
    if len({stream.channels for stream in raw}) > 1:
        return Ready(streams)  # to be refused with the reason by whoever reads them
    ready = _gridded(raw, wish, grid) if grid is not None else _screened(raw, wish)
    others = [stream for stream in streams if stream.prepared is not None]
    if not others:
        return ready
    made = [stream.prepared for stream in others if stream.prepared is not None]
    return Ready([*others, *ready.streams], _joined([*made, ready.prepared]), ready.notes)


def rows_profile(manifest: Mapping[str, Any]) -> Profile:
    """Return the profile for rows as they were prepared: those of a grid have no totals any more."""
    profile = profile_of(manifest, "")
    return profile if profile.grid is None else replace(profile, counters={})


def _joined(made: Sequence[Prepared]) -> Prepared:
    first = made[0]
    for other in made[1:]:
        if (other.counters, _every_s(other)) != (first.counters, _every_s(first)):
            raise SeriesError(
                f"sources: some series read counters as {dict(first.counters)}, others as {dict(other.counters)}, or "
                "their grids differ; say for both `counters` and the same grid, or train on one of them"
            )
    sentinels = {name: kept for one in reversed(made) for name, kept in one.sentinels.items()}
    grids = [one.grid for one in made if one.grid is not None]
    return Prepared(first.counters, sentinels, max(grids, key=lambda grid: grid.bridged_s(), default=None))


def _every_s(prepared: Prepared) -> float | None:
    return None if prepared.grid is None else prepared.grid.every_s


def _gridded(raw: Sequence[Stream], wish: Screening, grid: GridAlign) -> Ready:
    series = [Series(x.name, x.channels, x.time_s, texts_of(x.time_s), x.values) for x in raw]
    made, screened = on_grid(series, grid, wish)
    streams = [Stream(x.name, x.channels, x.time_s, x.values, x.prepared) for x in made]
    return Ready(streams, screened.prepared, screened.notes)


def _screened(raw: Sequence[Stream], wish: Screening) -> Ready:
    channels = raw[0].channels
    screened = screen_rows([stream.values for stream in raw], channels, wish)
    streams = [
        replace(stream, values=screened.possible(stream.values, s, channels, wish)) for s, stream in enumerate(raw)
    ]
    return Ready(streams, screened.prepared, [*screened.notes, *_on_change(raw)])


def _on_change(raw: Sequence[Stream]) -> list[str]:
    """Say where rows look like samples that were sent on change, which the daemon would put on a grid."""
    found = [stream.name for stream in raw if _irregular(stream)]
    if not found:
        return []
    more = f" and {len(found) - 1} more" if len(found) > 1 else ""
    return [
        f"{found[0]}{more}: rows come at irregular times, or lack channels, as of sensors that send on change: "
        "`streamae train --every 1m` puts them on a time grid, as `align: {every: 1m}` does in the daemon"
    ]


def _irregular(stream: Stream) -> bool:
    if len(stream.time_s) < 3:
        return False
    steps_s = np.diff(stream.time_s)
    short_s, long_s = np.quantile(steps_s, (0.1, 0.9))
    holes = 1.0 - np.isfinite(stream.values).all(axis=1).mean()
    part = np.isfinite(stream.values).any(axis=0)  # a channel without any value is dropped, and no sign of it
    holes = float(1.0 - np.isfinite(stream.values[:, part]).all(axis=1).mean()) if part.any() else holes
    return bool(long_s > _IRREGULAR * max(short_s, 1e-9) or holes > _INCOMPLETE)
