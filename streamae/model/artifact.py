"""The model file: one archive with the network and, as JSON beside it, everything that it was trained under.

Loading such a file runs code out of it. So the order is law: read the bytes once, compare their SHA-256 with the one
pinned in the configuration or recorded in the registry of models trained here, check the manifest (plain zip and JSON),
and only then load those same bytes, and hold the network against the golden input that the manifest carries.

The manifest alone needs no torch: `read_manifest` and `describe` open the file as a zip.
"""

import hashlib
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from streamae.core.profile import Profile
from streamae.core.types import F32
from streamae.errors import ArtifactError
from streamae.model.executor_options import ExecutorOptions
from streamae.model.files import read_regular
from streamae.model.manifest import CLASSIFIER, SCORER, check_fields, profile_of, unpacked
from streamae.model.save import registered

if TYPE_CHECKING:
    from streamae.model.runtime import TorchReconstructor

__all__ = [
    "FORMAT_VERSION",
    "Artifact",
    "describe",
    "manifest_of",
    "open_artifact",
    "profile_of",
    "read_manifest",
    "verified",
]

FORMAT_VERSION = 2  # since then a network may read context and the clock beside its targets
_REQUIRED = (
    "format",
    "channels",
    "network",
    "period_s",
    "gap_max_s",
    "warmup_rows",
    "streams",
    "calibration",
    "golden",
)
_REQUIRED_WITHIN = (("network", "window"), ("golden", "windows"))
_SIZE_MAX = 1 << 30
_RTOL, _ATOL = 1e-4, 1e-5  # between machines: another BLAS sums in another order


@dataclass(frozen=True, slots=True, eq=False)
class Artifact:
    """A model that passed all checks; `profile` is what the core needs of it."""

    path: Path
    digest: str
    manifest: Mapping[str, Any]
    profile: Profile
    reconstructor: "TorchReconstructor"


def read_manifest(path: Path) -> dict[str, Any]:
    """Read the manifest without torch. Raises ArtifactError on a file that is no model, or of a newer format."""
    return manifest_of(path, _content(path), SCORER)


def open_artifact(
    path: Path, sha256: str | None, registry: Path | None, device: str = "cpu", means: ExecutorOptions | None = None
) -> Artifact:
    """Verify and load a model file; `sha256` is the pin of the configuration, `registry` that of `register`.

    `means` say how it is to be run, by default as it is fastest on one core.

    Raises ArtifactError, before any code of the file runs, if it is missing, damaged, of another digest than the
    pinned one, unknown to the registry where nothing is pinned, or of a newer format; and after loading, if it does
    not give the golden output.
    """
    content, digest = verified(path, sha256, registry)
    manifest = manifest_of(path, content, SCORER)
    profile = profile_of(manifest, digest)
    reconstructor = _LOADERS[SCORER](path, content, manifest, device, means)
    _check_golden(path, manifest, reconstructor)
    return Artifact(path, digest, manifest, profile, reconstructor)


def verified(path: Path, sha256: str | None, registry: Path | None) -> tuple[bytes, str]:
    """Return the bytes of a file whose code may be run, and their digest. Raises ArtifactError."""
    content = _content(path)
    digest = hashlib.sha256(content).hexdigest()
    _check_digest(path, digest, sha256, registry)
    return content, digest


def describe(path: Path) -> dict[str, Any]:
    """What `streamae inspect` prints: digest, size and the manifest without its bulk; needs no torch, runs no code."""
    content = _content(path)
    manifest = manifest_of(path, content, SCORER)
    calibration = {
        k: v
        for k, v in manifest["calibration"].items()
        if k not in {"precision", "center", "spread", "weight", "level"}
    }
    return {
        "path": str(path),
        "sha256": hashlib.sha256(content).hexdigest(),
        "bytes": len(content),
        **{k: v for k, v in manifest.items() if k not in {"golden", "streams", "calibration"}},
        "streams": sorted(manifest["streams"]),
        "calibration": calibration,
    }


def _content(path: Path) -> bytes:
    try:
        content = read_regular(path, _SIZE_MAX)
    except FileNotFoundError:
        raise ArtifactError(
            f"{path}: there is no such model file; train one with `streamae train`, or correct the path"
        ) from None
    except OSError as error:
        raise ArtifactError(
            f"{path}: cannot be read ({error.strerror}); check that it is a file and its permissions"
        ) from error
    if content is None:
        raise ArtifactError(f"{path}: is larger than {_SIZE_MAX >> 20} MiB, so it is no streamae model; check the path")
    return content


