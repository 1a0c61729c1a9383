"""What a reload may change while windows, thresholds and open alerts stay, and what needs a restart.

Whatever belongs to the identity of the session, of the state, or of the shape of a stream's windows needs a restart:
applied live it would silently orphan a broker session, a journal, or every window in memory.
"""

from collections.abc import Iterator
from dataclasses import is_dataclass, replace
from typing import Any

from pydantic import BaseModel

from streamae.config.block import section_of
from streamae.config.settings import Settings
from streamae.config.yaml_document import Loc, key_text

__all__ = ["Change", "applicable", "changes"]

_RESTART = ("instance", "state", "mqtt", "inbox", "scoring", "web", "metrics")
_RESHAPES = ("stream", "align", "stride")  # of a group that stays: its windows mean something else afterwards


class Change(str):
    """One line for the operator; `.restart` says whether it waits for a restart."""

    restart: bool
    __slots__ = ("restart",)

    def __new__(cls, key: str, restart: bool) -> "Change":
        """Make the line from the key that changed; values stay out of it, they may be secrets."""
        self = super().__new__(cls, f"{key}: {'takes effect at the next restart' if restart else 'applied'}")
        self.restart = restart
        return self


def changes(old: Settings, new: Settings) -> list[Change]:
    """Return a line for each key that differs, in the order of the file."""
    return [Change(key_text(loc), _restart(loc, old, new)) for loc in _differences(old, new, ())]


def applicable(old: Settings, new: Settings) -> Settings:
    """Return the new settings as far as they can be taken over live; whatever waits for a restart stays as it was."""
    streams = {
        name: replace(group, **{key: getattr(old.streams[name], key) for key in _RESHAPES})
        if name in old.streams
        else group
        for name, group in new.streams.items()
    }
    return new.model_copy(update={"streams": streams, **{key: getattr(old, key) for key in _RESTART}})


def _restart(loc: Loc, old: Settings, new: Settings) -> bool:
    if loc[0] != "streams":
        return loc[0] in _RESTART
    stays = loc[1] in old.streams and loc[1] in new.streams
    return stays and len(loc) > 2 and loc[2] in _RESHAPES


def _differences(old: Any, new: Any, loc: Loc) -> Iterator[Loc]:
    section = section_of(type(old)) if is_dataclass(old) else type(old)
    if type(old) is type(new) and issubclass(section, BaseModel):
        for name, field in section.model_fields.items():
            yield from _differences(getattr(old, name), getattr(new, name), (*loc, field.alias or name))
    elif isinstance(old, dict) and isinstance(new, dict):
        for key in dict.fromkeys([*old, *new]):
            yield from _differences(old.get(key), new.get(key), (*loc, key))
    elif old != new:
        yield loc
