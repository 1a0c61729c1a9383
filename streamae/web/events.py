"""The one stream of events: the state line about once a second, to a bounded number of readers.

It carries no streams and no alerts, only counters that say when to ask for them: a page asks for the few lines that it
shows, so the cost does not grow with the fleet. A reader that does not read is left alone; it holds a place until its
connection ends.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

from starlette.exceptions import HTTPException
from starlette.responses import Response, StreamingResponse

__all__ = ["READERS_MAX", "Events"]

READERS_MAX = 64
_LOOK_S = 0.25  # how soon a new snapshot, and the end of the server, are noticed
_SILENT_LOOKS = 8  # a line at least every so many looks, new or not: the loop may hang, and that is news too


class Events:
    """Readers of the state line; `close` ends them all, from any thread."""

    def __init__(self, state: Callable[[], Mapping[str, Any]]) -> None:
        self._state = state
        self._closed = False
        self.readers = 0

    def close(self) -> None:
        """End all streams within `_LOOK_S`."""
        self._closed = True

    def respond(self) -> Response:
        """Return the answer to one more reader; 503 where there are too many."""
        if self.readers >= READERS_MAX:
            raise HTTPException(503, f"{READERS_MAX} pages are open already", {"retry-after": "5"})
        return StreamingResponse(self._lines(), media_type="text/event-stream", headers={"x-accel-buffering": "no"})

    async def _lines(self) -> AsyncIterator[str]:
        self.readers += 1
        sent, looks = (-1, -1), 0
        try:
            yield "retry: 2000\n\n"
            while not self._closed:
                state = self._state()
                counters, looks = (state["sequence"], state["alerts_version"]), looks + 1
                if counters != sent or looks >= _SILENT_LOOKS:
                    yield f"id: {counters[0]}\nevent: state\ndata: {json.dumps(state, allow_nan=False)}\n\n"
                    sent, looks = counters, 0
                await asyncio.sleep(_LOOK_S)
        finally:
            self.readers -= 1
