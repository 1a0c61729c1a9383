"""One notice for many: what begins in many streams at once is held back for a moment, and travels together.

A plant that stops for the night, or a feed that ends, lets the alerts of a whole group begin within seconds of each
other. Those of one kind (the same group and rule, all firing or all resolved) wait until none has joined for `wait_s`,
six times as long at most. After a notice of many, further ones of its kind wait for five minutes and are one notice,
too; unless one of them is critical and none was before. Single alerts pay `wait_s`, no more.

Only the notices are gathered: the alerts, their ids and their transitions are what they were.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from streamae.core.report import Transition

__all__ = ["Gathering"]

_LONGEST = 6.0  # of `wait_s`, that the first may wait for others
_MANY = 5  # alerts in one notice that are a storm
_AFTER_MANY_S = 300.0
_STORMS_MAX = 1000

_NoticeKind = tuple[str, str, bool]  # group, rule, whether resolved


@dataclass(frozen=True, slots=True)
class _Storm:
    """A notice of many."""

    at_s: float
    critical: bool


class Gathering:
    """Decides what of one sink's notices is sent now; without `wait_s`, everything always is."""

    def __init__(self, wait_s: float) -> None:
        self.wait_s = wait_s
        self._since_s: dict[str, float] = {}  # when each that waits was seen first
        self._storms: dict[_NoticeKind, _Storm] = {}

    def ready(
        self, due: Sequence[tuple[Transition, int]], now_s: float, most: int
    ) -> tuple[list[tuple[Transition, int]], float]:
        """Return what of `due` (with the times each was tried) is to be sent, and in how many seconds more may be.

        Where `most` wait, which is all that one notice can hold, nothing is held back.
        """
        if not self.wait_s or not due:
            return list(due), self.wait_s
        self._since_s = {one.notice_key: self._since_s.get(one.notice_key, now_s) for one, _ in due}
        kinds: dict[_NoticeKind, list[tuple[Transition, int]]] = {}
        for one in due:
            kinds.setdefault(_kind(one[0]), []).append(one)
        waits_s = {kind: self._wait_s(kind, members, now_s) for kind, members in kinds.items()}
        if len(due) >= most:
            waits_s = dict.fromkeys(waits_s, 0.0)
        for kind, members in kinds.items():
            if waits_s[kind] <= 0 and len(members) >= _MANY:
                self._remember(kind, _Storm(now_s, any(one.severity == "critical" for one, _ in members)))
        later_s = [wait_s for wait_s in waits_s.values() if wait_s > 0]
        return [one for one in due if waits_s[_kind(one[0])] <= 0], min(later_s, default=self.wait_s)

    def _wait_s(self, kind: _NoticeKind, members: Sequence[tuple[Transition, int]], now_s: float) -> float:
        """For how long those of a kind wait still; 0: not at all."""
        if any(attempts or one.repeat for one, attempts in members):
            return 0.0  # they have been gathered before
        since_s = [self._since_s[one.notice_key] for one, _ in members]
        quiet_s, first_s = abs(now_s - max(since_s)), abs(now_s - min(since_s))
        waits_s = min(self.wait_s - quiet_s, _LONGEST * self.wait_s - first_s)
        storm = self._storms.get(kind)
        if storm is not None and (storm.critical or all(one.severity != "critical" for one, _ in members)):
            waits_s = max(waits_s, _AFTER_MANY_S - abs(now_s - storm.at_s))
        return max(0.0, waits_s)

    def _remember(self, kind: _NoticeKind, storm: _Storm) -> None:
        self._storms.pop(kind, None)
        self._storms[kind] = storm
        while len(self._storms) > _STORMS_MAX:
            del self._storms[next(iter(self._storms))]


def _kind(transition: Transition) -> _NoticeKind:
    return transition.group, transition.rule, transition.state == "resolved"
