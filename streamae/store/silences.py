"""Silences: what people do not want to be told of for a while.

A silence names alerts by patterns of group, stream and rule (`*`, `?`, `[…]`) and by labels that must be equal. While
it is active, the transitions of the alerts that it names are stored and shown as ever, and their rows in the outbox are
withheld from every sink. When it ends, what still fires is told; what came and went meanwhile never is, except to a
sink that had been told that it fires: that one learns of its end. The rows of an alert are withheld all or none, so no
sink hears of an end before the beginning.

`alert.silence` says which silence an alert is under. It is set in the transaction that stores a transition, and brought
into line by `apply`: at a start, when a silence is made or ended, and when time has begun or ended one. Nothing else is
remembered, so that a crash or a step of the clock leaves nothing to be put right.
"""

import json
import re
import sqlite3
import threading
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from fnmatch import translate

from streamae.core.types import Transition
from streamae.errors import UnavailableError
from streamae.store.alerts import decoded
from streamae.store.database import Database

__all__ = ["Silence", "SilenceLimits", "Silences"]

_Matches = Callable[[str, str, str | None, Mapping[str, str]], bool]


@dataclass(frozen=True, slots=True)
class SilenceLimits:
    """How many silences may be active or still to come, and how many that are over are kept to be looked at."""

    current_max: int = 256
    past_max: int = 1000


@dataclass(frozen=True, slots=True)
class Silence:
    """Whom it silences, from when until when (wall clock, s), and who wanted it and why; `id` 0: not yet stored."""

    starts_s: float
    ends_s: float
    group: str = "*"
    stream: str = "*"
    rule: str = "*"
    labels: Mapping[str, str] = field(default_factory=dict)
    created_by: str = ""
    comment: str = ""
    created_s: float = 0.0
    id: int = 0

    def state(self, now_s: float) -> str:
        """`pending`, `active` or `expired`."""
        if now_s >= self.ends_s:
            return "expired"
        return "active" if now_s >= self.starts_s else "pending"


