"""The verb `check`: the configuration, its models opened and verified, and what each topic would do.

What `run` builds is built here, by the same functions, up to where the first packet would be sent; so that what `check`
accepts is what `run` starts with.
"""

from pathlib import Path

from streamae.config.check import check
from streamae.config.load import load
from streamae.config.streams import StreamGroup
from streamae.core.profile import Profile
from streamae.daemon.build import Models, make_source, pipelines
from streamae.daemon.clock import ArrivalClock, Clock
from streamae.daemon.homeassistant import HomeAssistantThread
from streamae.daemon.sinks import make_sink
from streamae.model.artifact import Artifact
from streamae.web.view import Snapshot

__all__ = ["report"]


def report(path: Path) -> list[str]:
    """Return the lines to print. Raises ConfigError or ArtifactError with one line for each mistake."""
    clock, models = Clock(), Models()
    opened: list[Artifact] = []
    settings = load(path)

    def profile(group: StreamGroup) -> Profile:
        opened.append(models.open_one(settings, group))
        return opened[-1].profile

    lines = check(path, profile, clock.now())
    pipelines(settings, dict(zip(settings.streams, opened, strict=True)))
    make_source(settings, clock, ArrivalClock(clock), lambda busy_s: None).close()
    for sink in settings.sinks:
        make_sink(settings, sink, clock).close()
    HomeAssistantThread(settings, _never_asked, clock)
    return lines


def _never_asked() -> Snapshot:
    raise AssertionError("a thread that is not started publishes nothing")
