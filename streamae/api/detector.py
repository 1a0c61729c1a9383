"""A model as an object that takes rows and returns scores, the same to the bit as the daemon's.

A detector is one group of the daemon's core (`core.pipeline`) without a broker, a store and a clock: rows come from the
caller, and time is what the rows say. What belongs to a running installation stays with the daemon: sensors that are
stale or stuck, flapping, maintenance, `align: {every: …}`, delivery.
"""

import math
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from streamae.api.rows import few, rows_of, times_of_rows
from streamae.api.scores import Reconstruction, Scores
from streamae.core.alert import AlertRule
from streamae.core.pipeline import Pipeline
from streamae.core.types import F64
from streamae.errors import ArtifactError, SeriesError
from streamae.history.series import Series
from streamae.model.artifact import Artifact
from streamae.training.backtest import columns_of, complete, offline_group, score_rows, state_words

__all__ = ["Detector"]


class Detector:
    """A model, and what it knows by now of each stream: its scale, its window, its threshold, its alert.

    `load` and `train` return one. It is for one thread at a time. Rows in any portions give the same scores to the bit.
    """

    def __init__(self, artifact: Artifact, alert: AlertRule, false_alarms_per_s: float | None = None) -> None:
        self._artifact = artifact
        group = offline_group(artifact.profile, artifact.reconstructor, alert)
        self._group = replace(group, false_alarms_per_s=false_alarms_per_s)
        self.reset()

    def reset(self) -> None:
        """Forget all rows: each stream is again as training left it."""
        self._pipeline = Pipeline("offline", self._group)
        self._newest_s: dict[str, float] = {}

    @property
    def channels(self) -> tuple[str, ...]:
        """The channels of a row, in their order."""
        return self._artifact.profile.channels

    @property
    def window(self) -> int:
        """T, the rows without a gap that make a first score."""
        return self._artifact.profile.window

    @property
    def period_s(self) -> float:
        """How far rows lay apart in training."""
        return self._artifact.profile.period_s

    @property
    def gap_max_s(self) -> float:
        """A longer step than this between two rows empties the window."""
        return self._artifact.profile.gap_max_s

    @property
    def warmup_rows(self) -> int:
        """Rows that a stream which training did not see takes to find its scale, before its first window."""
        return self._pipeline.scale.warmup_rows

    @property
    def streams(self) -> tuple[str, ...]:
        """The streams that the model was trained on: they need no warm-up."""
        return tuple(self._artifact.profile.streams)

    @property
    def digest(self) -> str:
        """The SHA-256 of the model file, to be pinned where it is used."""
        return self._artifact.digest

    def threshold(self, stream: str | None = None) -> float:
        """Return what the newest score of a stream was held against; NaN while it has none.

        :raises SeriesError: no row of this stream has been given.
        """
        s, latest = self._known(stream), self._pipeline.latest
        return math.nan if math.isnan(latest.score[s]) else float(latest.threshold[s])

    def score(
        self, values: npt.ArrayLike | Series, time_s: npt.ArrayLike | None = None, stream: str | None = None
    ) -> Scores:
        """Score one row `values[C]`, many rows `[N, C]`, or a series, as what comes next of this stream.

        `time_s` is a number or `[N]`, seconds since 1970, ascending; None puts each row a period after the one before.
        `stream` may be left out where the model was trained on one; a stream that training did not see learns first.
        A row that lacks a value (NaN) is no row, as in the daemon.

        >>> import streamae
        >>> detector = streamae.load("pumps.pt")
        >>> rows = streamae.Series.read("pump01.csv")
        >>> first, second = detector.score(rows.values[:2], rows.time_s[:2], stream="pump01")
        >>> first.score, first.state  # its window is not full yet
        (nan, 'learning')
        >>> scores = detector.score(rows.values[2:900], rows.time_s[2:900], stream="pump01")
        >>> bool(scores[-1].score < scores[-1].threshold), scores[-1].state
        (True, 'inactive')

        :raises SeriesError: rows that are not the model's, or that go back in time; none of them was taken.
        :raises ArtifactError: the model can judge nothing at all.
        """
        if isinstance(values, Series):
            stream = values.name if stream is None else stream
            time_s = values.time_s if time_s is None else time_s
            values = columns_of(values, self.channels)
        name, rows = self._named(stream), rows_of(values, self.channels)
        times = self._times(time_s, len(rows), name)
        if self._pipeline.streams.index(name) is None and len(self._pipeline.streams) == self._group.max_streams:
            raise SeriesError(
                f"stream: got {name!r}, one more than {self._group.max_streams}; load a second detector for the others"
            )
        found = score_rows(self._pipeline, name, times, rows, np.flatnonzero(complete(rows)))
        if len(times):
            self._newest_s[name] = float(times[-1])
        if self._pipeline.broken:
            raise ArtifactError(
                f"{self._artifact.path}: the model judges nothing ({self._pipeline.broken}); train again"
            )
        return Scores(
            stream=name,
            channels=self.channels,
            time_s=times,
            score=found.score,
            threshold=np.where(np.isnan(found.score), np.nan, found.threshold),
            state=state_words(found.state),
            share=found.share,
            transitions=found.transitions,
            notices=found.notices,
        )

    def reconstruct(self, stream: str | None = None) -> Reconstruction:
        """Return the newest window of a stream with what the model makes of it; L is 0 where it only forecasts.

        :raises SeriesError: the stream has no full window yet.
        """
        s, T, C = self._known(stream), self.window, len(self.channels)
        time_s, values = self._pipeline.rings.latest(s)
        if len(time_s) < T:
            raise SeriesError(
                f"stream: {self._pipeline.streams.names[s]} holds {len(time_s)} of {T} rows; give more rows"
            )
        model, targets = self._artifact.reconstructor, self._artifact.manifest.get("targets", self.channels)
        rebuilt = model.reconstruct(values[None])[0]
        place = [self.channels.index(name) for name in targets][: rebuilt.shape[1]]
        last = T - model.forecast(values[None]).shape[1]
        rows = slice(last - len(rebuilt), last)
        wide = np.zeros((len(rebuilt), C), np.float32)
        wide[:, place] = rebuilt
        own, shown = (self._pipeline.scale.raw(s, x)[:, place] for x in (values[rows, :C], wide))
        return Reconstruction(time_s[rows], tuple(self.channels[c] for c in place), own, shown)

    def _known(self, stream: str | None) -> int:
        """Return the number of a stream that rows were given of."""
        name = self._named(stream)
        found = self._pipeline.streams.index(name)
        if found is None:
            given = few(self._pipeline.streams.names) or "none"
            raise SeriesError(f"stream: got {name!r}, of which there was no complete row; there were rows of {given}")
        return found

    def _named(self, stream: str | None) -> str:
        if stream is None and len(self.streams) == 1:
            return self.streams[0]
        if not isinstance(stream, str) or not stream:
            trained = f"{len(self.streams)} streams ({few(self.streams)})"
            raise SeriesError(f"stream: got {stream!r}; the model was trained on {trained}: name one, or a new one")
        return stream

    def _times(self, given: npt.ArrayLike | None, count: int, stream: str) -> F64:
        newest_s = self._newest_s.get(stream, -math.inf)
        if given is not None:
            return times_of_rows(given, count, newest_s, stream)
        if self._artifact.profile.calendar is not None:
            raise SeriesError("time_s: got None, but this model reads the time of day; give seconds since 1970 UTC")
        start_s = newest_s if newest_s > -math.inf else -self.period_s  # so that a first row is at 0 s
        return np.cumsum(np.r_[start_s, np.full(count, self.period_s)])[1:]
