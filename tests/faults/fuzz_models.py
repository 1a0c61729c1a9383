"""FuzzTarget for the fuzzer (see `fuzz.py`): model files, as a whole and the manifest within."""

import io
import json
import math
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from streamae.core.groups import Groups
from streamae.core.types import Batch
from streamae.errors import ArtifactError
from streamae.model.artifact import manifest_of, profile_of
from streamae.model.manifest import CLASSIFIER, SCORER
from streamae.model.spec import DetectorSpec, NetworkSpec
from tests.faults.fuzz import FuzzTarget
from tests.plants import calibration, group, known_stream

NOW = 1_700_000_000.0
PATH = Path("model.pt")
CHANNELS = ("a", "b")


class _Zeros:
    """Finds nothing; of the features that a calibration names."""

    def __init__(self, features: int) -> None:
        self._features = features

    def errors(self, windows: Any) -> Any:
        return np.zeros((len(windows), self._features), np.float32)


def honest() -> dict[str, Any]:
    """A small manifest, as training writes one."""
    spec = DetectorSpec(2, (0, 1), NetworkSpec(channels=2, targets=(0, 1), window=4, hidden=2))
    return {
        "format": {"kind": SCORER, "version": 1}, "channels": list(CHANNELS), "targets": list(CHANNELS), "context": [],
        "network": spec.to_mapping(), "features": ["reconstruction:a", "reconstruction:b"], "period_s": 1.0,
        "gap_max_s": 5.0, "warmup_rows": 8,
        "streams": {"p": known_stream((0.0, 0.0), (1.0, 1.0), weight=(1.0, 1.0)).to_mapping()},
        "calibration": calibration(2).to_mapping(), "training": {"seed": 1}, "versions": {"torch": "2"},
        "golden": {"windows": [[[0.0, 1.0]] * 4], "errors": [[0.5, 0.5]]},
        "calendar": {"angles": ["day"], "offsets": [[0.0, 3600.0]], "zone": "UTC"},
    }  # fmt: skip


def _archive(text: bytes, compression: int = zipfile.ZIP_STORED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", compression) as file:
        file.writestr("model/data.pkl", b"x" * 40)
        file.writestr("model/extra/manifest.json", text)
    return out.getvalue()


def _read(content: bytes) -> bool:
    """Read a file as every verb does; of what is read a pipeline is made, which scores."""
    try:
        manifest = manifest_of(PATH, content, SCORER)
    except ArtifactError as error:
        assert str(error).startswith(f"{PATH}: ")
        try:
            manifest_of(PATH, content, CLASSIFIER)
        except ArtifactError:
            return False
        return True
    profile = profile_of(manifest, "0" * 64)
    assert profile.period_s > 0
    assert math.isfinite(profile.gap_max_s)
    if profile.window > 64 or profile.warmup_rows > 1000 or len(profile.channels) > 8:
        return True
    judged = replace(group(profile=profile), reconstructor=_Zeros(len(profile.calibration.channel)))
    groups = Groups("i", [judged])
    row = json.dumps(dict.fromkeys(profile.channels, 1.5))[:-1]
    rows = [f'{row}, "t": {NOW + i * profile.period_s}}}'.encode() for i in range(12)]
    with np.errstate(all="ignore"):
        groups.step(Batch([b"plant/p"] * len(rows), rows, np.full(len(rows), NOW)), NOW)
    return True


def manifest() -> FuzzTarget:
    """The manifest of an archive that is sound: read, or refused by its key."""

    def bite(data: bytes) -> bool:
        return _read(_archive(data))

    plain = honest()
    other = {**plain, "calendar": None, "format": {"kind": CLASSIFIER, "version": 2}, "calibration": {}}
    other |= {"classes": ["x"], "golden": {"windows": plain["golden"]["windows"], "probabilities": [[1.0]]}}
    without = {key: value for key, value in plain.items() if key != "calendar"}
    seeds = [json.dumps(one).encode() for one in (plain, without, other)]
    words = [b"NaN", b"1e999", b"null", b"-1", b"[]", b"{}", b"true", b"1" * 400, b'"x"', b"0.5", b"1e18", b"[" * 60]
    return FuzzTarget(bite, seeds, [*words, b'"calibration":{}', b'"warmup_rows":', b'"period_s":', b'"window":'])


def model() -> FuzzTarget:
    """The bytes of a file: read, or refused."""
    seeds = [_archive(json.dumps(honest()).encode(), how) for how in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)]
    words = [b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06", b"\xff\xff\xff\xff", b"manifest.json", b"model/extra/"]
    return FuzzTarget(_read, seeds, words)
