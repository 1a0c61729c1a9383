"""Writes a network as a TorchScript archive, and reads one back: the only two places that know TorchScript.

PyTorch calls TorchScript deprecated. A second format needs a pair of functions like these and a kind of its own in
`streamae.model.artifact`; nothing in the core would change.
"""

import io
import json
import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

__all__ = ["MANIFEST_NAME", "archive", "load_archive", "script"]

MANIFEST_NAME = "manifest.json"


def script(network: nn.Module) -> torch.jit.ScriptModule:
    """Compile in evaluation mode; scripting, not tracing, since a trace freezes batch size and length."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        scripted = torch.jit.script(network.cpu().eval())
    assert isinstance(scripted, torch.jit.ScriptModule)
    return scripted


def archive(scripted: torch.jit.ScriptModule, manifest: Mapping[str, Any]) -> bytes:
    """Return the bytes of a TorchScript archive that carries the manifest as one of its files."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.save(scripted, buffer, _extra_files={MANIFEST_NAME: json.dumps(manifest, allow_nan=False)})
    return buffer.getvalue()


def load_archive(content: bytes, device: str) -> torch.jit.ScriptModule:
    """Load an archive: this runs code of the archive, so its digest must have been checked before.

    Raises RuntimeError where torch cannot read it.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        loaded: torch.jit.ScriptModule = torch.jit.load(  # type: ignore[no-untyped-call]
            io.BytesIO(content), map_location=device
        )
    return loaded.eval()
