"""What several verbs take."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    pass

__all__ = ["DURATION", "FILE", "Speed", "config_option", "group_option", "pace", "speed_option"]


class _Duration(click.ParamType):  # type: ignore[type-arg]  # generic from click 8.4 on only
    """A duration as the configuration writes it, 90s or 3d; a number alone is seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        from streamae.config.units import parse_duration

        try:
            seconds = float(value)
        except ValueError:
            try:
                seconds = parse_duration(value)
            except ValueError as error:
                self.fail(f"got {value}; {error}", param, ctx)
        if not 0 < seconds < float("inf"):
            self.fail(f"got {value}; write a duration above 0, for example 90s or 3d", param, ctx)
        return seconds


DURATION = _Duration()

FILE = click.Path(path_type=Path)
config_option = click.option("-c", "--config", required=True, type=FILE, help="The configuration, streamae.yaml.")


class Speed(click.ParamType):  # type: ignore[type-arg]  # generic from click 8.4 on only
    """A factor, or `max`: as fast as the broker takes it (None)."""

    name = "X|max"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the factor; infinity for `max`."""
        if value == "max":
            return float("inf")
        try:
            speed = float(value)
        except ValueError:
            speed = 0.0
        if not speed > 0:
            self.fail(f"got {value}; write a number above 0, such as 10, or max", param, ctx)
        return speed


group_option = click.option("--group", help="Which group of the configuration; needed where it has several.")


speed_option = click.option(
    "--speed", default="1", show_default=True, type=Speed(), help="Times the recording's own pace."
)


def pace(speed: float) -> float | None:
    """Return the speed, None for as fast as the broker takes it."""
    return None if speed == float("inf") else speed
