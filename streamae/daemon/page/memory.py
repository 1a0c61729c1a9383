"""What the page can look back on: the last rows and verdicts of every stream, in memory of a fixed size.

Each group keeps rings `[S, depth]`; as streams appear, the depth shrinks so that the budget holds (thousands of rows
for a dozen streams, a few dozen for a hundred thousand). Nothing of it is saved: after a start it fills again. Only the
loop's thread touches it, after a step; the web asks for copies between two turns (`daemon.page.mailbox`).
"""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from streamae.core.arrays import grown, rounds
from streamae.core.pipeline import Pipeline
from streamae.core.report import GroupReport
from streamae.core.types import F32, F64, I32, I64
from streamae.daemon.page.progress import Cadence

__all__ = ["SPARK_SLOTS", "GroupHistory", "Traces"]

SPARK_SLOTS = 60
_BUDGET_BYTES = 32 * 1024 * 1024  # of one group, for its rows, and as much for its verdicts
_DEPTH_MAX, _DEPTH_MIN = 2048, 32
_SLOT_MIN_S = 1.0
_STREAMS_MIN = 16


class Traces:
    """The last entries of each stream: columns `[S, depth, ...]`, whose depth shrinks as streams appear.

    `columns` names the shape of one entry in each column; times are float64, everything else float32.
    """

    def __init__(self, columns: Mapping[str, tuple[int, ...]], budget_bytes: int = _BUDGET_BYTES) -> None:
        self._budget_bytes = budget_bytes
        self._shape = dict(columns)
        self.depth = _DEPTH_MAX
        self._count: I64 = np.zeros(0, np.int64)
        self._columns = {name: np.zeros((0, self.depth, *shape), _dtype(name)) for name, shape in columns.items()}
        self._entry_bytes = sum(
            int(np.prod(shape, dtype=int)) * _dtype(name).itemsize for name, shape in columns.items()
        )

    @property
    def nbytes(self) -> int:
        """Bytes that the columns take."""
        return sum(column.nbytes for column in self._columns.values())

    def grow(self, streams: int) -> None:
        """Make room for at least this many streams, at the cost of depth where the budget says so."""
        have = len(self._count)
        if streams <= have:
            return
        count = grown(self._count, max(streams, 2 * have, _STREAMS_MIN), 0)  # the columns move each time: seldom
        fits = self._budget_bytes // (len(count) * self._entry_bytes)
        depth = int(np.clip(fits, _DEPTH_MIN, self.depth))
        entry = self._count[:, None] - depth + np.arange(depth)  # numbers of the entries that stay
        s = np.arange(len(self._count))[:, None]
        for name, old in self._columns.items():
            new = np.zeros((len(count), depth, *self._shape[name]), old.dtype)
            # An entry before the first (a negative number) lands in a place that is yet to be written.
            new[s, entry % depth] = old[s, entry % self.depth]
            self._columns[name] = new
        self._count, self.depth = count, depth

    def push(self, stream: npt.NDArray[np.integer], **values: npt.NDArray[np.floating]) -> None:
        """Append one entry to each of some different streams."""
        place = self._count[stream] % self.depth
        for name, column in self._columns.items():
            column[stream, place] = values[name]
        self._count[stream] += 1

    def move(self, stream: int, to: int) -> None:
        """Give the entries of a stream to another number, whose own are forgotten."""
        if max(stream, to) < len(self._count):
            for column in self._columns.values():
                column[to] = column[stream]
            self._count[to] = self._count[stream]
            self._count[stream] = 0

    def count(self, stream: int) -> int:
        """Return how many entries a stream has had."""
        return int(self._count[stream])

    def read(self, stream: int, limit: int) -> dict[str, npt.NDArray[np.floating]]:
        """Return copies of a stream's last `limit` entries, oldest first, from where its time last stepped back."""
        if stream >= len(self._count):
            return {name: column[:0, 0] for name, column in self._columns.items()}
        count = int(self._count[stream])
        place = np.arange(count - min(count, self.depth, limit), count) % self.depth
        back = np.flatnonzero(np.diff(self._columns["time_s"][stream, place]) <= 0)
        place = place[back[-1] + 1 :] if len(back) else place
        return {name: column[stream, place] for name, column in self._columns.items()}


