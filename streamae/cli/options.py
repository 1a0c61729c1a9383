"""What several verbs take."""

from pathlib import Path
from typing import Any

import click

__all__ = ["FILE", "Speed", "config_option", "group_option", "pace", "speed_option"]

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
