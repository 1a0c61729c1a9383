"""Whose session it is: a retained signature says so, and a broker's word that the session was taken over.

Two processes with one client id throw each other out for ever. The one that finds another's signature, or hears from
the broker of another, ends instead; the first time it goes on, for that may be a killed process of our own, which a
busy broker read late.
"""

import logging

import paho.mqtt.client as paho

from streamae.mqtt.state import Ledger

__all__ = ["Ownership"]

_log = logging.getLogger("streamae.mqtt")


class Ownership:
    """A process's claim to the session, for the connections that it makes; `broker` is its address."""

    def __init__(self, topic: str, signature: bytes, ledger: Ledger, broker: str) -> None:
        self.topic = topic
        self._signature, self._ledger, self._broker = signature, ledger, broker

    def sign(self, client: paho.Client) -> None:
        """Leave our signature with the broker."""
        client.publish(self.topic, self._signature, qos=1, retain=True)
        self._ledger.note(sign_again=False)

    def check(self, client: paho.Client, signature: bytes) -> None:
        """Take the signature that the broker has: another's means that the session was taken over."""
        # At our first connect the retained signature may be that of our own last run.
        if signature != self._signature and self._ledger.state.connects > 1:
            self.taken_over()
            if not self._ledger.state.fatal:
                self.sign(client)

    def taken_over(self) -> None:
        """Give up, unless it is the first time."""
        advice = "another process uses this client id; stop it, or give each its own mqtt.client_id"
        said = f"broker {self._broker}: session taken over"
        if not self._ledger.state.taken_over:
            _log.warning("%s, perhaps by our own last run; going on once", said)
        fatal = f"{said}: {advice}" if self._ledger.state.taken_over else ""
        self._ledger.note(taken_over=True, sign_again=True, fatal=fatal)
