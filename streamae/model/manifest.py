"""The manifest of a model file: found in the archive within bounds, and every key of it held against its type.

`check`, `run`, `inspect` and `score` all read it here, so that none of them takes what another refuses. What a file of
another origin may hold has limits: an archive that unpacks to far more than its size is not unpacked, a manifest names
no shape that its own golden windows do not have. Nothing here runs code of the file, or needs torch.
"""

import io
import json
import math
import zipfile
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import numpy as np

from streamae.core.align_rule import GridAlign
from streamae.core.calendar import ANGLES, Calendar
from streamae.core.calibration import Calibration, StreamCalibration
from streamae.core.counters import COUNTERS
from streamae.core.fields import FieldReader
from streamae.core.impossible import Sentinels
from streamae.core.profile import Profile
from streamae.errors import ArtifactError
from streamae.model.spec import DetectorSpec

__all__ = ["CLASSIFIER", "SCORER", "check_fields", "profile_of", "unpacked"]

SCORER = "torchscript"  # the kind of a model that scores
CLASSIFIER = "classifier"  # of one that names windows, and has no calibration

_MANIFEST_MAX = 64 << 20
_UNPACKED_MIN = 64 << 20  # a file may unpack to so much, however small it is; beyond, to a few times its size
_UNPACKED_TIMES = 4
_CHUNK = 1 << 20
_COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_SPAN_MAX_S = 1e10
_WARMUP_MAX = 10_000_000


def unpacked(content: bytes) -> Any:
    """Return what the manifest of an archive says, as JSON; its checksums are compared, which torch does not.

    Raises ValueError and what zipfile raises for an archive that is damaged, no model, or unpacks to too much.
    """
    with zipfile.ZipFile(io.BytesIO(content)) as file:
        entries = file.infolist()
        if sum(entry.file_size for entry in entries) > max(_UNPACKED_MIN, _UNPACKED_TIMES * len(content)):
            raise ValueError("it would unpack to many times its size")
        if any(entry.compress_type not in _COMPRESSIONS for entry in entries):
            raise ValueError("it is compressed in a way that torch does not know")
        (name,) = (entry.filename for entry in entries if entry.filename.endswith("/extra/manifest.json"))
        if file.getinfo(name).file_size > _MANIFEST_MAX:
            raise ValueError(f"its manifest has more than {_MANIFEST_MAX >> 20} MiB")
        manifest = json.loads(file.read(name), parse_constant=_no_number)
        for entry in entries:
            with file.open(entry) as part:
                while part.read(_CHUNK):
                    pass
    return manifest


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"its manifest says {text} where JSON has a number")


def profile_of(manifest: Mapping[str, Any], digest: str) -> Profile:
    """Build what the core needs to know from a manifest. Raises ArtifactError on values of other types or shapes."""
    read = FieldReader(manifest, "")
    channels = read.texts("channels")
    if not channels or len(set(channels)) != len(channels):
        read.refuse("channels", "it must be a list of at least one name, each once")
    scores = read.within("format").choice("kind", (SCORER, CLASSIFIER)) == SCORER
    calibration = Calibration.from_mapping(manifest["calibration"], len(channels)) if scores else Calibration.none()
    features = len(calibration.channel) if scores else None
    period_s, gap_max_s = read.number("period_s"), read.number("gap_max_s")
    if not 0 < period_s <= _SPAN_MAX_S:
        read.refuse("period_s", "it must be the seconds between two rows, above 0")
    if not 0 <= gap_max_s <= _SPAN_MAX_S:
        read.refuse("gap_max_s", "it must be a number of seconds, 0 or more")
    streams = manifest.get("streams")
    if not isinstance(streams, Mapping):
        read.refuse("streams", "it must be a mapping")
    return Profile(
        digest=digest,
        channels=channels,
        window=read.within("network").whole("window", at_least=1),
        period_s=period_s,
        gap_max_s=gap_max_s,
        warmup_rows=read.whole("warmup_rows", at_least=1, below=_WARMUP_MAX + 1),
        streams={
            name: StreamCalibration.from_mapping(kept, name, len(channels), features) for name, kept in streams.items()
        },
        calibration=calibration,
        calendar=_calendar(read, manifest),
        counters=_counters(manifest, channels),
        sentinels={name: Sentinels.from_mapping(kept, name) for name, kept in _by_channel(manifest, "sentinels")},
        grid=_grid(manifest),
    )


