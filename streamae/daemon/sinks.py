"""Settings -> sinks: the one place where they are made, for the daemon and for a test of one of them."""

from streamae.config import Settings
from streamae.core.report import Transition
from streamae.daemon.clock import Clock
from streamae.errors import ConfigError
from streamae.sinks import SINKS
from streamae.sinks.payload import TEST_RULE
from streamae.sinks.sink import TriableSink
from streamae.sinks.spec import Installation, SinkSettings

__all__ = ["make_sink", "notify_test"]


def make_sink(settings: Settings, sink: SinkSettings, clock: Clock) -> TriableSink:
    """Return one sink, not yet connected. Raises ConfigError, with its name, where it cannot be made."""
    discovery = settings.discovery
    page = "" if discovery is None else discovery.page or ""
    try:
        return _made(settings, sink, clock, page)
    except ConfigError as error:
        raise ConfigError(f"sinks: {sink.name}: {str(error).removeprefix('sinks: ')}") from None
    except OSError as error:
        cause = error.strerror or type(error).__name__
        raise ConfigError(f"sinks: {sink.name}: ca: {cause}; name a readable PEM file") from None


def _made(settings: Settings, sink: SinkSettings, clock: Clock, page: str) -> TriableSink:
    return SINKS[sink.type].make(sink, Installation(settings.connection, clock.now, clock.monotonic, page))


def notify_test(settings: Settings, name: str, clock: Clock) -> str:
    """Send one test through the sink of this name, past outbox and daemon; return what its receiver answered.

    ConfigError where there is no such sink; SinkUnavailableError and SinkRefusedError with the reason of the receiver.
    """
    found = next((sink for sink in settings.sinks if sink.name == name), None)
    if found is None:
        known = ", ".join(sink.name for sink in settings.sinks) or "none"
        raise ConfigError(f"SINK: got {name}; write the name of a sink of the configuration: {known}")
    now_s = clock.now()
    sink = make_sink(settings, found, clock)
    try:
        return sink.try_out(_test(settings.instance, now_s))
    finally:
        sink.close()


def _test(instance: str, now_s: float) -> Transition:
    return Transition(
        id=f"{TEST_RULE}-{now_s:.0f}",
        sequence=1,
        instance=instance,
        group=TEST_RULE,
        stream=TEST_RULE,
        labels={},
        rule=TEST_RULE,
        state="firing",
        severity="warning",
        onset_s=now_s,
        time_s=now_s,
        window_start_s=now_s,
        score=0.0,
        threshold=0.0,
        shares={},
        model_digest="",
    )
