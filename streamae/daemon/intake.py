"""What each group has got of its topics since the start, and in words what it has not.

A group whose messages are all refused, or that gets none, looks healthy: nothing is judged, and nothing is wrong with
what is. So after the first hundred messages it is said which values are not in them and what is there instead, and
after some minutes without any, that none came; it stands as a condition until the first value comes.
"""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from streamae.condition import Condition
from streamae.core.formats.flat import flattened
from streamae.core.formats.parsed import parsed_or_text
from streamae.core.pipeline import Group, Pipeline
from streamae.core.report import GroupReport
from streamae.core.topics import CHANNEL
from streamae.core.types import Drop, Drops
from streamae.daemon.json_parser import json_loads

__all__ = ["GroupIntake", "IntakeConditions"]

log = logging.getLogger(__name__)
_MESSAGES, _FEW, _FEW_S = 100, 10, 60.0  # it is said after so many messages; of fewer, after a while
_SILENT_S, _SILENT_PERIODS = 300.0, 3.0  # without any message
_RESTORED_S = 3600.0  # a group that had streams before the start has been read, and may be slow
_NAMES_MAX, _TEXT_MAX = 8, 60
_ABSENT = (None, Drop.UNKNOWN_CHANNEL, Drop.MISSING_VALUE, Drop.TOPIC)
_json = json_loads()