def _by_channel(manifest: Mapping[str, Any], key: str) -> list[tuple[str, Any]]:
    """Return the entries of a mapping of channels that the manifest may have. Raises ArtifactError."""
    kept = manifest.get(key, {})
    if not isinstance(kept, dict) or not kept.keys() <= set(manifest["channels"]):
        raise ArtifactError(f"{key}: got {kept!r:.60}; it must be a mapping of channels. Train the model again")
    return list(kept.items())


def _counters(manifest: Mapping[str, Any], channels: Sequence[str]) -> dict[str, str]:
    kept = _by_channel(manifest, "counters")
    for name, kind in kept:
        if kind not in COUNTERS:
            raise ArtifactError(
                f"counters.{name}: got {kind!r:.60}; this streamae knows {', '.join(COUNTERS)}. Train the model again"
            )
    return {name: dict(kept)[name] for name in channels if name in dict(kept)}


def _grid(manifest: Mapping[str, Any]) -> GridAlign | None:
    """Return the grid that the rows of training were built on; None where they were rows already."""
    kept = manifest.get("grid")
    if kept is None:
        return None
    try:
        grid = GridAlign(every_s=float(kept["every_s"]), method=kept["method"], gap_max_s=kept["gap_max_s"])
        good = 0 < grid.every_s < math.inf and grid.method in ("hold", "mean") and 0 < grid.bridged_s() < math.inf
    except (TypeError, ValueError, KeyError):
        good = False
    if not good:
        raise ArtifactError(f"grid: got {kept!r:.60}; it must have every_s, method, gap_max_s. Train the model again")
    return grid


def check_fields(manifest: Mapping[str, Any], profile: Profile) -> None:
    """Raise ArtifactError for what is not as training writes it, or contradicts the rest; `profile` is of it."""
    read = FieldReader(manifest, "")
    for key in ("targets", "context"):
        if read.has(key) and not set(read.texts(key)) <= set(profile.channels):
            read.refuse(key, "it must be a list of some of the channels")
    if read.has("features"):
        read.texts("features")
    if read.has("classes") and not read.texts("classes"):
        read.refuse("classes", "it must be a list of at least one name")
    for key in ("training", "versions"):
        if read.has(key):
            read.within(key)
    try:
        spec = DetectorSpec.from_mapping(manifest["network"])
    except (ValueError, TypeError, OverflowError) as error:
        raise ArtifactError(f"network: {error}; train the model again with `streamae train`") from error
    channels = len(profile.channels) + len(Calendar.of(profile.calendar))
    if spec.channels != channels:
        raise ArtifactError(
            f"network.channels: got {spec.channels}; channels and calendar are {channels}. "
            "The model file was changed: train the model again with `streamae train`"
        )
    _golden(read.within("golden"), profile, channels)


def _golden(read: FieldReader, profile: Profile, channels: int) -> None:
    """The golden windows have the shape of a window; so no shape of the file is larger than what it holds."""
    windows = read.numbers("windows", None, profile.window, channels)
    if read.has("errors"):
        read.numbers("errors", len(windows), len(profile.calibration.channel))
    elif read.has("probabilities"):
        read.numbers("probabilities", len(windows), None)


def _calendar(read: FieldReader, manifest: Mapping[str, Any]) -> Mapping[str, Any] | None:
    if not read.has("calendar"):
        return None
    calendar = read.within("calendar")
    angles = calendar.texts("angles")
    if not set(angles) <= ANGLES.keys() or len(set(angles)) != len(angles):
        calendar.refuse("angles", f"it must be a list of some of {', '.join(ANGLES)}")
    none = manifest["calendar"].get("offsets") == []
    offsets = np.zeros((0, 2)) if none else calendar.numbers("offsets", None, 2)
    if (np.diff(offsets[:, 0]) <= 0).any():
        calendar.refuse("offsets", "each must begin after the one before it")
    kept: Mapping[str, Any] = manifest["calendar"]
    return kept
