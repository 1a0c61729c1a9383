"""Settings -> sinks: the one place where they are made, for the daemon and for a test of one of them."""

from streamae.config import Settings
from streamae.daemon.clock import Clock
from streamae.errors import ConfigError
from streamae.sinks import SINKS
from streamae.sinks.sink import TriableSink, guarded
from streamae.sinks.spec import SinkSettings, trial_transition

__all__ = ["make_sink", "notify_test"]


def make_sink(settings: Settings, sink: SinkSettings, clock: Clock) -> TriableSink:
    """Return one sink, not yet connected. Raises ConfigError, with its name, where it cannot be made."""
    try:
        return SINKS[sink.type].make(sink, settings.installation(clock.now, clock.monotonic))
    except ConfigError as error:
        raise ConfigError(f"sinks: {sink.name}: {str(error).removeprefix('sinks: ')}") from None
    except OSError as error:
        cause = error.strerror or type(error).__name__
        raise ConfigError(f"sinks: {sink.name}: ca: {cause}; name a readable PEM file") from None


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
        return guarded(name, lambda: sink.try_out(trial_transition(settings.instance, now_s)))
    finally:
        sink.close()
