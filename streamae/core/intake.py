"""What became of a group's messages: which gave readings, which the group does not know, and what is said of the rest.

A message may go to several groups. One that does not know any of its values is no trouble while another one does, so
what such a group would say is kept apart, by message, until all groups have been asked (`unclaimed`). A single group
is asked alone, and counts it all.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from streamae.core.types import I64, Bool, Drop, Drops

__all__ = ["Intake", "Tally", "unclaimed"]

# A message that gives nothing but these may be meant for another group.
_UNKNOWN = frozenset({Drop.TOPIC, Drop.UNKNOWN_CHANNEL, Drop.MISSING_VALUE, Drop.EMPTY, Drop.MALFORMED})
# What is said of a message itself, whoever reads it.
_OF_MESSAGE = frozenset({Drop.SEQUENCE_GAP, Drop.NO_BIRTH})


@dataclass(frozen=True, slots=True, eq=False)
class Intake:
    """The messages of one batch as one group sees them: N messages, K topic templates of the group, C channels.

    `known[N]`: the group knows a value of the message. `refused` and `of_message` are (message, drops): of messages
    that it does not know, and of messages themselves. `messages[K]` matched a template, `read[K]` of them gave a
    reading, `unread[K]` says why the others did not; `values[C]` counts the readings of each channel. `examples` has
    under (template, whether it was read) the first such message.
    """

    known: Bool
    refused: Sequence[tuple[int, Drops]]
    of_message: Sequence[tuple[int, Drops]]
    messages: I64
    read: I64
    unread: Sequence[Drops]
    values: I64
    examples: Mapping[tuple[int, bool], tuple[bytes, bytes]]

    @classmethod
    def joined(cls, parts: "Sequence[Intake]") -> "Intake":
        """Return the intakes of the parts of one batch, which follow one another, as one."""
        first = np.cumsum([0, *(len(part.known) for part in parts)]).tolist()
        placed = list(zip(first, parts, strict=False))
        examples = {key: one for part in reversed(parts) for key, one in part.examples.items()}  # the first of each
        return cls(
            np.concatenate([part.known for part in parts]),
            [(start + at, drops) for start, part in placed for at, drops in part.refused],
            [(start + at, drops) for start, part in placed for at, drops in part.of_message],
            np.sum([part.messages for part in parts], axis=0),
            np.sum([part.read for part in parts], axis=0),
            [sum(drops, Drops()) for drops in zip(*(part.unread for part in parts), strict=True)],
            np.sum([part.values for part in parts], axis=0),
            examples,
        )


class Tally:
    """Keeps the account of one batch of N messages while it is decoded, for K templates."""

    def __init__(self, messages: int, templates: int) -> None:
        self.own = Drops()  # of messages that the group knows
        self._known = np.zeros(messages, np.bool_)
        self._messages, self._read = np.zeros(templates, np.int64), np.zeros(templates, np.int64)
        self._unread = [Drops() for _ in range(templates)]
        self._refused: list[tuple[int, Drops]] = []
        self._of_message: list[tuple[int, Drops]] = []
        self._examples: dict[tuple[int, bool], int] = {}
        self._ones: tuple[list[int], list[int]] = [], []

    def run(self, template: int, at: I64) -> None:
        """Note that these messages, one at least, gave all that was expected."""
        self._known[at] = True
        self._messages[template] += len(at)
        self._read[template] += len(at)
        self._examples.setdefault((template, True), int(at[0]))

    def one(self, template: int, at: int) -> None:
        """Note that this message did."""
        self._ones[0].append(template)
        self._ones[1].append(at)

    def odd(self, at: int, template: int, drops: Drops, *, read: bool, foreign: bool = False) -> None:
        """Note a message that gave no reading, or something to count; template -1: no topic of the group is like it.

        `foreign`: what was dropped is not meant for the group. A message without drops was passed over.
        """
        apart = {reason: n for reason, n in drops.items() if reason in _OF_MESSAGE}
        own = drops - Drops(apart) if apart else drops
        known = read or bool(own and not foreign and not own.keys() <= _UNKNOWN)
        self._known[at] = known
        if apart:
            self._of_message.append((at, Drops(apart)))
        if known:
            self.own.update(own)
        elif own:
            self._refused.append((at, Drops(own)))
        if template >= 0:
            self._messages[template] += 1
            self._read[template] += read
            self._examples.setdefault((template, read), at)
            if not read:
                self._unread[template].update(drops.keys())

    def intake(self, topics: Sequence[bytes], payloads: Sequence[bytes], values: I64) -> Intake:
        """Return the account of these messages; `values[C]` are the readings of each channel."""
        template, at = (np.array(column, np.int64) for column in self._ones)
        for k in np.unique(template).tolist():
            self.run(k, at[template == k])
        examples = {key: (topics[i], payloads[i]) for key, i in self._examples.items()}
        refused = sorted(self._refused, key=lambda one: one[0])
        return Intake(
            self._known, refused, self._of_message, self._messages, self._read, self._unread, values, examples
        )


def unclaimed(messages: int, parts: Iterable[tuple[I64 | None, Intake]]) -> Drops:
    """Return what is to be counted of messages that no group knows, once each, and of messages themselves.

    `parts` are, by group, the places of its messages in a batch of so many (None: it got all of them) and what became
    of them there. What the first group says that refuses a message counts.
    """
    known = np.zeros(messages, np.bool_)
    first: dict[int, Drops] = {}
    itself: dict[int, Drops] = {}
    for at, intake in parts:
        places = None if at is None else at.tolist()
        known[slice(None) if at is None else at] |= intake.known
        for i, drops in intake.refused:
            first.setdefault(i if places is None else places[i], drops)
        for i, drops in intake.of_message:
            place = i if places is None else places[i]
            itself[place] = itself.get(place, Drops()) | drops
    counted = Drops()
    for place, drops in first.items():
        if not known[place]:
            counted.update(drops)
    for drops in itself.values():
        counted.update(drops)
    return counted