@dataclass(slots=True, eq=False)
class GroupIntake:
    """The account of one group; positions are those of the group's templates and channels."""

    group: Group
    messages: list[int] = field(default_factory=list)
    read: list[int] = field(default_factory=list)
    unread: list[Drops] = field(default_factory=list)
    values: list[int] = field(default_factory=list)
    examples: dict[tuple[int, bool], tuple[bytes, bytes]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        K, C = len(self.group.templates), len(self.group.profile.channels)
        self.messages, self.read, self.values = [0] * K, [0] * K, [0] * C
        self.unread = [Drops() for _ in range(K)]

    def note(self, news: GroupReport) -> None:
        """Add what one step did."""
        intake = news.intake
        if intake is None or not intake.messages.any():
            return
        self.messages = (np.array(self.messages) + intake.messages).tolist()
        self.read = (np.array(self.read) + intake.read).tolist()
        self.values = (np.array(self.values) + intake.values).tolist()
        for sum_, drops in zip(self.unread, intake.unread, strict=True):
            sum_.update(drops)
        for key, message in intake.examples.items():
            self.examples.setdefault(key, message)

    @property
    def own(self) -> list[int]:
        """The positions of the templates that samples come from."""
        return [k for k, spec in enumerate(self.group.payloads) if not spec.listens]

    @property
    def whole(self) -> bool:
        """Whether each topic template and each channel of the group has had a value."""
        return all(self.read[k] for k in self.own) and all(self.values)

    def lacks(self, least: int = 1) -> str:
        """Return in words what at least so many messages did not give; empty where there is nothing to say."""
        refused = [k for k in self.own if self.messages[k] >= least and not self.read[k]]
        said = [self._refused(k, beside=len(self.own) > 1) for k in refused]
        count = sum(self.read)
        absent = [c for c, n in zip(self.group.profile.channels, self.values, strict=True) if not n]
        if count >= least and absent:
            key = next((one for one in self.examples if one[1]), None)
            said.append(f"none of {count} messages that were read has {_names(absent)}; {self._there(key)}")
        return "; ".join(said)

    def _refused(self, k: int, *, beside: bool) -> str:
        n, reason = self.messages[k], self.reason(k)
        where = f" on {self.group.templates[k].filter}" if beside else ""
        return f"{n} of {n}{where} refused: {self.why(k, reason)}"

    def reason(self, k: int) -> Drop | None:
        """Return why most messages of a template were not read; None where they were passed over."""
        reasons = self.unread[k].most_common(1)
        return reasons[0][0] if reasons else None

    def why(self, k: int, reason: Drop | None) -> str:
        """Return in words why messages of a template are refused, with what an example has instead."""
        if reason not in _ABSENT:
            _, payload = self.examples.get((k, False), (b"", b""))
            return f"{reason.value.replace('_', ' ')}; a payload is {_text(payload)}"
        spec = self.group.payloads[k]
        sources = self.group.profile.channels if spec.values is None else [*spec.values.values()]
        if CHANNEL in self.group.templates[k].labels and spec.kind == "json" and reason is Drop.MISSING_VALUE:
            sources = [spec.value]
        asked = f" where {', '.join(f'{k} is {v}' for k, v in spec.where.items())}" if spec.where else ""
        return f"no {_names(sources)}{asked}; {self._there((k, False))}"

    def _there(self, key: tuple[int, bool] | None) -> str:
        """Return what an example has."""
        topic, payload = (b"", b"") if key is None else self.examples.get(key, (b"", b""))
        labels = None if key is None else self.group.templates[key[0]].match(topic.decode(errors="replace"))
        if labels and CHANNEL in labels and labels[CHANNEL] not in self.group.profile.channels:
            return f"a topic names {labels[CHANNEL]}"
        found = parsed_or_text(payload, _json)
        names = [name for name in flattened(found) if name] if isinstance(found, dict | list) else []
        return f"the payload has {', '.join(_short(names))}" if names else f"a payload is {_text(payload)}"


class IntakeConditions:
    """A condition for each group that lacks values; for the loop's thread, `all` for any."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._watched: dict[str, _GroupWatch] = {}

    @property
    def all(self) -> list[Condition]:
        """The condition of each group."""
        return [one.condition for one in list(self._watched.values())]

    def note(self, pipelines: Mapping[str, Pipeline], reports: Mapping[str, GroupReport]) -> None:
        """Add what one step did."""
        self._follow(pipelines)
        for name, news in reports.items():
            if name in self._watched:
                self._watched[name].note(news, self._now())

    def observe(self, pipelines: Mapping[str, Pipeline], *, listening: bool) -> None:
        """Look at the account of each group, about once a second; `listening`: all is subscribed."""
        self._follow(pipelines)
        for one in self._watched.values():
            one.observe(self._now(), listening=listening)

    def _follow(self, pipelines: Mapping[str, Pipeline]) -> None:
        for name in self._watched.keys() - pipelines.keys():
            del self._watched[name]
        for name, pipeline in pipelines.items():
            if name not in self._watched or self._watched[name].pipeline is not pipeline:
                before = self._watched.get(name)
                condition = Condition("intake", name, f"group {name} lacks values", self._now, log)
                self._watched[name] = _GroupWatch(pipeline, before.condition if before else condition, self._now())


class _GroupWatch:
    """A group's account and its condition."""

    def __init__(self, pipeline: Pipeline, condition: Condition, now_s: float) -> None:
        self.pipeline, self.condition = pipeline, condition
        self._restored = len(pipeline.streams) > 0
        self._intake = GroupIntake(pipeline.group)
        self._heard_s = self._begun_s = now_s
        self._said: tuple[int, str] = 0, ""  # at how many messages what was said

    def note(self, news: GroupReport, now_s: float) -> None:
        if not any(self._intake.messages):
            self._heard_s = now_s
        self._intake.note(news)

    def observe(self, now_s: float, *, listening: bool) -> None:
        if not listening:
            self._begun_s = now_s
        if self._restored and now_s - self._begun_s < _RESTORED_S:
            return
        count = sum(self._intake.messages[k] for k in self._intake.own)
        if not count:
            self._observe_silence(now_s)
            return
        least = _FEW if now_s - self._heard_s >= _FEW_S else _MESSAGES
        lacks = self._intake.lacks(least)
        if lacks and self._said[1] and count < 10 * self._said[0]:
            lacks = self._said[1] if self._still(lacks) else lacks
        if lacks != self._said[1]:
            self._said = count, lacks
        self.condition.observe(lacks)

    def _still(self, lacks: str) -> bool:
        """Whether what is lacking is what was said already, but for the counts."""
        return _without_counts(lacks) == _without_counts(self._said[1])

    def _observe_silence(self, now_s: float) -> None:
        silent_s = max(_SILENT_S, _SILENT_PERIODS * self.pipeline.profile.period_s)
        if now_s - self._begun_s < silent_s:
            return
        filters = dict.fromkeys(self.pipeline.group.templates[k].filter for k in self._intake.own)
        self.condition.observe(f"no message at all on {', '.join(filters)} since the start")


def _without_counts(text: str) -> str:
    return "".join(c for c in text if not c.isdigit())


def _names(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in _short([*names]))


def _short(names: Sequence[str]) -> list[str]:
    more = len(names) - _NAMES_MAX
    return [*names[:_NAMES_MAX], f"{more} more"] if more > 0 else [*names]


def _text(payload: bytes) -> str:
    text = payload[:_TEXT_MAX].decode(errors="backslashreplace")
    return repr(text + ("…" if len(payload) > _TEXT_MAX else "")) if payload else "empty"
