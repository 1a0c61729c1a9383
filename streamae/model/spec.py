"""What a network is, as a small typed value: every combination is trainable, scriptable and stored in the manifest.

The words follow Srivastava, Mansimov and Salakhutdinov (2015), "Unsupervised Learning of Video Representations using
LSTMs": a task (reconstruction, prediction, composite), and a decoder that is fed nothing but the code (unconditional)
or also the previous frame (conditional). `conditional_free` feeds the truth in training and its own output when it
scores; `conditional_teacher` feeds the truth at both. They are different detectors, so the mode is part of the model.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

__all__ = ["CELLS", "DECODERS", "TASKS", "DetectorSpec", "NetworkSpec"]

CELLS = ("lstm", "gru")
TASKS = ("reconstruction", "prediction", "composite")
DECODERS = ("unconditional", "conditional_free", "conditional_teacher")


@dataclass(frozen=True, slots=True)
class NetworkSpec:
    """The shape of one encoder-decoder; `window` T counts the `horizon` K rows that are forecast at its end.

    The encoder reads the first T - K rows only, so a forecast can never have seen its targets, and `errors` needs
    nothing but the window. `targets` are the channels that are reconstructed and forecast; the others are context.
    `tail` is how many trailing history rows the reconstruction error is taken over (0 = all of them).
    Raises ValueError on a combination that means nothing.
    """

    channels: int
    targets: tuple[int, ...]
    window: int
    horizon: int = 0
    task: str = "reconstruction"
    cell: str = "lstm"
    hidden: int = 16
    layers: int = 1
    decoder: str = "unconditional"
    reversed: bool = True
    linear_rank: int = 0
    code_distance: bool = False
    tail: int = 0

    def __post_init__(self) -> None:
        _one_of("task", self.task, TASKS)
        _one_of("cell", self.cell, CELLS)
        _one_of("decoder", self.decoder, DECODERS)
        for name in ("channels", "window", "hidden", "layers"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not self.targets or len(set(self.targets)) != len(self.targets):
            raise ValueError(f"targets must be distinct channel indices, at least one; got {self.targets}")
        if min(self.targets) < 0 or max(self.targets) >= self.channels:
            raise ValueError(f"targets {self.targets} lie outside the {self.channels} channels")
        if (self.horizon > 0) != (self.task != "reconstruction"):
            raise ValueError(f"task {self.task} does not go with horizon {self.horizon}: only forecasts have one")
        if self.history < 2:
            raise ValueError(f"window {self.window} leaves {self.history} rows before the horizon; it needs at least 2")
        if not 0 <= self.tail <= self.history:
            raise ValueError(f"tail {self.tail} is outside the {self.history} rows of history")
        if self.linear_rank < 0 or self.linear_rank >= self.history * len(self.targets):
            raise ValueError(f"linear_rank {self.linear_rank} must be below {self.history * len(self.targets)}")

    @property
    def history(self) -> int:
        """Rows that the encoder reads, T - K."""
        return self.window - self.horizon

    @property
    def reconstructs(self) -> bool:
        """Whether there is a reconstruction decoder."""
        return self.task != "prediction"

    @property
    def forecasts(self) -> bool:
        """Whether there is a forecast decoder."""
        return self.task != "reconstruction"

    @property
    def arranged(self) -> bool:
        """Whether the recurrence can also be computed by `model.loop` and the native kernel."""
        return self.cell == "lstm" and self.layers == 1 and self.decoder == "unconditional"

    @property
    def code_size(self) -> int:
        """Z: h (and c of an LSTM) of the top layer, then the coordinates on the linear path."""
        return self.hidden * (2 if self.cell == "lstm" else 1) + self.linear_rank

    def features(self) -> tuple[tuple[str, int], ...]:
        """Name the E columns of `errors`: (kind, channel index), channel -1 for what belongs to no channel."""
        kinds = [("reconstruction", self.reconstructs), ("forecast", self.forecasts)]
        named = [(kind, channel) for kind, has in kinds if has for channel in self.targets]
        return (*named, ("code", -1)) if self.code_distance else tuple(named)

    def to_mapping(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {**asdict(self), "targets": list(self.targets)}

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> "NetworkSpec":
        """Read back what `to_mapping` wrote; raises ValueError on unknown or missing keys."""
        _typed(cls, values)
        unknown = set(values) - {f.name for f in fields(cls)}
        if unknown:
            raise ValueError(f"unknown network settings {sorted(unknown)}")
        try:
            return cls(**{**values, "targets": tuple(values["targets"])})
        except (KeyError, TypeError) as error:
            raise ValueError(f"network settings are incomplete: {error}") from error


def _typed(kind: Any, values: Mapping[str, Any]) -> None:
    """Raise ValueError where a value is of another type than its field, or a list holds none."""
    if not isinstance(values, Mapping):
        raise ValueError(f"settings must be a mapping; got {values!r:.60}")  # noqa: TRY004  (as of all that is wrong)
    for f in fields(kind):
        value = values.get(f.name)
        if f.name in values and f.type in (int, bool, str) and type(value) is not f.type:
            raise ValueError(f"{f.name} must be of type {f.type.__name__}; got {value!r:.60}")
        if f.name in ("targets", "context") and not _are_wholes(value):
            raise ValueError(f"{f.name} must be channel indices; got {value!r:.60}")


def _are_wholes(value: Any) -> bool:
    return value is None or (isinstance(value, list | tuple) and all(type(one) is int for one in value))


def _one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(allowed)}; got {value!r}")


@dataclass(frozen=True, slots=True)
class DetectorSpec:
    """What a model file computes: a recurrent network, and banks of linear and prototype features.

    `window` T is the longest that any part reads; each part takes the trailing rows of its own window. Banks see the
    `targets` only. `residuals` and `energies` are windows W with a rank (principal components of the flattened
    window: what they leave, and what they hold); `prototypes` are windows with a count of centres. A network whose
    `channels` are not all channels reads the targets; with `whiten` it reads what the subspace of its own window
    leaves of them. With `context` it reads those channels as well; `channels` count what the calendar adds
    (`core.calendar`). Raises ValueError on a combination that means nothing.
    """

    channels: int
    targets: tuple[int, ...]
    network: NetworkSpec
    residuals: tuple[tuple[int, int], ...] = ()
    energies: tuple[tuple[int, int], ...] = ()
    prototypes: tuple[tuple[int, int], ...] = ()
    whiten: bool = False
    context: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        own = len(self.targets) + len(self.context)
        if self.network.channels != own and (self.context or self.network.channels != self.channels):
            raise ValueError(
                f"the network reads {self.network.channels} channels; it reads all, or the {own} of targets and context"
            )
        if set(self.context) & set(self.targets) or any(not 0 <= c < self.channels for c in self.context):
            raise ValueError(f"context {self.context} must be other channels than the targets {self.targets}")
        if self.whiten and self.network.window not in dict(self.residuals):
            raise ValueError(f"whiten needs a subspace of the network's own window, {self.network.window} rows")
        for window, size in (*self.residuals, *self.energies, *self.prototypes):
            if window < 1 or size < 1:
                raise ValueError(f"a bank needs a window and a size of at least 1; got {window} and {size}")

    @property
    def window(self) -> int:
        """Rows of the longest part, T."""
        return max(self.network.window, *(w for w, _ in (*self.residuals, *self.energies, *self.prototypes)), 0)

    @property
    def banked(self) -> bool:
        """Whether there is anything but the network."""
        return bool(self.residuals or self.energies or self.prototypes)

    @property
    def inputs(self) -> tuple[int, ...]:
        """The channels that the network reads, in its order."""
        own = (*self.targets, *self.context)
        return own if self.network.channels == len(own) else tuple(range(self.channels))

    def features(self) -> tuple[tuple[str, int], ...]:
        """Name the E columns of `errors`: (kind, channel index), channel -1 for what belongs to no channel."""
        named = [(f"residual-{w}", c) for w, _ in self.residuals for c in self.targets]
        named += [(f"energy-{w}", -1) for w, _ in self.energies]
        named += [(f"prototypes-{w}", c) for w, _ in self.prototypes for c in self.targets]
        own = dict(enumerate(self.inputs))
        return (*named, *((kind, own.get(c, -1)) for kind, c in self.network.features()))

    def to_mapping(self) -> dict[str, Any]:
        """Return plain JSON values."""
        banks = {name: [list(bank) for bank in getattr(self, name)] for name in _BANKS}
        own = {"channels": self.channels, "targets": list(self.targets), "window": self.window, "whiten": self.whiten}
        context = {"context": list(self.context)} if self.context else {}
        return {**own, **context, **banks, "recurrent": self.network.to_mapping()}

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> "DetectorSpec":
        """Read back what `to_mapping` wrote; raises ValueError on missing keys."""
        _typed(cls, values)
        try:
            spec = cls(
                channels=values["channels"],
                targets=tuple(values["targets"]),
                network=NetworkSpec.from_mapping(values["recurrent"]),
                whiten=values["whiten"],
                context=tuple(values.get("context", ())),
                **{name: tuple((int(w), int(n)) for w, n in values[name]) for name in _BANKS},
            )
            if values["window"] != spec.window:
                raise ValueError(f"window is {values['window']}, but the longest part reads {spec.window} rows")
        except (KeyError, TypeError) as error:
            raise ValueError(f"model settings are incomplete: {error}") from error
        return spec


_BANKS = ("residuals", "energies", "prototypes")
