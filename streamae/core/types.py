"""The batch types that pass between the stages, and the legend of their shapes.

    N  samples, rows or messages in a batch      S  streams of a group       B  windows in a batch
    T  window length in rows                     C  channels                 E  error features of a model
    Z  code size of the encoder                  K  forecast steps

Units: every time is event time in seconds since 1970 UTC, as float64, and is called `time_s`. An anomaly **score** is
high where something is anomalous, and 1.0 is the calibrated threshold.

From decode on, everything is a struct of arrays; objects appear again at alert transitions, which are rare.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from enum import IntEnum, StrEnum
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = [
    "BACKOFF_MAX_S",
    "AlertState",
    "Batch",
    "Confirmed",
    "Drop",
    "Drops",
    "Maintenance",
    "Readings",
    "Rows",
    "ScaledRows",
    "StreamChange",
    "Verdicts",
    "Windows",
    "round_score",
]

F64 = npt.NDArray[np.float64]
F32 = npt.NDArray[np.float32]
I64 = npt.NDArray[np.int64]
I32 = npt.NDArray[np.int32]
I8 = npt.NDArray[np.int8]
Bool = npt.NDArray[np.bool_]
State = dict[str, npt.NDArray[Any]]  # what a stage puts into a snapshot
BACKOFF_MAX_S = 300.0  # the longest pause of a sink that fails, and so of what waits for it in the outbox


class Drop(StrEnum):
    """Why a message, sample or row was refused: a value, and a label of one counter."""

    TOPIC = "unmatched_topic"  # no configured topic template matches
    MAX_STREAMS = "max_streams"  # the group already has all the streams that it may have
    UNKNOWN_CHANNEL = "unknown_channel"  # the topic names a channel that the model does not have, or the payload none
    EMPTY = "empty_payload"
    TOO_LARGE = "payload_too_large"
    TOO_MANY_POINTS = "too_many_points"  # more samples, lines or metrics in one message than `max_points`
    NOT_A_NUMBER = "not_a_number"  # text that is no number and no known word, or a list or object
    NOT_FINITE = "not_finite"  # inf, or beyond float32
    MALFORMED = "malformed_payload"  # not JSON, nested too deep, bad UTF-8
    MISSING_VALUE = "missing_value"  # a configured path leads nowhere
    IMPOSSIBLE = "impossible_value"  # beyond the declared range, or what a sensor sends in place of a measurement
    UNAVAILABLE = "unavailable"  # the source itself says that it has no value now
    NO_BIRTH = "no_birth"  # Sparkplug data by alias, before the birth that says what the alias is
    SEQUENCE_GAP = "sequence_gap"  # Sparkplug messages that never came: a hole in the numbers of an edge node
    BAD_TIME = "bad_time"  # no time where the payload should have one, one that cannot be read, or one before 2000
    FUTURE = "future"  # the event time is ahead of the arrival by more than `future_max_s`
    LATE = "late"  # behind the stream's newest sample by more than the lateness allowed
    DUPLICATE = "duplicate"  # this stream, channel and time were seen already
    INCOMPLETE_ROW = "incomplete_row"  # a row that lacks a channel
    OVERFLOW = "inbox_overflow"  # the inbox was full
    POISON = "poison"  # a message that ended the process over and over
    RETAINED = "retained"  # a broker's memory, not a sample
    PENDING_FULL = "pending_full"  # too many samples wait for their grid row
    INFERENCE = "inference_failed"  # a window on which the model raised, or returned what is not finite
    QUARANTINED = "quarantined"  # a window of a stream that the model failed on, before it is tried again


Drops = Counter[Drop]


class Maintenance(NamedTuple):
    """A period of event time in which people work on streams; `group` and `stream` are patterns (`*`, `?`, `[…]`)."""

    group: str
    stream: str
    start_s: float
    end_s: float


class Confirmed(NamedTuple):
    """An alert, by its id, of which people say that it was real."""

    group: str
    stream: str
    alert: str


class StreamChange(NamedTuple):
    """A change of one stream that a person asks for: `kind` is relearn, remove or rename.

    `name` is the new name, `rows` what the stream is to learn from, as `core.changes.packed` writes rows.
    """

    kind: str
    group: str
    stream: str
    name: str = ""
    rows: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Messages as one connection delivered them, in receive order: what is journalled, and then acknowledged.

    `mid[N]` is the MQTT packet id (0 at QoS 0), `dup[N]` its redelivery flag, `epoch` counts connections of this
    process, so that an acknowledgement can never reach another session than the one its message came from.
    `lost` counts what was refused before the inbox (overflow, oversized, retained). What else the step depends on is
    here, so that it is journalled: `holes` are topics of which messages are known to be lost just before this batch
    (None: of any topic), of the windows that are due only every `thinning`-th is scored (above 1 under a backlog), and
    `maintenance` is the whole plan from this batch on (None: as before). `resumed`: it is the first of a connection,
    and what the broker did not keep of the time before is lost. `confirmed` are alerts that people called real before
    this batch, and `changes` of streams come before its messages.
    """

    topics: Sequence[bytes]
    payloads: Sequence[bytes]
    arrival_s: F64
    mid: I32 = field(default_factory=lambda: np.zeros(0, np.int32))
    dup: Bool = field(default_factory=lambda: np.zeros(0, np.bool_))
    epoch: int = 0
    lost: Drops = field(default_factory=Drops)
    holes: Sequence[bytes] | None = ()
    thinning: int = 1
    maintenance: Sequence[Maintenance] | None = None
    resumed: bool = False
    confirmed: Sequence[Confirmed] = ()
    changes: Sequence[StreamChange] = ()

    def __len__(self) -> int:
        """Return N, the number of messages."""
        return len(self.topics)

    def only(self, keep: I64, *, first: bool = True) -> "Batch":
        """Return the batch of these messages alone; what is said of the whole goes with the `first` part of it."""
        picked = replace(
            self,
            topics=[self.topics[i] for i in keep.tolist()],
            payloads=[self.payloads[i] for i in keep.tolist()],
            arrival_s=self.arrival_s[keep],
            mid=self.mid[keep] if len(self.mid) else self.mid,
            dup=self.dup[keep] if len(self.dup) else self.dup,
        )
        if first:
            return picked
        return replace(picked, lost=Drops(), holes=(), maintenance=None, resumed=False, confirmed=(), changes=())

    @property
    def broken(self) -> bool:
        """Whether messages are known to be lost just before this batch."""
        return self.holes is None or len(self.holes) > 0