class Silences:
    """All silences, in memory beside the table; callable from any thread."""

    def __init__(self, database: Database, limits: SilenceLimits) -> None:
        self._database, self._limits = database, limits
        self._changing = threading.RLock()
        self._known: tuple[tuple[Silence, _Matches], ...] = ()
        self._applied: frozenset[int] | None = None  # the silences that the outbox is in line with; None: not known

    def load(self, connection: sqlite3.Connection) -> list[str]:
        """Read the table; damaged rows are dropped, and said."""
        found, notes = [], []
        for number, body, crc in connection.execute("SELECT id, body, crc FROM silence ORDER BY id").fetchall():
            try:
                found.append(_decode(body, crc))
            except ValueError as error:
                connection.execute("DELETE FROM silence WHERE id = ?", (number,))
                notes.append(f"silence {number} is damaged ({error}) and was dropped; what it silenced is told")
        self._remember(found)
        return notes

    def create(self, wanted: Silence, now_s: float) -> Silence:
        """Store one, and withhold what it names; UnavailableError when there are too many."""
        with self._changing:
            kept = self.all()
            if sum(s.ends_s > now_s for s in kept) >= self._limits.current_max:
                raise UnavailableError(
                    f"{self._limits.current_max} silences are active or to come; end one, or use a wider pattern"
                )
            past = [s.id for s in kept if s.ends_s <= now_s]
            gone = past[: max(0, len(past) - self._limits.past_max)]
            made = replace(wanted, id=max((s.id for s in kept), default=0) + 1, created_s=now_s)
            known = [*(s for s in kept if s.id not in gone), made]
            with self._database.write() as connection:
                _write(connection, made)
                connection.executemany("DELETE FROM silence WHERE id = ?", [(one,) for one in gone])
                self._align(connection, known, now_s)
            self._changed(known)
        return made

    def expire(self, number: int, now_s: float) -> bool:
        """End one now; False where there is none that has not ended."""
        with self._changing:
            kept = self.all()
            found = next((s for s in kept if s.id == number and s.ends_s > now_s), None)
            if found is None:
                return False
            ended = replace(found, ends_s=now_s, starts_s=min(found.starts_s, now_s))
            known = [ended if s.id == number else s for s in kept]
            with self._database.write() as connection:
                _write(connection, ended)
                self._align(connection, known, now_s)
            self._changed(known)
        return True

    def all(self) -> list[Silence]:
        """Every silence that is kept, oldest first."""
        return [silence for silence, _ in self._known]

    def counts(self, now_s: float) -> dict[str, int]:
        """How many are pending, active and expired."""
        states = [silence.state(now_s) for silence, _ in self._known]
        return {state: states.count(state) for state in ("pending", "active", "expired")}

    def matching(
        self, group: str, stream: str, rule: str | None, labels: Mapping[str, str], now_s: float
    ) -> Silence | None:
        """The active silence of such an alert that lasts longest; with rule None, one of any rule of the stream."""
        found = [s for s, matches in self._known if s.state(now_s) == "active" and matches(group, stream, rule, labels)]
        return max(found, key=_end, default=None)

    def mark(self, connection: sqlite3.Connection, transitions: Sequence[Transition], now_s: float) -> None:
        """Inside the transaction that stores transitions: put their alerts under the silence that names them."""
        if any(s.state(now_s) == "active" for s, _ in self._known):
            named = [(t.id, self.matching(t.group, t.stream, t.rule, t.labels, now_s)) for t in transitions]
            connection.executemany(
                "UPDATE alert SET silence = ? WHERE id = ?", [(s.id, alert) for alert, s in named if s is not None]
            )

    def apply(self, now_s: float) -> bool:
        """Bring the outbox into line where people or time have begun or ended a silence; return whether they have."""
        with self._changing:
            known = self.all()
            active = frozenset(s.id for s in known if s.state(now_s) == "active")
            if self._applied == active:
                return False
            with self._database.write() as connection:
                self._align(connection, known, now_s)
            self._applied = active
        return True

    def _align(self, connection: sqlite3.Connection, known: Sequence[Silence], now_s: float) -> None:
        """Withhold and release the rows of every alert that is open, or of which something waits or is withheld."""
        rows = connection.execute(
            """SELECT a.id, a.silence, t.body, t.crc FROM alert a JOIN transition t ON t.seq = a.last
               WHERE a.state <> 'resolved' OR a.id IN (SELECT alert FROM outbox WHERE dead IN (0, 2))"""
        ).fetchall()
        active = [(s, _matcher(s)) for s in known if s.state(now_s) == "active"]
        held, released = [], []
        for alert, before, body, crc in rows:
            t = decoded(body, crc)
            found = [] if t is None else [s for s, m in active if m(t.group, t.stream, t.rule, t.labels)]
            if found:
                held.append((max(found, key=_end).id, alert))
            elif before is not None or self._applied is None:
                released.append((alert,))
        connection.executemany("UPDATE alert SET silence = ? WHERE id = ?", held)
        connection.executemany("UPDATE alert SET silence = NULL WHERE id = ?", released)
        for (sink,) in connection.execute("SELECT DISTINCT sink FROM outbox").fetchall():
            ids = [(sink, alert) for _, alert in held]
            connection.executemany("DELETE FROM outbox WHERE sink = ? AND alert = ? AND repeat > 0", ids)
            connection.executemany("UPDATE outbox SET dead = 2 WHERE sink = ? AND alert = ? AND dead = 0", ids)
            connection.executemany(
                "UPDATE outbox SET dead = 0, retry_at_s = 0 WHERE sink = ? AND alert = ? AND dead = 2",
                [(sink, alert) for (alert,) in released],
            )

    def _changed(self, known: Sequence[Silence]) -> None:
        """Follow a transaction that stands; a commit that ran meanwhile did not know, so `apply` looks again."""
        self._remember(known)
        self._applied = None

    def _remember(self, known: Sequence[Silence]) -> None:
        self._known = tuple((silence, _matcher(silence)) for silence in known)


def _end(silence: Silence) -> float:
    return silence.ends_s


def _matcher(silence: Silence) -> _Matches:
    group, stream, rule = (re.compile(translate(p)).match for p in (silence.group, silence.stream, silence.rule))
    wanted = silence.labels.items()

    def matches(of_group: str, of_stream: str, of_rule: str | None, labels: Mapping[str, str]) -> bool:
        return bool(
            stream(of_stream)
            and group(of_group)
            and (of_rule is None or rule(of_rule))
            and all(labels.get(name) == value for name, value in wanted)
        )

    return matches


def _write(connection: sqlite3.Connection, silence: Silence) -> None:
    body = json.dumps(asdict(silence), separators=(",", ":")).encode("ascii")
    connection.execute("INSERT OR REPLACE INTO silence VALUES (?, ?, ?)", (silence.id, zlib.crc32(body), body))


def _decode(body: bytes, crc: int) -> Silence:
    try:
        if zlib.crc32(body) != crc:
            raise ValueError("its crc32 does not match")  # noqa: TRY301 (caught with the decoder's own)
        return Silence(**json.loads(body))
    except (TypeError, ValueError) as error:
        raise ValueError(str(error)) from error
