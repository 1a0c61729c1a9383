"""What would be sent is built as the configuration is read: what cannot be sent is found before the first alert.

Nothing is sent and nobody is connected to. What depends on files of this machine (certificates) is looked at apart, by
`check` and by the daemon: a configuration may be read where it does not run.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from streamae.config.settings import Settings
from streamae.config.yaml_document import Loc, key_text
from streamae.errors import ConfigError
from streamae.failure import place_of
from streamae.mqtt import ConnectionOptions, rehearse_connection
from streamae.sinks import SINKS
from streamae.sinks.spec import Installation, SinkSettings

__all__ = ["rehearsed", "require_files"]


def rehearsed(settings: Settings) -> Iterator[tuple[Loc, str]]:
    """Yield (place, remedy) of what nothing can be built of; the files are left out."""
    connection = replace(settings.connection, tls=None)
    yield from _connection(connection)
    installation = replace(settings.installation(float, float), connection=connection)
    for i, sink in enumerate(settings.sinks):
        yield from _sink(("sinks", i), _without_files(sink), installation)


def _without_files(sink: Any) -> SinkSettings:
    plain: SinkSettings = replace(sink, ca=None) if hasattr(sink, "ca") else sink
    return plain


def require_files(settings: Settings) -> None:
    """Build all of it with the files that it names. ConfigError with one line for each place."""
    found = list(_connection(settings.connection))
    for i, sink in enumerate(settings.sinks):
        found += _sink(("sinks", i), sink, replace(settings.installation(float, float), connection=ConnectionOptions()))
    if found:
        raise ConfigError("\n".join(f"{key_text(loc)}: {remedy}" for loc, remedy in found))


def _connection(connection: ConnectionOptions) -> Iterator[tuple[Loc, str]]:
    try:
        rehearse_connection(connection)
    except ConfigError as error:
        yield ("mqtt",), str(error).removeprefix("mqtt: ")


def _sink(here: Loc, sink: SinkSettings, installation: Installation) -> Iterator[tuple[Loc, str]]:
    try:
        SINKS[sink.type].rehearse(sink, installation)
    except ConfigError as error:
        yield here, str(error).removeprefix("sinks: ")
    except Exception as error:  # of a library, whose text may hold a secret
        yield here, f"correct its settings: nothing can be made of them ({place_of(error)})"
