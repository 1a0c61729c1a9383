"""Writing a model file, and the registry of the models that were trained here; artifact.py opens them."""

import hashlib
import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from streamae.errors import ArtifactError
from streamae.model.files import read_regular

if TYPE_CHECKING:
    import torch

__all__ = ["default_registry", "format_version", "register", "registered", "save"]

_REGISTRY_MAX = 64 << 20


def default_registry() -> Path:
    """Where this user's installation records the models that it trained."""
    state = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(state) / "streamae" / "models.json"


def save(
    path: Path, scripted: "torch.jit.ScriptModule", manifest: Mapping[str, Any], registry: Path | None = None
) -> str:
    """Write a model file, in one step that leaves the old or the new file; returns its SHA-256.

    With `registry`, the digest is recorded there, so that this installation trusts the file without a pin.
    """
    from streamae.model.export import archive

    content = archive(scripted, manifest)
    digest = hashlib.sha256(content).hexdigest()
    _write(path, content)
    if registry is not None:
        register(registry, digest, path)
    return digest


def format_version(network: Mapping[str, Any]) -> int:
    """Return the oldest version of the format that a model of this `network` needs, so that older releases read it."""
    return 2 if network.get("context") else 1


def register(registry: Path, digest: str, path: Path) -> None:
    """Record a digest as trained (or vouched for) here."""
    known = registered(registry)
    known[digest] = str(path.resolve())
    registry.parent.mkdir(parents=True, exist_ok=True)
    _write(registry, json.dumps(known, indent=1).encode())


def registered(registry: Path) -> dict[str, str]:
    """Return the digests in a registry, and the files that had them."""
    try:
        known = json.loads(read_regular(registry, _REGISTRY_MAX) or b"")
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise ArtifactError(
            f"{registry}: the registry of models cannot be read ({error}); repair or delete it"
        ) from error
    if not isinstance(known, dict):
        raise ArtifactError(f"{registry}: is no registry of models; repair or delete it")
    return known


def _write(path: Path, content: bytes) -> None:
    """Write beside, flush, and rename over; with the mode of any new file: the daemon may be another user."""
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        try:
            with beside.open("xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            beside.replace(path)
        finally:
            beside.unlink(missing_ok=True)
    except OSError as error:
        raise ArtifactError(f"{path}: cannot be written ({error.strerror}); check that the folder exists") from error
