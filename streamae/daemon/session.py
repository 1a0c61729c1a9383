"""What the broker's session may still have of former configurations is given up, by this process or by the next.

Before a connection is made the store gets every filter that the session may have then; once all is subscribed, and so
what is not wanted was answered before, only those that are in force.
"""

import logging
from collections.abc import Callable

from streamae.config import Settings
from streamae.daemon.build import make_source, subscriptions_of
from streamae.daemon.clock import ArrivalClock, Clock
from streamae.errors import StoreError
from streamae.ingest.mqtt import MqttSource
from streamae.ingest.source import SourceStatus
from streamae.store.session import SessionFilters

__all__ = ["BrokerSession"]

log = logging.getLogger(__name__)


class BrokerSession:
    """The session that the broker keeps for us, over restarts and reloads."""

    def __init__(self, filters: SessionFilters) -> None:
        self._filters = filters
        self._wanted: list[str] = []

    def source(
        self,
        settings: Settings,
        clock: Clock,
        arrivals: ArrivalClock,
        beat: Callable[[float], object],
        *,
        expect_session: bool,
    ) -> MqttSource:
        """Return the source of these settings, not started, which gives up all filters but theirs."""
        self._wanted = [one.filter for one in subscriptions_of(settings)]
        stale = [one for one in self._filters.known if one not in self._wanted]
        self._note([*self._wanted, *stale])
        if stale:
            log.info("the broker's session has filters of a former configuration, given up: %s", ", ".join(stale))
        return make_source(settings, clock, arrivals, beat, stale, expect_session=expect_session)

    def observe(self, source: SourceStatus) -> None:
        """Look at how the connection is: once a second."""
        if source.subscribed:
            self._note(self._wanted)

    def _note(self, filters: list[str]) -> None:
        try:
            self._filters.note(filters)
        except StoreError as error:  # it is tried again every second
            log.debug("the filters of the session are not noted: %s", error)
