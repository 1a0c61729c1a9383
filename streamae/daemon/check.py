"""The verb `check`: the configuration, its models opened and verified, and what each topic would do."""

from pathlib import Path

from streamae.config.check import check
from streamae.config.streams import StreamGroup
from streamae.core.profile import Profile
from streamae.daemon.clock import Clock
from streamae.model.artifact import open_artifact
from streamae.model.save import default_registry

__all__ = ["report"]


def report(path: Path) -> list[str]:
    """Return the lines to print. Raises ConfigError or ArtifactError with one line for each mistake."""
    return check(path, _profile, Clock().now())


def _profile(group: StreamGroup) -> Profile:
    return open_artifact(Path(group.model.path), group.model.sha256, default_registry()).profile
