"""The conditions of a daemon that no room below can see: together with those of the rooms, all that fails now.

Some are looked at once a second, where another line of the log reports them already: these are silent. The store's
complaints at the start stand until the process ends, since nothing brings back what was lost.
"""

import logging
import math
from collections.abc import Callable, Iterable, Mapping, Sequence

from streamae.condition import Condition, Failing
from streamae.core.pipeline import Pipeline
from streamae.daemon.intake import IntakeConditions
from streamae.ingest.source import SourceStatus
from streamae.store.store import Store

__all__ = ["Conditions"]

log = logging.getLogger(__name__)
_LIMITED_S = 300.0  # over which it is averaged how often the broker waits for us
_FORGED_S = 600.0  # without a forgery: nobody writes our topics any more
_LIMITED_BEGINS, _LIMITED_ENDS = 0.5, 0.2  # of the time


class Conditions:
    """All that a person may have to repair; `rooms` gives the conditions of the rooms below, such as the sinks'.

    `observe` is for the loop's thread, `all` and `failing` are for any.
    """

    def __init__(self, broker: str, now: Callable[[], float]) -> None:
        self._now = now
        self.rooms: Callable[[], Iterable[Condition]] = list
        self.silences = Condition("store", "silences", "silences wait for the store", now, log)
        self.reload = Condition("configuration", "reload", "the last reload was refused, the old one goes on", now)
        self._broker = Condition("broker", broker, f"nothing is heard from broker {broker}", now)
        self._poison = Condition("poison", "messages", "messages that end the process are left out", now)
        self._damage = Condition("damage", "state", "the state directory was damaged", now, log)
        self._models: dict[str, Condition] = {}
        self.intake = IntakeConditions(now)
        self._receive_window = Condition("receive_window", broker, f"broker {broker} waits for our answers", now, log)
        self._limited, self._limited_share, self._looked_s = 0, 0.0, now()
        what = "topics of ours are written by somebody else, or by a late last will"
        self._forged = Condition("topics", broker, what, now, log)
        self._forgeries, self._forged_s = 0, -math.inf

    @property
    def all(self) -> list[Condition]:
        """Every condition, failing or not."""
        own = [self._broker, self._forged, self._receive_window, self.silences, self.reload, self._poison, self._damage]
        return [*own, *list(self._models.values()), *self.intake.all, *self.rooms()]

    def failing(self) -> list[Failing]:
        """Return what fails now."""
        return [found for one in self.all if (found := one.failing) is not None]

    def damaged(self, notes: Sequence[str]) -> None:
        """Say what the store could not read, as it was opened."""
        self._damage.observe("; ".join(notes), len(notes))

    def observe(self, pipelines: Mapping[str, Pipeline], source: SourceStatus, store: Store) -> None:
        """Look at what nobody calls about: the broker, the models, poison, and what the groups get."""
        heard = source.connected and source.subscribed
        self.intake.observe(pipelines, listening=heard)
        self._broker.observe("" if heard else source.fatal or source.error)
        self._observe_receive_window(source.window_limited)
        self._observe_forgeries(source.forged)
        poison = store.poison.fresh(self._now())
        self._poison.observe("each is kept, see /api/v1/poison; correct who sends it" if poison else "", poison)
        for name in self._models.keys() - pipelines.keys():
            del self._models[name]
        for name, pipeline in pipelines.items():
            if name not in self._models:
                what = f"the model of group {name} judges nothing"
                self._models[name] = Condition("model", name, what, self._now, log)
            self._models[name].observe(pipeline.broken)

    def _observe_forgeries(self, forged: int) -> None:
        """It stands for some minutes after each: who forges once does it again."""
        now_s, grown, self._forgeries = self._now(), forged > self._forgeries, forged
        self._forged_s = now_s if grown else self._forged_s
        standing = abs(now_s - self._forged_s) < _FORGED_S
        advice = "each is written again; deny it by the broker's access list (deploy/docs/broker-access.md)"
        self._forged.observe(advice if standing else "", forged)

    def _observe_receive_window(self, limited: int) -> None:
        """Judge by how often the window was full since the last look: now and then is a burst, mostly is too small."""
        now_s = self._now()
        weight = 1.0 - math.exp(-abs(now_s - self._looked_s) / _LIMITED_S)
        self._limited_share += weight * ((limited > self._limited) - self._limited_share)
        self._limited, self._looked_s = limited, now_s
        if self._limited_share > _LIMITED_BEGINS:
            self._receive_window.failed("raise mqtt.receive_maximum and the limits of the broker")
        elif self._limited_share < _LIMITED_ENDS:
            self._receive_window.works()