def _check_digest(path: Path, digest: str, pinned: str | None, registry: Path | None) -> None:
    if pinned is not None:
        if digest != pinned.strip().lower().removeprefix("sha256:"):
            raise ArtifactError(
                f"{path}: its SHA-256 is {digest}, but {pinned} is pinned; the file was changed or damaged since. "
                "Restore it, or pin the new digest if you trust it"
            )
    elif registry is None or digest not in registered(registry):
        where = "no registry is in use" if registry is None else f"{registry} does not list it"
        raise ArtifactError(
            f"{path}: was not trained by this installation ({where}), or was changed since; loading it would run its "
            f"code. If you trust where it comes from, pin it: model.sha256: {digest}"
        )


def manifest_of(path: Path, content: bytes, kind: str) -> dict[str, Any]:
    """Return the manifest of a model file of this kind, all of it checked. Raises ArtifactError."""
    again = "copy it again from where it was trained, or train it again with `streamae train`"
    try:
        manifest = unpacked(content)
    except (zipfile.BadZipFile, zlib.error, ValueError, EOFError, NotImplementedError, RuntimeError) as error:
        raise ArtifactError(f"{path}: is damaged or no streamae model ({error}); {again}") from error
    if not isinstance(manifest, dict) or not isinstance(manifest.get("format"), dict):
        raise ArtifactError(f"{path}: its manifest is not one of streamae's; {again}")
    version, found = manifest["format"].get("version"), manifest["format"].get("kind")
    if kind == CLASSIFIER and isinstance(found, str) and found in _LOADERS:
        raise ArtifactError(f"{path}: is a {found}; train one with `streamae train --classify`")
    if not isinstance(version, int) or version > FORMAT_VERSION or found != kind:
        raise ArtifactError(
            f"{path}: is of format {found!s:.60} {version!s:.60}, this streamae reads up to {FORMAT_VERSION} of "
            f"{kind}; upgrade streamae, or train the model again with this version"
        )
    missing = [key for key in _REQUIRED if key not in manifest]
    parts = {key: manifest[key] for key in ("network", "golden") if isinstance(manifest.get(key), dict)}
    within = (*_REQUIRED_WITHIN, ("golden", "probabilities" if kind == CLASSIFIER else "errors"))
    missing += [f"{part}.{key}" for part, key in within if part in parts and key not in parts[part]]
    if missing:
        raise ArtifactError(f"{path}: its manifest lacks {', '.join(missing)}; {again}")
    try:
        check_fields(manifest, profile_of(manifest, ""))
    except ArtifactError as error:
        raise ArtifactError(f"{path}: {error}") from error
    return manifest


def _load_torchscript(
    path: Path, content: bytes, manifest: Mapping[str, Any], device: str, means: ExecutorOptions | None
) -> "TorchReconstructor":
    from streamae.model.export import load_archive
    from streamae.model.runtime import TorchReconstructor, choose_device
    from streamae.model.spec import DetectorSpec

    try:
        where = choose_device(device)
        scripted = load_archive(content, where)
        spec = DetectorSpec.from_mapping(manifest["network"])
        return TorchReconstructor(scripted, spec, where, means)
    except (RuntimeError, ValueError, TypeError, LookupError, AttributeError, MemoryError) as error:
        cause = (str(error) or type(error).__name__).splitlines()[0]
        raise ArtifactError(f"{path}: torch cannot run it ({cause}); train it again with this installation") from error


_LOADERS: dict[str, Callable[[Path, bytes, Mapping[str, Any], str, ExecutorOptions | None], "TorchReconstructor"]] = {
    SCORER: _load_torchscript
}


def _check_golden(path: Path, manifest: Mapping[str, Any], reconstructor: "TorchReconstructor") -> None:
    wanted = np.asarray(manifest["golden"]["errors"], np.float32)
    windows: F32 = np.asarray(manifest["golden"]["windows"], np.float32)
    got = reconstructor.errors(windows)
    if got.shape != wanted.shape or not np.allclose(got, wanted, rtol=_RTOL, atol=_ATOL):
        worst = float(np.abs(got - wanted).max()) if got.shape == wanted.shape else float("nan")
        raise ArtifactError(
            f"{path}: does not reproduce its golden output (off by {worst:.2g}); this torch computes "
            "otherwise than the one of its training, or the file was tampered with. Train it again here"
        )
