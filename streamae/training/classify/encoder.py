"""The trained encoder that a classifier starts from: out of a model file, or trained on rows without labels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from streamae.core.types import F32
from streamae.errors import ArtifactError
from streamae.history.series import Series
from streamae.model import artifact
from streamae.model.detector import DetectorNetwork
from streamae.model.export import load_archive
from streamae.model.spec import DetectorSpec, NetworkSpec
from streamae.training.dataset import Stream, build
from streamae.training.plan import TrainConfig
from streamae.training.train import train_dataset

__all__ = ["Pretrained", "load_encoder", "train_encoder"]


@dataclass(frozen=True, slots=True, eq=False)
class Pretrained:
    """A trained detector, whose encoder is to be used again, and the manifest that it was trained under."""

    detector: DetectorNetwork
    manifest: Mapping[str, Any]

    @property
    def spec(self) -> NetworkSpec:
        """Shape of the recurrent network."""
        return DetectorSpec.from_mapping(self.manifest["network"]).network

    def read(self, windows: F32) -> Tensor:
        """[n, T, C] -> [n, Tn, inputs], what the encoder reads of scaled windows."""
        with torch.no_grad():
            read: Tensor = self.detector.network_input(torch.from_numpy(windows)).contiguous()
        return read


def load_encoder(path: Path, sha256: str | None, registry: Path | None) -> Pretrained:
    """Return the network of a model file, verified as for the daemon. Raises ArtifactError."""
    opened = artifact.open_artifact(path, sha256, registry)
    if opened.manifest["network"]["recurrent"]["linear_rank"]:
        raise ArtifactError(
            f"{path}: its encoder reads what a linear path of its own leaves, which a classifier cannot; train it "
            "with `banks: true` or `linear: off`"
        )
    content, _ = artifact.verified(path, opened.digest, None)
    detector = DetectorNetwork(DetectorSpec.from_mapping(opened.manifest["network"]))
    detector.load_state_dict(load_archive(content, "cpu").state_dict())
    return Pretrained(detector.eval(), opened.manifest)


def train_encoder(series: Sequence[Series], seed: int, config: TrainConfig) -> Pretrained:
    """Train an encoder-decoder on all rows of the series, without banks or linear path; no label is read."""
    streams = [Stream(x.name, x.channels, x.time_s, x.values) for x in series]
    trained = train_dataset(build(streams, config.context), seed, replace(config, banks=False, linear="off"))
    return Pretrained(trained.network, trained.manifest)