def _dtype(name: str) -> np.dtype[np.floating]:
    return np.dtype(np.float64 if name == "time_s" else np.float32)


class GroupHistory:
    """The rows, the verdicts and a sparkline of each stream of one group, as the loop passes them by.

    `share[S, C]` is each channel's part in the last verdict; `spark[S, SPARK_SLOTS]` the highest score over threshold
    in slots of `slot_s` seconds, the newest last, NaN where there was no verdict.
    """

    def __init__(self, pipeline: Pipeline, monotonic_s: float) -> None:
        C = len(pipeline.profile.channels)
        self.pipeline = pipeline
        self.rows = Traces({"time_s": (), "values": (C,)})
        self.verdicts = Traces({"time_s": (), "score": (), "threshold": ()})
        self.share: F32 = np.zeros((0, C), np.float32)
        self.cadence = Cadence()
        self.slot_s = max(_SLOT_MIN_S, pipeline.profile.period_s * pipeline.group.stride)
        self._spark: F32 = np.zeros((0, SPARK_SLOTS), np.float32)
        self._slot, self._slot_began_s = 0, monotonic_s
        self._grow()
        for stream in range(len(pipeline.streams)):  # what a restored state still holds
            time_s, values = pipeline.rings.latest(stream)
            self._push_rows(np.full(len(time_s), stream, np.int32), time_s, values[:, :C])

    def follows(self, pipeline: Pipeline) -> bool:
        """Whether this is also the past of another pipeline: the same model and the same streams, as after a reload."""
        mine = self.pipeline.streams.names
        return pipeline.profile.digest == self.pipeline.profile.digest and pipeline.streams.names[: len(mine)] == mine

    @property
    def nbytes(self) -> int:
        """Bytes of everything that is kept."""
        return self.rows.nbytes + self.verdicts.nbytes + self._spark.nbytes + self.share.nbytes

    def note(self, news: GroupReport) -> None:
        """Take over the rows and the verdicts of a step."""
        for gone, last in news.removed:
            self._remove(gone, last)
        self._grow()
        rows, v = news.rows, news.verdicts
        self._push_rows(rows.stream, rows.time_s, rows.values)
        for index in rounds(v.stream):
            self.verdicts.push(v.stream[index], time_s=v.time_s[index], score=v.score[index], threshold=v.own[index])
        self.share[v.stream] = v.share
        with np.errstate(invalid="ignore", divide="ignore"):
            np.fmax.at(self._spark[:, self._slot], v.stream, (v.score / v.threshold).astype(np.float32))

    def _remove(self, gone: int, last: int) -> None:
        """Forget a stream; the last one takes its number."""
        self.rows.move(last, gone)
        self.verdicts.move(last, gone)
        for array, empty in ((self.share, 0), (self._spark, np.nan)):
            if last < len(array):
                array[gone], array[last] = array[last], empty

    def spark(self, monotonic_s: float) -> F32:
        """Return a copy of all sparklines, and begin a new slot where it is time for one."""
        self._grow()
        S = len(self.pipeline.streams)
        order = (self._slot + 1 + np.arange(SPARK_SLOTS)) % SPARK_SLOTS
        lines = self._spark[:S, order]
        if monotonic_s - self._slot_began_s >= self.slot_s:
            self._slot, self._slot_began_s = (self._slot + 1) % SPARK_SLOTS, monotonic_s
            self._spark[:, self._slot] = np.nan
        return lines

    def _grow(self) -> None:
        S = len(self.pipeline.streams)
        self.rows.grow(S)
        self.verdicts.grow(S)
        self.share = grown(self.share, S, 0)
        self._spark = grown(self._spark, S, np.nan)

    def _push_rows(self, stream: I32, time_s: F64, values: F32) -> None:
        for index in rounds(stream):
            self.rows.push(stream[index], time_s=time_s[index], values=values[index])
