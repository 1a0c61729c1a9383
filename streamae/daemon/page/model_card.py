"""A group's model as the page shows it."""

from typing import Any

import numpy as np

from streamae.core.pipeline import Group
from streamae.model.artifact import Artifact
from streamae.web.answers import Thresholds
from streamae.web.app import StreamTable

__all__ = ["model_card"]


def model_card(artifact: Artifact, group: Group, table: StreamTable | None) -> dict[str, Any]:
    """Return a manifest without its bulk, what the operator decided about it, and where the thresholds stand."""
    manifest = artifact.manifest
    known = artifact.profile.calibration
    calibration = {key: v for key, v in known.to_mapping().items() if isinstance(v, str | int | float)}
    fields = {k: v for k, v in manifest.items() if k not in {"golden", "streams", "calibration"}}
    budget_per_s = known.budget_per_s if group.false_alarms_per_s is None else group.false_alarms_per_s
    return {
        **fields,
        "group": group.name,
        "file": artifact.path.name,
        "sha256": artifact.digest,
        "streams": sorted(manifest["streams"]),
        "calibration": calibration,
        "false_alarms_per_s": budget_per_s,
        "thresholds": _spread(table),
    }


def _spread(table: StreamTable | None) -> Thresholds | None:
    """The lowest, the middle and the highest threshold of the streams that are judged."""
    known = np.zeros(0) if table is None else table.threshold[np.isfinite(table.threshold)]
    if not len(known):
        return None
    low, middle, high = np.quantile(known, (0.0, 0.5, 1.0)).tolist()
    return {"lowest": low, "median": middle, "highest": high}
