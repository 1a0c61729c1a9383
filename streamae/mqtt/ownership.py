"""The topics of a session that nobody else may write: whose session it is, and whether the daemon is online.

Two processes with one client id throw each other out for ever. The one that finds another's signature, or hears from
the broker of another, ends instead; the first time it goes on, for that may be a killed process of our own, which a
busy broker read late. Two such findings within minutes are a rival; rivals meet within seconds.

Anybody whom the broker lets may publish on these topics, so a message alone is not believed. A signature counts only as
the broker's own answer to our subscription (retained): a rival cannot write a new one while we are connected, since its
connection ends ours first. What is written while we are connected is a forgery, or a last will that comes late. It is
written over, at most every few seconds for each topic, and counted (`forged`).
"""

import logging
from collections.abc import Callable

import paho.mqtt.client as paho

from streamae.mqtt.state import Ledger

__all__ = ["OwnTopics"]

_log = logging.getLogger("streamae.mqtt")
_RIVAL_WITHIN_S = 600.0
_REPAIR_S = 5.0  # between two repairs of one topic
_ONLINE, _OFFLINE = b"online", b"offline"


class OwnTopics:
    """The topics of one session, over all its connections; `broker` is its address. Without `status` there are none."""

    def __init__(
        self,
        status: str | None,
        owner: str,
        signature: bytes,
        ledger: Ledger,
        broker: str,
        monotonic: Callable[[], float],
    ) -> None:
        self._status, self._owner = status or "", owner
        self._signature, self._ledger, self._broker, self._monotonic = signature, ledger, broker, monotonic
        self.names = frozenset({self._status.encode(), owner.encode()} if status else ())
        self._wrong: dict[str, float] = {}  # topics that somebody else wrote, and when each may be repaired
        self._repaired_s: dict[str, float] = {}
        self._taken_over_s = float("-inf")

    def announce(self, client: paho.Client, *, fresh: bool) -> None:
        """Say that we are online; sign as the session's owner where it is `fresh`, and so cannot be another's."""
        if not self.names:
            return
        self._wrong.clear()
        client.publish(self._status, _ONLINE, qos=1, retain=True)
        if fresh:
            self._sign(client)
        client.subscribe([(self._owner, 0), (self._status, 0)])

    def _sign(self, client: paho.Client) -> None:
        client.publish(self._owner, self._signature, qos=1, retain=True)
        self._ledger.note(sign_again=False)

    def say_offline(self, client: paho.Client) -> None:
        """Say that we go."""
        if self.names:
            client.publish(self._status, _OFFLINE, qos=0, retain=True)

    def heard(self, client: paho.Client, topic: bytes, payload: bytes, *, retained: bool) -> None:
        """Take what the broker has of one of our topics (`retained`), or what was written on it just now."""
        name = topic.decode()
        if payload == (_ONLINE if name == self._status else self._signature):
            return
        if name == self._status or not retained:
            self._wrong.setdefault(name, self._repaired_s.get(name, float("-inf")) + _REPAIR_S)
        elif self._ledger.state.connects > 1:  # before, it may be that of our own last run
            self.taken_over()
            if not self._ledger.state.fatal:
                self._sign(client)

    def repair(self, client: paho.Client) -> None:
        """Write what others wrote over, where it is time for it."""
        now_s = self._monotonic()
        for name in [name for name, due_s in self._wrong.items() if due_s <= now_s]:
            del self._wrong[name]
            self._repaired_s[name] = now_s
            client.publish(name, _ONLINE if name == self._status else self._signature, qos=1, retain=True)
            self._ledger.note(forged=self._ledger.state.forged + 1)

    def taken_over(self) -> None:
        """Give up, unless it is the first time for long."""
        advice = "another process uses this client id; stop it, or give each its own mqtt.client_id"
        said = f"broker {self._broker}: session taken over"
        before_s, self._taken_over_s = self._taken_over_s, self._monotonic()
        rival = self._taken_over_s - before_s <= _RIVAL_WITHIN_S
        if not rival:
            _log.warning("%s, perhaps by our own last run; going on once", said)
        self._ledger.note(sign_again=True, fatal=f"{said}: {advice}" if rival else "")
