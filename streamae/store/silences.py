"""Silences: what people do not want to be notified of for a while, for once or by the plan of maintenance.

A silence names alerts by patterns of group, stream and rule (`*`, `?`, `[…]`) and by labels that must be equal. While
it is active, the transitions of the alerts that it names are stored and shown as ever, and their rows in the outbox are
withheld from every sink. When it ends, what still fires is notified; what came and went meanwhile never is, except to
a sink that knows that it fires: that one learns of its end. The rows of an alert are withheld all or none, so no
sink hears of an end before the beginning.

The plan of maintenance is in the configuration (`streamae.config.maintenance`); each of its windows becomes a silence
like any other, in time, and stays in the table when it is over. `plan` says which one it stands for, so that a restart
makes none twice, and one that somebody ended early stays ended. Samples of their time teach nothing: `maintenance` is
what the pipeline learns of it.

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

from streamae.core.report import Transition
from streamae.core.types import Maintenance
from streamae.errors import UnavailableError
from streamae.store.alerts import decoded
from streamae.store.database import Database

__all__ = ["Silence", "SilenceLimits", "Silences"]

_DAY_S = 86400.0
_LATE_S = 7 * _DAY_S
_Matches = Callable[[str, str, str | None, Mapping[str, str]], bool]


@dataclass(frozen=True, slots=True)
class SilenceLimits:
    """How many silences may be active or still to come, and how many that are over are kept to be looked at."""

    current_max: int = 256
    past_max: int = 1000


@dataclass(frozen=True, slots=True)
class Silence:
    """Whom it silences, from when until when (wall clock, s), and who wanted it and why; `id` 0: not yet stored.

    `maintenance` names the window of the plan that it is; `plan` is that very occurrence, "" where no plan wants it.
    """

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
    maintenance: str = ""
    plan: str = ""

    def state(self, now_s: float) -> str:
        """`pending`, `active` or `expired`."""
        if now_s >= self.ends_s:
            return "expired"
        return "active" if now_s >= self.starts_s else "pending"


_Known = tuple[tuple[Silence, _Matches], ...]


class Silences:
    """All silences, in memory beside the table; callable from any thread."""

    def __init__(self, database: Database, limits: SilenceLimits) -> None:
        self._database, self._limits = database, limits
        self._changing = threading.RLock()
        self._known: _Known = ()
        self._planned: tuple[_Known, float, tuple[Maintenance, ...]] = (), 0.0, ()  # for which silences and day, what
        self._applied: frozenset[int] | None = None  # the silences that the outbox is in line with; None: not known

    def load(self, connection: sqlite3.Connection) -> list[str]:
        """Read the table; damaged rows are dropped, and said."""
        found, notes = [], []
        for number, body, crc in connection.execute("SELECT id, body, crc FROM silence ORDER BY id").fetchall():
            try:
                found.append(_decode(body, crc))
            except ValueError as error:
                connection.execute("DELETE FROM silence WHERE id = ?", (number,))
                notes.append(f"silence {number} is damaged ({error}) and was dropped; its alerts are notified")
        self._remember(found)
        return notes

    def create(self, wanted: Silence, now_s: float) -> Silence:
        """Store one, and withhold what it names; UnavailableError when there are too many."""
        with self._changing:
            if sum(s.ends_s > now_s and not s.plan for s in self.all()) >= self._limits.current_max:
                raise UnavailableError(
                    f"{self._limits.current_max} silences are active or to come; end one, or use a wider pattern"
                )
            (made,) = self._put([wanted], now_s)
        return made

    def follow(self, plan: Sequence[Silence], now_s: float) -> bool:
        """Have the silences of the plan as it is now, and no others of an earlier one; return whether any changed."""
        with self._changing:
            wanted, known = {one.plan: one for one in plan}, {s.plan for s in self.all()}
            stale = [s for s in self.all() if s.plan and s.plan not in wanted and s.ends_s > now_s]
            fresh = [one for name, one in wanted.items() if name not in known]
            if fresh or stale:
                self._put([*(replace(_ended(s, now_s), plan="") for s in stale), *fresh], now_s)
        return bool(fresh or stale)

    def _put(self, changed: Sequence[Silence], now_s: float) -> list[Silence]:
        """Store silences, new ones and others, and withhold what they name; of those that are over the oldest go."""
        known = {s.id: s for s in self.all()}
        number, put = max(known, default=0), []
        for one in changed:
            number += not one.id
            put.append(one if one.id else replace(one, id=number, created_s=now_s))
        past = [s.id for s in known.values() if s.ends_s <= now_s]
        gone = past[: max(0, len(past) - self._limits.past_max)]
        known = {s.id: s for s in known.values() if s.id not in gone} | {s.id: s for s in put}
        with self._database.write() as connection:
            for one in put:
                _write(connection, one)
            connection.executemany("DELETE FROM silence WHERE id = ?", [(one,) for one in gone])
            self._align(connection, list(known.values()), now_s)
        self._changed(list(known.values()))
        return put

    def expire(self, number: int, now_s: float) -> bool:
        """End one now; False where there is none that has not ended."""
        with self._changing:
            found = next((s for s in self.all() if s.id == number and s.ends_s > now_s), None)
            if found is not None:
                self._put([_ended(found, now_s)], now_s)
        return found is not None

    def all(self) -> list[Silence]:
        """Every silence that is kept, oldest first."""
        return [silence for silence, _ in self._known]

    def counts(self, now_s: float, *, planned: bool = False) -> dict[str, int]:
        """How many are pending, active and expired: those of people, or those of the plan."""
        states = [silence.state(now_s) for silence, _ in self._known if bool(silence.maintenance) is planned]
        return {state: states.count(state) for state in ("pending", "active", "expired")}

    def maintenance(self, now_s: float) -> tuple[Maintenance, ...]:
        """What the plan says of the last week and of what is next: samples may come late.

        It is the same all day, unless the plan or somebody changes it.
        """
        known, since_s = self._known, (now_s // _DAY_S) * _DAY_S - _LATE_S
        if self._planned[:2] != (known, since_s):
            mine = [s for s, _ in known if s.maintenance and s.ends_s > max(since_s, s.starts_s)]
            planned = tuple(Maintenance(s.group, s.stream, s.starts_s, s.ends_s) for s in mine)
            self._planned = known, since_s, planned
        return self._planned[2]

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


def _ended(silence: Silence, now_s: float) -> Silence:
    return replace(silence, ends_s=now_s, starts_s=min(silence.starts_s, now_s))


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
