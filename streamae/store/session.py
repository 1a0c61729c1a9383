"""What is remembered of the broker's session, which may outlive the process: where it began, and its filters.

A broker that keeps a session keeps its subscriptions. Those of a former configuration would send for ever what no group
has; the next process can only give up what it knows of.
"""

import json
from collections.abc import Mapping, Sequence

from streamae.store.database import Database
from streamae.store.schema import DamagedError

__all__ = ["SessionFilters", "session_from"]

_KEY = "subscribed"


class SessionFilters:
    """The filters that the broker's session may have; `meta` is what the store has under its keys."""

    def __init__(self, database: Database, meta: Mapping[str, str]) -> None:
        self._database = database
        try:
            found = json.loads(meta.get(_KEY, "[]"))
        except ValueError as error:
            raise DamagedError("the filters of the session cannot be read") from error
        self.known = tuple(one for one in found if isinstance(one, str)) if isinstance(found, list) else ()

    def note(self, filters: Sequence[str]) -> None:
        """Note the filters that it may have from now on. Raises StoreError."""
        wanted = tuple(sorted(set(filters)))
        if wanted != self.known:
            with self._database.write() as connection:
                connection.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (_KEY, json.dumps(wanted)))
            self.known = wanted


def session_from(text: str) -> int:
    """Return the row of the journal after which the session began."""
    if not text.isascii() or not text.isdigit():
        raise DamagedError("the start of the session is not a number")
    return int(text)
