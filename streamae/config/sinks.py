"""The `sinks:` block: a member for each kind of sink that is registered; `type` says which."""

from typing import TYPE_CHECKING, Annotated, Union

from pydantic import Discriminator

from streamae.config.block import Checked, block
from streamae.sinks import SINKS
from streamae.sinks.spec import SinkSettings

__all__ = ["DEFAULT_SINKS", "SinkOptions"]

for _type, _spec in SINKS.items():
    block(f"{_type.capitalize()}Sink")(_spec.settings)

if TYPE_CHECKING:
    SinkOptions = SinkSettings
else:
    SinkOptions = Annotated[
        Union[tuple(Checked[spec.settings] for spec in SINKS.values())],  # noqa: UP007  (made of what is registered)
        Discriminator("type"),
    ]

DEFAULT_SINKS: tuple[SinkSettings, ...] = (SINKS["log"].settings(type="log"),)