@dataclass(frozen=True, slots=True, eq=False)
class Readings:
    """Samples of single channels, in arrival order. A value of NaN ends the validity of the channel's last one.

    Samples of the same `origin[N]` were measured together: one message, or one entry of the array that it carried.
    `arrival_s[N]` is when their message came; empty where it is unknown.
    """

    stream: I32
    channel: I32
    time_s: F64
    value: F64
    origin: I32
    arrival_s: F64 = field(default_factory=lambda: np.zeros(0))

    def __len__(self) -> int:
        """Return N, the number of samples."""
        return len(self.stream)

    @classmethod
    def joined(cls, parts: "Sequence[Readings]") -> "Readings":
        """Return all parts as one, in order, without `arrival_s`; their origins are as they were."""
        names = ("stream", "channel", "time_s", "value", "origin")
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))

    def samples(self) -> "Readings":
        """Return those that are values, without those that only end one."""
        known = ~np.isnan(self.value)
        if known.all():
            return self
        columns = {f.name: getattr(self, f.name) for f in fields(self)}
        return replace(self, **{name: column[known] for name, column in columns.items() if len(column)})


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """All channels of a stream at one time: `values[N, C]`. Rows of one stream stand in order of time."""

    stream: I32
    time_s: F64
    values: F64

    def __len__(self) -> int:
        """Return N, the number of rows."""
        return len(self.stream)


@dataclass(frozen=True, slots=True, eq=False)
class ScaledRows:
    """Rows in the units that the model reads, `values[N, C]`: of streams whose scale is known."""

    stream: I32
    time_s: F64
    values: F32

    def __len__(self) -> int:
        """Return N, the number of rows."""
        return len(self.stream)


@dataclass(frozen=True, slots=True, eq=False)
class Windows:
    """Full windows of scaled rows, `values[B, T, C]`; a window is the T contiguous rows that end at `time_s`."""

    stream: I32
    start_s: F64
    time_s: F64
    values: F32

    def __len__(self) -> int:
        """Return B, the number of windows."""
        return len(self.stream)


class AlertState(IntEnum):
    """The life of an alert, as in Prometheus, and what comes before it: the stream cannot be judged yet.

    FILLING: its window is not full, at the start or after a gap. LEARNING: what is normal for it is not known yet.
    UNJUDGED: it is heard, and yet nothing of it is judged, for a reason that does not go away by itself
    (`core.unjudged`).
    """

    UNJUDGED = -3
    FILLING = -2
    LEARNING = -1
    INACTIVE = 0
    PENDING = 1
    FIRING = 2

    @property
    def word(self) -> str:
        """The state in a word for people: a stream that is judged and has no alert is ok."""
        return "ok" if self is AlertState.INACTIVE else self.name.lower()


@dataclass(frozen=True, slots=True, eq=False)
class Verdicts:
    """One line per window: `score[B]` against `threshold[B]`, `share[B, C]` of each channel in it, alert `state[B]`.

    While a stream is LEARNING its score is NaN. `own[B]` is the threshold of the score itself: `threshold` is lower
    while an average of the scores is beyond its limit (`core.threshold`), and means nothing to people then.
    """

    stream: I32
    start_s: F64
    time_s: F64
    score: F64
    threshold: F64
    share: F32
    state: I8
    own: F64 = field(default_factory=lambda: np.zeros(0))

    def __post_init__(self) -> None:
        """Let `own` be the threshold where nothing else is said."""
        if len(self.own) != len(self.threshold):
            object.__setattr__(self, "own", self.threshold)

    def __len__(self) -> int:
        """Return B, the number of windows judged."""
        return len(self.stream)


def round_score(score: F64) -> F64:
    """Round to 6 significant digits, so that float noise cannot flip a comparison; NaN stays NaN."""
    with np.errstate(divide="ignore", invalid="ignore"):
        digits = 5 - np.floor(np.log10(np.abs(score)))
    scale = np.power(10.0, np.where(np.isfinite(digits), np.clip(digits, -290, 290), 0))
    rounded: F64 = np.where(np.isfinite(score), np.round(score * scale) / scale, score)
    return rounded
