"""What training found to be normal: of a group as a whole, and of each stream that the model was trained on.

Training writes a `Calibration` and the core reads it; in the model file it is JSON. Only this module knows the keys of
that JSON, which are the names of the fields here. A key that is missing in files of earlier releases has its default
here. Unknown keys are ignored: a release that changes what a file means raises the file's format.

Shapes are those of `core.types`: E error features, C channels. "Units" are errors times `weight`, so that about 1 is
the top 2 % of normal; `zero` and `offset` are natural logarithms of scores. How all of it is used: `core.scale`,
`core.score`, `core.threshold`, `core.sensors`; how it is found: `training.calibrate`, `training.cold_start`.
"""

from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal, Self, cast

import numpy as np
import numpy.typing as npt

from streamae.core.fields import FieldReader

__all__ = ["Calibration", "StreamCalibration"]

_F64 = npt.NDArray[np.float64]
_I64 = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class StreamCalibration:
    """The numbers of one stream that the model was trained on."""

    location: _F64
    """`[C]`, in units of each channel: the mean of its training rows."""
    scale: _F64
    """`[C]`, in units of each channel, > 0: their standard deviation (`core.scale.estimate`)."""
    weight: _F64
    """`[E]`: what puts each error in units of the stream's own normal."""
    zero: float
    """ln of the raw score at which the threshold, 1.0, stands."""
    offset: float
    """How far `zero` lies above the mean of the stream's ln scores."""
    runs: _I64 | None = None
    """`[C]`, rows: the longest run of equal values; 0 where a channel cannot be stuck. None: not known."""

    __hash__ = None  # type: ignore[assignment]  # holds arrays

    def __eq__(self, other: object) -> bool:
        """Whether all numbers are the same."""
        return isinstance(other, StreamCalibration) and self.to_mapping() == other.to_mapping()

    def moved(self, by: float) -> Self:
        """Return it with the threshold higher by so much, in logarithms."""
        return replace(self, zero=self.zero + by, offset=self.offset + by)

    def to_mapping(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return _plain(self)

    @classmethod
    def from_mapping(cls, kept: Any, name: str, channels: int, features: int | None) -> Self:
        """Read what `to_mapping` wrote for the stream `name`; `features` None: no matter how many.

        Raises ArtifactError on a key that is missing, and on values of other types or shapes.
        """
        read = FieldReader(kept, f"streams.{name}")
        return cls(
            location=read.numbers("location", channels),
            scale=read.numbers("scale", channels, above=0.0),
            weight=read.numbers("weight", features),
            zero=read.number("zero"),
            offset=read.number("offset"),
            runs=read.wholes("runs", channels) if read.has("runs") else None,
        )


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Calibration:
    """The numbers of a group: how errors become a score, and where new streams begin.

    Fields stand in the order that the keys have in files, so that the same training writes the same bytes.
    """

    kind: Literal["groups", "mahalanobis"]
    """How features are combined, see `core.score`."""
    features: tuple[str, ...] | None = None
    """`[E]`, the kind of each error feature, for who reads the file. None in a file that does not say."""
    channel: _I64
    """`[E]`: the channel that each feature belongs to; -1: none."""
    group: _I64
    """`[E]`: which features are added up."""
    weight: _F64
    """`[E]`: the median of the streams' own."""
    level: _F64
    """`[E]`: typical errors, geometric mean over the streams; what a new stream compares its own with."""
    zero: float
    """As of a stream: the highest of them."""
    cold_zero: float
    """The same for a stream that training did not see."""
    learn_windows: int
    """Windows from which a new stream learns its level before it is scored."""
    level_floor: float
    """Least ratio of its level to the group's: below, its weights are not raised further."""
    smoothing: float
    """Weight of the newest window in the average of ln scores, 0 to 1."""
    budget_per_s: float
    """False alarms that are acceptable, for each stream."""
    center: _F64 | None = None
    """`[E]`, in units: their mean. With `spread` and `precision`, for "mahalanobis" only (Malhotra et al. 2016)."""
    spread: _F64 | None = None
    """`[E]`, in units, > 0: their standard deviation."""
    precision: _F64 | None = None
    """`[E, E]`: the inverse of the shrunk correlation of units."""
    half_life_windows: float
    """Of the mean that the threshold follows."""
    averages: _I64 = field(default_factory=lambda: np.zeros(0, np.int64))
    """`[A]`, windows: half-lives of the averages that have limits of their own; none in files before there were any."""
    average_offsets: _F64 = field(default_factory=lambda: np.zeros(0))
    """`[A]`: how far the limit of each lies above the mean, in logarithms."""
    offset: float
    """As of a stream: the highest of them."""
    cold_offset: float
    """The same for a stream that training did not see."""
    calm: _F64 | None = None
    """`[C]`: scale over roughness (`core.scale.early_estimate`); None in a file that does not say."""
    runs: _I64 | None = None
    """`[C]`, rows: the longest run of any stream; None in files before there were verdicts on sensors."""

    __hash__ = None  # type: ignore[assignment]  # holds arrays

    def __eq__(self, other: object) -> bool:
        """Whether all numbers are the same."""
        return isinstance(other, Calibration) and self.to_mapping() == other.to_mapping()

    def moved(self, by: float) -> Self:
        """Return it with the threshold higher by so much, in logarithms; new streams start no lower than before."""
        up = max(by, 0.0)
        return replace(
            self,
            zero=self.zero + by,
            offset=self.offset + by,
            cold_zero=self.cold_zero + up,
            cold_offset=self.cold_offset + up,
        )

    def to_mapping(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return _plain(self)

    @classmethod
    def none(cls) -> Self:
        """Return that of a model that gives no score, such as a classifier: of no features."""
        index, numbers = np.zeros(0, np.int64), np.zeros(0)
        return cls(
            kind="groups", channel=index, group=index, weight=numbers, level=numbers, zero=0.0, cold_zero=0.0,
            learn_windows=0, level_floor=1.0, smoothing=1.0, budget_per_s=0.0, half_life_windows=1.0, offset=0.0,
            cold_offset=0.0,
        )  # fmt: skip

    @classmethod
    def from_mapping(cls, kept: Any, channels: int) -> Self:
        """Read what `to_mapping` wrote of a model with so many channels.

        Raises ArtifactError on a key that is missing, and on values of other types or shapes.
        """
        read = FieldReader(kept, "calibration")
        channel = read.wholes("channel", None, at_least=-1, below=channels)
        E = len(channel)
        kind = read.choice("kind", ("groups", "mahalanobis"))
        distance = kind == "mahalanobis"
        averages = read.wholes("averages", None, at_least=1) if read.has("averages") else np.zeros(0, np.int64)
        return cls(
            kind=cast('Literal["groups", "mahalanobis"]', kind),
            features=read.texts("features", E) if read.has("features") else None,
            channel=channel,
            group=read.wholes("group", E, below=E),
            weight=read.numbers("weight", E),
            level=read.numbers("level", E),
            zero=read.number("zero"),
            cold_zero=read.number("cold_zero"),
            learn_windows=read.whole("learn_windows"),
            level_floor=read.number("level_floor"),
            smoothing=read.number("smoothing"),
            budget_per_s=read.number("budget_per_s"),
            center=read.numbers("center", E) if distance else None,
            spread=read.numbers("spread", E, above=0.0) if distance else None,
            precision=read.numbers("precision", E, E) if distance else None,
            half_life_windows=read.number("half_life_windows"),
            averages=averages,
            average_offsets=read.numbers("average_offsets", len(averages)) if len(averages) else np.zeros(0),
            offset=read.number("offset"),
            cold_offset=read.number("cold_offset"),
            calm=read.numbers("calm", channels) if read.has("calm") else None,
            runs=read.wholes("runs", channels) if read.has("runs") else None,
        )


def _plain(record: Calibration | StreamCalibration) -> dict[str, Any]:
    """The fields of a record as JSON values, without those that are None."""
    plain: dict[str, Any] = {}
    for f in fields(record):
        value = getattr(record, f.name)
        if isinstance(value, np.ndarray):
            plain[f.name] = value.tolist()
        elif value is not None:
            plain[f.name] = list(value) if isinstance(value, tuple) else value
    return plain
