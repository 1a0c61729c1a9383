"""Changes of a stream over HTTP: something was changed on purpose, and the daemon is to know it.

POST /api/v1/stream/relearn   {"group": "pumps", "stream": "pump07", "since_s": 1785578400}
POST /api/v1/stream/remove    {"group": "pumps", "stream": "pump07"}
POST /api/v1/stream/rename    {"group": "pumps", "stream": "pump07", "name": "pump17"}
"""

from typing import Annotated, Literal, NotRequired

from pydantic import ConfigDict, Field
from starlette.exceptions import HTTPException
from typing_extensions import TypedDict

from streamae.core.types import StreamChange
from streamae.web.answers import meaning

__all__ = ["ChangeAsked", "StreamAction", "change_of"]

_Text = Annotated[str, Field(min_length=1, max_length=1000)]
_Seconds = Annotated[float, Field(ge=0, lt=1e12, allow_inf_nan=False)]
StreamAction = Annotated[
    Literal["relearn", "remove", "rename"],
    meaning(
        "`relearn` what is normal, `remove` the stream, `rename` it: what it has learnt goes on under another name"
    ),
]


class ChangeAsked(TypedDict):
    """Which stream, and what a change of it needs."""

    __pydantic_config__ = ConfigDict(extra="forbid")  # type: ignore[misc]

    group: Annotated[_Text, meaning("Group of the stream")]
    stream: Annotated[_Text, meaning("Name of the stream")]
    since_s: NotRequired[
        Annotated[
            _Seconds,
            meaning(
                "Of relearn: since when it is as it is now, event time, seconds since 1970; it learns from then on, as "
                "far as the journal has that. Without it, from what comes"
            ),
        ]
    ]
    name: NotRequired[Annotated[_Text, meaning("Of rename: the new name; a stream of that name is replaced")]]


def change_of(action: str, asked: ChangeAsked) -> StreamChange:
    """Return the change that is asked for; HTTPException 400 says what does not fit together."""
    if (action == "rename") != ("name" in asked):
        raise HTTPException(400, "name belongs to rename, which needs it")
    if "since_s" in asked and action != "relearn":
        raise HTTPException(400, "since_s belongs to relearn")
    return StreamChange(action, asked["group"], asked["stream"], asked.get("name", ""))
