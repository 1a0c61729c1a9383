"""What a step returns: transitions of alerts, and the counts, newest rows and verdicts for metrics and page."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import chain
from typing import TypeVar

import numpy as np

from streamae.core.intake import Intake
from streamae.core.types import Drops, ScaledRows, Verdicts

__all__ = ["GroupReport", "Report", "Transition"]


@dataclass(frozen=True, slots=True)
class Transition:
    """A step in the life of one alert; `key` is the same after a replay and on another machine.

    `id` hashes instance, group, stream, rule and the event time of the onset; `state` is "firing" or "resolved";
    a firing alert that grows critical is a further transition with the same id and the next sequence number.
    `peak_score` is the highest score since the onset. `repeat` counts the reminders to a sink that the alert still
    fires; 0 is the first notification. `threshold` is that of the score; where it is an average of the scores that is
    beyond a limit of its own, `limit` says so in words.
    """

    id: str
    sequence: int
    instance: str
    group: str
    stream: str
    labels: Mapping[str, str]
    rule: str
    state: str
    severity: str
    onset_s: float
    time_s: float
    window_start_s: float
    score: float
    threshold: float
    shares: Mapping[str, float]
    model_digest: str
    peak_score: float | None = None
    repeat: int = 0
    limit: str = ""

    @property
    def key(self) -> str:
        """The idempotency key of this transition."""
        return f"{self.id}:{self.sequence}"

    @property
    def notice_key(self) -> str:
        """The idempotency key of a notification: the key of the transition; a reminder adds its number."""
        return f"{self.key}:{self.repeat}" if self.repeat else self.key

    @property
    def worst_channel(self) -> str:
        """The channel with the largest share of the error; of a verdict on a sensor, its channel."""
        return max(self.shares, key=self.shares.__getitem__) if self.shares else ""


@dataclass(frozen=True, slots=True, eq=False)
class GroupReport:
    """What one step did in one group: its rows, as they were put into windows, and the verdicts on the windows.

    `names[S]` are its streams; `broken` says why the model of the group can judge nothing at all; empty while it can.
    `intake` is what became of its messages; None where rows came otherwise.
    Before these rows, the streams of the numbers `removed` were forgotten, one after the other, and each number went to
    the last stream; those of `renamed` have another name. `forgotten` of the removed had to make room for new streams.
    """

    names: Sequence[str]
    rows: ScaledRows
    verdicts: Verdicts
    broken: str = ""
    removed: Sequence[tuple[int, int]] = ()
    renamed: Sequence[int] = ()
    forgotten: int = 0
    intake: Intake | None = None

    @classmethod
    def joined(cls, parts: "Sequence[GroupReport]") -> "GroupReport":
        """Return the reports of a group's steps, one after the other, as one; numbers are those after the last."""
        if len(parts) == 1:
            return parts[0]
        removed = [pair for part in parts for pair in part.removed]
        rows, verdicts = [], []  # type: tuple[list[ScaledRows], list[Verdicts]]
        for i, part in enumerate(parts):
            later = [pair for one in parts[i + 1 :] for pair in one.removed]
            rows.append(_renumbered(part.rows, later))
            verdicts.append(_renumbered(part.verdicts, later))
        intakes = [part.intake for part in parts if part.intake is not None]
        return cls(
            parts[-1].names, _concatenated(rows), _concatenated(verdicts), parts[-1].broken, removed,
            [s for part in parts for s in part.renamed], sum(part.forgotten for part in parts),
            Intake.joined(intakes) if intakes else None,
        )  # fmt: skip


_B = TypeVar("_B", ScaledRows, Verdicts)


def _renumbered(entries: _B, removed: Sequence[tuple[int, int]]) -> _B:
    """Return rows or verdicts under the numbers that streams have after removals, without those that are gone."""
    for gone, last in removed:
        kept = entries.stream != gone
        columns = {f.name: getattr(entries, f.name)[kept] for f in fields(entries)}
        columns["stream"] = np.where(columns["stream"] == last, gone, columns["stream"]).astype(np.int32)
        entries = replace(entries, **columns)
    return entries


def _concatenated(parts: Sequence[_B]) -> _B:
    names = [f.name for f in fields(parts[0])]
    return replace(parts[0], **{name: np.concatenate([getattr(part, name) for part in parts]) for name in names})


@dataclass(frozen=True, slots=True, eq=False)
class Report:
    """What one step did: counts for the metrics, what is new in each group for the page, transitions for the store.

    `notices` are sentences for the log, each about something that has just begun or ended. `skipped` windows were due
    and left out by thinning; `interrupted` streams lost messages and restarted their windows. `missing` messages are
    lost: their sequence numbers did not come. `ticked`: the step took no messages, so it knows that there were none,
    and the journal must know it too.
    """

    messages: int
    rows: int
    windows: int
    drops: Drops
    groups: Mapping[str, GroupReport]
    transitions: Sequence[Transition]
    notices: Sequence[str] = ()
    skipped: int = 0
    interrupted: int = 0
    ticked: bool = False
    missing: int = 0

    @classmethod
    def of(cls, messages: int, drops: Drops, parts: "Iterable[Report]", *, ticked: bool) -> "Report":
        """Join the reports of the groups into one, for a batch of `messages` messages."""
        parts = list(parts)
        for part in parts:
            drops.update(part.drops)
        return cls(
            messages=messages,
            rows=sum(part.rows for part in parts),
            windows=sum(part.windows for part in parts),
            drops=drops,
            groups={name: group for part in parts for name, group in part.groups.items()},
            transitions=list(chain.from_iterable(part.transitions for part in parts)),
            notices=list(dict.fromkeys(chain.from_iterable(part.notices for part in parts))),
            skipped=sum(part.skipped for part in parts),
            interrupted=sum(part.interrupted for part in parts),
            ticked=ticked,
            missing=sum(part.missing for part in parts),
        )
